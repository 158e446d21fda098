"""Superset: dashboards over the views `dash_*`. It runs in an environment of its own; its logic is in the folder `superset`."""

from __future__ import annotations

from pathlib import Path

from mbats.platform.files import private_folder
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.platform.service import LOOPBACK, Say, Service, ask_json, stamp
from mbats.platform.venvs import run_script, venv_python
from mbats.settings import Settings

FOLDER = Path("superset")
# What a change of it should restart, and so prepare anew.
SECRETS = ("superset_secret_key", "superset_password", "postgres_superset_password", "postgres_dashboard_password")


def superset(settings: Settings) -> Service:
    """Superset under gunicorn, with its own data in the database `superset`."""
    return Service(
        name="superset",
        title="Superset",
        address=settings.superset_url,
        here=settings.superset_host in LOOPBACK,
        ports=(PortNeed("superset_port", "Superset"),),
        program=lambda: _program(settings),
        # Open to everyone, but for its age: it asks the database for the answer, so a server that lost it is not called well.
        check=lambda: str(ask_json(settings.superset_url, "/mbats/health")["version"]),
        prepare=lambda say: _prepare(settings, say),
    )


def _program(settings: Settings) -> Program:
    python = venv_python(settings, "superset", FOLDER)
    scripts = settings.root / FOLDER
    files = [settings.secrets_dir / f"mbats_{name}" for name in SECRETS]
    return Program(
        name="superset",
        command=[str(python), "-P", "-m", "gunicorn", "--config", str(scripts / "gunicorn.conf.py")],
        directory=private_folder(_data(settings)),
        environment=_environment(settings)
        | {"MBATS_CONFIG_FILES": stamp(*files, *scripts.glob("*.py"), *scripts.rglob("*.yaml"))},
        stop_seconds=15,
        stop_as_group=True,
    )


def _prepare(settings: Settings, say: Say) -> None:
    python = venv_python(settings, "superset", FOLDER)
    script = settings.root / FOLDER / "prepare.py"
    folder = private_folder(_data(settings))
    for line in run_script("Superset", python, script, environment=_environment(settings), folder=folder):
        say(line)


def _environment(settings: Settings) -> dict[str, str]:
    """What `superset/environment.py` reads."""
    return {
        "PYTHONPATH": str(settings.root / FOLDER),
        "MBATS_SUPERSET_DATA": str(_data(settings)),
        "MBATS_SUPERSET_PORT": str(settings.superset_port),
        "MBATS_LISTEN": settings.listen,
        "MBATS_SECRETS_DIR": str(settings.secrets_dir),
        "MBATS_ADMIN_USER": settings.admin_user,
        "MBATS_POSTGRES_HOST": settings.postgres_host,
        "MBATS_POSTGRES_PORT": str(settings.postgres_port),
        "MBATS_POSTGRES_RISK_DATABASE": settings.postgres_risk_database,
    }


def _data(settings: Settings) -> Path:
    return settings.home / "superset"


__all__ = ["superset"]
