"""From the books to what must be done so that every lot has exactly the stop that it must have. Pure.

    plan(books, "EUR_USD", instrument, levels)

After the actions of a plan have happened, there are none. Ask again after each transaction, but not while requests of the last
plan are on their way: they would be asked for twice. A stop that the price has passed deals as it is placed, and takes the oldest
trades; what is left of the plan is then not to be sent.

Order: what protects comes first (STOP orders, then stops on trades, the smaller trade first, because a trade that is given to
another lot leaves its old one), then STOP orders become smaller, then what is too much is taken away. So a lot is never less
protected than before. For the length of a request two stops may stand for the same units, and close them twice if the price is
there just then. The other order would leave units without any stop, and a crash in between would leave them so until the next
start, at every price; so this one was chosen. Where one request does both (a stop replaced on a trade, a STOP order moved), there
is neither.

A target of netted units never stands at the broker: with the STOP order beside it both could fill. Nor does one on a trade that
was given to the lot: that has another price than the lot, and the broker takes no target at which it would lose.

What a person changes on the trade that a lot was opened with is what the lot must have from then on, as the books have it. On
other trades of ours, stops and targets are arranged here alone: another's could close units twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from mbats.live.books import Books, Held, Lot, Pending, Protector
from mbats.live.books.protecting import lot_named
from mbats.live.ids import is_ours
from mbats.live.protection.actions import (
    Action,
    ArmedTarget,
    Attach,
    CancelOrder,
    MoveStop,
    Naked,
    PlaceStop,
    Plan,
    can_be_named,
)
from mbats.live.protection.assign import assign, guarded_lot, lot_of
from mbats.live.protection.trailing import STEPS, Levels, first_level, nearer
from mbats.market import Instrument
from mbats.oanda.precision import quantise_price, quantise_units
from mbats.oanda.trading import KEEP, Keep

ZERO = Decimal(0)


def plan(books: Books, symbol: str, instrument: Instrument, levels: Levels | None = None) -> Plan:
    """What is to be done for the lots of all deployments in one symbol. Orders, trades and lots of others are left alone.

    `levels` are those of trailing stops; without one a STOP order stays where it is, and a new one begins where the lot's did.
    Units that are fewer than the instrument's smallest order cannot have a STOP order, and stay naked.
    """
    lots = {lot.id: lot for lot in books.lots if lot.deployment and lot.symbol == symbol}
    trades = [trade for trade in books.trades.values() if trade.symbol == symbol and is_ours(trade.client_id)]
    stops = net_stops(books, symbol)
    given = assign(lots, trades)
    placing: list[Action] = []
    shrinking: list[Action] = []
    ending: list[Action] = []
    armed = []
    for lot in lots.values():
        standing = [trade for trade in trades if given.get(trade.id) is lot]
        netted = abs(lot.units) - _size(standing)
        grows, shrinks, ends = _net_stop(lot, netted, stops.pop(lot.id, []), instrument, levels or Levels())
        placing += grows
        shrinking += shrinks
        ending += ends
        watched = abs(lot.units) - _size(trade for trade in standing if trade.client_id == lot.id)
        if lot.target is not None and watched:
            armed.append(ArmedTarget(lot.id, watched.copy_sign(-lot.units), quantise_price(lot.target, instrument)))
    ending += [CancelOrder(order.id, "its lot is gone") for orders in stops.values() for order in orders]
    attaching: list[Action] = []
    for trade in sorted(trades, key=lambda trade: (_is_of_another(trade, given.get(trade.id)), abs(trade.units), trade.id)):
        action = _attach(trade, given.get(trade.id), instrument)
        if action is not None:
            (ending if trade.id not in given else attaching).append(action)
    return Plan((*placing, *attaching, *shrinking, *ending), tuple(armed), naked(books, symbol))


def net_stops(books: Books, symbol: str) -> dict[str, list[Pending]]:
    """The STOP orders of netted units that stand at the broker, by the id of the lot that they are for."""
    found: dict[str, list[Pending]] = {}
    for order in sorted(books.pending.values(), key=lambda order: order.id):
        lot_id = lot_named(order.client_id)
        if lot_id is not None and order.symbol == symbol:
            found.setdefault(lot_id, []).append(order)
    return found


def naked(books: Books, symbol: str) -> tuple[Naked, ...]:
    """The lots that must have a stop and for whose units, or some of them, none stands at the broker now, at whatever price."""
    covered: dict[str | None, Decimal] = {}
    for trade in books.trades.values():
        if trade.symbol == symbol:
            lot_id = guarded_lot(trade)
            covered[lot_id] = covered.get(lot_id, ZERO) + trade.units
    for lot_id, orders in net_stops(books, symbol).items():
        covered[lot_id] = covered.get(lot_id, ZERO) - sum((order.units for order in orders), ZERO)
    found = []
    for lot in books.lots:
        if lot.symbol == symbol and lot.deployment and (lot.stop is not None or lot.trail is not None):
            has = covered.get(lot.id, ZERO)
            missing = abs(lot.units) - (abs(has) if has * lot.units > 0 else ZERO)
            if missing > 0:
                found.append(Naked(lot.id, missing.copy_sign(lot.units)))
    return tuple(found)


# --- STOP orders of netted units -------------------------------------------------------------------------------------------


def _net_stop(
    lot: Lot, rest: Decimal, orders: list[Pending], instrument: Instrument, levels: Levels
) -> tuple[list[Action], list[Action], list[Action]]:
    """One STOP order for the units that no trade stands for, and none else: what is to be new or to grow, to shrink, to end."""
    units = quantise_units(rest, instrument).copy_sign(-lot.units)
    price = _stop_price(lot, orders, instrument, levels)
    if price is None or not units or not can_be_named(lot):
        return [], [], [CancelOrder(order.id, "its lot needs no stop of its own any more") for order in orders]
    if not orders:
        return [PlaceStop(lot.id, units, price)], [], []
    kept = min(orders, key=lambda order: (order.price != price, order.units != units, -abs(order.units), order.id))
    ending: list[Action] = [CancelOrder(order.id, "another stands for the same units") for order in orders if order is not kept]
    if (kept.units, kept.price) == (units, price):
        return [], [], ending
    move = MoveStop(kept.id, lot.id, units, price)
    smaller = units * kept.units > 0 and abs(units) < abs(kept.units)
    return ([], [move], ending) if smaller else ([move], [], ending)


def _stop_price(lot: Lot, orders: list[Pending], instrument: Instrument, levels: Levels) -> Decimal | None:
    """Where the stop of netted units must stand. A trailing one never goes back, and moves in steps."""
    stop = None if lot.stop is None else quantise_price(lot.stop, instrument)
    if lot.trail is None:
        return stop
    level = quantise_price(levels.prices.get(lot.id, first_level(lot, lot.trail)), instrument)
    level = level if stop is None else nearer(lot, stop, level)
    standing = [order.price for order in orders if order.price is not None]
    if not standing:
        return level
    best = max(standing) if lot.units > 0 else min(standing)
    behind = level - best if lot.units > 0 else best - level
    step = max(lot.trail / STEPS, Decimal(1).scaleb(-instrument.display_precision))
    return level if behind >= step or (level == stop and behind > 0) else best


# --- Stops and targets on trades -------------------------------------------------------------------------------------------


def _attach(trade: Held, lot: Lot | None, instrument: Instrument) -> Attach | None:
    """What is to change on a trade: it has what its lot must have, or nothing if it stands for none."""
    if lot is None:
        action = Attach(trade.id, None, _without(trade.stop), _without(trade.trailing), _without(trade.target))
    else:
        action = Attach(
            trade.id,
            lot.id,
            stop=_with(trade, trade.stop, lot.stop, lot, instrument),
            trail=_with(trade, trade.trailing, lot.trail, lot, instrument),
            target=_with(trade, trade.target, lot.target if trade.client_id == lot.id else None, lot, instrument),
        )
    return None if action.stop is action.trail is action.target is KEEP else action


def _without(standing: Protector | None) -> Keep | None:
    return KEEP if standing is None else None


def _with(
    trade: Held, standing: Protector | None, wanted: Decimal | None, lot: Lot, instrument: Instrument
) -> Decimal | Keep | None:
    if wanted is None:
        return _without(standing)
    value = quantise_price(wanted, instrument)
    right = standing is not None and value in (standing.price, standing.distance) and lot_of(trade, standing) == lot.id
    return KEEP if right else value


def _size(trades: Iterable[Held]) -> Decimal:
    return sum((abs(trade.units) for trade in trades), ZERO)


def _is_of_another(trade: Held, lot: Lot | None) -> bool:
    """Whether a trade's stop is for another lot than the one that it is to stand for."""
    guarded = guarded_lot(trade)
    return guarded is not None and (lot is None or guarded != lot.id)
