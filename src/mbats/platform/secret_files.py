"""The platform's own secrets: made once at random, one file each, readable by their owner alone.

No secret has a default, and none ever stands on a command line or in the environment of a service. Without Docker all files
lie in one folder of the user's. With Docker they lie in a volume, and each service has a folder there with just those
that it needs, which belongs to its user.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr

from mbats.errors import ConfigError, UnknownName
from mbats.platform.files import private_folder, write_private
from mbats.settings import Settings


def _password() -> str:
    return secrets.token_urlsafe(32)


def _long() -> str:
    return secrets.token_urlsafe(64)


def _access_key() -> str:
    return secrets.token_hex(10)  # S3 access keys have at most 20 characters in MinIO


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


MADE: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "postgres_admin_password": _password,
        "postgres_owner_password": _password,
        "postgres_ingest_password": _password,
        "postgres_trading_password": _password,
        "postgres_reader_password": _password,
        "postgres_dashboard_password": _password,
        "postgres_backup_password": _password,
        "postgres_mlflow_password": _password,
        "postgres_airflow_password": _password,
        "postgres_superset_password": _password,
        "s3_admin_access_key": _access_key,
        "s3_admin_secret_key": _password,
        "s3_access_key": _access_key,
        "s3_secret_key": _password,
        "s3_mlflow_access_key": _access_key,
        "s3_mlflow_secret_key": _password,
        "s3_backup_access_key": _access_key,
        "s3_backup_secret_key": _password,
        "simulator_token": _password,
        "trader_token": _password,
        "mlflow_password": _password,
        "mlflow_secret_key": _long,
        "airflow_password": _password,
        "airflow_jwt_secret": _long,
        "airflow_fernet_key": _fernet_key,
        "airflow_secret_key": _long,
        "redis_password": _password,
        "superset_password": _password,
        "superset_secret_key": _long,
        "jupyter_token": _password,
        "pgadmin_password": _password,
        "pgadmin_secret_key": _long,
    }
)
# What the user alone can give.
GIVEN = ("oanda_token", "notify_urls")
# Files of the user's own: the tokens of accounts that have one for themselves. The trader alone reads them.
ACCOUNT_TOKENS = "mbats_account_*_token"

# What work on bars, runs and models needs, in a notebook or in a task.
_WORK = (
    "postgres_ingest_password",
    "postgres_trading_password",
    "s3_access_key",
    "s3_secret_key",
    "simulator_token",
    "oanda_token",
    "mlflow_password",
)
# What each service reads. A service that is not named here reads none.
SECRETS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "postgres": ("postgres_admin_password",),
        "s3": (
            "s3_admin_access_key",
            "s3_admin_secret_key",
            "s3_access_key",
            "s3_secret_key",
            "s3_mlflow_access_key",
            "s3_mlflow_secret_key",
            "s3_backup_access_key",
            "s3_backup_secret_key",
        ),
        "simulator": ("simulator_token", "postgres_reader_password"),
        "trader": (
            "trader_token",
            "postgres_trading_password",
            "simulator_token",
            "oanda_token",
            "notify_urls",
            "mlflow_password",
        ),
        "mlflow": (
            "postgres_mlflow_password",
            "s3_mlflow_access_key",
            "s3_mlflow_secret_key",
            "mlflow_password",
            "mlflow_secret_key",
        ),
        "airflow": (
            "postgres_airflow_password",
            "airflow_password",
            "airflow_jwt_secret",
            "airflow_fernet_key",
            "airflow_secret_key",
            "redis_password",
            "postgres_backup_password",
            "s3_backup_access_key",
            "s3_backup_secret_key",
            "notify_urls",
            *_WORK,
        ),
        "superset": ("postgres_superset_password", "postgres_dashboard_password", "superset_password", "superset_secret_key"),
        "jupyter": ("jupyter_token", "postgres_reader_password", *_WORK),
        "pgadmin": ("pgadmin_password", "pgadmin_secret_key", "postgres_reader_password"),
        "redis": ("redis_password",),
        "serving": ("mlflow_password",),
    }
)
# Whom each folder of the volume belongs to: the user that the service's container runs as.
USERS: Mapping[str, int] = MappingProxyType(
    {
        "postgres": 999,
        "s3": 10010,
        "simulator": 10011,
        "mlflow": 10012,
        "airflow": 10013,
        "superset": 10014,
        "jupyter": 1000,
        "pgadmin": 10016,
        "redis": 10017,
        "serving": 10018,
        "trader": 10019,
    }
)
# The container of the command line has all of them, and may change them.
TOOLS, TOOLS_USER = "tools", 10001
# What a service that runs elsewhere has already, and the user must tell. The other logins of PostgreSQL are made there.
OF_SERVICE = {
    "postgres": ("postgres_admin_password",),
    "s3": SECRETS_OF["s3"],
    "simulator": ("simulator_token",),
}
# Those for which another will do: see `Settings.s3_keys`.
OPTIONAL = SECRETS_OF["s3"][:2] + SECRETS_OF["s3"][4:]


class UnknownSecret(UnknownName):
    """No secret of this name."""

    kind = "secret"


def ensure_secrets(settings: Settings, here: Collection[str] = tuple(OF_SERVICE)) -> list[str]:
    """Make the secrets that are not there. Returns the names of those made or changed; nothing on a second call.

    `here` names the services that run on this machine. A secret that the user set in the environment or in .env is written
    to its file, for the services read files alone. Raises ConfigError when PostgreSQL's data folder is there and the password
    of its admin is not, or when a service that runs elsewhere needs one that was not set.
    """
    folder = private_folder(settings.secrets_dir)
    elsewhere = {name for service, names in OF_SERVICE.items() if service not in here for name in names}
    changed = []
    for name in (*MADE, *GIVEN):
        given: SecretStr | None = getattr(settings, name)
        value = given.get_secret_value().strip() if given is not None else ""
        if not value and (name in elsewhere or name in GIVEN):
            if name in elsewhere and name not in OPTIONAL:
                settings.required_secret(name)
            continue
        if not value and name == "postgres_admin_password" and (settings.home / "postgres" / "PG_VERSION").is_file():
            raise ConfigError(
                f"The file {folder}/mbats_{name} is gone, and the data in {settings.home / 'postgres'} opens with nothing else. "
                "Nothing was changed. Put the file back, or move the data folder away to begin with an empty database."
            )
        if write_private(folder / f"mbats_{name}", value or MADE[name]()):
            changed.append(name)
    return changed


def require_known(name: str) -> str:
    """The secret's name as settings have it, from `airflow_password`, `MBATS_AIRFLOW_PASSWORD` or its file's name."""
    plain = name.lower().removeprefix("mbats_")
    if plain not in MADE:
        raise UnknownSecret(name, MADE)
    return plain


def services_that_read(name: str) -> list[str]:
    """The services that read this secret, and must be started anew when it changes."""
    return [service for service, names in SECRETS_OF.items() if name in names]


def share_secrets(settings: Settings, folder: Path) -> list[str]:
    """Give each service of a container platform its own folder in `folder`, with the secrets it needs and no others.

    They come from the folder `tools` there, which is that of these settings. Files are 0400 and belong to the service's
    user. Done as root; returns the services of which something changed.
    """
    touched = []
    for service, names in SECRETS_OF.items():
        own = folder / service
        own.mkdir(mode=0o700, exist_ok=True)
        changed = False
        for source in _sources(settings, service, names):
            target = own / source.name
            changed |= write_private(target, source.read_text())
            os.chown(target, USERS[service], USERS[service])
            target.chmod(0o400)
        os.chown(own, USERS[service], USERS[service])
        if changed:
            touched.append(service)
    for path in (settings.secrets_dir, *settings.secrets_dir.glob("mbats_*")):
        os.chown(path, TOOLS_USER, TOOLS_USER)
    return touched


def _sources(settings: Settings, service: str, names: tuple[str, ...]) -> list[Path]:
    files = [settings.secrets_dir / f"mbats_{name}" for name in names]
    if service == "trader":
        files += sorted(settings.secrets_dir.glob(ACCOUNT_TOKENS))
    return [file for file in files if file.is_file()]


__all__ = [
    "ACCOUNT_TOKENS",
    "GIVEN",
    "MADE",
    "SECRETS_OF",
    "TOOLS",
    "TOOLS_USER",
    "USERS",
    "UnknownSecret",
    "ensure_secrets",
    "require_known",
    "services_that_read",
    "share_secrets",
]
