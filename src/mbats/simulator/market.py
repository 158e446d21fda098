"""The market as the exchange sees it: prices in order, with sessions, halts, the book, and whatever was done to it.

Everything is a function of time, of the source and of the changes applied, so that an answer does not depend on what was asked
before. Prices are decoded an hour at a time and kept, which makes the last price of a moving now a bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbats.market import Instrument, Times
from mbats.simulator.cache import LastUsed
from mbats.simulator.candles import CandleBook
from mbats.simulator.interventions import Depth, Kind, read_changes
from mbats.simulator.overlay import OverlaidSource
from mbats.simulator.prices import PriceSource, last_tick
from mbats.simulator.quotes import LIQUIDITY, ONE, Level, Quote
from mbats.simulator.sessions import Microseconds, open_mask, session_at
from mbats.simulator.touched import Touched

HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
HOURS_KEPT = 12  # of each pair, decoded: 0.2 MB each for the liveliest; and of all pairs in order, 2 MB each for the majors
MOST_ROWS = 100_000  # of a batch
TOP: Depth = ((0, LIQUIDITY),)


@dataclass(frozen=True, slots=True)
class TickBatch:
    """Prices of several pairs, sorted by time (UTC) and then by `which`, the place of each one's pair in `names`. `bid` and `ask`
    are in points."""

    names: tuple[str, ...]
    time: Times
    which: NDArray[np.int64]
    bid: NDArray[np.int64]
    ask: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice) -> TickBatch:
        return TickBatch(self.names, self.time[rows], self.which[rows], self.bid[rows], self.ask[rows])


class _Window:
    """The prices of one pair in [start, end), decoded; and the one before the first of them, looked up when it is asked for."""

    __slots__ = ("ask", "bid", "end", "quote", "quoted", "start", "time", "touched")

    def __init__(self, start: int, end: int, touched: Touched, time: Microseconds, bid: Microseconds, ask: Microseconds) -> None:
        self.start, self.end, self.touched = start, end, touched
        self.time, self.bid, self.ask = time, bid, ask
        self.quoted: tuple[object, ...] = ()  # what the quote given last was made of
        self.quote: Quote | None = None


class Market:
    """One market. `source` is what its prices and candles are made of, with all changes; `candles` makes the candles.

    `instruments` are listed with the margin rates that were applied last. Methods may be called from any thread.
    """

    def __init__(self, source: PriceSource, instruments: Mapping[str, Instrument] | None = None) -> None:
        self.instruments: dict[str, Instrument] = dict(source.listed if instruments is None else instruments)
        self._overlaid = OverlaidSource(source)
        self.source: PriceSource = self._overlaid
        self.candles = CandleBook(self.source, self._overlaid.revision)
        long_bars = any(source.base(name).length > timedelta(hours=1) for name in self.instruments)
        self._step = DAY if long_bars else HOUR
        self._points = {name: ONE.scaleb(-listed.display_precision) for name, listed in self.instruments.items()}
        self._current: dict[str, _Window] = {}
        kept = 2 if long_bars else HOURS_KEPT
        self._windows: LastUsed[tuple[str, int, Touched], _Window] = LastUsed(kept * max(1, len(self.instruments)))
        self._batches: LastUsed[tuple[object, ...], TickBatch] = LastUsed(kept)

    def quote(self, instrument: str, now: np.datetime64) -> Quote | None:
        """The last price before `now`; None before the first, and for a pair that is not listed."""
        if instrument not in self.instruments:
            return None
        moment = _us(now)
        window = self._current.get(instrument)
        touched = self._overlaid.touched(instrument)
        if window is None or not window.start < moment <= window.end or window.touched is not touched:
            window = self._current[instrument] = self._window(instrument, (moment - 1) // self._step * self._step)
            touched = window.touched
        row = int(window.time.searchsorted(moment)) - 1
        listed, open_ = self.instruments[instrument], self._trades(touched, moment)
        state = touched.at(moment)
        made_of = (row, open_, state)
        if window.quoted == made_of:
            return window.quote
        quote = None
        if row >= 0:
            tick = int(window.time[row])
            depth = touched.depth(tick, moment)
            quote = self._quote(listed, tick, int(window.bid[row]), int(window.ask[row]), open_, depth)
        elif found := last_tick(self.source, instrument, _time(window.start)):
            tick = _us(found[0])
            quote = self._quote(listed, tick, found[1], found[2], open_, touched.depth(tick, moment))
        window.quoted, window.quote = made_of, quote
        return quote

    def quote_of(self, instrument: str, time: np.datetime64, bid_points: int, ask_points: int) -> Quote:
        """One price that came at `time` as a quote, with the book of that moment."""
        moment, touched = _us(time), self._overlaid.touched(instrument)
        depth, open_ = touched.depth(moment, moment), self._trades(touched, moment)
        return self._quote(self.instruments[instrument], moment, int(bid_points), int(ask_points), open_, depth)

    def ticks(self, names: Sequence[str], start: np.datetime64, end: np.datetime64) -> Iterator[TickBatch]:
        """The prices in [start, end) on which one could trade, oldest first, in batches of at most MOST_ROWS.

        In the time of one batch no session and no halt begins or ends: a pair is in it with all of its prices or with none.
        """
        wanted = tuple(names)
        at, stop = _us(start), _us(end)
        edges = sorted({edge for name in wanted for edge in self._overlaid.touched(name).edges})
        while wanted and at < stop:
            open_, _, until = session_at(at)
            until = min([until, *edges[bisect_right(edges, at) :][:1]])
            if not open_:
                at = until
                continue
            whole = self._batch(wanted, at // self._step * self._step)
            first, last = whole.time.view(np.int64).searchsorted((at, min(stop, until))).tolist()
            for row in range(first, last, MOST_ROWS):
                yield whole[row : min(row + MOST_ROWS, last)]
            at = min(at // self._step * self._step + self._step, until)

    def is_open(self, instrument: str, now: np.datetime64) -> bool:
        """Whether one can trade this pair at `now`: FX is in session, and the pair is not halted."""
        return self._trades(self._overlaid.touched(instrument), _us(now))

    def apply(self, change: Mapping[str, Any]) -> None:
        """Change the market from the change's `time` on; a margin rate holds at once. Raises Refusal (400) about a wrong one."""
        for name, each in read_changes(change, self.instruments).items():
            if each.kind is Kind.MARGIN_RATE and each.rate is not None:
                self.instruments[name] = replace(self.instruments[name], margin_rate=each.rate)
            self._overlaid.add(name, each)  # last, for it is what makes quotes anew

    def _quote(self, listed: Instrument, tick: int, bid: int, ask: int, open_: bool, depth: Depth | None) -> Quote:
        point = self._points[listed.name]
        levels = TOP if depth is None else depth
        bids = tuple(Level((bid - below) * point, units) for below, units in levels)
        asks = tuple(Level((ask + above) * point, units) for above, units in levels)
        return Quote(listed, _time(tick), bid * point, ask * point, open_, bids, asks)

    def _trades(self, touched: Touched, moment: int) -> bool:
        return session_at(moment)[0] and not touched.at(moment).halted

    def _window(self, instrument: str, start: int) -> _Window:
        touched = self._overlaid.touched(instrument)

        def make() -> _Window:
            ticks = self.source.ticks(instrument, _time(start), _time(start + self._step))
            columns = (column.astype(np.int64) for column in (ticks.time, ticks.bid, ticks.ask))
            return _Window(start, start + self._step, touched, *columns)

        return self._windows.get((instrument, start, touched), make)

    def _batch(self, names: tuple[str, ...], start: int) -> TickBatch:
        """The prices in one window on which one could trade, of all these pairs."""
        touched = tuple(self._overlaid.touched(name) for name in names)

        def make() -> TickBatch:
            times, sides, which = [], [], []
            for place, name in enumerate(names):
                window = self._window(name, start)
                trades = open_mask(window.time) & ~_halted(window)
                times.append(window.time[trades])
                sides.append(np.stack([window.bid[trades], window.ask[trades]]))
                which.append(np.full(int(trades.sum()), place))
            time = np.concatenate(times)
            order = np.argsort(time, kind="stable")
            bid, ask = np.concatenate(sides, axis=1)[:, order]
            return TickBatch(names, time[order].astype("datetime64[us]"), np.concatenate(which)[order], bid, ask)

        return self._batches.get((names, start, touched), make)


def _halted(window: _Window) -> NDArray[np.bool_]:
    halted = np.array([state.halted for state in window.touched.states])
    return np.asarray(halted[np.searchsorted(window.touched.edges, window.time, "right")])


def _time(moment: int) -> np.datetime64:
    return np.datetime64(moment, "us")


def _us(moment: np.datetime64) -> int:
    return int(moment.astype("datetime64[us]").astype(np.int64))
