"""Prices of the past, re-stamped so that they come now.

Everything moves by whole weeks on the New York wall clock. So Monday 09:30 stays Monday 09:30 there, sessions open and close when
they should, and days begin at 21:00 or 22:00 UTC by the daylight saving of the dates on which they are shown. From Sunday noon to
Sunday noon the distance in UTC is the same throughout; at the end of a week in which the clocks of only one of the two dates
change, an hour of the Sunday is left out or stays empty, in which FX is shut.

Holidays come with their prices: a Christmas that is shown in June is a day on which no price comes. On a holiday of the dates
shown prices come, but the exchange is shut.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd

from mbats.errors import ConfigError
from mbats.market import Granularity, Times, from_new_york, new_york
from mbats.simulator.prices import Candles, PriceSource, Ticks

WEEK = np.timedelta64(7, "D")
FIRST_WEEK, LAST_WEEK = np.datetime64("1970-01-04T12:00", "us"), np.datetime64("2150-01-01", "us")  # Sunday noon, New York

Piece = tuple[np.datetime64, np.datetime64, np.timedelta64]


def weeks_between(then: np.datetime64, now: np.datetime64) -> int:
    """By how many weeks prices must be moved so that what comes at `now` came within the first week after `then` (both UTC)."""
    wall = new_york(np.array([then, now], "datetime64[us]"))
    return int((wall[1] - wall[0]) // pd.Timedelta(days=7))


class ShiftedSource:
    """A source whose prices come `weeks` weeks later, or earlier when it is negative. Raises ConfigError about bars of months."""

    def __init__(self, source: PriceSource, weeks: int) -> None:
        monthly = [name for name in source.instruments if source.base(name) is Granularity.M]
        if monthly:
            raise ConfigError(
                f"The bars of {monthly[0]} are months, which cannot be moved by weeks. The simulator was not started; serve bars "
                "of a week or less, or set another clock than shift."
            )
        self.description = f"{source.description}, {abs(weeks)} weeks {'later' if weeks >= 0 else 'earlier'}"
        self.instruments = source.instruments
        self.listed = source.listed
        self.refines = source.refines
        self._source = source
        self._weeks = weeks

    def base(self, instrument: str) -> Granularity:
        return self._source.base(instrument)

    def first(self, instrument: str) -> np.datetime64:
        first, starts = self._source.first(instrument), _week_starts()
        week = int(np.searchsorted(starts, first, "right")) - 1
        moved: np.datetime64 = first + (starts[week + self._weeks] - starts[week])
        return moved

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        """The bars that start in [start, end)."""
        parts = []
        for first, last, later in self._pieces(start, end):
            bars = self._source.bars(instrument, first - later, last - later)
            parts.append(Candles(bars.time + later, bars.prices, bars.volume))
        return Candles.concatenate(parts)

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The single prices that came in [start, end)."""
        parts = []
        for first, last, later in self._pieces(start, end):
            ticks = self._source.ticks(instrument, first - later, last - later)
            parts.append(Ticks(ticks.time + later, ticks.bid, ticks.ask))
        return Ticks.concatenate(parts)

    def _pieces(self, start: np.datetime64, end: np.datetime64) -> Iterator[Piece]:
        """The stretches of [start, end), each with how much later than in the source its prices come."""
        starts = _week_starts()
        # Weeks of which one of both dates is outside of the calendar have no prices.
        lowest, highest = max(0, self._weeks), min(0, self._weeks) + len(starts)
        shown, source = starts[lowest:highest], starts[lowest - self._weeks : highest - self._weeks]
        later = shown - source
        week = max(0, int(np.searchsorted(shown, start, "right")) - 1)
        stop = min(int(np.searchsorted(shown, end)), len(shown) - 1)
        while week < stop:
            same = week + 1
            while same < stop and later[same] == later[week]:
                same += 1
            first, last = max(start, shown[week]), min(end, shown[same], source[same] + later[week])
            if first < last:
                yield first, last, later[week]
            week = same


@cache
def _week_starts() -> Times:
    """UTC of noon in New York on every Sunday."""
    return from_new_york(pd.DatetimeIndex(np.arange(FIRST_WEEK, LAST_WEEK, WEEK)))
