"""A backtest with a model: all bars predicted in one batch, beside one predict for each bar. The same decisions, to the bit.

`make ml`, or `.venv/bin/python benchmarks/ml_backtest.py [--bars 250000] [--one-by-one 5000]`. Needs no service.

The strategy is `rsi_stochastic`, the model a forest of 100 trees as `mbats train` makes it, saved and opened by MLflow. One
predict a bar takes a quarter of an hour over all bars, so it is measured over the last ones: both ways run the whole backtest of
these, their predictions and fills must be equal, and what a prediction took there is counted for each bar of the long one.
`--one-by-one 250000` measures all of them instead. Ends with 1 when the decisions differ, when there are none, or when the batch
is not 100 times as fast.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import mlflow.sklearn
import numpy as np
from rich.console import Console
from rich.table import Table
from runs import specification

from mbats.market import Bars, Floats, Granularity, Times, bar_starts, to_datetime
from mbats.ml.dataset import pool
from mbats.ml.features import collect_features
from mbats.ml.labels import label
from mbats.ml.predictor import PyfuncModel
from mbats.ml.recipe import load_recipe
from mbats.ml.tracking import quietly
from mbats.ml.walkforward import fit_model
from mbats.riskdb.records import RunResult
from mbats.settings import PROJECT_ROOT
from mbats.trading.model import Floats2D, ModelInfo, ModelSet
from mbats.trading.session import RunData, run_backtest
from mbats.trading.strategies import LoadedStrategy, load_strategy

PROMISED = 100
TRIES = 3  # of the batch; whatever else a machine does can only make it slower
PAIR = "EUR_USD"
FIRST = np.datetime64("2023-01-02T00:00", "us")
PULL = 0.97  # what is left of a distance to the mean after a minute
EDGE = 5e-4  # how much the model must promise for a trade
RISK = 5e-4  # of the account in a trade: small enough that margin refuses none
TRAINING_BARS = 50_000
REFERENCE = "benchmark/1"
TOLD = 200  # predictions between two words about how far it is


@dataclass
class Timed:
    """A model that notes how long it took; `singly` asks it once for each row, as live trading does."""

    model: PyfuncModel
    singly: bool
    seconds: float = 0.0
    rows: int = 0
    said: list[Floats] = field(default_factory=list)

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        began = time.perf_counter()
        if self.singly:
            places = range(len(features))
            edges = np.concatenate([self.model.predict(symbol, times[n : n + 1], features[n : n + 1]) for n in places])
        else:
            edges = self.model.predict(symbol, times, features)
        self.seconds += time.perf_counter() - began
        self.rows += len(features)
        self.said.append(edges)
        return edges


@dataclass(frozen=True)
class Measured:
    """One backtest: seconds in all, seconds of predicting, rows that were predicted, and what was said of them."""

    result: RunResult
    total: float
    predicting: float
    rows: int
    said: Floats


def swinging_minutes(count: int) -> Bars:
    """So many minutes of a market that is pulled back to its mean: without a signal the model would agree to no trade at all."""
    generator = np.random.default_rng(1)
    until = to_datetime(FIRST + np.timedelta64(int(count * 1.6), "m"))  # weekends
    times = bar_starts(Granularity.M1, to_datetime(FIRST), until)[:count]
    logarithm, place = np.empty(count), 0.0
    for number, step in enumerate(generator.normal(0, 4e-4, count)):
        place = logarithm[number] = PULL * place + step
    close = 1.1 * np.exp(logarithm)
    open_ = np.r_[1.1, close[:-1]]
    high, low = np.maximum(open_, close) * 1.00005, np.minimum(open_, close) * 0.99995
    prices = (np.round(price, 5) for price in (open_, high, low, close))
    return Bars.from_mid(times, *prices, np.full(count, 50), spread=0.0001)


def data_of(bars: Bars) -> RunData:
    return RunData({PAIR: bars}, {}, "sample", datetime.now(UTC))


def trained(strategy: LoadedStrategy, bars: Bars, recipe_name: str, folder: Path) -> PyfuncModel:
    """The recipe's model of these bars, saved and opened again by MLflow."""
    recipe = load_recipe(recipe_name, PROJECT_ROOT / "mlflow" / "recipes")
    features = collect_features(strategy, specification(strategy, {PAIR: bars}, Granularity.M1), data_of(bars))
    samples = pool(features, {PAIR: label(bars, recipe.label)}, features[PAIR].names)
    path = folder / "model"
    ask = "predict_proba" if recipe.kind == "classifier" else "predict"
    estimator = fit_model(samples, recipe, {})
    with quietly():
        mlflow.sklearn.save_model(
            estimator, path, serialization_format="cloudpickle", pyfunc_predict_fn=ask, pip_requirements=["scikit-learn"]
        )
    start, end = to_datetime(bars.time[0]), to_datetime(bars.time[-1])
    info = ModelInfo("benchmark", 1, "none", "0" * 64, samples.names, recipe.kind, strategy.name, (PAIR,), "M1", start, end)
    return PyfuncModel.load(path, info)


