"""Copies what journals hold for PostgreSQL into the risk database, in order, however long that was away. Trading never waits for
it.

A batch is written in one transaction and only then taken from the journal, and a record written twice is there once; so a crash
anywhere loses nothing and doubles nothing. A record that PostgreSQL refuses is set aside in the journal and blocks no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg2
import sqlalchemy as sa

from mbats.database import Database
from mbats.errors import DataError, MbatsError, PlatformError
from mbats.live.journal import Journal
from mbats.live.mirrored_day import differences_of_day
from mbats.riskdb.live_record import write_records
from mbats.riskdb.live_records import HeartbeatRecord, LiveRecord, ReconciliationRecord, RiskEventRecord

log = logging.getLogger(__name__)

BATCH = 500  # records
INTERVAL = 1.0  # seconds between two looks into journals that hold nothing
FRESH = 5.0  # seconds between two marks of how fresh the risk database is
LONGEST_PAUSE = 60.0  # seconds between two tries while PostgreSQL is away
PATIENCE = "30s"  # for one statement
# What PostgreSQL says of a row, and not of itself: bad data, a broken constraint, too long for an index, a trigger's refusal.
ROW_REFUSED = ("22", "23", "54", "P0")


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one journal is ahead of PostgreSQL: records that wait, the age of the oldest in seconds, and records set aside.

    `trouble` is why nothing could be written at the last try, "" when it went well.
    """

    waiting: int
    oldest_age: float
    aside: int
    trouble: str


