"""References to versions, and versions to files: from a real registry, whole, and then without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbats.errors import ConfigError, PlatformError, UsageError
from mbats.ml import registry
from mbats.ml.check import Check, check_model, read_check
from mbats.ml.files import CHECK, INFO, digest_of
from mbats.ml.registry import Reference, UnknownModel, parse_reference
from mbats.ml.tracking import client, client_environment
from mbats.ml.training import gather
from mbats.settings import Settings
from mbats.trading.model import ModelInfo
from mbats.trading.session import run_backtest


def in_a_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process without settings but those given."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MBATS_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-P", "-m", *arguments], env=bare | environment, capture_output=True, text=True, timeout=120
    )


def without_mlflow(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"mlflow_port": port})


@pytest.fixture
def mine(trained_model, ml_settings: Settings) -> tuple[Settings, ModelInfo]:
    """A model of this test's own name, made of the session's: version 1 without an alias."""
    info, name = trained_model.trained.info, f"mine_{os.urandom(4).hex()}"
    with client_environment(ml_settings):
        server = client(ml_settings)
        source = server.get_model_version(info.name, str(info.version))
        server.create_registered_model(name)
        server.create_model_version(
            name, source.source, run_id=info.run_id, tags=source.tags, model_id=source.source.removeprefix("models:/")
        )
    return ml_settings, replace(info, name=name)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rsi@champion", Reference("rsi", "champion", None, False)),
        ("rsi/12", Reference("rsi", None, 12, False)),
        ("rest:a-b.c/1", Reference("a-b.c", None, 1, True)),
    ],
)
def test_a_reference_names_an_alias_or_a_version(text: str, meant: Reference):
    assert parse_reference(text) == meant


@pytest.mark.parametrize("text", ["", "rsi", "rsi@", "rsi/0", "rsi/x", "../rsi/1", "rsi@champion/1", "http:rsi/1", "rsi /1"])
def test_anything_else_is_refused_with_how_it_is_written(text: str):
    with pytest.raises(UsageError, match="write NAME@ALIAS such as rsi_stochastic@champion"):
        parse_reference(text)


def test_alias_and_version_resolve_to_the_same_version(mine):
    settings, info = mine
    registry.set_alias(settings, info.name, "champion", 1)

    assert registry.resolve(settings, f"{info.name}@champion") == registry.resolve(settings, f"rest:{info.name}/1") == info
    assert registry.aliases(settings, info.name) == {"champion": 1}
    assert registry.find(settings, f"{info.name}/1").aliases == ("champion",)
    assert info.name in registry.names(settings)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("nobody@champion", "No model 'nobody' in MLflow's registry. "),
        ("of_the_session@champion", "No model 'of_the_session@champion' .*Known: .*of_the_session@challenger"),
        ("of_the_session/99", "No model 'of_the_session/99' .*Known: of_the_session/1"),
    ],
)
def test_what_is_not_there_is_said_with_what_there_is(trained_model, reference: str, sentence: str):
    with pytest.raises(UnknownModel, match=sentence):
        registry.resolve(trained_model.settings, reference)


def test_an_alias_cannot_be_given_to_a_version_that_is_not_there(mine):
    settings, info = mine

    with pytest.raises(UnknownModel, match=f"Known: {info.name}/1"):
        registry.set_alias(settings, info.name, "champion", 2)


def test_a_version_that_somebody_else_registered_is_refused_and_not_listed(mine):
    settings, info = mine
    with client_environment(settings):
        first = client(settings).get_model_version(info.name, "1")
        client(settings).create_model_version(
            info.name, first.source, run_id=info.run_id, model_id=first.source.removeprefix("models:/")
        )

    with pytest.raises(ConfigError, match=f"Version {info.name}/2 does not say what it is: its tag 'digest' is missing"):
        registry.resolve(settings, f"{info.name}/2")
    assert [one.info.version for one in registry.versions(settings, info.name)] == [1]


def test_a_fetched_model_is_kept_and_opened_while_mlflow_is_away(trained_model, tmp_path: Path, free_port: int):
    info = trained_model.trained.info

    path = registry.fetch(trained_model.settings, info, tmp_path)
    again = registry.fetch(without_mlflow(trained_model.settings, free_port), info, tmp_path)

    assert path == again == tmp_path / info.name / "1"
    assert digest_of(path) == info.digest
    assert sorted(file.name for file in path.parent.iterdir()) == ["1"]  # nothing is left of the fetching
    kept, model = registry.load(path)
    assert kept == info
    assert check_model(model, read_check(path), timed=0).different == 0


def test_the_check_is_of_single_rows_and_notices_the_last_bit(trained_model, tmp_path: Path):
    path = registry.fetch(trained_model.settings, trained_model.trained.info, tmp_path)
    _, model = registry.load(path)
    check = read_check(path)
    assert check.rows.shape == (32, 4) and len(np.unique(check.edges)) > 1

    other = Check(check.names, check.rows, np.nextafter(check.edges, 1.0))

    assert check_model(model, other, timed=0).different == 32


def test_what_was_changed_on_the_disk_is_fetched_again(trained_model, tmp_path: Path):
    info = trained_model.trained.info
    path = registry.fetch(trained_model.settings, info, tmp_path)
    (path / CHECK).write_text("{}")

    assert registry.fetch(trained_model.settings, info, tmp_path) == path

    assert digest_of(path) == info.digest
    (path / INFO).unlink()  # as a kill might leave it, if it were not moved there whole
    registry.fetch(trained_model.settings, info, tmp_path)
    assert registry.load(path)[0] == info


def test_files_that_are_not_those_of_the_version_are_thrown_away(mine, tmp_path: Path):
    settings, info = mine
    with client_environment(settings):
        client(settings).set_model_version_tag(info.name, "1", "mbats.digest", json.dumps("0" * 64))
    changed = registry.resolve(settings, f"{info.name}/1")

    with pytest.raises(ConfigError, match=r"their digest is .*, expected was 000000000000. They were thrown away"):
        registry.fetch(settings, changed, tmp_path)
    with pytest.raises(ConfigError, match="is not what it was"):
        registry.fetch(settings, info, tmp_path)

    assert list((tmp_path / info.name).iterdir()) == []


def test_a_dead_mlflow_is_said_in_words(trained_model, tmp_path: Path, free_port: int):
    settings = without_mlflow(trained_model.settings, free_port)

    with pytest.raises(PlatformError, match=r"MLflow at http://127.0.0.1:\d+ did not do what it was asked: .*starts the"):
        registry.resolve(settings, "of_the_session@challenger")
    with pytest.raises(PlatformError):
        registry.fetch(settings, trained_model.trained.info, tmp_path)


def test_the_password_stands_in_the_environment_only_while_it_is_needed(trained_model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")

    with client_environment(trained_model.settings):
        inside = os.environ["MLFLOW_TRACKING_URI"], "MLFLOW_TRACKING_PASSWORD" in os.environ

    assert inside == (trained_model.settings.mlflow_url, True)
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://elsewhere"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


def test_a_model_that_cannot_be_opened_is_said_with_its_folder(trained_model, tmp_path: Path):
    path = registry.fetch(trained_model.settings, trained_model.trained.info, tmp_path)
    for pickle in path.glob("*.pkl"):
        pickle.write_bytes(b"no pickle")

    with pytest.raises(ConfigError, match=f"Model of_the_session/1 in {path} cannot be opened"):
        registry.load(path)
    shutil.rmtree(path)
    with pytest.raises(ConfigError, match=f"No model can be read from {path}"):
        registry.load(path)


def test_a_process_without_settings_opens_and_times_it(trained_model, tmp_path: Path):
    path = registry.fetch(trained_model.settings, trained_model.trained.info, tmp_path)

    done = in_a_process("mbats.ml.check", str(path))

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["rows"], answer["different"]) == (32, 0)
    assert 0 < answer["p50"] <= answer["p99"]
    bad = in_a_process("mbats.ml.check", str(tmp_path / "nothing"))
    assert bad.returncode == 2
    assert "No model can be read" in json.loads(bad.stdout)["error"]


def test_a_process_fetches_for_one_that_knows_no_mlflow(trained_model, ml_settings: Settings, tmp_path: Path, free_port: int):
    info = trained_model.trained.info
    arguments = ("mbats.ml.fetch", "of_the_session@challenger", str(tmp_path))

    done = in_a_process(*arguments, MBATS_HOME=str(ml_settings.home))
    unknown = in_a_process("mbats.ml.fetch", "nobody@champion", str(tmp_path), MBATS_HOME=str(ml_settings.home))
    away = in_a_process(*arguments, MBATS_HOME=str(ml_settings.home), MBATS_MLFLOW_PORT=str(free_port))
    unserved = in_a_process(
        "mbats.ml.fetch",
        "rest:of_the_session/1",
        str(tmp_path),
        MBATS_HOME=str(ml_settings.home),
        MBATS_SERVING_PORT=str(free_port),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert ModelInfo.from_json(answer["info"]) == info
    assert answer["path"] == str(tmp_path / "of_the_session" / "1")
    assert (unknown.returncode, away.returncode, unserved.returncode) == (2, 2, 2)
    assert json.loads(unknown.stdout)["error"].startswith("No model 'nobody'")
    assert json.loads(unknown.stdout)["passing"] is False
    assert json.loads(away.stdout)["error"].startswith(f"MLflow at http://127.0.0.1:{free_port} did not")
    assert json.loads(away.stdout)["passing"] is True
    assert "did not answer" in json.loads(unserved.stdout)["error"]


def test_no_references_ask_nobody(trained_model, free_port: int):
    assert registry.open_models(without_mlflow(trained_model.settings, free_port), []).models == {}


def test_a_backtest_with_the_model_is_pinned_and_marked_in_sample(trained_model, tmp_path: Path):
    reference = "of_the_session@challenger"
    material = gather(trained_model.settings, trained_model.spec, lambda *_: None)
    spec = replace(material.run_spec, parameters=material.run_spec.parameters | {"model": reference})

    models = registry.open_models(trained_model.settings, [reference], cache=tmp_path)
    result = run_backtest(spec, material.strategy, material.data, models=models)

    assert result.model_version == "of_the_session/1"
    assert result.in_sample is True
    assert result.models[reference] == trained_model.trained.info.to_json()
    assert len(result.trades) > trained_model.trained.evaluation.model.trades
