"""A run over bars that a benchmark has made, without the databases."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from mbats.market import Bars, Granularity, bar_ends, to_datetime
from mbats.riskdb.records import RunSpec
from mbats.simulator.instruments import listing
from mbats.trading.strategies import LoadedStrategy


def specification(strategy: LoadedStrategy, bars: dict[str, Bars], granularity: Granularity, **parameters: Any) -> RunSpec:
    """All of these bars as `mbats backtest` and `mbats train` ask for them: 100,000 dollars, spread of the bars, financing and
    margin; the strategy's own parameters unless given."""
    return RunSpec(
        strategy=strategy.name,
        source=strategy.source,
        parameters=strategy.defaults() | parameters,
        symbols=tuple(bars),
        granularity=granularity.value,
        start=min(to_datetime(each.time[0]) for each in bars.values()),
        end=_end(bars, granularity),
        account_currency="USD",
        starting_cash=Decimal(100_000),
        costs={
            "spread": "bars",
            "slippage": "none",
            "financing": True,
            "margin": True,
            "instruments": {pair: listing()[pair].to_json() for pair in bars},
        },
        fills="broker",
        seed=1,
    )


def _end(bars: dict[str, Bars], granularity: Granularity) -> datetime:
    return max(to_datetime(bar_ends(granularity, each.time[-1:])[0]) for each in bars.values())
