"""The gate before the alias `champion`: what a version must have shown, as checks with what was found and what is allowed.

Arithmetic alone: `mbats.ml.evidence` gathers what is looked at here, `mbats.ml.promotion` acts on the answers.

The margin. Whoever tries N things finds one that looks good though none is. Under no skill, the best of N estimated Sharpe ratios
is expected at E[max of N standard normals] times their standard error, and that, not zero, is what a new version has to beat
(Bailey and López de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), 2014). N counts each trial of
hyper-parameters of this version and each version ever registered under the name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbats.market import Floats
from mbats.ml.evaluation import sharpe
from mbats.ml.sharpe import expected_maximum, probabilistic_sharpe
from mbats.trading.analyzers.performance import TRADING_DAYS

MIN_TRADES = 30
MIN_DAYS = 60  # New York trading days, about a quarter: with fewer, neither skewness nor kurtosis means anything
CONFIDENCE = 0.95

Days = npt.NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Record:
    """Daily returns after costs, out of sample: `day` (n,) datetime64[D], New York days, ascending; `value` (n,) fractions."""

    day: Days
    value: Floats


@dataclass(frozen=True, slots=True)
class Results:
    """What one version did out of sample, after costs, over its walk-forward."""

    daily: Record
    trades: int


@dataclass(frozen=True, slots=True)
class Loading:
    """What came of loading a version in a process like a strategy's. `error` is the reason why it could not be, or empty.

    `rows` checked rows gave `different` outputs that are not, bit for bit, those recorded in training; `p99` is in seconds, of
    predictions of one row each.
    """

    error: str = ""
    rows: int = 0
    different: int = 0
    p99: float = math.nan


@dataclass(frozen=True, slots=True)
class Declared:
    """The strategy's features as its file declares them now, or the reason in words why there are none.

    `changed`: the text of the file is not that of the training, so that a feature of the same name may be another.
    """

    features: tuple[str, ...] = ()
    error: str = ""
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One question of the gate. `sentence` is for people; `found` and `allowed` are the figures or words it turned on."""

    name: str
    passed: bool
    sentence: str
    found: float | str | None = None
    allowed: float | str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is recorded; what is no number in JSON is None."""
        values = asdict(self)
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}


def judge(
    candidate: Results | None,
    champion: Results | None,
    *,
    trials: int,
    trained: tuple[str, ...],
    declared: Declared,
    loading: Loading,
    latency_limit: float,
) -> list[Check]:
    """Every check, in the order in which people want to read them. `champion` is None when there is none yet.

    `trials` is N of the margin, `trained` the features the version was trained with, `latency_limit` in seconds.
    """
    return [
        _has_results(candidate),
        _earns(candidate),
        beats(candidate, champion, trials),
        _is_declared(trained, declared),
        _loads(loading),
        _says_the_same(loading),
        _is_quick(loading, latency_limit),
    ]


def passed(checks: Sequence[Check]) -> bool:
    """Whether all are passed; no check at all passes nothing."""
    return bool(checks) and all(check.passed for check in checks)


def beats(candidate: Results | None, champion: Results | None, trials: int) -> Check:
    """Whether the daily difference is positive beyond what the best of `trials` skill-less ones shows, with 95 % confidence."""
    name, against = "better", "the champion" if champion else "not trading"
    if candidate is None:
        return Check(name, False, "Nothing is known out of sample, so nothing can be better.", None, CONFIDENCE)
    difference = daily_difference(candidate.daily, champion.daily if champion else None)
    days = len(difference)
    if days < MIN_DAYS:
        whose = "days out of sample in common with the champion" if champion else "days out of sample"
        return Check(name, False, f"{days} {whose}; at least {MIN_DAYS} are needed to compare.", None, CONFIDENCE)
    found = sharpe(difference)
    if found is None:
        return Check(name, False, f"It did on every day just what {against} did; that is not better.", None, CONFIDENCE)
    # The standard error of a daily Sharpe ratio that is truly zero is 1 / sqrt(days - 1).
    margin = expected_maximum(trials) / math.sqrt(days - 1)
    confidence = probabilistic_sharpe(difference, margin)
    sentence = (
        f"Against {against}, over {days} days, the Sharpe ratio of the daily difference is {found:.2f}; the best of {trials} "
        f"without skill is expected at {margin * math.sqrt(TRADING_DAYS):.2f}. The confidence to be above that is "
        f"{confidence:.1%}; {CONFIDENCE:.0%} is asked."
    )
    return Check(name, confidence >= CONFIDENCE, sentence, confidence, CONFIDENCE)


def daily_difference(candidate: Record, champion: Record | None) -> Floats:
    """Candidate less champion on the days that both have; the candidate's own returns when there is no champion."""
    if champion is None:
        return candidate.value
    _, ours, theirs = np.intersect1d(candidate.day, champion.day, assume_unique=True, return_indices=True)
    return np.asarray(candidate.value[ours] - champion.value[theirs])


