"""Every setting, typed, in one place. Nothing else reads the environment, and nothing is read at import.

A value comes from, strongest first: the environment (`MBATS_…`), `.env` beside the project, `platform.env`
in the state folder (the addresses that `starter_script.sh` chose), the secrets folder (one file a secret), the
default. Secrets are files, so that none stands on a command line or in a process list.
"""

from __future__ import annotations

import os
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mbats.errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parents[2]

Role = Literal["admin", "owner", "ingest", "trading", "reader", "dashboard", "backup", "mlflow", "airflow", "superset"]
S3Identity = Literal["admin", "mbats", "mlflow", "backup"]


class Settings(BaseSettings):
    """The settings of one platform. Field `x` is the variable `MBATS_X`; see `.env.example` for each in words."""

    model_config = SettingsConfigDict(env_prefix="MBATS_", env_ignore_empty=True, extra="ignore", frozen=True)

    # Where things are
    root: Path = PROJECT_ROOT
    home: Path = PROJECT_ROOT / ".mbats"
    strategies_dir: Path = PROJECT_ROOT / "strategies"

    # Which services the platform has: `all`, or some of them, separated by commas
    services: str = "all"
    admin_user: str = "mbats"
    # Where services listen; 0.0.0.0 inside containers, whose network is their own
    listen: str = "127.0.0.1"
    # Where people find services that know each other by other names: mlflow=http://127.0.0.1:5500,airflow=…
    public_addresses: str = ""

    # What the native platform asks of the machine
    min_free_disk_gb: float = Field(3.0, ge=0)
    min_free_memory_gb: float = Field(3.0, ge=0)
    start_timeout_seconds: float = Field(180.0, gt=0)

    # PostgreSQL
    postgres_host: str = "127.0.0.1"
    postgres_port: int = Field(5432, ge=1, le=65535)
    postgres_managed: bool = True
    postgres_dedicated: bool = False
    postgres_bin: Path | None = None
    postgres_secmaster_database: str = "secmaster"
    postgres_risk_database: str = "risk"
    postgres_admin_password: SecretStr | None = None
    postgres_owner_password: SecretStr | None = None
    postgres_ingest_password: SecretStr | None = None
    postgres_trading_password: SecretStr | None = None
    postgres_reader_password: SecretStr | None = None
    postgres_dashboard_password: SecretStr | None = None
    postgres_backup_password: SecretStr | None = None
    postgres_mlflow_password: SecretStr | None = None
    postgres_airflow_password: SecretStr | None = None
    postgres_superset_password: SecretStr | None = None

    # S3
    s3_host: str = "127.0.0.1"
    s3_port: int = Field(9000, ge=1, le=55535)
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_admin_access_key: SecretStr | None = None
    s3_admin_secret_key: SecretStr | None = None
    s3_mlflow_access_key: SecretStr | None = None
    s3_mlflow_secret_key: SecretStr | None = None
    s3_backup_access_key: SecretStr | None = None
    s3_backup_secret_key: SecretStr | None = None
    s3_bucket_marketdata: str = "marketdata"
    s3_bucket_artifacts: str = "artifacts"
    s3_bucket_mlflow: str = "mlflow"
    s3_bucket_backups: str = "backups"
    s3_kind: Literal["seaweedfs", "minio", "other"] = "seaweedfs"
    # The inner ports of the native store; each has a twin 10000 above it, as s3_port has.
    s3_master_port: int = Field(9010, ge=1, le=55535)
    s3_volume_port: int = Field(9020, ge=1, le=55535)
    s3_filer_port: int = Field(9030, ge=1, le=55535)
    s3_admin_port: int = Field(9040, ge=1, le=55535)

    # MLflow
    mlflow_host: str = "127.0.0.1"
    mlflow_port: int = Field(5500, ge=1, le=65535)
    mlflow_endpoint: str | None = None
    mlflow_password: SecretStr | None = None
    mlflow_secret_key: SecretStr | None = None
    mlflow_allowed_hosts: str = ""

    # The endpoint that serves one model, for strategies whose reference begins with `rest:`
    serving_host: str = "127.0.0.1"
    serving_port: int = Field(5600, ge=1, le=65535)
    serving_endpoint: str | None = None
    # What `mbats serve` serves when it is not told
    served_model: str = ""

    # Airflow
    airflow_host: str = "127.0.0.1"
    airflow_port: int = Field(8080, ge=1, le=65535)
    airflow_executor: Literal["LocalExecutor", "CeleryExecutor"] = "LocalExecutor"
    airflow_parallelism: int = Field(8, ge=1)
    airflow_password: SecretStr | None = None
    airflow_jwt_secret: SecretStr | None = None
    airflow_fernet_key: SecretStr | None = None
    airflow_secret_key: SecretStr | None = None
    redis_host: str = "127.0.0.1"
    redis_port: int = Field(6379, ge=1, le=65535)
    redis_password: SecretStr | None = None

    # Superset
    superset_host: str = "127.0.0.1"
    superset_port: int = Field(8088, ge=1, le=65535)
    superset_password: SecretStr | None = None
    superset_secret_key: SecretStr | None = None

    # Jupyter
    jupyter_host: str = "127.0.0.1"
    jupyter_port: int = Field(8888, ge=1, le=65535)
    jupyter_token: SecretStr | None = None

    # pgAdmin
    pgadmin_host: str = "127.0.0.1"
    pgadmin_port: int = Field(1234, ge=1, le=65535)
    pgadmin_user: str = "mbats@example.com"
    pgadmin_password: SecretStr | None = None
    pgadmin_secret_key: SecretStr | None = None

    # Backups
    backup_keep_days: int = Field(30, ge=1)

    # The broker: the simulator, OANDA practice or OANDA live. They differ by address and token, nothing else.
    oanda_environment: Literal["simulator", "practice", "live"] = "simulator"
    oanda_account: str | None = None
    oanda_token: SecretStr | None = None
    oanda_requests_per_second: float = Field(100.0, gt=0, le=120)

    # The simulator
    simulator_host: str = "127.0.0.1"
    simulator_port: int = Field(8090, ge=1, le=65535)
    simulator_stream_port: int = Field(8091, ge=1, le=65535)
    simulator_admin_port: int = Field(8092, ge=1, le=65535)
    simulator_token: SecretStr | None = None
    simulator_config: Path | None = None
    simulator_data: Path | None = None
    simulator_source: Literal["sample", "files", "database", "scripted"] | None = None
    simulator_seed: int = 20050103
    simulator_bars: Path | None = None
    simulator_intrabar: Literal["ohlc", "pessimistic", "pessimistic_short", "bridge"] = "ohlc"
    simulator_clock: Literal["realtime", "accelerated", "step", "asap", "shift"] = "realtime"
    simulator_speed: float = 1.0
    simulator_start: datetime | None = None

    # The trader: paper and live trading. Accounts are name=environment[:account id], separated by commas
    trader_host: str = "127.0.0.1"
    trader_port: int = Field(8095, ge=1, le=65535)
    trader_token: SecretStr | None = None
    trader_clock: Literal["machine", "broker"] = "machine"
    accounts: str = ""
    trade_live: str | None = None
    notify_urls: SecretStr | None = None
    # For how many seconds a bar waits for its model
    model_seconds: float = Field(1.0, gt=0, le=30)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @property
    def secrets_dir(self) -> Path:
        """One file for each secret, named like its variable in lower case, readable by its owner alone."""
        return secrets_folder(self.home)

    def postgres_user(self, role: Role) -> str:
        """The PostgreSQL login that does this job."""
        return "postgres" if role == "admin" else f"mbats_{role}"

    def has_service(self, name: str) -> bool:
        """Whether this platform is to have the service; `airflow` in MBATS_SERVICES stands for all that begin with it."""
        chosen = self.services.replace(" ", "").split(",")
        return chosen == ["all"] or name in chosen or name.partition("-")[0] in chosen

    def postgres_password(self, role: Role) -> SecretStr:
        """The password of the login that does this job. Raises ConfigError when there is none yet."""
        return self.required_secret(f"postgres_{role}_password")

    def required_secret(self, name: str) -> SecretStr:
        """The secret called `name`. Raises ConfigError that says where it is looked for."""
        secret = getattr(self, name)
        if secret is None:
            raise ConfigError(
                f"No secret '{name}': neither MBATS_{name.upper()} nor the file {self.secrets_dir}/mbats_{name} is there. "
                "Run ./starter_script.sh, which makes the platform's own secrets, or set it in .env."
            )
        assert isinstance(secret, SecretStr)
        return secret

    def s3_key_names(self, identity: S3Identity = "mbats") -> tuple[str, str]:
        """The settings that hold this identity's access and secret key. A store elsewhere may have one identity for all."""
        part = "" if identity == "mbats" else f"{identity}_"
        if self.s3_endpoint is not None and getattr(self, f"s3_{part}access_key") is None:
            part = ""
        return f"s3_{part}access_key", f"s3_{part}secret_key"

    def s3_keys(self, identity: S3Identity = "mbats") -> tuple[SecretStr, SecretStr]:
        """Access and secret key of one identity of the S3 store. Raises ConfigError when they are not there."""
        access, secret = self.s3_key_names(identity)
        return self.required_secret(access), self.required_secret(secret)

    @property
    def s3_url(self) -> str:
        """Address of the S3 store, whichever it is."""
        return self.s3_endpoint or f"http://{self.s3_host}:{self.s3_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of the MLflow server, whichever it is."""
        return self.mlflow_endpoint or f"http://{self.mlflow_host}:{self.mlflow_port}"

    @property
    def serving_url(self) -> str:
        """Address of the endpoint that serves a model, whichever it is."""
        return self.serving_endpoint or f"http://{self.serving_host}:{self.serving_port}"

    @property
    def airflow_url(self) -> str:
        """Address of Airflow's web page and API."""
        return f"http://{self.airflow_host}:{self.airflow_port}"

    @property
    def superset_url(self) -> str:
        """Address of Superset."""
        return f"http://{self.superset_host}:{self.superset_port}"

    @property
    def jupyter_url(self) -> str:
        """Address of JupyterLab."""
        return f"http://{self.jupyter_host}:{self.jupyter_port}"

    @property
    def pgadmin_url(self) -> str:
        """Address of pgAdmin."""
        return f"http://{self.pgadmin_host}:{self.pgadmin_port}"

    @property
    def simulator_url(self) -> str:
        """Address of the simulator's REST side."""
        return f"http://{self.simulator_host}:{self.simulator_port}"

    @property
    def simulator_stream_url(self) -> str:
        """Address of the simulator's streams."""
        return f"http://{self.simulator_host}:{self.simulator_stream_port}"

    @property
    def simulator_admin_url(self) -> str:
        """Address of the simulator's admin port, and of its page."""
        return f"http://{self.simulator_host}:{self.simulator_admin_port}"

    @property
    def trader_url(self) -> str:
        """Address of the trader's control port."""
        return f"http://{self.trader_host}:{self.trader_port}"

    @property
    def trader_home(self) -> Path:
        """The folder of the trader's journals, and of the commands that wait for it."""
        return self.home / "trader"


