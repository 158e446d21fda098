"""Training end to end: bars in PostgreSQL, features and models in a real MLflow and a real S3 store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sampled import store_sample_bars

from mbats.database import Database
from mbats.errors import ConfigError, DataError, NoBars, PlatformError, UsageError
from mbats.market import Granularity, trading_days
from mbats.ml import registry
from mbats.ml.evaluation import DAILY, Daily, Evaluation
from mbats.ml.splits import walk_forward
from mbats.ml.stability import Reference
from mbats.ml.tracking import client, client_environment
from mbats.ml.training import TrainingSpec, gather, make_samples, train
from mbats.objectstore import ObjectStore
from mbats.settings import Settings, load_settings
from mbats.trading.session import StrategyFailed

FAILS_WITH_A_MODEL = """
import backtrader as bt
from mbats.trading.model import predicted

class Fails(bt.Strategy):
    params = dict(model="")

    def __init__(self):
        self.ma = [bt.ind.SMA(data.close, period=5) / data.close for data in self.datas]
        self.prediction = [predicted(self.p.model, data, ma=self.ma[i]) for i, data in enumerate(self.datas)]

    def next(self):
        if self.p.model and self.prediction[0][0] == self.prediction[0][0]:
            raise RuntimeError("not with a model")
"""


@pytest.fixture(scope="module")
def run(trained_model) -> Iterator[Any]:
    with client_environment(trained_model.settings):
        yield client(trained_model.settings).get_run(trained_model.trained.info.run_id)


def artifact(trained_model, name: str) -> bytes:
    return registry.read_artifact(trained_model.settings, trained_model.trained.info, name)


def paths(trained_model, folder: str | None = None) -> list[str]:
    with client_environment(trained_model.settings):
        found = client(trained_model.settings).list_artifacts(trained_model.trained.info.run_id, folder)
    return sorted(item.path for item in found)


def test_the_version_says_what_it_is(trained_model):
    info = trained_model.trained.info

    assert (info.name, info.version, info.kind) == (trained_model.spec.name, 1, "regressor")
    assert info.features == ("rsi", "percK", "percD", "atr")
    assert (info.strategy, info.symbols, info.granularity) == ("rsi_stochastic", ("EUR_USD", "USD_JPY"), "H1")
    assert f"{info.trained_from:%F %R}" == "2022-01-03 00:00"
    # The last label ends at the open of the last hour, which therefore counts as seen to its end.
    assert f"{info.trained_to:%F %R}" == "2022-05-27 21:00"
    assert registry.resolve(trained_model.settings, f"{info.name}@challenger") == info


def test_the_run_names_everything_that_the_model_was_made_of(trained_model, run):
    said = run.data.params

    assert said["strategy.name"] == "rsi_stochastic"
    assert said["data.symbols"] == "EUR_USD, USD_JPY"
    assert said["data.from"] == "2022-01-03T00:00:00+00:00"
    assert len(said["data.fingerprint"]) == len(said["strategy.fingerprint"]) == 64
    assert said["features.names"] == "rsi, percK, percD, atr"
    assert said["recipe.estimator"] == "sklearn.ensemble.RandomForestRegressor"
    assert (said["recipe.trials"], said["recipe.seed"], said["label.horizon"], said["splits.folds"]) == ("2", "1", "6", "3")
    assert said["param.edge"] == "-1.0"
    assert said["estimator.n_estimators"] == "8"
    assert said["estimator.max_depth"] == str(trained_model.trained.parameters["max_depth"])
    assert said["code.version"].startswith(version("mbats"))
    assert artifact(trained_model, "strategy/rsi_stochastic.py").startswith(b'"""The 2020 strategy')
    assert json.loads(artifact(trained_model, "recipe.json"))["tune"] == {
        "max_depth": {"low": 2, "high": 5, "log": False, "choices": None}
    }


