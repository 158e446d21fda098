"""How many units an account could trade at the prices of the moment, before its margin is used up."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from mbats.simulator.core.account import Account
from mbats.simulator.core.valuation import Valuation, margin_of
from mbats.simulator.core.values import ZERO
from mbats.simulator.quotes import Conversion, Quote

FAR = Decimal(10) ** 12  # more units than any account carries: there margin grows by the same with every unit


@dataclass(frozen=True, slots=True)
class UnitsAvailable:
    """Units without sign that could be bought and sold, by what the order may do with the position."""

    reduce_first: tuple[Decimal, Decimal]
    reduce_only: tuple[Decimal, Decimal]
    open_only: tuple[Decimal, Decimal]


def units_available(account: Account, worth: Valuation, quote: Quote, base: Conversion, counter: Conversion) -> UnitsAvailable:
    """By the same rule by which a fill is refused for want of margin, at the top of the book.

    `base` and `counter` convert the pair's currencies into the account's.
    """
    long, short = account.units(quote.instrument.name)
    opposite = (-short, long)  # what there is to reduce for a buyer, for a seller
    room = _Room(account, worth, quote, base, counter)
    reduce_first = (room.units(1, opposite[0]), room.units(-1, opposite[1]))
    alone = [
        ZERO if there and not account.config.hedging else room.units(sign, ZERO)
        for sign, there in zip((1, -1), opposite, strict=True)
    ]
    return UnitsAvailable(reduce_first, opposite, (alone[0], alone[1]))


@dataclass(frozen=True, slots=True)
class _Room:
    account: Account
    worth: Valuation
    quote: Quote
    base: Conversion
    counter: Conversion

    def units(self, sign: int, reduces: Decimal) -> Decimal:
        """The largest order of this side that ends `reduces` units first and opens the rest."""
        before, slope, rest = self._margin(sign, ZERO, ZERO), self._slope(sign, reduces), ZERO
        if slope <= 0:
            return ZERO
        rest = self._margin(sign, FAR, reduces) - slope * FAR  # from some size on, the margin is rest + slope · units
        cost = (self.quote.ask - self.quote.bid) / 2 * self.counter.loss  # what each unit loses at once, against mid
        others = self.worth.closeout_margin_used - before
        # An order that does not raise the margin is never refused; another is, when what is left does not cover it.
        most = max((before - rest) / slope, (self.worth.closeout_nav - others - rest) / (slope + cost), ZERO)
        return most.quantize(Decimal(1).scaleb(-self.quote.instrument.units_precision), ROUND_FLOOR)

    def _slope(self, sign: int, reduces: Decimal) -> Decimal:
        return (self._margin(sign, 2 * FAR, reduces) - self._margin(sign, FAR, reduces)) / FAR

    def _margin(self, sign: int, units: Decimal, reduces: Decimal) -> Decimal:
        """The margin of the pair after an order of so many units."""
        long, short = self.account.units(self.quote.instrument.name)
        ends = min(units, reduces)
        opens = units - ends
        if sign > 0:
            long, short = long + opens, short + ends
        else:
            long, short = long - ends, short - opens
        return margin_of(self.account, self.quote.instrument, long, short, self.base)
