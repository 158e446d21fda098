"""`mbats train`, `mbats models` and `mlflow run` as a user types them, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mbats.cli.train import scores_in_words
from mbats.ml import registry
from mbats.ml.tracking import client, client_environment
from mbats.settings import PROJECT_ROOT, Settings

SCRIPTS = Path(sys.executable).parent


def mbats(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MBATS_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-P", "-m", "mbats.cli", *arguments],
        env=bare | {"MBATS_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_train_prints_what_the_model_is_worth_and_models_lists_it(stocked: Settings, small_recipe: Path):
    command = ("train", "rsi_stochastic", "--symbols", "EUR_USD", "--from", "2022-01-10", "--to", "2022-05-01", "--trials", "1")
    done = mbats(stocked, *command, "--recipe", str(small_recipe), "--name", "by_hand", "--param", "edge=-1")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Model by_hand/1, out of sample after costs" in done.stdout
    assert "with the model" in done.stdout and "Sharpe ratio" in done.stdout
    assert "Its predictions out of sample: R² " in done.stdout and "oftener than the constant guess" in done.stdout
    assert "--param model=by_hand@challenger" in done.stdout
    info = registry.resolve(stocked, "by_hand@challenger")
    assert (f"{info.trained_from:%F}", info.symbols) == ("2022-01-10", ("EUR_USD",))

    listed, as_json = mbats(stocked, "models", "by_hand"), mbats(stocked, "models", "--json")

    assert listed.returncode == 0, listed.stderr
    words = " ".join(listed.stdout.split())
    assert "by_hand/1" in words and "challenger" in words and "without the" in words and "2022-01-10" in words
    assert "Predictions: R² " in words
    [mine] = [version for version in json.loads(as_json.stdout) if version["name"] == "by_hand"]
    assert mine["aliases"] == ["challenger"]
    assert mine["out_of_sample"]["baseline"]["trades"] > 0
    assert mine["scores"]["rows"] > 0


def test_predictions_that_take_no_side_are_said_to_be_none():
    assert scores_in_words({"r2": 0.0, "accuracy_edge": 0.0, "sides_taken": 0.0}) == "none; it found nothing and takes no side"
    assert scores_in_words({"r2": -0.001, "sides_taken": 0.0}) == "R² -0.0010 against a forecast of zero"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "rsi_stochastik"), "No strategy 'rsi_stochastik'"),
        (("train", "rsi_stochastic", "--recipe", "forrest"), "No recipe 'forrest' .*Did you mean 'forest'"),
        (("train", "rsi_stochastic", "--from", "2022-02-01", "--to", "2022-01-01"), "is not before --to"),
        (("train", "rsi_stochastic", "--name", "a/b"), "'a/b' cannot name a model"),
        (("train", "rsi_stochastic", "--granularity", "M1"), "No M1 bars are stored; nothing was trained"),
        (("train", "sma_cross"), "has no parameter 'model'"),
        (("models", "nobody"), "No model 'nobody' in MLflow's registry"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(ml_settings: Settings, arguments: tuple[str, ...], sentence: str):
    import re

    done = mbats(ml_settings, *arguments)

    assert done.returncode == 2, done.stdout
    assert re.search(sentence, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_the_project_runs_with_mlflow_run_in_the_run_that_was_begun_for_it(stocked: Settings, small_recipe: Path, tmp_path: Path):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MBATS_", "MLFLOW_"))}
    environment = inherited | {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "MBATS_HOME": str(stocked.home),
        "MLFLOW_TRACKING_URI": stocked.mlflow_url,
        "MLFLOW_TRACKING_USERNAME": stocked.admin_user,
        "MLFLOW_TRACKING_PASSWORD": stocked.required_secret("mlflow_password").get_secret_value(),
    }
    given = {"strategy": "rsi_stochastic", "symbols": "EUR_USD", "recipe": small_recipe, "name": "as_project"}
    parameters = [part for name, value in given.items() for part in ("-P", f"{name}={value}")]

    done = subprocess.run(
        [str(SCRIPTS / "mlflow"), "run", str(PROJECT_ROOT / "mlflow"), "-e", "train", *parameters, "--env-manager", "local"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    info = registry.resolve(stocked, "as_project@challenger")
    with client_environment(stocked):
        run = client(stocked).get_run(info.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.project.entryPoint"] == "train"
    assert run.data.params["symbols"] == run.data.params["data.symbols"] == "EUR_USD"
