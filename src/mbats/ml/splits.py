"""Folds in order of time: each is tested on bars after all that it was trained on, its labels included.

Training never follows its test, so there is nothing to shuffle. A row whose label ends after the test begins has seen the
test's prices, and is purged. The embargo widens that gap, for features whose memory outlasts the label (López de Prado, Advances
in Financial Machine Learning, 2018, chapter 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbats.errors import UsageError
from mbats.market import Times
from mbats.ml.recipe import SplitSpec

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Fold:
    """One training and its test, as ascending row numbers; times are UTC.

    Training looked at prices in [train_from, train_to], the last of which its labels did; `train_to` is not after `test_from`.
    The test's bars start in [test_from, test_to).
    """

    number: int
    train: Rows
    test: Rows
    train_from: np.datetime64
    train_to: np.datetime64
    test_from: np.datetime64
    test_to: np.datetime64


def walk_forward(time: Times, end: Times, spec: SplitSpec) -> list[Fold]:
    """Folds over rows that are sorted by `time` (n,); `end` (n,) is when each label was known.

    The bars after the first `min_train` are cut into `folds` tests of equal length, give or take one bar; bars of the same time
    in several symbols are never parted. Raises UsageError when there are too few bars, or nothing is left to train on.
    """
    bars = np.unique(time)
    first = spec.min_train if spec.min_train is not None else max(2 * len(bars) // 5, 1)
    if len(bars) < first + spec.folds:
        raise UsageError(
            f"{len(bars)} bars with features and labels are too few: {spec.folds} folds after {first} bars of training "
            f"need at least {first + spec.folds}. Nothing was trained. Give a longer period or fewer folds."
        )
    edges = first + np.arange(spec.folds + 1) * (len(bars) - first) // spec.folds
    after = np.append(bars, bars[-1] + np.timedelta64(1, "us"))  # half-open, also behind the last bar
    return [_fold(number, time, end, bars, spec, int(edges[number]), after[edges[number + 1]]) for number in range(spec.folds)]


def _fold(number: int, time: Times, end: Times, bars: Times, spec: SplitSpec, first: int, test_to: np.datetime64) -> Fold:
    test_from = bars[first]
    known = end <= bars[max(first - spec.embargo, 0)]
    if spec.train_bars is not None and spec.kind == "rolling":
        known &= time >= bars[max(first - spec.train_bars, 0)]
    train = np.flatnonzero(known & (time < test_from))
    if not len(train):
        raise UsageError(
            f"Nothing is left to train fold {number + 1} on, which is tested from {test_from}Z: no label of the {first} bars "
            f"before it ends {spec.embargo} bars earlier. Nothing was trained. "
            "Give a longer period, a shorter horizon or a shorter embargo."
        )
    test = np.flatnonzero((time >= test_from) & (time < test_to))
    return Fold(number, train, test, time[train[0]], end[train].max(), test_from, test_to)
