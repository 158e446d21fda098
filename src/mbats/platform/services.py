"""The services of the platform: their ports and addresses, how each is run here, and how to see that it is well."""

from __future__ import annotations

import http.client
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from mbats.database import admin_connection
from mbats.errors import PlatformError
from mbats.platform import postgres, weed
from mbats.platform.launch import launch_command
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost")
CHECK_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service as these settings have it. `here` says whether it runs on this machine, under our supervisor.

    `check` returns when the service does its work and raises PlatformError with the reason when it does not. `may_hang` says
    that one which runs and does not answer is best started anew; PostgreSQL may be at its recovery.
    """

    name: str
    title: str
    address: str
    here: bool
    ports: tuple[PortNeed, ...]
    program: Callable[[], Program]
    check: Callable[[], None]
    may_hang: bool = True


def services(settings: Settings) -> list[Service]:
    """Every service, in the order in which they are started. One whose address is elsewhere is used there and not run."""
    return [
        Service(
            name="postgres",
            title="PostgreSQL",
            address=f"{settings.postgres_host}:{settings.postgres_port}",
            here=settings.postgres_managed and settings.postgres_host in LOOPBACK,
            ports=(PortNeed("postgres_port", "PostgreSQL"),),
            program=lambda: _postgres(settings),
            check=lambda: admin_connection(settings).close(),
            may_hang=False,
        ),
        Service(
            name="s3",
            title="S3 store",
            address=settings.s3_url,
            here=settings.s3_endpoint is None and settings.s3_host in LOOPBACK,
            ports=weed.PORTS,
            program=lambda: _s3(settings),
            check=lambda: _check_s3(settings),
        ),
        Service(
            name="simulator",
            title="OANDA simulator",
            address=settings.simulator_url,
            here=settings.simulator_host in LOOPBACK,
            ports=(PortNeed("simulator_port", "OANDA simulator"),),
            program=lambda: _simulator(settings),
            check=lambda: _require_answer(settings.simulator_url, "/healthz"),
        ),
    ]


def _postgres(settings: Settings) -> Program:
    data_dir = settings.home / "postgres"
    return Program(
        name="postgres",
        command=postgres.server_command(settings, data_dir, settings.postgres_port),
        directory=settings.home,
        stop_signal=postgres.STOP_SIGNAL,
        stop_seconds=60,  # a fast stop writes a checkpoint first
    )


def _s3(settings: Settings) -> Program:
    folder = settings.home / "s3"
    files = (folder / "identities.json", folder / "security.toml")
    return Program(
        name="s3",
        command=weed.server_command(settings),
        directory=folder,
        environment={"GOMEMLIMIT": weed.MEMORY, "MBATS_CONFIG_FILES": _stamp(*files)},
    )


def _simulator(settings: Settings) -> Program:
    environment = {
        f"MBATS_{name.upper()}": str(value)
        for name in ("home", "root", *(field for field in type(settings).model_fields if field.startswith("simulator_")))
        if (value := getattr(settings, name)) is not None and not isinstance(value, SecretStr)
    }
    return Program(
        name="simulator",
        command=launch_command([sys.executable, "-P", "-m", "mbats.cli", "simulator"], die_with_parent=signal.SIGKILL),
        directory=settings.home,
        stop_seconds=5,  # it keeps nothing that a kill could lose
        environment=environment | {"MBATS_CONFIG_FILES": _stamp(settings.secrets_dir / "mbats_simulator_token")},
    )


def _stamp(*files: Path) -> str:
    """When these files last changed. It stands in the service's environment, so that a changed file restarts the service."""
    return str(max(file.stat().st_mtime_ns for file in files))


def _check_s3(settings: Settings) -> None:
    if settings.s3_endpoint is not None or settings.s3_host not in LOOPBACK:
        _require_answer(settings.s3_url, None)  # of another store nothing is known but that it must speak HTTP
        return
    _require_answer(settings.s3_url, "/healthz")
    weed.require_volumes(settings)


def _require_answer(url: str, path: str | None) -> None:
    """Raises PlatformError unless GET `path` is answered with 200, or, without a path, unless the server answers at all.

    Proxies of the environment are not asked.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(kind(parts.netloc, timeout=CHECK_TIMEOUT)) as connection:
        try:
            connection.request("GET", path or "/")
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise PlatformError(f"{url}{path or ''} does not answer: {error}.") from None
    if path is not None and answer.status != 200:
        raise PlatformError(f"{url}{path} answers {answer.status} {answer.reason}, where 200 was expected.")


__all__ = ["Service", "services"]
