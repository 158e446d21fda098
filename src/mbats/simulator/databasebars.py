"""Bars of the securities master as a source of prices, with a path drawn inside each.

What is served is what the database held at one moment, `as_of`, so that revisions and downloads after it change nothing. Bars are
read as they are needed, by the login that can only read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from mbats.database import Database
from mbats.errors import ConfigError
from mbats.market import Granularity, Instrument, to_datetime, to_us
from mbats.secmaster.bars import load_bars, server_time
from mbats.secmaster.coverage import stored_symbols
from mbats.secmaster.series import stored_series
from mbats.secmaster.symbols import load_instruments
from mbats.simulator.cache import LastUsed
from mbats.simulator.intrabar import Intrabar, drawable
from mbats.simulator.prices import Candles, Ticks
from mbats.simulator.series import BarSeries
from mbats.simulator.userfiles import PRICES

BLOCKS_KEPT = 64  # a month of minutes takes 2 MB, a year of hours 0.4


class DatabaseBars:
    """Stored bars of one length, or of the shortest that each symbol has. Reading them may raise PlatformError, or BadBar."""

    refines = True

    def __init__(
        self,
        database: Database,
        *,
        symbols: Iterable[str] | None = None,
        granularity: Granularity | None = None,
        as_of: datetime | None = None,
        intrabar: Intrabar | None = None,
    ) -> None:
        """`as_of` is a time of the database's clock, now when it is None; `symbols` are all that have bars when it is None.

        Raises ConfigError when a symbol has no such bars, or none has.
        """
        self.as_of = as_of or server_time(database)
        lengths = _lengths(database, symbols, granularity)
        self.listed = load_instruments(database, lengths)
        self.instruments = tuple(lengths)
        self.description = f"stored bars as of {self.as_of:%Y-%m-%d %H:%M:%S}Z"
        path = intrabar or Intrabar()
        self._series = {name: self._stored(database, self.listed[name], length, path) for name, length in lengths.items()}

    def base(self, instrument: str) -> Granularity:
        return self._series[instrument].base

    def first(self, instrument: str) -> np.datetime64:
        return self._series[instrument].first

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        """The stored bars that start in [start, end)."""
        return self._series[instrument].bars(start, end)

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The single prices in [start, end), as they are drawn inside the bars."""
        return self._series[instrument].ticks(start, end)

    def _stored(self, database: Database, listed: Instrument, granularity: Granularity, path: Intrabar) -> BarSeries:
        stored = stored_series(database, listed.name, granularity)
        assert stored is not None  # `_lengths` has found bars
        blocks = _Blocks(database, listed, granularity, self.as_of, path, to_us(stored.first), to_us(stored.last))
        return BarSeries(listed.name, granularity, blocks.first, blocks.between, path)


def _lengths(database: Database, symbols: Iterable[str] | None, granularity: Granularity | None) -> dict[str, Granularity]:
    """The length of bar to serve of each symbol, by name."""
    found: dict[str, Granularity] = {}
    for length in [granularity] if granularity else Granularity:  # from the shortest on
        for name in stored_symbols(database, length):
            found.setdefault(name, length)
    wanted = list(found) if symbols is None else list(symbols)
    lacking = [name for name in wanted if name not in found]
    if lacking or not wanted:
        raise ConfigError(
            f"The securities master holds no {granularity or 'bars'} of {', '.join(lacking) or 'any symbol'}. The simulator was "
            "not started; store bars with `mbats ingest`, or serve another source."
        )
    return {name: found[name] for name in sorted(wanted)}


@dataclass(frozen=True)
class _Blocks:
    """The bars of one series, read a block at a time and kept. `first` and `last` are the starts of the outermost bars."""

    database: Database
    listed: Instrument
    granularity: Granularity
    as_of: datetime
    path: Intrabar
    first: np.datetime64
    last: np.datetime64
    kept: LastUsed[str, Candles] = field(default_factory=lambda: LastUsed(BLOCKS_KEPT))

    def between(self, start: np.datetime64, end: np.datetime64) -> Candles:
        """The bars that start in [start, end)."""
        start, end = max(start, self.first), min(end, self.last + np.timedelta64(1, "us"))
        if end <= start:
            return Candles.empty()
        blocks = np.arange(start.astype(self._unit), end.astype(self._unit) + 1)
        return Candles.concatenate([self._block(block) for block in blocks]).between(start, end)

    @property
    def _unit(self) -> str:
        """Days, months or years, so that a block has some ten thousand bars."""
        length = self.granularity.length
        unit = "D" if length < timedelta(minutes=1) else "M" if length < timedelta(hours=1) else "Y"
        return f"datetime64[{unit}]"

    def _block(self, block: np.datetime64) -> Candles:
        return self.kept.get(str(block), lambda: self._read(to_datetime(block), to_datetime(block + 1)))

    def _read(self, start: datetime, end: datetime) -> Candles:
        name, point = self.listed.name, 10.0**self.listed.display_precision
        bars = load_bars(self.database, name, self.granularity, start=start, end=end, as_of=self.as_of)
        sides = [
            np.rint(np.stack([getattr(bars, f"{side}_{price}") for price in PRICES]) * point).astype(np.int32)
            for side in ("bid", "ask")
        ]
        candles = Candles(bars.time, np.stack([*sides, sides[0] + sides[1]]), bars.volume)
        return drawable(name, self.granularity, candles, self.path)
