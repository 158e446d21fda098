"""Short ways to run a strategy on bars that a test makes: no database, the whole engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from samples import sample_instrument

from mbats.market import Bars, Instrument, to_datetime
from mbats.riskdb.records import RunResult, RunSpec
from mbats.trading.model import ModelSet
from mbats.trading.session import RunData, run_backtest
from mbats.trading.strategies import LoadedStrategy, strategy_from_source

FREE = {"spread": "bars", "slippage": "none", "financing": False, "margin": False}


def instrument(name: str, **changes: Any) -> Instrument:
    """An instrument with round figures: two per cent margin, and financing that costs both sides."""
    figures = {"margin_rate": Decimal("0.02"), "long_rate": Decimal("-0.02"), "short_rate": Decimal("-0.01")}
    return replace(sample_instrument(name), **(figures | changes))


def strategy(source: str, name: str = "in_test") -> LoadedStrategy:
    """A strategy written in the test."""
    return strategy_from_source(name, source, Path(f"{name}.py"))


def run(
    loaded: LoadedStrategy,
    bars: dict[str, Bars],
    *,
    links: dict[str, Bars] | None = None,
    models: ModelSet | None = None,
    **options: Any,
) -> RunResult:
    """Run a strategy over bars with costs off unless given; the options are those of `specification`."""
    return run_backtest(specification(loaded, bars, **options), loaded, data_of(bars, links), models=models)


def data_of(bars: dict[str, Bars], links: dict[str, Bars] | None = None) -> RunData:
    """These bars as those of a run."""
    return RunData(bars, links or {}, "a test", datetime.now(UTC))


def specification(
    loaded: LoadedStrategy,
    bars: dict[str, Bars],
    *,
    granularity: str = "D",
    cash: str = "100000",
    currency: str = "USD",
    costs: dict[str, Any] | None = None,
    fills: str = "broker",
    instruments: dict[str, Instrument] | None = None,
    seed: int = 1,
    **parameters: Any,
) -> RunSpec:
    """A run over all of the bars with costs off unless given."""
    known = {name: instrument(name) for name in bars} | (instruments or {})
    times = [moment for found in bars.values() for moment in found.time]
    return RunSpec(
        strategy=loaded.name,
        source=loaded.source,
        parameters=loaded.defaults() | parameters,
        symbols=tuple(bars),
        granularity=granularity,
        start=to_datetime(min(times)) if times else datetime(2020, 1, 1, tzinfo=UTC),
        end=to_datetime(max(times)) if times else datetime(2020, 2, 1, tzinfo=UTC),
        account_currency=currency,
        starting_cash=Decimal(cash),
        costs={**FREE, **(costs or {}), "instruments": {name: known[name].to_json() for name in bars}},
        fills=fills,
        seed=seed,
    )
