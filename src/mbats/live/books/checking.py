"""Whether the books agree with themselves: positions with trades, sums with the balance. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mbats.live.books.entries import ZERO
from mbats.live.books.parts import Held, Lot

if TYPE_CHECKING:
    from mbats.live.books.account import Books


def check_positions(lots: Sequence[Lot], trades: Iterable[Held]) -> list[str]:
    """Where the owners' positions and the broker's are not the same, or trades of one symbol have two signs."""
    held = list(trades)
    wrong = []
    for symbol in sorted({lot.symbol for lot in lots} | {trade.symbol for trade in held}):
        owners = sum((lot.units for lot in lots if lot.symbol == symbol), ZERO)
        broker = sum((trade.units for trade in held if trade.symbol == symbol), ZERO)
        if owners != broker:
            wrong.append(f"{symbol}: the owners hold {owners} units together, the broker {broker}.")
        if len({trade.units > 0 for trade in held if trade.symbol == symbol}) > 1:
            wrong.append(f"{symbol}: the broker holds long and short trades at once, as a hedging account does.")
    return wrong


def check_money(books: Books) -> list[str]:
    """Where the parts of the balance do not add up to it, or nothing explains a part."""
    by_owner = (books.realised, books.financing, books.costs)
    parts = books.start + books.transferred + books.unexplained + sum((sum(of.values(), ZERO) for of in by_owner), ZERO)
    wrong = []
    if parts != books.balance:
        wrong.append(f"The balance is {books.balance} {books.currency}, its parts come to {parts}.")
    if books.unexplained:
        wrong.append(f"The broker's balance holds {books.unexplained} {books.currency} that none of its transactions explains.")
    return wrong
