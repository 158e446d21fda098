"""pgAdmin: a look into both databases. It runs in an environment of its own; its logic is in the folder `db/pgadmin`."""

from __future__ import annotations

import re
from pathlib import Path

from mbats.errors import PlatformError
from mbats.platform.files import private_folder
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.platform.service import LOOPBACK, Say, Service, ask, stamp
from mbats.platform.venvs import run_script, venv_python
from mbats.settings import Settings

FOLDER = Path("db") / "pgadmin"
SECRETS = ("pgadmin_secret_key", "pgadmin_password", "postgres_reader_password")
VERSION = re.compile(rb"\?ver=(\d+)(\d\d)\d\d\b")  # stands on every address of its page: 91800 is 9.18


def pgadmin(settings: Settings) -> Service:
    """pgAdmin under gunicorn, with its own data in a folder."""
    return Service(
        name="pgadmin",
        title="pgAdmin",
        address=settings.pgadmin_url,
        here=settings.pgadmin_host in LOOPBACK,
        ports=(PortNeed("pgadmin_port", "pgAdmin"),),
        program=lambda: _program(settings),
        check=lambda: _version(settings.pgadmin_url),
        prepare=lambda say: _prepare(settings, say),
    )


def _version(url: str) -> str:
    found = VERSION.search(ask(url, "/login"))
    if found is None:
        raise PlatformError(f"{url}/login answers with a page that is not pgAdmin's: it names no version.")
    return f"{int(found.group(1))}.{int(found.group(2))}"


def _program(settings: Settings) -> Program:
    python = venv_python(settings, "pgadmin", FOLDER)
    scripts = settings.root / FOLDER
    files = [settings.secrets_dir / f"mbats_{name}" for name in SECRETS]
    return Program(
        name="pgadmin",
        command=[str(python), "-P", "-m", "gunicorn", "--config", str(scripts / "gunicorn.conf.py")],
        directory=private_folder(_data(settings)),
        environment=_environment(settings) | {"MBATS_CONFIG_FILES": stamp(*files, *sorted(scripts.glob("*.py")))},
        stop_as_group=True,
    )


def _prepare(settings: Settings, say: Say) -> None:
    python = venv_python(settings, "pgadmin", FOLDER)
    script = settings.root / FOLDER / "prepare.py"
    folder = private_folder(_data(settings))
    for line in run_script("pgAdmin", python, script, environment=_environment(settings), folder=folder):
        say(line)


def _environment(settings: Settings) -> dict[str, str]:
    """What `db/pgadmin/environment.py` reads."""
    return {
        "PYTHONPATH": str(settings.root / FOLDER),
        "MBATS_PGADMIN_DATA": str(_data(settings)),
        "MBATS_PGADMIN_PORT": str(settings.pgadmin_port),
        "MBATS_PGADMIN_USER": settings.pgadmin_user,
        "MBATS_LISTEN": settings.listen,
        "MBATS_SECRETS_DIR": str(settings.secrets_dir),
        "MBATS_POSTGRES_HOST": settings.postgres_host,
        "MBATS_POSTGRES_PORT": str(settings.postgres_port),
        "MBATS_POSTGRES_RISK_DATABASE": settings.postgres_risk_database,
        "MBATS_POSTGRES_SECMASTER_DATABASE": settings.postgres_secmaster_database,
    }


def _data(settings: Settings) -> Path:
    return settings.home / "pgadmin"


__all__ = ["pgadmin"]
