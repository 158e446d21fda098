"""The parts of an order's body: its instrument, its units, the trade that it ends, its names."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from mbats.market import Instrument
from mbats.simulator.core.account import Account
from mbats.simulator.core.details import LASTING, TIMES_IN_FORCE, TRIGGERS, read_on_fill, read_terms, read_time_in_force
from mbats.simulator.core.form import Form
from mbats.simulator.core.numbers import units_text
from mbats.simulator.core.values import Order, OrderType, Trade, Transaction

POSITION_FILLS = ("OPEN_ONLY", "REDUCE_FIRST", "REDUCE_ONLY", "DEFAULT")
# In the order in which OANDA names them in a pair. A pair of these that is not listed here is one that the account cannot trade;
# any other name is no instrument.
CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")
IN_FORCE = {
    OrderType.MARKET: ("FOK", "IOC"),
    OrderType.LIMIT: TIMES_IN_FORCE,
    OrderType.STOP: TIMES_IN_FORCE,
    OrderType.MARKET_IF_TOUCHED: LASTING,
}


def read_entry(form: Form, kind: OrderType, instruments: Mapping[str, Instrument], now: np.datetime64) -> None:
    """Read an order that may open a trade, but for its client extensions."""
    instrument = _read_instrument(form, instruments)
    _read_units(form, instrument)
    digits = instrument.display_precision if instrument else None
    if kind is not OrderType.MARKET:
        form.price("price", "PRICE", digits)
        if not form.has("price"):
            form.reject("PRICE_MISSING")
    if kind is not OrderType.LIMIT:
        form.price("priceBound", "PRICE_BOUND", digits)
    read_time_in_force(form, now, IN_FORCE[kind], default="FOK" if kind is OrderType.MARKET else "GTC")
    if kind is not OrderType.MARKET:
        form.word("triggerCondition", TRIGGERS, "DEFAULT")
        form.fields["partialFill"] = "DEFAULT"  # not in the spec, but in every recorded order that waits
    form.word("positionFill", POSITION_FILLS, "DEFAULT")
    read_on_fill(form, instrument, now)


def read_dependent(
    form: Form,
    kind: OrderType,
    account: Account,
    instruments: Mapping[str, Instrument],
    now: np.datetime64,
    replaces: Order | None,
) -> None:
    """Read an order that ends a trade, but for its client extensions. A trade has at most one of each type."""
    trade = _read_trade(form, account)
    read_terms(form, kind, instruments[trade.instrument] if trade else None, now)
    if trade is None:
        return
    replaced = replaces.id if replaces else None
    if replaces is not None and replaces.type is kind and replaces.trade_id != trade.id:
        form.reject("REPLACING_TRADE_ID_INVALID")
    elif trade.orders.get(kind, replaced) != replaced:
        form.reject(f"{kind}_ORDER_ALREADY_EXISTS")


def read_names(form: Form, account: Account, replaces: Order | None, *, of_trade: bool) -> None:
    """Read the client extensions of the order and of the trade that it may open; those of the order that it replaces stay."""
    name = form.extensions("clientExtensions", "CLIENT_ORDER").get("id")
    if not of_trade:
        form.extensions("tradeClientExtensions", "CLIENT_TRADE")
    if replaces is not None:
        kept = {"clientExtensions": replaces.extensions}
        if not of_trade:
            kept["tradeClientExtensions"] = replaces.trade_extensions
        form.fields |= {key: dict(value) for key, value in kept.items() if value and not form.has(key)}
    if name is not None and is_taken(account, name, replaces):
        form.reject("CLIENT_ORDER_ID_ALREADY_EXISTS")


def read_close_units(form: Form, key: str, size: Decimal, digits: int, too_many: str) -> tuple[Decimal, str]:
    """How many of `size` units to close, without sign, and as the client said it; `too_many` is the reason when it is less."""
    if form.body.get(key) in ("ALL", None):
        return size, "ALL"
    found = form.number(key)
    assert found is not None  # the key is there
    units, text = found
    if units <= 0:
        form.reject("UNITS_INVALID")
    elif _are_whole(form, units, digits):
        text = units_text(units)
        if units > size:
            form.reject(too_many)
    return units, text


def is_taken(account: Account, name: str, besides: Order | None = None) -> bool:
    """Whether a pending order has this client id: among those it is unique."""
    return any(order.extensions.get("id") == name for order in account.pending.values() if order is not besides)


def names_of(trade: Trade) -> Transaction:
    """How transactions name a trade."""
    return {"tradeID": str(trade.id), **client_name("clientTradeID", trade.extensions)}


def client_name(key: str, extensions: Mapping[str, str]) -> Transaction:
    """The client's id under `key`, if there is one."""
    return {key: extensions["id"]} if "id" in extensions else {}


def _read_trade(form: Form, account: Account) -> Trade | None:
    """The open trade that `tradeID`, `clientTradeID` or both name."""
    number, name = form.body.get("tradeID"), form.text("clientTradeID")
    if isinstance(number, int) and not isinstance(number, bool):
        number = str(number)
    if number is not None and not (isinstance(number, str) and number.isascii() and number.isdigit()):
        raise form.invalid("tradeID")
    form.fields |= {key: value for key, value in (("tradeID", number), ("clientTradeID", name)) if value is not None}
    if number is None and name is None:
        form.reject("TRADE_ID_UNSPECIFIED")
        return None
    found = [account.trade_by(number)] if number is not None else []
    found += [account.trade_by(f"@{name}")] if name is not None else []
    trade = found[0]
    if any(each is not trade for each in found):
        form.reject("TRADE_IDENTIFIER_INCONSISTENCY")
        return None
    if trade is None or trade.closed is not None:
        form.reject("TRADE_DOESNT_EXIST")
        return None
    form.fields |= names_of(trade)
    return trade


def _read_instrument(form: Form, instruments: Mapping[str, Instrument]) -> Instrument | None:
    name = form.text("instrument")
    if name is None:
        form.reject("INSTRUMENT_MISSING")
        return None
    form.fields["instrument"] = name
    if name in instruments:
        return instruments[name]
    if name not in {f"{base}_{quote}" for at, base in enumerate(CURRENCIES) for quote in CURRENCIES[at + 1 :]}:
        raise form.invalid("instrument")
    form.reject("INSTRUMENT_NOT_TRADEABLE")
    return None


def _read_units(form: Form, instrument: Instrument | None) -> None:
    found = form.number("units")
    if found is None:
        form.reject("UNITS_MISSING")
        return
    units, form.fields["units"] = found
    if _are_whole(form, units, instrument.units_precision if instrument else 0) and instrument:
        form.fields["units"] = units_text(units)
        if abs(units) < instrument.minimum_units:
            form.reject("UNITS_MIMIMUM_NOT_MET")  # as OANDA spells it
        elif abs(units) > instrument.maximum_units:
            form.reject("UNITS_LIMIT_EXCEEDED")


def _are_whole(form: Form, units: Decimal, digits: int) -> bool:
    """Whether the units are some, and no fraction of the smallest. Zeros at the end are no digits: clients send 100.0."""
    if abs(units) < Decimal(1).scaleb(-digits):
        form.reject("UNITS_INVALID")
    elif units != round(units, digits):
        form.reject("UNITS_PRECISION_EXCEEDED")
    else:
        return True
    return False
