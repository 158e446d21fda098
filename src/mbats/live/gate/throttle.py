"""How often a deployment may send: a token bucket, and a throttle on repeated executions that latches (R25).

Every message counts when it is sent, cancels and exits too, though only what adds exposure is ever refused. The second is that
of MiFID RTS 6 Art. 15: after so many executions the strategy is off until a person turns it on again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from mbats.live.gate.limits import Limits
from mbats.live.gate.orders import Cancel, Order

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Sent:
    """An order that went out, and when (UTC)."""

    time: datetime
    symbol: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """The bucket as it was at `at` (UTC), and the orders sent within the window of repeats."""

    tokens: Decimal
    at: datetime
    sent: tuple[Sent, ...] = ()

    @classmethod
    def full(cls, limits: Limits, now: datetime) -> Throttle:
        """A bucket that nothing was taken from."""
        return cls(Decimal(limits.order_burst), now)


def tokens_at(throttle: Throttle, limits: Limits, now: datetime) -> Decimal:
    """How many messages may go at once. A clock that is set back fills nothing."""
    passed = max(ZERO, Decimal((now - throttle.at) // timedelta(microseconds=1)) / 1_000_000)
    return min(Decimal(limits.order_burst), throttle.tokens + passed * limits.orders_per_second)


def next_token(throttle: Throttle, limits: Limits, now: datetime) -> datetime:
    """When the next message may go: `now`, or later."""
    missing = max(ZERO, 1 - tokens_at(throttle, limits, now))
    # Rounded up to the microsecond, so that the token is there when its time comes.
    wait = (missing * 1_000_000 / limits.orders_per_second).to_integral_value(ROUND_CEILING)
    return now + timedelta(microseconds=int(wait))


def repeats(throttle: Throttle, limits: Limits, now: datetime, symbol: str, *, resumed: datetime | None = None) -> int:
    """How many orders in this symbol went out within the window before `now`, and after a person resumed."""
    since = now - limits.repeat_window
    # A simulator may live in the past of whoever resumed: what has not been yet says nothing of what was sent before it.
    since = max(since, resumed) if resumed and resumed <= now else since
    return sum(1 for order in throttle.sent if order.symbol == symbol and order.time > since)


def count(throttle: Throttle, limits: Limits, now: datetime, message: Order | Cancel) -> Throttle:
    """The throttle after a message was sent. What goes out although the bucket is empty leaves it empty."""
    since = now - limits.repeat_window
    sent = tuple(order for order in throttle.sent if order.time > since)
    if isinstance(message, Order):
        sent += (Sent(now, message.symbol),)
    return Throttle(max(ZERO, tokens_at(throttle, limits, now) - 1), max(now, throttle.at), sent)
