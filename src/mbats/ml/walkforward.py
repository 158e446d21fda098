"""A recipe tried as it would have been used: trained on what was known, tested on what came next, fold after fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbats.errors import UsageError
from mbats.market import Floats
from mbats.ml.dataset import Samples
from mbats.ml.estimators import ShrunkClassifier, ShrunkRegressor, edge_of, fit_or_say, make_base, make_estimator
from mbats.ml.recipe import Range, Recipe, Scalar, SplitSpec
from mbats.ml.scores import alignment, score
from mbats.ml.splits import Fold, walk_forward

Parameters = Mapping[str, Scalar | None]
INNER_FOLDS = 3  # of the search for parameters, all before the first reported test


@dataclass(frozen=True, slots=True)
class FoldResult:
    """One fold: its fitted estimator, and what that said of the test's rows.

    `prediction` (test,) is the edge that a strategy would have been told; `expected` (test,) the same before costs; `probability`
    (test, 3) is a classifier's, P(down), P(neither), P(up). `mean` and `constant` are the mean label and the more frequent side
    (1 or −1) of the training.
    """

    fold: Fold
    estimator: ShrunkRegressor | ShrunkClassifier
    prediction: Floats
    expected: Floats
    probability: NDArray[np.float64] | None
    mean: float
    constant: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class WalkForward:
    """All folds of a recipe. `prediction` and `expected` (n,) are NaN where a row lay in no test; `scores` are over all tests."""

    folds: tuple[FoldResult, ...]
    prediction: Floats
    expected: Floats
    scores: dict[str, float]


def fit_model(samples: Samples, recipe: Recipe, parameters: Parameters | None = None) -> ShrunkRegressor | ShrunkClassifier:
    """The recipe's estimator fitted on these samples: purged by the labels' ends inside, with their mean costs.

    Raises UsageError when there are too few samples, ConfigError when the recipe does not fit them.
    """
    estimator = make_estimator(recipe, parameters)
    columns = {"times": samples.time, "ends": samples.end, "costs": samples.cost}
    fitted: ShrunkRegressor | ShrunkClassifier = fit_or_say(recipe, estimator, samples.features, samples.value, **columns)
    return fitted


def run_folds(
    samples: Samples, recipe: Recipe, parameters: Parameters | None = None, *, on_fold: Callable[[FoldResult], None] | None = None
) -> WalkForward:
    """Train and test each fold of the recipe, the oldest first, and tell each to `on_fold` as it is done."""
    results = []
    for fold in walk_forward(samples.time, samples.end, recipe.splits):
        results.append(_run_fold(samples, recipe, parameters, fold))
        if on_fold is not None:
            on_fold(results[-1])
    prediction, expected, mean, constant = (np.full(len(samples), np.nan) for _ in range(4))
    for result in results:
        test = result.fold.test
        prediction[test], expected[test] = result.prediction, result.expected
        mean[test], constant[test] = result.mean, result.constant
    tested = np.concatenate([result.fold.test for result in results])
    scores = score(
        recipe.kind,
        samples.value[tested],
        expected[tested],
        edge=prediction[tested],
        cost=samples.cost[tested],
        mean=mean[tested],
        constant=constant[tested],
        probability=_together([result.probability for result in results]),
    )
    return WalkForward(tuple(results), prediction, expected, scores)


def _run_fold(samples: Samples, recipe: Recipe, parameters: Parameters | None, fold: Fold) -> FoldResult:
    train, test = samples[fold.train], samples[fold.test]
    estimator = fit_model(train, recipe, parameters)
    expected = estimator.expected(test.features)
    probability = estimator.predict_proba(test.features) if isinstance(estimator, ShrunkClassifier) else None
    edge = edge_of(recipe.kind, estimator.predict(test.features) if probability is None else probability)
    mean, constant = float(train.value.mean()), 1.0 if np.sum(np.sign(train.value)) >= 0 else -1.0
    scores = score(
        recipe.kind,
        test.value,
        expected,
        edge=edge,
        cost=test.cost,
        mean=np.full(len(test), mean),
        constant=np.full(len(test), constant),
        probability=probability,
    )
    return FoldResult(fold, estimator, edge, expected, probability, mean, constant, scores)


def _together(parts: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters that was tried: its number from 0, and how well its predictions lay with what came, in [−1, 1]."""

    number: int
    parameters: dict[str, Scalar]
    score: float


def tune(samples: Samples, recipe: Recipe, trials: int, on_trial: Callable[[Trial], None] | None = None) -> dict[str, Scalar]:
    """The best of `trials` sets of parameters from the recipe's `tune`, by Optuna's TPE with the recipe's seed.

    Only samples that the first reported fold trains on are used, in a walk-forward of their own, so that no reported
    figure has ever been tuned on. What is maximised is `scores.alignment` of the bare estimator, which does not depend on the
    scale that shrinkage sets later. Without trials, or without anything to tune, nothing is tried and nothing is changed.
    """
    if trials <= 0 or not recipe.tune:
        return {}
    import optuna

    early = samples[walk_forward(samples.time, samples.end, recipe.splits)[0].train]
    folds = walk_forward(early.time, early.end, _inner(early, recipe))
    sampler = optuna.samplers.TPESampler(seed=recipe.seed)
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        done = []
        for number in range(trials):
            asked = study.ask()
            parameters = {name: _suggest(asked, name, span) for name, span in recipe.tune.items()}
            done.append(Trial(number, parameters, _aligned(early, folds, recipe, parameters)))
            study.tell(asked, done[-1].score)
            if on_trial is not None:
                on_trial(done[-1])
    finally:
        optuna.logging.set_verbosity(said)
    return max(done, key=lambda trial: trial.score).parameters


def _inner(early: Samples, recipe: Recipe) -> SplitSpec:
    bars = len(np.unique(early.time))
    if bars < 2 * (INNER_FOLDS + recipe.splits.embargo + recipe.label.horizon):
        raise UsageError(
            f"{bars} bars before the first test are too few to try parameters on with a horizon of {recipe.label.horizon} bars. "
            "Nothing was trained. Give a longer period, a larger splits.min_train, or no trials."
        )
    return SplitSpec(folds=INNER_FOLDS, min_train=bars // 2, embargo=recipe.splits.embargo)


def _suggest(trial: Any, name: str, span: Range) -> Scalar:
    chosen: Scalar
    if span.choices is not None:
        chosen = trial.suggest_categorical(name, span.choices)
    elif isinstance(span.low, int) and isinstance(span.high, int):
        chosen = trial.suggest_int(name, span.low, span.high, log=span.log)
    else:
        chosen = trial.suggest_float(name, span.low, span.high, log=span.log)
    return chosen


def _aligned(samples: Samples, folds: list[Fold], recipe: Recipe, parameters: Parameters) -> float:
    said, came = [], []
    for fold in folds:
        train, test = samples[fold.train], samples[fold.test]
        value = train.value.astype(int) if recipe.kind == "classifier" else train.value
        base = fit_or_say(recipe, make_base(recipe, parameters), train.features, value)
        output = base.predict_proba(test.features) if recipe.kind == "classifier" else base.predict(test.features)
        said.append(edge_of(recipe.kind, output, base.classes_ if recipe.kind == "classifier" else ()))
        came.append(test.value)
    return alignment(np.concatenate(came), np.concatenate(said))
