"""The journal keeps what it is given, exactly, in commits that are whole, for one process at a time."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_samples import INTENT, NOW, RECORDS, intent, transaction

from mbats.errors import DataError, PlatformError
from mbats.live.journal import IntentRow, IntentState, Journal
from mbats.live.journal.records import read_record, store_record
from mbats.live.journal.rows import INTENT_COLUMNS, read_intent, store_intent
from mbats.oanda.transactions import Transaction
from mbats.riskdb.live_records import HeartbeatRecord, LiveRecord, TransactionRecord

OPEN = {IntentState.HELD, IntentState.DECIDED, IntentState.SENT, IntentState.UNKNOWN, IntentState.WORKING}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trader" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with closing(Journal.open(path)) as opened:
        yield opened


def reopened(journal: Journal) -> Journal:
    journal.close()
    return Journal.open(journal.path)


# --- Intents --------------------------------------------------------------------------------------------------------------


def test_an_intent_comes_back_equal_after_the_file_was_closed(journal: Journal) -> None:
    rows = [INTENT, intent(2, price=Decimal("1E-5"), order_id=2**40, target_id="12", sent_at=NOW, action="replace")]
    for row in rows:
        journal.add_intent(row)

    with closing(reopened(journal)) as again:
        assert [again.intent(row.client_id) for row in rows] == rows
        assert str(again.intents()[0].units) == "1000.0"


def test_the_first_five_states_are_open_and_no_others() -> None:
    assert {state for state in IntentState if state.open} == OPEN


def test_an_intent_is_changed_field_by_field(journal: Journal) -> None:
    journal.add_intent(INTENT)
    journal.add_intent(intent(2))
    later = NOW + timedelta(seconds=1)

    after = journal.update_intent(INTENT.client_id, state=IntentState.SENT, attempts=1, sent_at=later, body={"x": 1})

    expected = replace(INTENT, state=IntentState.SENT, attempts=1, sent_at=later, body={"x": 1})
    assert after == journal.intent(INTENT.client_id) == expected
    assert journal.intent(intent(2).client_id) == intent(2)


def test_an_intent_is_decided_once(journal: Journal) -> None:
    journal.add_intent(INTENT)

    with pytest.raises(DataError, match="in the journal already"):
        journal.add_intent(replace(INTENT, units=Decimal(5)))

    assert journal.intents() == [INTENT]
    assert journal.outbox_size().waiting == 1


def test_an_intent_that_is_not_there_cannot_be_changed(journal: Journal) -> None:
    with pytest.raises(DataError, match="not in the journal"):
        journal.update_intent("nobody", attempts=1)
    journal.add_intent(INTENT)
    with pytest.raises(TypeError):
        journal.update_intent(INTENT.client_id, colour="red")
    with pytest.raises(ValueError, match="no zone"):
        journal.update_intent(INTENT.client_id, attempts=1, updated_at=datetime(2024, 1, 1))  # noqa: DTZ001

    assert journal.intents() == [INTENT]
    assert journal.outbox_size().waiting == 1


def test_intents_are_found_by_state_and_deployment_in_the_order_of_their_coming(journal: Journal) -> None:
    states = [IntentState.WORKING, IntentState.FILLED, IntentState.HELD, IntentState.WORKING]
    rows = [intent(9 - n, state=state, deployment=f"d{n % 2}") for n, state in enumerate(states)]
    for row in rows:
        journal.add_intent(row)

    assert journal.intents() == rows
    assert journal.intents(states=OPEN) == [rows[0], rows[2], rows[3]]
    assert journal.intents(states=OPEN, deployment="d1") == [rows[3]]
    assert journal.intents(deployment="d0") == [rows[0], rows[2]]
    assert journal.intents(states=[]) == []


def test_every_change_of_an_intent_waits_for_postgresql(journal: Journal) -> None:
    journal.add_intent(INTENT)
    changed = journal.update_intent(INTENT.client_id, state=IntentState.UNKNOWN, reason="timeout")

    assert [record for _, record in journal.outbox(10)] == [INTENT.record(), changed.record()]


times = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
numbers = st.decimals(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.builds(
    IntentRow,
    **{column.name: words for column in fields(IntentRow)}
    | dict.fromkeys(["bar", "decided_at", "updated_at"], times)
    | dict.fromkeys(["sent_at", "valid_until"], st.none() | times)
    | dict.fromkeys(["price", "stop", "target", "trail"], st.none() | numbers)
    | dict.fromkeys(["ref", "attempts"], st.integers(0, 2**40))
    | {
        "units": numbers,
        "reduce_only": st.booleans(),
        "order_id": st.none() | st.integers(0, 2**60),
        "target_id": st.none() | words,
        "state": st.sampled_from(IntentState),
        "body": st.dictionaries(
            st.text(), st.none() | st.text() | st.integers() | st.lists(st.floats(allow_nan=False, allow_infinity=False))
        ),
    },
)


@given(rows)
def test_whatever_an_intent_holds_comes_back_to_the_last_digit(row: IntentRow) -> None:
    stored = store_intent({name: getattr(row, name) for name in INTENT_COLUMNS})

    found = read_intent(stored.values())

    assert found == row
    assert [str(getattr(found, name)) for name in ("units", "price")] == [str(row.units), str(row.price)]
    assert read_record(*(store_record(row.record())[part] for part in (0, 2))) == row.record()


def test_a_time_of_another_zone_is_the_same_moment(journal: Journal) -> None:
    there = datetime(2024, 5, 14, 12, 5, tzinfo=timezone(timedelta(hours=2)))
    journal.add_intent(replace(INTENT, decided_at=there))

    [found] = journal.intents()

    assert found.decided_at == there
    assert found.decided_at.utcoffset() == timedelta(0)


# --- Transactions ---------------------------------------------------------------------------------------------------------


def test_transactions_are_kept_once_each_without_a_gap(journal: Journal) -> None:
    assert journal.last_transaction_id() is None
    journal.add_transactions([transaction(995), transaction(996)])
    journal.add_transactions([transaction(994), transaction(996), transaction(997)])

    with closing(reopened(journal)) as again:
        assert again.last_transaction_id() == 997
        assert again.transactions() == [transaction(number) for number in (995, 996, 997)]
        assert again.transactions(since=996) == [transaction(997)]


def test_a_gap_keeps_none_of_what_came_with_it(journal: Journal) -> None:
    journal.add_transactions([transaction(1)])

    with pytest.raises(DataError, match="Transaction 4 came after 2"):
        journal.add_transactions([transaction(2), transaction(4)])

    assert journal.last_transaction_id() == 1


def test_what_no_text_may_hold_comes_back_in_a_transaction_as_it_was(journal: Journal) -> None:
    odd = Transaction(1, "NEW\ud800", None, {"type": "NEW\ud800", "comment": "a\x00b\udfff", "n": 1e300, "deep": [{"x": None}]})

    journal.add_transactions([odd])

    [found] = journal.transactions()
    assert (found.id, found.time, found.body) == (odd.id, None, odd.body)


# --- Texts ----------------------------------------------------------------------------------------------------------------


def test_a_saved_text_stays_until_it_is_replaced_or_forgotten(journal: Journal) -> None:
    journal.save("books", "1")
    journal.save("books", "2")
    journal.save("gate%state", "x")
    journal.save("gate_losses", "y")

    with closing(reopened(journal)) as again:
        assert again.load("books") == "2"
        assert again.keys("gate") == ["gate%state", "gate_losses"]
        assert again.keys("gate_") == ["gate_losses"]
        assert again.keys() == ["books", "gate%state", "gate_losses"]
        again.forget("books")
        again.forget("books")
        assert again.load("books") is None


# --- Commits --------------------------------------------------------------------------------------------------------------


def test_a_block_that_raises_leaves_nothing(journal: Journal) -> None:
    with pytest.raises(ZeroDivisionError), journal.write():
        journal.add_intent(INTENT)
        journal.add_transactions([transaction(1)])
        journal.save("books", "1")
        raise ZeroDivisionError

    assert (journal.intents(), journal.last_transaction_id(), journal.load("books")) == ([], None, None)
    assert journal.outbox(10) == []


def test_a_block_within_a_block_is_undone_alone_and_committed_with_the_outer(journal: Journal) -> None:
    with journal.write():
        journal.save("outer", "1")
        for number in range(3):
            with pytest.raises(ZeroDivisionError), journal.write():
                journal.save(f"inner {number}", "1")
                raise ZeroDivisionError
        with journal.write():
            journal.save("good", "1")
    assert journal.keys() == ["good", "outer"]

    with pytest.raises(ZeroDivisionError), journal.write():
        with journal.write():
            journal.save("better", "1")
        raise ZeroDivisionError
    assert journal.keys() == ["good", "outer"]


def test_a_commit_is_seen_by_another_connection_when_the_block_ends_and_not_before(journal: Journal) -> None:
    with closing(sqlite3.connect(journal.path)) as other:
        with journal.write():
            journal.save("a", "1")
            assert other.execute("SELECT * FROM saved").fetchall() == []
        assert other.execute("SELECT * FROM saved").fetchall() == [("a", "1")]


def test_commits_are_synced_to_the_disk(journal: Journal) -> None:
    settings = [journal._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]

    assert settings == [2, "wal"]


def test_another_thread_neither_writes_into_a_commit_nor_sees_half_of_it(journal: Journal) -> None:
    seen: list[list[str]] = []
    inside, looked = threading.Event(), threading.Event()

    def look() -> None:
        inside.wait()
        seen.append(journal.keys())
        looked.set()
        journal.save("other", "1")

    thread = threading.Thread(target=look)
    thread.start()
    with pytest.raises(ZeroDivisionError), journal.write():
        journal.save("mine", "1")
        inside.set()
        assert not looked.wait(0.2)
        journal.save("mine too", "1")
        raise ZeroDivisionError
    thread.join()

    assert seen == [[]]
    assert journal.keys() == ["other"]


def test_threads_that_count_together_lose_no_step(journal: Journal) -> None:
    def count() -> None:
        for _ in range(50):
            with journal.write():
                journal.save("n", str(int(journal.load("n") or 0) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert journal.load("n") == "200"


def test_a_full_disk_is_a_plain_error_and_nothing_of_the_step_is_kept(journal: Journal) -> None:
    journal.save("before", "1")
    [pages] = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(PlatformError, match=r"journal .*journal\.db failed: .*full.* may be sent"), journal.write():
        journal.save("small", "1")
        journal.save("large", "x" * 10**6)
    assert journal.keys() == ["before"]

    journal._connection.execute("PRAGMA max_page_count = 1000000")
    journal.save("large", "x" * 10**6)
    assert journal.keys() == ["before", "large"]


def test_a_failure_that_was_passed_over_cannot_split_a_commit(journal: Journal) -> None:
    with pytest.raises(PlatformError, match="undid the whole"), journal.write():
        journal.save("first", "1")
        journal._connection.execute("ROLLBACK")  # what SQLite does by itself on some failures
        journal.save("second", "1")

    assert journal.keys() == []
    journal.save("third", "1")
    assert journal.keys() == ["third"]


# --- The file -------------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from mbats.live.journal import Journal
journal = Journal.open(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(600)
"""


