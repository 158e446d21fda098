"""One series, that is the bars of one symbol and granularity, as a whole: what it spans, who writes it, whose bars it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from mbats.database import Database
from mbats.market import Granularity
from mbats.secmaster.bars import SERIES, UPLOADS
from mbats.secmaster.tables import bar, data_vendor, symbol

DOWNLOADS = 0x6D62_0003  # the first key of the advisory locks of series that are being downloaded


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """The start of the first and of the last stored bar, and the vendor whose bars they are."""

    first: datetime
    last: datetime
    vendor: str


def stored_series(db: Database, name: str, granularity: Granularity) -> StoredSeries | None:
    """What is stored of a series; None when there is no bar of it, or no such symbol yet."""
    bars = (
        sa.select(bar.c.time, data_vendor.c.name)
        .join(data_vendor, data_vendor.c.id == bar.c.data_vendor_id)
        .where(bar.c.symbol_id == sa.select(symbol.c.id).where(symbol.c.name == name).scalar_subquery())
        .where(bar.c.granularity == str(granularity))
        .limit(1)
    )
    with db.begin() as connection:
        first = connection.execute(bars.order_by(bar.c.time)).one_or_none()
        last = connection.execute(bars.order_by(bar.c.time.desc())).one_or_none()
    return None if first is None or last is None else StoredSeries(first.time, last.time, last.name)


@contextmanager
def download_lock(db: Database, name: str, granularity: Granularity) -> Iterator[bool]:
    """Whether this process may download the series now: False while another one does. A process that dies lets go."""
    key = (sa.literal(DOWNLOADS), sa.func.hashtext(f"{name} {granularity}"))
    # No statement runs for as long as the lock is held, so that this transaction keeps nothing from being vacuumed.
    with db.begin() as connection:
        yield bool(connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(*key))))


def retire_series(db: Database, name: str, granularity: Granularity) -> int:
    """Move all bars of a series to the revisions, so that another vendor's can take their place; returns how many.

    What was computed on them can still be repeated: `load_bars(…, as_of=…)` finds them.
    """
    with db.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(UPLOADS)))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SERIES, sa.func.hashtext(f"{name} {granularity}"))))
        return int(connection.execute(sa.select(sa.func.retire_series(name, str(granularity)))).scalar_one())
