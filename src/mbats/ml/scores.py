"""How good predictions were, each figure worked out over rows that the model was not trained on.

`value` (n,) is the label: a return before costs, or 1, 0, −1. `expected` (n,) is the prediction before costs: a return, or
P(up) − P(down). A figure that the rows do not define (no variance, no side taken) is NaN; `score` leaves it out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbats.market import Floats
from mbats.ml.recipe import Kind

TINY = 1e-12  # a probability of zero would make one wrong row cost infinitely much


def r2(value: Floats, expected: Floats, benchmark: float | Floats = 0.0) -> float:
    """The share of squared error that the prediction saves against another forecast, by default zero.

    Against zero as Gu, Kelly and Xiu (2020, Empirical asset pricing via machine learning, equation 19) do it: a mean that was
    estimated in training is a worse forecast of returns than none, and gives a model credit for being silent.
    """
    total = float(np.sum((value - benchmark) ** 2))
    return 1 - float(np.sum((value - expected) ** 2)) / total if total > 0 else math.nan


def accuracy_edge(value: Floats, expected: Floats, constant: float | Floats) -> float:
    """How much oftener the side of the prediction was right than the constant guess, over the rows that went up or down.

    `constant` is the side (1 or −1) that was the more frequent in training: the better guess, as it could be known then. Where
    the prediction takes no side, it counts as the constant guess.
    """
    moved = value != 0
    if not moved.any():
        return math.nan
    side = np.where(expected == 0, constant, np.sign(expected))
    came = np.sign(value)
    return float(np.mean(side[moved] == came[moved]) - np.mean((came == constant)[moved]))


def hit_rate(value: Floats, expected: Floats) -> float:
    """The share of rows on which the predicted side was right, over those that moved and on which a side was predicted."""
    taken = (expected != 0) & (value != 0)
    return float(np.mean(np.sign(expected[taken]) == np.sign(value[taken]))) if taken.any() else math.nan


def information_coefficient(value: Floats, expected: Floats) -> float:
    """Spearman's rank correlation of prediction and outcome, in [−1, 1]."""
    from scipy.stats import rankdata

    if len(value) < 2 or np.ptp(value) == 0 or np.ptp(expected) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(value), rankdata(expected))[0, 1])


def alignment(value: Floats, expected: Floats) -> float:
    """Correlation of prediction and outcome about zero, in [−1, 1]: what R² against zero would be, squared, at the best scale."""
    power = float(np.sum(value**2) * np.sum(expected**2))
    return float(np.sum(value * expected)) / math.sqrt(power) if power > 0 else 0.0


def brier(value: Floats, probability: NDArray[np.float64]) -> float:
    """Brier's score (1950) of (n, 3) P(down), P(neither), P(up): mean squared distance from what came, in [0, 2]."""
    return float(np.mean(np.sum((probability - _came(value)) ** 2, axis=1)))


def log_loss(value: Floats, probability: NDArray[np.float64]) -> float:
    """Mean of −log of the probability (n, 3) that what came was given, in nats."""
    return float(-np.mean(np.log(np.maximum(np.sum(probability * _came(value), axis=1), TINY))))


def _came(value: Floats) -> NDArray[np.float64]:
    return np.stack([value < 0, value == 0, value > 0], axis=1).astype(np.float64)


def mean_after_costs(value: Floats, edge: Floats, cost: Floats) -> float:
    """Mean return after costs, as a fraction, of a position on each row whose `edge` (n,) takes a side; regressors only."""
    taken = edge != 0
    return float(np.mean(np.sign(edge[taken]) * value[taken] - cost[taken])) if taken.any() else math.nan


@dataclass(frozen=True, slots=True)
class Calibration:
    """Rows of like predictions: how many, what was predicted of them and what came, on average."""

    count: int
    predicted: float
    observed: float


def calibration_table(value: Floats, expected: Floats, bins: int = 10) -> list[Calibration]:
    """Rows in order of their prediction, in groups of equal size; equal predictions stay together. Empty without rows."""
    if not len(value):
        return []
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    group = np.searchsorted(edges, expected, side="left")
    return [
        Calibration(int(mask.sum()), float(expected[mask].mean()), float(value[mask].mean()))
        for mask in (group == number for number in np.unique(group))
    ]


def score(
    kind: Kind,
    value: Floats,
    expected: Floats,
    *,
    edge: Floats,
    cost: Floats,
    mean: Floats,
    constant: Floats,
    probability: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """All figures that these rows define, by name, all finite.

    `edge` (n,) is the prediction after costs, `mean` and `constant` (n,) the mean label and the more frequent side in the
    training of the model that predicted the row. `probability` (n, 3) is a classifier's.
    """
    figures = {
        "rows": float(len(value)),
        "r2": r2(value, expected),
        "r2_against_training_mean": r2(value, expected, mean),
        "accuracy_edge": accuracy_edge(value, expected, constant),
        "hit_rate": hit_rate(value, expected),
        "information_coefficient": information_coefficient(value, expected),
        "sides_taken": float(np.mean(edge != 0)) if len(edge) else math.nan,
    }
    if kind == "regressor":
        figures["mean_after_costs"] = mean_after_costs(value, edge, cost)
    elif probability is not None:
        figures |= {"brier": brier(value, probability), "log_loss": log_loss(value, probability)}
    return {name: figure for name, figure in figures.items() if math.isfinite(figure)}
