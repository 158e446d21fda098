"""Prices of a source with what somebody did to them: scripted prices, halts, gaps, wider spreads, frozen stretches.

Nothing before a change differs from the source. Bars in which a change falls are made of the changed single prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mbats.market import Granularity, Instrument, Times
from mbats.simulator.alignment import candle_ends, candle_starts
from mbats.simulator.interventions import Change
from mbats.simulator.prices import HIGHEST, Candles, PriceSource, Ticks
from mbats.simulator.touched import UNTOUCHED, State, Touched

LONGEST = np.timedelta64(32, "D")  # no bar is longer
AT_ONCE = np.timedelta64(86_400_000_000, "us")  # of single prices that are made into bars


class OverlaidSource:
    """A source and the changes made to it. Methods may be called from any thread, also while `add` is."""

    def __init__(self, source: PriceSource) -> None:
        self.description = source.description
        self.instruments = source.instruments
        self.listed: Mapping[str, Instrument] = source.listed
        self.refines = source.refines
        self._source = source
        self._touched: dict[str, Touched] = {}

    def add(self, instrument: str, change: Change) -> None:
        """One more change; prices before its time stay as they are."""
        self._touched[instrument] = self.touched(instrument).add(change)

    def touched(self, instrument: str) -> Touched:
        """What was done to this instrument so far; another object after every change."""
        return self._touched.get(instrument, UNTOUCHED)

    def revision(self, instrument: str, before: np.datetime64) -> int:
        """A number that grows when prices before this moment are changed."""
        return self.touched(instrument).revision(_us(before))

    def base(self, instrument: str) -> Granularity:
        return self._source.base(instrument)

    def first(self, instrument: str) -> np.datetime64:
        first, times = self._source.first(instrument), self.touched(instrument).times
        if not len(times):
            return first
        return min(first, candle_starts(self.base(instrument), times[:1].astype("datetime64[us]"))[0])

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The single prices that came in [start, end); of one moment, scripted ones are the last."""
        touched, ticks = self.touched(instrument), self._source.ticks(instrument, start, end)
        if _us(end) <= touched.since:
            return ticks
        if touched.changes:
            edges = [0, *np.searchsorted(ticks.time.astype(np.int64), touched.edges).tolist(), len(ticks)]
            stretches = zip(touched.states, edges, edges[1:], strict=False)
            ticks = Ticks.concatenate([state.apply(ticks[first:last]) for state, first, last in stretches if not state.silent])
        scripted = touched.scripted(_us(start), _us(end))
        if not len(scripted):
            return ticks
        both = Ticks.concatenate([ticks, scripted])
        return both[np.argsort(both.time, kind="stable")]

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        """The base bars that start in [start, end)."""
        touched, bars = self.touched(instrument), self._source.bars(instrument, start, end)
        base = self.base(instrument)
        if touched is UNTOUCHED or end <= candle_starts(base, _times([min(touched.since, _us(end))]))[0]:
            return bars
        moments = _times(np.concatenate([touched.edges, touched.times]))
        near = (moments >= start - LONGEST) & (moments < end)
        mixed = np.unique(candle_starts(base, moments[near]))
        mixed = mixed[(mixed >= start) & (mixed < end)]
        parts = [self._made(instrument, base, mixed)]
        whole = bars[~np.isin(bars.time, mixed)]
        number = np.searchsorted(np.asarray(touched.edges, np.int64), whole.time.astype(np.int64), "right")
        for each in np.unique(number).tolist():
            state, stretch = touched.states[each], whole[number == each]
            if not state.silent:
                parts.append(_shifted(stretch, state) or self._made(instrument, base, stretch.time))
        found = Candles.concatenate(parts)
        return found[np.argsort(found.time)]

    def _made(self, instrument: str, base: Granularity, starts: Times) -> Candles:
        """The base bars of these starts (sorted), of single prices."""
        parts = []
        for first, end in _stretches(starts, candle_ends(base, starts)):
            ticks = Candles.of_ticks(self.ticks(instrument, first, end))
            bars = ticks.aggregate(np.unique(candle_starts(base, ticks.time)))
            parts.append(bars[np.isin(bars.time, starts)])
        return Candles.concatenate(parts)


def _shifted(bars: Candles, state: State) -> Candles | None:
    """Whole bars in a state that only shifts them; None when each single price must be looked at."""
    if state.factor != 1.0:
        return None
    if not state.shift:
        return bars
    sides = bars.prices[:2] + np.int64(state.shift)
    if sides.min() < 1 or sides.max() > HIGHEST:
        return None
    mids = bars.prices[2:] + np.int64(2 * state.shift)
    return Candles(bars.time, np.concatenate([sides, mids]).astype(np.int32), bars.volume)


def _stretches(starts: Times, ends: Times) -> Iterator[tuple[np.datetime64, np.datetime64]]:
    """What covers these bars, in pieces that are not long unless a bar is."""
    at = 0
    while at < len(starts):
        stop = max(at + 1, int(np.searchsorted(ends, starts[at] + AT_ONCE, "right")))
        yield starts[at], ends[stop - 1]
        at = stop


def _times(moments: object) -> Times:
    return np.asarray(moments, np.int64).astype("datetime64[us]")


def _us(moment: np.datetime64) -> int:
    return int(moment.astype("datetime64[us]").astype(np.int64))
