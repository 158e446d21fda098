"""What one request sees: its account, the prices and the time, and what it brought with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from aiohttp import web

from mbats.market import Instrument
from mbats.simulator.account_wire import Standing
from mbats.simulator.config import SimulatorConfig
from mbats.simulator.core.account import Account
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.placing import Reply
from mbats.simulator.core.valuation import value
from mbats.simulator.errors import Refusal, forbidden, invalid
from mbats.simulator.market import Market
from mbats.simulator.quotes import Quote
from mbats.simulator.rest.access import GRANT

ACCOUNT_ID = re.compile(r"\d+-\d+-\d+-\d+", re.ASCII)

# How many of the account's last transactions a read is not to see yet: set by who wants clients to read stale state.
BEHIND = web.RequestKey("behind", int)


class Time(Protocol):
    """A clock of the exchange."""

    def now(self) -> np.datetime64:
        """What it shows, UTC."""


class Runtime(Protocol):
    """The running exchange, as much of it as REST needs. All of it happens in the thread of the event loop."""

    @property
    def engine(self) -> Engine: ...

    @property
    def market(self) -> Market: ...

    @property
    def clock(self) -> Time: ...

    @property
    def config(self) -> SimulatorConfig: ...

    def settle(self) -> np.datetime64:
        """Let the exchange come as far as its clock, and return that time (UTC)."""

    def execute(self, call: Callable[[Engine], Reply]) -> Reply:
        """Settle, call, and keep and publish what came of it before it is answered."""


RUNTIME: web.AppKey[Runtime] = web.AppKey("runtime", Runtime)


@dataclass(frozen=True, slots=True)
class View:
    """An account as a request sees it at `now` (UTC)."""

    account: Account
    instruments: Mapping[str, Instrument]
    quote: Callable[[str], Quote | None]
    now: np.datetime64

    @property
    def standing(self) -> Standing:
        """The account with what it is worth at the prices of the moment."""
        return Standing(self.account, value(self.account, self.instruments, self.quote), self.instruments)

    @property
    def last_id(self) -> dict[str, str]:
        """The last entry of nearly every body."""
        return {"lastTransactionID": str(self.account.last_id)}


def view(request: web.Request) -> View:
    """The account of the path, up to the moment. Raises Refusal when it is none, or not one of the token's."""
    name = account_id(request)
    runtime = request.app[RUNTIME]
    now = runtime.settle()
    engine = runtime.engine
    return View(_seen(engine.accounts[name], request.get(BEHIND, 0)), engine.market.instruments, engine.quote, now)


def account_id(request: web.Request) -> str:
    """The account of the path. Raises Refusal when it is none, or not one of the token's."""
    name = request.match_info["account"]
    if name not in {account.id for account in request[GRANT].accounts}:
        raise forbidden() if ACCOUNT_ID.fullmatch(name) else invalid("accountID")
    return name


async def body(request: web.Request, *, required: bool = True) -> Mapping[str, Any]:
    """The JSON object that the request brought, empty where none is required. Raises Refusal (400)."""
    text = await request.read()
    if not text.strip():
        if not required:
            return {}
        raise Refusal(400, "Missing JSON body")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Refusal(400, "Invalid JSON body") from None
    if not isinstance(found, dict):
        raise Refusal(400, "Invalid JSON body")
    return found


def _seen(account: Account, behind: int) -> Account:
    """The account as it was before its last transactions; prices are those of the moment."""
    if not behind:
        return account
    past = Account.replay(account.config, account.transactions[: max(1, account.last_id - behind)])
    for number, order in past.orders.items():  # what no transaction says
        order.trail, order.initial_price = account.orders[number].trail, account.orders[number].initial_price
    return past
