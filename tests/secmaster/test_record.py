"""The record of downloads."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from mbats.database import Database
from mbats.market import Granularity
from mbats.secmaster.record import finish_ingest_run, start_ingest_run
from mbats.secmaster.tables import ingest_run

PERIOD = {"start": datetime(2024, 1, 1, tzinfo=UTC), "end": datetime(2024, 2, 1, tzinfo=UTC)}


def start(db: Database, symbol: str = "EUR_USD") -> int:
    return start_ingest_run(db, source="simulator", symbol=symbol, granularity=Granularity.D, **PERIOD)


def rows(db: Database) -> list[sa.Row]:
    with db.begin() as connection:
        return list(connection.execute(sa.select(ingest_run).order_by(ingest_run.c.id)).all())


def test_a_download_is_on_record_while_it_runs(secmaster_db: Database) -> None:
    run_id = start(secmaster_db)

    (row,) = rows(secmaster_db)
    assert (row.id, row.status, row.finished_at) == (run_id, "running", None)
    assert (row.source, row.symbol, row.granularity) == ("simulator", "EUR_USD", "D")
    assert (row.period_start, row.period_end) == (PERIOD["start"], PERIOD["end"])


def test_a_finished_download_says_what_it_stored(secmaster_db: Database) -> None:
    run_id = start(secmaster_db)

    finish_ingest_run(secmaster_db, run_id, status="ok", inserted=20, revised=1, unchanged=2)

    (row,) = rows(secmaster_db)
    assert (row.status, row.inserted, row.revised, row.unchanged, row.error) == ("ok", 20, 1, 2, None)
    assert row.finished_at >= row.started_at


def test_a_failed_download_says_why_and_what_it_had_stored_before(secmaster_db: Database) -> None:
    run_id = start(secmaster_db, "EUR_XXX")

    finish_ingest_run(
        secmaster_db, run_id, status="failed", inserted=5, revised=0, unchanged=0, error="Invalid value for 'instrument'"
    )

    (row,) = rows(secmaster_db)
    assert (row.status, row.inserted, row.error) == ("failed", 5, "Invalid value for 'instrument'")


def test_a_failure_without_a_reason_is_refused(secmaster_db: Database) -> None:
    run_id = start(secmaster_db)

    with pytest.raises(sa.exc.IntegrityError):
        finish_ingest_run(secmaster_db, run_id, status="failed", inserted=0, revised=0, unchanged=0)


def test_a_download_that_was_killed_is_marked_when_the_series_is_downloaded_again(secmaster_db: Database) -> None:
    start(secmaster_db)
    start(secmaster_db, "USD_JPY")

    start(secmaster_db)

    assert [(row.symbol, row.status) for row in rows(secmaster_db)] == [
        ("EUR_USD", "interrupted"),
        ("USD_JPY", "running"),
        ("EUR_USD", "running"),
    ]


def test_one_that_was_taken_for_dead_and_was_not_ends_as_it_should(secmaster_db: Database) -> None:
    slow, other = start(secmaster_db), start(secmaster_db)

    for run_id in (slow, other):
        finish_ingest_run(secmaster_db, run_id, status="ok", inserted=0, revised=0, unchanged=3)

    assert [row.status for row in rows(secmaster_db)] == ["ok", "ok"]