def _has_results(candidate: Results | None) -> Check:
    name = "out_of_sample"
    if candidate is None or not len(candidate.daily.day):
        return Check(name, False, "No results out of sample, after costs, are recorded with this version.", 0, MIN_TRADES)
    trades, days = candidate.trades, len(candidate.daily.day)
    sentence = f"{trades} trades out of sample over {days} days, after costs; at least {MIN_TRADES} are asked."
    return Check(name, trades >= MIN_TRADES, sentence, trades, MIN_TRADES)


def _earns(candidate: Results | None) -> Check:
    found = sharpe(candidate.daily.value) if candidate else None
    if found is None:
        return Check("earns", False, "There is no Sharpe ratio out of sample: too few days, or none that differs.", None, 0.0)
    return Check(
        "earns", found > 0, f"The Sharpe ratio out of sample, after costs, is {found:.2f}; above 0 is asked.", found, 0.0
    )


def _is_declared(trained: tuple[str, ...], declared: Declared) -> Check:
    found, allowed = ", ".join(declared.features) or "none", ", ".join(trained)
    if declared.error:
        return Check("declared", False, declared.error, None, allowed)
    if declared.features != trained:
        sentence = (
            f"The strategy declares the features {found} now, and the model was trained with {allowed}. Train a new version."
        )
        return Check("declared", False, sentence, found, allowed)
    if declared.changed:
        sentence = (
            "The strategy's file is not what it was in training, so a feature may mean something else. Train a new version."
        )
        return Check("declared", False, sentence, "changed", "unchanged")
    sentence = f"The strategy is as it was in training, and declares the features of the model: {allowed}."
    return Check("declared", True, sentence, found, allowed)


def _loads(loading: Loading) -> Check:
    if loading.error:
        return Check("loads", False, f"A process like a strategy's could not load it: {loading.error}", loading.error, "loads")
    return Check("loads", True, "A process like a strategy's loads it.", "loads", "loads")


def _says_the_same(loading: Loading) -> Check:
    if loading.error or not loading.rows:
        return Check("same_outputs", False, "No output could be compared with those of the training.", None, 0)
    sentence = f"{loading.different} of {loading.rows} outputs differ from those of the training; bit for bit the same is asked."
    return Check("same_outputs", loading.different == 0, sentence, loading.different, 0)


def _is_quick(loading: Loading, limit: float) -> Check:
    if loading.error or math.isnan(loading.p99):
        return Check("latency", False, "How long a prediction takes could not be measured.", None, limit)
    sentence = f"99 of 100 predictions of one row take at most {loading.p99 * 1000:.1f} ms; {limit * 1000:.0f} ms are allowed."
    return Check("latency", loading.p99 <= limit, sentence, loading.p99, limit)


__all__ = [
    "CONFIDENCE",
    "MIN_DAYS",
    "MIN_TRADES",
    "Check",
    "Declared",
    "Loading",
    "Record",
    "Results",
    "beats",
    "daily_difference",
    "judge",
    "passed",
]
