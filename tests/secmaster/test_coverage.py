"""Gaps against the FX calendar: none that is not one in years of real candles, and every bar that is taken away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from samples import random_bars, real_times

from mbats.database import Database
from mbats.errors import UnknownSymbol
from mbats.market import MAJORS, Granularity, Times, bar_start, bar_starts, new_york, to_datetime, to_us
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.coverage import Coverage, Gap, coverage, find_gaps

DECADE = {"start": datetime(2014, 1, 1, tzinfo=UTC), "end": datetime(2024, 1, 1, tzinfo=UTC)}
# Holes in six years of hours that are real: two hours of 2022-05-12, and three Sundays on which trading began late.
REAL_HOLES = [
    (datetime(2019, 10, 20, 21, tzinfo=UTC), 2),
    (datetime(2021, 11, 21, 22, tzinfo=UTC), 2),
    (datetime(2022, 5, 12, 6, tzinfo=UTC), 2),
    (datetime(2022, 8, 28, 21, tzinfo=UTC), 2),
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def span(times: Times) -> tuple[datetime, datetime]:
    return to_datetime(times[0]), to_datetime(times[-1]) + timedelta(microseconds=1)


@pytest.fixture(scope="module")
def days(shared_data: Path) -> dict[str, Times]:
    return {symbol: real_times(shared_data / "oanda" / "D" / f"{symbol}_D.parquet") for symbol in MAJORS}


@pytest.fixture(scope="module")
def hours(shared_data: Path) -> dict[str, Times]:
    return {symbol: real_times(shared_data / "oanda" / "H1_bidask" / f"{symbol}_H1.parquet") for symbol in ("EUR_USD", "USD_JPY")}


# --- No false gap -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", MAJORS)
def test_ten_years_of_real_days_have_no_gap(days: dict[str, Times], symbol: str) -> None:
    end = utc("2020-08-28") if symbol == "NZD_USD" else DECADE["end"]  # the file ends there

    assert find_gaps(Granularity.D, days[symbol], DECADE["start"], end) == ()


def test_a_bar_on_a_holiday_is_neither_due_nor_a_fault(days: dict[str, Times]) -> None:
    stray = np.datetime64("2020-12-24T22:00", "us")
    assert stray in days["USD_JPY"]
    christmas = {"start": utc("2020-12-20"), "end": utc("2020-12-31")}

    assert find_gaps(Granularity.D, days["USD_JPY"], **christmas) == ()
    assert find_gaps(Granularity.D, days["USD_JPY"][days["USD_JPY"] != stray], **christmas) == ()


@pytest.mark.parametrize("symbol", ["EUR_USD", "USD_JPY"])
def test_six_years_of_real_hours_have_only_the_holes_that_are_real(hours: dict[str, Times], symbol: str) -> None:
    gaps = find_gaps(Granularity.H1, hours[symbol], *span(hours[symbol]))

    assert [(gap.start, gap.missing) for gap in gaps] == REAL_HOLES
    assert all(gap.end - gap.start == timedelta(hours=2) for gap in gaps)


@pytest.mark.parametrize(
    "granularity", [Granularity.H2, Granularity.H4, Granularity.H8, Granularity.H12, Granularity.W, Granularity.M]
)
def test_real_hours_put_together_have_no_false_gap(hours: dict[str, Times], granularity: Granularity) -> None:
    times = np.unique(bar_start(granularity, hours["EUR_USD"]))

    gaps = find_gaps(granularity, times, *span(times))

    # Two hours from 17:00 New York are one H2 bar; the two hours of 2022-05-12 lie in two.
    assert [gap.start for gap in gaps] == ([start for start, _ in REAL_HOLES if start.hour > 20] if granularity == "H2" else [])


@pytest.mark.parametrize(
    ("folder", "granularity"), [("M5_bidask", Granularity.M5), ("M1_bidask", Granularity.M1), ("M1", Granularity.M1)]
)
def test_real_minutes_without_a_price_are_no_gap(shared_data: Path, folder: str, granularity: Granularity) -> None:
    for file in sorted((shared_data / "oanda" / folder).iterdir()):
        times = real_times(file)
        first_part = times[: int(np.argmax(np.append(np.diff(times) > np.timedelta64(30, "D"), True))) + 1]
        due = bar_starts(granularity, *span(first_part))

        assert find_gaps(granularity, first_part, *span(first_part)) == (), file.name
        assert len(first_part) < len(due), "these candles lack no minute, so that they prove nothing"


# --- Every deleted bar --------------------------------------------------------------------------------------------------


def test_each_day_that_is_deleted_is_found(days: dict[str, Times]) -> None:
    period = {"start": utc("2021-01-01"), "end": utc("2024-01-01")}
    times = days["EUR_USD"]

    for day in bar_starts(Granularity.D, **period):
        (gap,) = find_gaps(Granularity.D, times[times != day], **period)
        assert (gap.start, gap.missing) == (to_datetime(day), 1)


@given(data=st.data())
@hypothesis(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_days_that_are_deleted_are_found_and_no_others(days: dict[str, Times], data: st.DataObject) -> None:
    times = days[data.draw(st.sampled_from([symbol for symbol in MAJORS if symbol != "NZD_USD"]))]
    due = bar_starts(Granularity.D, **DECADE)
    deleted = data.draw(st.sets(st.integers(0, len(due) - 1), max_size=40))

    gaps = find_gaps(Granularity.D, times[~np.isin(times, due[sorted(deleted)])], **DECADE)

    assert covered(gaps, due) == deleted


@given(data=st.data())
@hypothesis(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_hours_that_are_deleted_are_found_but_for_the_hour_after_1700_new_york(
    hours: dict[str, Times], data: st.DataObject
) -> None:
    period = {"start": utc("2020-01-01"), "end": utc("2021-07-01")}
    due = bar_starts(Granularity.H1, **period)
    thin = set(np.flatnonzero(new_york(due).hour == 17))
    deleted = data.draw(st.sets(st.integers(0, len(due) - 1), max_size=40))
    times = hours["EUR_USD"][~np.isin(hours["EUR_USD"], due[sorted(deleted)])]

    found = covered(find_gaps(Granularity.H1, times, **period), due)

    assert deleted - thin <= found
    assert found - deleted <= thin, "an hour is called missing that is there"


def covered(gaps: tuple[Gap, ...], due: Times) -> set[int]:
    """Which of the due bars lie in a gap; checks `missing` on the way."""
    inside: set[int] = set()
    for gap in gaps:
        first, after = np.searchsorted(due, [to_us(gap.start), to_us(gap.end)])
        assert after - first == gap.missing
        inside |= set(range(first, after))
    return inside


# --- The rules, one by one -----------------------------------------------------------------------------------------------


def without(granularity: Granularity, start: str, end: str, *holes: tuple[str, str]) -> tuple[Gap, ...]:
    """The gaps of a series that lacks the bars of these periods."""
    due = bar_starts(granularity, utc(start), utc(end))
    for first, after in holes:
        due = due[(due < np.datetime64(first, "us")) | (due >= np.datetime64(after, "us"))]
    return find_gaps(granularity, due, utc(start), utc(end))


def test_days_that_are_missing_on_both_sides_of_a_weekend_are_one_gap() -> None:
    gaps = without(Granularity.D, "2024-03-01", "2024-03-20", ("2024-03-07T12:00", "2024-03-11T12:00"))

    # Friday the 8th begins on Thursday 22:00 UTC; Monday begins on Sunday 21:00, since daylight saving began that day.
    assert gaps == (Gap(utc("2024-03-07T22:00"), utc("2024-03-11T21:00"), 2),)


def test_an_hour_missing_at_1700_new_york_is_no_gap_and_any_other_is() -> None:
    assert without(Granularity.H1, "2024-03-04", "2024-03-08", ("2024-03-05T22:00", "2024-03-05T23:00")) == ()
    assert without(Granularity.H1, "2024-03-04", "2024-03-08", ("2024-03-05T23:00", "2024-03-06T00:00")) == (
        Gap(utc("2024-03-05T23:00"), utc("2024-03-06T00:00"), 1),
    )
    assert without(Granularity.H1, "2024-03-04", "2024-03-08", ("2024-03-05T22:00", "2024-03-06T00:00")) == (
        Gap(utc("2024-03-05T22:00"), utc("2024-03-06T00:00"), 2),
    )


def test_a_hole_in_the_minutes_is_a_gap_from_an_hour_on() -> None:
    assert without(Granularity.M1, "2024-03-05", "2024-03-06", ("2024-03-05T10:00", "2024-03-05T10:59")) == ()
    assert without(Granularity.M1, "2024-03-05", "2024-03-06", ("2024-03-05T10:00", "2024-03-05T11:00")) == (
        Gap(utc("2024-03-05T10:00"), utc("2024-03-05T11:00"), 60),
    )


def test_only_time_in_which_the_market_is_open_counts_towards_the_hour() -> None:
    friday_to_sunday = ("2024-03-08T21:40", "2024-03-10T21:20")  # 20 minutes before the close, and 16 after the open

    assert without(Granularity.M1, "2024-03-08", "2024-03-12", friday_to_sunday) == ()


def test_an_empty_series_is_one_gap() -> None:
    (gap,) = find_gaps(Granularity.D, np.empty(0, "datetime64[us]"), utc("2024-03-01"), utc("2024-03-16"))

    assert (gap.start, gap.end, gap.missing) == (utc("2024-03-03T22:00"), utc("2024-03-15T21:00"), 10)


def test_a_weekend_alone_has_no_gap() -> None:
    assert find_gaps(Granularity.H1, np.empty(0, "datetime64[us]"), utc("2024-03-09"), utc("2024-03-10")) == ()


# --- From the database ----------------------------------------------------------------------------------------------------


def test_coverage_tells_first_last_bars_and_gaps_of_every_series(db: Database) -> None:
    days = bar_starts(Granularity.D, utc("2024-03-01"), utc("2024-03-31"))
    hours = bar_starts(Granularity.H1, utc("2024-03-04"), utc("2024-03-06"))
    upsert_bars(db, "EUR_USD", Granularity.D, random_bars(np.delete(days, 7)), vendor="test")
    upsert_bars(db, "USD_JPY", Granularity.H1, random_bars(hours), vendor="test")

    found = coverage(db)

    assert found == [
        Coverage("USD_JPY", Granularity.H1, to_datetime(hours[0]), to_datetime(hours[-1]), len(hours), ()),
        Coverage(
            *("EUR_USD", Granularity.D, to_datetime(days[0]), to_datetime(days[-1]), len(days) - 1),
            (Gap(to_datetime(days[7]), to_datetime(days[8]), 1),),
        ),
    ]


def test_a_period_counts_what_is_missing_at_its_ends(db: Database) -> None:
    days = bar_starts(Granularity.D, utc("2024-03-01"), utc("2024-03-31"))
    upsert_bars(db, "EUR_USD", Granularity.D, random_bars(days[3:-3]), vendor="test")

    (found,) = coverage(db, symbols=["EUR_USD"], start=utc("2024-03-01"), end=utc("2024-03-31"))

    assert [gap.missing for gap in found.gaps] == [3, 3]
    assert found.bars == len(days) - 6


def test_a_series_that_is_named_is_reported_even_when_nothing_is_stored(db: Database) -> None:
    (found,) = coverage(db, symbols=["USD_JPY"], granularity=Granularity.D, start=utc("2024-03-04"), end=utc("2024-03-08"))

    assert (found.first, found.last, found.bars) == (None, None, 0)
    assert [gap.missing for gap in found.gaps] == [4]
    assert coverage(db) == []


def test_coverage_of_an_unknown_symbol_is_refused(db: Database) -> None:
    with pytest.raises(UnknownSymbol, match="EUR_SEK"):
        coverage(db, symbols=["EUR_SEK"])
