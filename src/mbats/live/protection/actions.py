"""What is to be asked of the broker, and watched by the trader, so that every lot has the stop and target that it must have."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from mbats.live.books import Lot
from mbats.live.books.protecting import lot_named
from mbats.oanda.trading import KEEP, Keep


@dataclass(frozen=True, slots=True)
class Attach:
    """Orders of a trade, in one request (`PUT trades/{id}/orders`): each is set, cancelled (None) or left alone (KEEP).

    `stop` and `target` are prices, `trail` a distance. They are for the lot `lot_id` and must carry its name (`protector_name`),
    or a fill would be booked for another; None when all that is asked is to take away.
    """

    trade_id: int
    lot_id: str | None
    stop: Decimal | Keep | None = KEEP
    trail: Decimal | Keep | None = KEEP
    target: Decimal | Keep | None = KEEP


@dataclass(frozen=True, slots=True)
class PlaceStop:
    """A STOP order for units of a lot that were netted away. `units` have the order's sign. positionFill is DEFAULT.

    It may open a trade at the broker: what is then left is the others'.
    """

    lot_id: str
    units: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class MoveStop:
    """Another size or price for such a STOP, in one request (`PUT orders/{id}`): there is no moment without one, or with two."""

    order_id: int
    lot_id: str
    units: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Take a STOP of netted units away. `why` is for people."""

    order_id: int
    why: str


Action = Attach | PlaceStop | MoveStop | CancelOrder


@dataclass(frozen=True, slots=True)
class ArmedTarget:
    """A target that is not at the broker, but watched by the trader: at `price` or better, deal `units` (the order's sign)."""

    lot_id: str
    units: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Naked:
    """Units (the lot's sign) that must have a stop and for which none stands at the broker at this moment (R18)."""

    lot_id: str
    units: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    """`actions` are to be done one after the other, in this order. Empty when everything is as it must be."""

    actions: tuple[Action, ...] = ()
    armed: tuple[ArmedTarget, ...] = ()
    naked: tuple[Naked, ...] = ()


def can_be_named(lot: Lot) -> bool:
    """Whether orders for this lot can carry its name: not if the order that opened it was none of ours."""
    return lot_named(f"{lot.id}.sl") == lot.id


def protector_name(lot_id: str, ending: str, trade_id: int, *, own: bool) -> str:
    """The client id of a stop (`sl`), trailing stop (`ts`) or target (`tp`) of a lot on a trade.

    On the lot's `own` trade it is the one that goes with an entry; on another the trade's number tells them apart, since no two
    orders that stand may have one id.
    """
    return f"{lot_id}.{ending}" if own else f"{lot_id}.{ending}-{trade_id}"


def net_stop_name(lot_id: str, number: int) -> str:
    """The client id of the lot's `number`th STOP order of netted units; the caller counts, so that none is used twice."""
    return f"{lot_id}.net{number}"
