"""What the example strategy's models are worth: each shipped recipe walked forward, beside the strategy alone, after costs.

`make worth`, or `.venv/bin/python benchmarks/model_worth.py [--granularity H1] [--from 2022-01-01] [--to 2025-01-01]`. Needs no
service: the bars are those of the sample market, or with `--candles FOLDER` your own, one `EUR_USD_H1.parquet` a pair with the
columns ts, bid_o … bid_c, ask_o … ask_c and volume. Features, labels, folds, shrinkage and the backtest out of sample are what
`mbats train` does, with each recipe as it is shipped. Prints the table as Markdown, as it stands in the README; no figure of it
is typed by hand.
"""

from __future__ import annotations

import argparse
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from runs import specification

from mbats.market import Bars, Granularity
from mbats.ml.dataset import pool
from mbats.ml.evaluation import Evaluation, Figures
from mbats.ml.features import collect_features
from mbats.ml.labels import label
from mbats.ml.out_of_sample import run_out_of_sample
from mbats.ml.recipe import load_recipe, recipe_names
from mbats.ml.walkforward import run_folds
from mbats.settings import PROJECT_ROOT, Settings
from mbats.simulator.alignment import OANDA, starts_between
from mbats.simulator.params import market_params
from mbats.simulator.prices import ASK, BID
from mbats.simulator.sample import SampleMarket
from mbats.trading.session import RunData
from mbats.trading.strategies import load_strategy

RECIPES = PROJECT_ROOT / "mlflow" / "recipes"
SIDES = tuple(f"{side}_{price}" for side in ("bid", "ask") for price in "ohlc")


@dataclass(frozen=True)
class Worth:
    """What one recipe came to."""

    recipe: str
    evaluation: Evaluation
    scores: dict[str, float]
    rows: int


def sample_bars(pair: str, granularity: Granularity, start: datetime, end: datetime) -> Bars:
    """Bars of the sample market in [start, end), as the simulator sends them."""
    first, last = (np.datetime64(moment.replace(tzinfo=None), "us") for moment in (start, end))
    minutes = SampleMarket(Settings.model_fields["simulator_seed"].default).bars(pair, first, last)
    candles = minutes.aggregate(starts_between(granularity, first, last, OANDA))
    prices = candles.prices / 10 ** market_params().pairs[pair].decimals
    return Bars(candles.time, *prices[BID], *prices[ASK], candles.volume.astype(np.int64))


def read_bars(folder: Path, pair: str, granularity: Granularity, start: datetime, end: datetime) -> Bars:
    """Bars of a file of the folder in [start, end)."""
    table = pd.read_parquet(folder / f"{pair}_{granularity.value}.parquet")
    table = table[(table.ts >= start) & (table.ts < end)]
    times = table.ts.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return Bars(times, *(table[side].to_numpy(np.float64) for side in SIDES), table.volume.to_numpy(np.int64))


def worth(name: str, strategy_name: str, bars: dict[str, Bars], granularity: Granularity) -> Worth:
    """Walk one recipe forward, and run the strategy on what its models said."""
    strategy, recipe = load_strategy(strategy_name, PROJECT_ROOT / "strategies"), load_recipe(name, RECIPES)
    spec, data = specification(strategy, bars, granularity), RunData(bars, {}, "benchmark", datetime.now(UTC))
    features = collect_features(strategy, spec, data)
    samples = pool(features, {pair: label(bars[pair], recipe.label) for pair in features}, next(iter(features.values())).names)
    folds = run_folds(samples, recipe)
    evaluation, _ = run_out_of_sample(strategy, spec, data, recipe.kind, folds)
    return Worth(name, evaluation, folds.scores, len(samples))


def line(name: str, figures: Figures, scores: dict[str, float] | None) -> str:
    """One row of the table."""
    sharpe = "none" if figures.sharpe is None else f"{figures.sharpe:.2f}"
    told = [
        "" if scores is None else "none" if math.isnan(scores.get(key, math.nan)) else format(scores[key], form)
        for key, form in (("r2", "+.4f"), ("accuracy_edge", "+.2%"), ("information_coefficient", "+.3f"))
    ]
    return f"| {' | '.join((name, *told, f'{figures.trades:,}', f'{figures.total_return:+.1%}', sharpe))} |"


def baselines(found: list[Worth]) -> list[str]:
    """The strategy alone: one row, or several where the folds of some recipes begin on other days."""
    alike: dict[str, list[str]] = {}
    for each in found:
        alike.setdefault(line("no model", each.evaluation.baseline, None), []).append(f"`{each.recipe}`")
    if len(alike) == 1:
        return list(alike)
    return [row.replace("no model", f"no model, on the days of {', '.join(names)}", 1) for row, names in alike.items()]


def main() -> int:
    options = _parse()
    granularity = Granularity(options.granularity)
    pairs = options.symbols.split(",")
    start, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (options.start, options.end))
    if options.candles:
        bars = {pair: read_bars(options.candles, pair, granularity, start, end) for pair in pairs}
    else:
        bars = {pair: sample_bars(pair, granularity, start, end) for pair in pairs}
    names = options.recipes.split(",") if options.recipes else recipe_names(RECIPES)
    with ProcessPoolExecutor(options.processes) as processes:
        found = list(processes.map(worth, names, *([each] * len(names) for each in (options.strategy, bars, granularity))))
    source = "your candles" if options.candles else "sample market"
    since, until = min(each.evaluation.since for each in found), max(each.evaluation.until for each in found)
    lines = [
        f"`{options.strategy}`, {granularity.value} bars of {', '.join(pairs)} ({source}), {start:%F} to {end:%F}; "
        f"out of sample from {since} to {until}; measured {datetime.now(UTC):%F}.",
        "",
        "| recipe | R² | accuracy edge | rank correlation | trades | return | Sharpe ratio |",
        "|---|---|---|---|---|---|---|",
        *baselines(found),
        *(line(f"`{each.recipe}`", each.evaluation.model, each.scores) for each in found),
    ]
    Console(soft_wrap=True).print("\n".join(lines), markup=False, highlight=False)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What the shipped recipes are worth out of sample, after costs.")
    parser.add_argument("--strategy", default="rsi_stochastic")
    parser.add_argument("--symbols", default="EUR_USD,GBP_USD,USD_JPY")
    parser.add_argument("--granularity", default="H1")
    parser.add_argument("--from", dest="start", default="2022-01-01")
    parser.add_argument("--to", dest="end", default="2025-01-01")
    parser.add_argument("--recipes", help="Comma-separated. Default: all that are shipped.")
    parser.add_argument("--candles", type=Path, help="A folder of your own bars, instead of the sample market.")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
