"""How lively each minute is: its volatility, the jump before it, how many prices come in it, and its spread.

Volatility is the measured one of the New York hour, times the local level of the ECB rates, times two mean-reverting
factors and a fat tail. The slow factor and the tail come to all pairs at once, as news about the dollar does, which keeps the
correlation of the pairs; the fast factor is each pair's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import gammaln

from mbats.market import Floats
from mbats.simulator.anchors import minute_variances
from mbats.simulator.params import MarketParams, PairParams, VolatilityFactor
from mbats.simulator.prices import Points
from mbats.simulator.randomness import generator
from mbats.simulator.timeline import DAY_MINUTES, HOURS, Numbers, Timeline

GAP_DEGREES = 3  # weekend jumps are wild: the measured median is a third of the standard deviation
SPREAD_SD, ROLLOVER_SPREAD_SD = 0.07, 0.25  # of log spread within an hour; the second at 16:00 and 17:00
ROLLOVER_WIDENING, WEEKEND_WIDENING = 0.8, 1.6  # extra spread at 17:00, as a share; at the ends of a week
WIDENING_MINUTES = 5.0  # how fast it fades on both sides
MINUTES_FROM_ROLLOVER = np.minimum(np.arange(DAY_MINUTES) + 1440 - DAY_MINUTES, DAY_MINUTES - np.arange(DAY_MINUTES))


@dataclass(frozen=True, slots=True)
class Stretch:
    """The minutes of one block of one pair, with what is known about them before anything is drawn.

    `anchors` are the positions in the block at which an anchor stands, `level` is the local volatility of each minute
    against the measured one, and `own` draws what is this pair's alone.
    """

    pair: PairParams
    number: int
    minutes: Numbers
    anchors: Numbers
    level: Floats
    own: Generator

    @property
    def of_day(self) -> Numbers:
        """The number of each minute within its day."""
        return self.minutes % DAY_MINUTES


@dataclass(frozen=True, slots=True)
class Conditions:
    """For each minute: standard deviation of its log return, of the jump before it (0 but after a closure), the number of
    its prices, and its spread in points."""

    volatility: Floats
    jump: Floats
    ticks: Points
    spread: Points


class Climate:
    """Draws the conditions of any stretch. `bounds` are the first minutes of all blocks."""

    def __init__(self, timeline: Timeline, params: MarketParams, bounds: Numbers, seed: int) -> None:
        self._closures = timeline.after_closure
        self._params = params
        self._bounds = bounds
        self._seed = seed
        self._minute_sd = {name: np.sqrt(minute_variances(pair)) for name, pair in params.pairs.items()}

    def conditions(self, stretch: Stretch) -> Conditions:
        """What the minutes of `stretch` are like."""
        size, degrees = len(stretch.minutes), self._params.student_t_degrees
        shared = generator(self._seed, "shared", stretch.number)
        factors = self._slow(stretch.number, shared.standard_normal(size))
        factors += _mean_reverting(stretch.own.standard_normal(size), self._params.fast)
        tail = np.sqrt((degrees - 2) / shared.chisquare(degrees, size))
        variance = self._params.slow.sd**2 + self._params.fast.sd**2
        swing = np.exp(factors - variance) * tail  # its mean square is 1
        volatility = stretch.level * self._minute_sd[stretch.pair.name][stretch.of_day] * swing
        activity = swing * np.exp(variance / 2) / _mean_tail(degrees)  # its mean is 1
        return Conditions(volatility, self._jump(stretch, shared), _ticks(stretch, activity), self._spread(stretch))

    def _slow(self, number: int, noise: Floats) -> Floats:
        """The slow factor of a block; it swings in with the noise of the block before."""
        before = np.empty(0)
        if number:
            before = generator(self._seed, "shared", number - 1).standard_normal(
                int(self._bounds[number] - self._bounds[number - 1])
            )
        return _mean_reverting(np.r_[before, noise], self._params.slow)[-len(noise) :]

    def _jump(self, stretch: Stretch, shared: Generator) -> Floats:
        opens = (stretch.of_day == 0) & self._closures[stretch.minutes // DAY_MINUTES]
        jump = np.zeros(len(opens))
        tail = np.sqrt((GAP_DEGREES - 2) / shared.chisquare(GAP_DEGREES, int(opens.sum())))
        jump[opens] = stretch.level[opens] * stretch.pair.weekend_sd * tail
        return jump

    def _spread(self, stretch: Stretch) -> Points:
        hour, day = HOURS[stretch.of_day], stretch.minutes // DAY_MINUTES
        at_weekend: NDArray[np.bool_] = np.where(stretch.of_day < DAY_MINUTES // 2, self._closures[day], self._closures[day + 1])
        fade = np.exp(-MINUTES_FROM_ROLLOVER[stretch.of_day] / WIDENING_MINUTES)
        widening = 1 + np.where(at_weekend, WEEKEND_WIDENING, ROLLOVER_WIDENING) * fade
        sd = np.where((hour == 16) | (hour == 17), ROLLOVER_SPREAD_SD, SPREAD_SD)
        scatter = np.exp(sd * stretch.own.standard_normal(len(hour)))
        return np.asarray(np.maximum(np.rint(stretch.pair.spread_points_by_hour[hour] * widening * scatter), 1), np.int32)


def _ticks(stretch: Stretch, activity: Floats) -> Points:
    expected = (stretch.pair.ticks / np.bincount(HOURS, minlength=24))[HOURS][stretch.of_day]
    ticks = stretch.own.poisson(expected * activity)
    # The minutes on both sides of an anchor have prices, so that it is seen: as a close and as an open.
    ticks[stretch.anchors] = np.maximum(ticks[stretch.anchors], 2)
    before = np.append(stretch.anchors[1:], len(ticks)) - 1
    ticks[before] = np.maximum(ticks[before], 1)
    return ticks.astype(np.int32)


def _mean_reverting(noise: Floats, factor: VolatilityFactor) -> Floats:
    """The stationary first-order process of this half-life and standard deviation; the first value is already typical."""
    decay = 0.5 ** (1 / factor.half_life)
    shocks = noise * factor.sd * np.sqrt(1 - decay**2)
    shocks[:1] = noise[:1] * factor.sd
    return np.asarray(lfilter([1.0], [1.0, -decay], shocks))


def _mean_tail(degrees: float) -> float:
    """Mean of sqrt((degrees - 2) / chi-square)."""
    return float(np.sqrt((degrees - 2) / 2) * np.exp(gammaln((degrees - 1) / 2) - gammaln(degrees / 2)))
