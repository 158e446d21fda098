"""The gate's day and hours for one moment, against the vectors of `mbats.market` and the hours of the exchange."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.live.gate.calendar import closed_until, day_start, later_day_start, trades_on, trading_day
from mbats.market import NEW_YORK, day_open, is_holiday, to_datetime, to_us, trading_days
from mbats.simulator.sessions import session_at

MOMENTS = st.datetimes(datetime(2013, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
# Both changes of the clocks, and a turn of the year.
WEEKS = ("2024-03-08", "2024-11-01", "2024-12-23")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def every_half_minute(start: str) -> list[datetime]:
    return [utc(start) + timedelta(seconds=30 * number) for number in range(4 * 2880)]


@given(MOMENTS)
def test_a_day_is_that_of_the_market(moment: datetime) -> None:
    day = trading_day(moment)

    assert day == trading_days(np.array([to_us(moment)]))[0].item()
    assert day_start(day) == to_datetime(day_open(np.array([day], "datetime64[D]"))[0])


@pytest.mark.parametrize("week", WEEKS)
def test_each_half_minute_of_a_difficult_week_is_in_its_day(week: str) -> None:
    moments = every_half_minute(week)

    assert [trading_day(moment) for moment in moments] == trading_days(np.array([to_us(m) for m in moments])).tolist()


@pytest.mark.parametrize("week", WEEKS)
def test_fx_is_open_when_the_exchange_is_and_in_the_minute_before_its_first_price(week: str) -> None:
    for moment in every_half_minute(week):
        local = moment.astimezone(NEW_YORK)
        if (local.hour, local.minute) == (17, 3):  # the simulator has no price until 17:04; the broker's page says 17:03
            assert (closed_until(moment) is None) == trades_on(trading_day(moment))
        else:
            assert (closed_until(moment) is None) == session_at(int(to_us(moment).astype(np.int64)))[0], moment


@given(MOMENTS)
def test_it_opens_when_it_says_and_not_a_microsecond_before(moment: datetime) -> None:
    opens = closed_until(moment)
    if opens is not None:
        assert moment < opens
        assert closed_until(opens) is None
        assert closed_until(opens - timedelta(microseconds=1)) == opens


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2024-06-12 20:57:59", None),
        ("2024-06-12 20:58:00", "2024-06-12 21:03"),  # the daily break in summer
        ("2024-06-12 21:03:00", None),
        ("2024-01-10 21:58:00", "2024-01-10 22:03"),  # and in winter
        ("2024-03-08 21:58:00", "2024-03-10 21:03"),  # closed on winter time, opened on summer time
        ("2024-11-01 20:58:00", "2024-11-03 22:03"),
        ("2024-12-24 21:58:00", "2024-12-25 22:03"),
    ],
)
def test_the_break_and_the_weekend_follow_the_clocks_of_new_york(moment: str, opens: str | None) -> None:
    assert closed_until(utc(moment)) == (utc(opens) if opens else None)


@given(MOMENTS, st.integers(0, 6))
def test_so_many_open_days_later_is_the_start_of_an_open_day(moment: datetime, days: int) -> None:
    later = later_day_start(moment, days)
    day, ahead = trading_day(later), trading_day(moment)

    passed = [ahead + timedelta(days=n) for n in range(1, (day - ahead).days + 1)]
    assert sum(1 for each in passed if each.weekday() < 5 and not is_holiday(each)) == days
    assert later == (day_start(day) if days else moment)


def test_a_holiday_that_falls_on_a_sunday_is_kept_on_monday() -> None:
    assert not trades_on(date(2022, 12, 26))
    assert trades_on(date(2022, 12, 27))
