"""A real MLflow server behind its login, with its tables in PostgreSQL and its artifacts in an S3 store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from free_ports import free_ports
from programs import RunningProgram, running
from stores import running_store

from mbats.platform import weed
from mbats.platform.mlflow import mlflow
from mbats.platform.secret_files import ensure_secrets
from mbats.settings import Settings, load_settings

SECRETS = ("mlflow_password", "s3_access_key", "s3_secret_key")
SETTINGS = ("mlflow_port", *(need.setting for need in weed.PORTS))


@dataclass(frozen=True)
class Registry:
    """The server that runs, and the settings that reach it and its store; `program` can be killed and started again."""

    settings: Settings
    program: RunningProgram

    def known_to(self, settings: Settings) -> Settings:
        """Settings of a test's own platform that has this server and this store; processes with its MBATS_HOME find them too."""
        with (settings.home / "platform.env").open("a") as file:
            file.writelines(f"MBATS_{name.upper()}={getattr(self.settings, name)}\n" for name in SETTINGS)
        for name in SECRETS:
            file_of_secret = settings.home / "secrets" / f"mbats_{name}"
            file_of_secret.touch(mode=0o600)
            file_of_secret.write_text(self.settings.required_secret(name).get_secret_value())
        return load_settings(home=settings.home)


@contextmanager
def running_registry(postgres_server: Settings, home: Path) -> Iterator[Registry]:
    """Run MLflow and a store of its own, kept in `home`, on a PostgreSQL server that has its databases."""
    home.mkdir(parents=True)
    (home / "platform.env").write_text(
        f"MBATS_POSTGRES_PORT={postgres_server.postgres_port}\nMBATS_MLFLOW_PORT={next(free_ports())}\n"
    )
    secrets = home / "secrets"
    secrets.mkdir(mode=0o700)
    known = secrets / "mbats_postgres_mlflow_password"
    known.touch(mode=0o600)
    known.write_text(postgres_server.postgres_password("mlflow").get_secret_value())
    ensure_secrets(load_settings(home=home))
    with running_store(load_settings(home=home)) as settings, running([mlflow(settings)], home) as [program]:
        program.wait_until_well()
        yield Registry(settings, program)
