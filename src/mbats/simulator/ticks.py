"""The single prices inside a minute: as many as its volume says, from its open to its close, touching high and low.

Aggregated again they give back exactly the minute they came from. Every number is drawn from (seed, pair, minute, index of
the price), so that a minute looks the same whichever stretch of time was asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbats.market import Floats, Times
from mbats.simulator.prices import HIGH, LOW, Points, Ticks
from mbats.simulator.randomness import uniforms, words
from mbats.simulator.timeline import MINUTE

PER_MINUTE = 1 << 16  # more prices than ever come in one
NEAR_EXTREME_FIRST = 0.75  # how often the low comes before the high in a minute that closes above its open
WOBBLE = 0.25  # standard deviation of the path half-way between two knots, as a share of the minute's range
STEP = 1000  # of the random walk behind the wobble: whole numbers, so that sums are exact in any order

Numbers = NDArray[np.int64]


class _Knots(NamedTuple):
    """Where each minute's path must pass between its first and its last price: places and prices, one column a minute."""

    place: Numbers  # (4, minutes)
    price: Numbers


def refine(seed: int, pair: str, minutes: Times, bid: Points, spread: Points, count: Points) -> Ticks:
    """The prices of these minutes: `bid` (4, m) open, high, low, close and `spread` (m,) in points, `count` (m,) prices.

    One price needs open = high = low = close; three have room for one extreme outside of open and close.
    """
    minute = minutes.astype("datetime64[m]").astype(np.int64)
    knots = _knots(seed, pair, minute, bid.astype(np.int64), count.astype(np.int64))
    row = np.repeat(np.arange(len(minute)), count)
    first = (np.cumsum(count) - count).astype(np.int64)
    place = np.arange(len(row)) - first[row]
    index = minute[row] * PER_MINUTE + place
    offsets = (uniforms(seed, f"{pair} times", index) * MINUTE.astype(np.int64)).astype(np.int64)
    times = np.sort(minute[row] * MINUTE.astype(np.int64) + offsets)
    path = _path(seed, pair, index, row, first, place, knots)
    price = np.clip(path, bid[LOW][row], bid[HIGH][row]).astype(np.int32)
    return Ticks(times.astype("datetime64[us]"), price, price + spread[row])


def _knots(seed: int, pair: str, minute: Numbers, bid: Numbers, count: Numbers) -> _Knots:
    open_, high, low, close = bid
    draw = [uniforms(seed, f"{pair} knot {number}", minute) for number in range(3)]
    above, below = high > np.maximum(open_, close), low < np.minimum(open_, close)
    low_first = draw[0] < np.where(close >= open_, NEAR_EXTREME_FIRST, 1 - NEAR_EXTREME_FIRST)
    # With both extremes outside there are two knots between; with one, the first knot stays on the open.
    both = above & below
    early = np.where(both, 1 + (draw[1] * (count - 3)).astype(np.int64), 0)
    late = np.where(both | above | below, early + 1 + (draw[2] * (count - 2 - early)).astype(np.int64), 0)
    early_price = np.where(both, np.where(low_first, low, high), open_)
    late_price = np.where(both, np.where(low_first, high, low), np.where(above, high, np.where(below, low, open_)))
    return _Knots(np.stack([np.zeros_like(count), early, late, count - 1]), np.stack([open_, early_price, late_price, close]))


def _path(seed: int, pair: str, index: Numbers, row: Numbers, first: Numbers, place: Numbers, knots: _Knots) -> Numbers:
    leg = (place > knots.place[1][row]).astype(np.int64) + (place > knots.place[2][row])
    start, end = knots.place[leg, row], knots.place[leg + 1, row]
    start_price, end_price = knots.price[leg, row], knots.price[leg + 1, row]
    length = np.maximum(end - start, 1)
    share = (place - start) / length
    height = (knots.price.max(axis=0) - knots.price.min(axis=0))[row]
    noise = wobble(seed, pair, index, first[row] + start, first[row] + end, share, height)
    return np.asarray(np.rint(start_price + (end_price - start_price) * share + noise), np.int64)


def wobble(seed: int, pair: str, index: Numbers, start: Numbers, end: Numbers, share: Floats, height: Numbers) -> Floats:
    """For each price how far it lies off the straight line: a random walk over `index`, tied down at the rows `start` and `end`
    between which it has gone `share` of the way. `height` is the range of its bar."""
    steps = (words(seed, f"{pair} steps", index) >> np.uint64(32)).astype(np.int64) % (2 * STEP + 1) - STEP
    walk = np.cumsum(steps)
    bridge = (walk - walk[start]) - (walk[end] - walk[start]) * share
    spread_of_bridge = STEP / np.sqrt(3) * np.sqrt(np.maximum(end - start, 1)) / 2
    return np.asarray(WOBBLE * height / spread_of_bridge * bridge)
