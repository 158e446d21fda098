"""The strategy itself, run with models that had not seen the bars on which they are asked.

Each bar is predicted by the fold that was trained before it; before the first fold there is no prediction, and a strategy that
waits for one holds. The run is over all bars, so that indicators stand where they would; only the days of the folds count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mbats.errors import UsageError
from mbats.market import Floats, Times
from mbats.ml.estimators import edge_of
from mbats.ml.evaluation import Daily, Evaluation, compare
from mbats.ml.recipe import Kind
from mbats.ml.walkforward import FoldResult, WalkForward
from mbats.riskdb.records import RunSpec
from mbats.trading.model import Floats2D, ModelSet, is_reference
from mbats.trading.session import Progress, RunData, run_backtest
from mbats.trading.strategies import LoadedStrategy

FOLDS = "walk-forward"  # what the strategy's parameter says during the run


class FoldModels:
    """The models of a walk-forward as one: bars before the first test have no prediction, those after the last test have its."""

    def __init__(self, kind: Kind, folds: Sequence[FoldResult]) -> None:
        self._kind: Kind = kind
        self._folds = folds
        self._starts = np.array([result.fold.test_from for result in folds], "datetime64[us]")

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        """The edge of each row, (n,)."""
        edges = np.full(len(times), np.nan)
        which = np.searchsorted(self._starts, times, side="right") - 1
        for number, result in enumerate(self._folds):
            rows = which == number
            if rows.any():
                edges[rows] = predict_edges(self._kind, result.estimator, features[rows])
        return edges


def predict_edges(kind: Kind, estimator: object, features: Floats2D) -> Floats:
    """What a fitted estimator tells a strategy of each row (n, k), as the registered model would, (n,)."""
    ask = "predict_proba" if kind == "classifier" else "predict"
    return edge_of(kind, getattr(estimator, ask)(features))


def model_parameters(strategy: LoadedStrategy) -> list[str]:
    """The strategy's parameters that take a model's reference. Raises UsageError when it has none."""
    found = [name for name in strategy.defaults() if is_reference(name)]
    if not found:
        raise UsageError(
            f"Strategy '{strategy.name}' has no parameter 'model', so it could not be told to use one. Declare model=\"\" among "
            "its params and give it to predicted(self.p.model, data, …)."
        )
    return found


def run_out_of_sample(
    strategy: LoadedStrategy, spec: RunSpec, data: RunData, kind: Kind, folds: WalkForward, *, progress: Progress | None = None
) -> tuple[Evaluation, Daily]:
    """The strategy with the models of the folds and without any, after the costs of `spec`, over the days of the tests."""
    names = model_parameters(strategy)
    models = ModelSet({FOLDS: (None, FoldModels(kind, folds.folds))})
    results = []
    for reference, given in ((FOLDS, models), ("", ModelSet())):
        chosen = replace(spec, parameters={**spec.parameters, **dict.fromkeys(names, reference)})
        results.append(run_backtest(chosen, strategy, data, models=given, progress=progress))
    return compare(results[0], results[1], folds.folds[0].fold.test_from)


__all__ = ["FoldModels", "model_parameters", "predict_edges", "run_out_of_sample"]
