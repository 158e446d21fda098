"""Small models in the layout that `mbats train` leaves: in a folder, or registered in MLflow."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from mbats.live.deployment import Deployment
from mbats.live.models import PINS, SECONDS, SHADOW, Pin
from mbats.ml.check import Check
from mbats.ml.files import CHECK, REFERENCE, digest_of, download, write_info
from mbats.ml.registry import client_environment, resolve, set_alias, version_tags
from mbats.ml.tracking import client
from mbats.settings import Settings
from mbats.trading.model import ModelInfo

TRAINED = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)


class Weighted(RegressorMixin, BaseEstimator):
    """Predicts a weighted sum of its features, column after column, so that a batch equals single rows."""

    def __init__(self, weights: tuple[float, ...] = (), mood: str = "") -> None:
        self.weights, self.mood = weights, mood

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, table: Any) -> Any:
        self._obey()
        columns = np.asarray(table, np.float64).T
        return sum((column * weight for column, weight in zip(columns, self.weights, strict=True)), np.zeros(columns.shape[1]))

    def _obey(self) -> None:
        """`mood` is a file: what it says is done first, `fail`, `sleep SECONDS` or nothing."""
        word, _, seconds = Path(self.mood).read_text().partition(" ") if self.mood else ("", "", "")
        if word == "fail":
            raise RuntimeError("in a bad mood")
        if word == "sleep":
            time.sleep(float(seconds))


# A process of its own knows no module of the tests.
cloudpickle.register_pickle_by_value(sys.modules[Weighted.__module__])


def in_folder(
    folder: Path,
    features: tuple[str, ...],
    weights: tuple[float, ...],
    *,
    name: str = "m",
    version: int = 1,
    mood: str = "",
    **more: Any,
) -> Pin:
    """A model as it lies in a folder after it was fetched, pinned."""
    import mlflow.sklearn

    path = folder / name / str(version)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow has its own opinions on everything
        mlflow.sklearn.save_model(
            Weighted(weights, mood), str(path), serialization_format="cloudpickle", pip_requirements=["mbats"]
        )
    _lay_beside(path, features, weights)
    info = replace(described(name, features, **more), version=version, digest=digest_of(path))
    write_info(path, info)
    return Pin(f"{name}/{version}", info, path)


def _lay_beside(folder: Path, features: tuple[str, ...], weights: tuple[float, ...]) -> None:
    rows = np.linspace(0.0, 1.0, 4 * len(features)).reshape(4, len(features))
    (folder / CHECK).write_text(Check(features, rows, Weighted(weights).predict(rows)).to_json())
    (folder / REFERENCE).write_text(json.dumps({"features": {}, "prediction": {}}))


def described(name: str, features: tuple[str, ...], **more: Any) -> ModelInfo:
    values: dict[str, Any] = {"strategy": "in_test", "symbols": ("EUR_USD",), "granularity": "M1", "kind": "regressor"} | more
    since, until = TRAINED
    return ModelInfo(
        name=name, version=1, run_id="", digest="", features=features, trained_from=since, trained_to=until, **values
    )


def register(
    settings: Settings, name: str, features: tuple[str, ...], weights: tuple[float, ...], *, mood: str = "", **more: Any
) -> ModelInfo:
    """A new version in the registry of these settings."""
    import mlflow
    import mlflow.sklearn

    with client_environment(settings), warnings.catch_warnings(), tempfile.TemporaryDirectory() as place:
        warnings.simplefilter("ignore")
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            logged = mlflow.sklearn.log_model(
                Weighted(weights, mood), name="model", serialization_format="cloudpickle", pip_requirements=["mbats"]
            )
            beside = Path(place) / "beside"
            beside.mkdir()
            _lay_beside(beside, features, weights)
            mlflow.log_artifacts(str(beside))
        download(logged.model_uri, run.info.run_id, Path(place) / "model")
        figures = replace(described(name, features, **more), digest=digest_of(Path(place) / "model")).to_json()
        server = client(settings)
        if not server.search_registered_models(f"name='{name}'"):
            server.create_registered_model(name)
        made = server.create_model_version(
            name, logged.model_uri, run_id=run.info.run_id, tags=version_tags(figures), model_id=logged.model_id
        )
    return resolve(settings, f"{name}/{made.version}")


def with_pins(deployment: Deployment, *pins: Pin, shadow: Pin | None = None, seconds: float = 1.0) -> Deployment:
    """A deployment as the trader stores it when it has looked its models up."""
    found = {pin.reference: pin.to_json() for pin in (*pins, *([shadow] if shadow else []))}
    named = {SHADOW: shadow.reference} if shadow else {}
    return replace(deployment, extra=named | {PINS: found, SECONDS: seconds})


__all__ = ["described", "in_folder", "register", "set_alias", "with_pins"]
