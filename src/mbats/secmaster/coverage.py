"""What the securities master holds, and what it should hold but does not: its gaps against the FX calendar.

A bar exists only when a price came, so that a missing bar is not always a fault. Minutes without a price are common, and
in the hour after 17:00 New York, when the banks change the day, none may come at all. A hole is therefore a gap when it is an
hour of trading or longer and is not just that hour. Bars that are missing one after the other are one gap, also across a
weekend or a holiday, in which none is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from mbats.database import Database
from mbats.market import Granularity, Times, bar_ends, bar_starts, new_york, to_datetime
from mbats.secmaster.bars import load_times
from mbats.secmaster.symbols import load_instruments
from mbats.secmaster.tables import bar, symbol

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Gap:
    """Bars that are due in [start, end), UTC, and not there. `missing` counts them; no time of a closed market is in it."""

    start: datetime
    end: datetime
    missing: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """One series: the start of its first and last bar (None without bars), how many there are, and its gaps."""

    symbol: str
    granularity: Granularity
    first: datetime | None
    last: datetime | None
    bars: int
    gaps: tuple[Gap, ...]


def coverage(
    db: Database,
    *,
    symbols: Iterable[str] | None = None,
    granularity: Granularity | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Coverage]:
    """Every stored series, by symbol and granularity, or those of the symbols and the granularity that are named.

    Without `start` and `end` a series is looked at from its first to its last bar. A series that is named in full is
    reported even when it holds nothing. Raises UnknownSymbol.
    """
    names = list(load_instruments(db, symbols))
    series = list(_stored_series(db, names, granularity))
    if symbols is not None and granularity is not None:
        series = [(name, granularity) for name in names]
    return [_coverage(db, name, length, start, end) for name, length in series]


def stored_symbols(db: Database, granularity: Granularity) -> list[str]:
    """The symbols that have bars of this length, by name."""
    return [name for name, _ in _stored_series(db, list(load_instruments(db)), granularity)]


def _stored_series(db: Database, names: list[str], granularity: Granularity | None) -> Iterator[tuple[str, Granularity]]:
    with db.begin() as connection:
        for length in [granularity] if granularity else Granularity:
            # A look into the index for each, instead of counting millions of rows.
            any_bar = sa.exists().where(bar.c.symbol_id == symbol.c.id, bar.c.granularity == str(length))
            query = sa.select(symbol.c.name).where(symbol.c.name.in_(names), any_bar).order_by(symbol.c.name)
            yield from ((name, length) for name in connection.scalars(query))


def _coverage(db: Database, name: str, granularity: Granularity, start: datetime | None, end: datetime | None) -> Coverage:
    times = load_times(db, name, granularity, start=start, end=end)
    if not len(times):
        gaps = find_gaps(granularity, times, start, end) if start is not None and end is not None else ()
        return Coverage(name, granularity, None, None, 0, gaps)
    first, last = to_datetime(times[0]), to_datetime(times[-1])
    until = end or to_datetime(bar_ends(granularity, times[-1:])[0])
    return Coverage(name, granularity, first, last, len(times), find_gaps(granularity, times, start or first, until))


def find_gaps(granularity: Granularity, times: Times, start: datetime, end: datetime) -> tuple[Gap, ...]:
    """The gaps in [start, end) of a series whose bars start at these times; bars at times of a closed market do not matter."""
    due = bar_starts(granularity, start, end)
    missing = np.concatenate([[False], ~np.isin(due, times), [False]])
    holes = np.flatnonzero(missing[1:] != missing[:-1]).reshape(-1, 2)  # first missing bar, first that is there again
    counts = holes[:, 1] - holes[:, 0]
    starts, ends = due[holes[:, 0]], bar_ends(granularity, due[holes[:, 1] - 1])
    is_gap = (counts >= HOUR / granularity.length) & ~_within_first_hour(starts, ends)
    return tuple(
        Gap(to_datetime(hole_start), to_datetime(hole_end), int(count))
        for hole_start, hole_end, count in zip(starts[is_gap], ends[is_gap], counts[is_gap], strict=True)
    )


def _within_first_hour(starts: Times, ends: Times) -> NDArray[np.bool_]:
    """Whether a hole lies within 17:00 to 18:00 New York of one day."""
    opened = new_york(starts)
    return np.asarray((opened.hour == 17) & (new_york(ends) <= opened.floor("h") + HOUR))
