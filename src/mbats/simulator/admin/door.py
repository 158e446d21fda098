"""Who may administrate: programs and people of this machine, and no web page of anybody else's.

A page on another site can make a visitor's browser send requests to 127.0.0.1. Three things stop it: its Origin is not ours; a
name that it lets point to 127.0.0.1 is not ours as a Host; and a body that is not declared as JSON, the only kind that a browser
sends without asking first, is not read.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ConfigDict, ValidationError

from mbats.errors import MbatsError
from mbats.simulator.errors import Refusal

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asked(BaseModel):
    """The body of a request; a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Body = TypeVar("Body", bound=Asked)


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def refusal(message: str, status: int = 400) -> web.Response:
    """An error, in the form that the exchange itself uses."""
    return answer({"errorMessage": message}, status)


async def read(request: web.Request, model: type[Body]) -> Body:
    """The body of a request, checked. Raises Refusal (400) that names the wrong key, what was found and what was expected."""
    text = await request.read()
    try:
        return model.model_validate(orjson.loads(text) if text.strip() else {})
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is no JSON: {error}. Nothing was done.") from None
    except ValidationError as error:
        raise Refusal(400, f"Nothing was done. {'; '.join(_problem(problem) for problem in error.errors())}") from None


def guard(*, exposed: bool) -> list[Middleware]:
    """What every request to the admin port passes through. `exposed` says that it listens for other machines too."""

    @web.middleware
    async def keep_strangers_out(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_ours(request.host, exposed=exposed):
            return refusal(f"This host is not called {request.host}.", 403)
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            return refusal("Requests of other sites' pages are not answered.", 403)
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and request.method != "GET":
            return refusal("Requests of other sites' pages are not answered.", 403)
        if request.method == "POST" and request.content_type != "application/json":
            return refusal(f"The body is declared as {request.content_type}; it must be application/json.", 415)
        response = await handler(request)
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @web.middleware
    async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refused:
            return answer(refused.body(), refused.status)
        except MbatsError as error:
            return refusal(str(error))
        except web.HTTPException as refused:
            response = refusal(refused.reason, refused.status)
            if "Allow" in refused.headers:
                response.headers["Allow"] = refused.headers["Allow"]
            return response
        except Exception:
            log.exception("%s %s failed; the administrator got a 500", request.method, request.path)
            return refusal("Internal error of the simulator; its log has the details.", 500)

    return [keep_strangers_out, errors]


def _is_ours(host: str, *, exposed: bool) -> bool:
    """Whether a Host header names this machine. Addresses do, since no name is looked up for them; where containers call each
    other by names, those have no dot."""
    name = ""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return ipaddress.ip_address(name).is_loopback or exposed
    except ValueError:
        return name == "localhost" or (exposed and name != "" and "." not in name)


def _problem(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the body"
    return f"{where}: {problem['msg']} (found {problem['input']!r})"
