"""The row of figures about a run. A ratio without enough to form it is None: no trades never divides by zero.

Returns are of NAV from one trading day's end to the next, so that runs on minutes and on days compare. Annual figures take
`TRADING_DAYS` of them a year; the Sharpe and Sortino ratios are over a risk-free rate of zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from mbats.market import Floats, trading_days
from mbats.riskdb.records import Equity, Performance, Trade

TRADING_DAYS = 260
ZERO = Decimal(0)


def drawdown(nav: Floats) -> Floats:
    """How far NAV is below its peak so far, as a fraction of that peak (0 at a peak, 0.1 at ten percent below)."""
    peak = np.maximum.accumulate(nav)
    return np.asarray(np.where(peak > 0, (peak - nav) / np.where(peak > 0, peak, 1.0), 0.0))


def longest_drawdown_days(equity: Equity, start: float) -> float:
    """The longest stretch, in calendar days, over which NAV was below a peak: until it was reached again or the run ended."""
    if not len(equity.time):
        return 0.0
    nav = np.concatenate([[start], equity.nav])
    time = np.concatenate([equity.time[:1], equity.time])
    peak = np.maximum.accumulate(nav)
    at_peak = np.flatnonzero(nav >= peak)
    ends = np.append(at_peak[1:], len(nav) - 1)
    below = np.append(ends[:-1] > at_peak[:-1] + 1, nav[-1] < peak[-1])
    return float(((time[ends] - time[at_peak])[below] / np.timedelta64(1, "D")).max(initial=0.0))


def daily_returns(equity: Equity, start: float) -> Floats:
    """Return of NAV over each trading day that had a bar, the first one from the starting cash."""
    days = trading_days(equity.time)
    last_of_day = np.append(np.flatnonzero(days[1:] != days[:-1]), len(days) - 1)
    closes = np.concatenate([[start], equity.nav[last_of_day]])
    if (closes[:-1] <= 0).any():
        return np.empty(0)  # a lost account has no returns
    return np.asarray(closes[1:] / closes[:-1] - 1)


def summarise(
    equity: Equity, trades: Sequence[Trade], *, starting_cash: Decimal, ending_balance: Decimal, refused_orders: int
) -> Performance:
    """All figures of one run from its equity curve and its trades (the open ones valued at the last quote)."""
    start = float(starting_cash)
    closed = [trade for trade in trades if trade.closed_at is not None]
    wins = [trade.net_pnl for trade in closed if trade.net_pnl > 0]
    losses = [trade.net_pnl for trade in closed if trade.net_pnl < 0]
    sums = {name: sum((getattr(t, name) for t in trades), ZERO) for name in _SUMMED}
    ending_nav = starting_cash + sums["net_pnl"]
    returns = daily_returns(equity, start) if len(equity.time) else np.empty(0)
    annual_volatility = float(returns.std(ddof=1) * math.sqrt(TRADING_DAYS)) if len(returns) > 1 else None
    falls = np.minimum(returns, 0.0)
    downside = float(np.sqrt((falls**2).mean()) * math.sqrt(TRADING_DAYS)) if len(returns) > 1 else None
    mean = float(returns.mean() * TRADING_DAYS) if len(returns) > 1 else 0.0
    growth = float(ending_nav / starting_cash)
    return Performance(
        bars=len(equity.time),
        trades=len(trades),
        won=len(wins),
        lost=len(losses),
        open_trades=len(trades) - len(closed),
        refused_orders=refused_orders,
        starting_cash=starting_cash,
        ending_balance=ending_balance,
        ending_nav=ending_nav,
        gross_pnl=sums["gross_pnl"],
        spread_cost=sums["spread_cost"],
        slippage_cost=sums["slippage_cost"],
        financing=sums["financing"],
        net_pnl=sums["net_pnl"],
        total_return=growth - 1,
        annual_return=growth ** (TRADING_DAYS / len(returns)) - 1 if len(returns) > 1 and growth > 0 else None,
        annual_volatility=annual_volatility,
        sharpe=mean / annual_volatility if annual_volatility else None,
        sortino=mean / downside if downside else None,
        max_drawdown=float(drawdown(np.concatenate([[start], equity.nav])).max()),
        max_drawdown_days=longest_drawdown_days(equity, start),
        profit_factor=float(sum(wins, ZERO) / -sum(losses, ZERO)) if losses else None,
        expectancy=sum((t.net_pnl for t in closed), ZERO) / len(closed) if closed else None,
        exposure=float((equity.margin_used > 0).mean()) if len(equity.time) else 0.0,
    )


_SUMMED = ("gross_pnl", "spread_cost", "slippage_cost", "financing", "net_pnl")
