"""What each download did: one row per symbol and granularity, begun before the first request and finished after the last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from mbats.database import Database
from mbats.market import Granularity
from mbats.secmaster.tables import ingest_run


def start_ingest_run(db: Database, *, source: str, symbol: str, granularity: Granularity, start: datetime, end: datetime) -> int:
    """Note that a download of [start, end) begins; returns its number.

    One of the same series that never finished, since its process was killed, is marked `interrupted`. Were it still
    alive after all, `finish_ingest_run` would put that right.
    """
    row = {"source": source, "symbol": symbol, "granularity": str(granularity), "period_start": start, "period_end": end}
    with db.begin() as connection:
        unfinished = sa.update(ingest_run).where(*_of(source, symbol, granularity), ingest_run.c.status == "running")
        connection.execute(unfinished.values(status="interrupted"))
        return int(connection.execute(sa.insert(ingest_run).values(row).returning(ingest_run.c.id)).scalar_one())


def finish_ingest_run(
    db: Database,
    run_id: int,
    *,
    status: Literal["ok", "failed"],
    inserted: int,
    revised: int,
    unchanged: int,
    error: str | None = None,
) -> None:
    """Note how a download ended and what it stored; one that `failed` says why in `error`."""
    outcome = {"status": status, "inserted": inserted, "revised": revised, "unchanged": unchanged, "error": error}
    finished = sa.update(ingest_run).where(ingest_run.c.id == run_id)
    with db.begin() as connection:
        connection.execute(finished.values(**outcome, finished_at=sa.func.clock_timestamp()))


@dataclass(frozen=True, slots=True)
class LastDownload:
    """How the newest download of a series ended, and why when it `failed`."""

    status: str
    error: str | None


def last_download(db: Database, *, source: str, symbol: str, granularity: Granularity) -> LastDownload | None:
    """The newest download of a series, finished or not; None when there was none."""
    newest = sa.select(ingest_run.c.status, ingest_run.c.error).where(*_of(source, symbol, granularity))
    with db.begin() as connection:
        row = connection.execute(newest.order_by(ingest_run.c.started_at.desc()).limit(1)).one_or_none()
    return None if row is None else LastDownload(row.status, row.error)


def asked_until(db: Database, *, source: str, symbol: str, granularity: Granularity) -> datetime | None:
    """Up to when the newest download that went well has asked the source for bars; None when none has."""
    until = sa.func.least(ingest_run.c.period_end, ingest_run.c.started_at)
    newest = sa.select(until).where(*_of(source, symbol, granularity), ingest_run.c.status == "ok")
    with db.begin() as connection:
        return connection.scalar(newest.order_by(ingest_run.c.started_at.desc()).limit(1))


def asked_from(db: Database, *, source: str, symbol: str, granularity: Granularity, start: datetime) -> bool:
    """Whether a download that went well has asked the source for what it has from `start` on."""
    asked = sa.exists().where(*_of(source, symbol, granularity), ingest_run.c.status == "ok", ingest_run.c.period_start <= start)
    with db.begin() as connection:
        return bool(connection.scalar(sa.select(asked)))


def asked_for(
    db: Database, *, source: str, symbol: str, granularity: Granularity, start: datetime, end: datetime, since: datetime
) -> bool:
    """Whether a download that went well, and was begun at `since` or later, has asked the source for all of [start, end)."""
    whole = (ingest_run.c.period_start <= start, ingest_run.c.period_end >= end, ingest_run.c.started_at >= since)
    asked = sa.exists().where(*_of(source, symbol, granularity), ingest_run.c.status == "ok", *whole)
    with db.begin() as connection:
        return bool(connection.scalar(sa.select(asked)))


def _of(source: str, symbol: str, granularity: Granularity) -> list[sa.ColumnElement[bool]]:
    wanted = {"source": source, "symbol": symbol, "granularity": str(granularity)}
    return [ingest_run.c[name] == value for name, value in wanted.items()]
