"""Runs of the real engine on random bars, and a whole platform's worth of stores for the commands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from runs import run, strategy
from samples import random_bars

from mbats.market import Bars, Granularity, bar_starts
from mbats.riskdb.records import RunResult

START = datetime(2021, 1, 4, tzinfo=UTC)
COSTS = {"spread": "bars", "slippage": "pips:0.2", "financing": True, "margin": True}

AT_RANDOM = '''
import random

import backtrader as bt


class AtRandom(bt.Strategy):
    """Opens and closes when the dice say so; after `most` trades it only holds what it has."""

    params = dict(odds=0.1, most=1_000_000, units=30_000, stop=None)

    def __init__(self):
        self.opened = 0

    def next(self):
        if self.opened >= self.p.most:
            return
        for data in self.datas:
            if random.random() >= self.p.odds:
                continue
            if self.getposition(data):
                self.close(data)
            else:
                self.opened += 1
                random.choice((self.buy, self.sell))(data, size=random.randint(1, self.p.units))
'''

MakeRun = Callable[..., tuple[RunResult, dict[str, Bars]]]


def bars_of(symbols: tuple[str, ...], granularity: str, count: int) -> dict[str, Bars]:
    """As many bars for each symbol, on OANDA's grid from `START` on."""
    length = Granularity(granularity)
    times = bar_starts(length, START, START + length.length * (count * 2 + 100))[:count]
    return {symbol: random_bars(times, seed) for seed, symbol in enumerate(symbols, start=1)}


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """Run a strategy that trades at random, with every cost; `odds=0` never trades, `most=1` never closes."""

    def make(
        symbols: tuple[str, ...] = ("EUR_USD", "GBP_USD"), *, granularity: str = "H1", bars: int = 400, **parameters: Any
    ) -> tuple[RunResult, dict[str, Bars]]:
        made = bars_of(symbols, granularity, bars)
        return run(strategy(AT_RANDOM, "at_random"), made, granularity=granularity, costs=COSTS, **parameters), made

    return make


@pytest.fixture(scope="session")
def year_of_minutes() -> dict[str, Bars]:
    """All the minutes of a year, for two symbols."""
    return bars_of(("EUR_USD", "GBP_USD"), "M1", 370_000)