def test_a_second_process_is_refused_with_the_name_of_the_first_until_that_is_killed(path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(PlatformError, match=rf"journal\.db is in use by process {holder.pid} since 20"):
            Journal.open(path)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()

    Journal.open(path).close()


def test_a_journal_is_opened_once_in_a_process_too(journal: Journal) -> None:
    with pytest.raises(PlatformError, match="in use by process"):
        Journal.open(journal.path)

    journal.close()
    journal.close()
    Journal.open(journal.path).close()


def test_a_closed_journal_says_so(journal: Journal) -> None:
    journal.close()

    with pytest.raises(PlatformError, match="closed"):
        journal.save("a", "1")


def test_nobody_else_may_read_the_files(journal: Journal) -> None:
    journal.save("a", "1")

    for file in journal.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(Journal.open(path)) as journal:
        for number in range(200):
            journal.add_intent(intent(number))
    good = path.read_bytes()
    hurt = bytearray(good)
    for start in range(4096, len(good), 4096):
        hurt[start : start + 100] = bytes(100)

    for content in (b"not a database " * 300, bytes(hurt)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged: .*Nothing is traded on it"):
            Journal.open(path)
        assert path.read_bytes() == content

    path.write_bytes(good)
    with closing(Journal.open(path)) as journal:
        assert len(journal.intents()) == 200


def test_the_journal_of_another_version_is_refused(journal: Journal) -> None:
    journal._connection.execute("PRAGMA user_version = 99")

    with pytest.raises(DataError, match="has format 99, this MBATS reads 1"):
        reopened(journal)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(PlatformError, match=r"file/journal\.db cannot be used"):
        Journal.open(tmp_path / "file" / "journal.db")


# --- The outbox -----------------------------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_kind_of_record() -> None:
    assert {type(record) for record in RECORDS} == set(get_args(LiveRecord))


def test_every_kind_of_record_waits_in_order_and_comes_back_equal(journal: Journal) -> None:
    for record in RECORDS:
        journal.put(record)

    with closing(reopened(journal)) as again:
        assert [record for _, record in again.outbox(100)] == list(RECORDS)
        assert [record for _, record in again.outbox(3)] == list(RECORDS[:3])


def test_what_is_taken_is_gone_and_its_number_never_comes_again(journal: Journal) -> None:
    for record in RECORDS[:4]:
        journal.put(record)
    numbers = [number for number, _ in journal.outbox(10)]
    journal.taken(numbers[1])
    assert [number for number, _ in journal.outbox(10)] == numbers[2:]

    journal.taken(numbers[3])
    assert journal.outbox(10) == []
    with closing(reopened(journal)) as again:
        again.put(RECORDS[0])
        [(number, _)] = again.outbox(10)
        assert number > numbers[3]


def test_only_the_newest_heartbeat_of_a_name_waits(journal: Journal) -> None:
    beats = [HeartbeatRecord(name, NOW + timedelta(seconds=n), "well") for n in range(3) for name in ("trader", "bars")]
    for beat in beats:
        journal.put(beat)

    assert [record for _, record in journal.outbox(10)] == beats[-2:]


def test_the_size_of_the_outbox_says_how_many_and_how_old(journal: Journal) -> None:
    assert (journal.outbox_size().waiting, journal.outbox_size().oldest_age, journal.outbox_size().aside) == (0, 0.0, 0)
    journal.put(RECORDS[0])
    journal._connection.execute("UPDATE outbox SET put_at = put_at - 1000")
    journal.put(RECORDS[1])
    [(number, _), _] = journal.outbox(10)

    size = journal.outbox_size()
    assert size.waiting == 2
    assert 1000 <= size.oldest_age < 2000

    journal.put_aside(number, "no")
    size = journal.outbox_size()
    assert (size.waiting, size.aside) == (1, 1)
    assert size.oldest_age < 1000


def test_what_is_set_aside_blocks_nothing_and_can_be_tried_again(journal: Journal) -> None:
    for record in RECORDS[:3]:
        journal.put(record)
    (first, _), _, _ = journal.outbox(10)

    journal.put_aside(first, "the table is not there")
    assert [record for _, record in journal.outbox(10)] == list(RECORDS[1:3])
    [kept] = journal.aside()
    assert (kept.number, kept.kind, kept.reason) == (first, "Deployment", "the table is not there")
    assert read_record(kept.kind, kept.text) == RECORDS[0]

    assert journal.retry_aside() == 1
    assert journal.aside() == []
    assert [record for _, record in journal.outbox(10)] == [*RECORDS[1:3], RECORDS[0]]


def test_a_record_of_another_version_is_set_aside_and_the_rest_go_on(journal: Journal) -> None:
    for record in RECORDS[:3]:
        journal.put(record)
    journal._connection.execute("UPDATE outbox SET kind = 'Novelty' WHERE number = 1")
    journal._connection.execute("UPDATE outbox SET text = '{}' WHERE number = 2")

    assert [record for _, record in journal.outbox(10)] == [RECORDS[2]]

    reasons = [kept.reason for kept in journal.aside()]
    assert "'Novelty', which this version does not know" in reasons[0]
    assert "kind 'Run' that cannot be read" in reasons[1]


def test_a_record_with_half_a_character_in_it_waits_like_any_other(journal: Journal) -> None:
    odd: Any = TransactionRecord("a", 1, None, "X", {"comment": "\ud800"})

    journal.put(odd)

    assert journal.outbox(1)[0][1] == odd
