"""A label is what came after the decision, at prices that could be had, and knows nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml.science.walks import HOUR, bars_of, random_walk

from mbats.market import Bars
from mbats.ml.labels import average_true_range, barriers, label
from mbats.ml.recipe import LabelSpec

SPECS = [
    LabelSpec(kind=kind, horizon=horizon, after_costs=costs)
    for kind in ("forward_return", "direction", "triple_barrier")
    for horizon, costs in ((1, True), (5, False), (12, True))
]


def other_prices(bars: Bars, rows: slice, seed: int = 7) -> Bars:
    """The same bars with other prices in these rows, consistent ones."""
    other = random_walk(len(bars), seed)
    changed = {}
    for field in fields(bars):
        column = getattr(bars, field.name).copy()
        if field.name not in ("time", "volume"):
            column[rows] = 1.7 * getattr(other, field.name)[rows]
        changed[field.name] = column
    return Bars(**changed)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@settings(max_examples=15, deadline=None)
@given(t=st.integers(20, 60))
def test_bars_after_the_exit_change_no_label(spec, t):
    bars = random_walk(80, 3)
    after = t + 1 + spec.horizon
    if after >= len(bars):
        return
    known = label(bars, spec)

    # The exit is at the open of bar t+1+h: its high, low and close are already too late.
    later = other_prices(bars, slice(after + 1, None))
    last = replace(later, bid_high=later.bid_high.copy(), ask_high=later.ask_high.copy(), bid_low=later.bid_low.copy())
    last.bid_high[after] *= 3
    last.ask_high[after] *= 3
    last.bid_low[after] /= 3
    found = label(last, spec)

    assert found.value[t] == known.value[t]
    assert found.end[t] == known.end[t]
    assert found.cost[t] == known.cost[t]


@pytest.mark.parametrize("spec", SPECS[:6], ids=str)
@settings(max_examples=15, deadline=None)
@given(t=st.integers(20, 60))
def test_bars_up_to_the_decision_change_no_label(spec, t):
    bars = random_walk(80, 3)

    found, known = label(other_prices(bars, slice(None, t + 1)), spec), label(bars, spec)

    np.testing.assert_array_equal(found.value[t:], known.value[t:])


@pytest.mark.parametrize("horizon", [1, 5, 12])
def test_bars_up_to_the_decision_only_set_the_distance_of_barriers(horizon):
    bars = random_walk(80, 3)
    distance = np.full(len(bars), 5e-4)

    for t in (20, 40, 60):
        found = barriers(other_prices(bars, slice(None, t + 1)), horizon, stop=distance, target=distance)
        np.testing.assert_array_equal(found.value[t:], barriers(bars, horizon, stop=distance, target=distance).value[t:])


def test_the_average_range_of_a_bar_does_not_know_the_next():
    bars = random_walk(80, 3)

    np.testing.assert_array_equal(average_true_range(bars[:50], 14), average_true_range(bars, 14)[:50])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_label_ends_where_its_last_price_was_known(spec):
    bars = random_walk(80, 3)
    found = label(bars, spec)
    known = np.flatnonzero(np.isfinite(found.value))

    assert known[-1] == len(bars) - 2 - spec.horizon
    assert np.isnat(found.end[known[-1] + 1 :]).all()
    assert (found.end[known] <= bars.time[known + 1 + spec.horizon]).all()
    assert (found.end[known] > bars.time[known + 1]).all()
    if spec.kind != "triple_barrier":
        np.testing.assert_array_equal(found.end[known], bars.time[known + 1 + spec.horizon])


def path(*mids: float, spread: float = 0.0) -> Bars:
    """Bars that open at these prices and move straight to the next one."""
    close = np.r_[mids[1:], mids[-1]]
    times = np.datetime64("2024-01-01", "us") + np.arange(len(mids)) * HOUR
    high, low = np.maximum(mids, close), np.minimum(mids, close)
    return Bars.from_mid(times, mids, high, low, close, np.ones(len(mids)), spread=spread)


def test_a_forward_return_is_that_from_the_next_open_to_the_open_h_later():
    found = label(path(1.0, 2.0, 2.1, 2.2, 9.0), LabelSpec(horizon=2, after_costs=False))

    assert found.value[:2] == pytest.approx([2.2 / 2.0 - 1, 9.0 / 2.1 - 1])
    assert np.isnan(found.value[2:]).all()
    assert found.cost.tolist() == [0.0] * 5


def test_either_side_earns_the_label_less_its_cost():
    bars = path(1.0, 1.10, 1.12, 1.13, spread=0.01)
    found = label(bars, LabelSpec(horizon=1))

    long = bars.bid_open[2] / bars.ask_open[1] - 1
    short = (bars.bid_open[1] - bars.ask_open[2]) / bars.bid_open[1]
    assert found.value[0] - found.cost[0] == pytest.approx(long, abs=1e-15)
    assert -found.value[0] - found.cost[0] == pytest.approx(short, abs=1e-15)
    assert found.cost[0] == pytest.approx(0.01 / 1.1, rel=0.05)


def test_a_move_within_the_spread_has_no_direction():
    spec = LabelSpec(kind="direction", horizon=1)

    assert label(path(1.0, 1.0, 1.02, 1.0, spread=0.01), spec).value[:2].tolist() == [1.0, -1.0]
    assert label(path(1.0, 1.0, 1.005, 1.0, spread=0.01), spec).value[:2].tolist() == [0.0, 0.0]
    assert label(path(1.0, 1.0, 1.005, 1.0, spread=0.01), replace_costs(spec)).value[:2].tolist() == [1.0, -1.0]


def replace_costs(spec: LabelSpec) -> LabelSpec:
    return spec.model_copy(update={"after_costs": False})


@pytest.mark.parametrize(
    ("mids", "value", "bars_looked_at"),
    [
        ((1.0, 1.0, 1.005, 1.011, 1.0, 1.0), 1.0, 3),  # bar 2 reaches 1.01: known when bar 3 begins
        ((1.0, 1.0, 0.995, 0.989, 1.0, 1.0), -1.0, 3),
        ((1.0, 1.0, 1.001, 1.002, 1.001, 1.0), 0.0, 5),  # neither by the open of bar 5
        ((1.0, 1.0, 1.005, 0.985, 1.1, 1.1), -1.0, 3),
    ],
)
def test_the_barrier_that_is_reached_first_counts(mids, value, bars_looked_at):
    bars = path(*mids)
    distance = np.full(len(bars), 0.01)

    found = barriers(bars, 4, stop=distance, target=distance)

    assert found.value[0] == value
    assert found.end[0] == bars.time[bars_looked_at]


def test_a_bar_that_reaches_stop_and_target_counts_as_stopped():
    steps = np.zeros((4, 4))
    steps[1] = [0.02, -0.04, 0.02, 0.0]
    bars = bars_of(steps)
    distance = np.full(4, 0.01)

    found = barriers(bars, 2, stop=distance, target=distance)

    assert found.value[0] == 0
    assert found.end[0] == bars.time[2]


def test_the_spread_keeps_a_target_away():
    distance = np.full(6, 0.01)
    mids = (1.0, 1.0, 1.011, 1.0, 1.0, 1.0)

    assert barriers(path(*mids), 2, stop=distance, target=distance).value[0] == 1
    assert barriers(path(*mids, spread=0.004), 2, stop=distance, target=distance).value[0] == 0


@pytest.mark.parametrize("kind", ["forward_return", "direction", "triple_barrier"])
@pytest.mark.parametrize("count", [0, 1, 2, 13])
def test_bars_that_do_not_suffice_have_no_label(kind, count):
    found = label(random_walk(100, 1)[:count], LabelSpec(kind=kind, horizon=12))

    assert len(found) == count
    assert np.isnan(found.value).all()
    assert np.isnat(found.end).all()
