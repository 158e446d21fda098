"""All that was done to the market of one instrument, as functions of time that never change: a further change makes a new one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mbats.simulator.interventions import FOREVER, Change, Depth, Kind
from mbats.simulator.prices import HIGHEST, Ticks
from mbats.simulator.sessions import Microseconds

NO_TIMES: Microseconds = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class State:
    """What holds in one stretch of time: whether prices come at all, and how they differ from the source's."""

    halted: bool = False
    frozen: bool = False
    factor: float = 1.0
    shift: int = 0
    depth: Depth | None = None

    @property
    def silent(self) -> bool:
        return self.halted or self.frozen

    def apply(self, ticks: Ticks) -> Ticks:
        """These prices of the source as they are in this state, which is not silent."""
        bid, ask = ticks.bid.astype(np.int64), ticks.ask.astype(np.int64)
        if self.factor != 1.0:
            spread = np.rint((ask - bid) * self.factor).astype(np.int64)
            bid = (bid + ask - spread) // 2
            ask = bid + spread
        sides = (np.clip(side + self.shift, 1, HIGHEST).astype(np.int32) for side in (bid, ask))
        return Ticks(ticks.time, *sides)


PLAIN = State()


@dataclass(frozen=True, eq=False)
class Touched:
    """The changes of one instrument. Times are microseconds since 1970. Two of them are equal only if they are one."""

    changes: tuple[Change, ...] = ()  # all but ticks, by time and then in the order in which they came
    times: Microseconds = field(default_factory=NO_TIMES.copy)  # of the scripted prices, sorted
    bids: Microseconds = field(default_factory=NO_TIMES.copy)
    asks: Microseconds = field(default_factory=NO_TIMES.copy)
    depths: tuple[tuple[int, Depth], ...] = ()  # of the scripted prices that bring their own, by time
    moments: tuple[int, ...] = ()  # when each change that concerns prices begins, sorted

    def add(self, change: Change) -> Touched:
        """This and one more."""
        moments = self.moments if change.kind in (Kind.LIQUIDITY, Kind.MARGIN_RATE) else _with(self.moments, change.time)
        if change.kind is not Kind.TICK:
            changes = tuple(sorted([*self.changes, change], key=lambda each: each.time))
            return replace(self, changes=changes, moments=moments)
        place = int(np.searchsorted(self.times, change.time, "right"))
        values = ((self.times, change.time), (self.bids, change.bid), (self.asks, change.ask))
        times, bids, asks = (np.insert(column, place, value) for column, value in values)
        depths = self.depths
        if change.depth is not None:
            depths = tuple(sorted([*depths, (change.time, change.depth)], key=lambda each: each[0]))
        return replace(self, times=times, bids=bids, asks=asks, depths=depths, moments=moments)

    def revision(self, before: int) -> int:
        """How many changes concern prices before this moment: candles that end there are made again when it grows."""
        return bisect_left(self.moments, before)

    @property
    def since(self) -> int:
        """The first moment at which a price may differ from the source's."""
        return self.moments[0] if self.moments else FOREVER

    @cached_property
    def edges(self) -> list[int]:
        """The moments at which the state changes."""
        ends = {change.until for change in self.changes} - {FOREVER}
        return sorted({change.time for change in self.changes} | ends)

    @cached_property
    def states(self) -> list[State]:
        """The states before the first edge, and from each edge on."""
        return [PLAIN, *(self._state(edge) for edge in self.edges)]

    def at(self, moment: int) -> State:
        """What holds at this moment."""
        return self.states[bisect_right(self.edges, moment)] if self.changes else PLAIN

    def depth(self, tick: int, moment: int) -> Depth | None:
        """The book of the price that came at `tick`, as it is at `moment`; None is the ordinary one."""
        place = bisect_right(self.depths, tick, key=lambda each: each[0]) if self.depths else 0
        if place and self.depths[place - 1][0] == tick:
            return self.depths[place - 1][1]
        return self.at(moment).depth

    def scripted(self, start: int, end: int) -> Ticks:
        """The prices that were scripted into [start, end)."""
        rows = slice(*np.searchsorted(self.times, (start, end)))
        return Ticks(
            self.times[rows].astype("datetime64[us]"), self.bids[rows].astype(np.int32), self.asks[rows].astype(np.int32)
        )

    def _state(self, moment: int) -> State:
        halted, shift = False, 0
        last: dict[Kind, Change] = {}
        for change in self.changes:
            if change.time > moment:
                break
            last[change.kind] = change
            if change.kind in (Kind.HALT, Kind.RESUME):
                halted = change.kind is Kind.HALT
            shift += change.points
        held = {kind: change for kind, change in last.items() if moment < change.until}
        spread, book = held.get(Kind.SPREAD), held.get(Kind.LIQUIDITY)
        return State(halted, Kind.FREEZE in held, spread.factor if spread else 1.0, shift, book.depth if book else None)


UNTOUCHED = Touched()


def _with(moments: tuple[int, ...], moment: int) -> tuple[int, ...]:
    found = list(moments)
    insort(found, moment)
    return tuple(found)
