"""From a strategy's own features to a registered model, with everything on the way written into MLflow.

bars → features → labels → folds → the strategy run out of sample → the model of all samples → a version called `challenger`.
Nothing is registered unless all of it went well: the version is made last, with its description, and the alias after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from mbats.database import Database
from mbats.errors import DataError, UsageError
from mbats.market import Granularity, bar_ends, to_datetime
from mbats.ml import record
from mbats.ml.dataset import Samples, pool
from mbats.ml.evaluation import Evaluation
from mbats.ml.feature_table import keep_table
from mbats.ml.features import collect_features
from mbats.ml.labels import label
from mbats.ml.material import Material
from mbats.ml.out_of_sample import model_parameters, run_out_of_sample
from mbats.ml.recipe import load_recipe
from mbats.ml.registry import NAME
from mbats.ml.tracking import FILE_SECONDS, client_environment, require_server
from mbats.ml.walkforward import FoldResult, Trial, fit_model, run_folds, tune
from mbats.secmaster.coverage import stored_symbols
from mbats.settings import Settings
from mbats.trading.backtest import Costs, read_data, specify
from mbats.trading.model import ModelInfo
from mbats.trading.strategies import load_strategy

CHALLENGER = "challenger"
Told = Callable[[str, int, int], None]  # what is being done, how much of it is done, and of how much


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """What to train. `symbols` None: all that are stored at the granularity. `start` and `end` are UTC, None: all that is stored.

    `recipe` is a name in `mlflow/recipes` or a path; `parameters` are the strategy's, as texts; `trials` None: as the recipe
    says; `name` None: the strategy's. Costs, cash and currency are those of the run out of sample.
    """

    strategy: str
    granularity: Granularity
    symbols: tuple[str, ...] | None = None
    start: datetime | None = None
    end: datetime | None = None
    recipe: str = "forest"
    parameters: Mapping[str, str] = field(default_factory=dict)
    trials: int | None = None
    name: str | None = None
    cash: Decimal = Decimal(100_000)
    currency: str = "USD"
    costs: Costs = Costs()  # noqa: RUF009  frozen, so one instance serves all


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it: the registered version, its figures out of sample, and the scores of its predictions.

    `parameters` are those of the estimator that the trials chose. `address` is the page of the run in MLflow.
    """

    info: ModelInfo
    evaluation: Evaluation
    scores: dict[str, float]
    parameters: dict[str, Any]
    samples: int
    trials: int
    address: str


def _silent(what: str, done: int, total: int) -> None:
    """For who wants to hear nothing."""


def train(settings: Settings, spec: TrainingSpec, *, told: Told | None = None) -> Trained:
    """Train and register a version, and let `challenger` mean it.

    Raises UsageError, ConfigError or DataError that says what does not fit, PlatformError when a service is away.
    """
    say = told or _silent
    require_server(settings)  # before hours of work, and not after
    material = gather(settings, spec, say)
    samples = make_samples(material, say)
    table = keep_table(settings, material, samples)
    with client_environment(settings, seconds=FILE_SECONDS), record.training_run(settings, material) as run:
        run.describe(material, samples, table)
        chosen = _tune(material, samples, run, say)
        run.parameters("estimator", {**material.recipe.parameters, **chosen})
        say("folds", 0, material.recipe.splits.folds)
        folds = run_folds(samples, material.recipe, chosen, on_fold=_counted(run, material, say))
        run.scores(folds.scores)
        evaluation, daily = run_out_of_sample(
            material.strategy,
            material.run_spec,
            material.data,
            material.recipe.kind,
            folds,
            progress=lambda done, total: say("out of sample", done, total),
        )
        run.evaluation(evaluation, daily)
        say("final model", 0, 1)
        estimator = fit_model(samples, material.recipe, chosen)
        run.pictures(material, samples, folds, daily)
        logged = run.model(material, samples, estimator)
        say("final model", 1, 1)
        info = run.register(
            material,
            logged,
            trained=_trained_period(material, samples),
            notes={"out_of_sample": evaluation.to_json(), "scores": folds.scores},
            alias=CHALLENGER,
        )
        return Trained(info, evaluation, folds.scores, chosen, len(samples), material.trials, run.address)


