"""The HTTP shell: routes, tokens, limits and headers around an `Exchange`. It decides nothing about the market."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web
from pydantic import SecretStr

from mbats import __version__
from mbats.market import to_us
from mbats.simulator.errors import Refusal, invalid, unauthorized
from mbats.simulator.exchange import Body, Exchange
from mbats.simulator.limits import PER_SECOND, RateLimit
from mbats.simulator.wire import TimeFormat, encode

log = logging.getLogger(__name__)

WORKERS = 2  # prices are made here, so that the event loop goes on answering

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Service:
    """What the handlers need: the exchange, the one token that opens it, and the clock by which it lives."""

    exchange: Exchange
    token: SecretStr
    clock: Callable[[], datetime] = utc_now
    limit: RateLimit = field(default_factory=lambda: RateLimit(PER_SECOND, time.monotonic))
    request_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(time.time_ns()))


SERVICE = web.AppKey("service", Service)
WORKERS_KEY = web.AppKey("workers", ThreadPoolExecutor)


def create_app(service: Service) -> web.Application:
    """The REST side as an aiohttp application."""
    app = web.Application(middlewares=[request_id, refusals, authorization])
    app[SERVICE] = service
    app.cleanup_ctx.append(_workers)
    for path, handler in ROUTES:
        app.router.add_get(path, handler, allow_head=False)
    return app


async def _workers(app: web.Application) -> AsyncIterator[None]:
    app[WORKERS_KEY] = ThreadPoolExecutor(WORKERS, thread_name_prefix="prices")
    yield
    app[WORKERS_KEY].shutdown(wait=True, cancel_futures=True)


# --- What every request passes through -----------------------------------------------------------------------------


@web.middleware
async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every response its RequestID."""
    response = await handler(request)
    response.headers["RequestID"] = str(next(request.app[SERVICE].request_ids))
    return response


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals, and what aiohttp itself refuses, into OANDA's error bodies."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return _respond(refusal.body(), refusal.status)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.Response(
            body=encode({"errorMessage": error.reason}), status=error.status, headers=headers, content_type="application/json"
        )
    except Exception:
        log.exception("%s %s failed; the client got a 500", request.method, request.path)
        return _respond({"errorMessage": "Internal error of the simulator; its log has the details."}, 500)


@web.middleware
async def authorization(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in without the token, and nobody in too often; health is for all."""
    if request.path == "/healthz":
        return await handler(request)
    service = request.app[SERVICE]
    if not service.limit.allows(request.remote or ""):
        raise Refusal(429, "Rate limit exceeded. At most 120 requests a second are answered.")
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = service.token.get_secret_value().encode()
    if kind != "Bearer" or not hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), expected):
        raise unauthorized()
    return await handler(request)


# --- The endpoints ---------------------------------------------------------------------------------------------------


async def health(request: web.Request) -> web.Response:
    exchange = request.app[SERVICE].exchange
    return _respond(
        {"status": "ok", "version": __version__, "prices": exchange.source.description, "instruments": list(exchange.instruments)}
    )


async def accounts(request: web.Request) -> web.Response:
    return _respond(request.app[SERVICE].exchange.accounts_body())


async def account(request: web.Request) -> web.Response:
    return _respond(request.app[SERVICE].exchange.account_body(request.match_info["account"], _times(request)))


async def summary(request: web.Request) -> web.Response:
    return _respond(request.app[SERVICE].exchange.summary_body(request.match_info["account"], _times(request)))


async def instruments(request: web.Request) -> web.Response:
    return _respond(request.app[SERVICE].exchange.instruments_body(request.match_info["account"], request.query))


async def candles(request: web.Request) -> web.Response:
    service, times = request.app[SERVICE], _times(request)
    if "account" in request.match_info:
        service.exchange.account(request.match_info["account"])
    now, instrument = to_us(service.clock()), request.match_info["instrument"]
    return await _work(request, lambda: service.exchange.candles_body(instrument, request.query, times, now))


async def latest(request: web.Request) -> web.Response:
    service, times = request.app[SERVICE], _times(request)
    service.exchange.account(request.match_info["account"])
    now = to_us(service.clock())
    return await _work(request, lambda: service.exchange.latest_body(request.query, times, now))


async def pricing(request: web.Request) -> web.Response:
    service, times = request.app[SERVICE], _times(request)
    now, account_id = to_us(service.clock()), request.match_info["account"]
    return await _work(request, lambda: service.exchange.prices_body(account_id, request.query, times, now))


ROUTES = (
    ("/healthz", health),
    ("/v3/accounts", accounts),
    ("/v3/accounts/{account}", account),
    ("/v3/accounts/{account}/summary", summary),
    ("/v3/accounts/{account}/instruments", instruments),
    ("/v3/accounts/{account}/instruments/{instrument}/candles", candles),
    ("/v3/accounts/{account}/candles/latest", latest),
    ("/v3/accounts/{account}/pricing", pricing),
    ("/v3/instruments/{instrument}/candles", candles),
)


def _times(request: web.Request) -> TimeFormat:
    text = request.headers.get("Accept-Datetime-Format", TimeFormat.RFC3339.value)
    if text not in list(TimeFormat):
        raise invalid("Accept-Datetime-Format")
    return TimeFormat(text)


def _respond(body: Body | dict[str, str], status: int = 200) -> web.Response:
    return web.Response(body=encode(body), status=status, content_type="application/json")


async def _work(request: web.Request, answer: Callable[[], Body]) -> web.Response:
    """Answer from a worker thread, encoding included."""
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(request.app[WORKERS_KEY], lambda: encode(answer()))
    return web.Response(body=body, content_type="application/json")
