"""Which lot an order is for, by its client id, and what orders say that a lot must have. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from mbats.live.books.entries import STOPS, TARGET, TRAILING, Placed
from mbats.live.books.events import Role
from mbats.live.books.parts import Held, Lot, Protector
from mbats.live.ids import read_client_id

# What the orders of a lot have behind the client id of the order that opened it: stop, target, trailing stop, the stop of
# netted units; each may be counted.
ENDING = re.compile(r"\.(?:sl|tp|ts|net)(?:[.-]?\d+)?$")


def owner_of(client_id: str | None) -> str:
    """The deployment that an order with this client id is of, or "" for one that is not ours."""
    intent = read_client_id(client_id)
    return intent.deployment if intent else ""


def lot_named(client_id: str | None) -> str | None:
    """The id of the lot that a stop or target with this client id is for; None for other orders."""
    if client_id is None or not owner_of(client_id):
        return None
    name = ENDING.sub("", client_id)
    return name if name != client_id else None


def role_named(client_id: str | None) -> Role | None:
    """What an order is for a lot, by the end of its client id; None for one that is for none."""
    end = ENDING.search(client_id or "")
    if end is None or lot_named(client_id) is None:
        return None
    return "target" if end.group().startswith(".tp") else "stop"


def attach(trade: Held, order: Placed) -> Held:
    """The trade with a new stop, target or trailing stop on it."""
    price, distance = (None, order.distance) if order.type == TRAILING else (order.price, None)
    protector = Protector(order.id, price, distance, order.client_id)
    if order.type in STOPS:
        return replace(trade, stop=protector)
    return replace(trade, target=protector) if order.type == TARGET else replace(trade, trailing=protector)


def detach(trade: Held, order_id: int) -> Held:
    """The trade without the order of this number."""
    return _each(trade, lambda protector: None if protector.order_id == order_id else protector)


def rename(trade: Held, order_id: int, client_id: str | None) -> Held:
    """The trade with another client id on its order of this number."""
    return _each(
        trade, lambda protector: replace(protector, client_id=client_id) if protector.order_id == order_id else protector
    )


def _each(trade: Held, change: Callable[[Protector], Protector | None]) -> Held:
    stop, target, trailing = (each and change(each) for each in (trade.stop, trade.target, trade.trailing))
    return replace(trade, stop=stop, target=target, trailing=trailing)


def require(lot: Lot, order: Placed) -> Lot:
    """The lot, with what an order on its trade says that it must have. A lot of nobody's must have nothing."""
    if not lot.deployment:
        return lot
    if order.type in STOPS:
        return replace(lot, stop=order.price if order.price is not None else lot.stop)
    if order.type == TARGET:
        return replace(lot, target=order.price if order.price is not None else lot.target)
    return replace(lot, trail=order.distance if order.distance is not None else lot.trail)


def stop_on_fill(order: Placed, units: Decimal, price: Decimal) -> Decimal | None:
    """The stop that goes with what an order opened, which may be asked for as a distance from its price."""
    if order.stop is not None or order.stop_distance is None:
        return order.stop
    return price - order.stop_distance.copy_sign(units)
