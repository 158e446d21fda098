"""Which of the broker's trades and orders stand for a lot. Pure."""

from __future__ import annotations

from mbats.live.books import Books, Held, Lot, Pending
from mbats.live.books.protecting import lot_named, role_named
from mbats.live.ids import is_ours
from mbats.live.protection.assign import assign


def own_trades(books: Books, lot: Lot) -> list[Held]:
    """The lot's own trade, and those that were given to it: each trade stands for one lot at most, which its stop is for."""
    lots = {each.id: each for each in books.lots if each.deployment and each.symbol == lot.symbol}
    trades = sorted((each for each in books.trades.values() if each.symbol == lot.symbol), key=lambda each: each.id)
    given = assign(lots, (each for each in trades if is_ours(each.client_id)))
    return [
        each
        for each in trades
        if given.get(each.id) == lot or (lot.id == f"trade:{each.id}" and each.units * lot.units > 0 and each.id not in given)
    ]


def standalone_stops(books: Books, lot: Lot) -> list[Pending]:
    """The stops of what of the lot was netted away."""
    return [order for order in books.pending.values() if (order.client_id or "").startswith(f"{lot.id}.net")]


def base_lot(name: str | None) -> tuple[str, str]:
    """The lot whose stop or target carries this name, and which of the two it is: ("", "") for other names."""
    lot, role = lot_named(name), role_named(name)
    return ("", "") if lot is None or role is None else (lot, role)
