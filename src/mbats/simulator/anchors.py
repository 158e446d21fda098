"""The anchors of the sample market: its mid at 14:10 Frankfurt of each day, and how lively it is between two of them.

Up to the last ECB rate the anchors are those rates. After it they are a random walk with the measured daily
volatility and correlation, so that the market runs on to any "now" and the paths between need only one rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta

import numpy as np

from mbats.market import MAJORS, Floats
from mbats.simulator.ecb import ReferenceRates, fixing_times
from mbats.simulator.params import MarketParams, PairParams
from mbats.simulator.randomness import generator
from mbats.simulator.timeline import DAY_MINUTES, HOURS, Numbers, Timeline

RUN_ON = timedelta(days=30 * 365)  # how far past the last known rate the market goes
MEMORY = 10.0  # half-life, in anchors, of the local level of volatility
SHOCK = 9.0  # a squared return counts at most this many times the level before it


@dataclass(frozen=True, slots=True)
class Anchors:
    """`numbers` (n,) of the minutes at whose start the log mids (n, 7) are known.

    `level` (n - 1, 7) multiplies the measured volatility between an anchor and the next. `known` says how many
    anchors are ECB rates.
    """

    numbers: Numbers
    log_mids: Floats
    level: Floats
    known: int


def minute_variances(pair: PairParams) -> Floats:
    """Variance of the log return of each minute of a day (1436,), at level 1: the measured one by New York hour."""
    relative = pair.relative_volatility[HOURS] ** 2
    return np.asarray(pair.minute_sd**2 * relative / relative.mean())


def build_timeline(rates: ReferenceRates) -> Timeline:
    """The open minutes from the day of the first rate until RUN_ON after the last."""
    first, last = (day.astype("datetime64[us]").item().replace(tzinfo=UTC) for day in (rates.days[0], rates.days[-1]))
    return Timeline.between(first + timedelta(hours=12), last + RUN_ON)


def build_anchors(rates: ReferenceRates, timeline: Timeline, params: MarketParams, seed: int) -> Anchors:
    """The anchors of the whole timeline. A rate of a day on which FX is shut (2 January 2017) has no price to pin."""
    tradable = np.isin(rates.days, timeline.days)
    known_days, known_mids = rates.days[tradable], np.log(rates.mids[tradable])
    days = np.r_[known_days, timeline.days[timeline.days > known_days[-1]]]
    numbers = timeline.number(fixing_times(days))
    variances = nominal_variances(timeline, numbers, params)
    walk = _walk(variances[len(known_days) - 1 :], params, seed)
    log_mids = np.vstack([known_mids, known_mids[-1] + walk])
    level = np.column_stack([local_level(np.diff(log_mids[:, i]), variances[:, i]) for i in range(len(MAJORS))])
    return Anchors(numbers, log_mids, level, len(known_days))


def nominal_variances(timeline: Timeline, numbers: Numbers, params: MarketParams) -> Floats:
    """Variance (n - 1, 7) between neighbouring anchors at level 1: their open minutes and the closures between."""
    columns = []
    for name in MAJORS:
        pair = params.pairs[name]
        within = np.r_[0.0, np.cumsum(minute_variances(pair))]
        closures = np.cumsum(timeline.after_closure)
        day, minute = numbers // DAY_MINUTES, numbers % DAY_MINUTES
        columns.append(np.diff(day * within[-1] + within[minute] + closures[day] * pair.weekend_sd**2))
    return np.column_stack(columns)


def local_level(returns: Floats, variances: Floats) -> Floats:
    """Volatility between anchors as a multiple of the measured long-run one, from the returns themselves.

    Without it a quiet year would swing about its anchors and a wild one march from each to the next, and a strategy
    could earn from either. An exponentially weighted mean of squared returns over nominal variance; a shock counts
    in full for its own day but only up to SHOCK for the days that follow it.
    """
    decay = 0.5 ** (1 / MEMORY)
    ratios = (returns**2 / variances).tolist()
    mean = float(np.mean(np.minimum(ratios[: int(4 * MEMORY)], SHOCK)))
    squared = []
    for ratio in ratios:
        mean = decay * mean + (1 - decay) * min(ratio, SHOCK * mean)
        squared.append(max(mean, ratio / SHOCK))
    return np.sqrt(squared)


def _walk(variances: Floats, params: MarketParams, seed: int) -> Floats:
    draws = generator(seed, "anchors")
    normals = draws.standard_normal(variances.shape) @ np.linalg.cholesky(params.correlation).T
    degrees = params.student_t_degrees
    tails = np.sqrt((degrees - 2) / draws.chisquare(degrees, len(variances)))
    return np.asarray(np.cumsum(normals * tails[:, None] * np.sqrt(variances), axis=0))
