"""The platform's own secrets: made once at random, one file each, readable by their owner alone.

No secret has a default, and none ever stands on a command line or in the environment of a service.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping

from pydantic import SecretStr

from mbats.errors import ConfigError
from mbats.platform.files import private_folder, write_private
from mbats.settings import Settings


def _password() -> str:
    return secrets.token_urlsafe(32)


def _access_key() -> str:
    return secrets.token_hex(10)  # S3 access keys have at most 20 characters in MinIO


MADE: Mapping[str, Callable[[], str]] = {
    "postgres_admin_password": _password,
    "postgres_owner_password": _password,
    "postgres_ingest_password": _password,
    "postgres_trading_password": _password,
    "postgres_reader_password": _password,
    "s3_admin_access_key": _access_key,
    "s3_admin_secret_key": _password,
    "s3_access_key": _access_key,
    "s3_secret_key": _password,
    "simulator_token": _password,
}
# What a service that runs elsewhere has already, and the user must tell. The other logins of PostgreSQL are made there.
OF_SERVICE = {
    "postgres": ("postgres_admin_password",),
    "s3": ("s3_admin_access_key", "s3_admin_secret_key", "s3_access_key", "s3_secret_key"),
    "simulator": ("simulator_token",),
}
OPTIONAL = ("s3_admin_access_key", "s3_admin_secret_key")


def ensure_secrets(settings: Settings, here: Collection[str] = tuple(OF_SERVICE)) -> list[str]:
    """Make the secrets that are not there. Returns the names of those made or changed; nothing on a second call.

    `here` names the services that run on this machine. A secret that the user set in the environment or in .env is written
    to its file, for the services read files alone. Raises ConfigError when PostgreSQL's data folder is there and the password
    of its admin is not, or when a service that runs elsewhere needs one that was not set.
    """
    folder = private_folder(settings.secrets_dir)
    elsewhere = {name for service, names in OF_SERVICE.items() if service not in here for name in names}
    changed = []
    for name, make in MADE.items():
        given: SecretStr | None = getattr(settings, name)
        value = given.get_secret_value().strip() if given is not None else ""
        if not value and name in elsewhere:
            if name not in OPTIONAL:
                settings.required_secret(name)
            continue
        if not value and name == "postgres_admin_password" and (settings.home / "postgres" / "PG_VERSION").is_file():
            raise ConfigError(
                f"The file {folder}/mbats_{name} is gone, and the data in {settings.home / 'postgres'} opens with nothing else. "
                "Nothing was changed. Put the file back, or move the data folder away to begin with an empty database."
            )
        if write_private(folder / f"mbats_{name}", value or make()):
            changed.append(name)
    return changed


__all__ = ["MADE", "ensure_secrets"]
