"""The tables of the risk database as SQLAlchemy sees them. The migrations in `db/risk` make them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

metadata = sa.MetaData()

TIMESTAMP = sa.DateTime(timezone=True)


def _column(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _run_id() -> sa.Column[int]:
    return sa.Column("run_id", sa.BigInteger, sa.ForeignKey("run.id"), primary_key=True)


run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("mode", sa.Text, nullable=False, server_default="backtest"),
    sa.Column("recorded_at", TIMESTAMP, nullable=False, server_default=sa.func.clock_timestamp()),
    _column("strategy", sa.Text),
    _column("source", sa.Text),
    _column("parameters", JSONB),
    _column("symbols", ARRAY(sa.Text)),
    _column("granularity", sa.Text),
    _column("period_start", TIMESTAMP),
    _column("period_end", TIMESTAMP),
    _column("account_currency", sa.Text),
    _column("starting_cash", sa.Numeric),
    _column("costs", JSONB),
    _column("fills", sa.Text),
    _column("seed", sa.BigInteger),
    _column("code_version", sa.Text),
    _column("versions", JSONB),
    _column("data_source", sa.Text),
    _column("data_fingerprint", sa.Text),
    _column("data_as_of", TIMESTAMP),
    _column("started_at", TIMESTAMP),
    _column("finished_at", TIMESTAMP),
    sa.Column("model_version", sa.Text),
    sa.Column("in_sample", sa.Boolean),
    _column("warnings", ARRAY(sa.Text)),
    sa.UniqueConstraint("id", "starting_cash"),
    sa.Index("run_newest", sa.text("recorded_at DESC")),
    sa.Index("run_of_strategy", "strategy", sa.text("recorded_at DESC")),
)

fill = sa.Table(
    "fill",
    metadata,
    _run_id(),
    sa.Column("seq", sa.Integer, primary_key=True),
    _column("time", TIMESTAMP),
    _column("symbol", sa.Text),
    _column("units", sa.Numeric),
    _column("price", sa.Numeric),
    _column("mid", sa.Numeric),
    _column("order_ref", sa.Integer),
    _column("order_type", sa.Text),
    _column("purpose", sa.Text),
    _column("conversion", sa.Numeric),
    _column("pnl", sa.Numeric),
    _column("spread_cost", sa.Numeric),
    _column("slippage_cost", sa.Numeric),
    _column("position_after", sa.Numeric),
)

trade = sa.Table(
    "trade",
    metadata,
    _run_id(),
    sa.Column("seq", sa.Integer, primary_key=True),
    _column("symbol", sa.Text),
    _column("units", sa.Numeric),
    _column("opened_at", TIMESTAMP),
    sa.Column("closed_at", TIMESTAMP),
    _column("open_price", sa.Numeric),
    _column("close_price", sa.Numeric),
    _column("bars", sa.Integer),
    _column("gross_pnl", sa.Numeric),
    _column("spread_cost", sa.Numeric),
    _column("slippage_cost", sa.Numeric),
    _column("financing", sa.Numeric),
    _column("net_pnl", sa.Numeric),
    _column("mfe", sa.Numeric),
    _column("mae", sa.Numeric),
)

position = sa.Table(
    "position",
    metadata,
    _run_id(),
    sa.Column("seq", sa.Integer, primary_key=True),
    _column("time", TIMESTAMP),
    _column("symbol", sa.Text),
    _column("units", sa.Numeric),
    _column("price", sa.Numeric),
)

equity = sa.Table(
    "equity",
    metadata,
    _run_id(),
    sa.Column("time", TIMESTAMP, primary_key=True),
    _column("balance", DOUBLE_PRECISION),
    _column("nav", DOUBLE_PRECISION),
    _column("margin_used", DOUBLE_PRECISION),
)

# Filled by the database when a run is recorded; see the migration that makes it.
equity_curve = sa.Table(
    "equity_curve",
    metadata,
    _run_id(),
    sa.Column("time", TIMESTAMP, primary_key=True),
    _column("nav", DOUBLE_PRECISION),
    _column("drawdown", DOUBLE_PRECISION),
)

performance = sa.Table(
    "performance",
    metadata,
    sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
    *(_column(name, sa.Integer) for name in ("bars", "trades", "won", "lost", "open_trades", "refused_orders")),
    *(_column(name, sa.Numeric) for name in ("starting_cash", "ending_balance", "ending_nav")),
    *(_column(name, sa.Numeric) for name in ("gross_pnl", "spread_cost", "slippage_cost", "financing", "net_pnl")),
    _column("total_return", DOUBLE_PRECISION),
    *(sa.Column(name, DOUBLE_PRECISION) for name in ("annual_return", "annual_volatility", "sharpe", "sortino")),
    _column("max_drawdown", DOUBLE_PRECISION),
    _column("max_drawdown_days", DOUBLE_PRECISION),
    sa.Column("profit_factor", DOUBLE_PRECISION),
    sa.Column("expectancy", sa.Numeric),
    _column("exposure", DOUBLE_PRECISION),
    sa.ForeignKeyConstraint(["run_id", "starting_cash"], ["run.id", "run.starting_cash"]),
)
