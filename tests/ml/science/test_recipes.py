"""Recipes are read whole or refused with the field; the shipped ones are what they say."""

from __future__ import annotations

import json

import pytest
from ml.science.walks import RECIPES

from mbats.errors import ConfigError
from mbats.ml.estimators import make_base
from mbats.ml.recipe import Recipe, UnknownRecipe, load_recipe, recipe_names

FOREST = 'estimator = "sklearn.ensemble.RandomForestRegressor"\n'


def test_the_shipped_recipes_are_these():
    assert recipe_names(RECIPES) == ["barriers", "direction", "forest", "lightgbm"]
    assert {name: load_recipe(name, RECIPES).kind for name in recipe_names(RECIPES)} == {
        "barriers": "classifier",
        "direction": "classifier",
        "forest": "regressor",
        "lightgbm": "regressor",
    }


@pytest.mark.parametrize("name", recipe_names(RECIPES))
def test_a_shipped_recipe_survives_json_and_its_tuned_parameters_exist(name):
    recipe = load_recipe(name, RECIPES)

    assert Recipe(**json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.name == name
    assert recipe.description
    assert recipe.label.after_costs
    assert recipe.splits.embargo >= recipe.label.horizon
    for parameter, span in recipe.tune.items():
        assert parameter in make_base(recipe).get_params()
        assert span.low <= recipe.parameters[parameter] <= span.high
    json.dumps(recipe.to_json(), allow_nan=False)


def test_a_recipe_of_ones_own_is_read_by_its_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FOREST + "[label]\nhorizon = 3\n[tune]\nmax_depth = { choices = [2, 3] }\n")

    recipe = load_recipe(path, RECIPES)

    assert (recipe.name, recipe.label.horizon, recipe.tune["max_depth"].choices) == ("mine", 3, (2, 3))


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownRecipe, match=r"No recipe 'forrest' in .*Did you mean 'forest'\? Known: barriers, direction"):
        load_recipe("forrest", RECIPES)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no recipe file .*none\.toml"):
        load_recipe(tmp_path / "none.toml", RECIPES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[label]\nhorizon = 3\n", r"estimator: Field required"),
        (FOREST + "[label]\nhorizon = 0\n", r"label\.horizon: .* \(found 0\)"),
        (FOREST + "[label]\nkind = 'backward'\n", r"label\.kind: .* \(found 'backward'\)"),
        (FOREST + "[label]\nhorizn = 3\n", r"label\.horizn: Extra inputs"),
        (FOREST + "[splits]\nkind = 'rolling'\n", r"splits: rolling folds need train_bars"),
        (FOREST + "[tune]\nmax_depth = { low = 5, high = 2 }\n", r"tune\.max_depth: a range needs low and high"),
        (FOREST + "[tune]\nx = { low = 0.0, high = 2, log = true }\n", r"a logarithmic range begins above zero"),
        (FOREST + "[tune]\nx = { low = 1, choices = [1] }\n", r"choices stand alone"),
        (FOREST + "[tune]\nx = { choices = [] }\n", r"choices stand alone"),
        (FOREST + "seed = -1\n", r"seed: .* \(found -1\)"),
        ("estimator = \n", r"cannot be read"),
        (b"\xff\xfe", r"cannot be read"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_with_its_place(text, said, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ConfigError, match=said) as error:
        load_recipe(path, RECIPES)

    assert str(path) in str(error.value)
    assert "Nothing was trained" in str(error.value)
