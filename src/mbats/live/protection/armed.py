"""Orders in forms that OANDA does not have: the trader watches the price for them, and says what to send when it comes. Pure.

    armed = arm(submit, quote)
    armed, fire = observe(armed, quote)      # for each quote, in order; fire is None until the price has come, and once only

Stops look at the side on which they deal, as OANDA's DEFAULT does: a buy at the ask, a sale at the bid. A trailing stop keeps its
distance from the best price since it was armed, and never goes back. `to_json` and `read_json` of `mbats.live.gate` write and
read an Armed, which outlives a restart; what the price did in between, nobody watched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from mbats.live.gate import Quote
from mbats.live.gate.calendar import day_start, trading_day
from mbats.live.protection.actions import ArmedTarget
from mbats.live.wire import Form, Submit

FORMS = (Form.STOP_LIMIT, Form.STOP_TRAIL, Form.STOP_TRAIL_LIMIT)
LIMITED = (Form.STOP_LIMIT, Form.STOP_TRAIL_LIMIT)
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Armed:
    """An order that waits for `level`; `limit` is that of the limit order which it becomes, and moves with the level.

    It is over at `until` (UTC). One that has `fired` never fires again. `seen` is the time of the last quote that it took in.
    """

    submit: Submit
    level: Decimal
    limit: Decimal | None
    until: datetime | None
    seen: datetime
    fired: bool = False

    @property
    def buys(self) -> bool:
        return self.submit.units > 0


@dataclass(frozen=True, slots=True)
class Fire:
    """The price has come: `order` is to be judged and sent in the place of what was armed, under the same `ref`.

    It is a MARKET order, or a LIMIT at its `price`, with the stop, target and end of the one that was armed. `level` was reached
    at `at`.
    """

    order: Submit
    level: Decimal
    at: datetime


def arm(submit: Submit, quote: Quote) -> Armed:
    """Begin to watch. `price` of a trailing stop is where it starts; without one it starts at `trail` from this quote.

    The quote is not yet looked at for the trigger: `observe` it as well. Raises ValueError for a form that the broker has itself,
    for an order without the prices that its form needs, or with a trail that is not more than zero.
    """
    trails = submit.form is not Form.STOP_LIMIT
    if submit.form not in FORMS:
        raise ValueError(f"order {submit.ref} is a {submit.form} order, which the broker keeps itself; it was not armed")
    if (submit.form in LIMITED) != (submit.limit is not None):
        raise ValueError(f"order {submit.ref} is a {submit.form} order with the limit {submit.limit}; it was not armed")
    if trails != (submit.trail is not None) or (submit.trail is not None and submit.trail <= 0):
        raise ValueError(f"order {submit.ref} is a {submit.form} order with the trail {submit.trail}; it was not armed")
    level = submit.price
    if level is None:
        if submit.trail is None or submit.limit is not None:
            raise ValueError(f"order {submit.ref} is a {submit.form} order without a price; it was not armed")
        level = _at_distance(quote, submit.units, submit.trail)
    end = submit.valid_until
    if submit.day:
        close = day_start(trading_day(quote.time) + ONE_DAY)
        end = close if end is None else min(end, close)
    return Armed(submit, level, submit.limit, end, quote.time)


def observe(armed: Armed, quote: Quote) -> tuple[Armed, Fire | None]:
    """Take in the next quote. One that is broken, not tradeable or older than the last changes nothing."""
    if armed.fired or is_over(armed, quote.time) or quote.time < armed.seen or not (quote.sound and quote.tradeable):
        return armed, None
    armed = _trailed(replace(armed, seen=quote.time), quote)
    reached = quote.ask >= armed.level if armed.buys else quote.bid <= armed.level
    if not reached:
        return armed, None
    form = Form.LIMIT if armed.submit.form in LIMITED else Form.MARKET
    order = replace(armed.submit, form=form, price=armed.limit, limit=None, trail=None)
    return replace(armed, fired=True), Fire(order, armed.level, quote.time)


def is_over(armed: Armed, now: datetime) -> bool:
    """Whether its time has run out; it then never fires. To be asked as well when no quote comes. One that has fired is over."""
    return armed.fired or (armed.until is not None and now >= armed.until)


def _trailed(armed: Armed, quote: Quote) -> Armed:
    trail = armed.submit.trail
    if trail is None:
        return armed
    level = _at_distance(quote, armed.submit.units, trail)
    moved = min(level, armed.level) if armed.buys else max(level, armed.level)
    limit = None if armed.limit is None else armed.limit + moved - armed.level
    return replace(armed, level=moved, limit=limit)


def _at_distance(quote: Quote, units: Decimal, trail: Decimal) -> Decimal:
    """Where a stop of this distance stands at this quote: a buy above the ask, a sale below the bid."""
    return quote.ask + trail if units > 0 else quote.bid - trail


def is_reached(target: ArmedTarget, quote: Quote) -> bool:
    """Whether the market is at the price of a target, on the side on which that deals: the bid for a sale, the ask for a buy."""
    if not (quote.sound and quote.tradeable):
        return False
    return quote.ask <= target.price if target.units > 0 else quote.bid >= target.price
