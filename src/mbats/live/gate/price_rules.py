"""Rules on the price that an order would meet: is the market open, is the price there, fresh, sane and near (R22, R23)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from mbats.live.gate.calendar import closed_until
from mbats.live.gate.case import Case, Finding
from mbats.live.gate.orders import Kind, Order
from mbats.live.gate.reasons import Reason
from mbats.live.gate.view import Quote

CLOCK_TOLERANCE = timedelta(seconds=5)  # R31: more than five seconds between our clock and the broker's blocks


def market_open(case: Case) -> Finding | None:
    """FX trades now by the calendar. `until` is when it opens, so that the decision of a daily bar can wait for 17:03."""
    opens = closed_until(case.now)
    return Finding(Reason.MARKET_CLOSED, until=opens) if opens else None


def price_tradeable(case: Case) -> Finding | None:
    """There is a price, it does not contradict itself, and the broker would trade on it."""
    quote = case.quote
    if quote is None:
        return Finding(Reason.NO_PRICE)
    if not quote.sound:
        return Finding(Reason.PRICE_BROKEN, detail=f"Bid {quote.bid}, ask {quote.ask}")
    return None if quote.tradeable else Finding(Reason.NOT_TRADEABLE)


def price_fresh(case: Case) -> Finding | None:
    """The price is not too old, and not from the future."""
    if case.quote is None:
        return Finding(Reason.NO_PRICE)
    age = case.now - case.quote.time
    if age > case.limits.max_price_age:
        return Finding(Reason.PRICE_STALE, _seconds(age), case.limits.max_price_age_seconds, "seconds")
    if -age > CLOCK_TOLERANCE:
        return Finding(Reason.PRICE_FROM_FUTURE, _seconds(-age), _seconds(CLOCK_TOLERANCE), "seconds")
    return None


def spread_bearable(case: Case) -> Finding | None:
    """The spread is not many times the usual one."""
    if case.quote is None or case.quote.usual_spread is None:
        return Finding(Reason.NO_REFERENCE)
    most = case.quote.usual_spread * case.limits.max_spread_multiple
    return Finding(Reason.SPREAD, case.quote.spread, most, "in price") if case.quote.spread > most else None


def price_near_reference(case: Case) -> Finding | None:
    """Both sides of the quote are near the prices before it: one crazy tick is not traded on."""
    if case.quote is None or case.quote.reference is None or case.quote.reference <= 0:
        return Finding(Reason.NO_REFERENCE)
    reference = case.quote.reference
    off = max(abs(price - reference) for price in (case.quote.bid, case.quote.ask)) / reference
    return Finding(Reason.PRICE_JUMP, off, case.limits.price_collar, "of the price") if off > case.limits.price_collar else None


def order_price_near(case: Case) -> Finding | None:
    """A pending order's own price is near the market: a comma in the wrong place is not sent."""
    if case.order.price is None:
        return None
    if case.quote is None:
        return Finding(Reason.NO_PRICE)
    off = abs(case.order.price - case.quote.mid) / case.quote.mid
    most = case.limits.pending_collar
    return Finding(Reason.ORDER_PRICE, off, most, "of the price") if off > most else None


def bounded(case: Case, *, reduces: bool) -> Order:
    """The order with the worst price at which it may fill, rounded to the stricter side; a stricter one asked for stays.

    What is filled at once is bound to the quote, a stop that adds to its own price, a limit by itself. An order that reduces gets
    a bound only from a price that is fresh and tradeable: one from an old price could keep it from closing when it matters.
    """
    order, limits = case.order, case.limits
    if order.kind is Kind.LIMIT or (reduces and order.kind is not Kind.MARKET):
        return order
    start = order.price
    if start is None:
        if case.quote is None or price_tradeable(case) or price_fresh(case):
            return order
        start = _own_side(case.quote, order)
    share = limits.exit_bound if reduces else limits.entry_bound
    instrument = case.view.instruments.get(order.symbol)
    if instrument is None:
        return order
    point = Decimal(1).scaleb(-instrument.display_precision)
    if order.buys:
        worst = (start * (1 + share)).quantize(point, ROUND_FLOOR)
        return replace(order, price_bound=min(worst, order.price_bound or worst))
    worst = (start * (1 - share)).quantize(point, ROUND_CEILING)
    return replace(order, price_bound=max(worst, order.price_bound or worst))


def _own_side(quote: Quote, order: Order) -> Decimal:
    return quote.ask if order.buys else quote.bid


def _seconds(length: timedelta) -> Decimal:
    return Decimal(length // timedelta(microseconds=1)) / 1_000_000
