"""How large everything could become if every order that is out were filled, in whatever order, and what a new one can close.

No order is taken to close another's position: between decision and fill a stop may have closed it, and the order would then open
its whole size. What closes for certain is `reduce_only`, counts nothing here, and is why a flip goes as two orders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from mbats.live.gate.orders import Kind, Order, Working
from mbats.live.gate.view import View

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Reach:
    """The largest long and short position, in units, that one owner could come to hold in one symbol."""

    long: Decimal = ZERO
    short: Decimal = ZERO

    @property
    def most(self) -> Decimal:
        return max(self.long, self.short)

    def plus(self, units: Decimal) -> Reach:
        return Reach(self.long + max(units, ZERO), self.short + max(-units, ZERO))


Reaches = dict[tuple[str, str], Reach]


def still_working(view: View, order: Order) -> tuple[Working, ...]:
    """The orders that are out, without the one that this order replaces."""
    return tuple(other for other in view.working if order.replaces is None or other.id != order.replaces)


def reaches(view: View, order: Order) -> Reaches:
    """By owner and symbol, with `order` sent as well."""
    found: Reaches = {place: Reach().plus(units) for place, units in view.positions.items()}
    adding: Iterable[tuple[str, str, Decimal]] = (
        (other.owner, other.symbol, other.units) for other in still_working(view, order) if not other.reduce_only
    )
    for owner, symbol, units in (*adding, (order.deployment, order.symbol, order.units)):
        found[owner, symbol] = found.get((owner, symbol), Reach()).plus(units)
    return found


def closable(view: View, order: Order) -> Decimal:
    """The signed units of the deployment's position that no market order in flight is closing already."""
    held = view.positions.get((order.deployment, order.symbol), ZERO)
    in_flight = sum(
        (
            abs(other.units)
            for other in still_working(view, order)
            if (other.owner, other.symbol) == (order.deployment, order.symbol)
            and other.kind is Kind.MARKET
            and (other.units > 0) != (held > 0)
        ),
        ZERO,
    )
    return max(ZERO, abs(held) - in_flight) * (1 if held > 0 else -1)


def reduces(view: View, order: Order) -> bool:
    """Whether the order can do nothing but make the deployment's own position smaller.

    A pending order must be `reduce_only` for that: it may be triggered when the position is long gone. Stops and targets may
    overlap each other and a market close, as brackets do. While positions are not known, the promise alone counts.
    """
    if not view.known and order.reduce_only:
        return True
    if order.kind is not Kind.MARKET and not order.reduce_only:
        return False
    held = view.positions.get((order.deployment, order.symbol), ZERO) if order.kind is not Kind.MARKET else closable(view, order)
    return held * order.units < 0 and abs(order.units) <= abs(held)


def split_flip(order: Order, view: View) -> tuple[Order, ...]:
    """A market order as what it closes and what it opens: one order, or two that are judged and sent one after the other.

    `order_target_size(-1000)` from a position of 1000 becomes a close of 1000 and a sale of 1000 more. The close passes where
    nothing new may be opened, and neither can become larger than asked when a stop is faster.
    """
    held = closable(view, order)
    if order.kind is not Kind.MARKET or order.reduce_only or held * order.units >= 0:
        return (order,)
    if abs(order.units) <= abs(held):
        return (replace(order, reduce_only=True),)
    close = replace(order, units=-held, reduce_only=True, purpose=f"{order.purpose}-close")
    return close, replace(order, units=order.units + held, purpose=f"{order.purpose}-open")


def gross(view: View, found: Reaches) -> Decimal:
    """What all positions are worth together. Raises KeyError when a conversion is missing."""
    return sum((reach.most * worth(view, symbol) for (_, symbol), reach in found.items()), ZERO)


def of_currency(view: View, found: Reaches, currency: str) -> Decimal:
    """What is held long in a currency, or short, whichever is more; the two are not set off, because either may be closed first.

    Raises KeyError when a conversion is missing.
    """
    long = short = ZERO
    for (_, symbol), reach in found.items():
        if currency in symbol.split("_"):
            up, down = reach.long * worth(view, symbol), reach.short * worth(view, symbol)
            is_base = symbol.split("_")[0] == currency
            long += up if is_base else down
            short += down if is_base else up
    return max(long, short)


def margin(view: View, found: Reaches, order: Order) -> Decimal:
    """The margin that could be used after all fills: by our own count, or by the broker's plus what is out, if that is more.

    The broker's counts because it may use a higher rate than the instrument's. Raises KeyError when a rate is missing.
    """
    own = sum((reach.most * margin_of_unit(view, symbol) for (_, symbol), reach in found.items()), ZERO)
    out = sum(
        (abs(other.units) * margin_of_unit(view, other.symbol) for other in still_working(view, order) if not other.reduce_only),
        abs(order.units) * margin_of_unit(view, order.symbol),
    )
    return max(own, view.margin_used + out)


def worth(view: View, symbol: str) -> Decimal:
    """What one unit of a symbol is worth in the account's currency, at mid. Raises KeyError when the conversion is missing."""
    return view.home[symbol.split("_")[0]]


def margin_of_unit(view: View, symbol: str) -> Decimal:
    """The margin of one unit: OANDA's rate × units × mid, in the account's currency. Raises KeyError."""
    return view.instruments[symbol].margin_rate * worth(view, symbol)
