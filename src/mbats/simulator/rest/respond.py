"""Answers: bodies with times as the client wants them, as bytes, with the headers that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from mbats.simulator.core.placing import Reply
from mbats.simulator.errors import Refusal, invalid
from mbats.simulator.wire import TimeFormat, encode


def time_format(request: web.Request) -> TimeFormat:
    """What the client asks for by Accept-Datetime-Format. Raises Refusal (400)."""
    text = request.headers.get("Accept-Datetime-Format", TimeFormat.RFC3339.value)
    if text not in list(TimeFormat):
        raise invalid("Accept-Datetime-Format")
    return TimeFormat(text)


def answer(request: web.Request, body: Mapping[str, Any]) -> web.Response:
    """A 200 with this body, whose times are in RFC 3339."""
    return written(encode(time_format(request).rewrite(body)))


def written(body: bytes) -> web.Response:
    """A 200 with a body that is JSON already."""
    return web.Response(body=body, content_type="application/json")


def reply(request: web.Request, said: Reply, *, location: str | None = None) -> web.Response:
    """What the engine said, with the id of the request that its transactions carry; `location` is a path of this host."""
    response = web.Response(
        body=encode(time_format(request).rewrite(said.body)), status=said.status, content_type="application/json"
    )
    request_id = next((part["requestID"] for part in said.body.values() if isinstance(part, dict) and "requestID" in part), None)
    if request_id is not None:
        response.headers["RequestID"] = request_id
    if location is not None:
        response.headers["Location"] = url(request, location)
    return response


def error(refusal: Refusal) -> web.Response:
    """The answer to a request that is refused."""
    return web.Response(body=encode(refusal.body()), status=refusal.status, content_type="application/json")


def url(request: web.Request, path: str) -> str:
    """A path of this API, as the client has to write it."""
    return f"{request.scheme}://{request.host}{path}"
