"""When the desk looks for the next bar."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from mbats.live.market.assembly import Track
from mbats.live.market.clock import BrokerTimeClock, MachineClock
from mbats.live.market.timing import AT_ONCE, EVERY, IDLE, LONGEST_LAG, SLOW, TIGHT, Timing, around
from mbats.market import Granularity, parse_utc

START = "2024-05-14T10:00:00Z"


def seconds(amount: float) -> timedelta:
    return timedelta(seconds=amount)


def track(frontier: datetime, granularity: Granularity = Granularity.M1) -> Track:
    return Track("EUR_USD", granularity, frontier)


class Machine:
    """A machine's clock that the test sets, and a timing by it."""

    def __init__(self, start: str = START) -> None:
        self.now = parse_utc(start)
        self.timing = Timing(MachineClock(machine=lambda: self.now.timestamp()), 10.0)

    def live_through(self, late: float, bars: int = 60) -> list[int]:
        """A desk that looks when it is told to, at a broker whose bars are so many seconds late; how often it looked for each."""
        end, frontier, looks, asked = self.now, self.now - seconds(60), [], self.now
        for _ in range(bars):
            count = 0
            while frontier < end:
                moment, pause = self.timing.next_look([track(frontier)], asked)
                self.now = asked = max(self.now, min(moment, self.now + seconds(pause)))
                if asked >= end + seconds(late):
                    frontier = end
                count += asked >= end - seconds(5)
            looks.append(count)
            end += seconds(60)
        return looks


@pytest.mark.parametrize("late", [0.0, 0.004, 0.3, 1.2, 2.5, -2.0])
def test_it_learns_how_late_the_broker_is_and_looks_a_few_times_from_just_before_then(late):
    machine = Machine()

    looks = machine.live_through(late)

    assert machine.timing.lag == pytest.approx(late, abs=max(0.1, abs(late) / 3))
    assert sum(looks[-20:]) / 20 < 8


def test_a_broker_that_is_very_late_is_looked_for_long_before():
    machine = Machine()

    machine.live_through(20.0, bars=30)

    assert machine.timing.lag <= LONGEST_LAG


def test_when_all_is_there_it_waits_for_the_end_of_the_next_bar():
    machine = Machine("2024-05-14T10:00:20Z")

    moment, timeout = machine.timing.next_look([track(parse_utc(START))], machine.now)

    assert (moment, timeout) == (parse_utc("2024-05-14T10:01:00Z"), IDLE)


def test_of_several_lengths_the_next_end_counts():
    machine = Machine("2024-05-14T10:04:20Z")
    tracks = [track(parse_utc("2024-05-14T10:00:00Z"), length) for length in (Granularity.H1, Granularity.M5)]

    moment, _ = machine.timing.next_look(tracks, machine.now)

    assert moment == parse_utc("2024-05-14T10:05:00Z")


def test_over_a_weekend_it_waits_for_sundays_first_bar_but_looks_now_and_then():
    machine = Machine("2024-05-18T10:00:00Z")

    moment, timeout = machine.timing.next_look([track(parse_utc("2024-05-17T21:00:00Z"))], machine.now)

    assert moment == parse_utc("2024-05-19T21:05:00Z")
    assert timeout == IDLE


def test_a_bar_that_does_not_come_is_looked_for_less_and_less_often_until_the_next_is_due():
    machine = Machine("2024-05-14T10:01:00Z")
    missing = [track(parse_utc(START))]
    machine.timing.next_look([track(parse_utc(START))], machine.now - seconds(30))
    pauses = []
    for _ in range(20):
        pauses.append(machine.timing.next_look(missing, machine.now)[1])
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert pauses[-1] == TIGHT

    machine.now += seconds(20)
    for _ in range(12):
        last = machine.timing.next_look(missing, machine.now)[1]
    assert last == SLOW

    machine.now += seconds(40)
    assert machine.timing.next_look(missing, machine.now)[1] < 0.1


def test_around_the_end_of_a_bar_it_looks_every_few_milliseconds_some_times_and_then_lets_go():
    machine = Machine("2024-05-14T10:01:00Z")
    machine.timing.next_look([track(parse_utc(START))], machine.now - seconds(30))

    pauses = [machine.timing.next_look([track(parse_utc(START))], machine.now)[1] for _ in range(AT_ONCE + 3)]

    assert pauses == sorted(pauses)
    assert set(pauses[: AT_ONCE - 1]) == {EVERY}
    assert sum(pauses[:AT_ONCE]) < 0.05
    assert pauses[-1] > 5 * EVERY


