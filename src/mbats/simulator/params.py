"""The measured facts that the sample market follows, read from `market_params.json` beside this file.

Standard deviations are fractions of the price (not basis points), spreads are in points (the last digit that is
quoted, a tenth of a pip), and vectors of 24 run over the New York hour.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from mbats.market import MAJORS, Floats

POINTS_PER_PIP = 10


@dataclass(frozen=True, slots=True)
class PairParams:
    """One pair. `relative_volatility` is scaled by whoever uses it; `ticks` counts the prices of a whole hour."""

    name: str
    decimals: int
    day_sd: float
    minute_sd: float
    weekend_sd: float
    spread_points: float
    spread_points_by_hour: Floats
    relative_volatility: Floats
    ticks: Floats


@dataclass(frozen=True, slots=True)
class VolatilityFactor:
    """A mean-reverting part of log volatility: stationary standard deviation, and half-life in open minutes."""

    half_life: float
    sd: float


@dataclass(frozen=True, slots=True)
class MarketParams:
    """All pairs, with `correlation` (7, 7) of their daily returns in the order of MAJORS, and the minute model."""

    pairs: dict[str, PairParams]
    correlation: Floats
    student_t_degrees: float
    fast: VolatilityFactor
    slow: VolatilityFactor


@cache
def market_params() -> MarketParams:
    """The parameters that the package carries."""
    facts = json.loads(files("mbats.simulator").joinpath("market_params.json").read_text("utf-8"))
    fast, slow = (VolatilityFactor(f["half_life_minutes"], f["sd"]) for f in facts["minute_model"]["log_volatility_factors"])
    return MarketParams(
        pairs={name: _pair(name, facts["pairs"][name]) for name in MAJORS},
        correlation=np.array([facts["daily_correlation"][name] for name in MAJORS]),
        student_t_degrees=facts["minute_model"]["student_t_degrees"],
        fast=fast,
        slow=slow,
    )


def _pair(name: str, facts: dict[str, Any]) -> PairParams:
    return PairParams(
        name=name,
        decimals=facts["decimals"],
        day_sd=facts["day_sd_bps"] / 1e4,
        minute_sd=facts["minute_sd_bps"] / 1e4,
        weekend_sd=facts["weekend_sd_bps"] / 1e4,
        spread_points=facts["spread_pips"] * POINTS_PER_PIP,
        spread_points_by_hour=np.array(facts["spread_pips_by_hour"]) * POINTS_PER_PIP,
        relative_volatility=np.array(facts["relative_volatility_by_hour"]),
        ticks=np.array(facts["ticks_by_hour"], np.float64),
    )
