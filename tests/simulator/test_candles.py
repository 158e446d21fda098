"""Which candles a request gets: window, count, completeness and order, against a plain reading of the rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.market import Granularity
from mbats.simulator.alignment import OANDA, Alignment, Weekday, candle_ends, candle_starts, starts_between
from mbats.simulator.candles import CandleBook
from mbats.simulator.prices import ASK, BID, CLOSE, HIGH, LOW, MID, OPEN, Candles, Ticks
from mbats.simulator.queries import CandleQuery

NOW = np.datetime64("2024-05-16T09:31:17.250000", "us")  # a Thursday, 05:31 in New York


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


def ask(granularity: str, start=None, end=None, count=None, *, alignment=OANDA, smooth=False, first=True) -> CandleQuery:
    start, end = (utc(text) if text else None for text in (start, end))
    return CandleQuery("EUR_USD", Granularity(granularity), ("B", "A"), start, end, count, alignment, smooth, first)


@pytest.fixture(scope="module")
def book(market) -> CandleBook:
    return CandleBook(market)


def times(candles: Candles) -> list[str]:
    return [str(time)[:19] for time in candles.time]


def test_without_from_the_last_candles_before_now_come(book):
    candles, complete = book.select(ask("M1", count=3), NOW)

    assert times(candles) == ["2024-05-16T09:29:00", "2024-05-16T09:30:00", "2024-05-16T09:31:00"]
    assert complete.tolist() == [True, True, False]


def test_five_hundred_candles_come_when_no_count_is_given(book):
    assert len(book.select(ask("M5"), NOW)[0]) == 500
    assert len(book.select(ask("M5", start="2020-01-15"), NOW)[0]) == 500


def test_the_forming_candle_holds_only_prices_from_before_now(book, market):
    for granularity in ("S30", "M1", "M15", "H1", "H4", "D", "W", "M"):
        candles, complete = book.select(ask(granularity, count=1), NOW)
        ticks = market.ticks("EUR_USD", candles.time[0], NOW)

        assert not complete[0]
        assert candles.volume[0] == len(ticks)
        assert candles.prices[BID, :, 0].tolist() == [ticks.bid[0], ticks.bid.max(), ticks.bid.min(), ticks.bid[-1]]
        assert candles.prices[ASK, :, 0].tolist() == [ticks.ask[0], ticks.ask.max(), ticks.ask.min(), ticks.ask[-1]]


def test_a_candle_is_complete_at_the_moment_it_ends(book):
    query = ask("M1", count=1)

    assert book.select(query, utc("2024-05-16T09:31:59.999999"))[1].tolist() == [False]
    candles, complete = book.select(query, utc("2024-05-16T09:32:00"))
    assert times(candles) == ["2024-05-16T09:31:00"]
    assert complete.tolist() == [True]


def test_a_complete_candle_never_changes(book):
    early, _ = book.select(ask("H4", "2024-05-15T00:00", "2024-05-16T01:00"), utc("2024-05-16T01:00"))
    late, _ = book.select(ask("H4", "2024-05-15T00:00", "2024-05-16T01:00"), NOW)

    np.testing.assert_array_equal(early.prices, late.prices)


def test_from_in_the_middle_of_a_candle_gets_that_candle_unless_told_otherwise(book):
    with_it, _ = book.select(ask("H1", "2024-05-15T10:20", count=2), NOW)
    without, _ = book.select(ask("H1", "2024-05-15T10:20", count=2, first=False), NOW)
    exactly, _ = book.select(ask("H1", "2024-05-15T10:00", count=2, first=False), NOW)

    assert times(with_it) == ["2024-05-15T10:00:00", "2024-05-15T11:00:00"]
    assert times(without) == times(exactly) == ["2024-05-15T11:00:00", "2024-05-15T12:00:00"]


def test_a_candle_that_starts_before_to_comes_even_when_it_ends_after_and_to_itself_does_not(book):
    inside, _ = book.select(ask("D", "2024-05-12", "2024-05-14T21:00:00.000001"), NOW)
    edge, _ = book.select(ask("D", "2024-05-12", "2024-05-14T21:00"), NOW)

    assert times(inside) == ["2024-05-12T21:00:00", "2024-05-13T21:00:00", "2024-05-14T21:00:00"]
    assert times(edge) == times(inside)[:-1]


def test_a_weekend_has_no_candles_and_a_count_reaches_over_it(book):
    assert not len(book.select(ask("M1", "2024-05-10T21:00", "2024-05-12T21:04"), NOW)[0])
    back, _ = book.select(ask("S5", end="2024-05-12T20:00", count=3), NOW)
    forth, _ = book.select(ask("M1", "2024-05-10T20:59", count=2), NOW)

    assert [time[:16] for time in times(back)] == ["2024-05-10T20:59"] * 3
    assert times(forth) == ["2024-05-10T20:59:00", "2024-05-12T21:04:00"]


def test_history_begins_in_2005_whatever_is_asked(book):
    first, _ = book.select(ask("D", "1970-01-01", count=1), NOW)
    before, _ = book.select(ask("H1", "0001-01-01", "0001-02-01"), NOW)
    months, complete = book.select(ask("M", count=5000), NOW)

    assert times(first) == ["2005-01-02T22:00:00"]
    assert not len(before)
    assert times(months)[0] == "2004-12-31T22:00:00"
    assert len(months) == 19 * 12 + 5
    assert complete.tolist() == [True] * (len(months) - 1) + [False]


def test_at_the_weekend_nothing_forms(book):
    candles, complete = book.select(ask("M5", count=1), utc("2024-05-18T12:00"))

    assert times(candles) == ["2024-05-17T20:55:00"]
    assert complete.tolist() == [True]


def test_days_follow_the_alignment_that_is_asked_for(book):
    berlin = Alignment(0, "Europe/Berlin", Weekday.MONDAY)

    days, _ = book.select(ask("D", "2024-03-28", "2024-04-03", alignment=berlin), NOW)
    weeks, _ = book.select(ask("W", "2024-03-20", "2024-04-10", alignment=berlin), NOW)

    # Good Friday trades; Berlin's clocks change on 31 March; Sunday's evening belongs to Sunday.
    expected = ["2024-03-27T23", "2024-03-28T23", "2024-03-30T23", "2024-03-31T22", "2024-04-01T22", "2024-04-02T22"]
    assert [time[:13] for time in times(days)] == expected
    assert [time[:13] for time in times(weeks)] == ["2024-03-17T23", "2024-03-24T23", "2024-03-31T22", "2024-04-07T22"]


def test_smooth_candles_open_where_the_one_before_closed(book):
    plain, _ = book.select(ask("M1", "2024-05-15T09:59", "2024-05-15T10:30"), NOW)
    smooth, _ = book.select(ask("M1", "2024-05-15T10:00", "2024-05-15T10:30", smooth=True), NOW)

    for side in (BID, ASK, MID):
        np.testing.assert_array_equal(smooth.prices[side, OPEN], plain.prices[side, CLOSE, :-1])
        assert (smooth.prices[side, HIGH] >= smooth.prices[side, OPEN]).all()
        assert (smooth.prices[side, LOW] <= smooth.prices[side, OPEN]).all()


@pytest.mark.parametrize("granularity", ["H1", "H4", "D", "W", "M"])
def test_candles_over_new_year_are_made_like_all_others(book, market, granularity):
    granularity = Granularity(granularity)
    grid = starts_between(granularity, utc("2022-11-30"), utc("2023-02-11"), OANDA)
    plain = market.bars("EUR_USD", grid[0], candle_ends(granularity, grid[-1:])[0]).aggregate(grid)

    candles, complete = book.select(ask(granularity, "2022-11-30", "2023-02-11"), NOW)

    keep = np.isin(candles.time, grid)
    assert keep[1:].all()  # the first one may cover `from`
    np.testing.assert_array_equal(candles.time[keep], plain.time)
    np.testing.assert_array_equal(candles.prices[:, :, keep], plain.prices)
    assert complete.all()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["S5", "S30", "M1", "M4", "M15", "H1", "H4", "D"]),
    st.integers(0, 5 * 1440),
    st.integers(0, 3 * 1440),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(["range", "forward", "backward"]),
)
def test_every_request_gets_what_a_plain_reading_of_the_rules_gives(book, market, granularity, begin, length, count, first, way):
    granularity = Granularity(granularity)
    start = utc("2024-05-08T11:13:07") + np.timedelta64(begin, "m")
    end = min(start + np.timedelta64(min(length, 60) if granularity.length.total_seconds() < 60 else length, "m"), NOW)
    query = CandleQuery(
        "EUR_USD", granularity, ("B",), None if way == "backward" else start, None if way == "forward" else end,
        None if way == "range" else count, OANDA, False, first,
    )  # fmt: skip

    candles, complete = book.select(query, NOW)

    expected = plainly(market, granularity, start, end, count, first, way)
    assert times(candles) == [str(time)[:19] for time in expected.time]
    np.testing.assert_array_equal(candles.prices, expected.prices)
    np.testing.assert_array_equal(candles.volume, expected.volume)
    np.testing.assert_array_equal(complete, candle_ends(granularity, expected.time) <= NOW)


def plainly(market, granularity, start, end, count, first, way) -> Candles:
    """All candles of some weeks from single prices or minutes, then the rules one by one."""
    if granularity.length.total_seconds() < 60:
        span = (start - np.timedelta64(4, "D"), min(start + np.timedelta64(4, "D"), NOW))
    else:
        span = (utc("2024-03-01T22:00"), NOW)
    grid = starts_between(granularity, candle_starts(granularity, np.array([span[0]]))[0], span[1], OANDA)
    base: Ticks | Candles
    if granularity.length.total_seconds() < 60:
        base = Candles.of_ticks(market.ticks("EUR_USD", grid[0], span[1]))
    else:
        whole = NOW.astype("datetime64[m]").astype("datetime64[us]")
        rest = Candles.of_ticks(market.ticks("EUR_USD", whole, NOW))
        base = Candles.concatenate([market.bars("EUR_USD", grid[0], whole), rest])
    every = base.aggregate(grid)
    if way != "backward":
        keep = every.time > start if not first else candle_ends(granularity, every.time) > start
        every = every[keep]
    if way != "forward":
        every = every[every.time < end]
    return {"range": every, "forward": every[:count], "backward": every[-count:]}[way]
