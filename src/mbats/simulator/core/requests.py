"""What clients may ask of an account, checked against the rules of form: a body in, the fields of a transaction out.

Every `read_…` returns the transaction's own keys (type, values in canonical form, defaults filled in) and a reject reason or
None. With a reason the type is that of the reject transaction and `rejectReason` its last key; what the client sent wrong stands
there as sent, and what it left out is not there. Refusal (400) is raised for a body that is no such request at all; keys that
OANDA does not know are ignored. An absent key and null are the same, except in `read_trade_orders`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from mbats.market import Instrument
from mbats.simulator.core.account import Account
from mbats.simulator.core.details import read_terms
from mbats.simulator.core.form import MAX_CLIENT_TEXT, Form
from mbats.simulator.core.numbers import units_text
from mbats.simulator.core.order_parts import (
    client_name,
    is_taken,
    names_of,
    read_close_units,
    read_dependent,
    read_entry,
    read_names,
)
from mbats.simulator.core.values import DEPENDENT, DEPENDENT_KEYS, Order, OrderType, Trade, Transaction
from mbats.simulator.errors import missing

PENDING_ORDERS_ALLOWED = 1000

Body = Mapping[str, Any]
Read = tuple[Transaction, str | None]
TradeOrder = tuple[OrderType, Literal["set", "cancel"], Transaction | None, str | None]


def read_order(
    account: Account,
    instruments: Mapping[str, Instrument],
    body: Body,
    now: np.datetime64,
    *,
    replaces: Order | None = None,
    strict: bool = True,
    pending_orders: int = PENDING_ORDERS_ALLOWED,
) -> Read:
    """Read {"order": …}, of any type that a client may create. One that replaces another keeps its client extensions.

    `strict` refuses "1.10000" where four digits are quoted; whether OANDA does is not known. At most `pending_orders` may wait.
    """
    outer = Form(body, "", strict=strict)
    if not outer.has("order"):
        raise missing()
    form = outer.part("order")
    if not form.has("type"):
        raise missing()
    if form.text("type") not in list(OrderType):
        raise form.invalid("type")
    kind = OrderType(form.body["type"])
    if kind in DEPENDENT:
        read_dependent(form, kind, account, instruments, now, replaces)
    else:
        read_entry(form, kind, instruments, now)
    waits = kind is not OrderType.MARKET
    form.fields["reason"] = "REPLACEMENT" if replaces and waits else "CLIENT_ORDER"
    read_names(form, account, replaces, of_trade=kind in DEPENDENT)
    if replaces and kind is not replaces.type:
        form.reject("REPLACING_ORDER_INVALID")
    elif waits and len(account.pending) - bool(replaces) >= pending_orders:
        form.reject("PENDING_ORDERS_ALLOWED_EXCEEDED")
    if replaces and waits and form.reason:
        form.fields["intendedReplacesOrderID"] = str(replaces.id)
    return form.finish(f"{kind}_ORDER")


def read_trade_orders(
    account: Account,
    trade: Trade,
    instruments: Mapping[str, Instrument],
    body: Body,
    now: np.datetime64,
    *,
    strict: bool = True,
) -> list[TradeOrder]:
    """Read {"takeProfit": …, "stopLoss": …, "trailingStopLoss": …} for an open trade: absent keeps, null cancels."""
    form = Form(body, "", strict=strict)
    replaced = {trade.orders[kind] for key, kind in DEPENDENT_KEYS.items() if key in body and kind in trade.orders}
    taken = {order.extensions.get("id") for order in account.pending.values() if order.id not in replaced}
    asked: list[TradeOrder] = []
    for key, kind in DEPENDENT_KEYS.items():
        if key in body and body[key] is None:
            asked.append((kind, "cancel", None, None))
        elif key in body:
            part = form.part(key)
            part.fields |= names_of(trade)
            read_terms(part, kind, instruments[trade.instrument], now)
            part.fields["reason"] = "REPLACEMENT" if kind in trade.orders else "CLIENT_ORDER"
            name = part.extensions("clientExtensions", "CLIENT_ORDER").get("id")
            if name is not None and name in taken:
                part.reject("CLIENT_ORDER_ID_ALREADY_EXISTS")
            taken.add(name)
            fields, reason = part.finish(f"{kind}_ORDER")
            asked.append((kind, "set", fields, reason))
    return asked


def read_close_trade(account: Account, trade: Trade, body: Body, *, digits: int = 0) -> Read:
    """Read {"units": "ALL" or how many} for an open trade; nothing said means all. `digits` are those of its units."""
    form = Form(body, "")
    units, text = read_close_units(form, "units", abs(trade.units), digits, "CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE")
    form.fields = _closing(trade.instrument, units.copy_sign(-trade.units))
    form.fields |= {"tradeClose": {**names_of(trade), "units": text}, "reason": "TRADE_CLOSE"}
    return form.finish("MARKET_ORDER")


def read_close_position(account: Account, instrument: str, body: Body, *, digits: int = 0) -> dict[str, Read]:
    """Read {"longUnits": …, "shortUnits": …}: ALL, NONE or how many of each side, "long" and "short"; nothing said means NONE.

    When neither side is asked for, that is a mistake, and it is answered for the long one.
    """
    read: dict[str, Read] = {}
    for side, units in zip(("long", "short"), account.units(instrument), strict=True):
        form, key = Form(body, ""), f"{side}Units"
        if not form.has(key) or form.body[key] == "NONE":
            continue
        wanted, text = read_close_units(form, key, abs(units), digits, "CLOSEOUT_POSITION_UNITS_EXCEED_POSITION_SIZE")
        if not units:
            form.reason = "CLOSEOUT_POSITION_DOESNT_EXIST"
        names = form.extensions(f"{side}ClientExtensions", "CLIENT_ORDER")
        if "id" in names and is_taken(account, names["id"]):
            form.reject("CLIENT_ORDER_ID_ALREADY_EXISTS")
        form.fields = _closing(instrument, -wanted if side == "long" else wanted)
        form.fields |= {f"{side}PositionCloseout": {"instrument": instrument, "units": text}, "reason": "POSITION_CLOSEOUT"}
        form.fields |= {"clientExtensions": names} if names else {}
        read[side] = form.finish("MARKET_ORDER")
    if not read:
        form = Form(body, "")
        form.fields = _closing(instrument, Decimal(0)) | {"reason": "POSITION_CLOSEOUT"}
        form.reject("CLOSEOUT_POSITION_INCOMPLETE_SPECIFICATION")
        read["long"] = form.finish("MARKET_ORDER")
    return read


def read_order_extensions(account: Account, order: Order | None, body: Body) -> Read:
    """Read {"clientExtensions": …, "tradeClientExtensions": …} for a pending order; None when there is no such order."""
    form = Form(body, "")
    name = form.extensions("clientExtensions", "CLIENT_ORDER").get("id")
    form.extensions("tradeClientExtensions", "CLIENT_TRADE")
    if not form.fields:
        form.reject("CLIENT_EXTENSIONS_DATA_MISSING")
    if name is not None and is_taken(account, name, order):
        form.reject("CLIENT_ORDER_ID_ALREADY_EXISTS")
    form.fields = {f"{key}Modify": value for key, value in form.fields.items()}
    if order is None:
        form.reason = "ORDER_DOESNT_EXIST"
    else:
        form.fields = {"orderID": str(order.id), **client_name("clientOrderID", order.extensions), **form.fields}
    return form.finish("ORDER_CLIENT_EXTENSIONS_MODIFY")


def read_trade_extensions(account: Account, trade: Trade, body: Body) -> Read:
    """Read {"clientExtensions": …} for an open trade."""
    form = Form(body, "")
    given = form.extensions("clientExtensions", "CLIENT_TRADE")
    if not given:
        form.reject("CLIENT_EXTENSIONS_DATA_MISSING")
    others = [each for each in account.open.values() if each is not trade]
    if "id" in given and any(each.extensions.get("id") == given["id"] for each in others):
        form.reject("CLIENT_TRADE_ID_ALREADY_EXISTS")
    form.fields = names_of(trade) | ({"tradeClientExtensionsModify": given} if given else {})
    return form.finish("TRADE_CLIENT_EXTENSIONS_MODIFY")


def read_configuration(account: Account, body: Body) -> Read:
    """Read {"alias": …, "marginRate": …}. Whether the account can bear the margin rate is not looked at here."""
    form = Form(body, "")
    alias = form.text("alias")
    if alias is not None:
        form.fields["alias"] = alias
        if not alias or len(alias) > MAX_CLIENT_TEXT:
            form.reject("ALIAS_INVALID")
    if rate := form.number("marginRate"):
        form.fields["marginRate"] = rate[1]
        if not 0 < rate[0] <= 1:
            form.reject("MARGIN_RATE_INVALID")
    if not form.fields:
        form.reject("CLIENT_CONFIGURE_DATA_MISSING")
    return form.finish("CLIENT_CONFIGURE")


def _closing(instrument: str, units: Decimal) -> Transaction:
    return {"instrument": instrument, "units": units_text(units), "timeInForce": "FOK", "positionFill": "REDUCE_ONLY"}
