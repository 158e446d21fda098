"""Who may come in and how often, what every answer carries, and how refusals become answers: for REST and streams alike."""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import format_datetime

import numpy as np
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mbats.market import to_datetime
from mbats.simulator.config import Scope, SimulatorConfig
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.errors import Refusal, forbidden, too_often, unauthorized
from mbats.simulator.limits import RateLimit
from mbats.simulator.rest.respond import error, time_format

log = logging.getLogger(__name__)

OPEN_TO_ALL = ("/healthz",)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token opens."""

    user: str
    accounts: tuple[AccountConfig, ...]
    scopes: frozenset[Scope]


GRANT = web.RequestKey("grant", Grant)


class Access:
    """The tokens of all users, and the limit of requests that counts for all doors together."""

    def __init__(self, config: SimulatorConfig, limit: RateLimit | None = None) -> None:
        self.per_second = config.options.requests_per_second
        self.limit = limit or RateLimit(self.per_second, time.monotonic)
        # By hash, so that how long a look-up takes says nothing about a token.
        self._grants = {
            _hash(token.secret.get_secret_value()): Grant(user.name, user.accounts, token.scopes)
            for user in config.users
            for token in user.tokens
        }

    def grant(self, authorization: str) -> Grant:
        """What the header `Bearer …` opens. Raises Refusal (401)."""
        kind, _, token = authorization.partition(" ")
        found = self._grants.get(_hash(token.strip()))
        if kind != "Bearer" or found is None:
            raise unauthorized()
        return found


def guards(access: Access) -> list[Middleware]:
    """What every request passes through, outermost first."""

    @web.middleware
    async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn refusals, and what aiohttp itself refuses, into OANDA's error bodies."""
        try:
            return await handler(request)
        except Refusal as refusal:
            return error(refusal)
        except web.HTTPException as refused:
            response = error(Refusal(refused.status, refused.reason))
            if "Allow" in refused.headers:
                response.headers["Allow"] = refused.headers["Allow"]
            return response
        except Exception:
            log.exception("%s %s failed; the client got a 500", request.method, request.path)
            return error(Refusal(500, "Internal error of the simulator; its log has the details."))

    @web.middleware
    async def authorization(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody in without a token, nobody in too often, and nobody trade who may only look; health is for all."""
        if request.path in OPEN_TO_ALL:
            return await handler(request)
        if not access.limit.allows(request.remote or ""):
            raise too_often(access.per_second)
        grant = access.grant(request.headers.get("Authorization", ""))
        if ("read" if request.method in ("GET", "HEAD") else "trade") not in grant.scopes:
            raise forbidden()
        time_format(request)  # nothing may be done that could not be answered
        request[GRANT] = grant
        return await handler(request)

    return [refusals, authorization]


def sign_responses(app: web.Application, now: Callable[[], np.datetime64]) -> None:
    """Give every response its RequestID, unless it has one, and the exchange's Date; `now` is the exchange's time, UTC.

    Streams have theirs before their first line. The ids of requests that change nothing are above those of all others.
    """
    numbers = itertools.count(time.time_ns())

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.setdefault("RequestID", str(next(numbers)))
        response.headers["Date"] = format_datetime(to_datetime(now()).replace(microsecond=0), usegmt=True)

    app.on_response_prepare.append(sign)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
