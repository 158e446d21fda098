"""The bar loop: Backtrader's Cerebro with what a run on any amount of data needs."""

from __future__ import annotations

from typing import Any

import backtrader as bt

from mbats.trading.model import ModelSet, Prediction


class RunCerebro(bt.Cerebro):
    """Cerebro that also survives data shorter than a strategy's indicators: such a run ends with no trades.

    Backtrader's vectorised pass writes past the end of a short line; its bar-by-bar pass does not, so that one is used.
    `models` are those of the run, to be set before it; `predictions` are the lines of models that the strategy made.
    """

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.models = ModelSet()
        self.predictions: list[Prediction] = []

    def _runonce(self, runstrats: list[Any]) -> None:
        needed = max(max(strategy._minperiods, default=1) for strategy in runstrats)
        if min(data.buflen() for data in self.datas) < needed:
            self._runnext(runstrats)
        else:
            super()._runonce(runstrats)
