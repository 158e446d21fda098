"""What the risk database keeps of a run, as plain values: no database, no Backtrader.

Money is in the account's currency and exact (`Decimal`, rounded to the cent only where it is shown); prices are
exact, in the instrument's own precision or finer; times are UTC. `time` of a fill is the start of the bar in which
it happened, since a bar does not say when inside it a price came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from mbats.market import Floats, Times
from mbats.riskdb.model_records import ModelDecision


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All that decides the outcome of a backtest besides the bars themselves: equal specs on equal bars, equal trades.

    `costs` says how fills were priced, by name: spread, slippage, financing, margin. `fills` is the rule of bracket
    activation, `broker` or `backtrader`. `source` is the strategy's file as it was run, so that a later edit of the
    file does not stop anyone from repeating the run.
    """

    strategy: str
    source: str
    parameters: dict[str, Any]
    symbols: tuple[str, ...]
    granularity: str
    start: datetime
    end: datetime
    account_currency: str
    starting_cash: Decimal
    costs: dict[str, Any]
    fills: str
    seed: int


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. `units` is positive for a buy. Costs are what the fill lost against mid, as positive money.

    `purpose` is `entry`, `exit`, `stop`, `take_profit`, or `margin_closeout`; `pnl` is what it realised, before financing, in
    the account's currency at `conversion` (quote to account currency).
    """

    seq: int
    time: datetime
    symbol: str
    units: Decimal
    price: Decimal
    mid: Decimal
    order_ref: int
    order_type: str
    purpose: str
    conversion: Decimal
    pnl: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    position_after: Decimal


@dataclass(frozen=True, slots=True)
class Trade:
    """A round trip: from flat to flat, or to the other side. `closed_at` is None while it is open at the run's end.

    `gross_pnl` is what the same units would have made at mid; `net_pnl` = gross_pnl − spread_cost − slippage_cost +
    financing. An open trade is valued at the last close of its closing side. `mfe` and `mae` are the best and worst
    open profit seen, at bar extremes, before financing, in the account's currency: mae ≤ 0 ≤ mfe.
    """

    seq: int
    symbol: str
    units: Decimal
    opened_at: datetime
    closed_at: datetime | None
    open_price: Decimal
    close_price: Decimal
    bars: int
    gross_pnl: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    financing: Decimal
    net_pnl: Decimal
    mfe: Decimal
    mae: Decimal


@dataclass(frozen=True, slots=True)
class PositionChange:
    """The position of one symbol from `time` on: signed units (0 when flat) and average price (0 when flat)."""

    time: datetime
    symbol: str
    units: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Equity:
    """The account at the close of every bar, columns of one length: balance (cash), NAV and margin used."""

    time: Times
    balance: Floats
    nav: Floats
    margin_used: Floats


@dataclass(frozen=True, slots=True)
class Performance:
    """One row of figures about a run. A ratio that cannot be formed (no trades, one bar) is None, never a number.

    Fractions, not percent. `ending_nav − starting cash` = gross_pnl − spread_cost − slippage_cost + financing, exactly.
    """

    bars: int
    trades: int
    won: int
    lost: int
    open_trades: int
    refused_orders: int
    starting_cash: Decimal
    ending_balance: Decimal
    ending_nav: Decimal
    gross_pnl: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    financing: Decimal
    net_pnl: Decimal
    total_return: float
    annual_return: float | None
    annual_volatility: float | None
    sharpe: float | None
    sortino: float | None
    max_drawdown: float
    max_drawdown_days: float
    profit_factor: float | None
    expectancy: Decimal | None
    exposure: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run, ready to be recorded.

    `data_source` names the vendor whose bars were traded, as the securities master calls it. `model_version` names the models
    that were used, `name/version`; `in_sample` says whether one had seen the period, None without one. `models` holds the
    identity of each as JSON, by the reference that the strategy wrote; `decisions` is what they said at the bars at
    which the strategy sent an order, by time, symbol, role and model.
    """

    spec: RunSpec
    code_version: str
    versions: dict[str, str]
    data_source: str
    data_fingerprint: str
    data_as_of: datetime
    started_at: datetime
    finished_at: datetime
    model_version: str | None
    in_sample: bool | None
    warnings: tuple[str, ...]
    fills: tuple[Fill, ...]
    trades: tuple[Trade, ...]
    positions: tuple[PositionChange, ...]
    equity: Equity
    performance: Performance
    models: dict[str, Any] = field(default_factory=dict)
    decisions: tuple[ModelDecision, ...] = ()
