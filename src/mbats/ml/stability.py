"""Whether what a model sees now is like what it was trained on: the population stability index of one column.

PSI = Σ (a − e)·ln(a/e) over bins, with the shares e in training and a now (Siddiqi, Credit Risk Scorecards, 2006, whose levels
0.1 and 0.25 are used here). The index of two equal populations is not zero: over B bins and with n and m rows it is spread as
χ²(B − 1)·(1/n + 1/m) (Yurdakul, Statistical Properties of Population Stability Index, 2018). So few rows raise no alarm.

That holds of independent rows. Indicators of neighbouring bars are alike, so that a window which is short against their memory
shows a state of the market and not a drift: give it months.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mbats.market import Floats

Level = Literal["ok", "watch", "alarm"]
WATCH, ALARM = 0.1, 0.25
CHANCE = 0.999  # of chance alone keeping below, for a change to be told


@dataclass(frozen=True, slots=True)
class Reference:
    """How one column lay in training: inner `edges` of its bins, ascending, and rows in each bin, the last of which is of NaN.

    A value belongs to the first bin whose edge is not below it.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"edges": list(self.edges), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Reference:
        """The reverse of `to_json`."""
        return cls(tuple(float(edge) for edge in values["edges"]), tuple(int(count) for count in values["counts"]))


def reference(values: Floats, bins: int = 10) -> Reference:
    """The bins of one column (n,): its quantiles, so that each holds about as many rows; equal values stay together."""
    known = values[np.isfinite(values)]
    quantiles = np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf") if len(known) else np.empty(0)
    edges = np.unique(quantiles)
    return Reference(tuple(edges.tolist()), _counts(values, edges))


def psi(of: Reference, values: Floats) -> float:
    """The index of values (n,) against the training's; each bin counts half a row more, so that an empty one has a logarithm.

    NaN when either has no rows.
    """
    if not sum(of.counts) or not len(values):
        return float("nan")
    then = np.array(of.counts) + 0.5
    now = np.array(_counts(values, np.array(of.edges))) + 0.5
    seldom = (then == 0.5) & (now == 0.5)  # as the bin of NaN mostly is: no rows on either side say nothing
    expected, actual = then[~seldom] / then[~seldom].sum(), now[~seldom] / now[~seldom].sum()
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def level(found: float, of: Reference, rows: int) -> Level:
    """What an index over so many rows now means: nothing, something to watch, or an alarm.

    An index that chance alone reaches with so few rows is `ok`, and so is one that is NaN.
    """
    from scipy.stats import chi2

    bins, then = sum(count > 0 for count in of.counts), sum(of.counts)
    if not found >= WATCH or not rows or not then:
        return "ok"
    chance = float(chi2.ppf(CHANCE, max(bins - 1, 1))) * (1 / rows + 1 / then)
    if found < chance:
        return "ok"
    return "alarm" if found >= ALARM else "watch"


def _counts(values: Floats, edges: Floats) -> tuple[int, ...]:
    known = values[np.isfinite(values)]
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return (*(int(count) for count in counts), len(values) - len(known))
