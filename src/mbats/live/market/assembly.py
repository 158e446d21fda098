"""From what the broker shows of each symbol to the moments of a subscription: which bars belong together, and which are due.

Pure: no clock, no network. Which bars there are is the broker's word alone; nothing is derived from a calendar here. A bar
counts as absent once the broker has shown what comes after it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from mbats.live.gate.calendar import closed_until
from mbats.live.wire import LiveBar
from mbats.market import Bars, Granularity, bar_ends, to_datetime, to_us
from mbats.oanda.candles_latest import Shown

PARTS = ("open", "high", "low", "close")
LINKS_KEPT = 5000  # closes of a converting pair that are remembered, for bars that come late

Sides = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One complete bar: its start (UTC), open, high, low and close of both sides, and its volume."""

    start: datetime
    bid: Sides
    ask: Sides
    volume: int

    @property
    def mid_close(self) -> float:
        return (self.bid[3] + self.ask[3]) / 2


@dataclass(frozen=True, slots=True)
class Link:
    """The pair whose close converts a symbol's quote currency; by its inverse where the account's currency is the pair's base."""

    symbol: str
    inverse: bool


def find_link(symbol: str, currency: str, offered: Iterable[str]) -> Link | None:
    """What converts the quote currency of a symbol; None if it needs none. Raises LookupError when no pair does.

    The choice is that of `trading.feeds.conversion_columns`, so that live and backtest convert alike.
    """
    base, _, counter = symbol.partition("_")
    if counter == currency:
        return None
    if base == currency:
        return Link(symbol, inverse=True)
    straight, inverse = f"{counter}_{currency}", f"{currency}_{counter}"
    names = set(offered)
    if straight in names:
        return Link(straight, inverse=False)
    if inverse in names:
        return Link(inverse, inverse=True)
    raise LookupError(f"{symbol} earns {counter}, and neither {straight} nor {inverse} is offered")


def end_of(granularity: Granularity, start: datetime) -> datetime:
    """When the bar with this start is over, UTC."""
    return to_datetime(bar_ends(granularity, np.array([to_us(start)]))[0])


