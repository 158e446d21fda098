"""What the journals hold comes into the risk database once, in order, whatever goes away in between."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from live_samples import ACCOUNT, FILL, INTENT, RECORDS, RUN, intent, transaction

from mbats.database import Database, admin_connection, database_name
from mbats.errors import PlatformError
from mbats.live.journal import IntentState, Journal
from mbats.live.mirror import Mirror, refusal
from mbats.riskdb.live_record import HOMES
from mbats.riskdb.live_records import RiskEventRecord, TransactionRecord
from mbats.settings import PROJECT_ROOT, Settings

MakeMirror = Callable[..., Mirror]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal.open(tmp_path / "journal.db")) as opened:
        yield opened


@pytest.fixture
def make(risk_db: Database, journal: Journal) -> Iterator[MakeMirror]:
    made: list[Mirror] = []

    def mirror(**options: Any) -> Mirror:
        made.append(Mirror({ACCOUNT: journal}, risk_db, **{"interval": 0.01} | options))
        return made[-1]

    yield mirror
    for each in made:
        each.stop(0)


def ask(db: Database, query: str) -> list[Any]:
    with db.begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def counts(db: Database) -> dict[str, int]:
    return {home.table.name: ask(db, f"SELECT count(*) FROM {home.table.name}")[0][0] for home in HOMES.values()}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@contextmanager
def locked_out(settings: Settings) -> Iterator[None]:
    """The server ends every connection to the risk database and takes no new one."""
    name = database_name(settings, "risk")
    with closing(admin_connection(settings)) as admin, admin.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_every_record_comes_into_the_database_and_leaves_the_journal(
    risk_db: Database, journal: Journal, make: MakeMirror
) -> None:
    for record in RECORDS:
        journal.put(record)

    assert make().copy_once() is False

    assert journal.outbox(100) == []
    assert counts(risk_db) == dict.fromkeys(counts(risk_db), 1) | {"heartbeat": 2}


def test_batches_go_in_order_and_say_when_more_waits(risk_db: Database, journal: Journal, make: MakeMirror) -> None:
    for number in range(5):
        journal.add_intent(intent(number))
    journal.update_intent(intent(0).client_id, state=IntentState.SENT)
    journal.update_intent(intent(0).client_id, state=IntentState.WORKING)
    mirror = make(batch=3)

    assert [mirror.copy_once() for _ in range(2)] == [True, True]
    assert ask(risk_db, "SELECT count(*) FROM order_intent") == [(5,)]
    assert ask(risk_db, "SELECT name FROM heartbeat") == []
    assert mirror.copy_once() is False

    assert ask(risk_db, f"SELECT state FROM order_intent WHERE client_id = '{intent(0).client_id}'") == [("working",)]
    assert ask(risk_db, "SELECT name, state FROM heartbeat") == [(f"mirror:{ACCOUNT}", "level")]


def test_how_fresh_the_database_is_is_said_although_nothing_happens(risk_db: Database, make: MakeMirror) -> None:
    mirror = make()

    mirror.copy_once()
    [(first,)] = ask(risk_db, "SELECT at FROM heartbeat")
    mirror.copy_once()
    assert ask(risk_db, "SELECT at FROM heartbeat") == [(first,)]
    mirror._marked[ACCOUNT] -= 5
    mirror.copy_once()

    [(second,)] = ask(risk_db, "SELECT at FROM heartbeat")
    assert second > first


def test_a_batch_that_was_written_and_not_taken_is_there_once(
    risk_db: Database, journal: Journal, make: MakeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    for record in RECORDS:
        journal.put(record)
    mirror = make()
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(Journal, "taken", lambda *_: 1 / 0)
        mirror.copy_once()
    before = counts(risk_db)

    mirror.copy_once()

    assert counts(risk_db) == before
    assert journal.outbox(1) == []


def test_what_the_database_refuses_is_set_aside_and_the_rest_goes_on(
    risk_db: Database, journal: Journal, make: MakeMirror
) -> None:
    odd = [
        replace(INTENT.record(), client_id="x", action="hope"),  # a CHECK
        FILL,  # of a run that is not there
        replace(INTENT.record(), client_id="a\x00b"),  # what PostgreSQL's text cannot hold, and psycopg2 does not send
        TransactionRecord(ACCOUNT, 5, None, "X", {"comment": "\x00"}),  # nor its JSON
        TransactionRecord(ACCOUNT, 6, None, "X", {"comment": "\ud800"}),
        replace(INTENT.record(), client_id="y", attempts=2**40),  # too large a number
        replace(INTENT.record(), client_id="long" * 10_000),  # compressed it fits an index
        TransactionRecord(ACCOUNT, 2**70, None, "X", {}),
    ]
    for number, record in enumerate(odd):
        journal.put(record)
        journal.add_intent(intent(number))
    mirror = make()

    mirror.copy_once()

    assert journal.outbox(1) == []
    assert ask(risk_db, "SELECT count(*) FROM order_intent WHERE length(client_id) < 1000") == [(len(odd),)]
    kinds = [kept.kind for kept in journal.aside()]
    assert kinds == ["Intent", "Fill", "Intent", "Transaction", "Transaction", "Intent", "Transaction"]
    reasons = [kept.reason for kept in journal.aside()]
    for reason, said in zip(
        reasons, ["action_check", "No run", "NUL", "u0000", "ud800|surrogate|Unicode", "range", "range"], strict=True
    ):
        assert any(word in reason for word in said.split("|")), (reason, said)
    assert mirror.lag()[ACCOUNT].aside == 7

    journal.put(RUN)
    mirror.copy_once()
    assert journal.retry_aside() == 7
    mirror.copy_once()
    assert ask(risk_db, "SELECT count(*) FROM fill") == [(1,)]
    assert mirror.lag()[ACCOUNT].aside == 6


def test_what_happened_otherwise_than_recorded_is_set_aside(risk_db: Database, journal: Journal, make: MakeMirror) -> None:
    mirror = make()
    for body in ({"pl": "1"}, {"pl": "1"}, {"pl": "2"}):
        journal.put(TransactionRecord(ACCOUNT, 5, None, "X", body))
        mirror.copy_once()

    [kept] = journal.aside()

    assert "says otherwise: its body is {'pl': '1'}, this one's {'pl': '2'}" in kept.reason
    assert ask(risk_db, "SELECT body FROM broker_transaction") == [({"pl": "1"},)]


def test_tables_that_are_not_there_are_no_fault_of_the_records(
    settings: Settings, risk_db: Database, journal: Journal, make: MakeMirror
) -> None:
    journal.add_intent(INTENT)
    with closing(Database(settings, "risk", "owner")) as owner:
        for there, gone in (("order_intent", "elsewhere"), ("elsewhere", "order_intent")):
            with owner.begin() as connection:
                connection.execute(sa.text(f"ALTER TABLE {there} RENAME TO {gone}"))
            if gone == "elsewhere":
                with pytest.raises(PlatformError, match=r"takes no records: .*order_intent.* They wait in the journal"):
                    make().copy_once()
                assert (journal.outbox_size().waiting, journal.outbox_size().aside) == (1, 0)

    make().copy_once()

    assert ask(risk_db, "SELECT count(*) FROM order_intent") == [(1,)]


def test_while_the_database_is_away_everything_waits_and_then_comes(
    settings: Settings, risk_db: Database, journal: Journal, make: MakeMirror
) -> None:
    mirror = make(batch=10)
    mirror.start()
    journal.put(RUN)
    wait_until(lambda: mirror.lag()[ACCOUNT].waiting == 0)

    with locked_out(settings):
        for number in range(50):
            journal.add_intent(intent(number))
        journal.put(replace(FILL, units=Decimal(1)))
        wait_until(lambda: mirror.lag()[ACCOUNT].trouble != "")
        lag = mirror.lag()[ACCOUNT]
        assert (lag.waiting, lag.aside) == (51, 0)
        assert mirror.alive

    wait_until(lambda: mirror.lag()[ACCOUNT].waiting == 0)
    assert mirror.lag()[ACCOUNT].trouble == ""
    assert (counts(risk_db)["order_intent"], counts(risk_db)["fill"]) == (50, 1)


def test_a_connection_lost_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    settings: Settings, risk_db: Database, journal: Journal, make: MakeMirror
) -> None:
    mirror = make(batch=20)
    mirror.start()
    end = threading.Event()

    def cut() -> None:
        with closing(admin_connection(settings)) as admin, admin.cursor() as cursor:
            while not end.wait(0.02):
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database_name(settings, "risk")]
                )

    cutter = threading.Thread(target=cut)
    cutter.start()
    for number in range(400):
        with journal.write():
            journal.add_intent(intent(number))
            journal.add_transactions([transaction(number + 1)])
            journal.put(TransactionRecord(ACCOUNT, number + 1, None, "X", {"n": number}))
            journal.put(replace(INTENT.record(), client_id=f"bad {number}", action="hope"))
    end.set()
    cutter.join()

    wait_until(lambda: mirror.lag()[ACCOUNT].waiting == 0)
    assert mirror.alive
    assert (counts(risk_db)["order_intent"], counts(risk_db)["broker_transaction"]) == (400, 400)
    assert len(journal.aside()) == 400


def test_stopping_copies_what_waits(risk_db: Database, journal: Journal, make: MakeMirror) -> None:
    mirror = make(batch=10, interval=3600)
    mirror.start()
    wait_until(lambda: ask(risk_db, "SELECT 1 FROM heartbeat") == [(1,)])
    for number in range(95):
        journal.add_intent(intent(number))

    assert mirror.stop(60) is True

    assert counts(risk_db)["order_intent"] == 95
    assert not mirror.alive


def test_stopping_while_the_database_is_away_leaves_everything_in_the_journal(
    settings: Settings, journal: Journal, make: MakeMirror
) -> None:
    journal.add_intent(INTENT)
    with locked_out(settings):
        mirror = make()
        mirror.start()

        assert mirror.stop(0.3) is False

    assert journal.outbox_size().waiting == 1


def test_a_database_that_comes_back_before_the_time_is_over_gets_what_waits(
    settings: Settings, risk_db: Database, journal: Journal, make: MakeMirror
) -> None:
    journal.add_intent(INTENT)
    mirror, ended = make(), list[bool]()
    stopper = threading.Thread(target=lambda: ended.append(mirror.stop(60)))
    with locked_out(settings):
        mirror.start()
        wait_until(lambda: mirror.lag()[ACCOUNT].trouble != "")
        stopper.start()
        stopper.join(0.3)
        assert mirror.alive

    stopper.join()

    assert ended == [True]
    assert counts(risk_db)["order_intent"] == 1


def test_a_journal_that_fails_does_not_stop_the_others(risk_db: Database, journal: Journal, tmp_path: Path) -> None:
    broken = Journal.open(tmp_path / "broken.db")
    mirror = Mirror({"broken": broken}, risk_db)
    mirror.follow(ACCOUNT, journal)
    journal.add_intent(INTENT)
    broken.close()

    with pytest.raises(PlatformError, match=r"broken\.db failed"):
        mirror.copy_once()

    assert counts(risk_db)["order_intent"] == 1


def test_an_error_that_nobody_thought_of_does_not_end_the_thread(
    risk_db: Database, journal: Journal, make: MakeMirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = make()
    with monkeypatch.context() as broken:
        broken.setattr(Journal, "outbox", lambda *_: 1 / 0)
        mirror.start()
        wait_until(lambda: mirror.lag()[ACCOUNT].trouble == "division by zero")
    journal.add_intent(INTENT)

    wait_until(lambda: mirror.lag()[ACCOUNT].waiting == 0)

    assert "ZeroDivisionError" in caplog.text


def test_a_lost_connection_is_never_the_fault_of_a_record() -> None:
    for error in (psycopg2.OperationalError("gone"), psycopg2.InterfaceError("closed"), psycopg2.DatabaseError("no message")):
        lost = sa.exc.DBAPIError("INSERT", None, error, connection_invalidated=True)
        assert refusal(lost) is None, error
    assert refusal(sa.exc.DBAPIError("INSERT", None, psycopg2.ProgrammingError("can't adapt type 'x'"))) == "can't adapt type 'x'"
    assert refusal(PlatformError("away")) is None
    assert refusal(OSError("disk")) is None


COPIER = """
import sys
from pathlib import Path
from mbats.database import Database
from mbats.live.journal import Journal
from mbats.live.mirror import Mirror
from mbats.settings import load_settings
mirror = Mirror({"a": Journal.open(Path(sys.argv[2]))}, Database(load_settings(home=sys.argv[1]), "risk", "trading"), batch=7)
print("open", flush=True)
while True:
    mirror.copy_once()
    print("copied", flush=True)
"""


def test_a_process_killed_while_it_copies_loses_and_doubles_nothing(
    settings: Settings, risk_db: Database, journal: Journal, make: MakeMirror
) -> None:
    for number in range(150):
        journal.add_intent(intent(number))
        journal.put(RiskEventRecord(ACCOUNT, str(number), INTENT.bar, "alarm", "info", "x", "X."))
    journal.close()
    for lines in (1, 3, 6):
        argv = [sys.executable, "-c", COPIER, str(settings.home), str(journal.path)]
        copier = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT)
        assert copier.stdout is not None
        for _ in range(1 + lines):
            assert copier.stdout.readline()
        copier.kill()
        copier.wait()
        copier.stdout.close()

    with closing(Journal.open(journal.path)) as again:
        mirror = Mirror({ACCOUNT: again}, risk_db)
        while mirror.copy_once():
            pass
        assert (again.outbox(1), again.aside()) == ([], [])

    assert (counts(risk_db)["order_intent"], counts(risk_db)["risk_event"]) == (150, 150)
