"""Orders as OANDA v20 reads them. Pure: what may be sent was decided before, and numbers have the instrument's digits."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from mbats.live.gate import Kind, Order
from mbats.live.ids import client_id, tag
from mbats.live.wire import Exit, Submit
from mbats.market import Instrument
from mbats.oanda.parse import format_time
from mbats.oanda.precision import quantise_price

LONGEST_COMMENT = 120


def order_body(order: Order, instrument: Instrument, submit: Submit | None = None, *, shared: bool = False) -> dict[str, Any]:
    """The order of an intent, with the stop and target of `submit` to be made when it fills.

    `shared` says that the pair holds positions of others: then what only reduces this deployment's position must be allowed to
    open one at the broker, because there it may have been netted away.
    """
    name = client_id(order.intent)
    ours = {"id": name, "tag": tag(order.deployment), "comment": order.purpose[:LONGEST_COMMENT]}
    body: dict[str, Any] = {
        "type": order.kind.value,
        "instrument": order.symbol,
        "units": order.units,
        "positionFill": "REDUCE_ONLY" if order.reduce_only and not shared else "DEFAULT",
        "clientExtensions": ours,
        "tradeClientExtensions": ours,
    }
    if order.price is not None:
        body["price"] = order.price
    if order.price_bound is not None:
        body["priceBound"] = order.price_bound
    body |= {"timeInForce": "FOK"} if order.kind is Kind.MARKET else lifetime(submit)
    if submit is not None and not order.reduce_only:
        body |= on_fill(name, submit.stop, submit.target, instrument)
    return body


def lifetime(submit: Submit | None) -> dict[str, Any]:
    """How long a pending order lives: until cancelled, until 17:00 New York, or until a moment."""
    if submit is not None and submit.day:
        return {"timeInForce": "GFD"}
    if submit is not None and submit.valid_until is not None:
        return {"timeInForce": "GTD", "gtdTime": format_time(submit.valid_until)}
    return {"timeInForce": "GTC"}


def on_fill(entry: str, stop: Exit | None, target: Exit | None, instrument: Instrument) -> dict[str, Any]:
    """The orders that the broker makes in the very transaction that fills the entry, so that no crash comes between."""
    body: dict[str, Any] = {}
    if stop is not None and stop.trail is not None:
        distance = quantise_price(stop.trail, instrument)
        body["trailingStopLossOnFill"] = {"distance": distance, "timeInForce": "GTC", "clientExtensions": {"id": f"{entry}.ts"}}
    elif stop is not None:
        body["stopLossOnFill"] = _at_price(stop, f"{entry}.sl", instrument)
    if target is not None:
        body["takeProfitOnFill"] = _at_price(target, f"{entry}.tp", instrument)
    return body


def standalone_stop(name: str, deployment: str, symbol: str, units: Decimal, price: Decimal) -> dict[str, Any]:
    """A stop for units that were netted away at the broker: it may open there, and then opens what others hold."""
    ours = {"id": name, "tag": tag(deployment), "comment": "stop of netted units"}
    return {
        "type": "STOP",
        "instrument": symbol,
        "units": units,
        "price": price,
        "timeInForce": "GTC",
        "positionFill": "DEFAULT",
        "clientExtensions": ours,
        "tradeClientExtensions": ours,
    }


def dependent(name: str | None, price: Decimal | None = None, distance: Decimal | None = None) -> dict[str, Any]:
    """A stop or target for a trade that is open: at a price, or trailing at a distance."""
    body: dict[str, Any] = {"timeInForce": "GTC"}
    body |= {"distance": distance} if distance is not None else {"price": price}
    return body | ({"clientExtensions": {"id": name}} if name else {})


def _at_price(wanted: Exit, name: str, instrument: Instrument) -> dict[str, Any]:
    assert wanted.price is not None, "a stop or target without a trail has a price"
    price = quantise_price(wanted.price, instrument)
    return {"price": price, "timeInForce": "GTC", "clientExtensions": {"id": name}}


def gtd_is_past(submit: Submit, now: datetime) -> bool:
    """Whether the order's life is over before it could be sent."""
    return submit.valid_until is not None and submit.valid_until <= now