@dataclass(slots=True)
class Track:
    """What is known of one series. Everything that starts before `frontier` is: taken, or absent for good.

    Without a frontier it begins with whatever is not complete when it is first shown. `pending` are complete bars that wait to be
    delivered, `asked` is when the last answer was asked for that left no question open.
    """

    symbol: str
    granularity: Granularity
    frontier: datetime | None
    delivered: bool = True  # to the strategy; else it only converts
    converts: bool = False  # its closes convert those of other symbols
    needed_from: datetime | None = None  # the start of the first bar that is converted by it
    anchored: bool = False  # its closes reach back to that
    forming: datetime | None = None
    asked: datetime | None = None
    pending: deque[Row] = field(default_factory=deque)
    starts: deque[datetime] = field(default_factory=lambda: deque(maxlen=LINKS_KEPT))
    closes: deque[float] = field(default_factory=lambda: deque(maxlen=LINKS_KEPT))
    newest: datetime | None = None  # the start of the newest complete bar that was shown

    def offer(self, latest: Shown, asked: datetime) -> bool:
        """Take in the last complete bar and what came after it. False when bars between are not shown: they must be asked for."""
        last = _rows(latest.bars)[-1:]
        if self.newest is not None and (not last or last[0].start < self.newest):
            return True  # an old answer: it says nothing of now
        if self.frontier is None:
            self._begin(last, latest.forming)
        elif last and last[0].start == self.frontier:
            self._take(last)
        whole = self.frontier is None or (
            all(row.start < self.frontier for row in last) and (latest.forming is None or latest.forming <= self.frontier)
        )
        if whole:
            self.forming, self.asked = latest.forming, asked
        return whole

    def extend(self, shown: Shown, asked: datetime, *, whole: bool) -> None:
        """Take in all that starts at the frontier or later; `whole` when nothing follows it."""
        self._take(row for row in _rows(shown.bars) if self.frontier is None or row.start >= self.frontier)
        if not whole:
            return
        if shown.forming is not None and (self.frontier is None or self.frontier < shown.forming):
            self.frontier = shown.forming
        self.forming, self.asked = shown.forming, asked

    def anchor(self, bars: Bars) -> None:
        """Take in bars from before the frontier, by whose closes the first ones are converted."""
        for row in reversed(_rows(bars)):
            if not self.starts or row.start < self.starts[0]:
                self.starts.appendleft(row.start)
                self.closes.appendleft(row.mid_close)
        self.anchored = True

    @property
    def missing_before(self) -> int:
        """How many bars before the frontier to ask for, so that the first bars that it converts find a close; 0 for none."""
        if self.anchored or self.needed_from is None or self.frontier is None:
            return 0
        return 1 + max(0, -(-(self.frontier - self.needed_from) // self.granularity.length))

    def close_at(self, start: datetime) -> float | None:
        """The mid at the close of the last bar that started at `start` or before."""
        place = bisect_right(self.starts, start)
        return self.closes[place - 1] if place else None

    def is_settled(self, start: datetime, wait: timedelta) -> bool:
        """Whether there is nothing to wait for any more: the bar with this start is known, absent, or too late."""
        if self.frontier is not None and self.frontier > start:
            return True
        if self.asked is None:
            return False
        end = end_of(self.granularity, start)
        # When FX is closed no price comes that could show a later bar, so the broker's silence must do.
        silent = self.asked >= end and self.forming != start and closed_until(end) is not None
        return silent or self.asked >= end + wait

    def _begin(self, last: list[Row], forming: datetime | None) -> None:
        self._remember(last)
        if forming is not None:
            self.frontier = forming
        elif last:
            self.frontier = end_of(self.granularity, last[-1].start)

    def _take(self, rows: Iterable[Row]) -> None:
        found = list(rows)
        if not found:
            return
        if self.delivered:
            self.pending.extend(found)
        self._remember(found)
        self.frontier = end_of(self.granularity, found[-1].start)

    def _remember(self, rows: list[Row]) -> None:
        if rows:
            self.newest = rows[-1].start
        if self.converts:
            self.starts.extend(row.start for row in rows)
            self.closes.extend(row.mid_close for row in rows)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The bars of one moment. `late` says that a later moment was delivered before it, without these."""

    completed_at: datetime
    bars: dict[str, LiveBar]
    late: bool


class Assembly:
    """The tracks of one subscription. `after` are the starts (UTC) of the last known bars, None to begin with the next one."""

    def __init__(
        self,
        symbols: Sequence[str],
        granularity: Granularity,
        after: Mapping[str, datetime | None],
        *,
        currency: str,
        offered: Collection[str],
    ) -> None:
        self.granularity = granularity
        self._links = {symbol: find_link(symbol, currency, offered) for symbol in symbols}
        self._last: datetime | None = None  # the start of the newest bars that were delivered
        self.tracks: dict[str, Track] = {}
        for symbol in symbols:
            begin = after.get(symbol)
            frontier = None if begin is None else end_of(granularity, begin)
            self.tracks[symbol] = Track(symbol, granularity, frontier)
        for symbol, link in self._links.items():
            if link is not None and link.symbol != symbol:
                self._track_link(link.symbol, self.tracks[symbol].frontier)

    def ready(self, wait: timedelta, *, without: Collection[str] = (), impatient: bool = False) -> list[Delivery]:
        """The moments that are due, oldest first; each is given once. They wait for no symbol that is missing among `without`,
        and `impatient` for none at all."""
        found = []
        while (delivery := self._next(wait, without, impatient)) is not None:
            found.append(delivery)
        return found

    @property
    def waits(self) -> bool:
        """Whether there are bars that wait for others of their moment."""
        return any(track.pending for track in self.tracks.values())

    def _next(self, wait: timedelta, without: Collection[str], impatient: bool) -> Delivery | None:
        start = min((track.pending[0].start for track in self.tracks.values() if track.pending), default=None)
        if start is None:
            return None
        present = [name for name, track in self.tracks.items() if track.pending and track.pending[0].start == start]
        missing = self.tracks.keys() - set(present) - set(without)
        if not impatient and not all(self.tracks[name].is_settled(start, wait) for name in missing):
            return None
        bars = {name: self._converted(self.tracks[name], impatient) for name in present}
        found = {name: bar for name, bar in bars.items() if bar is not None}
        if len(found) < len(bars):
            return None  # a bar that nothing can convert yet must not be taken for one in the account's currency
        for name in present:
            self.tracks[name].pending.popleft()
        late = self._last is not None and start <= self._last
        self._last = start if self._last is None else max(start, self._last)
        return Delivery(end_of(self.granularity, start), found, late)

    def _converted(self, track: Track, impatient: bool) -> LiveBar | None:
        row, link, conversion = track.pending[0], self._links[track.symbol], 1.0
        if link is not None:
            mid = row.mid_close if link.symbol == track.symbol else self._link_close(link, row.start, impatient)
            if mid is None:
                return None
            conversion = 1 / mid if link.inverse else mid
        return LiveBar(row.start, row.bid, row.ask, row.volume, conversion)

    def _link_close(self, link: Link, start: datetime, impatient: bool) -> float | None:
        track = self.tracks[link.symbol]
        found = track.close_at(start)
        return track.closes[0] if found is None and impatient and track.closes else found

    def _track_link(self, name: str, frontier: datetime | None) -> None:
        """Follow the converting pair from where the bars begin that it converts."""
        track = self.tracks.get(name)
        if track is None:
            track = self.tracks[name] = Track(name, self.granularity, frontier, delivered=False)
        track.converts = True
        if frontier is None:
            return
        if not track.delivered and (track.frontier is None or frontier < track.frontier):
            track.frontier = frontier
        if track.needed_from is None or frontier < track.needed_from:
            track.needed_from = frontier


def _rows(bars: Bars) -> list[Row]:
    columns = ([getattr(bars, f"{side}_{part}").tolist() for part in PARTS] for side in ("bid", "ask"))
    bid, ask = (list(zip(*side, strict=True)) for side in columns)
    starts = (to_datetime(moment) for moment in bars.time)
    return [Row(*each) for each in zip(starts, bid, ask, bars.volume.tolist(), strict=True)]
