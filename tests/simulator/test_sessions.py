"""Hours of trading: the daily break, weekends, holidays, and both changes of the clocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.simulator.sessions import at_open_time, open_mask, open_time, session_at

MOMENTS = st.integers(-(10**15), 5 * 10**15)


def is_open(text: str) -> bool:
    return session_at(int(np.datetime64(text, "us").astype(np.int64)))[0]


@pytest.mark.parametrize(
    ("last_closed", "first_open"),
    [
        ("2024-05-12T21:03:59.999999", "2024-05-12T21:04"),  # a Sunday in summer
        ("2024-01-07T22:03:59.999999", "2024-01-07T22:04"),  # and in winter
        ("2024-03-10T21:03:59.999999", "2024-03-10T21:04"),  # the day on which the clocks go forward
        ("2024-11-03T22:03:59.999999", "2024-11-03T22:04"),  # the day on which they go back
        ("2024-12-25T22:03:59.999999", "2024-12-25T22:04"),  # the evening of Christmas Day
    ],
)
def test_trading_starts_at_four_minutes_past_five_in_new_york(last_closed, first_open):
    assert not is_open(last_closed)
    assert is_open(first_open)


@pytest.mark.parametrize(
    ("last_open", "first_closed"),
    [
        ("2024-05-14T20:57:59.999999", "2024-05-14T20:58"),  # the daily break
        ("2024-05-17T20:57:59.999999", "2024-05-17T20:58"),  # the weekend
        ("2024-12-24T21:57:59.999999", "2024-12-24T21:58"),  # Christmas Eve
    ],
)
def test_it_ends_two_minutes_before_five(last_open, first_closed):
    assert is_open(last_open)
    assert not is_open(first_closed)


@pytest.mark.parametrize("moment", ["2024-05-18T12:00", "2024-05-19T20:00", "2023-12-25T15:00", "2024-01-01T12:00"])
def test_weekends_and_holidays_are_shut(moment):
    assert not is_open(moment)


@given(MOMENTS)
def test_a_session_is_the_stretch_in_which_nothing_changes(moment):
    open_, start, end = session_at(moment)

    assert start <= moment < end
    if start > -(2**62):
        assert session_at(start - 1)[0] is not open_
    if end < 2**62:
        assert session_at(end)[0] is not open_


@given(st.lists(MOMENTS, max_size=8))
def test_many_moments_are_looked_up_like_one(moments):
    moments = np.array(sorted(moments), np.int64)

    assert open_mask(moments).tolist() == [session_at(moment)[0] for moment in moments.tolist()]


@given(st.integers(0, 3 * 10**15), st.integers(0, 10**12))
def test_open_time_passes_only_in_sessions(moment, later):
    both = np.array([moment, moment + later])
    passed = open_time(both)

    assert 0 <= passed[1] - passed[0] <= later
    back = at_open_time(passed)
    for place in (0, 1):
        open_, _, end = session_at(int(both[place]))
        assert back[place] == (both[place] if open_ else end)
