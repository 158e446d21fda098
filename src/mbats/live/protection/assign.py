"""Which of the broker's trades stands for which lot, so that its stop and target can be on it. Pure.

A stop on a trade is better than a STOP order: it can open nothing, it ends with the trade, and it closes this trade, where a STOP
order closes the oldest one, whoever's stop is on that. But it closes the whole trade, so a trade may stand for a lot only as long
as it is not larger than what is left of the lot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from mbats.live.books import Held, Lot, Protector
from mbats.live.books.protecting import lot_named
from mbats.live.ids import is_ours
from mbats.live.protection.actions import can_be_named


def assign(lots: Mapping[str, Lot], trades: Iterable[Held]) -> dict[int, Lot]:
    """The lot of each trade that may stand for one; other trades must not have a stop or target.

    `lots` are ours in one symbol, by id, `trades` ours in it. A trade stays with the lot that its stop is for, else belongs to
    the lot that it was opened with, else is given to a lot of which something was netted away: when a STOP order opens what
    others hold, it leaves a trade without a lot of its own. A lot with a trailing stop is given none: it would begin to trail
    anew, from a worse price.
    """
    left = {lot.id: abs(lot.units) for lot in lots.values()}
    given: dict[int, Lot] = {}
    by_size = sorted(trades, key=lambda trade: (-abs(trade.units), trade.id))

    def give(trade: Held, lot: Lot) -> None:
        given[trade.id] = lot
        left[lot.id] -= abs(trade.units)

    for trade in sorted(by_size, key=lambda trade: trade.client_id != guarded_lot(trade)):
        lot = lots.get(guarded_lot(trade) or "")
        if lot is not None and (lot.id == trade.client_id or _takes_others(lot)) and _fits(trade, lot, left):
            give(trade, lot)
    for trade in by_size:
        lot = lots.get(trade.client_id or "")
        if trade.id not in given and lot is not None and _fits(trade, lot, left):
            give(trade, lot)
    for trade in by_size:
        wanting = [lot for lot in lots.values() if _takes_others(lot) and _fits(trade, lot, left)]
        if trade.id not in given and wanting:
            give(trade, min(wanting, key=lambda lot: (left[lot.id], lot.opened, lot.id)))
    return given


def guarded_lot(trade: Held) -> str | None:
    """The id of the lot that the stop on a trade is for; None without a stop."""
    stop = trade.stop or trade.trailing
    return None if stop is None else lot_of(trade, stop)


def lot_of(trade: Held, protector: Protector) -> str | None:
    """The id of the lot that an order on a trade is for, by its name; if that is not ours, of the trade's own lot."""
    return lot_named(protector.client_id) if is_ours(protector.client_id) else trade.client_id


def _fits(trade: Held, lot: Lot, left: Mapping[str, Decimal]) -> bool:
    return trade.units * lot.units > 0 and abs(trade.units) <= left[lot.id]


def _takes_others(lot: Lot) -> bool:
    return lot.stop is not None and lot.trail is None and can_be_named(lot)
