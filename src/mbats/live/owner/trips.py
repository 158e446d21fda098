"""Round trips of a deployment, from flat to flat or to the other side, as fills come. Pure; JSON keeps them over a restart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Trip:
    """A round trip that is open. `opened_value` and `closed_value` are units × price; costs are positive money.

    `best` and `worst` are the highest and lowest open profit seen, the first never below zero and the second never above.
    """

    transaction_id: int
    symbol: str
    side: int
    opened_at: datetime
    opened: Decimal = ZERO
    opened_value: Decimal = ZERO
    closed: Decimal = ZERO
    closed_value: Decimal = ZERO
    pnl: Decimal = ZERO
    spread_cost: Decimal = ZERO
    slippage_cost: Decimal = ZERO
    financing: Decimal = ZERO
    best: Decimal = ZERO
    worst: Decimal = ZERO

    @property
    def units(self) -> Decimal:
        """What is open of it, signed."""
        return self.side * (self.opened - self.closed)

    def seen(self, open_profit: Decimal) -> Trip:
        """After a look at what it would make now."""
        now = self.pnl + open_profit
        return replace(self, best=max(self.best, now), worst=min(self.worst, now))


@dataclass(frozen=True, slots=True)
class Dealt:
    """A fill as the trips see it; `pnl` is what its closing part realised."""

    transaction_id: int
    time: datetime
    symbol: str
    units: Decimal
    price: Decimal
    pnl: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    before: Decimal


def deal(trip: Trip | None, fill: Dealt) -> tuple[Trip | None, Trip | None]:
    """The round trip that is over with this fill, if one is, and the one that is open after it, if one is."""
    side = 1 if fill.units > 0 else -1
    size = abs(fill.units)
    closing = min(size, abs(fill.before)) if fill.before * side < 0 else ZERO
    spread = fill.spread_cost if closing == size else fill.spread_cost * closing / size
    slippage = fill.slippage_cost if closing == size else fill.slippage_cost * closing / size
    over = None
    if trip is not None and closing:
        trip = replace(
            trip,
            closed=trip.closed + closing,
            closed_value=trip.closed_value + closing * fill.price,
            pnl=trip.pnl + fill.pnl,
            spread_cost=trip.spread_cost + spread,
            slippage_cost=trip.slippage_cost + slippage,
        )
        if trip.opened == trip.closed:
            over, trip = trip, None
    opening = size - closing
    if opening:
        trip = trip or Trip(fill.transaction_id, fill.symbol, side, fill.time)
        trip = replace(
            trip,
            opened=trip.opened + opening,
            opened_value=trip.opened_value + opening * fill.price,
            spread_cost=trip.spread_cost + fill.spread_cost - spread,
            slippage_cost=trip.slippage_cost + fill.slippage_cost - slippage,
        )
    return over, trip
