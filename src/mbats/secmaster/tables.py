"""The tables of the securities master as SQLAlchemy sees them. The migrations in `db/secmaster` make them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION

metadata = sa.MetaData()

TIMESTAMP = sa.DateTime(timezone=True)
PRICE_COLUMNS = ("bid_open", "bid_high", "bid_low", "bid_close", "ask_open", "ask_high", "ask_low", "ask_close")
VALUE_COLUMNS = (*PRICE_COLUMNS, "volume")


def _values() -> list[sa.Column[object]]:
    prices: list[sa.Column[object]] = [sa.Column(name, DOUBLE_PRECISION, nullable=False) for name in PRICE_COLUMNS]
    return [*prices, sa.Column("volume", sa.BigInteger, nullable=False)]


data_vendor = sa.Table(
    "data_vendor",
    metadata,
    sa.Column("id", sa.SmallInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
)

exchange = sa.Table(
    "exchange",
    metadata,
    sa.Column("id", sa.SmallInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("abbrev", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
)

symbol = sa.Table(
    "symbol",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("exchange_id", sa.SmallInteger, sa.ForeignKey("exchange.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("pip_location", sa.SmallInteger, nullable=False),
    sa.Column("display_precision", sa.SmallInteger, nullable=False),
    sa.Column("units_precision", sa.SmallInteger, nullable=False),
    sa.Column("minimum_units", sa.Numeric, nullable=False),
    sa.Column("maximum_units", sa.Numeric, nullable=False),
    sa.Column("margin_rate", sa.Numeric, nullable=False),
    sa.Column("long_rate", sa.Numeric, nullable=False),
    sa.Column("short_rate", sa.Numeric, nullable=False),
    sa.Column(
        "financing_days",
        ARRAY(sa.SmallInteger),
        nullable=False,
        comment="Monday first: days of financing charged at 17:00 New York of that weekday",
    ),
    sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
    sa.Column("updated_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
)

bar = sa.Table(
    "bar",
    metadata,
    sa.Column("time", TIMESTAMP, primary_key=True),
    sa.Column("loaded_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
    *_values(),
    sa.Column("symbol_id", sa.Integer, primary_key=True),
    sa.Column("data_vendor_id", sa.SmallInteger, nullable=False),
    sa.Column("granularity", sa.Text(collation="C"), primary_key=True),
)

bar_revision = sa.Table(
    "bar_revision",
    metadata,
    sa.Column("symbol_id", sa.Integer, sa.ForeignKey("symbol.id"), primary_key=True),
    sa.Column("granularity", sa.Text(collation="C"), primary_key=True),
    sa.Column("time", TIMESTAMP, primary_key=True),
    sa.Column("loaded_at", TIMESTAMP, nullable=False),
    sa.Column("replaced_at", TIMESTAMP, primary_key=True),
    sa.Column("data_vendor_id", sa.SmallInteger, sa.ForeignKey("data_vendor.id"), nullable=False),
    *_values(),
)

ingest_run = sa.Table(
    "ingest_run",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("granularity", sa.Text, nullable=False),
    sa.Column("period_start", TIMESTAMP, nullable=False),
    sa.Column("period_end", TIMESTAMP, nullable=False),
    sa.Column("started_at", TIMESTAMP, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("finished_at", TIMESTAMP),
    sa.Column("status", sa.Text, nullable=False, server_default="running"),
    sa.Column("inserted", sa.BigInteger),
    sa.Column("revised", sa.BigInteger),
    sa.Column("unchanged", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Index("ingest_run_of_symbol", "symbol", "granularity", sa.text("started_at DESC")),
)
