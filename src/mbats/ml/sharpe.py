"""How sure a Sharpe ratio is: against chance, against fat tails, and against having tried many things.

All ratios are of one period each, as the returns are: daily returns give daily ratios, and nothing is annualised. Sources:
Bailey and López de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), 2012 (probabilistic), and "The Deflated
Sharpe Ratio", Journal of Portfolio Management 40(5), 2014 (deflated, expected maximum).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from mbats.market import Floats

NORMAL = NormalDist()
EULER = float(np.euler_gamma)


def sharpe_ratio(returns: Floats) -> float:
    """Mean over standard deviation (n − 1) of returns (n,), per period; NaN with fewer than two, or when they do not vary."""
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return float(returns.mean()) / deviation if deviation > 0 else math.nan


def probabilistic_sharpe(returns: Floats, benchmark: float = 0.0) -> float:
    """The probability that the true ratio of returns (n,) is above `benchmark`; both are per period. NaN without a ratio."""
    found = sharpe_ratio(returns)
    if math.isnan(found):
        return math.nan
    away = (returns - returns.mean()) / returns.std()
    return probability_above(
        found, benchmark, count=len(returns), skewness=float(np.mean(away**3)), kurtosis=float(np.mean(away**4))
    )


def probability_above(sharpe: float, benchmark: float, *, count: int, skewness: float = 0.0, kurtosis: float = 3.0) -> float:
    """The probability that the true ratio is above `benchmark`, by the moments of `count` returns; a normal's kurtosis is 3.

    Equation 9 of 2014. NaN when the moments contradict each other, so that the variance of the ratio would not be positive.
    """
    variance = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if count < 2 or not variance > 0:
        return math.nan
    return NORMAL.cdf((sharpe - benchmark) * math.sqrt((count - 1) / variance))


def expected_maximum(trials: int) -> float:
    """What the largest of `trials` independent standard normal numbers is on average, by equation 6 of 2014; 0 for one.

    Times the standard error of a ratio, this is the ratio that the best of so many trials shows without any skill.
    """
    if trials < 1:
        raise ValueError(f"{trials} trials; at least one was made")
    if trials == 1:
        return 0.0
    return (1 - EULER) * NORMAL.inv_cdf(1 - 1 / trials) + EULER * NORMAL.inv_cdf(1 - 1 / (trials * math.e))


def deflated_sharpe(returns: Floats, trials: int, *, deviation: float | None = None) -> float:
    """The probability that the true ratio of the best of `trials` is above what the best shows without skill.

    `deviation` is that of the trials' ratios, per period; when they are not known, the 1/√(n − 1) of ratios that are truly zero.
    NaN without a ratio.
    """
    if len(returns) < 2:
        return math.nan
    spread = 1 / math.sqrt(len(returns) - 1) if deviation is None else deviation
    return probabilistic_sharpe(returns, expected_maximum(trials) * spread)
