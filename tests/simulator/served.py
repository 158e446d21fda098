"""A simulated exchange behind its REST API, on a free port of this machine, whose every answer is judged by the schema."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import requests
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import SecretStr
from simulated import ACCOUNT, Simulated
from simulator.spec import Wrong, spec

from mbats.simulator.config import Options, SimulatorConfig, Token, User
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.placing import Reply
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.limits import RateLimit
from mbats.simulator.log import MemoryLog
from mbats.simulator.market import Market
from mbats.simulator.rest.access import Access
from mbats.simulator.rest.app import create_rest_app

TOKEN, READER, STRANGER = "a-token-that-trades", "a-token-that-only-reads", "a-token-of-somebody-else"
OTHER_ACCOUNT = "101-004-7654321-001"
TIMEOUT = (3.05, 30)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


class Standing:
    """A runtime whose time stands at the engine's: it moves when the test moves the exchange."""

    def __init__(self, engine: Engine, config: SimulatorConfig) -> None:
        self.engine = engine
        self.market: Market = engine.market
        self.config = config
        self.log = MemoryLog()
        self.clock = self

    def now(self) -> np.datetime64:
        return self.engine.now

    def settle(self) -> np.datetime64:
        return self.engine.now

    def execute(self, call: Callable[[Engine], Reply]) -> Reply:
        reply = call(self.engine)
        self.log.append(self.engine.take(), [], self.engine.state())
        return reply


def config_of(accounts: Iterable[AccountConfig], **options: Any) -> SimulatorConfig:
    """One user with these accounts and two tokens, and somebody else with none of them."""
    owner = User("owner", (Token(SecretStr(TOKEN)), Token(SecretStr(READER), frozenset(("read",)))), tuple(accounts))
    return SimulatorConfig((owner, User("other", (Token(SecretStr(STRANGER)),), ())), Options(**options))


class Server:
    """An application in a thread of its own. What was wrong with any of its answers is raised at the end, whoever got it."""

    def __init__(self, make: Callable[[list[Middleware]], web.Application]) -> None:
        self._wrong: list[Wrong] = []
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(make([self._judge]), access_log=None, shutdown_timeout=0.5)
        self.url = self._loop.run_until_complete(self._start())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def complain(self) -> None:
        """Raise the first thing that was wrong with an answer so far."""
        if self._wrong:
            raise self._wrong.pop(0)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @web.middleware
    async def _judge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.path.startswith("/v3") and isinstance(response, web.Response):
            try:
                self._check(request, response)
            except Wrong as wrong:
                self._wrong.append(wrong)
        return response

    @staticmethod
    def _check(request: web.Request, response: web.Response) -> None:
        if response.content_type != "application/json":
            raise Wrong(f"{request.method} {request.path} answered {response.content_type}")
        judge = spec(request.headers.get("Accept-Datetime-Format", "RFC3339"))
        if judge is not None:
            judge.check(request.method, request.rel_url.raw_path, response.status, json.loads(bytes(response.body)))


class Served(Server):
    """An engine and its API. Calls are paths below the account, or from the root when they begin with a slash."""

    def __init__(self, engine: Engine, *, limit: RateLimit | None = None, **options: Any) -> None:
        configs = [account.config for account in engine.accounts.values()]
        self.runtime = Standing(engine, config_of(configs, **options))
        access = Access(self.runtime.config, limit or RateLimit(1e9, lambda: 0.0))
        super().__init__(lambda judges: create_rest_app(self.runtime, access, middlewares=judges))
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {TOKEN}"

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        """Send a request; a body that is no bytes is sent as JSON. A query that Python has a word for is written from_."""
        response = self.session.request(
            method,
            self.url + (path if path.startswith("/") else f"/v3/accounts/{ACCOUNT}/{path}".rstrip("/")),
            params={name.rstrip("_"): value for name, value in query.items()},
            data=body if isinstance(body, bytes) else None,
            json=None if isinstance(body, bytes) else body,
            headers=headers,
            timeout=TIMEOUT,
        )
        self.complain()
        return Answer(response.status_code, response.headers, response.json())

    def get(self, path: str, **more: Any) -> Answer:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> Answer:
        return self.call("POST", path, body=body, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("PUT", path, body=body, **more)

    def patch(self, path: str, body: Any, **more: Any) -> Answer:
        return self.call("PATCH", path, body=body, **more)

    def order(self, units: int | str, instrument: str = "EUR_USD", type: str = "MARKET", **more: Any) -> Answer:
        """POST an order; what is not said is left out of the body."""
        return self.post("orders", {"order": {"type": type, "instrument": instrument, "units": str(units)} | more})

    def close(self) -> None:
        self.session.close()
        super().close()
        self.complain()


class Scripted(Served):
    """An exchange whose every price is set by the test: `exchange.price(…)`. It begins with one price of each pair."""

    def __init__(self, exchange: Simulated | None = None, **options: Any) -> None:
        self.exchange = exchange or Simulated()
        for name, bid, ask in PRICES:
            if name in self.exchange.market.instruments:
                self.exchange.price(name, bid, ask)
        super().__init__(self.exchange.engine, **options)


PRICES = (("EUR_USD", "1.10000", "1.10010"), ("USD_JPY", "150.000", "150.010"), ("GBP_USD", "1.25000", "1.25012"))
