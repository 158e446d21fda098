"""The tables of the risk database as SQLAlchemy sees them. The migrations in `db/risk` make them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

metadata = sa.MetaData()

TIMESTAMP = sa.DateTime(timezone=True)


def _column(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _key(name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


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
    sa.Column("period_end", TIMESTAMP),
    _column("account_currency", sa.Text),
    _column("starting_cash", sa.Numeric),
    _column("costs", JSONB),
    _column("fills", sa.Text),
    _column("seed", sa.BigInteger),
    _column("code_version", sa.Text),
    _column("versions", JSONB),
    _column("data_source", sa.Text),
    sa.Column("data_fingerprint", sa.Text),
    sa.Column("data_as_of", TIMESTAMP),
    _column("started_at", TIMESTAMP),
    sa.Column("finished_at", TIMESTAMP),
    sa.Column("model_version", sa.Text),
    sa.Column("in_sample", sa.Boolean),
    _column("warnings", ARRAY(sa.Text)),
    *(sa.Column(name, sa.Text) for name in ("deployment", "session", "account_id")),
    sa.Column("models", JSONB, nullable=False, server_default="{}"),
    sa.UniqueConstraint("id", "starting_cash"),
    sa.UniqueConstraint("deployment", "session"),
    sa.Index("run_newest", sa.text("recorded_at DESC")),
    sa.Index("run_of_strategy", "strategy", sa.text("recorded_at DESC")),
)

fill = sa.Table(
    "fill",
    metadata,
    _run_id(),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    _column("time", TIMESTAMP),
    _column("symbol", sa.Text),
    _column("units", sa.Numeric),
    _column("price", sa.Numeric),
    _column("mid", sa.Numeric),
    _column("order_ref", sa.BigInteger),
    _column("order_type", sa.Text),
    _column("purpose", sa.Text),
    _column("conversion", sa.Numeric),
    _column("pnl", sa.Numeric),
    _column("spread_cost", sa.Numeric),
    _column("slippage_cost", sa.Numeric),
    _column("position_after", sa.Numeric),
    sa.Column("client_id", sa.Text),
)

trade = sa.Table(
    "trade",
    metadata,
    _run_id(),
    sa.Column("seq", sa.BigInteger, primary_key=True),
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
    sa.Column("seq", sa.BigInteger, primary_key=True),
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

# --- Live and paper trading -------------------------------------------------------------------------------------------------

deployment = sa.Table(
    "deployment",
    metadata,
    _key("name", sa.Text),
    _column("strategy", sa.Text),
    _column("source", sa.Text),
    _column("parameters", JSONB),
    _column("symbols", ARRAY(sa.Text)),
    *(_column(name, sa.Text) for name in ("granularity", "account", "account_id", "mode")),
    _column("limits", JSONB),
    _column("created_at", TIMESTAMP),
    _column("created_by", sa.Text),
    _column("code_version", sa.Text),
    _column("seed", sa.BigInteger),
    sa.Column("warmup_bars", sa.Integer),
    sa.Column("warmup_from", TIMESTAMP),
    _column("desired", sa.Text),
    _column("state", sa.Text),
    _column("updated_at", TIMESTAMP),
    _column("reason", sa.Text),
    _column("extra", JSONB),
)

order_intent = sa.Table(
    "order_intent",
    metadata,
    _key("client_id", sa.Text),
    _column("deployment", sa.Text),
    _column("session", sa.Text),
    _column("ref", sa.BigInteger),
    _column("symbol", sa.Text),
    _column("bar", TIMESTAMP),
    _column("purpose", sa.Text),
    _column("action", sa.Text),
    _column("units", sa.Numeric),
    _column("form", sa.Text),
    *(sa.Column(name, sa.Numeric) for name in ("price", "stop", "target", "trail")),
    _column("reduce_only", sa.Boolean),
    sa.Column("target_id", sa.Text),
    *(_column(name, sa.Text) for name in ("why", "code_version", "state", "reason", "detail")),
    sa.Column("order_id", sa.BigInteger),
    _column("attempts", sa.Integer),
    _column("decided_at", TIMESTAMP),
    sa.Column("sent_at", TIMESTAMP),
    _column("updated_at", TIMESTAMP),
    sa.Column("valid_until", TIMESTAMP),
    _column("body", JSONB),
    sa.Index("order_intent_of_deployment", "deployment", sa.text("decided_at DESC")),
)

order_event = sa.Table(
    "order_event",
    metadata,
    _key("account_id", sa.Text),
    _key("key", sa.Text),
    _column("at", TIMESTAMP),
    _column("deployment", sa.Text),
    _column("symbol", sa.Text),
    _column("status", sa.Text),
    sa.Column("client_id", sa.Text),
    sa.Column("order_id", sa.BigInteger),
    sa.Column("transaction_id", sa.BigInteger),
    sa.Column("units", sa.Numeric),
    sa.Column("price", sa.Numeric),
    _column("reason", sa.Text),
    _column("detail", sa.Text),
    sa.Index("order_event_of_order", "client_id"),
    sa.Index("order_event_newest", sa.text("at DESC")),
)

risk_event = sa.Table(
    "risk_event",
    metadata,
    _key("account_id", sa.Text),
    _key("key", sa.Text),
    _column("at", TIMESTAMP),
    *(_column(name, sa.Text) for name in ("kind", "level", "code", "sentence", "deployment", "symbol", "by")),
    sa.Column("found", sa.Numeric),
    sa.Column("allowed", sa.Numeric),
    sa.Column("until", TIMESTAMP),
    _column("detail", JSONB),
    sa.Index("risk_event_newest", sa.text("at DESC")),
)

heartbeat = sa.Table(
    "heartbeat",
    metadata,
    _key("name", sa.Text),
    _column("at", TIMESTAMP),
    _column("state", sa.Text),
    _column("detail", JSONB),
)

lease = sa.Table(
    "lease",
    metadata,
    _key("account_key", sa.Text),
    _column("holder", sa.Text),
    _column("term", sa.BigInteger),
    *(_column(name, TIMESTAMP) for name in ("since", "renewed_at", "expires_at")),
)

broker_transaction = sa.Table(
    "broker_transaction",
    metadata,
    _key("account_id", sa.Text),
    _key("id", sa.BigInteger),
    sa.Column("time", TIMESTAMP),
    _column("type", sa.Text),
    _column("body", JSONB),
)

account_equity = sa.Table(
    "account_equity",
    metadata,
    _key("account_id", sa.Text),
    _key("time", TIMESTAMP),
    _column("currency", sa.Text),
    *(_column(name, sa.Numeric) for name in ("balance", "nav", "margin_used")),
)

reconciliation = sa.Table(
    "reconciliation",
    metadata,
    _key("account_id", sa.Text),
    _key("day", sa.Date),
    _key("at", TIMESTAMP),
    _column("currency", sa.Text),
    _column("first_transaction", sa.BigInteger),
    _column("last_transaction", sa.BigInteger),
    *(_column(name, sa.Numeric) for name in ("opening_balance", "pl", "financing", "transferred", "charged")),
    *(_column(name, sa.Numeric) for name in ("book_balance", "broker_balance")),
    _column("findings", ARRAY(sa.Text)),
    _column("detail", JSONB),
)

# --- Models -----------------------------------------------------------------------------------------------------------------

model_decision = sa.Table(
    "model_decision",
    metadata,
    _run_id(),
    _key("symbol", sa.Text),
    _key("time", TIMESTAMP),
    _key("role", sa.Text),
    _key("model", sa.Text),
    _column("features", ARRAY(DOUBLE_PRECISION)),
    sa.Column("prediction", DOUBLE_PRECISION),
    sa.Column("latency_ms", DOUBLE_PRECISION),
    sa.Column("error", sa.Text),
    sa.Index("model_decision_newest", sa.text("time DESC")),
)

model_promotion = sa.Table(
    "model_promotion",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _column("name", sa.Text),
    _column("version", sa.Integer),
    sa.Column("previous_version", sa.Integer),
    sa.Column("at", TIMESTAMP, nullable=False, server_default=sa.func.clock_timestamp()),
    *(_column(name, sa.Text) for name in ("by", "why", "action")),
    _column("overridden", sa.Boolean),
    _column("checks", JSONB),
    sa.Index("model_promotion_of_model", "name", sa.text("id DESC")),
)

model_drift = sa.Table(
    "model_drift",
    metadata,
    _key("name", sa.Text),
    _key("version", sa.Integer),
    _key("at", TIMESTAMP),
    _key("what", sa.Text),
    _column("psi", DOUBLE_PRECISION),
    _column("rows", sa.BigInteger),
    *(_column(name, TIMESTAMP) for name in ("since", "until")),
    _column("level", sa.Text),
)
