"""What the exchange keeps: every transaction and every change of the market, in the order in which they came, and nothing else.

The log is all that a restart needs. A batch is written whole or not at all, and is safe from a kill of the process as soon as
`append` returns; a power cut may lose the last batches, but never a part of one.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import orjson

from mbats.errors import ConfigError, PlatformError
from mbats.simulator.core.values import Transaction

FORMAT = 1  # of the rows written now; older rows stay readable
APPLICATION = 0x4D425458  # marks a file of SQLite as a log of this simulator
TABLES = """
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    format INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('transaction', 'change')),
    body BLOB NOT NULL
) STRICT;
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
"""

Change = dict[str, Any]


class Log(Protocol):
    """Where transactions and changes go. What is in it never changes; only the state is replaced by the next."""

    def append(self, transactions: Sequence[Transaction], changes: Sequence[Change], state: Mapping[str, Any]) -> None:
        """Write what has happened, and where the exchange stands after it."""

    def transactions(self) -> Iterator[Transaction]:
        """Every transaction of every account, oldest first."""

    def changes(self) -> Iterator[Change]:
        """Every change of the market, oldest first."""

    def state(self) -> dict[str, Any] | None:
        """Where the exchange stood at the last append; None before the first."""

    def digest(self) -> str:
        """SHA-256 over all transactions in order: equal digests mean that the same things happened."""

    def copy_to(self, path: Path) -> None:
        """Write all of it into a new file. Raises ConfigError when the file is there already."""

    def close(self) -> None:
        """Let go of the file."""


def _digest(transactions: Iterable[Transaction]) -> str:
    found = hashlib.sha256()
    for transaction in transactions:
        found.update(orjson.dumps(transaction, option=orjson.OPT_SORT_KEYS) + b"\n")
    return found.hexdigest()


class MemoryLog:
    """A log that ends with the process."""

    def __init__(self) -> None:
        self._transactions: list[Transaction] = []
        self._changes: list[Change] = []
        self._state: dict[str, Any] | None = None

    def append(self, transactions: Sequence[Transaction], changes: Sequence[Change], state: Mapping[str, Any]) -> None:
        self._transactions += transactions
        self._changes += changes
        self._state = dict(state)

    def transactions(self) -> Iterator[Transaction]:
        return iter(list(self._transactions))

    def changes(self) -> Iterator[Change]:
        return iter(list(self._changes))

    def state(self) -> dict[str, Any] | None:
        return self._state

    def digest(self) -> str:
        return _digest(self.transactions())

    def copy_to(self, path: Path) -> None:
        _refuse_existing(path)
        copy = SqliteLog(path)
        copy.append(self._transactions, self._changes, self._state or {})
        copy.close()

    def close(self) -> None:
        """There is nothing to let go of."""


class SqliteLog:
    """A log in one file of SQLite, which one process at a time has open."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises ConfigError when it is another program's, of a later version, or in use."""
        self._path = path
        self._database = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, transactions: Sequence[Transaction], changes: Sequence[Change], state: Mapping[str, Any]) -> None:
        """Write all of it in one step. Changes come first: the transactions of the same step already follow from them.

        Raises PlatformError when the disk does not take it; then nothing of it is written.
        """
        rows = [("change", orjson.dumps(change)) for change in changes]
        rows += [("transaction", orjson.dumps(transaction)) for transaction in transactions]
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany(f"INSERT INTO entries (format, kind, body) VALUES ({FORMAT}, ?, ?)", rows)
                self._database.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (FORMAT, orjson.dumps(dict(state))))
        except sqlite3.Error as error:
            raise PlatformError(
                f"The simulator's log {self._path} cannot be written: {error}. What was to be written has not happened. Make "
                "room on its disk, or name another folder by MBATS_SIMULATOR_DATA."
            ) from error

    def transactions(self) -> Iterator[Transaction]:
        return self._entries("transaction")

    def changes(self) -> Iterator[Change]:
        return self._entries("change")

    def state(self) -> dict[str, Any] | None:
        row = self._database.execute("SELECT body FROM state").fetchone()
        found: dict[str, Any] | None = orjson.loads(row[0]) if row else None
        return found

    def digest(self) -> str:
        return _digest(self.transactions())

    def copy_to(self, path: Path) -> None:
        """Copy what is in it now, while it is in use."""
        _refuse_existing(path)
        copy = sqlite3.connect(path)
        try:
            self._database.backup(copy)
        finally:
            copy.close()

    def close(self) -> None:
        self._database.close()

    def _entries(self, kind: str) -> Iterator[dict[str, Any]]:
        for (body,) in self._database.execute("SELECT body FROM entries WHERE kind = ? ORDER BY number", (kind,)):
            yield orjson.loads(body)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            # Held for as long as the process lives, so that no second simulator writes between two of its transactions.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            new = self._check(database)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("BEGIN IMMEDIATE")
            for statement in TABLES.split(";\n") if new else ():
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION}")
            database.execute("COMMIT")
        except ConfigError:
            database.close()
            raise
        except sqlite3.Error as error:
            database.close()
            raise self._refusal(self._words(error)) from error
        return database

    def _check(self, database: sqlite3.Connection) -> bool:
        """Whether the file has nothing in it yet. Raises ConfigError when it holds something else than a log of ours."""
        application = database.execute("PRAGMA application_id").fetchone()[0]
        if not application and not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            return True
        if application != APPLICATION:
            raise self._refusal("is a database of another program")
        formats = "SELECT max(format) FROM (SELECT format FROM entries UNION SELECT format FROM state)"
        newest = database.execute(formats).fetchone()[0]
        if newest is not None and newest > FORMAT:
            raise self._refusal(f"was written by a later version of MBATS (rows of format {newest}, known up to {FORMAT})")
        return False

    @staticmethod
    def _words(error: sqlite3.Error) -> str:
        if "locked" in str(error):
            return "is open in another simulator"
        return f"cannot be read: {error}"

    def _refusal(self, found: str) -> ConfigError:
        return ConfigError(
            f"The simulator's log {self._path} {found}. Nothing was changed, and the simulator was not started. Stop the other "
            "program, move the file away to begin afresh, or name another folder by MBATS_SIMULATOR_DATA."
        )


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path} is there already; the log was not copied. Name a file that does not exist.")