def test_each_trial_is_a_run_inside_the_run(trained_model, run):
    with client_environment(trained_model.settings):
        found = client(trained_model.settings).search_runs(
            [run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'"
        )

    assert {trial.info.run_name for trial in found} == {"trial 1", "trial 2"}
    assert all("max_depth" in trial.data.params and "alignment" in trial.data.metrics for trial in found)
    assert {trial.info.status for trial in found} == {"FINISHED"}


def test_each_fold_is_a_step_of_the_metrics(trained_model, run):
    with client_environment(trained_model.settings):
        steps = client(trained_model.settings).get_metric_history(run.info.run_id, "fold.r2")

    assert [point.step for point in steps] == [0, 1, 2]
    assert run.data.metrics["oos.r2"] == trained_model.trained.scores["r2"]
    assert run.data.metrics["backtest.model.trades"] == trained_model.trained.evaluation.model.trades
    assert "backtest.baseline.sharpe" in run.data.metrics


def test_pictures_are_logged_that_show_something(trained_model):
    pictures = paths(trained_model, "pictures")

    assert pictures == [f"pictures/{name}.png" for name in ("calibration", "equity", "folds", "importance")]
    for picture in pictures:
        content = artifact(trained_model, picture)
        assert content.startswith(b"\x89PNG") and len(content) > 8_000, picture


def test_the_model_has_a_signature_an_example_and_pinned_requirements(trained_model, tmp_path: Path):
    from mlflow.models import Model

    path = registry.fetch(trained_model.settings, trained_model.trained.info, tmp_path)
    model = Model.load(str(path))

    assert [(column.name, column.type.name) for column in model.get_input_schema()] == [
        (name, "double") for name in trained_model.trained.info.features
    ]
    assert model.load_input_example(str(path)).shape == (5, 4)
    pinned = (path / "requirements.txt").read_text().split()
    assert f"scikit-learn=={version('scikit-learn')}" in pinned
    assert f"mbats=={version('mbats')}" in pinned
    assert not (path / "uv.lock").exists()


def test_the_table_of_features_is_in_the_store_under_its_fingerprint(trained_model, run):
    settings = trained_model.settings
    key = f"features/{run.data.params['features.fingerprint']}.parquet"

    table = pd.read_parquet(io.BytesIO(ObjectStore(settings).get(settings.s3_bucket_artifacts, key)))

    assert len(table) == trained_model.trained.samples == int(run.data.params["features.samples"])
    assert list(table)[:6] == ["symbol", "time", "feature:rsi", "feature:percK", "feature:percD", "feature:atr"]
    assert set(table["symbol"]) == {"EUR_USD", "USD_JPY"}
    assert (table["label_end"] > table["time"]).all()
    assert not table.isna().any(axis=None)


def test_the_reference_for_drift_counts_every_sample(trained_model):
    kept = json.loads(artifact(trained_model, "reference.json"))

    assert tuple(kept["features"]) == trained_model.trained.info.features
    for figures in kept["features"].values():
        assert sum(Reference.from_json(figures).counts) == trained_model.trained.samples
    assert sum(Reference.from_json(kept["prediction"]).counts) == trained_model.trained.samples


def test_the_days_out_of_sample_are_logged_with_and_without_the_model(trained_model):
    evaluation = trained_model.trained.evaluation

    daily = Daily.from_parquet(artifact(trained_model, DAILY))

    assert len(daily.day) == evaluation.days == 63
    assert (str(daily.day[0]), str(daily.day[-1])) == (evaluation.since, evaluation.until)
    assert np.prod(1 + daily.model) - 1 == pytest.approx(evaluation.model.total_return)
    assert np.prod(1 + daily.baseline) - 1 == pytest.approx(evaluation.baseline.total_return)
    noted = registry.find(trained_model.settings, f"{trained_model.spec.name}/1").tags
    assert Evaluation.of(noted) == evaluation
    assert json.loads(noted["parameters"])["edge"] == -1.0
    assert noted["trials"] == "2"


def test_a_model_that_lets_everything_pass_trades_as_the_strategy_alone_after_the_first_test_begins(trained_model):
    evaluation = trained_model.trained.evaluation

    # Before, it had no prediction and held; what the other had open then may delay its first entries.
    assert evaluation.model.trades > 100
    assert abs(evaluation.model.trades - evaluation.baseline.trades) <= 3
    assert evaluation.model.spread_cost > 0


def test_a_second_training_writes_no_table_again_and_takes_the_alias(stocked: Settings, small_recipe: Path):
    spec = TrainingSpec(
        strategy="rsi_stochastic", granularity=Granularity.H1, recipe=str(small_recipe), name="twice", symbols=("EUR_USD",)
    )
    store, bucket = ObjectStore(stocked), stocked.s3_bucket_artifacts
    first = train(stocked, spec)
    with client_environment(stocked):
        key = f"features/{client(stocked).get_run(first.info.run_id).data.params['features.fingerprint']}.parquet"
    store.put(bucket, key, b"as it was")

    second = train(stocked, spec)

    assert store.get(bucket, key) == b"as it was"
    assert (first.info.version, second.info.version) == (1, 2)
    assert registry.aliases(stocked, "twice") == {"challenger": 2}
    assert [one.info for one in registry.versions(stocked, "twice")] == [second.info, first.info]
    assert (second.evaluation, second.scores) == (first.evaluation, first.scores)  # the same seed, the same model
    assert second.trials == 0  # as the recipe says


def test_a_classifier_tells_the_difference_of_its_probabilities(stocked: Settings, tmp_path: Path):
    recipe = tmp_path / "either.toml"
    recipe.write_text(
        'estimator = "lightgbm.LGBMClassifier"\n[label]\nkind = "triple_barrier"\nhorizon = 12\n[splits]\nfolds = 2\n'
        "[parameters]\nn_estimators = 5\nverbosity = -1\n"
    )
    spec = TrainingSpec(strategy="rsi_stochastic", granularity=Granularity.H1, recipe=str(recipe), name="either")

    trained = train(stocked, spec)

    assert trained.info.kind == "classifier"
    path = registry.fetch(stocked, trained.info, tmp_path / "models")
    info, model = registry.load(path)
    rows = np.array([[20.0, 10.0, 12.0, 0.001], [80.0, 90.0, 88.0, 0.001]])
    edges = model.predict("EUR_USD", np.array(["2022-06-01", "2022-06-02"], "datetime64[us]"), rows)
    import mlflow.pyfunc

    probability = mlflow.pyfunc.load_model(str(path)).predict(pd.DataFrame(rows, columns=list(info.features)))
    assert probability.shape == (2, 3)
    assert edges.tolist() == (0.0 + probability[:, 2] - probability[:, 0]).tolist()
    assert "brier" in trained.scores
    assert any(line.startswith("lightgbm==") for line in (path / "requirements.txt").read_text().split())


def test_what_fails_on_the_way_leaves_a_failed_run_and_no_version(stocked: Settings, small_recipe: Path, tmp_path: Path):
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "fails.py").write_text(FAILS_WITH_A_MODEL)
    settings = stocked.model_copy(update={"strategies_dir": folder})
    spec = TrainingSpec(strategy="fails", granularity=Granularity.H1, recipe=str(small_recipe), symbols=("EUR_USD",))

    with pytest.raises(StrategyFailed, match="not with a model"):
        train(settings, spec)

    assert "fails" not in registry.names(settings)
    with client_environment(settings):
        server = client(settings)
        [run] = server.search_runs([server.get_experiment_by_name("fails").experiment_id])
    assert run.info.status == "FAILED"


