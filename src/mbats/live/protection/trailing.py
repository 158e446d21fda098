"""How far the stops of lots have trailed, as the trader saw it. Pure.

The broker moves the stop of a trade by itself. For units that were netted away there is no trade: there the trader moves a STOP
order after the price. It follows all lots that must have a trailing stop, so that it knows the level when one is netted away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from mbats.live.books import Books, Lot
from mbats.live.gate import Quote

STEPS = 10  # a STOP order is moved when it is behind by a tenth of the distance; a move for each price would be too many


@dataclass(frozen=True, slots=True)
class Levels:
    """The stop price that each lot's trailing stop has reached, by lot id; `to_json` of `mbats.live.gate` writes it."""

    prices: Mapping[str, Decimal] = field(default_factory=dict)


def follow(levels: Levels, books: Books, symbol: str, quote: Quote) -> Levels:
    """The levels after this quote of `symbol`; lots that are gone are forgotten. A quote that cannot be traded on moves none."""
    prices = {lot.id: levels.prices[lot.id] for lot in books.lots if lot.trail is not None and lot.id in levels.prices}
    if quote.sound and quote.tradeable:
        for lot in books.lots:
            if lot.symbol == symbol and lot.deployment and lot.trail is not None:
                now = quote.bid - lot.trail if lot.units > 0 else quote.ask + lot.trail
                prices[lot.id] = nearer(lot, now, prices.get(lot.id, first_level(lot, lot.trail)))
    return Levels(prices)


def first_level(lot: Lot, trail: Decimal) -> Decimal:
    """Where a trailing stop of this distance stands when the lot is opened."""
    return lot.price - trail.copy_sign(lot.units)


def nearer(lot: Lot, one: Decimal, other: Decimal) -> Decimal:
    """The stop price that is reached first: the higher one for a long lot."""
    return max(one, other) if lot.units > 0 else min(one, other)
