"""Long series are thinned for display, and nothing that a reader looks for is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import random_bars

from mbats.market import Granularity, bar_start, bar_starts
from mbats.trading.report import MAX_CANDLES, extremes, thin_candles

START = datetime(2021, 1, 4, tzinfo=UTC)


def falls(nav):
    return nav / np.maximum.accumulate(nav) - 1


@given(
    steps=st.lists(st.integers(-1000, 1000), min_size=1, max_size=400),
    slices=st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_a_thinned_equity_curve_keeps_its_ends_its_extremes_and_its_deepest_drawdown(steps, slices):
    nav = 1e6 + np.cumsum(np.array(steps, float))
    columns = (nav, nav[::-1].copy(), falls(nav))

    kept = extremes(columns, slices)

    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(nav) - 1
    for column in columns:
        assert column[kept].min() == column.min()
        assert column[kept].max() == column.max()


@given(count=st.integers(1, 3000), slices=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_every_stretch_of_the_curve_keeps_its_own_low_and_high_and_few_points(count, slices):
    column = np.random.default_rng(count).normal(size=count)

    kept = extremes((column,), slices)

    edges = np.linspace(0, count, min(slices, count) + 1).astype(int)
    for start, end in pairwise(edges):
        inside = kept[(kept >= start) & (kept < end)]
        assert column[inside].min() == column[start:end].min()
        assert column[inside].max() == column[start:end].max()
    assert len(kept) <= 3 * slices + 1


@given(count=st.integers(1, 700), limit=st.integers(1, 200), granularity=st.sampled_from(["M1", "M15", "H1", "H4", "D", "W"]))
@settings(max_examples=80, deadline=None)
def test_thinned_candles_are_few_and_cover_the_same_prices(count, limit, granularity):
    length = Granularity(granularity)
    bars = random_bars(bar_starts(length, START, START + length.length * (count * 2 + 300))[:count])

    candles = thin_candles(bars, length, limit)

    assert 1 <= len(candles.time) <= limit
    assert np.isin(candles.time, bars.time).all()
    assert candles.open[0] == bars.mid_open[0]
    assert candles.close[-1] == bars.mid_close[-1]
    assert candles.high.max() == bars.mid_high.max()
    assert candles.low.min() == bars.mid_low.min()
    bounds = np.append(np.searchsorted(bars.time, candles.time), len(bars))
    for i, (start, end) in enumerate(pairwise(bounds)):
        assert candles.high[i] == bars.mid_high[start:end].max()
        assert candles.close[i] == bars.mid_close[end - 1]


def test_bars_that_are_few_enough_are_drawn_one_by_one():
    bars = random_bars(bar_starts(Granularity.H1, START, datetime(2021, 3, 1, tzinfo=UTC)))

    candles = thin_candles(bars, Granularity.H1)

    assert candles.step == "H1"
    assert (candles.time == bars.time).all()


def test_a_year_of_minutes_becomes_the_shortest_oanda_candles_that_fit():
    bars = random_bars(bar_starts(Granularity.M1, START, datetime(2022, 1, 4, tzinfo=UTC)))

    candles = thin_candles(bars, Granularity.M1)

    assert candles.step == "H4"
    assert 1_500 < len(candles.time) <= MAX_CANDLES
    assert (bar_start(Granularity.H4, candles.time) == np.unique(bar_start(Granularity.H4, bars.time))).all()


def test_ten_years_of_days_become_candles_of_two_days():
    bars = random_bars(bar_starts(Granularity.D, datetime(2011, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)))

    candles = thin_candles(bars, Granularity.D)

    assert candles.step == "2 \N{MULTIPLICATION SIGN} D"
    assert 1_000 < len(candles.time) <= MAX_CANDLES
