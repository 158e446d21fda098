"""An order of Backtrader as a message to the trader, or the reason why it cannot be had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from backtrader import Order

from mbats.live.process.ending import ending
from mbats.live.wire import Exit, Form, Submit
from mbats.market import Granularity, Instrument
from mbats.trading.costs import exact

FORMS = {
    Order.Market: Form.MARKET,
    Order.Limit: Form.LIMIT,
    Order.Stop: Form.STOP,
    Order.StopLimit: Form.STOP_LIMIT,
    Order.StopTrail: Form.STOP_TRAIL,
    Order.StopTrailLimit: Form.STOP_TRAIL_LIMIT,
}
TRAILING = (Order.StopTrail, Order.StopTrailLimit)


@dataclass(frozen=True, slots=True)
class Impossible:
    """What no order of the broker's can do: a word for the strategy, a sentence for people."""

    reason: str
    detail: str


def submission(
    order: Any, children: Sequence[Any], *, bar: datetime, granularity: Granularity, instrument: Instrument, oco: int
) -> Submit | Impossible:
    """What the trader is asked for an order that fits the instrument, and for the stop and target that go with it."""
    form = FORMS.get(order.exectype)
    if form is None:
        return Impossible("ORDER_TYPE_UNKNOWN", f"no broker's order is like {Order.ExecTypes[order.exectype]}")
    trail = _trail(order, instrument)
    if order.exectype in TRAILING and not trail:
        return Impossible("TRAIL_INVALID", "a trailing stop needs trailamount or trailpercent, more than zero")
    exits: dict[str, Exit] = {}
    for child in children:
        kind = {Order.Stop: "stop", Order.StopTrail: "stop", Order.Limit: "target"}.get(child.exectype)
        if kind is None or kind in exits:
            return Impossible("BRACKET_UNKNOWN", "a bracket has one stop, trailing or not, and one limit as its target")
        misfit = _misfit(order, child, kind)
        if misfit:
            return Impossible("BRACKET_UNKNOWN", misfit)
        distance = _trail(child, instrument)
        if child.exectype in TRAILING and not distance:
            return Impossible("TRAIL_INVALID", "a trailing stop needs trailamount or trailpercent, more than zero")
        exits[kind] = Exit(child.ref, trail=distance) if distance else Exit(child.ref, price=exact(child.created.price))
    valid_until, day = ending(order, granularity)
    return Submit(
        ref=order.ref,
        symbol=instrument.name,
        units=exact(order.size),
        form=form,
        bar=bar,
        price=None if form is Form.MARKET else exact(order.created.price),
        limit=exact(order.created.pricelimit) if form in (Form.STOP_LIMIT, Form.STOP_TRAIL_LIMIT) else None,
        trail=trail,
        valid_until=valid_until,
        day=day,
        oco=oco,
        stop=exits.get("stop"),
        target=exits.get("target"),
    )


def _misfit(order: Any, child: Any, kind: str) -> str:
    """Why the broker cannot tie this stop or target to what its entry opens; empty when it can."""
    if child.data is not order.data or child.isbuy() == order.isbuy():
        return f"the {kind} must be of the entry's symbol and on its other side"
    if abs(child.size) != abs(order.size):
        return f"the {kind} closes the whole of what its entry opens: {abs(order.size)} units, not {abs(child.size)}"
    if child.p.valid not in (None, order.p.valid):
        return f"the {kind} stands until it is cancelled or its trade is closed, and cannot end at {child.p.valid}"
    return ""


def _trail(order: Any, instrument: Instrument) -> Decimal | None:
    """The distance of a trailing stop, cut to the instrument's precision. The broker knows distances alone, so that a
    percentage is taken once, of the price from which the order begins to trail."""
    if order.exectype not in TRAILING:
        return None
    start = order.p.price or order.created.pclose
    distance = order.trailamount or (order.trailpercent or 0.0) * start
    if not math.isfinite(distance) or distance <= 0:
        return None
    return exact(round(float(distance), instrument.display_precision)) or None
