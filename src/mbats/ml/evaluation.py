"""What a strategy earned with a model on days that the model was not trained on, after costs, beside the same strategy without.

Days are New York trading days; returns are of the account's NAV, as fractions, from one day's end to the next.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mbats.errors import DataError
from mbats.market import Floats, to_datetime, trading_days
from mbats.riskdb.records import RunResult, Trade
from mbats.trading.analyzers.performance import TRADING_DAYS, drawdown

DAILY = "oos_daily.parquet"
Days = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Figures:
    """One run over the days out of sample. Trades are those opened then, with their costs; money is the account's currency.

    `total_return` and `max_drawdown` are fractions. `sharpe` is annual, over a rate of zero; None where it cannot be formed.
    """

    trades: int
    won: int
    net_pnl: float
    spread_cost: float
    slippage_cost: float
    financing: float
    total_return: float
    sharpe: float | None
    max_drawdown: float


@dataclass(frozen=True, slots=True)
class Daily:
    """Returns after costs of each day out of sample: `day` (n,) datetime64[D], ascending; `model` and `baseline` (n,)."""

    day: Days
    model: Floats
    baseline: Floats

    def to_parquet(self) -> bytes:
        """The columns `day`, `model` and `baseline`."""
        buffer = io.BytesIO()
        table = pd.DataFrame({"day": self.day.astype("datetime64[s]"), "model": self.model, "baseline": self.baseline})
        table.to_parquet(buffer, index=False)
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> Daily:
        """The reverse of `to_parquet`. Raises DataError when the content is something else."""
        try:
            table = pd.read_parquet(io.BytesIO(content))
            day = np.asarray(table["day"].to_numpy(), "datetime64[D]")
            return cls(day, *(np.asarray(table[name].to_numpy(), np.float64) for name in ("model", "baseline")))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{DAILY} cannot be read: {type(error).__name__}: {error}. Train a new version.") from error


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`since` and `until` are the first and the last day out of sample, ISO. `model` and `baseline` are of the same days."""

    since: str
    until: str
    days: int
    model: Figures
    baseline: Figures

    def to_json(self) -> dict[str, Any]:
        """As plain values, the model's figures beside the days; `from_json` reads them back equal."""
        values = asdict(self)
        return {**values.pop("model"), **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Evaluation:
        """What `to_json` gave. Raises KeyError or TypeError when it is something else."""
        figures = Figures(**{field.name: values[field.name] for field in fields(Figures)})
        return cls(values["since"], values["until"], values["days"], figures, Figures(**values["baseline"]))

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Evaluation | None:
        """What a registered version's tags say of it; None when they say nothing that can be read."""
        try:
            return cls.from_json(json.loads(tags["out_of_sample"]))
        except (KeyError, TypeError, ValueError):
            return None


def compare(model: RunResult, baseline: RunResult, since: np.datetime64) -> tuple[Evaluation, Daily]:
    """The two runs, over the same bars, from the trading day on into which the bar that starts at `since` (UTC) falls.

    Raises DataError when there is no such day.
    """
    first = trading_days(np.array([since], "datetime64[us]"))[0]
    (days, returns), (same_days, same_returns) = (_daily_returns(result, first) for result in (model, baseline))
    if not len(days) or not np.array_equal(days, same_days):
        raise DataError(
            f"There are {len(days)} days out of sample from {first} on with the model and {len(same_days)} without; the same "
            "days were expected, at least one. Nothing was registered. Give a longer period."
        )
    evaluation = Evaluation(
        since=str(days[0]),
        until=str(days[-1]),
        days=len(days),
        model=_figures(model, returns, since),
        baseline=_figures(baseline, same_returns, since),
    )
    return evaluation, Daily(days, returns, same_returns)


def _daily_returns(result: RunResult, first: np.datetime64) -> tuple[Days, Floats]:
    """Days from `first` on, with the return of each. A day after which nothing is left has −1, the next one 0."""
    day = trading_days(result.equity.time)
    if not len(day):
        return day, np.empty(0)
    last_of_day = np.append(np.flatnonzero(day[1:] != day[:-1]), len(day) - 1)
    nav = np.maximum(np.concatenate([[float(result.spec.starting_cash)], result.equity.nav[last_of_day]]), 0.0)
    before, after = nav[:-1], nav[1:]
    returns = np.divide(after, before, out=np.ones_like(after), where=before > 0) - 1
    kept = day[last_of_day] >= first
    return day[last_of_day][kept], returns[kept]


def _figures(result: RunResult, returns: Floats, since: np.datetime64) -> Figures:
    trades = [trade for trade in result.trades if trade.opened_at >= to_datetime(since)]
    growth = np.concatenate([[1.0], np.cumprod(1 + returns)])
    return Figures(
        trades=len(trades),
        won=sum(trade.net_pnl > 0 for trade in trades if trade.closed_at is not None),
        **{name: _sum(trades, name) for name in ("net_pnl", "spread_cost", "slippage_cost", "financing")},
        total_return=float(growth[-1] - 1),
        sharpe=sharpe(returns),
        max_drawdown=float(drawdown(growth).max()),
    )


def sharpe(returns: Floats) -> float | None:
    """Annual Sharpe ratio of daily returns over a rate of zero; None for fewer than two days, or days all alike."""
    if len(returns) < 2 or not (deviation := float(returns.std(ddof=1))) > 0:
        return None
    return float(returns.mean()) / deviation * math.sqrt(TRADING_DAYS)


def _sum(trades: Sequence[Trade], name: str) -> float:
    return float(sum(getattr(trade, name) for trade in trades))


__all__ = ["DAILY", "Daily", "Evaluation", "Figures", "compare", "sharpe"]
