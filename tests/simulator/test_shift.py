"""Prices of the past at the present: the same prices at the same time of the same weekday in New York."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.errors import ConfigError
from mbats.market import Granularity, new_york
from mbats.simulator.alignment import OANDA, Alignment, candle_ends, starts_between
from mbats.simulator.candles import CandleBook
from mbats.simulator.market import Market
from mbats.simulator.prices import Candles
from mbats.simulator.queries import CandleQuery
from mbats.simulator.scripted import ScriptedSource
from mbats.simulator.shift import ShiftedSource, weeks_between

WEEKS = st.integers(-600, 600)
# 522 weeks bring the spring of 2014 to that of 2024, in which the clocks change a week later; 3 bring a change to ordinary weeks.
MOVED = [522, 521, 3, -104]


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


def assert_same(left: Any, right: Any) -> None:
    for column in left.__slots__:
        np.testing.assert_array_equal(getattr(left, column), getattr(right, column))


@settings(max_examples=40)
@given(WEEKS, st.integers(0, 300), st.integers(0, 6 * 1440))
def test_prices_keep_the_weekday_and_the_time_of_new_york(market, weeks, week, minute):
    start = utc("2016-01-03T22:00") + np.timedelta64(7 * 1440 * week + minute, "m")
    ticks = market.ticks("EUR_USD", start, start + np.timedelta64(90, "m"))
    week_of_sunday = np.timedelta64(7 * weeks, "D")

    shifted = ShiftedSource(market, weeks).ticks(
        "EUR_USD", start + week_of_sunday - _hours(2), start + week_of_sunday + _hours(4)
    )

    wall = new_york(ticks.time) + np.timedelta64(7 * weeks, "D")
    here = np.isin(new_york(shifted.time), wall)
    np.testing.assert_array_equal(new_york(shifted.time)[here], wall)
    np.testing.assert_array_equal(shifted.bid[here], ticks.bid)


def _hours(amount: int) -> np.timedelta64:
    return np.timedelta64(amount, "h")


@settings(max_examples=20)
@given(st.sampled_from(MOVED), st.integers(0, 40 * 86_400), st.integers(0, 40 * 86_400))
def test_a_window_holds_the_same_bars_whichever_window_it_is(market, weeks, one, other):
    shifted, begin = ShiftedSource(market, weeks), utc("2024-02-20")
    start, end = (begin + np.timedelta64(second, "s") for second in sorted((one, other)))

    assert_same(shifted.bars("USD_JPY", start, end), shifted.bars("USD_JPY", begin, begin + _hours(1000)).between(start, end))


@pytest.mark.parametrize("weeks", MOVED)
@pytest.mark.parametrize("begin", ["2024-03-07", "2024-10-31"])
def test_prices_come_only_while_fx_is_open_and_make_the_bars_again(market, weeks, begin):
    shifted, start = ShiftedSource(market, weeks), utc(begin)
    end = start + np.timedelta64(6, "D")

    ticks = shifted.ticks("EUR_USD", start, end)
    starts = starts_between(Granularity.M1, start, end, OANDA)

    assert_same(Candles.of_ticks(ticks).aggregate(starts), shifted.bars("EUR_USD", start, end))
    wall = new_york(ticks.time[::500])
    assert not ((wall.hour == 17) & (wall.minute < 4)).any()
    assert set(wall.day_name()) == {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}


@pytest.mark.parametrize("weeks", MOVED)
@pytest.mark.parametrize(
    ("begin", "hours"),
    [("2024-03-06", [22, 22, 22, 21, 21, 21, 21]), ("2024-10-30", [21, 21, 21, 22, 22, 22, 22])],
)
def test_days_begin_at_five_in_new_york_on_both_sides_of_a_change_of_clocks(market, weeks, begin, hours):
    query = CandleQuery(
        "EUR_USD", Granularity.D, ("B",), utc(begin), utc(begin) + np.timedelta64(8, "D"), None, OANDA, False, True
    )

    candles, _ = CandleBook(ShiftedSource(market, weeks)).select(query, utc("2025-01-01"))

    assert [time.hour for time in candles.time.tolist()] == hours
    assert candles.volume.min() > 5000


def test_the_sunday_on_which_the_clocks_change_has_23_or_25_hours(market):
    midnight = Alignment(0)
    book = CandleBook(ShiftedSource(market, 522))
    for begin, hours in (("2024-03-10T05:00", 23), ("2024-11-03T04:00", 25)):
        query = CandleQuery("EUR_USD", Granularity.D, ("B",), utc(begin), None, 1, midnight, False, True)
        candles, _ = book.select(query, utc("2025-01-01"))

        assert candles.time[0] == utc(begin)
        assert candle_ends(Granularity.D, candles.time, midnight)[0] - candles.time[0] == _hours(hours)


@given(WEEKS, st.integers(0, 500 * 7 * 1440))
def test_weeks_are_chosen_so_that_now_shows_the_first_week_after_then(weeks, minutes):
    then = utc("2015-03-04T11:00")
    now = then + np.timedelta64(minutes, "m")

    moved = weeks_between(then, now)

    shown = new_york(np.array([now]))[0] - np.timedelta64(7 * moved, "D")
    begin = new_york(np.array([then]))[0]
    assert begin <= shown < begin + np.timedelta64(7, "D")


def test_the_first_price_moves_with_the_others(market):
    shifted = ShiftedSource(market, 522)

    assert shifted.first("EUR_USD") == utc("2015-01-04T22:04")
    assert shifted.bars("EUR_USD", utc("2000-01-01"), utc("2015-01-05")).time[0] >= shifted.first("EUR_USD")
    assert shifted.description.endswith("522 weeks later")


def test_prices_that_come_on_sundays_too_stay_in_order_and_come_once():
    always = Market(ScriptedSource(["EUR_USD"]))
    for minute in range(0, 15 * 1440, 20):
        time = utc("2014-03-02") + np.timedelta64(minute, "m")
        always.apply({"change": "tick", "instrument": "EUR_USD", "time": f"{time}Z", "bid": 1 + minute / 1e5, "ask": 2})

    for weeks in MOVED:
        moved = ShiftedSource(always.source, weeks).ticks("EUR_USD", utc("2000-01-01"), utc("2030-01-01"))

        assert (np.diff(moved.time) > np.timedelta64(0)).all()
        assert (np.diff(moved.bid) > 0).all()
        assert len(moved) >= 15 * 72 - 3


def test_bars_of_months_cannot_be_moved():
    months = ScriptedSource(["EUR_USD"])
    months.base = lambda instrument: Granularity.M

    with pytest.raises(ConfigError, match="The bars of EUR_USD are months"):
        ShiftedSource(months, 3)
