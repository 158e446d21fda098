"""The path inside a bar that is known only by its open, high, low and close: single prices that make exactly that bar again.

The prices come at seeded times while FX is in session, one in each of as many equal parts of that time; all through a bar in
which FX never is. High and low are reached on bid and ask at once, so that those of the mid are theirs as well. There are as many
prices as the bar's volume says, whatever its length. A bar that says less than it takes to draw it (open, close, and each extreme
that is neither: four at most) is given that many, and is served with that volume. Bars can also be drawn with a number of prices
that is the same for all, which is then their volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mbats.errors import BadBar
from mbats.market import Granularity
from mbats.simulator.alignment import candle_ends
from mbats.simulator.prices import ASK, BID, CLOSE, HIGH, LOW, OPEN, Candles, Ticks
from mbats.simulator.randomness import uniforms
from mbats.simulator.sessions import at_open_time, open_time
from mbats.simulator.ticks import NEAR_EXTREME_FIRST, wobble

MOST_IN_BAR = 1 << 22  # prices; a month of the liveliest pair has fewer
SECOND = 1_000_000  # microseconds

Numbers = NDArray[np.int64]


class PathStyle(StrEnum):
    """In which order the extremes of a bar come, where both lie outside of open and close, and what lies between.

    OHLC goes straight from open over low and high to close in a bar that closes at or above its open, and over high and low in
    one that falls. PESSIMISTIC always takes the low first, which is worse for whoever is long, and PESSIMISTIC_SHORT the high:
    prices are the same for every account, so the side has to be named. BRIDGE draws order, places and a random path by the seed.
    """

    OHLC = "ohlc"
    PESSIMISTIC = "pessimistic"
    PESSIMISTIC_SHORT = "pessimistic_short"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Intrabar:
    """How bars are drawn: style, seed, and the number of prices of each bar, None for its volume."""

    style: PathStyle = PathStyle.OHLC
    seed: int = 0
    ticks: int | None = None


def drawable(instrument: str, granularity: Granularity, bars: Candles, path: Intrabar) -> Candles:
    """The bars with the volumes and the mids with which they are served. Raises BadBar about too many prices, or crossed ones."""
    wanted = bars.volume if path.ticks is None else np.full(len(bars), path.ticks)
    above, below = _outside(bars, HIGH), _outside(bars, LOW)
    moves = (bars.prices[:2, OPEN] != bars.prices[:2, CLOSE]).any(axis=0) | above | below
    volume = np.maximum(wanted, 1 + moves.astype(np.int64) + above + below)
    rules = (
        (f"its volume is above {MOST_IN_BAR:,}; it counts the prices that came, not units traded", volume > MOST_IN_BAR),
        (
            "the ask's high or low is below the bid's",
            (bars.prices[ASK, HIGH : LOW + 1] < bars.prices[BID, HIGH : LOW + 1]).any(axis=0),
        ),
    )
    for rule, broken in rules:
        if broken.any():
            time = bars.time[int(broken.argmax())]
            message = f"{instrument} {granularity} {time}Z: {rule}; the path inside it cannot be drawn."
            raise BadBar(message, symbol=instrument, granularity=str(granularity), time=time)
    sides = bars.prices[:2]
    return Candles(bars.time, np.concatenate([sides, sides.sum(axis=0, dtype=np.int32, keepdims=True)]), volume)


def draw(instrument: str, granularity: Granularity, bars: Candles, path: Intrabar) -> Ticks:
    """The single prices of `drawable` bars: `volume` of them in each, in order."""
    count = bars.volume
    row = np.repeat(np.arange(len(bars)), count)
    first = np.cumsum(count) - count
    place = np.arange(len(row)) - first[row]
    second = bars.time.astype(np.int64) // SECOND
    index = second[row] * MOST_IN_BAR + place
    where, order = _knots(instrument, bars, second, path)

    leg = (place > where[1][row]).astype(np.int64) + (place > where[2][row])
    start, end = where[leg, row], where[leg + 1, row]
    share = (place - start) / np.maximum(end - start, 1)
    noise: float | NDArray[np.float64] = 0.0
    if path.style is PathStyle.BRIDGE:
        height = (bars.prices[BID, HIGH] - bars.prices[BID, LOW]).astype(np.int64)[row]
        noise = wobble(path.seed, instrument, index, first[row] + start, first[row] + end, share, height)
    sides = []
    for side in (BID, ASK):
        known = bars.prices[side].astype(np.int64)
        here, there = known[order[leg, row], row], known[order[leg + 1, row], row]
        price = np.rint(here + (there - here) * share + noise)
        sides.append(np.clip(price, known[LOW][row], known[HIGH][row]).astype(np.int32))
    return Ticks(_times(instrument, granularity, bars, row, place, index, path.seed).astype("datetime64[us]"), *sides)


def _outside(bars: Candles, extreme: int) -> NDArray[np.bool_]:
    """Whether this extreme of a bar is neither its open nor its close."""
    prices = bars.prices[:2]
    return np.asarray((prices[:, extreme] != prices[:, OPEN]).any(axis=0) & (prices[:, extreme] != prices[:, CLOSE]).any(axis=0))


def _knots(instrument: str, bars: Candles, second: Numbers, path: Intrabar) -> tuple[Numbers, Numbers]:
    """Of each bar (4, n) the places of the prices that are given, and which of open, high, low and close each is."""
    above, below, count = _outside(bars, HIGH), _outside(bars, LOW), bars.volume
    both, one = above & below, above ^ below
    rises = bars.prices[:2, CLOSE].sum(axis=0) >= bars.prices[:2, OPEN].sum(axis=0)
    if path.style is PathStyle.BRIDGE:
        draws = [uniforms(path.seed, f"{instrument} knot {number}", second) for number in range(3)]
        low_first = draws[0] < np.where(rises, NEAR_EXTREME_FIRST, 1 - NEAR_EXTREME_FIRST)
        early = np.where(both, 1 + (draws[1] * (count - 3)).astype(np.int64), 0)
        late = np.where(both | one, early + 1 + (draws[2] * (count - 2 - early)).astype(np.int64), 0)
    else:
        low_first = rises if path.style is PathStyle.OHLC else np.full(len(bars), path.style is PathStyle.PESSIMISTIC)
        early = np.where(both, (count - 1) // 3, 0)
        late = np.where(both, (count - 1) * 2 // 3, np.where(one, (count - 1) // 2, 0))
    # With one extreme outside there is one knot between, with none there is no other: the first ones stay on the open.
    sooner = np.where(both, np.where(low_first, LOW, HIGH), OPEN)
    later = np.where(both, np.where(low_first, HIGH, LOW), np.where(above, HIGH, np.where(below, LOW, OPEN)))
    ends = np.zeros_like(count), count - 1
    return np.stack([ends[0], early, late, ends[1]]), np.stack(
        [np.full_like(sooner, OPEN), sooner, later, np.full_like(later, CLOSE)]
    )


def _times(
    instrument: str, granularity: Granularity, bars: Candles, row: Numbers, place: Numbers, index: Numbers, seed: int
) -> Numbers:
    """When the prices come: one in each of as many equal parts of the time in which FX is in session."""
    start, end = bars.time.astype(np.int64), candle_ends(granularity, bars.time).astype(np.int64)
    opens, closes = open_time(start), open_time(end)
    shut = opens == closes
    length = np.where(shut, end - start, closes - opens)
    gone = (place + uniforms(seed, f"{instrument} times", index)) / bars.volume[row]
    passed = np.minimum((gone * length[row]).astype(np.int64), length[row] - 1)
    return np.where(shut[row], start[row] + passed, at_open_time(opens[row] + passed))
