"""The pages of MinIO below /minio/ that the platform asks: its health, and its administration, which root alone may ask.

The requests are signed and what is secret in them is encrypted as MinIO's own client does both, with that client's own functions.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult

from accounts import Accounts
from aiohttp import web
from minio.credentials import Credentials
from minio.crypto import decrypt, encrypt
from minio.signer import sign_v4_s3
from seaweed import Seaweed

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]*)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature="
)


class Sealed(io.BytesIO):
    """Bytes as MinIO's client reads those of an answer."""

    def release_conn(self) -> None:
        """There is no connection."""


def administration(accounts: Accounts, store: Seaweed) -> web.Application:
    """The application that answers for these accounts and tells the store of their changes."""

    async def health(request: web.Request) -> web.Response:
        return web.Response(status=200 if store.is_ready() else 503)

    async def info(request: web.Request) -> web.Response:
        return web.json_response({"mode": "online", "servers": [{"state": "online", "version": store.version}]})

    async def list_users(request: web.Request) -> web.Response:
        return web.Response(body=encrypt(json.dumps(accounts.listed()).encode(), accounts.root[1]))

    async def add_user(request: web.Request) -> web.Response:
        user = json.loads(decrypt(Sealed(await request.read()), accounts.root[1]))
        accounts.users[request.query["accessKey"]] = user["secretKey"]
        return await changed()

    async def remove_user(request: web.Request) -> web.Response:
        accounts.remove_user(request.query["accessKey"])
        return await changed()

    async def add_policy(request: web.Request) -> web.Response:
        accounts.add_policy(request.query["name"], await request.json())
        return await changed()

    async def grant(request: web.Request) -> web.Response:
        accounts.grant(request.query["userOrGroup"], request.query["policyName"])
        return await changed()

    async def changed() -> web.Response:
        kind = accounts.save()
        if kind == "more":
            store.read_more()
        elif kind == "other":
            await store.forget()
        return web.Response()

    @web.middleware
    async def for_root(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/minio/admin/"):
            code = _refusal(request, await request.read(), accounts.root)
            if code is not None:
                return web.json_response({"Code": code, "Message": "refused by the stand-in"}, status=403)
        try:
            return await handler(request)
        except (KeyError, ValueError) as error:
            return web.json_response({"Code": "InvalidRequest", "Message": repr(error)}, status=400)

    application = web.Application(middlewares=[for_root])
    application.add_routes(
        [
            web.get("/minio/health/{kind}", health),
            web.get("/minio/admin/v3/info", info),
            web.get("/minio/admin/v3/list-users", list_users),
            web.put("/minio/admin/v3/add-user", add_user),
            web.delete("/minio/admin/v3/remove-user", remove_user),
            web.put("/minio/admin/v3/add-canned-policy", add_policy),
            web.put("/minio/admin/v3/set-user-or-group-policy", grant),
        ]
    )
    return application


def _refusal(request: web.Request, body: bytes, root: tuple[str, str]) -> str | None:
    """Why the request is not root's; None when it is."""
    given = request.headers.get("Authorization", "")
    found = AUTHORIZATION.match(given)
    if found is None:
        return "AccessDenied"
    access, region, names = found.groups()
    if access != root[0]:
        return "InvalidAccessKeyId"
    digest = hashlib.sha256(body).hexdigest()
    signed = sign_v4_s3(
        method=request.method,
        url=SplitResult("http", request.host, request.rel_url.raw_path, request.rel_url.raw_query_string, ""),
        region=region,
        headers={name: request.headers.get(name, "") for name in names.split(";")},
        credentials=Credentials(*root),
        content_sha256=digest,
        date=datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
    )
    true = hmac.compare_digest(signed["Authorization"], given) and request.headers.get("x-amz-content-sha256") == digest
    return None if true else "SignatureDoesNotMatch"
