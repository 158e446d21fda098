"""Lots of owners and what reducing them realises: first in, first out for the lots, average price for the money. Pure.

The lots of one owner in one symbol all have one sign. An owner's average price is what the units that it holds cost on
average; reducing a position leaves it as it is, as in a backtest, whichever lot is reduced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from mbats.live.books.entries import ZERO
from mbats.live.books.parts import Held, Lot


@dataclass(frozen=True, slots=True)
class Dealt:
    """What dealing did to one owner: the lots that it reduced, the one that it opened, and the profit in the quote currency."""

    profit: Decimal
    reduced: tuple[str, ...]
    opened: str | None


class Holdings:
    """The lots of all owners, oldest first, and the average price of each (owner, symbol) that has any."""

    def __init__(self) -> None:
        self.lots: list[Lot] = []
        self.averages: dict[tuple[str, str], Decimal] = {}

    def position(self, owner: str, symbol: str) -> Decimal:
        """The signed units that an owner holds."""
        return sum((lot.units for lot in self.lots if lot.deployment == owner and lot.symbol == symbol), ZERO)

    def find_lot(self, lot_id: str | None) -> Lot | None:
        """The lot of this id, if it is still there."""
        return next((lot for lot in self.lots if lot.id == lot_id), None)

    def put_lot(self, lot: Lot) -> None:
        """Put a lot in the place of the one with its id."""
        self.lots = [lot if each.id == lot.id else each for each in self.lots]

    def deal(self, new: Lot, first: Sequence[str] = ()) -> Dealt:
        """Deal `new.units` at `new.price` for its owner: reduce what is opposite, the lots `first` before others, and open the
        rest as `new`..
        """
        key = new.deployment, new.symbol
        before = self.position(*key)
        if before * new.units >= 0:
            return Dealt(ZERO, (), self._open(new, before))
        closing = min(abs(new.units), abs(before))
        profit = closing.copy_sign(before) * (new.price - self.averages[key])
        reduced = self._reduce(key, closing, first)
        if closing == abs(before):
            del self.averages[key]
        rest = new.units - closing.copy_sign(new.units)
        return Dealt(profit, reduced, self._open(replace(new, units=rest), ZERO) if rest else None)

    def _open(self, new: Lot, before: Decimal) -> str:
        key = new.deployment, new.symbol
        average = self.averages.get(key, ZERO)
        self.averages[key] = (average * before + new.price * new.units) / (before + new.units) if before else new.price
        old = self.find_lot(new.id)
        if old is None:
            self.lots = [*self.lots, new]
        else:  # the same order again, which dealt in two parts
            units = old.units + new.units
            self.put_lot(
                replace(new, units=units, price=(old.price * old.units + new.price * new.units) / units, opened=old.opened)
            )
        return new.id

    def _reduce(self, key: tuple[str, str], units: Decimal, first: Sequence[str]) -> tuple[str, ...]:
        own = [lot for lot in self.lots if (lot.deployment, lot.symbol) == key]
        touched = []
        for lot in sorted(own, key=lambda lot: lot.id not in first):
            part = min(units, abs(lot.units))
            if part:
                left = lot.units - part.copy_sign(lot.units)
                self.lots = [replace(each, units=left) if each.id == lot.id else each for each in self.lots]
                touched.append(lot.id)
                units -= part
        self.lots = [lot for lot in self.lots if lot.units]
        return tuple(touched)


@dataclass(frozen=True, slots=True)
class Share:
    """How many units of a trade, without sign, are whose. `lot_id` is None where no lot answers for them."""

    owner: str
    lot_id: str | None
    units: Decimal


def share_out(
    lots: Sequence[Lot],
    trades: Mapping[int, Held],
    made: Mapping[int, str],
    trade: Held,
    units: Decimal,
    *,
    lot_id: str | None = None,
    owner: str | None = None,
) -> list[Share]:
    """Whose `units` of a trade are, in the order in which they end, so that ending them never turns anybody's position round.

    First the lot `lot_id` and the other lots of `owner`, where they are given; then the lot that the trade was opened with;
    then lots that no trade of their own covers, and any others; all of the trade's sign. `made` says which lot each trade
    opened. Units that no lot answers for are `owner`'s, or nobody's.
    """
    same = [lot for lot in lots if lot.symbol == trade.symbol and lot.units * trade.units > 0]
    covered = {made[each.id]: abs(each.units) for each in trades.values() if each.id in made}
    own = made.get(trade.id)
    free = {lot.id: abs(lot.units) for lot in same}
    uncovered = {lot.id: max(ZERO, abs(lot.units) - covered.get(lot.id, ZERO)) for lot in same}
    turns = [(lot, free) for lot in same if lot.id == lot_id]
    turns += [(lot, free) for lot in same if lot.deployment == owner]
    turns += [(lot, free) for lot in same if lot.id == own]
    turns += [(lot, uncovered) for lot in same]
    turns += [(lot, free) for lot in same]
    left, shares = abs(units), dict[str, Share]()
    for lot, most in turns:
        taken = shares[lot.id].units if lot.id in shares else ZERO
        part = min(left, most[lot.id] - taken)
        if part > 0:
            shares[lot.id] = Share(lot.deployment, lot.id, taken + part)
            left -= part
    return [*shares.values(), *([Share(owner or "", None, left)] if left else [])]