def test_a_strategy_that_names_no_model_is_refused(stocked: Settings, small_recipe: Path):
    spec = TrainingSpec(strategy="sma_cross", granularity=Granularity.H1, recipe=str(small_recipe))

    with pytest.raises(UsageError, match="Strategy 'sma_cross' has no parameter 'model'"):
        train(stocked, spec)


def test_too_few_bars_are_refused_before_anything_is_logged(ml_settings: Settings, secmaster_db: Database, small_recipe: Path):
    store_sample_bars(secmaster_db, ("EUR_USD",), "2022-01-03", "2022-01-04")
    spec = TrainingSpec(strategy="rsi_stochastic", granularity=Granularity.H1, recipe=str(small_recipe), name="too_short")

    with pytest.raises((DataError, UsageError), match="Nothing was trained"):
        train(ml_settings, spec)

    assert "too_short" not in registry.names(ml_settings)


def test_fewer_samples_than_the_recipe_asks_for_are_refused(stocked: Settings, tmp_path: Path, small_recipe: Path):
    recipe = tmp_path / "demanding.toml"
    recipe.write_text(small_recipe.read_text().replace("[splits]", "[splits]\nmin_samples = 1_000_000"))
    spec = TrainingSpec(strategy="rsi_stochastic", granularity=Granularity.H1, recipe=str(recipe), name="too_few")

    with pytest.raises(DataError, match=r"samples of .* are too few: recipe 'demanding' asks for at least 1,000,000"):
        train(stocked, spec)

    assert "too_few" not in registry.names(stocked)


def test_symbols_without_bars_of_the_granularity_are_named_and_nothing_is_trained(stocked: Settings):
    spec = TrainingSpec(strategy="rsi_stochastic", granularity=Granularity.D, symbols=("EUR_USD",))

    with pytest.raises(NoBars, match=r"No D bars of EUR_USD .*nothing was done\."):
        train(stocked, spec)


def test_nothing_is_begun_while_mlflow_is_away_or_refuses_the_login(stocked: Settings, free_port: int):
    spec = TrainingSpec(strategy="rsi_stochastic", granularity=Granularity.H1)
    (stocked.home / "secrets" / "mbats_mlflow_password").write_text("another")
    with pytest.raises(PlatformError, match=f"MLflow at http://127.0.0.1:{free_port} did not"):
        train(stocked.model_copy(update={"mlflow_port": free_port}), spec)
    with pytest.raises(ConfigError, match="refused the login 'mbats'"):
        train(load_settings(home=stocked.home), spec)


def test_the_first_day_out_of_sample_is_that_of_the_first_tested_bar_in_new_york(trained_model):
    material = gather(trained_model.settings, trained_model.spec, lambda *_: None)
    samples = make_samples(material, lambda *_: None)

    first = walk_forward(samples.time, samples.end, material.recipe.splits)[0].test_from

    assert str(trading_days(np.array([first]))[0]) == trained_model.trained.evaluation.since
