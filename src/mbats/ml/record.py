"""One training as a run in MLflow: its parameters, trials, folds and pictures, the model, and the registered version.

Everything here is used inside `tracking.client_environment`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mbats.errors import ConfigError
from mbats.market import Floats
from mbats.ml.check import Check, check_model, choose_rows
from mbats.ml.dataset import Samples
from mbats.ml.evaluation import DAILY, Daily, Evaluation
from mbats.ml.feature_table import FeatureTable
from mbats.ml.files import CHECK, REFERENCE, digest_of, download
from mbats.ml.material import Material
from mbats.ml.out_of_sample import predict_edges
from mbats.ml.predictor import PyfuncModel
from mbats.ml.registry import version_tags
from mbats.ml.requirements import pinned_requirements
from mbats.ml.stability import reference
from mbats.ml.tracking import client, quietly
from mbats.ml.walkforward import FoldResult, Trial, WalkForward
from mbats.settings import PROJECT_ROOT, Settings
from mbats.trading.model import ModelInfo, is_reference
from mbats.trading.session import code_version

EXAMPLE_ROWS = 5
TEXT = 500  # characters of a parameter that MLflow keeps whole in every version


@contextmanager
def training_run(settings: Settings, material: Material) -> Iterator[TrainingRun]:
    """A run of its own in the experiment named like the model; inside `mlflow run`, the run that was begun for it.

    Whatever is raised leaves it marked as failed.
    """
    import mlflow
    from mlflow.environment_variables import MLFLOW_RUN_ID

    if not os.environ.get(MLFLOW_RUN_ID.name):
        mlflow.set_experiment(material.name)
    with mlflow.start_run(run_name=f"{material.strategy.name} {material.recipe.name}") as run:
        yield TrainingRun(settings, run.info.run_id, run.info.experiment_id)


class LoggedModel:
    """A model as MLflow gave it back after it was logged: what is known of it before it has a version."""

    def __init__(self, uri: str, model_id: str, digest: str, features: tuple[str, ...], row_by_row: bool) -> None:
        self.uri = uri
        self.model_id = model_id
        self.digest = digest
        self.features = features
        self.row_by_row = row_by_row


class TrainingRun:
    """The open run. `address` is its page."""

    def __init__(self, settings: Settings, run_id: str, experiment_id: str) -> None:
        self._settings = settings
        self.run_id = run_id
        self.address = f"{settings.mlflow_url}/#/experiments/{experiment_id}/runs/{run_id}"

    def describe(self, material: Material, samples: Samples, table: FeatureTable) -> None:
        """What the model is made of, as parameters; the strategy's text and the recipe as files."""
        import mlflow

        spec, recipe = material.run_spec, material.recipe
        # Not the names that an MLproject gives its parameters: MLflow lets none of them have two values.
        self.parameters("strategy", {"name": spec.strategy, "fingerprint": material.strategy.fingerprint})
        self.parameters("param", own_parameters(material))
        self.parameters(
            "data",
            {
                "symbols": ", ".join(spec.symbols),
                "granularity": spec.granularity,
                "from": spec.start.isoformat(),
                "to": spec.end.isoformat(),
                "fingerprint": material.data.fingerprint(),
                "source": material.data.source,
                "as_of": material.data.as_of.isoformat(),
            },
        )
        self.parameters(
            "features",
            {
                "names": ", ".join(samples.names),
                "samples": len(samples),
                "fingerprint": table.fingerprint,
                "table": table.address,
            },
        )
        self.parameters(
            "recipe", {"name": recipe.name, "estimator": recipe.estimator, "trials": material.trials, "seed": recipe.seed}
        )
        for part in ("label", "splits"):
            self.parameters(part, recipe.to_json()[part])
        self.parameters("costs", {name: value for name, value in spec.costs.items() if name != "instruments"})
        self.parameters("code", {"version": code_version(PROJECT_ROOT)})
        mlflow.log_text(spec.source, f"strategy/{spec.strategy}.py")
        mlflow.log_dict(recipe.to_json(), "recipe.json")

    def parameters(self, group: str, values: Mapping[str, Any]) -> None:
        """Parameters that belong together, as `group.name`."""
        import mlflow

        mlflow.log_params({f"{group}.{name}": str(value)[:TEXT] for name, value in values.items()})

    def trial(self, trial: Trial) -> None:
        """One set of parameters that was tried, as a run inside this one."""
        import mlflow

        with mlflow.start_run(run_name=f"trial {trial.number + 1}", nested=True):
            mlflow.log_params(trial.parameters)
            mlflow.log_metric("alignment", trial.score)

    def fold(self, result: FoldResult) -> None:
        """The scores of one fold: each a metric `fold.NAME`, whose step is the number of the fold."""
        import mlflow

        mlflow.log_metrics({f"fold.{name}": value for name, value in result.scores.items()}, step=result.fold.number)

    def scores(self, scores: Mapping[str, float]) -> None:
        """The scores over all folds together."""
        import mlflow

        mlflow.log_metrics({f"oos.{name}": value for name, value in scores.items()})

    def evaluation(self, evaluation: Evaluation, daily: Daily) -> None:
        """What the strategy did out of sample, with the model and without; the returns of each day as a file."""
        import mlflow

        for name, figures in (("model", evaluation.model), ("baseline", evaluation.baseline)):
            known = {field: getattr(figures, field) for field in figures.__dataclass_fields__}
            mlflow.log_metrics({f"backtest.{name}.{field}": value for field, value in known.items() if value is not None})
        self._file(DAILY, daily.to_parquet())

    def pictures(self, material: Material, samples: Samples, folds: WalkForward, daily: Daily) -> None:
        """What is better seen than read, as PNG under `pictures/`."""
        import mlflow

        from mbats.ml.pictures import draw_all

        with tempfile.TemporaryDirectory(prefix="mbats-pictures-") as folder:
            draw_all(Path(folder), material.recipe, samples, folds, daily)
            mlflow.log_artifacts(folder, "pictures")

    def model(self, material: Material, samples: Samples, estimator: Any) -> LoggedModel:
        """Log the model with its signature, an example and pinned requirements, and fetch it back as whoever uses it will.

        Raises ConfigError when what comes back predicts anything else, bit for bit, than what was trained.
        """
        import pandas as pd

        with quietly():
            import mlflow.sklearn
            from mlflow.models import infer_signature
        kind, ask = material.recipe.kind, "predict_proba" if material.recipe.kind == "classifier" else "predict"
        example = pd.DataFrame(samples.features[:EXAMPLE_ROWS], columns=list(samples.names))
        with quietly():
            logged = mlflow.sklearn.log_model(
                estimator,
                name="model",
                serialization_format="cloudpickle",  # the default knows no estimator but scikit-learn's own
                pyfunc_predict_fn=ask,
                signature=infer_signature(example, getattr(estimator, ask)(example)),
                input_example=example,
                pip_requirements=pinned_requirements(material.recipe.estimator),
            )
        rows = choose_rows(samples.features)
        singly = np.concatenate([predict_edges(kind, estimator, rows[row : row + 1]) for row in range(len(rows))])
        check = Check(samples.names, rows, singly)
        self._file(CHECK, check.to_json().encode())
        edges = predict_edges(kind, estimator, samples.features)
        self._file(REFERENCE, json.dumps(_references(samples, edges), indent=1).encode())
        digest, row_by_row = self._fetched_back(material, logged.model_uri, check)
        return LoggedModel(logged.model_uri, logged.model_id, digest, samples.names, row_by_row)

    def _fetched_back(self, material: Material, uri: str, check: Check) -> tuple[str, bool]:
        with tempfile.TemporaryDirectory(prefix="mbats-model-") as temporary:
            folder = Path(temporary) / "model"
            download(uri, self.run_id, folder)
            digest = digest_of(folder)
            for row_by_row in (False, True):
                info = ModelInfo.from_json(self._figures(material, digest, check.names, row_by_row))
                if not check_model(PyfuncModel.load(folder, info), check, timed=0).different:
                    return digest, row_by_row
        raise ConfigError(
            f"The model '{material.name}' predicts otherwise when it is read back from MLflow than it did in training. It "
            f"was not registered. {material.recipe.estimator} cannot be used here as it is; choose another estimator."
        )

    def register(
        self,
        material: Material,
        logged: LoggedModel,
        *,
        trained: tuple[datetime, datetime],
        notes: Mapping[str, Any],
        alias: str,
    ) -> ModelInfo:
        """Make a version of the logged model, whole with its description, and then let the alias mean it."""
        from mlflow.exceptions import MlflowException

        figures = self._figures(material, logged.digest, logged.features, logged.row_by_row, trained)
        tags = version_tags(figures) | {
            "mbats.recipe": material.recipe.name,
            "mbats.trials": str(material.trials),
            "mbats.parameters": json.dumps(own_parameters(material)),
            "mbats.strategy_fingerprint": material.strategy.fingerprint,
            "mbats.data_fingerprint": material.data.fingerprint(),
            "mbats.code_version": code_version(PROJECT_ROOT),
            **{f"mbats.{name}": json.dumps(value) for name, value in notes.items()},
        }
        server = client(self._settings)
        try:
            server.create_registered_model(material.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = server.create_model_version(
            material.name, logged.uri, run_id=self.run_id, tags=tags, model_id=logged.model_id, await_creation_for=60
        )
        server.set_registered_model_alias(material.name, alias, made.version)
        server.set_tag(self.run_id, "mbats.version", f"{material.name}/{made.version}")
        return ModelInfo.from_json({**figures, "version": int(made.version)})

    def _figures(
        self,
        material: Material,
        digest: str,
        features: tuple[str, ...],
        row_by_row: bool,
        trained: tuple[datetime, datetime] | None = None,
    ) -> dict[str, Any]:
        since, until = trained or (material.run_spec.start, material.run_spec.end)
        info = ModelInfo(
            name=material.name,
            version=0,
            run_id=self.run_id,
            digest=digest,
            features=features,
            kind=material.recipe.kind,
            strategy=material.run_spec.strategy,
            symbols=material.run_spec.symbols,
            granularity=material.run_spec.granularity,
            trained_from=since,
            trained_to=until,
            row_by_row=row_by_row,
        )
        return info.to_json()

    def _file(self, name: str, content: bytes) -> None:
        import mlflow

        with tempfile.TemporaryDirectory(prefix="mbats-artifact-") as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            mlflow.log_artifact(str(path))


def own_parameters(material: Material) -> dict[str, Any]:
    """The strategy's parameters without those that name models: with any model they give the same features."""
    return {name: value for name, value in material.run_spec.parameters.items() if not is_reference(name)}


def _references(samples: Samples, prediction: Floats) -> dict[str, Any]:
    """How features and predictions lay in training, for drift. Predictions are those of this very model.

    Those of the folds come from other functions, of which one may be flat where another is not: that would show as drift.
    """
    features = {name: reference(samples.features[:, number]).to_json() for number, name in enumerate(samples.names)}
    return {"features": features, "prediction": reference(prediction[np.isfinite(prediction)]).to_json()}


__all__ = ["LoggedModel", "TrainingRun", "own_parameters", "training_run"]
