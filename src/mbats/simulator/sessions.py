"""When the exchange trades: one table of hours on the New York wall clock, less the holidays on which FX is shut.

OANDA's page of hours (US division, copy of 2022) closes FX from 16:58 to 17:03 each day. The first minute in which prices were
measured is 17:04, so trading starts with it: an order at 17:03 would be filled at the price of the evening before.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, timedelta
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mbats.market import SESSION_OPEN, from_new_york, is_holiday

FIRST_YEAR, LAST_YEAR = 1970, 2100  # outside of these the market is shut

# Of the trading days from Monday to Friday: how long after 17:00 New York of the evening before trading starts, and how long
# before 17:00 New York of the day itself it ends.
HOURS = {weekday: (SESSION_OPEN, timedelta(minutes=2)) for weekday in range(5)}

Microseconds = NDArray[np.int64]  # since 1970, UTC


@cache
def session_edges() -> Microseconds:
    """When sessions open and close, in turns: the market is open after an odd number of these moments."""
    days = np.arange(np.datetime64(f"{FIRST_YEAR}-01-02"), np.datetime64(f"{LAST_YEAR}-01-01"))
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    trades = weekday < 5
    days, weekday = days[trades], weekday[trades]
    holiday = np.array([is_holiday(date(1970, 1, 1) + timedelta(days=number)) for number in days.astype(np.int64).tolist()])
    days, weekday = days[~holiday], weekday[~holiday]
    five = pd.DatetimeIndex(days.astype("datetime64[us]")) + pd.Timedelta(hours=17)
    after, before = (np.array([HOURS[day][end] for day in range(5)], "timedelta64[us]")[weekday] for end in (0, 1))
    opens, closes = from_new_york(five - pd.Timedelta(days=1) + after), from_new_york(five - before)
    return np.stack([opens, closes], axis=1).ravel().astype(np.int64)


@cache
def _edge_list() -> list[int]:
    edges: list[int] = session_edges().tolist()
    return edges


def session_at(moment: int) -> tuple[bool, int, int]:
    """Whether FX trades at `moment` (microseconds since 1970), and the stretch [start, end) all through which that is so."""
    edges = _edge_list()
    place = bisect_right(edges, moment)
    return place % 2 == 1, edges[place - 1] if place else -(2**62), edges[place] if place < len(edges) else 2**62


def open_mask(moments: Microseconds) -> NDArray[np.bool_]:
    """Whether FX trades at each of these moments, which are sorted."""
    if not len(moments):
        return np.empty(0, np.bool_)
    open_, _, end = session_at(int(moments[0]))
    if moments[-1] < end:
        return np.full(len(moments), open_)
    return np.asarray(np.searchsorted(session_edges(), moments, "right") % 2 == 1)


@cache
def _open_time() -> Microseconds:
    """At each edge, for how long the market was open before it."""
    lengths = np.diff(session_edges(), prepend=session_edges()[:1])
    lengths[::2] = 0
    return np.cumsum(lengths)


def open_time(moments: Microseconds) -> Microseconds:
    """For how long (microseconds) the market was open from 1970 to each of these moments."""
    edges, so_far = session_edges(), _open_time()
    place = np.searchsorted(edges, moments, "right")
    last = np.maximum(place - 1, 0)
    return np.asarray(so_far[last] + np.where(place % 2 == 1, moments - edges[last], 0))


def at_open_time(passed: Microseconds) -> Microseconds:
    """The reverse of `open_time`: the moment in a session before which the market was open for this long."""
    so_far = _open_time()
    opening = np.searchsorted(so_far[1::2], passed, "right") * 2
    return np.asarray(session_edges()[opening] + passed - so_far[opening])
