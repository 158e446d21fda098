"""Columns of candles and of single prices, in whole points, with bid, ask and mid side by side.

A point is the last digit that is quoted: 0.00001 of EUR_USD, 0.001 of USD_JPY. Mids are kept doubled, as bid + ask, so
that half a point stays whole. Whole numbers make aggregation exact: the order of work cannot change a price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mbats.market import Granularity, Instrument, Times

BID, ASK, MID = 0, 1, 2
OPEN, HIGH, LOW, CLOSE = 0, 1, 2, 3

HIGHEST = 2**29  # points; a doubled mid must fit into 32 bits
LOOK_BACK = np.timedelta64(600_000_000, "us")  # ten minutes; doubled until there is a price, for weekends are long

Points = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles of one pair, oldest first: `time` (n,) of their start, `prices` (3, 4, n) by side and by open, high, low and
    close, `volume` (n,) the number of prices that came. Each side's candles are those of its own prices."""

    time: Times
    prices: Points
    volume: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: Any) -> Candles:
        """The candles that a slice, a mask or an array of positions selects."""
        return Candles(self.time[rows], self.prices[:, :, rows], self.volume[rows])

    @classmethod
    def empty(cls) -> Candles:
        return cls(np.empty(0, "datetime64[us]"), np.empty((3, 4, 0), np.int32), np.empty(0, np.int64))

    @classmethod
    def concatenate(cls, parts: list[Candles]) -> Candles:
        """One after the other; the caller sees to it that they follow in time."""
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.prices for part in parts], axis=2),
            np.concatenate([part.volume for part in parts]),
        )

    @classmethod
    def of_ticks(cls, ticks: Ticks) -> Candles:
        """Each price as a candle of its own."""
        sides = np.stack([ticks.bid, ticks.ask, ticks.bid + ticks.ask])
        return cls(ticks.time, np.repeat(sides[:, None, :], 4, axis=1), np.ones(len(ticks), np.int64))

    def between(self, start: np.datetime64, end: np.datetime64) -> Candles:
        """Those that start in [start, end)."""
        return self[slice(*np.searchsorted(self.time, np.array([start, end])))]

    def aggregate(self, starts: Times) -> Candles:
        """Longer candles that start at `starts` (sorted), each made of what lies before the next start.

        A start without anything behind it gives no candle; what lies before the first start is left out.
        """
        edges = np.searchsorted(self.time, starts)
        ends = np.append(edges[1:], len(self))
        filled = ends > edges
        edges, ends = edges[filled], ends[filled]
        if not len(edges):
            return Candles.empty()
        prices = np.empty((3, 4, len(edges)), np.int32)
        prices[:, OPEN] = self.prices[:, OPEN, edges]
        prices[:, HIGH] = np.maximum.reduceat(self.prices[:, HIGH], edges, axis=1)
        prices[:, LOW] = np.minimum.reduceat(self.prices[:, LOW], edges, axis=1)
        prices[:, CLOSE] = self.prices[:, CLOSE, ends - 1]
        return Candles(starts[filled], prices, np.add.reduceat(self.volume, edges))


@dataclass(frozen=True, slots=True)
class Ticks:
    """Single prices of one pair, oldest first, in points."""

    time: Times
    bid: Points
    ask: Points

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: Any) -> Ticks:
        """The prices that a slice, a mask or an array of positions selects."""
        return Ticks(self.time[rows], self.bid[rows], self.ask[rows])

    @classmethod
    def concatenate(cls, parts: list[Ticks]) -> Ticks:
        """One after the other; the caller sees to it that they follow in time."""
        if not parts:
            return cls(np.empty(0, "datetime64[us]"), np.empty(0, np.int32), np.empty(0, np.int32))
        return cls(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.bid for part in parts]),
            np.concatenate([part.ask for part in parts]),
        )

    def between(self, start: np.datetime64, end: np.datetime64) -> Ticks:
        """Those that came in [start, end)."""
        return self[slice(*np.searchsorted(self.time, np.array([start, end])))]


class PriceSource(Protocol):
    """Where prices come from. Every method may be called from any thread, and answers the same whoever asks before."""

    @property
    def description(self) -> str:
        """What these prices are, in the words that are shown to the user."""

    @property
    def instruments(self) -> tuple[str, ...]:
        """The pairs that it has."""

    @property
    def listed(self) -> Mapping[str, Instrument]:
        """What the broker says of each of them."""

    @property
    def refines(self) -> bool:
        """Whether `ticks` knows the path inside a base bar, so that shorter candles can be made."""

    def base(self, instrument: str) -> Granularity:
        """The length of its bars, of which longer candles are made."""

    def first(self, instrument: str) -> np.datetime64:
        """When its first bar starts."""

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        """The base bars that start in [start, end)."""

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The single prices that came in [start, end)."""


def last_tick(source: PriceSource, instrument: str, now: np.datetime64) -> tuple[np.datetime64, int, int] | None:
    """Time, bid and ask (points) of the last price before `now`; None before the first."""
    span, first = LOOK_BACK, source.first(instrument)
    while True:
        start = max(now - span, first)
        bars = source.bars(instrument, start, now)
        if len(bars):
            # The last bar may have begun without a price yet; the one before it is over.
            ticks = source.ticks(instrument, bars.time[-2:][0], now)
            if len(ticks):
                return ticks.time[-1], int(ticks.bid[-1]), int(ticks.ask[-1])
        if start <= first:
            return None
        span *= 2
