"""Shrinkage, seeds, batches and kinds of estimators."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from ml.science.walks import RECIPES, planted, random_walk, samples_of, shipped
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression

from mbats.errors import ConfigError
from mbats.ml.estimators import CLASSES, ShrunkClassifier, ShrunkRegressor, edge_of, make_base, make_estimator, shrinkage
from mbats.ml.labels import label
from mbats.ml.recipe import LabelSpec, Recipe, recipe_names
from mbats.ml.walkforward import fit_model


def fitted(name: str):
    """A shipped recipe, few trees, fitted where there is something to find, and the features."""
    recipe = shipped(name, 2)
    samples = planted(1500, 3, slope=3e-4).samples(recipe)
    return fit_model(samples, recipe, {"n_estimators": 20}), samples


@pytest.mark.parametrize("name", recipe_names(RECIPES))
def test_a_batch_predicts_what_single_rows_do_bit_for_bit(name):
    model, samples = fitted(name)
    say = model.predict if isinstance(model, ShrunkRegressor) else model.predict_proba

    batch = say(samples.features[:200])

    singles = np.concatenate([say(row[None, :]) for row in samples.features[:200]])
    assert batch.tobytes() == singles.tobytes()
    assert len(np.unique(batch)) > 10


@pytest.mark.parametrize("name", recipe_names(RECIPES))
def test_the_same_recipe_makes_the_same_model_and_survives_pickling(name):
    model, samples = fitted(name)
    again, _ = fitted(name)

    thawed = pickle.loads(pickle.dumps(model))

    assert model.slope_ > 0.5
    for other in (again, thawed):
        np.testing.assert_array_equal(other.predict(samples.features), model.predict(samples.features))


@pytest.mark.parametrize("name", recipe_names(RECIPES))
def test_a_row_with_a_feature_that_is_no_number_has_no_prediction(name):
    model, samples = fitted(name)
    rows = samples.features[:3].copy()
    rows[0, 1], rows[2, 0] = np.nan, np.inf

    assert np.isnan(model.expected(rows)).tolist() == [True, False, True]
    if isinstance(model, ShrunkClassifier):
        assert np.isnan(model.predict_proba(rows)).all(axis=1).tolist() == [True, False, True]
        with pytest.raises(ValueError, match="not a number"):
            model.predict(rows)
    else:
        assert np.isnan(model.predict(rows)).tolist() == [True, False, True]


def test_features_of_another_number_are_refused():
    model, samples = fitted("lightgbm")
    with pytest.raises(ValueError, match=r"shape \(5, 3\), expected \(rows, 4\)"):
        model.predict(samples.features[:5, :3])


def test_predictions_that_mean_nothing_shrink_to_nothing_and_good_ones_stay():
    generator = np.random.default_rng(1)
    said, luck = generator.normal(size=2000), generator.normal(size=2000)

    assert shrinkage(said, luck)[0] == 0
    assert shrinkage(said, said + luck)[0] == pytest.approx(1, abs=0.05)
    assert shrinkage(2 * said, said + luck)[0] == pytest.approx(0.5, abs=0.03)
    assert shrinkage(said, 5 * said + luck)[0] == 1  # never more than was said
    assert shrinkage(said, -said + luck)[0] == 0  # never the other way round
    assert shrinkage(np.zeros(9), luck[:9]) == (0.0, 0.0)
    assert shrinkage(said, said) == (1.0, np.inf)


def test_overlapping_labels_do_not_make_luck_look_sure():
    # The same 40 draws, each repeated 50 times, are not 2,000 independent rows.
    generator = np.random.default_rng(4)
    found = [shrinkage(np.repeat(generator.normal(size=40), 50), np.repeat(generator.normal(size=40), 50))[1] for _ in range(200)]

    assert np.std(found) < 1.5  # taken as independent it would be 7


def test_a_regressor_says_what_is_left_after_the_usual_costs():
    generator = np.random.default_rng(2)
    features = generator.normal(size=(3000, 2))
    value = features[:, 0]
    costs = np.full(3000, 0.25)

    model = ShrunkRegressor(LinearRegression()).fit(features, value, costs=costs)

    rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.2, 0.0], [-0.2, 0.0]])
    np.testing.assert_allclose(model.expected(rows), [1, -1, 0.2, -0.2], atol=1e-9)
    np.testing.assert_allclose(model.predict(rows), [0.75, -0.75, 0, 0], atol=1e-9)
    assert model.score(features, value) == pytest.approx(1)


def test_a_classifier_whose_findings_did_not_last_gives_up_and_down_alike():
    features = np.random.default_rng(2).normal(size=(600, 2))
    value = np.where(np.abs(features[:, 1]) < 0.3, 0.0, np.sign(features[:, 0]))
    value[300:] *= -1  # what held in the first half is reversed in the second

    model = ShrunkClassifier(LogisticRegression()).fit(features, value)

    probability = model.predict_proba(features)
    assert model.slope_ == 0
    np.testing.assert_allclose(probability[:, 0], probability[:, 2])
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert edge_of("classifier", probability).tolist() == [0.0] * 600


@pytest.mark.parametrize("classes", [(-1.0, 1.0), (0.0, 1.0), (0.0,), (1.0,)])
def test_a_classifier_has_three_columns_whatever_it_was_shown(classes):
    generator = np.random.default_rng(2)
    features = generator.normal(size=(600, 2))
    value = np.where(features[:, 0] > 0, classes[-1], classes[0])

    probability = ShrunkClassifier(LogisticRegression()).fit(features, value).predict_proba(features)

    assert probability.shape == (600, 3)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert (probability[:, [i for i, name in enumerate(CLASSES) if name == 0]] > 0.9).all() == (classes == (0.0,))


def test_the_edge_is_up_less_down_by_the_names_of_the_columns():
    assert edge_of("classifier", [[0.2, 0.3, 0.5]]).tolist() == [0.5 - 0.2]
    assert edge_of("classifier", [[0.6, 0.4]], [1, -1]).tolist() == [0.6 - 0.4]
    assert edge_of("classifier", [[1.0]], [0]).tolist() == [0.0]
    assert edge_of("regressor", [[0.1], [0.2]]).tolist() == [0.1, 0.2]
    assert edge_of("regressor", []).tolist() == []


def test_an_estimator_that_is_not_of_trees_is_scaled():
    recipe = Recipe(name="line", estimator="sklearn.linear_model.Ridge", seed=4)

    assert [name for name, _ in make_base(recipe).steps] == ["standardscaler", "ridge"]
    assert make_base(recipe).steps[-1][1].random_state == 4


def test_overrides_seed_and_one_core_reach_the_estimator():
    recipe = shipped("forest", 2)
    base = clone(make_estimator(recipe, {"max_depth": 3})).estimator

    assert (base.max_depth, base.random_state, base.n_jobs, base.n_estimators) == (3, recipe.seed, 1, 100)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"estimator": "sklearn.ensemble.RandomForrest"}, "there is no estimator sklearn.ensemble.RandomForrest here"),
        ({"estimator": "no.such.module"}, "there is no estimator no.such.module here"),
        ({"estimator": "word"}, "there is no estimator word here"),
        ({"parameters": {"depth": 3}}, "cannot be made with {'depth': 3}"),
        ({"estimator": "sklearn.linear_model.LogisticRegression"}, "the label forward_return needs a regressor"),
        ({"estimator": "math.sqrt"}, "cannot be made with"),
    ],
)
def test_an_estimator_that_cannot_be_made_is_said(changed, said):
    recipe = Recipe(**{"name": "mine", "estimator": "sklearn.ensemble.RandomForestRegressor"} | changed)
    with pytest.raises(ConfigError, match=f"Recipe mine: .*{said}"):
        make_estimator(recipe)


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("sklearn.ensemble.RandomForestRegressor", {"max_depth": -3}),
        ("lightgbm.LGBMRegressor", {"num_leaves": 1, "verbosity": -1}),
    ],
)
def test_an_estimator_that_cannot_be_fitted_is_said(estimator, parameters):
    bars = random_walk(300, 1)
    samples = samples_of(bars, label(bars, LabelSpec(horizon=3)))
    recipe = Recipe(name="mine", estimator=estimator, parameters=parameters)
    with pytest.raises(ConfigError, match=r"Recipe mine: .* could not be fitted on 276 rows of 4 features"):
        fit_model(samples, recipe)
