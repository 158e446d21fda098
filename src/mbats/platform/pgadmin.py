"""pgAdmin: a look into both databases. It runs in an environment of its own; its logic is in the folder `db/pgadmin`."""

from __future__ import annotations

import re
from pathlib import Path

from mbats.errors import PlatformError
from mbats.platform.ports import PortNeed
from mbats.platform.service import LOOPBACK, Service, ask
from mbats.platform.venvs import Apart
from mbats.settings import Settings

SECRETS = ("pgadmin_secret_key", "pgadmin_password", "postgres_reader_password")
VERSION = re.compile(rb"\?ver=(\d+)(\d\d)\d\d\b")  # stands on every address of its page: 91800 is 9.18


def pgadmin(settings: Settings) -> Service:
    """pgAdmin under gunicorn, with its own data in a folder."""
    tells = {
        "MBATS_PGADMIN_USER": settings.pgadmin_user,
        "MBATS_POSTGRES_SECMASTER_DATABASE": settings.postgres_secmaster_database,
    }
    apart = Apart(
        settings=settings, name="pgadmin", title="pgAdmin", project=Path("db") / "pgadmin", secrets=SECRETS, tells=tells
    )
    return Service(
        name=apart.name,
        title=apart.title,
        address=settings.pgadmin_url,
        here=settings.pgadmin_host in LOOPBACK,
        ports=(PortNeed("pgadmin_port", "pgAdmin"),),
        program=apart.program,
        check=lambda: _version(settings.pgadmin_url),
        prepare=apart.prepare,
    )


def _version(url: str) -> str:
    found = VERSION.search(ask(url, "/login"))
    if found is None:
        raise PlatformError(f"{url}/login answers with a page that is not pgAdmin's: it names no version.")
    return f"{int(found.group(1))}.{int(found.group(2))}"


__all__ = ["pgadmin"]
