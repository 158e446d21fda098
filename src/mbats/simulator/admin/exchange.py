"""The market and the accounts on the admin port: change prices, halt, pay in, trade behind a client's back, look."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import Field

from mbats.simulator.account_wire import account_body, summary_body
from mbats.simulator.admin.administration import ADMINISTRATION, Administration
from mbats.simulator.admin.door import Asked, answer, read
from mbats.simulator.core.placing import Reply
from mbats.simulator.errors import Refusal
from mbats.simulator.wire import price_body


class _Price(Asked):
    instrument: str
    bid: str
    ask: str
    liquidity: str | None = None
    time: str | None = None


class _Instrument(Asked):
    instrument: str | None = None


class _Transfer(Asked):
    amount: Annotated[Decimal, Field(decimal_places=4, ge=-(10**12), le=10**12)]
    comment: str = ""


class _Order(Asked):
    order: dict[str, Any]


class _Close(Asked):
    units: str = "ALL"


class _Strip(Asked):
    on: bool


class _Nothing(Asked):
    pass


# --- The market ----------------------------------------------------------------------------------------------------------


async def show_prices(request: web.Request) -> web.Response:
    """GET /prices: the last one of every instrument."""
    engine = request.app[ADMINISTRATION].runtime.engine
    quotes = [quote for name in engine.market.instruments if (quote := engine.quote(name)) is not None]
    return answer({"prices": [price_body(quote) for quote in quotes]})


async def show_changes(request: web.Request) -> web.Response:
    """GET /market: everything that was done to it."""
    return answer({"changes": list(request.app[ADMINISTRATION].runtime.log.changes())})


async def change_market(request: web.Request) -> web.Response:
    """POST /market: any change (see `interventions`), from `time` on, or from now."""
    text = await request.read()
    try:
        change = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is no JSON: {error}. The market was not changed.") from None
    if not isinstance(change, dict):
        raise Refusal(400, "The body is no JSON object. The market was not changed.")
    return _changed(request.app[ADMINISTRATION], change)


async def set_price(request: web.Request) -> web.Response:
    """POST /price: one price, now or at `time`."""
    asked = await read(request, _Price)
    return _changed(request.app[ADMINISTRATION], {"change": "tick", **asked.model_dump(exclude_none=True)})


async def halt(request: web.Request) -> web.Response:
    """POST /halt: no prices and no trading of one instrument, or of all."""
    return _changed(request.app[ADMINISTRATION], {"change": "halt", **(await read(request, _Instrument)).model_dump()})


async def resume(request: web.Request) -> web.Response:
    """POST /resume: end a halt."""
    return _changed(request.app[ADMINISTRATION], {"change": "resume", **(await read(request, _Instrument)).model_dump()})


def _changed(here: Administration, change: dict[str, Any]) -> web.Response:
    runtime = here.runtime
    kept = runtime.change_market(change)
    here.streams.look()
    runtime.journal.add("admin", action="market", change=kept)
    return answer({"change": kept}, 201)


# --- Accounts --------------------------------------------------------------------------------------------------------------


async def list_accounts(request: web.Request) -> web.Response:
    """GET /accounts: the sums of each."""
    here = request.app[ADMINISTRATION]
    return answer({"accounts": [summary_body(here.standing(name)) for name in here.runtime.engine.accounts]})


async def show_account(request: web.Request) -> web.Response:
    """GET /accounts/{account}: in full."""
    return answer({"account": account_body(request.app[ADMINISTRATION].standing(request.match_info["account"]))})


async def transfer(request: web.Request) -> web.Response:
    """POST /accounts/{account}/transfer: pay in or, with a negative amount, out."""
    here, account, asked = *_account(request), await read(request, _Transfer)
    return _done(
        here, here.runtime.execute(lambda engine: engine.transfer(account, asked.amount, asked.comment)), "transfer", account
    )


async def order(request: web.Request) -> web.Response:
    """POST /accounts/{account}/orders: an order of which the client knows nothing."""
    here, account, asked = *_account(request), await read(request, _Order)
    said = here.runtime.execute(lambda engine: engine.create_order(account, {"order": asked.order}))
    return _done(here, said, "external_order", account)


async def close_trade(request: web.Request) -> web.Response:
    """POST /accounts/{account}/trades/{trade}/close."""
    here, account, asked = *_account(request), await read(request, _Close)
    trade = request.match_info["trade"]
    said = here.runtime.execute(lambda engine: engine.close_trade(account, trade, {"units": asked.units}))
    return _done(here, said, "external_close", account)


async def close_out(request: web.Request) -> web.Response:
    """POST /accounts/{account}/closeout: as if its margin were gone."""
    here, account, _ = *_account(request), await read(request, _Nothing)
    return _done(here, here.runtime.execute(lambda engine: engine.force_closeout(account)), "margin_closeout", account)


async def reset_pl(request: web.Request) -> web.Response:
    """POST /accounts/{account}/reset_pl."""
    here, account, _ = *_account(request), await read(request, _Nothing)
    return _done(here, here.runtime.execute(lambda engine: engine.reset_pl(account)), "reset_pl", account)


async def strip_on_fill(request: web.Request) -> web.Response:
    """POST /strip_on_fill: drop the orders on fill from now on, or no longer."""
    here, asked = request.app[ADMINISTRATION], await read(request, _Strip)
    here.runtime.set_strip_on_fill(asked.on)
    here.runtime.journal.add("admin", action="strip_on_fill", on=asked.on)
    return answer({"on": here.runtime.strip_on_fill})


def _account(request: web.Request) -> tuple[Administration, str]:
    here, account = request.app[ADMINISTRATION], request.match_info["account"]
    here.standing(account)
    return here, account


def _done(here: Administration, said: Reply, action: str, account: str) -> web.Response:
    body: Mapping[str, Any] = said.body
    here.runtime.journal.add("admin", action=action, account=account, status=said.status)
    return answer(body, said.status)
