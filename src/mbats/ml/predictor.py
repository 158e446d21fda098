"""What predicts for a strategy: a model in this process, or one behind its REST endpoint. Both give the same bits.

A model gets a table with the feature columns as float64 and gives one number a row, or probabilities, of which the edge is made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import requests

from mbats.errors import ConfigError, PlatformError
from mbats.market import Floats, Times
from mbats.ml.check import Check, read_check
from mbats.ml.tracking import quietly
from mbats.trading.model import Floats2D, ModelInfo

CHUNK = 10_000  # rows of one request: about 2 MB with ten features
SECONDS = 30.0  # for one answer; a strategy that must have it sooner sets `seconds`
HEADERS = {"Content-Type": "application/json"}


class PyfuncModel:
    """A model in this process, opened from its files by MLflow. One object serves one thread at a time."""

    def __init__(self, model: Any, info: ModelInfo) -> None:
        self._model = model
        self.info = info

    @classmethod
    def load(cls, path: Path, info: ModelInfo) -> PyfuncModel:
        """Open the files in this folder; asks nobody. Raises ConfigError that says why they cannot be opened."""
        try:
            with quietly():
                import mlflow.pyfunc

                return cls(mlflow.pyfunc.load_model(str(path)), info)
        except Exception as error:  # a pickle may raise anything
            raise ConfigError(
                f"Model {info.reference} in {path} cannot be opened: {type(error).__name__}: {error}. Nothing was started. Its "
                "requirements.txt names the versions that it was trained with; train it again with those that are installed here."
            ) from error

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        """The edge of each row, (n,). `symbol` and `times` are not looked at: a model knows features alone."""
        if self.info.row_by_row and len(features) > 1:
            return np.concatenate([self._edges(features[row : row + 1]) for row in range(len(features))])
        return self._edges(features)

    def _edges(self, features: Floats2D) -> Floats:
        import pandas as pd

        from mbats.ml.estimators import edge_of

        table = pd.DataFrame(np.ascontiguousarray(features, np.float64), columns=list(self.info.features))
        return edge_of(self.info.kind, self._model.predict(table))


class RestModel:
    """A model behind a scoring server of MLflow: POST `/invocations`. `seconds` is the limit for one answer."""

    def __init__(self, url: str, info: ModelInfo, *, seconds: float = SECONDS) -> None:
        self.url = url.rstrip("/")
        self.info = info
        self.seconds = seconds
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is for the internet, not for a service of the platform

    @classmethod
    def open(cls, url: str, path: Path, info: ModelInfo, *, seconds: float = SECONDS) -> RestModel:
        """The endpoint, once it has shown that it serves this model: the rows of `path`/check.json give the recorded outputs.

        Raises PlatformError when it does not answer, ConfigError when another model answers.
        """
        model = cls(url, info, seconds=seconds)
        different = model._differences(read_check(path))
        if different:
            raise ConfigError(
                f"The endpoint {model.url} does not serve model {info.reference}: {different}. Nothing was started. "
                f"Serve it with `mbats serve {info.reference}`, or name the model that is served."
            )
        return model

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        """The edge of each row, (n,). Raises PlatformError when the endpoint does not answer, or with something else."""
        size = 1 if self.info.row_by_row else CHUNK
        parts = [self._ask(features[row : row + size]) for row in range(0, len(features), size)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _differences(self, check: Check) -> str:
        """In words, how the answers to the checked rows differ from what was recorded; empty when they do not."""
        try:
            found = self.predict("", np.empty(0, "datetime64[us]"), check.rows)
        except RefusedRows as error:
            return f"it {error.reason}"
        count = check.different(found)
        return f"{count} of {len(check.rows)} checked rows give another prediction than was recorded in training" if count else ""

    def _ask(self, features: Floats2D) -> Floats:
        from mbats.ml.estimators import edge_of

        # JSON of Python writes a float so that it reads back to the bit.
        body = json.dumps({"dataframe_split": {"columns": list(self.info.features), "data": features.tolist()}})
        try:
            answer = self._session.post(f"{self.url}/invocations", data=body, headers=HEADERS, timeout=self.seconds)
        except requests.RequestException as error:
            raise PlatformError(
                f"The model's endpoint {self.url} did not answer within {self.seconds:g} s: {type(error).__name__}. There is no "
                f"prediction. `mbats serve {self.info.reference}` starts it."
            ) from error
        if answer.status_code != 200:
            raise RefusedRows(self.url, f"answers {answer.status_code}: {' '.join(answer.text.split())[:200]}")
        try:
            edges = edge_of(self.info.kind, np.array(json.loads(answer.content)["predictions"], np.float64))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise RefusedRows(self.url, f"answers with something that is no prediction: {answer.text[:80]!r}") from error
        if len(edges) != len(features):
            raise RefusedRows(self.url, f"answers {len(edges)} predictions for {len(features)} rows")
        return edges


class RefusedRows(PlatformError):
    """The endpoint answered, and not with predictions for these rows."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"The model's endpoint {url} {reason}. There is no prediction. See which model it serves.")
        self.reason = reason


__all__ = ["PyfuncModel", "RefusedRows", "RestModel"]
