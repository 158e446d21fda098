"""The pace that all threads of a client keep together."""

from __future__ import annotations

import threading
from bisect import bisect_right

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from mbats.oanda.rate import Pace, RateLimit


def test_the_first_call_goes_at_once_and_the_others_are_spread_evenly():
    clock = FakeClock()
    limit = RateLimit(4, clock=clock, sleep=clock.sleep)

    for _ in range(5):
        limit.wait()

    assert clock.slept == [0.25] * 4


def test_a_pause_does_not_save_up_calls_for_later():
    clock = FakeClock()
    limit = RateLimit(4, clock=clock, sleep=clock.sleep)
    limit.wait()
    clock.now += 60

    for _ in range(3):
        limit.wait()

    assert clock.slept == [0.25, 0.25]


def test_threads_that_come_at_once_get_turns_one_interval_apart():
    clock = FakeClock()
    turns: list[float] = []
    limit = RateLimit(10, clock=lambda: 100.0, sleep=turns.append)
    threads = [threading.Thread(target=limit.wait) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [round(turn, 6) for turn in sorted(turns)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert clock.slept == []


def test_a_bucket_of_ten_lets_ten_through_at_once_and_then_keeps_its_rate():
    clock = FakeClock()
    limit = RateLimit(4, burst=10, clock=clock, sleep=clock.sleep)

    for _ in range(13):
        limit.wait()

    assert clock.slept == [0.25] * 3
    clock.now += 60  # which saves up ten again, and no more
    clock.slept.clear()
    for _ in range(12):
        limit.wait()
    assert clock.slept == [0.25] * 2


def test_orders_do_not_wait_behind_any_number_of_reads():
    clock = FakeClock()
    waits: list[float] = []
    pace = Pace(100, 2, clock=clock, sleep=waits.append)
    for _ in range(500):
        pace.wait_for_request("reads")
    assert max(waits) > 6
    waits.clear()

    for _ in range(10):
        pace.wait_for_request("orders")

    assert waits == []


@given(
    st.integers(4, 120),
    st.lists(st.tuples(st.floats(0, 0.3), st.sampled_from(["reads", "orders"]), st.integers(1, 60)), max_size=40),
)
def test_both_lanes_together_never_exceed_the_rate_in_any_second(per_second, bursts):
    now, gone = [100.0], []
    pace = Pace(per_second, 2, clock=lambda: now[0], sleep=lambda pause: gone.append(now[0] + pause))
    for pause, lane, count in bursts:
        now[0] += pause
        for _ in range(count):
            before = len(gone)
            pace.wait_for_request(lane)
            if len(gone) == before:
                gone.append(now[0])
    gone.sort()

    for i, moment in enumerate(gone):
        within = bisect_right(gone, moment + 1 - 1e-6) - i
        assert within <= per_second


@pytest.mark.parametrize("per_second", [4, 20, 100])
def test_reads_have_most_of_the_rate_when_there_is_room_for_it(per_second):
    clock = FakeClock(0.0)
    pace = Pace(per_second, 2, clock=clock, sleep=clock.sleep)

    for _ in range(10 * per_second):
        pace.wait_for_request("reads")

    assert clock.now <= 10 / 0.34
    assert per_second < 100 or clock.now == pytest.approx(10 / 0.65, rel=0.02)
