"""Training never sees what it is tested on, in any cut of any bars."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml.science.walks import HOUR

from mbats.errors import UsageError
from mbats.ml.recipe import SplitSpec
from mbats.ml.splits import Fold, walk_forward

START = np.datetime64("2024-01-01", "us")


def rows(bars: int, symbols: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    time = np.repeat(START + np.arange(bars) * HOUR, symbols)
    return time, time + (1 + horizon) * HOUR


@st.composite
def cuts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, SplitSpec, list[Fold]]:
    """Rows with gaps and labels that end at various times, and their folds."""
    steps = draw(st.lists(st.integers(0, 5), min_size=20, max_size=120))  # 0 is another symbol at the same time
    time = START + np.cumsum(steps) * HOUR
    held = draw(st.lists(st.integers(1, 9), min_size=len(time), max_size=len(time)))
    end = time + np.array(held) * HOUR
    kind = draw(st.sampled_from(["expanding", "rolling"]))
    spec = SplitSpec(
        kind=kind,
        folds=draw(st.integers(1, 6)),
        train_bars=draw(st.integers(5, 40)) if kind == "rolling" else None,
        embargo=draw(st.integers(0, 6)),
    )
    try:
        return time, end, spec, walk_forward(time, end, spec)
    except UsageError:
        assume(False)
        raise


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_no_label_of_a_training_ends_within_its_test_or_its_embargo(cut):
    time, end, spec, folds = cut
    bars = np.unique(time)
    for fold in folds:
        before = np.flatnonzero(bars == fold.test_from)[0]
        assert (end[fold.train] <= bars[before - spec.embargo]).all()
        assert (time[fold.train] < fold.test_from).all()
        assert fold.train_to == end[fold.train].max() <= fold.test_from
        assert fold.train_from == time[fold.train].min()


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_each_row_after_the_first_training_is_tested_once(cut):
    time, _, spec, folds = cut
    tested = np.concatenate([fold.test for fold in folds])
    np.testing.assert_array_equal(tested, np.flatnonzero(time >= folds[0].test_from))
    assert [fold.number for fold in folds] == list(range(spec.folds))
    for fold, after in pairwise(folds):
        assert fold.test_to == after.test_from
    for fold in folds:
        assert ((time[fold.test] >= fold.test_from) & (time[fold.test] < fold.test_to)).all()
        assert len(fold.test)
        assert len(fold.train)


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_no_row_is_left_out_of_training_without_a_reason(cut):
    time, end, spec, folds = cut
    bars = np.unique(time)
    for fold in folds:
        before = int(np.flatnonzero(bars == fold.test_from)[0])
        fits = end <= bars[before - spec.embargo]
        if spec.kind == "rolling":
            fits &= time >= bars[max(before - spec.train_bars, 0)]
        np.testing.assert_array_equal(fold.train, np.flatnonzero(fits & (time < fold.test_from)))


def test_a_rolling_training_is_as_long_as_it_says_less_the_purge():
    time, end = rows(100, 1, horizon=3)
    folds = walk_forward(time, end, SplitSpec(kind="rolling", folds=3, train_bars=20, min_train=40))

    assert [len(fold.train) for fold in folds] == [17, 17, 17]  # decided at close, sold at the open 1 + 3 bars later
    assert [len(fold.test) for fold in folds] == [20, 20, 20]


def test_bars_of_the_same_time_in_several_symbols_are_never_parted():
    time, end = rows(50, 3, horizon=2)
    folds = walk_forward(time, end, SplitSpec(folds=4))

    for fold in folds:
        assert not set(time[fold.test]) & set(np.delete(time, fold.test))


def test_too_few_bars_are_refused_with_the_numbers():
    time, end = rows(10, 2, horizon=1)
    with pytest.raises(UsageError, match="10 bars with features and labels are too few: 5 folds after 8 bars"):
        walk_forward(time, end, SplitSpec(folds=5, min_train=8))


def test_a_purge_that_leaves_nothing_is_refused():
    time, end = rows(60, 1, horizon=30)
    with pytest.raises(UsageError, match="Nothing is left to train fold 1 on"):
        walk_forward(time, end, SplitSpec(folds=2, min_train=20))


def test_no_rows_at_all_are_refused():
    nothing = np.empty(0, "datetime64[us]")
    with pytest.raises(UsageError, match="0 bars"):
        walk_forward(nothing, nothing, SplitSpec(folds=2))
