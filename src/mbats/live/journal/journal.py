"""The journal of one account: intents, the broker's transactions, saved texts, and the outbox to PostgreSQL, in one SQLite file.

What a `write` block did is on the disk when the block ends, all of it or nothing, whatever kills the process. One process has the
file at a time. Threads may share a Journal.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbats.errors import DataError, PlatformError
from mbats.live.journal.file import open_file
from mbats.live.journal.intents import IntentRow, IntentState
from mbats.live.journal.records import read_record, store_record
from mbats.live.journal.rows import INTENT_COLUMNS, read_intent, read_transaction, store_intent, store_transaction
from mbats.oanda.transactions import Transaction
from mbats.riskdb.live_records import LiveRecord

_INTENT = ", ".join(INTENT_COLUMNS)


@dataclass(frozen=True, slots=True)
class OutboxSize:
    """How much waits for PostgreSQL: records, the age of the oldest in seconds (0 when none), and how many were set aside."""

    waiting: int
    oldest_age: float
    aside: int


@dataclass(frozen=True, slots=True)
class Aside:
    """A record that PostgreSQL refused, as it was written, and why."""

    number: int
    kind: str
    reason: str
    text: str


class Journal:
    """See the module. Every method raises PlatformError when the file fails; nothing of the block is kept then."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        self.path = path
        self._connection = connection
        self._file_lock = lock
        self._thread_lock = threading.RLock()
        self._depth = 0

    @classmethod
    def open(cls, path: Path) -> Journal:
        """The journal in this file, made when it is not there.

        Raises PlatformError that names the process which has it, or when it cannot be used; DataError when it is damaged.
        """
        return cls(path, *open_file(path))

    def close(self) -> None:
        """End the use of the file; another process may then open it. To close twice does no harm."""
        with self._thread_lock:
            self._connection.close()
            if self._file_lock >= 0:
                os.close(self._file_lock)
                self._file_lock = -1

    # --- Commits ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def write(self) -> Iterator[None]:
        """One commit: durable when the block ends, undone when it raises. Other threads wait.

        A block within a block is part of the outer one's commit; when it raises, what it did alone is undone.
        """
        with self._thread_lock, self._failure_named():
            inner = f"inner_{self._depth}"
            self._run(f"SAVEPOINT {inner}" if self._depth else "BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                self._run("COMMIT" if self._depth == 1 else f"RELEASE {inner}")
            except BaseException:
                self._undo(inner)
                raise
            finally:
                self._depth -= 1

    @contextmanager
    def _one_statement(self) -> Iterator[None]:
        """A commit, or a part of the one around it, for a single statement: that undoes itself when it fails."""
        with self._thread_lock:
            if self._depth:  # of this thread's own block, since others wait for the lock
                with self._failure_named():
                    yield
            else:
                with self.write():
                    yield

    def _undo(self, inner: str) -> None:
        if not self._connection.in_transaction:
            return  # SQLite undid everything by itself, as it does when the disk is full
        if self._depth == 1:
            self._connection.execute("ROLLBACK")
        else:
            self._connection.execute(f"ROLLBACK TO {inner}")
            self._connection.execute(f"RELEASE {inner}")

    def _run(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        if self._depth and not self._connection.in_transaction:
            # Else what follows in this block would be kept without what went before.
            raise sqlite3.OperationalError("an earlier failure undid the whole of this commit")
        return self._connection.execute(statement, tuple(values))

    def _read(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._thread_lock, self._failure_named():
            return self._connection.execute(query, tuple(values)).fetchall()

    @contextmanager
    def _failure_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise PlatformError(
                f"The journal {self.path} failed: {error}. Nothing of this step was kept, so nothing of it may be sent. See "
                "whether the disk is full or gone."
            ) from error

    # --- Intents ----------------------------------------------------------------------------------------------------------

    def add_intent(self, row: IntentRow) -> None:
        """Keep a new intent, and put its record into the outbox. Raises DataError when its client id is taken."""
        columns = store_intent({name: getattr(row, name) for name in INTENT_COLUMNS})
        with self.write():
            try:
                self._run(f"INSERT INTO intent ({_INTENT}) VALUES ({', '.join('?' * len(columns))})", columns.values())
            except sqlite3.IntegrityError:
                found = f"The intent {row.client_id} is in the journal already; it was not decided a second time."
                raise DataError(found) from None
            self.put(row.record())

    def update_intent(self, client_id: str, **changes: Any) -> IntentRow:
        """Change fields of an intent, and put its record into the outbox; returns it as it then is.

        Raises DataError when there is none, TypeError for a field that an intent does not have.
        """
        with self.write():
            before = self.intent(client_id)
            if before is None:
                raise DataError(f"The intent {client_id} is not in the journal, so it cannot be changed.")
            after = replace(before, **changes)
            columns = store_intent(changes)
            if columns:
                names = ", ".join(f"{name} = ?" for name in columns)
                self._run(f"UPDATE intent SET {names} WHERE client_id = ?", [*columns.values(), client_id])
                self.put(after.record())
            return after

    def intent(self, client_id: str) -> IntentRow | None:
        """The intent of this name."""
        found = self._read(f"SELECT {_INTENT} FROM intent WHERE client_id = ?", [client_id])
        return read_intent(found[0]) if found else None

    def intents(self, *, states: Iterable[IntentState] | None = None, deployment: str | None = None) -> list[IntentRow]:
        """Intents in these states, of this deployment, in the order in which they were added."""
        query, values = f"SELECT {_INTENT} FROM intent WHERE TRUE", list[str]()
        if states is not None:
            values += [str(state) for state in states]
            query += f" AND state IN ({', '.join('?' * len(values))})"
        if deployment is not None:
            query, values = f"{query} AND deployment = ?", [*values, deployment]
        return [read_intent(row) for row in self._read(f"{query} ORDER BY number", values)]

    # --- The broker's transactions ----------------------------------------------------------------------------------------

    def add_transactions(self, transactions: Iterable[Transaction]) -> None:
        """Keep what the broker says that happened. What is there already, or comes before the first, is passed over.

        Raises DataError when one is missing before another, and keeps none of them then. The first ever may have any number.
        """
        with self.write():
            last = self.last_transaction_id()
            for transaction in transactions:
                if last is not None and transaction.id <= last:
                    continue
                if last is not None and transaction.id != last + 1:
                    raise DataError(
                        f"Transaction {transaction.id} came after {last}: those between are missing, and nothing was kept. "
                        "Ask the broker for them first."
                    )
                self._run("INSERT INTO broker_transaction VALUES (?, ?, ?, ?)", store_transaction(transaction))
                last = transaction.id

    def transactions(self, *, since: int | None = None) -> list[Transaction]:
        """Those with a number greater than `since`, or all, in order."""
        query = "SELECT id, time, type, body FROM broker_transaction WHERE id > ? ORDER BY id"
        return [read_transaction(*row) for row in self._read(query, [-1 if since is None else since])]

    def last_transaction_id(self) -> int | None:
        """The number of the newest, None before the first."""
        [(last,)] = self._read("SELECT max(id) FROM broker_transaction")
        return None if last is None else int(last)

    # --- Texts under a name -----------------------------------------------------------------------------------------------

    def save(self, key: str, text: str) -> None:
        """Keep a text under a name, in place of what was there."""
        with self._one_statement():
            self._run("INSERT INTO saved VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET text = excluded.text", [key, text])

    def load(self, key: str) -> str | None:
        """The text of this name."""
        found = self._read("SELECT text FROM saved WHERE key = ?", [key])
        return str(found[0][0]) if found else None

    def forget(self, key: str) -> None:
        """Drop a text; nothing happens when there is none."""
        with self._one_statement():
            self._run("DELETE FROM saved WHERE key = ?", [key])

    def keys(self, prefix: str = "") -> list[str]:
        """The names that begin so, sorted."""
        return [
            key for (key,) in self._read("SELECT key FROM saved WHERE substr(key, 1, ?) = ? ORDER BY key", [len(prefix), prefix])
        ]

    # --- The outbox to PostgreSQL -----------------------------------------------------------------------------------------

    def put(self, record: LiveRecord) -> None:
        """Let a record wait for PostgreSQL. A heartbeat takes the place of the one of the same name that waits."""
        kind, slot, text = store_record(record)
        with self._one_statement() if slot is None else self.write():
            if slot is not None:
                self._run("DELETE FROM outbox WHERE slot = ?", [slot])
            self._run("INSERT INTO outbox (kind, slot, put_at, text) VALUES (?, ?, ?, ?)", [kind, slot, time.time(), text])

    def outbox(self, limit: int) -> list[tuple[int, LiveRecord]]:
        """The records that wait longest, in order. One that this version cannot read is set aside, and the rest go on."""
        found: list[tuple[int, LiveRecord]] = []
        for number, kind, text in self._read("SELECT number, kind, text FROM outbox ORDER BY number LIMIT ?", [limit]):
            try:
                found.append((number, read_record(kind, text)))
            except DataError as error:
                self.put_aside(number, str(error))
        return found

    def taken(self, up_to: int) -> None:
        """PostgreSQL has every record up to this number."""
        with self.write():
            self._run("DELETE FROM outbox WHERE number <= ?", [up_to])

    def put_aside(self, number: int, reason: str) -> None:
        """Keep a record that PostgreSQL will not have where it blocks no other, until `retry_aside`."""
        with self.write():
            columns = "number, kind, put_at, text"
            self._run(f"INSERT INTO aside ({columns}, reason) SELECT {columns}, ? FROM outbox WHERE number = ?", [reason, number])
            self._run("DELETE FROM outbox WHERE number = ?", [number])

    def aside(self) -> list[Aside]:
        """What was set aside, oldest first."""
        return [Aside(*row) for row in self._read("SELECT number, kind, reason, text FROM aside ORDER BY number")]

    def retry_aside(self) -> int:
        """Let what was set aside wait for PostgreSQL again, after all that waits now; returns how many."""
        with self.write():
            columns = "kind, put_at, text"
            back = self._run(f"INSERT INTO outbox ({columns}) SELECT {columns} FROM aside ORDER BY number").rowcount
            self._run("DELETE FROM aside")
            return back

    def outbox_size(self) -> OutboxSize:
        """Figures for metrics."""
        query = "SELECT count(*), min(put_at), (SELECT count(*) FROM aside) FROM outbox"
        [(waiting, oldest, aside)] = self._read(query)
        return OutboxSize(waiting, max(0.0, time.time() - oldest) if waiting else 0.0, aside)
