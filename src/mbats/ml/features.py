"""The features that a strategy declares with `predicted`, over all bars: the very lines that it will trade on.

Nothing is traded for it: the strategy is set up as for a backtest, without a model, and its indicators are computed by columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbats.errors import UsageError
from mbats.market import Times
from mbats.riskdb.records import RunSpec
from mbats.trading.engine import RunCerebro
from mbats.trading.model import Floats2D, is_reference
from mbats.trading.session import RunData, prepare
from mbats.trading.strategies import LoadedStrategy

CHECKED_BARS = 5_000  # of each symbol, by which a feature that looks ahead is found out


@dataclass(frozen=True, slots=True)
class Collected:
    """The features of one symbol, a row for each bar.

    `times` (n,) are the bars' starts, UTC; `matrix` (n, k) has the columns `names`. A value is NaN where the
    feature is not formed or not finite; the strategy has no prediction there.
    """

    times: Times
    matrix: Floats2D
    names: tuple[str, ...]


def collect_features(strategy: LoadedStrategy, spec: RunSpec, data: RunData) -> dict[str, Collected]:
    """The features of every symbol of the specification, whose models and costs play no part.

    Raises UsageError when the strategy declares none, not the same for every symbol, or one that changes when later bars come;
    NoBars when a symbol has none, StrategyFailed when the strategy's code raises.
    """
    found = _collect(strategy, spec, data)
    _refuse_look_ahead(strategy, spec, data, found)
    return found


def _collect(strategy: LoadedStrategy, spec: RunSpec, data: RunData) -> dict[str, Collected]:
    bare = {name: "" if is_reference(name) else value for name, value in spec.parameters.items()}
    run = prepare(replace(spec, parameters=bare), strategy, data, engine=_ColumnsOnly)
    run.go(strategy)
    found: dict[str, Collected] = {}
    for prediction in run.cerebro.predictions:
        symbol, matrix = prediction.symbol, prediction.matrix()
        collected = Collected(data.bars[symbol].time, np.where(np.isfinite(matrix), matrix, np.nan), prediction.names)
        if symbol in found:
            raise UsageError(
                f"Strategy '{strategy.name}' declares two predictions for {symbol}; a model is trained for one of each symbol."
            )
        found[symbol] = collected
    _check_declared(strategy, spec, found)
    return found


def _check_declared(strategy: LoadedStrategy, spec: RunSpec, found: Mapping[str, Collected]) -> None:
    if not found:
        raise UsageError(
            f"Strategy '{strategy.name}' declares no features, so there is nothing to train on. In its __init__ it names them: "
            "self.prediction = [predicted(self.p.model, data, rsi=self.rsi[i]) for i, data in enumerate(self.datas)]."
        )
    without = [symbol for symbol in spec.symbols if symbol not in found]
    if without:
        raise UsageError(
            f"Strategy '{strategy.name}' declares features for {', '.join(found)}, but none for {', '.join(without)}."
        )
    first = spec.symbols[0]
    for symbol in spec.symbols[1:]:
        if found[symbol].names != found[first].names:
            raise UsageError(
                f"Strategy '{strategy.name}' declares the features {', '.join(found[first].names)} for {first} and "
                f"{', '.join(found[symbol].names)} for {symbol}; one model needs the same ones, in one order."
            )


def _refuse_look_ahead(strategy: LoadedStrategy, spec: RunSpec, data: RunData, found: Mapping[str, Collected]) -> None:
    """Compute the features of the first bars again without the later ones: what then differs knew of them."""
    shortest = min((data.bars[symbol].time for symbol in spec.symbols), key=len)
    cut = shortest[min(len(shortest) // 2, CHECKED_BARS)]
    early = {symbol: bars[bars.time < cut] for symbol, bars in data.bars.items()}
    symbols = tuple(symbol for symbol in spec.symbols if len(early[symbol]))
    if not symbols:
        return
    again = _collect(strategy, replace(spec, symbols=symbols), RunData(early, data.links, data.source, data.as_of))
    for symbol in symbols:
        whole = found[symbol].matrix[: len(early[symbol])]
        differs = ~((whole == again[symbol].matrix) | (np.isnan(whole) & np.isnan(again[symbol].matrix)))
        if differs.any():
            row, column = (int(place) for place in np.argwhere(differs)[0])
            raise UsageError(
                f"Feature '{found[symbol].names[column]}' of strategy '{strategy.name}' looks ahead: for {symbol} at "
                f"{found[symbol].times[row]}Z it is {whole[row, column]}, but {again[symbol].matrix[row, column]} without the "
                f"bars from {cut}Z on. Nothing was trained; compute it from past bars alone."
            )


class _ColumnsOnly(RunCerebro):
    """Computes the indicators and stops there: no bar is traded."""

    def _runonce(self, runstrats: list[Any]) -> None:
        needed = max(max(strategy._minperiods, default=1) for strategy in runstrats)
        if min(data.buflen() for data in self.datas) < needed:
            super()._runonce(runstrats)
        else:
            for strategy in runstrats:
                strategy._once()
