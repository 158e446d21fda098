"""The token bucket and the count of repeats, on a clock that is an argument."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from gates import NOW, limits, order
from hypothesis import given
from hypothesis import strategies as st

from mbats.live.gate import Cancel, Limits, Throttle, count
from mbats.live.gate.throttle import next_token, repeats, tokens_at

RULES = limits(orders_per_second="2.5", order_burst=4, repeat_window_seconds=60)
MICROSECOND = timedelta(microseconds=1)


def test_a_burst_may_go_at_once_and_then_the_rate_rules() -> None:
    throttle = Throttle.full(RULES, NOW)
    for left in (4, 3, 2, 1, 0):
        assert tokens_at(throttle, RULES, NOW) == left
        throttle = count(throttle, RULES, NOW, order())

    assert next_token(throttle, RULES, NOW) == NOW + timedelta(seconds=0.4)


def test_a_pause_saves_up_no_more_than_a_burst() -> None:
    assert tokens_at(Throttle(Decimal(0), NOW), RULES, NOW + timedelta(days=1)) == 4


def test_cancels_count_and_leave_the_bucket_empty_but_never_in_debt() -> None:
    throttle = Throttle(Decimal(1), NOW)
    for _ in range(50):
        throttle = count(throttle, RULES, NOW, Cancel("alpha", "7"))

    assert throttle == Throttle(Decimal(0), NOW)


def test_a_clock_that_is_set_back_fills_nothing() -> None:
    throttle = count(Throttle(Decimal(1), NOW), RULES, NOW, order())
    earlier = NOW - timedelta(hours=1)

    assert tokens_at(throttle, RULES, earlier) == 0
    assert tokens_at(count(throttle, RULES, earlier, order()), RULES, NOW) == 0


def test_orders_are_counted_by_symbol_within_the_window_and_after_the_last_resume() -> None:
    throttle = Throttle.full(RULES, NOW)
    for seconds, symbol in ((0, "EUR_USD"), (30, "EUR_USD"), (30, "GBP_USD"), (59, "EUR_USD")):
        throttle = count(throttle, RULES, NOW + timedelta(seconds=seconds), order(symbol=symbol))

    at = NOW + timedelta(seconds=60)
    assert repeats(throttle, RULES, at - MICROSECOND, "EUR_USD") == 3
    assert repeats(throttle, RULES, at, "EUR_USD") == 2
    assert repeats(throttle, RULES, at, "EUR_USD", resumed=NOW + timedelta(seconds=30)) == 1
    assert repeats(throttle, RULES, at, "USD_JPY") == 0


def test_what_is_out_of_the_window_is_forgotten() -> None:
    throttle = Throttle.full(RULES, NOW)
    for minute in range(100):
        throttle = count(throttle, RULES, NOW + timedelta(minutes=2 * minute), order())

    assert len(throttle.sent) == 1


@given(
    waits=st.lists(st.integers(0, 2_000_000), min_size=1, max_size=60),
    rate=st.decimals("0.1", 20, places=2),
    burst=st.integers(1, 40),
)
def test_in_no_stretch_of_time_do_more_go_than_a_burst_and_the_rate(waits: list[int], rate: Decimal, burst: int) -> None:
    rules = limits(orders_per_second=rate, order_burst=burst)
    throttle, now, gone = Throttle.full(rules, NOW), NOW, []
    for wait in waits:
        now += wait * MICROSECOND
        if tokens_at(throttle, rules, now) >= 1:
            throttle = count(throttle, rules, now, order())
            gone.append(now)

    for first in range(len(gone)):
        for last in range(first, len(gone)):
            seconds = Decimal((gone[last] - gone[first]) // MICROSECOND) / 1_000_000
            assert last - first + 1 <= burst + rate * seconds


@given(tokens=st.decimals(0, 1, places=6), rate=st.decimals("0.1", 20, places=2))
def test_the_token_is_there_when_its_time_comes_and_not_before(tokens: Decimal, rate: Decimal) -> None:
    rules, throttle = limits(orders_per_second=rate), Throttle(tokens, NOW)

    when = next_token(throttle, rules, NOW)

    assert tokens_at(throttle, rules, when) >= 1
    assert when == NOW or tokens_at(throttle, rules, when - MICROSECOND) < 1


def test_the_fastest_that_can_be_set_stays_far_below_what_oanda_allows() -> None:
    metadata = [field.metadata for name, field in Limits.model_fields.items() if name in ("orders_per_second", "order_burst")]
    most = sum(bound.le for found in metadata for bound in found if hasattr(bound, "le"))

    assert 0 < most <= 120 / 2
