"""Candles begin where OANDA's do, through every change of the clocks."""

from __future__ import annotations

import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.market import Granularity, bar_ends, bar_start
from mbats.simulator.alignment import Alignment, Weekday, candle_ends, candle_starts, starts_between

YEAR = np.arange(np.datetime64("2023-12-25", "us"), np.datetime64("2025-01-10", "us"), np.timedelta64(37, "m"))
ZONES = sorted(zoneinfo.available_timezones())


def one(text: str) -> np.ndarray:
    return np.array([text], "datetime64[us]")


@pytest.mark.parametrize("granularity", list(Granularity))
def test_default_alignment_is_the_trading_day_of_the_rest_of_mbats(granularity):
    starts = candle_starts(granularity, YEAR)

    np.testing.assert_array_equal(starts, bar_start(granularity, YEAR))
    np.testing.assert_array_equal(candle_ends(granularity, starts), bar_ends(granularity, starts))


@given(
    st.sampled_from(list(Granularity)),
    st.integers(0, 23),
    st.sampled_from(ZONES),
    st.sampled_from(list(Weekday)),
    st.integers(0, 20 * 365 * 1440),
)
def test_every_moment_lies_in_the_candle_it_is_said_to_lie_in(granularity, hour, zone, weekday, minute):
    alignment = Alignment(hour, zone, weekday)
    moment = one("2005-01-03") + np.timedelta64(minute, "m")

    start = candle_starts(granularity, moment, alignment)
    end = candle_ends(granularity, start, alignment)

    assert start <= moment < end
    assert candle_starts(granularity, start, alignment) == start
    assert candle_starts(granularity, end, alignment) == end
    assert list(starts_between(granularity, start[0], end[0], alignment)) == list(start)


def test_days_weeks_and_months_can_begin_at_midnight_utc():
    midnight = Alignment(0, "UTC", Weekday.MONDAY)
    moment = one("2024-05-16T09:30")

    assert candle_starts(Granularity.D, moment, midnight) == one("2024-05-16")
    assert candle_starts(Granularity.W, moment, midnight) == one("2024-05-13")
    assert candle_starts(Granularity.M, moment, midnight) == one("2024-05-01")
    assert candle_ends(Granularity.M, one("2024-02-01"), midnight) == one("2024-03-01")


def test_an_hour_that_the_clocks_skip_begins_at_the_change():
    # 02:00 does not exist in New York on 2024-03-10, and is 03:00 there: 07:00 UTC.
    assert candle_starts(Granularity.D, one("2024-03-10T12:00"), Alignment(2)) == one("2024-03-10T07:00")
