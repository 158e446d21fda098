"""The FX calendar: trading days, the starts and ends of bars, holidays; and what makes bars contradict themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from samples import random_bars

from mbats.errors import BadBar
from mbats.market import (
    Bars,
    Granularity,
    Times,
    bar_ends,
    bar_start,
    bar_starts,
    is_holiday,
    new_york,
    open_days,
    parse_utc,
    rollovers,
    to_datetime,
    to_us,
    trading_days,
)

ALL = list(Granularity)
ANY_TIME = st.datetimes(datetime(2005, 1, 1), datetime(2039, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (bounds are naive)


def us(*texts: str) -> Times:
    return np.array(texts, "datetime64[us]")


def utc(text: str) -> datetime:
    return parse_utc(text)


# --- Trading days ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("2024-01-10T21:59:59", "2024-01-10"),  # 16:59:59 in New York's winter
        ("2024-01-10T22:00", "2024-01-11"),
        ("2024-07-10T20:59:59", "2024-07-10"),  # and in its summer
        ("2024-07-10T21:00", "2024-07-11"),
        ("2024-03-10T21:00", "2024-03-11"),  # the Sunday on which daylight saving begins
        ("2024-03-08T22:00", "2024-03-09"),  # the Friday before it
    ],
)
def test_a_trading_day_begins_at_1700_new_york_the_evening_before(time: str, day: str) -> None:
    assert trading_days(us(time)) == np.datetime64(day)


def test_days_start_an_hour_earlier_in_utc_while_new_york_saves_daylight() -> None:
    starts = bar_starts(Granularity.D, utc("2024-03-06"), utc("2024-03-13"))

    assert list(starts) == list(
        us("2024-03-06T22:00", "2024-03-07T22:00", "2024-03-10T21:00", "2024-03-11T21:00", "2024-03-12T21:00")
    )


def test_no_day_is_due_on_a_weekend() -> None:
    starts = bar_starts(Granularity.D, utc("2020-01-01"), utc("2024-01-01"))

    assert set(new_york(starts).day_name()) == {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday"}
    assert set(new_york(starts).hour) == {17}


@pytest.mark.parametrize(
    ("day", "closed"),
    [
        (date(2020, 12, 25), True),
        (date(2021, 1, 1), True),
        (date(2022, 12, 26), True),  # Christmas was a Sunday
        (date(2023, 1, 2), False),  # New Year was a Sunday as well, and yet the market traded
        (date(2020, 12, 24), False),
        (date(2012, 1, 2), False),  # before the market closed for holidays
        (date(2020, 7, 3), False),  # a holiday of New York is none of FX
    ],
)
def test_the_market_is_shut_at_christmas_and_new_year(day: date, closed: bool) -> None:
    assert is_holiday(day) is closed
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    assert len(open_days(noon, noon + timedelta(hours=1))) == (0 if closed else 1)


def test_a_period_that_ends_before_it_begins_holds_nothing() -> None:
    for granularity in ALL:
        assert len(bar_starts(granularity, utc("2024-01-10"), utc("2024-01-09"))) == 0


# --- Bars on the clock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ALL)
@given(moment=ANY_TIME)
@hypothesis(max_examples=40, deadline=None)
def test_each_moment_of_the_session_lies_in_exactly_one_bar(granularity: Granularity, moment: datetime) -> None:
    if new_york(np.array([to_us(moment)])).day_of_week[0] in (5, 6):
        moment += timedelta(days=2)  # clocks change on Sundays, when there is no bar to ask about
    time = np.array([to_us(moment)])

    start = bar_start(granularity, time)
    end = bar_ends(granularity, start)

    assert start <= time < end
    assert bar_start(granularity, start) == start
    assert bar_start(granularity, end - np.timedelta64(1, "us")) == start
    assert bar_start(granularity, end) == end, "the next bar begins where this one ends"


@pytest.mark.parametrize("granularity", ALL)
def test_due_bars_start_where_bars_start(granularity: Granularity) -> None:
    days = 400 if granularity.length > timedelta(minutes=30) else 20
    period = utc("2023-10-25"), utc("2023-10-25") + timedelta(days=days)

    due = bar_starts(granularity, *period)

    assert len(due) > 0
    assert (np.diff(due) > np.timedelta64(0)).all()
    assert due[0] >= to_us(period[0])
    assert due[-1] < to_us(period[1])
    np.testing.assert_array_equal(bar_start(granularity, due), due)


@pytest.mark.parametrize("granularity", [item for item in ALL if item.length <= timedelta(hours=12)])
def test_due_bars_are_the_same_whether_asked_for_at_once_or_day_by_day(granularity: Granularity) -> None:
    first = utc("2024-03-05T13:17")
    days = [first + timedelta(days=n) for n in range(12)]  # over a weekend and the beginning of daylight saving

    whole = bar_starts(granularity, days[0], days[-1])
    parts = [bar_starts(granularity, start, end) for start, end in pairwise(days)]

    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_four_hour_bars_keep_to_the_new_york_clock_in_winter_and_summer() -> None:
    for period in (("2024-01-08", "2024-01-11"), ("2024-07-08", "2024-07-11")):
        hours = new_york(bar_starts(Granularity.H4, *map(utc, period))).hour

        assert set(hours) == {17, 21, 1, 5, 9, 13}


def test_a_week_begins_on_friday_evening_and_a_month_on_the_evening_before_its_first() -> None:
    weeks = new_york(bar_starts(Granularity.W, utc("2024-01-01"), utc("2024-12-01")))
    months = new_york(bar_starts(Granularity.M, utc("2024-01-01"), utc("2024-12-01")) + np.timedelta64(7, "h"))

    assert set(weeks.day_name()) == {"Friday"}
    assert set(weeks.hour) == {17}
    assert set(months.day) == {1}
    assert len(months) == 11


def test_the_friday_session_ends_at_1700_new_york() -> None:
    starts = bar_starts(Granularity.M1, utc("2024-07-12T12:00"), utc("2024-07-14T22:00"))

    closing, opening = starts[starts < us("2024-07-13")][-1], starts[starts > us("2024-07-13")][0]
    assert str(closing) == "2024-07-12T20:59:00.000000"
    assert str(opening) == "2024-07-14T21:04:00.000000"


@pytest.mark.parametrize("symbol", ["EUR_USD", "USD_JPY"])
def test_real_hours_grouped_into_new_york_days_are_the_real_days(shared_data: Path, symbol: str) -> None:
    hours = pd.read_parquet(shared_data / "oanda" / "H1_bidask" / f"{symbol}_H1.parquet")
    days = pd.read_parquet(shared_data / "oanda" / "D" / f"{symbol}_D.parquet").set_index("ts")
    days = days.loc[days["origin"] == "D", ["open", "high", "low", "close", "volume"]]  # the others were made of these hours

    starts = bar_start(Granularity.D, hours["ts"].dt.tz_convert(None).to_numpy())
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    built = hours.groupby(pd.DatetimeIndex(starts, tz="UTC")).agg(rules)

    common = built.index.intersection(days.index)
    assert len(common) == 621
    differing = [str(day) for day in common if not np.allclose(built.loc[day], days.loc[day], rtol=0, atol=1e-9)]
    assert differing == []


# --- Rollovers ------------------------------------------------------------------------------------------------------------


def test_rollovers_are_each_1700_new_york_with_its_weekday() -> None:
    found = rollovers(utc("2024-03-08T12:00"), utc("2024-03-11T21:00"))

    assert found == [
        (utc("2024-03-08T22:00"), 4),
        (utc("2024-03-09T22:00"), 5),
        (utc("2024-03-10T21:00"), 6),
        (utc("2024-03-11T21:00"), 0),
    ]


@given(moments=st.lists(ANY_TIME, min_size=3, max_size=3).map(sorted))
@hypothesis(max_examples=50, deadline=None)
def test_a_period_cut_in_two_has_the_same_rollovers(moments: list[datetime]) -> None:
    start, middle, end = moments[0], moments[1], min(moments[2], moments[1] + timedelta(days=400))
    start = max(start, middle - timedelta(days=400))

    assert rollovers(start, middle) + rollovers(middle, end) == rollovers(start, end)


# --- Bars ---------------------------------------------------------------------------------------------------------------------


def test_sound_bars_pass() -> None:
    random_bars(us("2024-01-02T10:00", "2024-01-02T10:01", "2024-01-02T10:05")).check("EUR_USD", "M1")
    Bars.empty().check("EUR_USD", "M1")


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("bid_open", float("nan"), "not a positive number"),
        ("ask_high", float("inf"), "not a positive number"),
        ("bid_low", 0.0, "not a positive number"),
        ("bid_high", 0.5, "bid high is below"),
        ("ask_high", 0.5, "ask high is below"),
        ("bid_low", 2.0, "bid high is below"),
        ("ask_close", 0.9, "ask low is above"),
        ("volume", -1, "volume is negative"),
        ("time", "2024-01-02T10:00", "not after the bar before it"),
        ("time", "2024-01-01", "not after the bar before it"),
    ],
)
def test_a_bar_that_contradicts_itself_is_named_with_its_rule(column: str, value: object, rule: str) -> None:
    bars = random_bars(us("2024-01-02T10:00", "2024-01-02T10:01", "2024-01-02T10:05"))
    getattr(bars, column)[1] = value

    with pytest.raises(BadBar, match=rule) as refusal:
        bars.check("EUR_USD", "M1")

    assert (refusal.value.symbol, refusal.value.granularity, refusal.value.time) == ("EUR_USD", "M1", bars.time[1])


def test_an_ask_below_the_bid_is_refused() -> None:
    bars = random_bars(us("2024-01-02T10:00", "2024-01-02T10:01"))
    crossed = replace(bars, **{f"ask_{p}": getattr(bars, f"bid_{p}") - 0.001 for p in ("open", "high", "low", "close")})

    with pytest.raises(BadBar, match="ask is below bid"):
        crossed.check("EUR_USD", "M1")


def test_a_fingerprint_changes_with_the_last_bit_of_any_value() -> None:
    bars = random_bars(us("2024-01-02T10:00", "2024-01-02T10:01"))
    close = bars.ask_close.copy()
    close[1] = np.nextafter(close[1], 2)

    assert replace(bars, ask_close=bars.ask_close.copy()).fingerprint() == bars.fingerprint()
    assert replace(bars, ask_close=close).fingerprint() != bars.fingerprint()
    assert replace(bars, time=bars.time + np.timedelta64(1, "us")).fingerprint() != bars.fingerprint()


def test_times_with_and_without_a_zone_are_utc() -> None:
    assert parse_utc("2024-01-02") == datetime(2024, 1, 2, tzinfo=UTC)
    assert parse_utc("2024-01-02T03:00+02:00") == datetime(2024, 1, 2, 1, tzinfo=UTC)
    assert to_datetime(to_us(datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC))) == datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
