"""MLflow: experiments and the model registry in PostgreSQL, artifacts in S3 through the server, behind a login.

A client needs the address, a user and a password, and no key of the S3 store:

    MLFLOW_TRACKING_URI=http://127.0.0.1:5500   MLFLOW_TRACKING_USERNAME=mbats   MLFLOW_TRACKING_PASSWORD=…

The password is the secret `mlflow_password`. MLflow's client also reads it from `~/.mlflow/credentials` (section `[mlflow]`,
keys `mlflow_tracking_username` and `mlflow_tracking_password`); a process of ours sets the variable inside itself, where no other
sees it. What the secret says is the admin's password from the next start on, whatever was set in MLflow before.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from urllib.parse import quote

from mbats.platform.files import ini, passfile, private_folder, write_private
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.platform.service import LOOPBACK, Service, ask, stamp
from mbats.settings import Settings

DATABASE, AUTH_DATABASE = "mlflow", "mlflow_auth"
CHECKED_FOR_SECONDS = 60  # a password that was right is not hashed again for so long; one that is changed is forgotten at once


def mlflow(settings: Settings) -> Service:
    """The service as these settings have it. It prepares its tables and its admin itself, at every start."""
    return Service(
        name="mlflow",
        title="MLflow",
        address=settings.mlflow_url,
        here=settings.mlflow_endpoint is None and settings.mlflow_host in LOOPBACK,
        ports=(PortNeed("mlflow_port", "MLflow"),),
        program=lambda: _program(settings),
        check=lambda: _check(settings),
    )


def _program(settings: Settings) -> Program:
    folder = private_folder(settings.home / "mlflow")
    files = _write_config(settings, folder)
    command = [sys.executable, "-P", str(settings.root / "mlflow" / "serve.py")]
    command += ["--host", settings.listen, "--port", str(settings.mlflow_port)]
    command += ["--backend-store-uri", _database_uri(settings, DATABASE, folder)]
    command += ["--artifacts-destination", f"s3://{settings.s3_bucket_mlflow}/"]
    return Program(
        name="mlflow",
        command=command,
        directory=folder,
        environment={
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(allowed_hosts(settings)),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(_allowed_origins(settings)),
            "MLFLOW_S3_ENDPOINT_URL": settings.s3_url,
            "AWS_DEFAULT_REGION": settings.s3_region,
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "s3_credentials"),
            "AWS_CONFIG_FILE": "/dev/null",  # the user's own is about other stores
            "AWS_EC2_METADATA_DISABLED": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 15 processes instead of one, for what nobody here uses
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MBATS_CONFIG_FILES": stamp(*files),
        },
    )


def _write_config(settings: Settings, folder: Path) -> tuple[Path, ...]:
    """Write the files with the secrets, each private. Raises ConfigError when a secret is missing."""
    password, key = (settings.required_secret(name).get_secret_value() for name in ("mlflow_password", "mlflow_secret_key"))
    access, secret = (value.get_secret_value() for value in settings.s3_keys("mlflow"))
    contents = {
        "pgpass": passfile(settings.postgres_password("mlflow")),
        "s3_credentials": f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n",
        "auth.ini": ini(
            {
                "mlflow": {
                    "default_permission": "NO_PERMISSIONS",  # a user sees what is theirs or was given to them
                    "database_uri": _database_uri(settings, AUTH_DATABASE, folder),
                    "admin_username": settings.admin_user,
                    "admin_password": password,
                    "auth_cache_ttl_seconds": str(CHECKED_FOR_SECONDS),
                },
                "mbats": {"secret_key": key},
            }
        ),
    }
    for name, content in contents.items():
        write_private(folder / name, content)
    return tuple(folder / name for name in contents)


def _database_uri(settings: Settings, database: str, folder: Path) -> str:
    """The database's address. libpq takes the password from the file that it names."""
    user, place = settings.postgres_user("mlflow"), f"{settings.postgres_host}:{settings.postgres_port}"
    return f"postgresql+psycopg2://{user}@{place}/{database}?passfile={quote(str(folder / 'pgpass'), safe='/')}"


def allowed_hosts(settings: Settings) -> list[str]:
    """The names by which the server lets itself be called; others are refused, for a page of a stranger may resolve to it."""
    names = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "mlflow", f"mlflow:{settings.mlflow_port}"]
    return [*names, *_listed(settings.mlflow_allowed_hosts)]


def _allowed_origins(settings: Settings) -> list[str]:
    # MLflow itself adds this machine, at every port.
    return [f"{scheme}://{host}" for host in _listed(settings.mlflow_allowed_hosts) for scheme in ("http", "https")]


def _listed(value: str) -> list[str]:
    return [part for part in value.replace(" ", "").split(",") if part]


def _check(settings: Settings) -> str:
    # `/health` answers while the database is down. This asks the database, as a user would, through the login.
    credentials = f"{settings.admin_user}:{settings.required_secret('mlflow_password').get_secret_value()}"
    headers = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
    ask(settings.mlflow_url, "/api/2.0/mlflow/experiments/search?max_results=1", headers=headers)
    return ask(settings.mlflow_url, "/version", headers=headers).decode()


__all__ = ["allowed_hosts", "mlflow"]
