"""Where candles begin and end. Up to an hour they sit on the UTC clock; longer ones on a local wall clock.

OANDA's defaults are 17:00 New York and Friday. Wall-clock arithmetic keeps 17:00 at 17:00 when the clocks change, so a day has
23 or 25 hours then. In UTC a candle's start therefore moves with daylight saving.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from mbats.market import Granularity, Times

LONG = (Granularity.D, Granularity.W, Granularity.M)
QUARTER = np.timedelta64(15, "m")  # local hours and midnights lie on a quarter of an hour in every zone


class Weekday(StrEnum):
    """OANDA's names of the days on which a week may begin."""

    MONDAY = "Monday"
    TUESDAY = "Tuesday"
    WEDNESDAY = "Wednesday"
    THURSDAY = "Thursday"
    FRIDAY = "Friday"
    SATURDAY = "Saturday"
    SUNDAY = "Sunday"

    @property
    def number(self) -> int:
        """Monday is 0."""
        return list(Weekday).index(self)


@dataclass(frozen=True, slots=True)
class Alignment:
    """The hour at which days begin, the zone of that hour, and the day on which weeks begin."""

    hour: int = 17
    zone: str = "America/New_York"
    weekday: Weekday = Weekday.FRIDAY


OANDA = Alignment()


def candle_starts(granularity: Granularity, times: Times, alignment: Alignment = OANDA) -> Times:
    """The start (UTC) of the candle into which each time falls.

    A month begins when the trading day of its first date does: days that begin at noon or later belong to the next date.
    """
    if not granularity.day_aligned:
        step = _step(granularity)
        return (times.astype(np.int64) // step * step).astype("datetime64[us]")
    wall = _wall(times, alignment)
    if granularity in LONG:
        return _utc(_long_start(granularity, wall, alignment), alignment)
    hours = granularity.length // timedelta(hours=1)
    since = (wall.hour.to_numpy() - alignment.hour) % 24 % hours
    return _utc(wall.floor("h") - pd.to_timedelta(since, unit="h"), alignment)


def candle_ends(granularity: Granularity, starts: Times, alignment: Alignment = OANDA) -> Times:
    """When the candles with these starts are over."""
    if not granularity.day_aligned:
        return starts + np.timedelta64(_step(granularity), "us")
    wall = _wall(starts, alignment)
    if granularity in LONG:
        start = _long_start(granularity, wall, alignment)
        if granularity is Granularity.M:
            shift = pd.Timedelta(days=_days_into_next_date(alignment))
            end = (start + shift) + pd.DateOffset(months=1) - shift
        else:
            end = start + pd.Timedelta(days=7 if granularity is Granularity.W else 1)
        return _utc(end, alignment)
    hours = granularity.length // timedelta(hours=1)
    since = (wall.hour.to_numpy() - alignment.hour) % 24 % hours
    return _utc(wall.floor("h") + pd.to_timedelta(hours - since, unit="h"), alignment)


def starts_between(granularity: Granularity, start: np.datetime64, end: np.datetime64, alignment: Alignment) -> Times:
    """Every candle start in [start, end), whether or not the market is open then."""
    if not granularity.day_aligned:
        step = _step(granularity)
        first = -(-start.astype("datetime64[us]").astype(np.int64) // step) * step
        return np.arange(first, end.astype("datetime64[us]").astype(np.int64), step).astype("datetime64[us]")
    grid = np.arange(start.astype("datetime64[h]"), end.astype("datetime64[h]") + 2, QUARTER).astype("datetime64[us]")
    starts = np.unique(candle_starts(granularity, grid, alignment))
    return starts[(starts >= start) & (starts < end)]


def _step(granularity: Granularity) -> int:
    return granularity.length // timedelta(microseconds=1)


def _wall(times: Times, alignment: Alignment) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(ZoneInfo(alignment.zone)).tz_localize(None)


def _utc(wall: pd.DatetimeIndex, alignment: Alignment) -> Times:
    """UTC of wall times. One that daylight saving skips is the moment of the change, one that it repeats is the first."""
    # Not tz_localize, which puts skipped hours of some zones (Alaska) an hour too late.
    zone = ZoneInfo(alignment.zone)
    distinct, back = np.unique(np.asarray(wall.to_numpy(), "datetime64[us]"), return_inverse=True)
    moments = [moment.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None) for moment in distinct.tolist()]
    return np.array(moments, "datetime64[us]")[back]


def _days_into_next_date(alignment: Alignment) -> int:
    return 1 if alignment.hour >= 12 else 0


def _long_start(granularity: Granularity, wall: pd.DatetimeIndex, alignment: Alignment) -> pd.DatetimeIndex:
    hour = pd.Timedelta(hours=alignment.hour)
    day = (wall - hour).normalize()
    if granularity is Granularity.W:
        day -= pd.to_timedelta((day.day_of_week.to_numpy() - alignment.weekday.number) % 7, unit="D")
    elif granularity is Granularity.M:
        shift = pd.Timedelta(days=_days_into_next_date(alignment))
        named = day + shift
        day = named - pd.to_timedelta(named.day.to_numpy() - 1, unit="D") - shift
    return day + hour