def state_home() -> Path:
    """The folder that holds everything the platform keeps: `MBATS_HOME`, or `.mbats` in the project."""
    return Path(os.environ.get("MBATS_HOME") or PROJECT_ROOT / ".mbats").expanduser().resolve()


def secrets_folder(home: Path) -> Path:
    """The folder of the secrets: `MBATS_SECRETS_DIR`, or `secrets` in the state folder."""
    return Path(os.environ.get("MBATS_SECRETS_DIR") or home / "secrets")


def env_file() -> Path:
    """The file of settings that the user writes: `.env` in `MBATS_ROOT`, or in the project."""
    return Path(os.environ.get("MBATS_ROOT") or PROJECT_ROOT) / ".env"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings afresh. Raises ConfigError that names each wrong variable and what was expected."""
    home = Path(overrides.pop("home", None) or state_home())
    secrets = secrets_folder(home)
    try:
        return Settings(
            _env_file=(home / "platform.env", env_file()),  # type: ignore[call-arg]
            _secrets_dir=secrets if secrets.is_dir() else None,
            home=home,
            **overrides,
        )
    except ValidationError as error:
        lines = [
            f"MBATS_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']} (found {problem['input']!r})"
            for problem in error.errors()
        ]
        raise ConfigError("Settings cannot be used. " + "; ".join(lines) + ". Correct them in .env or the environment.") from None


def chosen_by_user() -> frozenset[str]:
    """Names of the settings that come from the environment or from .env: the platform obeys these, and may better the others."""
    return frozenset(Settings(_env_file=env_file()).model_fields_set)  # type: ignore[call-arg]


@cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


__all__ = ["PROJECT_ROOT", "Role", "S3Identity", "Settings", "chosen_by_user", "get_settings", "load_settings", "state_home"]
