"""Where things are, as this process is told by its environment. Nothing else in this folder reads it.

| variable | says |
|---|---|
| MBATS_PGADMIN_DATA | the folder that may be written: pgAdmin's own database, sessions, its users' files |
| MBATS_PGADMIN_PORT, MBATS_LISTEN | where to listen |
| MBATS_PGADMIN_USER | the address with which one logs in |
| MBATS_SECRETS_DIR | the folder of secrets, one file each |
| MBATS_POSTGRES_HOST, MBATS_POSTGRES_PORT | the server that is shown |
| MBATS_POSTGRES_RISK_DATABASE, MBATS_POSTGRES_SECMASTER_DATABASE | its two databases |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    data: Path
    listen: str
    port: int
    user: str
    secrets: Path
    postgres_host: str
    postgres_port: int
    risk_database: str
    secmaster_database: str

    @property
    def database_file(self) -> Path:
        """Where pgAdmin keeps its users and servers."""
        return self.data / "pgadmin4.db"

    @property
    def storage(self) -> Path:
        """The folder of its users' files, a folder each."""
        return self.data / "storage"

    def secret(self, name: str) -> str:
        """The text of a secret. Ends the process with words when there is none."""
        file = self.secrets / f"mbats_{name}"
        try:
            text = file.read_text().strip()
        except OSError as error:
            raise SystemExit(f"pgadmin: the secret {file} cannot be read: {error.strerror}.") from None
        if not text:
            raise SystemExit(f"pgadmin: the secret {file} is empty.")
        return text


def load_environment() -> Environment:
    """Read it. Ends the process with words when something is missing."""
    return Environment(
        data=Path(_value("MBATS_PGADMIN_DATA")),
        listen=os.environ.get("MBATS_LISTEN") or "127.0.0.1",
        port=int(_value("MBATS_PGADMIN_PORT")),
        user=_value("MBATS_PGADMIN_USER"),
        secrets=Path(_value("MBATS_SECRETS_DIR")),
        postgres_host=_value("MBATS_POSTGRES_HOST"),
        postgres_port=int(_value("MBATS_POSTGRES_PORT")),
        risk_database=_value("MBATS_POSTGRES_RISK_DATABASE"),
        secmaster_database=_value("MBATS_POSTGRES_SECMASTER_DATABASE"),
    )


def _value(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SystemExit(f"pgadmin: the variable {name} is not set; `mbats up` and docker-compose.yml set it.")
    return value
