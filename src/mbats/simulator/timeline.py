"""The line of open minutes: every minute in which the sample market has prices, numbered from 0 without a hole.

A trading day is 1,436 minutes, 17:04 to 17:00 New York, whatever daylight saving does: clocks change on Sundays
before the market opens. So minute `n` is minute `n % 1436` of open day `n // 1436`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from mbats.market import SESSION_OPEN, Times, day_open, open_days

DAY_MINUTES = 1440 - SESSION_OPEN // timedelta(minutes=1)
HOURS = (17 + (np.arange(DAY_MINUTES) + 1440 - DAY_MINUTES) // 60) % 24  # New York hour of each minute of a day
MINUTE = np.timedelta64(60_000_000, "us")

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The open days of a stretch of time: `days` by name, `opens` when each one's first minute starts in UTC."""

    days: NDArray[np.datetime64]
    opens: Times

    @classmethod
    def between(cls, first: datetime, last: datetime) -> Timeline:
        """The trading days with any part in [first, last)."""
        days = open_days(first.astimezone(UTC), last.astimezone(UTC))
        return cls(days, day_open(days) + np.timedelta64(SESSION_OPEN))

    @property
    def minutes(self) -> int:
        """How many minutes there are."""
        return len(self.days) * DAY_MINUTES

    @property
    def after_closure(self) -> NDArray[np.bool_]:
        """Per day, whether the market was shut for a whole day or more before it."""
        return np.diff(self.days, prepend=self.days[:1] - 2) > np.timedelta64(1, "D")

    def times(self, numbers: Numbers) -> Times:
        """When these minutes start, in UTC."""
        return np.asarray(self.opens[numbers // DAY_MINUTES] + numbers % DAY_MINUTES * MINUTE)

    def number(self, times: Times) -> Numbers:
        """The first minute that starts at or after each time; times outside are put to the nearest end."""
        day = np.searchsorted(self.opens, times, "right") - 1
        since = times - self.opens[np.maximum(day, 0)]
        within = np.clip(-(-since.astype(np.int64) // MINUTE.astype(np.int64)), 0, DAY_MINUTES)
        return np.where(day < 0, 0, day * DAY_MINUTES + within)