def measure(strategy: LoadedStrategy, bars: Bars, model: PyfuncModel, *, singly: bool) -> Measured:
    timed = Timed(model, singly)
    began = time.perf_counter()
    models = ModelSet({REFERENCE: (model.info, timed)})
    spec = specification(strategy, {PAIR: bars}, Granularity.M1, model=REFERENCE, edge=EDGE, risk=RISK)
    result = run_backtest(spec, strategy, data_of(bars), models=models)
    return Measured(result, time.perf_counter() - began, timed.seconds, timed.rows, np.concatenate(timed.said))


def main() -> int:
    options = _parse()
    console = Console()
    strategy = load_strategy("rsi_stochastic", PROJECT_ROOT / "strategies")
    bars = swinging_minutes(options.bars)
    part = bars[-min(options.one_by_one, len(bars)) :]
    with tempfile.TemporaryDirectory() as folder:
        model = trained(strategy, bars[:TRAINING_BARS], options.recipe, Path(folder))
        model.predict(PAIR, part.time[:1], np.zeros((1, len(model.info.features))))  # what is loaded late is loaded
        tries = [measure(strategy, bars, model, singly=False) for _ in range(TRIES)]
        batch = min(tries, key=lambda measured: measured.total)
        short = measure(strategy, part, model, singly=False)
        single = measure(strategy, part, model, singly=True)
    same = short.result.fills == single.result.fills and short.result.trades == single.result.trades
    same = same and short.said.tobytes() == single.said.tobytes()
    one = single.predicting / single.rows
    whole = batch.total - batch.predicting + one * batch.rows
    table = Table("what", "batch", "one by one", "ratio")
    table.add_row(
        "one prediction, ms",
        f"{batch.predicting / batch.rows * 1e3:.4f}",
        f"{one * 1e3:.3f}",
        f"{one * batch.rows / batch.predicting:,.0f}",
    )
    table.add_row(
        f"backtest of the last {len(part):,} bars, s",
        f"{short.total:.2f}",
        f"{single.total:.1f}",
        f"{single.total / short.total:,.0f}",
    )
    counted = "" if len(part) == len(bars) else " (counted)"
    table.add_row(
        f"backtest of {len(bars):,} bars, s", f"{batch.total:.1f}", f"{whole:,.0f}{counted}", f"{whole / batch.total:,.0f}"
    )
    console.print(table)
    trades = len(single.result.trades)
    console.print(
        f"Decisions: {'the same' if same else 'DIFFERENT'}, {single.rows:,} predictions and {len(single.result.fills)} fills of "
        f"{trades} trades compared, bit for bit; "
        f"{len(batch.result.trades):,} trades over all bars."
    )
    kept = same and trades > 0 and whole / batch.total >= PROMISED
    console.print(f"Promised: the same decisions, at least {PROMISED} times as fast. {'Kept.' if kept else 'NOT KEPT.'}")
    return 0 if kept else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A backtest with a model, in one batch and bar by bar.")
    parser.add_argument("--bars", type=int, default=250_000)
    parser.add_argument("--one-by-one", type=int, default=5000, help="How many of the last bars are predicted one by one.")
    parser.add_argument("--recipe", default="forest")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
