"""Bars into the securities master, and out of it as columns, as they are or as they were at any past moment.

Nothing is ever lost: a bar that the vendor revises is replaced, and the replaced values go to `bar_revision` with the
time at which they came and the time at which they went. A version of a bar was the valid one in [loaded_at, replaced_at).

For that to answer "as of" exactly, no upload may become visible with a `loaded_at` in the past of a moment that a reader
has already named. Uploads therefore hold a shared lock from before they look at the clock until they commit, and `server_time`
waits for those that hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from mbats.database import Database
from mbats.market import Bars, Granularity, Times, to_datetime
from mbats.secmaster.symbols import symbol_id
from mbats.secmaster.tables import VALUE_COLUMNS, bar, bar_revision, data_vendor

# The first key of the advisory locks: one lock that all uploads share, and one for each symbol and granularity.
UPLOADS, SERIES = 0x6D62_0001, 0x6D62_0002

_VALUES = ", ".join(VALUE_COLUMNS)
_STORED = ", ".join(f"b.{name}" for name in VALUE_COLUMNS)
_STAGED = ", ".join(f"staged.{name}" for name in VALUE_COLUMNS)
_EXCLUDED = ", ".join(f"excluded.{name}" for name in VALUE_COLUMNS)

# $1 symbol, $2 granularity, $3 vendor, $4 and $5 the first and last time: without them every partition would be read.
_STORE = f"""
WITH replaced AS (
    INSERT INTO bar_revision (symbol_id, granularity, time, loaded_at, replaced_at, data_vendor_id, {_VALUES})
    SELECT b.symbol_id, b.granularity, b.time, b.loaded_at, statement_timestamp(), b.data_vendor_id, {_STORED}
    FROM bar b JOIN staged_bar staged ON staged.time = b.time
    WHERE b.symbol_id = $1 AND b.granularity = $2 AND b.time BETWEEN $4 AND $5
      AND ({_STORED}) IS DISTINCT FROM ({_STAGED})
    RETURNING 1
), stored AS (
    INSERT INTO bar AS b (symbol_id, granularity, data_vendor_id, loaded_at, time, {_VALUES})
    SELECT $1, $2, $3, statement_timestamp(), time, {_VALUES} FROM staged_bar
    ON CONFLICT (symbol_id, granularity, time) DO UPDATE
    SET (data_vendor_id, loaded_at, {_VALUES}) = (excluded.data_vendor_id, excluded.loaded_at, {_EXCLUDED})
    WHERE ({_STORED}) IS DISTINCT FROM ({_EXCLUDED})
    RETURNING 1
)
SELECT (SELECT count(*) FROM stored), (SELECT count(*) FROM replaced)
"""


@dataclass(frozen=True, slots=True)
class UpsertCount:
    """What became of an upload: bars that were new, that replaced other values, and that were there just so."""

    inserted: int
    revised: int
    unchanged: int


def upsert_bars(db: Database, symbol: str, granularity: Granularity, bars: Bars, *, vendor: str) -> UpsertCount:
    """Store these bars, all or none; the same bars again change nothing. Concurrent uploads of one series take turns.

    Raises BadBar when a bar contradicts itself, UnknownSymbol when the symbol is not stored yet.
    """
    bars.check(symbol, granularity)
    symbol_number, vendor_number = _numbers(db, symbol, vendor)
    if not len(bars):
        return UpsertCount(0, 0, 0)
    first, last = to_datetime(bars.time[0]), to_datetime(bars.time[-1])
    with db.bulk() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("staged_bar", _arrow_table(bars), mode="create", temporary=True)
        cursor.execute("SELECT pg_advisory_xact_lock_shared($1)", (UPLOADS,)).fetchall()
        cursor.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", (SERIES, f"{symbol} {granularity}")).fetchall()
        cursor.execute(_STORE, (symbol_number, str(granularity), vendor_number, first, last))
        stored, revised = cursor.fetchone()
    return UpsertCount(inserted=stored - revised, revised=revised, unchanged=len(bars) - stored)


def _numbers(db: Database, symbol: str, vendor: str) -> tuple[int, int]:
    with db.begin() as connection:
        found = sa.select(data_vendor.c.id).where(data_vendor.c.name == vendor)
        if connection.scalar(found) is None:
            # Two processes may be the first to name a vendor; the second then finds the first one's row.
            connection.execute(postgresql.insert(data_vendor).values(name=vendor).on_conflict_do_nothing())
        return symbol_id(connection, symbol), connection.execute(found).scalar_one()


def _arrow_table(bars: Bars) -> pa.Table:
    columns = {name: pa.array(getattr(bars, name)) for name in VALUE_COLUMNS}
    return pa.table({"time": pa.array(bars.time, pa.timestamp("us", "UTC")), **columns})


def load_bars(
    db: Database, symbol: str, granularity: Granularity, *, start: datetime, end: datetime, as_of: datetime | None = None
) -> Bars:
    """The bars that start in [start, end), oldest first; none is no error. Over a million a second.

    With `as_of` (a time of the database's clock, see `server_time`) they are what they were at that moment: bars that came
    later are left out, and values that were replaced since are back. Raises UnknownSymbol.
    """
    with db.begin() as connection:
        number = symbol_id(connection, symbol)
    statement = (
        _bars_now(number, granularity, start, end) if as_of is None else _bars_then(number, granularity, start, end, as_of)
    )
    table = _fetch(db, statement)
    return Bars(_times(table), *(table[name].to_numpy() for name in VALUE_COLUMNS))


def _bars_now(number: int, granularity: Granularity, start: datetime, end: datetime) -> sa.Select[Any]:
    return (
        sa.select(bar.c.time, *(bar.c[name] for name in VALUE_COLUMNS))
        .where(bar.c.symbol_id == number, bar.c.granularity == str(granularity), bar.c.time >= start, bar.c.time < end)
        .order_by(bar.c.time)
    )


def _bars_then(number: int, granularity: Granularity, start: datetime, end: datetime, as_of: datetime) -> sa.CompoundSelect[Any]:
    versions = []
    for table in (bar, bar_revision):
        values = (table.c[name] for name in VALUE_COLUMNS)
        version = sa.select(table.c.time, *values).where(
            table.c.symbol_id == number,
            table.c.granularity == str(granularity),
            table.c.time >= start,
            table.c.time < end,
            table.c.loaded_at <= as_of,
        )
        versions.append(version.where(table.c.replaced_at > as_of) if table is bar_revision else version)
    return sa.union_all(*versions).order_by("time")


def _fetch(db: Database, statement: sa.Select[Any] | sa.CompoundSelect[Any]) -> pa.Table:
    # ADBC reads by COPY, at twice the speed, only when a statement has no parameters; SQLAlchemy writes them into it.
    text = str(statement.compile(db.engine, compile_kwargs={"literal_binds": True}))
    with db.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetch_arrow_table()


def _times(table: pa.Table) -> Times:
    return np.asarray(table["time"].to_numpy(), "datetime64[us]")


def load_times(
    db: Database, symbol: str, granularity: Granularity, *, start: datetime | None = None, end: datetime | None = None
) -> Times:
    """The starts of the stored bars in [start, end), oldest first; None is without limit. Raises UnknownSymbol."""
    with db.begin() as connection:
        number = symbol_id(connection, symbol)
    statement = sa.select(bar.c.time).where(bar.c.symbol_id == number, bar.c.granularity == str(granularity))
    if start is not None:
        statement = statement.where(bar.c.time >= start)
    if end is not None:
        statement = statement.where(bar.c.time < end)
    return _times(_fetch(db, statement.order_by(bar.c.time)))


def server_time(db: Database) -> datetime:
    """Now, by the database's clock, once every upload in flight has ended: what `as_of` this moment loads never changes."""
    with db.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPLOADS)))
        moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return moment
