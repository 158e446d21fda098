"""Rows into and out of PostgreSQL by COPY, on the connection of a transaction that does other things as well.

Records whose figures are exact go as text, in which a Decimal keeps every digit. Columns of floats go in the binary form,
laid out by numpy: a field is its length as a big-endian int32, then its bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import psycopg2
import sqlalchemy as sa
from numpy.typing import NDArray

from mbats.market import Floats, Times

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# PostgreSQL counts microseconds from its own epoch.
_EPOCH = np.datetime64("2000-01-01", "us")


def copy_rows(connection: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Add rows of text, numbers, Decimals and times; None is NULL."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    text.seek(0)
    _copy(connection, f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT csv)", text)


def copy_series(
    connection: sa.Connection, table: sa.Table, run_id: int, names: Sequence[str], times: Times, columns: Sequence[Floats]
) -> None:
    """Add one row for each time: the run's number, the time, and the value of each column then."""
    records = np.zeros(len(times), _layout(names, with_run=True))
    records["fields"] = 2 + len(names)
    records["run_id_length"], records["run_id"] = 8, run_id
    records["time_length"], records["time"] = 8, (times.astype("datetime64[us]") - _EPOCH).astype(np.int64)
    for name, column in zip(names, columns, strict=True):
        records[f"{name}_length"], records[name] = 8, column
    data = io.BytesIO(_HEADER + records.tobytes() + _TRAILER)
    _copy(connection, f"COPY {table.name} (run_id, time, {', '.join(names)}) FROM STDIN (FORMAT binary)", data)


def read_series(connection: sa.Connection, query: str, names: Sequence[str]) -> tuple[Times, list[Floats]]:
    """The times and columns of a query that selects `time` and `names`, all doubles and none NULL."""
    data = io.BytesIO()
    _copy(connection, f"COPY ({query}) TO STDOUT (FORMAT binary)", data)
    body = data.getbuffer()[len(_HEADER) : -len(_TRAILER)]
    records: NDArray[np.void] = np.frombuffer(body, _layout(names, with_run=False))
    times = _EPOCH + records["time"].astype(np.int64).astype("timedelta64[us]")
    return times, [records[name].astype(np.float64) for name in names]


def _layout(names: Sequence[str], *, with_run: bool) -> np.dtype[np.void]:
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in (*([("run_id", ">i8")] if with_run else []), ("time", ">i8"), *((name, ">f8") for name in names)):
        fields += [(f"{name}_length", ">i4"), (name, kind)]
    return np.dtype(fields)


def _copy(connection: sa.Connection, statement: str, file: io.StringIO | io.BytesIO) -> None:
    raw: Any = connection.connection
    try:
        with closing(raw.cursor()) as cursor:
            cursor.copy_expert(statement, file)
    except psycopg2.Error as error:
        # SQLAlchemy does not see what happens here; told of it, it treats this error and a lost connection like its own.
        lost = bool(raw.closed)
        if lost:
            connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(statement, None, error, psycopg2.Error, connection_invalidated=lost) from error
