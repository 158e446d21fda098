"""Candles of any length, alignment and stretch of time, made of a source's bars and prices.

Prices are a pure function of time, so a candle is either over (and never changes) or the one that `now` falls into, which
is made only of what came before `now`. Nothing here knows the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from mbats.market import Granularity
from mbats.simulator.alignment import OANDA, Alignment, candle_ends, candle_starts, starts_between
from mbats.simulator.cache import LastUsed
from mbats.simulator.errors import invalid
from mbats.simulator.prices import CLOSE, HIGH, LOW, OPEN, Candles, PriceSource
from mbats.simulator.queries import DEFAULT_COUNT, CandleQuery

YEARS_KEPT = 128  # a year of H1 takes about 0.4 MB, one of D 0.02
KEPT_FROM = timedelta(hours=1)  # candles this long and longer are made a year at a time, and kept
BEFORE_FIRST = np.timedelta64(62, "D")  # longer than any candle
TICKS_AT_ONCE = np.timedelta64(86_400_000_000, "us")  # the single prices of so long are made into candles together
TIME_WITHOUT_PRICES = 1.5  # FX is shut for two days of seven

Flags = NDArray[np.bool_]


def _unchanged(instrument: str, before: np.datetime64) -> int:
    return 0


class CandleBook:
    """The candles of one source. Every method may be called from any thread.

    `revision` tells how often prices of an instrument before some moment have been changed; what is kept is then made again.
    """

    def __init__(self, source: PriceSource, revision: Callable[[str, np.datetime64], int] = _unchanged) -> None:
        self._source = source
        self._revision = revision
        self._years: LastUsed[tuple[str, Granularity, Alignment, int, int], Candles] = LastUsed(YEARS_KEPT)

    def select(self, query: CandleQuery, now: np.datetime64) -> tuple[Candles, Flags]:
        """The candles that `query` asks for as they stand at `now`, and which of them are complete.

        `from` is put back to the start of the candle that covers it; a candle that starts before `to` is in, even
        when it ends after it; `to` itself is out.
        """
        self._check(query.instrument, query.granularity, query.alignment)
        if query.start is not None and query.end is not None:
            found = self.series(query, self._from(query), query.end, now)
        elif query.start is not None:
            found = self._forward(query, self._from(query), now)
        else:
            found = self._backward(query, now if query.end is None else query.end, query.count or DEFAULT_COUNT, now)
        if query.smooth:
            found = self._smooth(query, found, now)
        return found, candle_ends(query.granularity, found.time, query.alignment) <= now

    def series(self, query: CandleQuery, start: np.datetime64, end: np.datetime64, now: np.datetime64) -> Candles:
        """The candles that start in [start, end), oldest first, the last of them cut off at `now`."""
        start = max(start, self._first(query))
        if end <= start:
            return Candles.empty()
        found = self._whole(query, start, min(end, now))
        if len(found) and candle_ends(query.granularity, found.time[-1:], query.alignment)[0] > now:
            return Candles.concatenate([found[:-1], self._forming(query, found.time[-1], now)])
        return found

    def _check(self, instrument: str, granularity: Granularity, alignment: Alignment) -> None:
        base = self._source.base(instrument)
        if self._source.refines and granularity.length < base.length:
            return
        if granularity.length % base.length != timedelta(0):
            raise invalid("granularity", f"The bars of {instrument} served here are {base}; no {granularity} can be made of them")
        if base.day_aligned and alignment != OANDA:
            raise invalid("dailyAlignment", f"The bars of {instrument} served here are {base}, aligned as by default")

    def _from(self, query: CandleQuery) -> np.datetime64:
        assert query.start is not None
        # Calendars of the year 1 are nobody's business: there is nothing to cover long before the first candle.
        start = max(query.start, self._source.first(query.instrument) - BEFORE_FIRST)
        covering = candle_starts(query.granularity, np.array([start]), query.alignment)
        if not query.include_first:
            covering = candle_ends(query.granularity, covering, query.alignment)
        begin: np.datetime64 = covering[0]
        return begin

    def _first(self, query: CandleQuery) -> np.datetime64:
        first = np.array([self._source.first(query.instrument)])
        start: np.datetime64 = candle_starts(query.granularity, first, query.alignment)[0]
        return start

    def _forward(self, query: CandleQuery, start: np.datetime64, now: np.datetime64) -> Candles:
        count = query.count or DEFAULT_COUNT
        start = max(start, self._first(query))
        span = self._span(query.granularity, count)
        parts: list[Candles] = []
        while sum(map(len, parts)) < count and start < now:
            parts.append(self.series(query, start, start + span, now))
            start, span = start + span, span * 2
        return Candles.concatenate(parts)[:count]

    def _backward(self, query: CandleQuery, end: np.datetime64, count: int, now: np.datetime64) -> Candles:
        first = self._first(query)
        span = self._span(query.granularity, count)
        parts: list[Candles] = []
        while sum(map(len, parts)) < count and end > first:
            parts.insert(0, self.series(query, end - span, end, now))
            end, span = end - span, span * 2
        return Candles.concatenate(parts)[-count:]

    def _span(self, granularity: Granularity, count: int) -> np.timedelta64:
        return np.timedelta64(granularity.length * count * TIME_WITHOUT_PRICES)

    def _whole(self, query: CandleQuery, start: np.datetime64, end: np.datetime64) -> Candles:
        """The candles that start in [start, end) with all their prices, whatever the time is now."""
        source, granularity = self._source, query.granularity
        base = source.base(query.instrument)
        if granularity is base:
            return source.bars(query.instrument, start, end)
        if granularity.length < base.length:
            return self._of_ticks(query, start, end)
        if granularity.length >= KEPT_FROM:
            alignment = query.alignment if granularity.day_aligned else OANDA
            years = np.arange(start.astype("datetime64[Y]"), end.astype("datetime64[Y]") + 1)
            parts = [self._year(query.instrument, granularity, alignment, year) for year in years]
            return Candles.concatenate(parts).between(start, end)
        starts = starts_between(granularity, start, end, query.alignment)
        if not len(starts):
            return Candles.empty()
        last = starts[-1] + np.timedelta64(granularity.length)
        return source.bars(query.instrument, starts[0], last).aggregate(starts)

    def _of_ticks(self, query: CandleQuery, start: np.datetime64, end: np.datetime64) -> Candles:
        """Candles that are shorter than the bars, of the single prices of a day at a time."""
        starts = starts_between(query.granularity, start, end, query.alignment)
        edges = np.append(starts, candle_ends(query.granularity, starts[-1:], query.alignment))
        parts, row = [], 0
        while row < len(starts):
            stop = max(row + 1, int(np.searchsorted(starts, starts[row] + TICKS_AT_ONCE)))
            ticks = self._source.ticks(query.instrument, edges[row], edges[stop])
            parts.append(Candles.of_ticks(ticks).aggregate(starts[row:stop]))
            row = stop
        return Candles.concatenate(parts)

    def _year(self, instrument: str, granularity: Granularity, alignment: Alignment, year: np.datetime64) -> Candles:
        """The candles that start in this year of UTC (`datetime64[Y]`)."""

        def make() -> Candles:
            starts = starts_between(granularity, year.astype("datetime64[us]"), (year + 1).astype("datetime64[us]"), alignment)
            last = candle_ends(granularity, starts[-1:], alignment)[0]
            return self._source.bars(instrument, starts[0], last).aggregate(starts)

        revision = self._revision(instrument, (year + 1).astype("datetime64[us]") + BEFORE_FIRST)
        return self._years.get((instrument, granularity, alignment, int(year.astype(int)), revision), make)

    def _forming(self, query: CandleQuery, start: np.datetime64, now: np.datetime64) -> Candles:
        """The candle that began at `start`, of the prices that came before `now`; none if none did."""
        base = self._source.base(query.instrument)
        whole_bars_end = candle_starts(base, np.array([now]))[0]
        if query.granularity.length < base.length:
            whole_bars_end = start
        bars = self._source.bars(query.instrument, start, max(start, whole_bars_end))
        ticks = Candles.of_ticks(self._source.ticks(query.instrument, max(start, whole_bars_end), now))
        return Candles.concatenate([bars, ticks]).aggregate(np.array([start]))

    def _smooth(self, query: CandleQuery, found: Candles, now: np.datetime64) -> Candles:
        """Each candle opens where the one before it closed, and reaches at least that far."""
        if not len(found):
            return found
        before = self._backward(query, found.time[0], 1, now)
        prices = found.prices.copy()
        prices[:, OPEN, 1:] = found.prices[:, CLOSE, :-1]
        if len(before):
            prices[:, OPEN, 0] = before.prices[:, CLOSE, 0]
        prices[:, HIGH] = np.maximum(prices[:, HIGH], prices[:, OPEN])
        prices[:, LOW] = np.minimum(prices[:, LOW], prices[:, OPEN])
        return Candles(found.time, prices, found.volume)
