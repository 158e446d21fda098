"""What the gate looks at, gathered: results out of sample from MLflow, the strategy's file, a process that loads the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mbats.errors import MbatsError
from mbats.market import Granularity
from mbats.ml import registry
from mbats.ml.evaluation import DAILY, Daily, Evaluation
from mbats.ml.gate import Declared, Loading, Record, Results
from mbats.ml.recent import recent_features, span
from mbats.ml.registry import Version
from mbats.settings import Settings
from mbats.trading.strategies import load_strategy

LOAD_SECONDS = 120.0  # for a model of any size on a busy machine; how quickly it predicts is measured inside
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # as for a strategy's process


def results_of(settings: Settings, version: Version) -> Results | None:
    """What the version did out of sample, as its training recorded it; None when it recorded nothing.

    Each day was predicted by a model that was trained before it, so no day that any of them was trained on counts.
    """
    text = version.tags.get("out_of_sample")
    if not text:
        return None
    daily = Daily.from_parquet(registry.read_artifact(settings, version.info, DAILY))
    return Results(Record(daily.day, daily.model), Evaluation.from_json(json.loads(text)).model.trades)


def declared_now(settings: Settings, version: Version) -> Declared:
    """The features that the strategy's file declares now, on the newest bars of the training; or why it declares none."""
    info = version.info
    try:
        strategy = load_strategy(info.strategy, settings.strategies_dir)
        since = info.trained_to - span(Granularity(info.granularity), 50)
        names = recent_features(settings, version, since, info.trained_to).names
    except MbatsError as error:
        return Declared(error=f"The features of strategy '{info.strategy}' cannot be read: {error}")
    return Declared(names, changed=strategy.fingerprint != version.tags.get("strategy_fingerprint"))


def try_loading(settings: Settings, version: Version) -> Loading:
    """Fetch the version and load it in a process of its own, as a strategy's is: no settings, no secrets, one thread.

    Raises PlatformError when MLflow is away; whatever the files are to blame for is the answer.
    """
    try:
        path = registry.fetch(settings, version.info, settings.home / "models")
    except MbatsError as error:
        if error.passing:
            raise
        return Loading(error=str(error))
    answer = _asked(path)
    if "error" in answer:
        return Loading(error=str(answer["error"]))
    return Loading(rows=answer["rows"], different=answer["different"], p99=answer["p99"])


def _asked(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "mbats.ml.check", str(path)]
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MBATS_", "MLFLOW_"))}
    try:
        done = subprocess.run(
            command,
            env=bare | ONE_THREAD,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it was not done in {LOAD_SECONDS:g} s."}
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"error": f"the process ended with {done.returncode}: {said}"}
    return answer if isinstance(answer, dict) else {"error": f"the process said {answer!r}"}


__all__ = ["declared_now", "results_of", "try_loading"]
