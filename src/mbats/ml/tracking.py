"""MLflow's client inside this process: address, login and time limits, and its errors in words.

MLflow reads where its server is, and the password, from the environment alone. They stand there while they are needed, in this
process and no other, and are taken away again.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mbats.errors import ConfigError, PlatformError
from mbats.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECONDS = 15  # for one answer
FILE_SECONDS = 300  # for one that comes when a file of any size has gone through the server to the store, or from there
REFUSED = re.compile(r"error code 40[13]\b|PERMISSION_DENIED|UNAUTHENTICATED")


@contextmanager
def client_environment(settings: Settings, *, seconds: int = SECONDS) -> Iterator[None]:
    """While it is open, MLflow's functions in this process reach the server of these settings, with the admin's login.

    A server that is away is noticed within seconds, one that hangs after `seconds` for each try. What MLflow raises comes out
    as PlatformError, or as ConfigError when the server refuses the login. Not for several threads with different settings.
    Raises ConfigError when the secret is missing.
    """
    # Whoever looks for MLFLOW_TRACKING_USERNAME in ~/.mlflow finds another server's; the environment comes first.
    chosen = {
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_REGISTRY_URI": settings.mlflow_url,
        "MLFLOW_TRACKING_USERNAME": settings.admin_user,
        "MLFLOW_TRACKING_PASSWORD": settings.required_secret("mlflow_password").get_secret_value(),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_UV_AUTO_DETECT": "false",  # what a model needs does not depend on the folder in which somebody stands
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",  # where there is no git, MLflow would say so at length
    }
    host = urlsplit(settings.mlflow_url).hostname
    if host in LOOPBACK:  # a proxy of the environment cannot reach a server on this machine
        chosen |= {name: ",".join(filter(None, (os.environ.get(name), host))) for name in ("NO_PROXY", "no_proxy")}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    log = logging.getLogger("mlflow")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells at length what it is about to do
    try:
        with _errors_in_words(settings):
            yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def client(settings: Settings) -> MlflowClient:
    """MLflow's client of this server. Use it inside `client_environment`, where it finds its password."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)


@contextmanager
def quietly() -> Iterator[None]:
    """MLflow warns of its own type hints when it is imported, and of what it does with pandas; nobody here can change either."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*type hint", category=UserWarning)
        yield


def require_server(settings: Settings) -> None:
    """Raises PlatformError when MLflow does not answer now, ConfigError when it refuses the login."""
    with client_environment(settings):
        client(settings).search_experiments(max_results=1)


@contextmanager
def _errors_in_words(settings: Settings) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        what = " ".join(str(error).split())[:400]
        if REFUSED.search(f"{getattr(error, 'error_code', '')} {what}"):
            raise ConfigError(
                f"MLflow at {settings.mlflow_url} refused the login '{settings.admin_user}': {what}. Nothing was changed. Its "
                "password is the secret 'mlflow_password'; MLflow takes it from there when it is started."
            ) from error
        raise PlatformError(
            f"MLflow at {settings.mlflow_url} did not do what it was asked: {what}. What was written before stays. "
            "See `./starter_script.sh status`; `./starter_script.sh` starts the platform."
        ) from error


__all__ = ["FILE_SECONDS", "client", "client_environment", "quietly", "require_server"]