class Mirror:
    """One thread that copies journals, named by the broker's id of their accounts. `start` once, `stop` once."""

    def __init__(
        self,
        journals: Mapping[str, Journal],
        database: Database,
        *,
        batch: int = BATCH,
        interval: float = INTERVAL,
        alarm: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._journals = dict(journals)
        self._database = database
        self._batch = batch
        self._interval = interval
        self._alarm = alarm
        self._trouble = ""
        self.failures = 0  # rounds in which something could not be copied
        self._marked: dict[str, float] = {}
        self._wake = threading.Condition()
        self._deadline: float | None = None  # of the thread's end, on the monotonic clock
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def follow(self, account_id: str, journal: Journal) -> None:
        """Copy one more journal from now on."""
        with self._wake:
            self._journals[account_id] = journal

    def stop(self, within: float = 10.0) -> bool:
        """Copy what still waits, for at most so many seconds; True when nothing waits any more. The rest stays in the
        journals."""
        with self._wake:
            self._deadline = time.monotonic() + within
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join(within)
        return not self._thread.is_alive() and all(lag.waiting == 0 for lag in self.lag().values())

    def lag(self) -> dict[str, Lag]:
        """Figures for metrics and alarms, by account."""
        sizes = {name: journal.outbox_size() for name, journal in self._followed().items()}
        return {name: Lag(size.waiting, size.oldest_age, size.aside, self._trouble) for name, size in sizes.items()}

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _followed(self) -> dict[str, Journal]:
        with self._wake:
            return dict(self._journals)

    # --- The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = self._interval
        while True:
            ending = (
                self._deadline is not None
            )  # read before the round, so that the last round sees all that was put before the end
            try:
                more = self.copy_once()
            except Exception as error:
                self.failures += 1
                self._say(error)
                more, pause = False, min(pause * 2, LONGEST_PAUSE)
            else:
                self._trouble, pause = "", self._interval
            if more and not self._over():
                continue
            if (ending and not self._trouble) or not self._wait(pause):
                return

    def _over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _wait(self, pause: float) -> bool:
        """Wait; False when the thread should end."""
        with self._wake:
            if self._deadline is None:
                self._wake.wait(pause)
                return True
            left = self._deadline - time.monotonic()
            if left <= 0:
                return False
            # Asked to end while PostgreSQL is away: tried at short intervals until the time is over.
            self._wake.wait(min(left, self._interval))
            return True

    def _say(self, error: Exception) -> None:
        trouble = str(error) or type(error).__name__
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if isinstance(error, MbatsError):
            log.warning("Nothing is copied to the risk database for now: %s", trouble)
        else:
            log.error("Nothing is copied to the risk database for now.", exc_info=error)

    # --- One round --------------------------------------------------------------------------------------------------------

    def copy_once(self) -> bool:
        """Copy one batch of each journal; True when more waits. Raises PlatformError when one of them could not be copied."""
        more, failures = False, list[Exception]()
        for account_id, journal in self._followed().items():
            try:
                more |= self._copy(account_id, journal)
            except Exception as error:
                failures.append(error)  # the other journals go on
        if failures:
            raise failures[0]
        return more

    def _copy(self, account_id: str, journal: Journal) -> bool:
        read_at, found = datetime.now(UTC), journal.outbox(self._batch)
        complete = len(found) < self._batch
        if not found and time.monotonic() - self._marked.get(account_id, float("-inf")) < FRESH:
            return False
        marks = [HeartbeatRecord(f"mirror:{account_id}", read_at, "level")] if complete else []
        refused = self._write([record for _, record in found], marks)
        for record in [record for _, record in found if isinstance(record, ReconciliationRecord)]:
            self._check_day(journal, record)
        if found:
            _take(journal, found, refused)
        if complete:
            self._marked[account_id] = time.monotonic()
        return not complete

    def _write(self, records: Sequence[LiveRecord], marks: Sequence[LiveRecord]) -> dict[int, str]:
        """Write records in one transaction; returns the places of those that were refused, and why."""
        try:
            with self._transaction() as connection:
                write_records(connection, [*records, *marks])
                return {}
        except Exception as error:
            if refusal(error) is None:
                raise
        refused: dict[int, str] = {}
        with self._transaction() as connection:
            for place, record in enumerate(records):
                try:
                    with connection.begin_nested():
                        write_records(connection, [record])
                except Exception as error:
                    reason = refusal(error)
                    if reason is None:
                        raise
                    refused[place] = reason
            write_records(connection, marks)
        return refused

    def _check_day(self, journal: Journal, record: ReconciliationRecord) -> None:
        """Whether PostgreSQL has the day as the journal has it (R34); a difference is an alarm."""
        with self._transaction() as connection:
            findings = differences_of_day(connection, journal, record)
        if findings:
            sentence = f"The risk database differs from the journal on {record.day}: {' '.join(findings)}"
            key = f"copy of {record.day} {record.at.isoformat()}"
            journal.put(
                RiskEventRecord(record.account_id, key, datetime.now(UTC), "mismatch", "critical", "copy_differs", sentence)
            )
            log.error("%s", sentence)
            self._alarm(sentence)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._database.begin() as connection:
                connection.execute(sa.text(f"SET LOCAL statement_timeout = '{PATIENCE}'"))
                yield connection
        except sa.exc.DBAPIError as error:
            if refusal(error) is not None:
                raise
            raise PlatformError(
                f"The risk database takes no records: {_one_line(error.orig)}. They wait in the journal. `mbats up` brings its "
                "tables up to date."
            ) from error


def _take(journal: Journal, found: Sequence[tuple[int, LiveRecord]], refused: Mapping[int, str]) -> None:
    with journal.write():
        for place, reason in refused.items():
            number, record = found[place]
            journal.put_aside(number, reason)
            log.error("PostgreSQL refused %s; it was set aside in %s. %s", type(record).__name__, journal.path, reason)
        journal.taken(found[-1][0])


def refusal(error: Exception) -> str | None:
    """Why this error is the fault of a record, so that it would come again with it; None when it is the fault of anything
    else."""
    if isinstance(error, sa.exc.DBAPIError):
        code = getattr(error.orig, "pgcode", None)
        passing = isinstance(error.orig, psycopg2.OperationalError | psycopg2.InterfaceError)
        if error.connection_invalidated or not (code.startswith(ROW_REFUSED) if code else not passing):
            return None
        return _one_line(error.orig)
    wrong = isinstance(error, DataError | sa.exc.StatementError | ValueError | TypeError | ArithmeticError | LookupError)
    return f"{type(error).__name__}: {_one_line(error)}" if wrong else None


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:1000].rstrip(".")
