"""The journal's SQLite file: opened by one process at a time, synced at every commit, with the tables that it holds."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mbats.errors import DataError, PlatformError

FORMAT = 1  # of the tables below, kept as SQLite's user_version

# An outbox number is never given twice, so that "taken up to" means the same after every record before it is gone.
TABLES = """
CREATE TABLE intent (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id     TEXT NOT NULL UNIQUE,
    deployment    TEXT NOT NULL,
    symbol        TEXT NOT NULL,
    bar           TEXT NOT NULL,
    purpose       TEXT NOT NULL,
    units         TEXT NOT NULL,
    form          TEXT NOT NULL,
    price         TEXT,
    stop          TEXT,
    target        TEXT,
    trail         TEXT,
    reduce_only   INTEGER NOT NULL,
    session       TEXT NOT NULL,
    ref           INTEGER NOT NULL,
    why           TEXT NOT NULL,
    code_version  TEXT NOT NULL,
    state         TEXT NOT NULL,
    decided_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL,
    reason        TEXT NOT NULL,
    detail        TEXT NOT NULL,
    order_id      INTEGER,
    attempts      INTEGER NOT NULL,
    sent_at       TEXT,
    valid_until   TEXT,
    body          TEXT NOT NULL,
    action        TEXT NOT NULL,
    target_id     TEXT
) STRICT;
CREATE INDEX intent_by_state ON intent (state);
CREATE INDEX intent_by_deployment ON intent (deployment);

CREATE TABLE broker_transaction (
    id    INTEGER PRIMARY KEY,
    time  TEXT,
    type  TEXT NOT NULL,
    body  TEXT NOT NULL
) STRICT;

CREATE TABLE saved (
    key   TEXT PRIMARY KEY,
    text  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT NOT NULL,
    slot    TEXT UNIQUE,
    put_at  REAL NOT NULL,
    text    TEXT NOT NULL
) STRICT;

CREATE TABLE aside (
    number  INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,
    put_at  REAL NOT NULL,
    text    TEXT NOT NULL,
    reason  TEXT NOT NULL
) STRICT;
"""


def open_file(path: Path) -> tuple[sqlite3.Connection, int]:
    """The connection, and the descriptor whose lock keeps other processes out until it is closed.

    Raises PlatformError when another process has the journal or the file cannot be used, DataError when it is damaged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PlatformError(f"The journal {path} cannot be used: {error}. Nothing is traded without it.") from error
    try:
        _lock(path, lock)
        return _connect(path), lock
    except BaseException:
        os.close(lock)
        raise


def _lock(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        raise PlatformError(
            f"The journal {path} is in use by {holder}. Two traders on one journal would send each other's orders, so this one "
            "does not start; end that process first."
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC".encode(), 0)


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    # Commits are written here by hand, and threads keep each other out.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        with _damage_named(path):
            connection.execute("PRAGMA synchronous = FULL")
            (kept,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")
        if kept != "wal":
            raise PlatformError(
                f"The journal {path} lies on a file system where SQLite cannot keep a log (found '{kept}'); move it."
            )
        if found != "ok":
            raise _damaged(path, found)
        if version not in (0, FORMAT):
            raise DataError(
                f"The journal {path} has format {version}, this MBATS reads {FORMAT}: nothing was changed. Use the other one."
            )
        _sync_folder(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise PlatformError(f"The journal {path} cannot be used: {error}. Nothing is traded without it.") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, found: object) -> DataError:
    what = " ".join(str(found).split())
    return DataError(
        f"The journal {path} is damaged: {what}. Nothing is traded on it. Move it away with the files beside it; what the broker "
        "holds is then adopted from there."
    )


def _sync_folder(folder: Path) -> None:
    # A file whose entry in its folder is not on the disk is gone after a power cut, however well its content was synced.
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
