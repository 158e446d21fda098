"""A registered model behind a REST endpoint: MLflow's scoring server over files that were fetched before it starts.

The registry is asked once. The server itself holds no password and asks nobody, so that it goes on while MLflow is away; a
promotion shows when it is started anew.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mbats.errors import UsageError
from mbats.settings import Settings

URI = "models:/"  # as MLflow writes references; a model that another program registered has no other


@dataclass(frozen=True, slots=True)
class Served:
    """What will be served: the version in words, and the folder of its files."""

    title: str
    path: Path


def prepare(settings: Settings, reference: str) -> Served:
    """Resolve the reference and fetch the files. `NAME@ALIAS`, `NAME/VERSION`, or any of the registry's as `models:/…`.

    Raises UsageError for a reference that is none or is unknown, PlatformError when MLflow is away.
    """
    from mbats.ml import registry

    if not reference:
        raise UsageError(
            "No model to serve was named. Say which, as in `mbats serve rsi_stochastic@champion`, or set MBATS_SERVED_MODEL."
        )
    if reference.startswith(URI):
        return _foreign(settings, reference)
    info = registry.resolve(settings, reference)
    return Served(info.reference, registry.fetch(settings, info, settings.home / "models"))


def command(served: Served, host: str, port: int) -> list[str]:
    """The argv of MLflow's own server for these files."""
    serve = [sys.executable, "-P", "-m", "mlflow", "models", "serve", "--model-uri", str(served.path)]
    return [*serve, "--host", host, "--port", str(port), "--env-manager", "local"]


def environment() -> dict[str, str]:
    """This process's, without settings and secrets, and with the programs of this Python first: MLflow calls uvicorn by name."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MBATS_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return own | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def become_server(served: Served, host: str, port: int) -> NoReturn:
    """Replace this process by the server. It ends with its parent's signals, and nothing of it is left behind."""
    argv = command(served, host, port)
    os.execve(argv[0], argv, environment())


def _foreign(settings: Settings, uri: str) -> Served:
    """A model that MBATS did not train: nothing is known of it but its address, and it can be served all the same."""
    from mlflow.artifacts import download_artifacts

    from mbats.ml.tracking import client_environment

    folder = settings.home / "models" / "served"
    folder.mkdir(parents=True, exist_ok=True)
    with client_environment(settings):
        return Served(uri, Path(download_artifacts(artifact_uri=uri, dst_path=str(folder))))


__all__ = ["Served", "become_server", "command", "environment", "prepare"]
