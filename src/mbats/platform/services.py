"""The services of the platform, in the order in which they are started: the stores first, then what stands on them."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

import mbats
from mbats.database import admin_connection
from mbats.platform import postgres, weed
from mbats.platform.airflow import airflow
from mbats.platform.jupyter import jupyter
from mbats.platform.mlflow import mlflow
from mbats.platform.pgadmin import pgadmin
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.platform.service import LOOPBACK, Service, UnknownService, ask, ask_json, ask_server, stamp
from mbats.platform.superset import superset
from mbats.platform.trader import trader
from mbats.settings import Settings

STORES = ("postgres", "s3")  # what is prepared before anything that stands on it is started


def services(settings: Settings) -> list[Service]:
    """Every service that this platform has, in the order in which they are started.

    One whose address is elsewhere is used there and not run. Raises ConfigError when MBATS_SERVICES names one that there is not.
    """
    known = [
        _postgres(settings),
        _s3(settings),
        _simulator(settings),
        trader(settings),
        mlflow(settings),
        *airflow(settings),
        superset(settings),
        jupyter(settings),
        pgadmin(settings),
    ]
    _require_known_names(settings, [service.name for service in known])
    return [_as_seen_by_people(settings, service) for service in known if settings.has_service(service.name)]


def _as_seen_by_people(settings: Settings, service: Service) -> Service:
    """The service with the address at which it is published: inside containers services know each other by other names."""
    for entry in settings.public_addresses.split(","):
        name, _, address = entry.strip().partition("=")
        if address and name in (service.name, service.name.partition("-")[0]):
            return replace(service, address=address)
    return service


def _require_known_names(settings: Settings, names: list[str]) -> None:
    known = {"all", *names, *(name.partition("-")[0] for name in names)}
    for name in settings.services.replace(" ", "").split(","):
        if name not in known:
            raise UnknownService(name, known, where="MBATS_SERVICES")


def _postgres(settings: Settings) -> Service:
    def program() -> Program:
        return Program(
            name="postgres",
            command=postgres.server_command(settings, settings.home / "postgres", settings.postgres_port),
            directory=settings.home,
            stop_signal=postgres.STOP_SIGNAL,
            stop_seconds=60,  # a fast stop writes a checkpoint first
            die_with_parent=None,  # its command sees to that, from inside the user namespace
        )

    def check() -> str:
        with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            return str(cursor.fetchone()[0])

    return Service(
        name="postgres",
        title="PostgreSQL",
        address=f"{settings.postgres_host}:{settings.postgres_port}",
        here=settings.postgres_managed and settings.postgres_host in LOOPBACK,
        ports=(PortNeed("postgres_port", "PostgreSQL"),),
        program=program,
        check=check,
        hung_after=None,
    )


def _s3(settings: Settings) -> Service:
    def program() -> Program:
        weed.write_config(settings)
        folder = settings.home / "s3"
        files = (folder / "identities.json", folder / "security.toml")
        return Program(
            name="s3",
            command=weed.server_command(settings),
            directory=folder,
            environment={"GOMEMLIMIT": weed.MEMORY, "MBATS_CONFIG_FILES": stamp(*files)},
            # An object that was put is on disk, so a kill loses nothing, and it frees the ports at once.
            die_with_parent=signal.SIGKILL,
        )

    here = settings.s3_endpoint is None and settings.s3_host in LOOPBACK

    def check() -> str:
        if not here and settings.s3_kind == "other":
            ask(settings.s3_url)  # nothing is known of it but that it must speak HTTP
            return ""
        if settings.s3_kind == "minio":
            from mbats.platform.buckets import minio_version  # imported here: it takes its time, and few have a MinIO

            ask(settings.s3_url, "/minio/health/ready")
            return minio_version(settings)
        ask(settings.s3_url, "/healthz")
        if here:
            weed.require_volumes(settings)
        return ask_server(settings.s3_url).rpartition(" ")[2]

    return Service(
        name="s3",
        title="S3 store",
        address=settings.s3_url,
        here=here,
        ports=weed.PORTS,
        program=program,
        check=check,
        hung_after=8.0,
    )


def _simulator(settings: Settings) -> Service:
    def program() -> Program:
        environment = {
            f"MBATS_{name.upper()}": str(value)
            for name in ("home", "root", *(field for field in type(settings).model_fields if field.startswith("simulator_")))
            if (value := getattr(settings, name)) is not None and not isinstance(value, SecretStr)
        }
        secrets = [
            "mbats_simulator_token",
            *(["mbats_postgres_reader_password"] if settings.simulator_source == "database" else []),
        ]
        config = [path for path in [settings.simulator_config] if path is not None and path.exists()]
        files = [*(settings.secrets_dir / name for name in secrets), *config, *Path(mbats.__file__).parent.rglob("*.py")]
        return Program(
            name="simulator",
            command=[sys.executable, "-P", "-m", "mbats.cli", "simulator"],
            directory=settings.home,
            environment=environment | {"MBATS_CONFIG_FILES": stamp(*files)},
            stop_seconds=10,
            die_with_parent=signal.SIGTERM,  # its log survives a kill, but the place that it has come to is written at the end
        )

    return Service(
        name="simulator",
        title="OANDA simulator",
        address=settings.simulator_url,
        here=settings.simulator_host in LOOPBACK,
        ports=(
            PortNeed("simulator_port", "OANDA simulator"),
            PortNeed("simulator_stream_port", "streams of the OANDA simulator"),
            PortNeed("simulator_admin_port", "administration of the OANDA simulator"),
        ),
        program=program,
        check=lambda: str(ask_json(settings.simulator_url, "/healthz")["version"]),
        hung_after=8.0,
    )


__all__ = ["STORES", "Service", "services"]
