"""When to look for the next bar: the moment at which it should be over, and how tightly to ask while it is not there.

The calendar says only when to look. It is never taken as a reason to expect no bar at all: the desk looks now and then anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from mbats.live.market.assembly import Track
from mbats.live.market.clock import Clock
from mbats.market import Granularity, bar_ends, bar_starts, to_datetime, to_us

IDLE = 30.0  # seconds after which one looks though no bar is due
AT_ONCE, EVERY = 6, 0.001  # by a steady clock, how many looks for a bar that should be there follow so many seconds apart
FIRST, GROWTH = 0.02, 1.6  # seconds between the next two, and how that grows
# How one comes nearer to the broker's lag. A look too late costs what it is late, one too early a whole further look: so it is
# seconds down, doubled when many were in time, or a share of a long lag; and seconds up, or a share of what is missing.
EARLIER, MANY, SHARE = 0.0001, 6, 1 / 32
LATER, MISSING, IN_A_ROW = 0.0006, 0.3, 3
ALONE, ODD = 0.02, 0.2  # seconds: what fewer in a row are believed of that, and what they are not believed at all
TIGHT, SLOW = 1.0, 15.0  # the longest pauses: while a moment may still be waited for, and after
SLACK = timedelta(seconds=2)  # for which one goes on looking tightly after that, so that some look comes after its end
LONGEST_LAG = 3.0  # seconds; a bar that comes later is not waited for, but looked for
EARLIEST = -5.0  # seconds by which a bar may come before its end by our clock: with more between the clocks nothing is traded
MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Around:
    """The last bar that should be over, and the end of the next; all UTC."""

    last_start: datetime
    last_end: datetime
    next_end: datetime


def around(granularity: Granularity, now: datetime) -> Around:
    """What the calendar says of this moment."""
    length = granularity.length
    for span in (max(3 * length, timedelta(hours=1)), timedelta(days=7), timedelta(days=100)):
        starts = bar_starts(granularity, now - span, now + span)
        if not len(starts):
            continue
        ends = bar_ends(granularity, starts)
        place = int(np.searchsorted(ends, to_us(now), side="right"))
        if 0 < place < len(ends):
            return Around(to_datetime(starts[place - 1]), to_datetime(ends[place - 1]), to_datetime(ends[place]))
    raise LookupError(f"FX seems to be shut for months around {now}: the calendar is wrong.")


class Timing:
    """Learns by how much the broker is late with its bars, if the clock is steady, and says when to look again.

    `wait` is for how many seconds a moment waits for a bar that is missing.
    """

    def __init__(self, clock: Clock, wait: float) -> None:
        self._clock = clock
        self._tight = timedelta(seconds=wait) + SLACK
        self._around: dict[Granularity, Around] = {}
        self._lag = 0.0  # seconds after a bar's end at which it is looked for first
        self._newest: datetime | None = None
        self._slept_for: datetime | None = None
        self._attempt = 0
        self._hits = 0
        self._late: deque[float] = deque(maxlen=IN_A_ROW)  # seconds by which the last bars were late, those not there at first
        self._learned = False

    @property
    def lag(self) -> float:
        """Seconds after its end at which a bar is looked for first."""
        return self._lag

    def next_look(self, tracks: Sequence[Track], asked: datetime) -> tuple[datetime | None, float]:
        """Until which moment to wait, and for how many seconds at most. `asked` (UTC) is when the broker was asked last."""
        if not tracks:
            return None, IDLE
        lag = timedelta(seconds=self._lag)
        now = self._clock.now() - lag
        spans = {granularity: self._look_up(granularity, now) for granularity in {track.granularity for track in tracks}}
        newest, coming = max(span.last_end for span in spans.values()), min(span.next_end for span in spans.values())
        if newest != self._newest:
            self._newest, self._attempt = newest, 0
            self._learned = self._slept_for != newest  # nothing is learned from a bar that was not waited for
        known = [track.frontier is not None and track.frontier > spans[track.granularity].last_start for track in tracks]
        there = [track for track, is_known in zip(tracks, known, strict=True) if is_known]
        if not self._learned and any(spans[track.granularity].last_end == newest for track in there):
            self._learn((asked - newest).total_seconds())
        self._slept_for = coming
        if all(known):
            return coming + timedelta(seconds=self._lag), IDLE
        self._attempt += 1
        is_tight = now < newest + self._tight
        pause = min(self._pause(), TIGHT if is_tight else SLOW)
        if is_tight and not self._clock.steady:
            return now + lag + MOMENT, pause  # time comes in jumps, and each may bring it
        return coming + timedelta(seconds=self._lag), pause

    def _pause(self) -> float:
        """Seconds until the next look. A clock that moves in jumps wakes by each of them, so that no burst is needed."""
        many = self._attempt - (AT_ONCE if self._clock.steady else 0)
        return FIRST * GROWTH ** min(many - 1, 30) if many > 0 else EVERY

    def disturbed(self) -> None:
        """No answer came: what is seen next says nothing of how late the broker is."""
        self._learned = True
        self._slept_for = None

    def _learn(self, offset: float) -> None:
        self._learned = True
        if not self._clock.steady:
            return
        if self._attempt == 0:  # it was there at the first look: it may be there earlier
            self._lag = max(self._lag - max(EARLIER * 2 ** max(self._hits - MANY, 0), self._lag * SHARE), EARLIEST)
            self._hits = min(self._hits + 1, MANY + 10)
            self._late.clear()
        else:
            self._hits = 0
            self._late.append(offset)
            missing = min(self._late) - EVERY - self._lag
            if len(self._late) < IN_A_ROW:  # one alone may be late for a reason of its own: nothing was dealt while it lasted
                missing = 0.0 if missing > ODD else min(missing, ALONE)
            self._lag = min(self._lag + max(MISSING * missing, LATER), LONGEST_LAG)

    def _look_up(self, granularity: Granularity, now: datetime) -> Around:
        known = self._around.get(granularity)
        if known is None or not known.last_end <= now < known.next_end:
            known = self._around[granularity] = around(granularity, now)
        return known
