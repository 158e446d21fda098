"""The pace that all threads of a client keep together."""

from __future__ import annotations

import threading

from fakes import FakeClock

from mbats.oanda.rate import RateLimit


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
