"""The gate before the alias `champion`: each check alone, and the margin that allows for what was tried."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.ml.gate import (
    CONFIDENCE,
    MIN_DAYS,
    MIN_TRADES,
    Check,
    Declared,
    Loading,
    Record,
    Results,
    beats,
    daily_difference,
    judge,
    passed,
)

NAMES = ("rsi", "atr")
LOADS = Loading(rows=32, different=0, p99=0.03)


def days(count: int, start: str = "2024-01-01") -> np.ndarray:
    return np.arange(np.datetime64(start, "D"), np.datetime64(start, "D") + count)


def results(count: int = 500, *, mean: float = 0.0, trades: int = 100, seed: int = 1, start: str = "2024-01-01") -> Results:
    """Days with a daily deviation of 1 %, whose sample mean is exactly `mean`."""
    noise = np.random.default_rng(seed).normal(0, 0.01, count)
    return Results(Record(days(count, start), noise - noise.mean() + mean), trades)


def checks(candidate: Results | None, champion: Results | None = None, **changes: object) -> dict[str, Check]:
    given = {
        "trials": 1,
        "trained": NAMES,
        "declared": Declared(NAMES),
        "loading": LOADS,
        "latency_limit": 1.0,
    }
    return {check.name: check for check in judge(candidate, champion, **(given | changes))}


def test_a_version_that_earns_beyond_chance_and_loads_passes_every_check():
    found = checks(results(mean=0.002))

    assert [check.name for check in found.values() if not check.passed] == []
    assert passed(list(found.values()))


def test_without_results_out_of_sample_nothing_about_them_passes():
    failed = [name for name, check in checks(None).items() if not check.passed]

    assert failed == ["out_of_sample", "earns", "better"]


def test_no_check_at_all_passes_nothing():
    assert not passed([])


def test_thirty_trades_are_enough_and_one_less_is_not():
    enough, short = (checks(results(mean=0.002, trades=count))["out_of_sample"] for count in (MIN_TRADES, MIN_TRADES - 1))

    assert (enough.passed, short.passed) == (True, False)
    assert short.sentence == "29 trades out of sample over 500 days, after costs; at least 30 are asked."
    assert (short.found, short.allowed) == (29, 30)


@pytest.mark.parametrize("mean", [0.0, -0.002])
def test_a_version_that_earns_nothing_is_refused(mean):
    assert not checks(results(mean=mean - 1e-9))["earns"].passed


def test_days_that_are_all_alike_have_no_sharpe_ratio_and_pass_nothing():
    flat = Results(Record(days(300), np.zeros(300)), 50)
    found = checks(flat)

    assert (found["earns"].passed, found["better"].passed) == (False, False)
    assert "too few days, or none that differs" in found["earns"].sentence


def test_the_same_record_is_refused_when_much_was_tried():
    """A daily Sharpe ratio of 0.1 over 500 days has a t-value of 2.2: convincing alone, ordinary as the best of fifty."""
    record = results(mean=0.001)

    alone, of_fifty = beats(record, None, 1), beats(record, None, 50)

    assert alone.passed and not of_fifty.passed
    assert "the best of 50 without skill is expected at" in of_fifty.sentence


def test_of_a_hundred_without_skill_the_best_is_seldom_let_through():
    """The gate looks at the best of a hundred random records, two hundred times; without the margin nearly all would pass."""
    generator = np.random.default_rng(5)
    let_through, without_margin = 0, 0
    for _ in range(200):
        records = generator.normal(0, 0.01, (100, 250))
        best = records[np.argmax(records.mean(axis=1) / records.std(axis=1))]
        candidate = Results(Record(days(250), best), 100)
        let_through += beats(candidate, None, 100).passed
        without_margin += beats(candidate, None, 1).passed

    assert without_margin > 180
    assert let_through < 10  # the best scatters around its expectation by a quarter of what 95 % confidence asks for


def test_it_is_compared_with_the_champion_on_the_days_that_both_have():
    """Better on the common days, and far worse on days of its own, which are not looked at."""
    champion = results(mean=0.001, seed=2)
    steps = np.random.default_rng(3).normal(0.003, 0.005, 250)
    own = np.full(400, -0.01)
    candidate = Record(
        np.concatenate([champion.daily.day[250:], days(400, "2026-01-01")]),
        np.concatenate([champion.daily.value[250:] + steps, own]),
    )

    check = beats(Results(candidate, 99), champion, 1)

    assert check.passed
    assert "Against the champion, over 250 days" in check.sentence
    assert np.allclose(daily_difference(candidate, champion.daily), steps)


def test_a_copy_of_the_champion_is_not_better_than_the_champion():
    champion = results(mean=0.002)

    check = beats(champion, champion, 1)

    assert not check.passed
    assert check.sentence == "It did on every day just what the champion did; that is not better."


def test_too_few_common_days_are_said():
    champion = results(mean=0.0)
    later = results(mean=0.01, start=str(champion.daily.day[-MIN_DAYS + 1]))

    check = beats(later, champion, 1)

    assert not check.passed
    assert check.sentence == f"{MIN_DAYS - 1} days out of sample in common with the champion; at least 60 are needed to compare."


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (Declared(("atr", "rsi")), "declares the features atr, rsi now, and the model was trained with rsi, atr"),
        (Declared(("rsi",)), "declares the features rsi now"),
        (Declared(NAMES, changed=True), "file is not what it was in training"),
        (Declared(error="No strategy 'gone'."), "No strategy 'gone'."),
    ],
)
def test_another_strategy_than_in_training_is_refused(declared, reason):
    check = checks(results(mean=0.002), declared=declared)["declared"]

    assert not check.passed and reason in check.sentence


@pytest.mark.parametrize(
    ("loading", "failed"),
    [
        (Loading(error="it says no"), ["loads", "same_outputs", "latency"]),
        (Loading(rows=32, different=1, p99=0.01), ["same_outputs"]),
        (Loading(rows=0, different=0, p99=0.01), ["same_outputs"]),
        (Loading(rows=32, different=0, p99=1.01), ["latency"]),
        (Loading(rows=32, different=0), ["latency"]),
    ],
)
def test_what_cannot_be_loaded_repeated_or_awaited_is_refused(loading, failed):
    found = checks(results(mean=0.002), loading=loading)

    assert [name for name, check in found.items() if not check.passed] == failed


@given(
    values=st.lists(st.floats(-0.5, 0.5), min_size=0, max_size=200),
    trials=st.integers(1, 10_000),
    trades=st.integers(0, 100),
    p99=st.one_of(st.just(math.nan), st.floats(min_value=0)),
)
def test_any_record_gets_an_answer_that_can_be_kept_as_json(values, trials, trades, p99):
    record = Results(Record(days(len(values)), np.array(values)), trades)

    found = judge(
        record,
        None,
        trials=trials,
        trained=NAMES,
        declared=Declared(NAMES),
        loading=Loading(rows=1, p99=p99),
        latency_limit=1.0,
    )

    kept = json.loads(json.dumps([check.to_json() for check in found], allow_nan=False))
    assert [each["passed"] for each in kept] == [bool(check.passed) for check in found]
    better = kept[2]
    assert better["passed"] == (better["found"] is not None and math.isfinite(better["found"]) and better["found"] >= CONFIDENCE)
