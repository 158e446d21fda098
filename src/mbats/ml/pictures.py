"""Pictures of a training: what the model looks at, whether it means what it says, and what that was worth.

Everything is of rows and days that the predicting models had not been trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mbats.market import Floats
from mbats.ml.dataset import Samples
from mbats.ml.evaluation import Daily
from mbats.ml.recipe import Recipe
from mbats.ml.scores import alignment, calibration_table
from mbats.ml.walkforward import WalkForward

WIDTH, HEIGHT, DPI = 8.0, 4.5, 110  # inches, inches, dots per inch
REPEATS = 3  # shuffles of each feature
ROWS = 5_000  # of each fold, at most; more change the picture by nothing that is seen


def draw_all(folder: Path, recipe: Recipe, samples: Samples, folds: WalkForward, daily: Daily) -> None:
    """Write `importance.png`, `calibration.png`, `equity.png` and `folds.png` into `folder`."""
    _save(folder / "importance.png", lambda axes: _importance(axes, samples, folds, recipe.seed))
    _save(folder / "calibration.png", lambda axes: _calibration(axes, recipe, samples, folds))
    _save(folder / "equity.png", lambda axes: _equity(axes, daily))
    _save(folder / "folds.png", lambda axes: _folds(axes, folds))


def _save(path: Path, draw: Callable[[Any], None]) -> None:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")  # no pyplot, which keeps figures and wants a screen
    draw(figure.subplots())
    figure.savefig(path, dpi=DPI)


def permutation_importance(samples: Samples, folds: WalkForward, seed: int) -> tuple[Floats, Floats]:
    """By how much the alignment of prediction and outcome falls when a feature is shuffled, and its spread: (k,) and (k,).

    Each fold is asked about its own test rows (Breiman, Random Forests, 2001, with the score of `scores.alignment`).
    """
    generator = np.random.default_rng(seed)
    falls: list[list[float]] = [[] for _ in samples.names]
    for result in folds.folds:
        rows = result.fold.test[:: max(1, len(result.fold.test) // ROWS)]
        features, value = samples.features[rows], samples.value[rows]
        whole = alignment(value, _expected(result.estimator, features))
        for column in range(len(samples.names)):
            for _ in range(REPEATS):
                shuffled = features.copy()
                shuffled[:, column] = generator.permutation(shuffled[:, column])
                falls[column].append(whole - alignment(value, _expected(result.estimator, shuffled)))
    table = np.array(falls)
    return table.mean(axis=1), table.std(axis=1)


def _expected(estimator: Any, features: Floats) -> Floats:
    return np.asarray(estimator.expected(features), np.float64)


def _importance(axes: Any, samples: Samples, folds: WalkForward, seed: int) -> None:
    mean, spread = permutation_importance(samples, folds, seed)
    order = np.argsort(mean)
    axes.barh([samples.names[place] for place in order], mean[order], xerr=spread[order], color="#4c78a8", ecolor="#999999")
    axes.axvline(0, color="black", linewidth=0.8)
    _say_silence(axes, folds)
    axes.set_xlabel("fall of the correlation of prediction and outcome when the feature is shuffled")
    axes.set_title("What the model looks at, out of sample")


def _calibration(axes: Any, recipe: Recipe, samples: Samples, folds: WalkForward) -> None:
    tested = np.isfinite(folds.expected)
    table = calibration_table(samples.value[tested], folds.expected[tested])
    said, came = [group.predicted for group in table], [group.observed for group in table]
    axes.plot(said, came, "o", color="#4c78a8", label="groups of like predictions")
    ends = [min(said, default=0.0), max(said, default=0.0)]
    axes.plot(ends, ends, color="#999999", linewidth=0.8, label="what is said, comes")
    axes.axhline(0, color="black", linewidth=0.5, zorder=0)
    if recipe.kind == "regressor":
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value * 100:.3g}%")
        axes.set_xlabel("predicted return, on average")
        axes.set_ylabel("return that came, on average")
    else:
        axes.set_xlabel("predicted P(up) less P(down), on average")
        axes.set_ylabel("share of up less share of down that came")
    _say_silence(axes, folds)
    axes.set_title("Whether the model means what it says, out of sample and before costs")
    axes.legend()


def _equity(axes: Any, daily: Daily) -> None:
    for name, returns, colour in (("with the model", daily.model, "#4c78a8"), ("without", daily.baseline, "#999999")):
        axes.plot(daily.day.astype("datetime64[D]"), np.cumprod(1 + returns) - 1, color=colour, label=name)
    axes.axhline(0, color="black", linewidth=0.5, zorder=0)  # below the line of a model that never trades
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axes.set_title("The strategy out of sample, after costs")
    axes.tick_params(axis="x", rotation=30)
    axes.legend()


def _say_silence(axes: Any, folds: WalkForward) -> None:
    """An empty picture looks like a mistake, so it says why it is empty."""
    if not np.any(folds.expected[np.isfinite(folds.expected)]):
        words, box = "The model found nothing and says nothing.", {"facecolor": "white", "edgecolor": "none"}
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color="#666666", bbox=box)


def _folds(axes: Any, folds: WalkForward) -> None:
    numbers = [result.fold.number + 1 for result in folds.folds]
    scores = [result.scores.get("r2", np.nan) for result in folds.folds]
    axes.bar(numbers, scores, color="#4c78a8")
    axes.use_sticky_edges = False
    axes.margins(y=0.1)  # room for words beside the bars, above zero and below
    axes.axhline(0, color="black", linewidth=0.8)
    for number, score in zip(numbers, scores, strict=True):
        if score == 0:
            axes.annotate("says nothing", (number, 0), (0, 4), textcoords="offset points", ha="center", color="#666666")
    axes.set_xticks(numbers, [f"{result.fold.test_from!s:.10}\nto {result.fold.test_to!s:.10}" for result in folds.folds])
    axes.set_ylabel("R² against a forecast of zero")
    axes.set_title("Fold by fold")


__all__ = ["draw_all", "permutation_importance"]