def gather(settings: Settings, spec: TrainingSpec, say: Told = _silent) -> Material:
    """The strategy, the recipe and the bars. Raises as `train`."""
    name = spec.name or spec.strategy
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot name a model; letters, digits, '_', '.' and '-' can. Nothing was trained.")
    recipe = load_recipe(spec.recipe, settings.root / "mlflow" / "recipes")
    strategy = load_strategy(spec.strategy, settings.strategies_dir)
    parameters = strategy.parameters(dict(spec.parameters)) | dict.fromkeys(model_parameters(strategy), "")
    say("bars", 0, 1)
    with closing(Database(settings, "secmaster", "trading")) as secmaster:
        symbols = spec.symbols if spec.symbols is not None else tuple(stored_symbols(secmaster, spec.granularity))
        if not symbols:
            raise UsageError(
                f"No {spec.granularity} bars are stored; nothing was trained. `mbats ingest` downloads them, `mbats coverage` "
                "shows what there is."
            )
        run_spec = specify(
            secmaster,
            strategy,
            symbols=symbols,
            granularity=spec.granularity,
            start=spec.start,
            end=spec.end,
            cash=spec.cash,
            currency=spec.currency,
            parameters=parameters,
            costs=spec.costs,
            seed=recipe.seed,
        )
        data = read_data(secmaster, run_spec)
    say("bars", 1, 1)
    trials = recipe.trials if spec.trials is None else spec.trials
    return Material(name, strategy, recipe, trials if recipe.tune else 0, run_spec, data)


def make_samples(material: Material, say: Told = _silent) -> Samples:
    """Features and labels of all symbols, joined. Raises UsageError for a strategy without any, DataError for too few bars."""
    say("features", 0, 1)
    features = collect_features(material.strategy, material.run_spec, material.data)
    labels = {symbol: label(material.data.bars[symbol], material.recipe.label) for symbol in features}
    samples = pool(features, labels, next(iter(features.values())).names)
    if len(samples) < material.recipe.splits.min_samples:
        raise DataError(
            f"{len(samples):,} samples of {', '.join(features)}, that is bars with features and a label, are too few: recipe "
            f"'{material.recipe.name}' asks for at least {material.recipe.splits.min_samples:,}. Nothing was trained. Give a "
            "longer period, more symbols or shorter bars, or a smaller min_samples in the recipe's [splits]."
        )
    say("features", 1, 1)
    return samples


def _tune(material: Material, samples: Samples, run: record.TrainingRun, say: Told) -> dict[str, Any]:
    def on_trial(trial: Trial) -> None:
        run.trial(trial)
        say("trials", trial.number + 1, material.trials)

    if material.trials:
        say("trials", 0, material.trials)
    return dict(tune(samples, material.recipe, material.trials, on_trial))


def _counted(run: record.TrainingRun, material: Material, say: Told) -> Callable[[FoldResult], None]:
    def on_fold(result: FoldResult) -> None:
        run.fold(result)
        say("folds", result.fold.number + 1, material.recipe.splits.folds)

    return on_fold


def _trained_period(material: Material, samples: Samples) -> tuple[datetime, datetime]:
    """All bars that training looked at, UTC and half-open: from the first that indicators saw to the last of a label."""
    first = min(material.data.bars[symbol].time[0] for symbol in material.run_spec.symbols)
    starts = np.concatenate([material.data.bars[symbol].time for symbol in material.run_spec.symbols])
    # A label that ends at the open of a bar has seen that bar begin, so the whole of it counts as seen.
    last = starts[starts <= samples.end.max()].max()
    return to_datetime(first), to_datetime(bar_ends(Granularity(material.run_spec.granularity), np.array([last]))[0])


__all__ = ["CHALLENGER", "Told", "Trained", "TrainingSpec", "train"]
