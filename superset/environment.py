"""Where things are, as this process is told by its environment. Nothing else in this folder reads it.

| variable | says |
|---|---|
| MBATS_SUPERSET_DATA | the folder that may be written: caches, the file of passwords |
| MBATS_SUPERSET_PORT, MBATS_LISTEN | where to listen |
| MBATS_SECRETS_DIR | the folder of secrets, one file each |
| MBATS_ADMIN_USER | the name of the user who may do everything |
| MBATS_POSTGRES_HOST, MBATS_POSTGRES_PORT | PostgreSQL, which keeps Superset's own data and what it shows |
| MBATS_POSTGRES_RISK_DATABASE | the database that it shows |

Passwords are read from files and never stand in the environment, on a command line or in an address: libpq looks them up.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

METADATA_DATABASE = "superset"
METADATA_LOGIN = "mbats_superset"
DASHBOARD_LOGIN = "mbats_dashboard"
# What any connection of ours is told: the zone in which times are shown, and not to wait for ever.
CONNECT = {"connect_timeout": 10, "options": "-c timezone=UTC"}


@dataclass(frozen=True)
class Environment:
    data: Path
    listen: str
    port: int
    secrets: Path
    admin_user: str
    postgres_host: str
    postgres_port: int
    risk_database: str

    @property
    def metadata_uri(self) -> str:
        """Where Superset keeps its own data."""
        return self._uri(METADATA_LOGIN, METADATA_DATABASE)

    @property
    def risk_uri(self) -> str:
        """What it shows, as the login that sees the views `dash_*` and nothing else."""
        return self._uri(DASHBOARD_LOGIN, self.risk_database)

    def _uri(self, login: str, database: str) -> str:
        return f"postgresql+psycopg2://{login}@{self.postgres_host}:{self.postgres_port}/{database}"

    def secret(self, name: str) -> str:
        """The text of a secret. Ends the process with words when there is none."""
        file = self.secrets / f"mbats_{name}"
        try:
            text = file.read_text().strip()
        except OSError as error:
            raise SystemExit(f"superset: the secret {file} cannot be read: {error.strerror}.") from None
        if not text:
            raise SystemExit(f"superset: the secret {file} is empty.")
        return text

    def use_passwords(self) -> None:
        """Write both logins' passwords where libpq looks, for this process and its children."""
        lines = [
            f"*:*:*:{METADATA_LOGIN}:{_escaped(self.secret('postgres_superset_password'))}",
            f"*:*:*:{DASHBOARD_LOGIN}:{_escaped(self.secret('postgres_dashboard_password'))}",
        ]
        file = self.data / "pgpass"
        _write_private(file, "\n".join(lines) + "\n")
        os.environ["PGPASSFILE"] = str(file)


def load_environment() -> Environment:
    """Read it. Ends the process with words when something is missing."""
    return Environment(
        data=Path(_value("MBATS_SUPERSET_DATA")),
        listen=os.environ.get("MBATS_LISTEN") or "127.0.0.1",
        port=int(_value("MBATS_SUPERSET_PORT")),
        secrets=Path(_value("MBATS_SECRETS_DIR")),
        admin_user=_value("MBATS_ADMIN_USER"),
        postgres_host=_value("MBATS_POSTGRES_HOST"),
        postgres_port=int(_value("MBATS_POSTGRES_PORT")),
        risk_database=_value("MBATS_POSTGRES_RISK_DATABASE"),
    )


def _value(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SystemExit(f"superset: the variable {name} is not set; `mbats up` and docker-compose.yml set it.")
    return value


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")


def _write_private(file: Path, text: str) -> None:
    if file.is_file() and file.read_text() == text and not file.stat().st_mode & 0o077:
        return
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600 from the start
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    Path(unfinished).replace(file)
