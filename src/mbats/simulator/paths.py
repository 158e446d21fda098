"""The path of one pair from minute to minute, in blocks that depend on the seed and on nothing that was asked before.

A block runs over five anchors, about a week. Given the volatility of its minutes, free returns are Gaussian, so pinning
them to the next anchor is a Brownian bridge in variance time: each minute takes its share of the correction by its
variance, and busy hours absorb most of it. Prices are whole points. The spread is the same all through a minute, so that
bid, mid and ask of a minute are exact shifts of one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mbats.market import MAJORS, Floats
from mbats.simulator.anchors import Anchors
from mbats.simulator.conditions import Climate, Conditions, Stretch
from mbats.simulator.params import MarketParams
from mbats.simulator.prices import Points
from mbats.simulator.randomness import generator
from mbats.simulator.timeline import Numbers, Timeline

BLOCK_ANCHORS = 5
# A maximum over n prices falls short of that over all moments by this share of a step (Broadie, Glasserman and Kou, 1997).
DISCRETE_SHORTFALL = 0.5826


@dataclass(frozen=True, slots=True)
class Block:
    """Minutes [start, stop) of one pair: `bid` (4, n) as open, high, low, close, `spread` (n,), both in points, and
    `ticks` (n,), the number of prices that came in the minute. A minute without any has no bar."""

    start: int
    stop: int
    bid: Points
    spread: Points
    ticks: Points


class _Path(NamedTuple):
    before: Floats  # log mid just before each minute, after any jump
    own: Floats  # log return within it


class Paths:
    """All blocks of all pairs; `block` computes one afresh each time, and can be called from any thread.

    `bounds` are the first minutes of the blocks. Anchors that do not fill a last block are left out, decades ahead.
    """

    def __init__(self, timeline: Timeline, anchors: Anchors, params: MarketParams, seed: int) -> None:
        self._anchors = anchors
        self._params = params
        self._seed = seed
        self._loadings = np.linalg.cholesky(params.correlation)
        self.bounds: Numbers = anchors.numbers[::BLOCK_ANCHORS]
        self._climate = Climate(timeline, params, self.bounds, seed)

    def block(self, pair: str, number: int) -> Block:
        """Block `number` of `pair`, which runs over minutes [bounds[number], bounds[number + 1])."""
        stretch = self._stretch(pair, number)
        conditions = self._climate.conditions(stretch)
        logs = _prices(stretch, self._bridge(stretch, conditions), conditions)
        bid = np.rint(np.exp(logs) * 10.0**stretch.pair.decimals - conditions.spread / 2).astype(np.int32)
        return Block(int(stretch.minutes[0]), int(stretch.minutes[-1]) + 1, bid, conditions.spread, conditions.ticks)

    def _stretch(self, pair: str, number: int) -> Stretch:
        minutes = np.arange(self.bounds[number], self.bounds[number + 1])
        segments = slice(number * BLOCK_ANCHORS, (number + 1) * BLOCK_ANCHORS)
        anchors = self._anchors.numbers[segments] - self.bounds[number]
        level = np.repeat(self._anchors.level[segments, MAJORS.index(pair)], np.diff(anchors, append=len(minutes)))
        return Stretch(self._params.pairs[pair], number, minutes, anchors, level, generator(self._seed, pair, number))

    def _bridge(self, stretch: Stretch, conditions: Conditions) -> _Path:
        """Correlated returns and jumps, drawn towards the anchor at the end of each segment."""
        column, size = MAJORS.index(stretch.pair.name), len(stretch.minutes)
        jumps = conditions.jump > 0
        own, jump = np.zeros(size), np.zeros(size)
        for factor, loading in enumerate(self._loadings[column, : column + 1]):
            stream = generator(self._seed, f"factor {factor}", stretch.number)
            own += loading * stream.standard_normal(size)
            jump[jumps] += loading * stream.standard_normal(int(jumps.sum()))
        own *= conditions.volatility
        jump *= conditions.jump

        first = stretch.number * BLOCK_ANCHORS
        known = self._anchors.log_mids[first : first + BLOCK_ANCHORS + 1, column]
        lengths = np.diff(stretch.anchors, append=size)
        missing = np.diff(known) - np.add.reduceat(own + jump, stretch.anchors)
        variance = np.add.reduceat(conditions.volatility**2 + conditions.jump**2, stretch.anchors)
        pull = np.repeat(missing / variance, lengths)
        own += pull * conditions.volatility**2
        jump += pull * conditions.jump**2

        moves = own + jump
        done = np.cumsum(moves) - moves
        since_anchor = done - np.repeat(done[stretch.anchors], lengths)
        return _Path(np.repeat(known[:-1], lengths) + since_anchor + jump, own)


def _prices(stretch: Stretch, path: _Path, conditions: Conditions) -> Floats:
    """Log mids (4, n): open, high, low and close of each minute, as far as its number of prices can show them."""
    ticks = np.maximum(conditions.ticks, 1)
    passed = 1 / ticks  # share of the minute's variance before its first price
    passed[stretch.anchors] = 0.0  # the first price after an anchor is the anchor
    wobble = np.sqrt(passed * (1 - passed)) * conditions.volatility * stretch.own.standard_normal(len(ticks))
    open_ = path.before + passed * path.own + wobble
    close = path.before + path.own
    step = conditions.volatility / np.sqrt(ticks)
    up, down = _excursions(stretch, close - open_, conditions.volatility * np.sqrt(1 - passed), step)
    up[ticks < 3] = down[ticks < 3] = 0.0
    # Of three prices only one lies between the first and the last, and it can be an extreme on one side only.
    up[(ticks == 3) & (up < down)] = 0.0
    down[(ticks == 3) & (up >= down)] = 0.0
    return np.stack([open_, np.maximum(open_, close) + up, np.minimum(open_, close) - down, close])


def _excursions(stretch: Stretch, move: Floats, sd: Floats, step: Floats) -> tuple[Floats, Floats]:
    """How far a Brownian bridge, seen only in `step`s, goes above the higher and below the lower of its ends.

    The maximum of a bridge has a closed form in one exponential number; maximum and minimum are drawn independently.
    """
    exponential = stretch.own.standard_exponential((2, len(move)))
    beyond = (np.sqrt(move**2 + 2 * sd**2 * exponential) - np.abs(move)) / 2 - DISCRETE_SHORTFALL * step
    up, down = np.maximum(beyond, 0.0)
    return up, down
