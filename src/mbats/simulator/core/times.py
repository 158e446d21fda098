"""Times as transactions write them, and the moment at which a New York trading day ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from mbats.market import rollovers, to_us


def write_time(moment: np.datetime64) -> str:
    """RFC 3339 with nine digits of a second and a Z, from `datetime64[us]` in UTC."""
    return f"{np.datetime_as_string(moment, unit='us')}000Z"


def parse_time(text: str) -> np.datetime64:
    """The reverse of `write_time`, to the microsecond."""
    return np.datetime64(text[:26], "us")


def day_end(moment: np.datetime64) -> np.datetime64:
    """The next 17:00 New York after `moment`: orders that are good for the day end then, and financing is booked."""
    after = _datetime(moment)
    return to_us(rollovers(after, after + timedelta(days=2))[0][0])


def day_end_weekday(moment: np.datetime64) -> int:
    """The New York weekday of this 17:00, Monday is 0."""
    at = _datetime(moment)
    return rollovers(at - timedelta(hours=1), at)[-1][1]


def _datetime(moment: np.datetime64) -> datetime:
    found: datetime = moment.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)
