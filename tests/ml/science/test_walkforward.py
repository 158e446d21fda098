"""Samples of several symbols, folds with their models, and a search that never sees what is reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ml.science.walks import NAMES, Features, oscillators, planted, random_walk, shipped

from mbats.errors import DataError, UsageError
from mbats.ml.dataset import pool
from mbats.ml.labels import label
from mbats.ml.recipe import LabelSpec, Range
from mbats.ml.walkforward import run_folds, tune

SPEC = LabelSpec(horizon=3)


def two_symbols(count: int = 200):
    bars = {"USD_JPY": random_walk(count, 1), "EUR_USD": random_walk(count, 2)[5:]}
    return {s: oscillators(b) for s, b in bars.items()}, {s: label(b, SPEC) for s, b in bars.items()}


def test_samples_are_in_order_of_time_then_symbol_and_whole():
    features, labels = two_symbols()

    samples = pool(features, labels, NAMES)

    order = list(zip(samples.time.tolist(), samples.symbol.tolist(), strict=True))
    assert order == sorted(set(order))
    assert len(samples) == (200 - 20 - 4) + (195 - 20 - 4)
    assert np.isfinite(samples.features).all()
    assert np.isfinite(samples.value).all()
    for symbol in features:
        rows = samples[samples.symbol == symbol]
        at = np.searchsorted(labels[symbol].time, rows.time)
        np.testing.assert_array_equal(rows.value, labels[symbol].value[at])
        np.testing.assert_array_equal(rows.end, labels[symbol].end[at])
        np.testing.assert_array_equal(rows.cost, labels[symbol].cost[at])
        np.testing.assert_array_equal(rows.features, features[symbol].matrix[at])


def test_features_of_other_bars_are_refused():
    features, labels = two_symbols()
    features["EUR_USD"] = Features(features["EUR_USD"].times + np.timedelta64(1, "m"), features["EUR_USD"].matrix)
    with pytest.raises(DataError, match="EUR_USD: there are features at 2020-01-06T05:01:00"):
        pool(features, labels, NAMES)


def test_features_of_another_number_than_names_are_refused():
    features, labels = two_symbols()
    with pytest.raises(DataError, match=r"shape \(195, 4\), expected \(195, 2\) for rsi, percK"):
        pool(features, labels, NAMES[:2])


@pytest.mark.parametrize("count", [0, 1, 22])
def test_no_row_with_features_and_label_is_refused(count):
    bars = random_walk(100, 1)[:count]
    with pytest.raises(DataError, match=f"No bar has both features and a label .bars: EUR_USD {count}"):
        pool({"EUR_USD": Features(bars.time, np.full((count, 4), np.nan))}, {"EUR_USD": label(bars, SPEC)}, NAMES)
    with pytest.raises(DataError, match="no symbol"):
        pool({}, {}, NAMES)


@pytest.mark.parametrize("name", ["lightgbm", "direction"])
def test_each_fold_is_told_and_predicts_its_own_test(name):
    recipe = shipped(name, 3)
    samples = planted(900, 3, slope=2e-4, spread=2e-5).samples(recipe)
    told = []

    found = run_folds(samples, recipe, {"n_estimators": 10}, on_fold=told.append)

    assert tuple(told) == found.folds
    tested = np.concatenate([result.fold.test for result in found.folds])
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found.prediction)), tested)
    for result in found.folds:
        rows = samples.features[result.fold.test]
        np.testing.assert_array_equal(result.estimator.expected(rows), found.expected[result.fold.test])
        if name == "direction":
            assert result.prediction.tobytes() == result.expected.tobytes()
        else:
            assert (np.abs(result.prediction) < np.abs(result.expected)).any()
            assert (np.abs(result.prediction) <= np.abs(result.expected)).all()
        assert result.estimator.estimator_.n_estimators == 10
        assert set(result.scores) >= {"rows", "r2", "accuracy_edge", "sides_taken"}
    assert found.scores["rows"] == len(tested)
    assert ("brier" in found.scores) == (name == "direction")
    assert ("mean_after_costs" in found.scores) == (name == "lightgbm")


def test_the_search_sees_nothing_of_what_is_reported():
    recipe = shipped("lightgbm", 2)
    samples = planted(800, 3, slope=2e-4).samples(recipe)
    first = run_folds(samples, recipe, {"n_estimators": 2}).folds[0].fold.test[0]
    later = np.arange(len(samples)) >= first
    changed = replace(
        samples,
        value=np.where(later, 9.9, samples.value),
        features=np.where(later[:, None], -9.9, samples.features),
    )
    known, other = [], []

    best = tune(samples, recipe, 4, known.append)
    again = tune(changed, recipe, 4, other.append)

    assert known == other
    assert best == again == max(known, key=lambda trial: trial.score).parameters
    assert [trial.number for trial in known] == [0, 1, 2, 3]
    assert len({trial.score for trial in known}) > 1
    assert all(set(trial.parameters) == set(recipe.tune) for trial in known)


@pytest.mark.parametrize("name", ["lightgbm", "direction"])
def test_the_search_finds_what_works(name):
    # An estimator with one round learns nothing to speak of; every choice but one has it.
    spans = {"learning_rate": Range(choices=(1e-6, 0.1)), "min_child_samples": Range(choices=(20, 100_000))}
    recipe = shipped(name, 2).model_copy(update={"tune": spans})

    best = tune(planted(1200, 3, slope=3e-4).samples(recipe), recipe, 12)

    assert best["min_child_samples"] == 20


def test_without_trials_nothing_is_tried():
    recipe = shipped("lightgbm", 2)
    samples = planted(600, 3, slope=2e-4).samples(recipe)

    assert tune(samples, recipe, 0, pytest.fail) == {}
    assert tune(samples, recipe.model_copy(update={"tune": {}}), 5, pytest.fail) == {}


def test_too_few_bars_to_search_on_are_refused_with_the_number():
    recipe = shipped("lightgbm", 2)
    with pytest.raises(UsageError, match="bars before the first test are too few to try parameters on"):
        tune(planted(120, 3, slope=2e-4).samples(recipe), recipe, 3)
