"""OANDA's JSON for orders: what was asked for, as the transaction that created one has it, and what became of it."""

from __future__ import annotations

from typing import Any

from mbats.market import Instrument
from mbats.simulator.core.numbers import price_text
from mbats.simulator.core.values import Order, OrderState, OrderType

# What an order has in common with the transaction that created it, in OANDA's order.
ASKED = (
    "instrument",
    "tradeID",
    "clientTradeID",
    "units",
    "price",
    "priceBound",
    "distance",
    "timeInForce",
    "gtdTime",
    "positionFill",
    "triggerCondition",
    "guaranteed",
    "tradeClose",
    "longPositionCloseout",
    "shortPositionCloseout",
    "marginCloseout",
    "takeProfitOnFill",
    "stopLossOnFill",
    "trailingStopLossOnFill",
    "replacesOrderID",
)
OPENS_LATER = (OrderType.LIMIT, OrderType.STOP, OrderType.MARKET_IF_TOUCHED)


def order_body(order: Order, instrument: Instrument) -> dict[str, Any]:
    """One order in full; `instrument` is that of its pair."""
    body: dict[str, Any] = {"id": str(order.id), "createTime": order.created["time"], "type": order.type.value}
    body |= {key: order.created[key] for key in ASKED if key in order.created}
    if order.type in OPENS_LATER:
        body["partialFill"] = "DEFAULT"  # recorded, and not in the schema
    if order.extensions:
        body["clientExtensions"] = dict(order.extensions)
    if order.trade_extensions and order.trade_id is None:  # one that belongs to a trade opens none
        body["tradeClientExtensions"] = dict(order.trade_extensions)
    if order.initial_price is not None:
        body["initialMarketPrice"] = price_text(order.initial_price, instrument)
    if order.trail is not None:
        body["trailingStopValue"] = price_text(order.trail, instrument)
    return body | {"state": order.state.value} | _end(order)


def _end(order: Order) -> dict[str, Any]:
    ended = order.ended
    if ended is None:
        return {}
    if order.state is OrderState.CANCELLED:
        replaced = {"replacedByOrderID": str(order.replaced_by)} if order.replaced_by is not None else {}
        return {"cancellingTransactionID": ended["id"], "cancelledTime": ended["time"]} | replaced
    body: dict[str, Any] = {"fillingTransactionID": ended["id"], "filledTime": ended["time"]}
    if "tradeOpened" in ended:
        body["tradeOpenedID"] = ended["tradeOpened"]["tradeID"]
    if "tradeReduced" in ended:
        body["tradeReducedID"] = ended["tradeReduced"]["tradeID"]
    if "tradesClosed" in ended:
        body["tradeClosedIDs"] = [part["tradeID"] for part in ended["tradesClosed"]]
    return body
