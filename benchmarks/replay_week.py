"""A week of minute bars of two pairs, played to paper deployments: each must deal what its backtest deals, trade for trade.

`.venv/bin/python benchmarks/replay_week.py` plays every example strategy, one after the other; `--strategies sma_cross` some of
them, `--bars 600` the first bars alone. Ends with 1 when a fill differs. Needs no service.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from live.replay.comparing import Fills, backtest_fills, merged, shortest_history
from live.replay.replay import bar_of, generate, replay

from mbats.market import Bars, Granularity, bar_ends, to_datetime
from mbats.settings import PROJECT_ROOT
from mbats.simulator.sessions import open_mask
from mbats.trading.strategies import load_strategy

START, END = datetime(2024, 5, 12, 21, tzinfo=UTC), datetime(2024, 5, 17, 21, tzinfo=UTC)  # Sunday's opening to Friday's close
PRICES = {"EUR_USD": 1.085, "GBP_USD": 1.26}
PARAMETERS: dict[str, dict[str, Any]] = {
    "rsi_stochastic": {"low": 40.0, "high": 60.0, "stop_atr": 1.0, "target_atr": 1.5},
    "sma_cross": {"fast": 10, "slow": 30, "risk": 0.0005},
    "momentum_rotation": {"lookback": 60, "rebalance": 15, "top": 1, "risk": 0.0002},
}
SHOWN = 10  # differences


@dataclass(frozen=True, slots=True)
class Compared:
    """One strategy: how many bars were decided on, what was dealt live and in the backtest, and where they differ."""

    strategy: str
    bars: int
    live: Fills
    backtest: Fills
    seconds: float

    @property
    def differences(self) -> list[tuple[str, Any]]:
        """The fills that only one of them has."""
        ours, theirs = Counter(self.live), Counter(self.backtest)
        found = [("live alone", each) for each in (ours - theirs).elements()]
        found += [("backtest alone", each) for each in (theirs - ours).elements()]
        return sorted(found, key=lambda each: each[1][0])


def main() -> int:
    """Play, compare and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--strategies", nargs="+", default=list(PARAMETERS), choices=list(PARAMETERS))
    options.add_argument("--bars", type=int, default=None, help="only so many of the week's bars")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    logging.basicConfig(level=logging.ERROR)
    results = []
    for name in given.strategies:
        with tempfile.TemporaryDirectory() as folder:
            results.append(compare(name, Path(folder), given.bars, given.seed))
    return tell(results)


def compare(name: str, folder: Path, most: int | None, seed: int) -> Compared:
    """Play the bars to one strategy."""
    granularity, parameters = Granularity.M1, PARAMETERS[name]
    series = {
        symbol: _tradeable(generate(symbol, granularity, START, END, seed=seed + number, price=price))[:most]
        for number, (symbol, price) in enumerate(PRICES.items())
    }
    loaded = load_strategy(name, PROJECT_ROOT / "strategies")
    warmup = shortest_history(loaded, series, granularity, **parameters)
    starts = next(iter(series.values())).time
    ends = [to_datetime(each) for each in bar_ends(granularity, starts)]
    began = time.monotonic()
    with replay(folder, series, granularity, ends[warmup - 1]) as it:
        it.deploy(name, tuple(series), granularity, warmup=warmup, **parameters)
        for end in track(ends[warmup:-1], name, console=Console(stderr=True)):
            it.play([end])
        live = [(bar_of(moment, granularity, starts), *rest) for moment, *rest in it.fills()]
    wanted = [each for each in backtest_fills(loaded, series, granularity, **parameters) if each[0] < to_datetime(starts[-1])]
    return Compared(name, len(ends) - 1 - warmup, merged(live), merged(wanted), time.monotonic() - began)


def _tradeable(bars: Bars) -> Bars:
    """Without the minutes around 17:00 New York in which the exchange is shut: no price comes in them."""
    return bars[open_mask(bars.time.astype(np.int64))]


def tell(results: list[Compared]) -> int:
    """Print what was found; 1 when anything differs, or nothing was dealt."""
    console = Console()
    table = Table(title="replay against backtest")
    for name in ("strategy", "bars", "fills live", "fills backtest", "differences", "minutes", "ms a bar"):
        table.add_column(name, justify="right")
    for each in results:
        figures = (each.bars, len(each.live), len(each.backtest), len(each.differences))
        pace = f"{1000 * each.seconds / max(each.bars, 1):.1f}"
        table.add_row(each.strategy, *(f"{figure:,}" for figure in figures), f"{each.seconds / 60:.1f}", pace)
    console.print(table)
    for each in results:
        for side, fill in each.differences[:SHOWN]:
            console.print(f"{each.strategy}, {side}: {fill[0]:%Y-%m-%d %H:%M} {fill[2]:+f} {fill[1]} at {fill[3]}")
    return 1 if any(each.differences or not each.live for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
