"""The trader as a service: what is deployed trades, whoever has to be waited for. Commands reach it at one port."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import mbats
from mbats.errors import PlatformError
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.platform.secret_files import ACCOUNT_TOKENS, SECRETS_OF
from mbats.platform.service import LOOPBACK, Service, ask_json, plain_environment, stamp
from mbats.settings import Settings

# What it does not read: a change of these must not interrupt trading.
OTHERS = (
    *("airflow_", "backup_", "jupyter_", "min_free_", "mlflow_", "pgadmin_", "public_", "redis_", "s3_", "services", "start_"),
    *(
        f"simulator_{part}"
        for part in ("admin", "bars", "clock", "config", "data", "intrabar", "seed", "source", "speed", "start")
    ),
    "superset_",
)


def trader(settings: Settings) -> Service:
    """The service as these settings have it. It comes after nothing: a broker or a database that is away is waited for inside."""
    return Service(
        name="trader",
        title="Trader",
        address=settings.trader_url,
        here=settings.trader_host in LOOPBACK,
        ports=(PortNeed("trader_port", "the trader"),),
        program=lambda: _program(settings),
        check=lambda: _check(settings),
    )


def _program(settings: Settings) -> Program:
    # Models are looked up in a process of its own, which reads the password anew.
    names = [f"mbats_{name}" for name in SECRETS_OF["trader"] if name != "mlflow_password"]
    secrets = [path for path in (settings.secrets_dir / name for name in names) if path.is_file()]
    secrets += sorted(settings.secrets_dir.glob(ACCOUNT_TOKENS))
    return Program(
        name="trader",
        command=[sys.executable, "-P", "-m", "mbats.cli", "trader"],
        directory=settings.home,
        environment=plain_environment(settings, without=OTHERS)
        | {"MBATS_CONFIG_FILES": stamp(*secrets, *Path(mbats.__file__).parent.rglob("*.py"))},
        stop_seconds=30,  # orders that are on their way are waited for
        die_with_parent=signal.SIGTERM,
    )


def _check(settings: Settings) -> str:
    token = settings.required_secret("trader_token").get_secret_value()
    state = ask_json(settings.trader_url, "/state", headers={"Authorization": f"Bearer {token}"})
    if not state["healthy"]:
        raise PlatformError(f"{settings.trader_url} says that it is not well: {state.get('reason') or 'it does not say why'}")
    return str(state["version"])


__all__ = ["trader"]
