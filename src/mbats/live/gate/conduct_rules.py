"""Rules on how a deployment behaves: what it asks, how often, and what people and latches allow."""

from __future__ import annotations

from decimal import Decimal

from mbats.live.gate.case import Case, Finding
from mbats.live.gate.losses import NavMark, fold
from mbats.live.gate.orders import Kind
from mbats.live.gate.reasons import Reason
from mbats.live.gate.state import Latch, TradingState, ruling
from mbats.live.gate.throttle import next_token, repeats, tokens_at


def well_formed(case: Case) -> Finding | None:
    """What the broker would refuse with HTTP 400 is not sent: digits, least and most units, a price where there must be one."""
    order, instrument = case.order, case.view.instruments.get(case.order.symbol)
    if not order.units.is_finite() or order.units == 0:
        return Finding(Reason.MALFORMED, detail=f"Units are {order.units}")
    if (order.price is None) != (order.kind is Kind.MARKET):
        return Finding(Reason.MALFORMED, detail=f"A {order.kind} order with price {order.price}")
    for price in (order.price, order.price_bound):
        if price is not None and not (price.is_finite() and price > 0):
            return Finding(Reason.MALFORMED, detail=f"A price is {price}")
    if instrument is None:
        # Without its figures nothing but a close can be right, and whether it is one is judged later.
        return None
    for price in (order.price, order.price_bound):
        if price is not None and _digits(price) > instrument.display_precision:
            return Finding(Reason.MALFORMED, detail=f"Price {price} has more than {instrument.display_precision} decimals")
    if _digits(order.units) > instrument.units_precision:
        return Finding(Reason.MALFORMED, detail=f"Units {order.units} have more than {instrument.units_precision} decimals")
    if abs(order.units) < instrument.minimum_units:
        return Finding(Reason.MALFORMED, abs(order.units), instrument.minimum_units, "units, which is the least")
    if abs(order.units) > instrument.maximum_units:
        return Finding(Reason.MALFORMED, abs(order.units), instrument.maximum_units, "units, which is the broker's most")
    return None


def not_twice(case: Case) -> Finding | None:
    """An intent is sent once (R24), whatever it is: a close that is sent twice opens a position."""
    if case.order.intent not in case.view.intents:
        return None
    bar = f"{case.order.bar:%Y-%m-%d %H:%M}"
    return Finding(Reason.DUPLICATE, detail=f"Purpose '{case.order.purpose}', bar {bar} UTC")


def not_halted(case: Case) -> Finding | None:
    """While HALTED nothing passes but the orders of a flatten that is under way."""
    rules = ruling(case.state, case.order.deployment, case.now)
    if rules.state is not TradingState.HALTED or (case.order.flatten and rules.flattening):
        return None
    return Finding(Reason.HALTED, detail=rules.control.in_words())


def not_reducing(case: Case) -> Finding | None:
    """For orders that add: the state is not REDUCING."""
    rules = ruling(case.state, case.order.deployment, case.now)
    if rules.state is not TradingState.REDUCING:
        return None
    return Finding(Reason.REDUCING, detail=rules.control.in_words())


def not_meant_to_reduce(case: Case) -> Finding | None:
    """For orders that add: this one was not meant to close what is closed, or is being closed, already."""
    if not (case.order.reduce_only or case.order.flatten):
        return None
    return Finding(Reason.NOTHING_TO_REDUCE)


def not_latched(case: Case) -> Finding | None:
    """No latch holds. Of several, the one that holds longest is told."""
    latches = ruling(case.state, case.order.deployment, case.now).latches
    if not latches:
        return None
    longest = max(latches, key=lambda found: (found.until is None, found.until or found.since))
    until_resumed = "" if longest.until else "; a person must resume it"
    return Finding(
        longest.reason,
        detail=f"Locked since {longest.since:%Y-%m-%d %H:%M} UTC: {longest.why}{until_resumed}",
        until=longest.until,
    )


def losses_bearable(case: Case) -> Finding | None:
    """The NAV of this moment reaches no loss limit, though nobody may have folded it into the losses yet."""
    _, latches = fold(case.view.losses, NavMark(case.now, case.view.nav), case.limits)
    if not latches:
        return None
    worst = latches[-1]
    return Finding(worst.reason, detail=worst.why, until=worst.until, latches=latches)


def not_repeated(case: Case) -> Finding | None:
    """The symbol was not ordered too often within the window; the order that is one too many latches."""
    resumed = ruling(case.state, case.order.deployment, case.now).last_command
    sent = repeats(case.view.throttle, case.limits, case.now, case.order.symbol, resumed=resumed)
    most = case.limits.max_repeats
    if sent < most:
        return None
    why = f"{sent} orders in {case.order.symbol} within {case.limits.repeat_window_seconds} seconds, limit {most}"
    locked = Latch(Reason.REPEATED_EXECUTIONS, case.now, None, why)
    return Finding(locked.reason, Decimal(sent), Decimal(most), "orders", detail=why, latches=(locked,))


def not_too_fast(case: Case) -> Finding | None:
    """The bucket holds a token."""
    tokens = tokens_at(case.view.throttle, case.limits, case.now)
    if tokens >= 1:
        return None
    until = next_token(case.view.throttle, case.limits, case.now)
    return Finding(Reason.ORDER_RATE, detail=f"At most {case.limits.orders_per_second} a second in the long run", until=until)


def _digits(value: Decimal) -> int:
    """Decimals that say something: 1.500 has one."""
    exponent = value.normalize().as_tuple().exponent
    return max(0, -int(exponent))
