"""What each download did: one row per symbol and granularity, begun before the first request and finished after the last."""

from __future__ import annotations

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
    series = [ingest_run.c[name] == row[name] for name in ("source", "symbol", "granularity")]
    with db.begin() as connection:
        unfinished = sa.update(ingest_run).where(*series, ingest_run.c.status == "running")
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
