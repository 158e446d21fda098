"""One market, whoever asks: the same bars in any window, and every length made of the same prices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.market import MAJORS, Granularity
from mbats.simulator.alignment import OANDA, starts_between
from mbats.simulator.prices import ASK, BID, CLOSE, HIGH, LOW, MID, OPEN, Candles
from mbats.simulator.randomness import uniforms
from mbats.simulator.sample import SampleMarket
from mbats.simulator.ticks import refine

SPAN = 14 * 1440
BEGIN = np.datetime64("2019-10-28", "us")  # two weeks over the end of American summer time


def at(minute: int) -> np.datetime64:
    return BEGIN + np.timedelta64(minute, "m")


def assert_same(left: Candles, right: Candles) -> None:
    np.testing.assert_array_equal(left.time, right.time)
    np.testing.assert_array_equal(left.prices, right.prices)
    np.testing.assert_array_equal(left.volume, right.volume)


@pytest.fixture(scope="module")
def fortnight(market) -> Candles:
    return market.bars("AUD_USD", at(0), at(SPAN))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, SPAN), st.integers(0, SPAN))
def test_a_window_holds_the_same_bars_whichever_window_it_is(market, fortnight, first, second):
    start, end = sorted((at(first), at(second)))

    assert_same(market.bars("AUD_USD", start, end), fortnight.between(start, end))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1100), st.sampled_from(MAJORS))
def test_a_market_asked_for_the_first_time_gives_what_one_gives_that_was_asked_for_all(market, week, pair):
    start = np.datetime64("2005-01-02", "us") + np.timedelta64(7 * week, "D")
    end = start + np.timedelta64(9, "D")

    assert_same(SampleMarket(20050103).bars(pair, start, end), market.bars(pair, start, end))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, SPAN * 60), st.integers(0, 2 * 3600))
def test_ticks_are_the_same_in_any_window(market, second, length):
    start = at(0) + np.timedelta64(second, "s")
    end = start + np.timedelta64(length, "s")
    wide = market.ticks("AUD_USD", start - np.timedelta64(47, "m"), end + np.timedelta64(3, "h")).between(start, end)

    ticks = market.ticks("AUD_USD", start, end)

    np.testing.assert_array_equal(ticks.time, wide.time)
    np.testing.assert_array_equal(ticks.bid, wide.bid)
    np.testing.assert_array_equal(ticks.ask, wide.ask)


@pytest.mark.parametrize("pair", ["EUR_USD", "USD_JPY", "NZD_USD"])
@pytest.mark.parametrize("granularity", [Granularity.S5, Granularity.S10, Granularity.S15, Granularity.S30])
def test_seconds_aggregated_again_are_exactly_the_minutes(market, pair, granularity):
    start, end = at(0), at(2 * 1440)
    ticks = Candles.of_ticks(market.ticks(pair, start, end))
    seconds = ticks.aggregate(starts_between(granularity, start, end, OANDA))

    minutes = seconds.aggregate(starts_between(Granularity.M1, start, end, OANDA))

    assert len(seconds) > len(minutes)
    assert_same(minutes, market.bars(pair, start, end))


def test_hours_aggregated_to_days_are_exactly_the_days(market):
    start, end = np.datetime64("2019-09-01T21:00", "us"), np.datetime64("2019-12-01T22:00", "us")
    minutes = market.bars("USD_CAD", start, end)
    days = starts_between(Granularity.D, start, end, OANDA)

    hours = minutes.aggregate(starts_between(Granularity.H1, start, end, OANDA))

    assert_same(hours.aggregate(days), minutes.aggregate(days))


def test_prices_of_a_bar_agree_with_each_other_on_every_side(fortnight):
    for side in (BID, ASK, MID):
        prices = fortnight.prices[side]
        assert (prices[HIGH] >= np.maximum(prices[OPEN], prices[CLOSE])).all()
        assert (prices[LOW] <= np.minimum(prices[OPEN], prices[CLOSE])).all()
    assert (fortnight.prices[ASK] > fortnight.prices[BID]).all()
    np.testing.assert_array_equal(fortnight.prices[MID], fortnight.prices[BID] + fortnight.prices[ASK])
    assert (fortnight.volume > 0).all()


def test_highs_of_mid_are_not_made_of_highs_of_bid_and_ask(market):
    """In a longer candle bid and ask reach their highs at different spreads; each side is aggregated by itself."""
    month = market.bars("EUR_USD", np.datetime64("2023-03-01", "us"), np.datetime64("2023-04-01", "us"))
    days = month.aggregate(starts_between(Granularity.D, month.time[0], month.time[-1], OANDA))

    assert (days.prices[MID, HIGH] <= days.prices[BID, HIGH] + days.prices[ASK, HIGH]).all()
    assert (days.prices[MID, LOW] >= days.prices[BID, LOW] + days.prices[ASK, LOW]).all()
    assert (days.prices[MID, LOW] > days.prices[BID, LOW] + days.prices[ASK, LOW]).any()


@given(st.data())
def test_refined_minutes_touch_high_and_low_between_open_and_close(data):
    count = data.draw(st.integers(1, 40))
    ends = [data.draw(st.integers(1000, 1050)) for _ in range(2)]
    if count == 1:
        ends[1] = ends[0]
    up, down = (data.draw(st.integers(0, 30)) if count >= need else 0 for need in (3, 4))
    bar = np.array([[ends[0]], [max(ends) + up], [min(ends) - down], [ends[1]]], np.int32)
    minute = np.array(["2024-05-16T09:30"], "datetime64[us]")

    ticks = refine(data.draw(st.integers(0, 9)), "EUR_USD", minute, bar, np.array([13], np.int32), np.array([count], np.int32))

    assert len(ticks) == count
    assert [ticks.bid[0], ticks.bid.max(), ticks.bid.min(), ticks.bid[-1]] == bar[:, 0].tolist()
    assert (np.diff(ticks.time) >= np.timedelta64(0)).all()
    assert minute[0] <= ticks.time[0] <= ticks.time[-1] < minute[0] + np.timedelta64(1, "m")
    np.testing.assert_array_equal(ticks.ask, ticks.bid + 13)


def test_threads_that_ask_together_get_what_one_gets_alone(market):
    fresh = SampleMarket(20050103)
    windows = [(pair, at(1440 * day), at(1440 * (day + 3))) for day in range(0, 12, 2) for pair in MAJORS[:3]]

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda window: fresh.bars(*window), windows))

    for window, candles in zip(windows, together, strict=True):
        assert_same(candles, market.bars(*window))


def test_indexed_numbers_are_uniform_and_unrelated():
    index = np.arange(200_000)
    draws = uniforms(1, "a", index)

    assert abs(draws.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.01
    assert abs(np.corrcoef(draws, uniforms(1, "b", index))[0, 1]) < 0.01
    assert abs(np.corrcoef(draws, uniforms(2, "a", index))[0, 1]) < 0.01
