"""Which of the broker's trades and orders stand for a lot. Pure."""

from __future__ import annotations

from mbats.live.books import Books, Held, Lot, Pending
from mbats.live.books.protecting import lot_named, role_named


def own_trades(books: Books, lot: Lot) -> list[Held]:
    """The lot's own trade, and one that was given to it: its stop or target hangs there."""
    found = []
    for trade in sorted(books.trades.values(), key=lambda each: each.id):
        if trade.symbol != lot.symbol or trade.units * lot.units <= 0:
            continue
        bound = (trade.stop, trade.target, trade.trailing)
        if lot.id in (trade.client_id, f"trade:{trade.id}") or any(
            each is not None and base_lot(each.client_id)[0] == lot.id for each in bound
        ):
            found.append(trade)
    return found


def standalone_stops(books: Books, lot: Lot) -> list[Pending]:
    """The stops of what of the lot was netted away."""
    return [order for order in books.pending.values() if (order.client_id or "").startswith(f"{lot.id}.net")]


def base_lot(name: str | None) -> tuple[str, str]:
    """The lot whose stop or target carries this name, and which of the two it is: ("", "") for other names."""
    lot, role = lot_named(name), role_named(name)
    return ("", "") if lot is None or role is None else (lot, role)
