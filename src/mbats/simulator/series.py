"""One pair's prices from a file or a table: bars with a path drawn inside them, or single prices as they were recorded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Protocol

import numpy as np

from mbats.market import Granularity
from mbats.simulator.alignment import candle_starts
from mbats.simulator.cache import LastUsed
from mbats.simulator.intrabar import Intrabar, draw
from mbats.simulator.prices import Candles, Ticks

BARS_DRAWN = 4  # of those longer than an hour, that are kept
TICKS_AT_ONCE = 1 << 18  # that are made into minutes

Load = Callable[[np.datetime64, np.datetime64], Candles]


class Series(Protocol):
    """What a source of prices does, for one pair."""

    base: Granularity
    first: np.datetime64

    def bars(self, start: np.datetime64, end: np.datetime64) -> Candles:
        """The base bars that start in [start, end)."""

    def ticks(self, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The single prices that came in [start, end)."""


class BarSeries:
    """Bars that `load` gives, as `drawable` made them, with the path inside."""

    def __init__(self, instrument: str, base: Granularity, first: np.datetime64, load: Load, path: Intrabar) -> None:
        self.base = base
        self.first = first
        self._load = load
        self._instrument = instrument
        self._path = path
        self._drawn: LastUsed[int, Ticks] = LastUsed(BARS_DRAWN)

    def bars(self, start: np.datetime64, end: np.datetime64) -> Candles:
        return self._load(start, end)

    def ticks(self, start: np.datetime64, end: np.datetime64) -> Ticks:
        bars = self.bars(candle_starts(self.base, np.array([start]))[0], end)
        if self.base.length <= timedelta(hours=1):
            return self._draw(bars).between(start, end)
        # A window is shorter than such a bar, which takes ten milliseconds to draw.
        return Ticks.concatenate([self._whole(bars[row : row + 1]) for row in range(len(bars))]).between(start, end)

    def _whole(self, bar: Candles) -> Ticks:
        return self._drawn.get(int(bar.time[0].astype(np.int64)), lambda: self._draw(bar))

    def _draw(self, bars: Candles) -> Ticks:
        return draw(self._instrument, self.base, bars, self._path)


class TickSeries:
    """Recorded prices, at least one, in the order in which they came; bars of a minute are made of them."""

    base = Granularity.M1

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        minutes = candle_starts(self.base, ticks.time)
        self.first: np.datetime64 = minutes[0]
        rows = np.r_[0, np.flatnonzero(minutes[1:] != minutes[:-1]) + 1, len(ticks)]  # where each minute begins
        cuts = rows[np.unique(np.append(np.searchsorted(rows, np.arange(0, len(ticks), TICKS_AT_ONCE)), len(rows) - 1))]
        parts = [Candles.of_ticks(ticks[first:last]).aggregate(np.unique(minutes[first:last])) for first, last in pairwise(cuts)]
        self._bars = Candles.concatenate(parts)

    def bars(self, start: np.datetime64, end: np.datetime64) -> Candles:
        return self._bars.between(start, end)

    def ticks(self, start: np.datetime64, end: np.datetime64) -> Ticks:
        return self._ticks.between(start, end)
