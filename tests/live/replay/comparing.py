"""What the backtest of the bars of a replay did, and how the two are laid side by side."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from live.replay.replay import instruments
from runs import run

from mbats.market import Bars, Granularity
from mbats.trading.model import ModelSet
from mbats.trading.strategies import LoadedStrategy

Fills = list[tuple[Any, str, Decimal, Decimal]]


def shortest_history(loaded: LoadedStrategy, bars: dict[str, Bars], granularity: Granularity, **parameters: Any) -> int:
    """The number of bars after which a strategy's indicators stand."""
    found: list[int] = []

    class Probe(loaded.cls):  # type: ignore[misc, name-defined]
        def nextstart(self) -> None:
            found.append(len(self))
            super().nextstart()

    run(LoadedStrategy(loaded.name, loaded.source, Probe), bars, granularity=granularity.value, **parameters)
    return found[0] - 1


def backtest_fills(
    loaded: LoadedStrategy, bars: dict[str, Bars], granularity: Granularity, *, models: ModelSet | None = None, **parameters: Any
) -> Fills:
    """Time, symbol, units and price of all that a backtest with the simulator's instruments deals."""
    costs = {"financing": True, "margin": True}
    known = instruments(tuple(bars))
    result = run(loaded, bars, granularity=granularity.value, costs=costs, instruments=known, models=models, **parameters)
    return [(fill.time, fill.symbol, fill.units, fill.price) for fill in result.fills]


def merged(fills: Fills) -> Fills:
    """A turn of a position is one fill in a backtest, and a close and an opening at the broker."""
    found: dict[tuple[Any, str, Decimal], Decimal] = {}
    for time, symbol, units, price in fills:
        found[time, symbol, price] = found.get((time, symbol, price), Decimal(0)) + units
    return sorted((time, symbol, units, price) for (time, symbol, price), units in found.items())