@pytest.mark.parametrize("late", [0.0, 0.004, 0.3])
def test_a_broker_that_is_always_as_late_has_its_bars_taken_within_milliseconds(late):
    machine = Machine()
    machine.live_through(late, bars=200)

    end, waited = machine.now.replace(second=0, microsecond=0) + seconds(60), []
    for _ in range(40):
        frontier, asked = end - seconds(60), machine.now
        while frontier < end:
            moment, pause = machine.timing.next_look([track(frontier)], asked)
            machine.now = asked = max(machine.now, min(moment, machine.now + seconds(pause)))
            if asked >= end + seconds(late):
                frontier = end
        waited.append((asked - end).total_seconds() - late)
        end += seconds(60)

    assert sorted(waited)[20] < EVERY
    assert max(waited) < 0.02 + late / 4


def test_nothing_is_learned_from_bars_that_were_not_waited_for_nor_while_the_broker_was_away():
    machine = Machine("2024-05-14T10:01:09Z")
    machine.timing.next_look([track(parse_utc(START))], machine.now)
    machine.timing.next_look([track(parse_utc("2024-05-14T10:01:00Z"))], machine.now)
    assert machine.timing.lag == 0.0

    machine.timing.disturbed()
    machine.now = parse_utc("2024-05-14T10:02:30Z")
    machine.timing.next_look([track(parse_utc("2024-05-14T10:01:00Z"))], machine.now)
    machine.timing.next_look([track(parse_utc("2024-05-14T10:02:00Z"))], machine.now)
    assert machine.timing.lag == 0.0


def test_by_a_clock_that_moves_in_jumps_each_jump_is_a_reason_to_look_and_nothing_is_learned():
    clock = BrokerTimeClock(parse_utc("2024-05-14T10:00:30Z"))
    timing = Timing(clock, 10.0)
    timing.next_look([track(parse_utc(START))], clock.now())
    clock.observe(parse_utc("2024-05-14T10:01:05Z"))

    moment, _ = timing.next_look([track(parse_utc(START))], clock.now())

    assert clock.now() < moment <= clock.now() + seconds(0.001)
    timing.next_look([track(parse_utc("2024-05-14T10:01:00Z"))], clock.now())
    assert timing.lag == 0.0


def test_a_series_of_which_nothing_is_known_is_looked_for_at_once():
    machine = Machine("2024-05-14T10:00:30Z")

    _, pause = machine.timing.next_look([Track("EUR_USD", Granularity.M1, None)], machine.now)

    assert pause < 0.1


def test_with_nothing_to_look_for_it_rests():
    machine = Machine()

    assert machine.timing.next_look([], machine.now) == (None, IDLE)


@pytest.mark.parametrize(
    ("granularity", "now", "last_start", "last_end", "next_end"),
    [
        ("M5", "2024-05-14T10:05:00Z", "2024-05-14T10:00:00Z", "2024-05-14T10:05:00Z", "2024-05-14T10:10:00Z"),
        ("H4", "2024-03-11T01:00:00Z", "2024-03-10T21:00:00Z", "2024-03-11T01:00:00Z", "2024-03-11T05:00:00Z"),
        ("D", "2024-03-10T12:00:00Z", "2024-03-07T22:00:00Z", "2024-03-08T22:00:00Z", "2024-03-11T21:00:00Z"),
        ("D", "2023-12-25T12:00:00Z", "2023-12-21T22:00:00Z", "2023-12-22T22:00:00Z", "2023-12-26T22:00:00Z"),
        ("W", "2024-05-15T12:00:00Z", "2024-05-03T21:00:00Z", "2024-05-10T21:00:00Z", "2024-05-17T21:00:00Z"),
        ("M", "2024-05-15T12:00:00Z", "2024-03-31T21:00:00Z", "2024-04-30T21:00:00Z", "2024-05-31T21:00:00Z"),
    ],
)
def test_the_calendar_knows_which_bar_was_last_and_when_the_next_is_over(granularity, now, last_start, last_end, next_end):
    found = around(Granularity(granularity), parse_utc(now))

    assert (found.last_start, found.last_end, found.next_end) == tuple(map(parse_utc, (last_start, last_end, next_end)))


def test_one_bar_that_is_long_in_coming_delays_none_of_those_after_it():
    machine = Machine()
    machine.live_through(0.0, bars=50)
    before = machine.timing.lag

    machine.live_through(4.3, bars=1)
    machine.live_through(0.0, bars=2)

    assert machine.timing.lag - before < 0.002
