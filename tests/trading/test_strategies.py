"""Strategies are files: found by name, loaded alone, told about their parameters in the user's words."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mbats.errors import ConfigError, UnknownParameter, UnknownStrategy, UsageError
from mbats.settings import PROJECT_ROOT
from mbats.trading.strategies import load_strategy, strategy_names

EXAMPLES = PROJECT_ROOT / "strategies"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.py").write_text(
        "import backtrader as bt\n\n\nclass Good(bt.Strategy):\n    '''Does good.'''\n\n"
        "    params = dict(period=14, risk=0.01, ml_serving=True, model=None, label='x')\n"
    )
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    (tmp_path / "two.py").write_text("import backtrader as bt\nclass A(bt.Strategy): ...\nclass B(bt.Strategy): ...\n")
    (tmp_path / "_private.py").write_text("")
    return tmp_path


def test_a_mistake_in_one_file_does_not_stop_another(folder):
    assert strategy_names(folder) == ["broken", "good", "two"]
    assert load_strategy("good", folder).summary == "Does good."


def test_a_wrong_name_is_answered_with_the_nearest_and_all():
    with pytest.raises(
        UnknownStrategy, match=r"No strategy 'sma_corss' in .*strategies\. Did you mean 'sma_cross'\? Known: momentum"
    ):
        load_strategy("sma_corss", EXAMPLES)


def test_a_file_that_cannot_be_loaded_says_why(folder):
    with pytest.raises(ConfigError, match=r"broken\.py: ModuleNotFoundError: No module named 'no_such_module'"):
        load_strategy("broken", folder)


def test_a_file_with_two_strategies_is_refused(folder):
    with pytest.raises(ConfigError, match=r"must define one class .* found A, B"):
        load_strategy("two", folder)


def test_parameters_take_the_type_of_their_default(folder):
    typed = load_strategy("good", folder).parameters({"period": "20", "risk": "1e-3", "ml_serving": "false", "model": "none"})

    assert typed == {"period": 20, "risk": 0.001, "ml_serving": False, "model": None, "label": "x"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"period": "2.5"}, r"'period' of good takes a whole number \(default 14\), but got '2\.5'"),
        ({"risk": "much"}, "'risk' of good takes a number"),
        ({"ml_serving": "perhaps"}, "'ml_serving' of good takes true or false"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(folder, given, message):
    with pytest.raises(UsageError, match=message):
        load_strategy("good", folder).parameters(given)


def test_an_unknown_parameter_is_answered_with_the_nearest(folder):
    with pytest.raises(UnknownParameter, match=r"No parameter 'peroid' in strategy good\. Did you mean 'period'\?"):
        load_strategy("good", folder).parameters({"peroid": "3"})


@pytest.mark.parametrize("name", [*strategy_names(EXAMPLES), "_template"])
def test_every_strategy_shipped_is_documented_and_has_typed_defaults(name):
    loaded = load_strategy(name, EXAMPLES)

    assert loaded.summary.endswith(".")
    assert all(isinstance(value, int | float | str | bool) for value in loaded.defaults().values())


def test_the_list_names_what_cannot_be_loaded_and_lists_the_others(folder):
    environment = {**os.environ, "MBATS_STRATEGIES_DIR": str(folder)}
    command = [sys.executable, "-m", "mbats.cli", "strategies", "--json"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert [strategy["name"] for strategy in json.loads(done.stdout)] == ["good"]
    assert "broken.py: ModuleNotFoundError" in done.stderr
    assert "two.py must define one class" in done.stderr
    assert done.returncode == 1
