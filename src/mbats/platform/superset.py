"""Superset: dashboards over the views `dash_*`. It runs in an environment of its own; its logic is in the folder `superset`."""

from __future__ import annotations

from pathlib import Path

from mbats.platform.ports import PortNeed
from mbats.platform.service import LOOPBACK, Service, ask_json
from mbats.platform.venvs import Apart
from mbats.settings import Settings

# What a change of it should restart, and so prepare anew.
SECRETS = ("superset_secret_key", "superset_password", "postgres_superset_password", "postgres_dashboard_password")


def superset(settings: Settings) -> Service:
    """Superset under gunicorn, with its own data in the database `superset`."""
    tells = {"MBATS_ADMIN_USER": settings.admin_user}
    apart = Apart(settings=settings, name="superset", title="Superset", project=Path("superset"), secrets=SECRETS, tells=tells)
    return Service(
        name=apart.name,
        title=apart.title,
        address=settings.superset_url,
        here=settings.superset_host in LOOPBACK,
        ports=(PortNeed("superset_port", "Superset"),),
        program=lambda: apart.program(stop_seconds=15),
        # Open to everyone, but for its age: it asks the database for the answer, so a server that lost it is not called well.
        check=lambda: str(ask_json(settings.superset_url, "/mbats/health")["version"]),
        prepare=apart.prepare,
    )


__all__ = ["superset"]
