"""Airflow: four processes that share one configuration file, behind a login, with their data in PostgreSQL.

A restart of any of them, or of PostgreSQL, loses no task: `airflow/run.py` says how, and the settings below see to the rest. With
`airflow_executor` CeleryExecutor, tasks run in workers on other machines or containers, which get them through Redis.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from mbats.errors import PlatformError
from mbats.platform.files import ini, passfile, private_folder, write_private
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.platform.service import LOOPBACK, Say, Service, ask_json, plain_environment, stamp
from mbats.settings import Settings

DATABASE = "airflow"
DAY = 86_400
MANY = 1000
PREPARE_TIMEOUT = 600.0
# What no task asks about.
NOT_READ = ("superset_", "jupyter_", "pgadmin_", "services", "min_free_", "start_timeout_", "public_addresses")
FORMER_KEYS = "fernet_keys"

# The name of each component in Airflow's report of its health, and in its own command line.
COMPONENTS = {
    "airflow-scheduler": ("scheduler", "Airflow scheduler", ["scheduler", "--skip-serve-logs"]),
    "airflow-dag-processor": ("dag_processor", "Airflow DAG processor", ["dag-processor"]),
    "airflow-triggerer": ("triggerer", "Airflow triggerer", ["triggerer", "--skip-serve-logs"]),
}


def airflow(settings: Settings) -> list[Service]:
    """The four components, in the order in which they are started."""
    here = settings.airflow_host in LOOPBACK
    apiserver = Service(
        name="airflow-apiserver",
        title="Airflow",
        address=settings.airflow_url,
        here=here,
        ports=(PortNeed("airflow_port", "Airflow"),),
        program=lambda: _program(settings, "airflow-apiserver", ["api-server"]),
        check=lambda: _check(settings, "metadatabase", "api-server"),
        prepare=lambda say: _prepare(settings, say),
    )
    return [apiserver, *(_component(settings, name, here) for name in COMPONENTS)]


def _component(settings: Settings, name: str, here: bool) -> Service:
    part, title, arguments = COMPONENTS[name]
    return Service(
        name=name,
        title=title,
        address=settings.airflow_url,
        here=here,
        ports=(),
        program=lambda: _program(settings, name, arguments),
        check=lambda: _check(settings, part, arguments[0]),
        after=("airflow-apiserver",),
        hung_after=None,  # while the API server is away nothing is known of it, and it ends itself when it hangs
    )


def airflow_worker(settings: Settings) -> Service:
    """A worker of the CeleryExecutor. It is none of the platform's services; as many of them run as are wanted.

    `airflow/ping_worker.py` says of each, in its own container, whether it is well.
    """
    return Service(
        name="airflow-worker",
        title="Airflow worker",
        address=settings.airflow_url,
        here=False,
        ports=(),
        program=lambda: _program(settings, "airflow-worker", ["celery", "worker", "--skip-serve-logs"]),
        check=lambda: version("apache-airflow-core"),
        after=("airflow-apiserver",),
    )


def _program(settings: Settings, name: str, arguments: list[str]) -> Program:
    folder = _write_config(settings)
    return Program(
        name=name,
        command=[sys.executable, "-P", str(settings.root / "airflow" / "run.py"), *arguments],
        directory=folder,
        environment=_environment(settings, folder)
        | {"MBATS_CONFIG_FILES": stamp(folder / "airflow.cfg", folder / "pgpass", *_admin_password(settings, name))},
        stop_seconds=30,
        die_with_parent=signal.SIGKILL,  # what was under way is run again
    )


def _admin_password(settings: Settings, name: str) -> list[Path]:
    # In the database and in no configuration: `prepare`, which goes before a start, sets it there.
    file = settings.secrets_dir / "mbats_airflow_password"
    return [file] if name == "airflow-apiserver" and file.is_file() else []


def _environment(settings: Settings, folder: Path) -> dict[str, str]:
    """What the components, and the tasks that they start, see of this platform."""
    return plain_environment(settings, without=NOT_READ) | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONFIG": str(folder / "airflow.cfg"),
        "MBATS_SECRETS_DIR": str(settings.secrets_dir),
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",  # a task may call `mbats`
    }


def _write_config(settings: Settings) -> Path:
    """Write the files of Airflow's folder, which hold secrets and are private. Raises ConfigError when a secret is missing."""
    folder = private_folder(settings.home / "airflow")
    write_private(folder / "pgpass", passfile(settings.postgres_password("airflow")))
    write_private(folder / "airflow.cfg", ini(_configuration(settings, folder)))
    return folder


def _configuration(settings: Settings, folder: Path) -> dict[str, dict[str, object]]:
    celery = settings.airflow_executor == "CeleryExecutor"
    sections: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": settings.root / "airflow" / "dags",
            "plugins_folder": folder / "plugins",
            "load_examples": False,
            "executor": settings.airflow_executor,
            "parallelism": MANY if celery else settings.airflow_parallelism,  # a Celery worker has a limit of its own
            "auth_manager": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            "fernet_key": ",".join(_fernet_keys(settings, folder)),
            "execution_api_server_url": f"{settings.airflow_url}/execution/",
            "hostname_callable": "socket.gethostname",  # no name server is asked
            "min_serialized_dag_update_interval": 5,
        },
        "database": {
            "sql_alchemy_conn": _database_uri(settings, folder, "postgresql+psycopg2"),
            "sql_alchemy_conn_async": _database_uri(settings, folder, "postgresql+psycopg_async"),
            "max_db_retries": 10,
        },
        "api": {
            "host": settings.listen,
            "port": settings.airflow_port,
            "workers": 1,
            "worker_timeout": 10,  # seconds that a request under way is given when it is told to stop
            "secret_key": settings.required_secret("airflow_secret_key").get_secret_value(),
            "expose_config": False,
        },
        "api_auth": {
            "jwt_secret": settings.required_secret("airflow_jwt_secret").get_secret_value(),
            "jwt_issuer": "mbats",
            "jwt_expiration_time": DAY,
        },
        "fab": {"config_file": folder / "webserver_config.py", "update_fab_perms": False},
        # A task outlives an API server that is away for ten minutes, and is heard again soon after.
        "execution_api": {"jwt_expiration_time": 7 * DAY},
        "workers": {"max_failed_heartbeats": 150, "execution_api_retries": 60, "execution_api_retry_wait_max": 5},
        "scheduler": {
            "task_instance_heartbeat_timeout": 900,
            "scheduler_health_check_threshold": 30,
            "orphaned_tasks_check_interval": 30,  # how soon a task of a dead scheduler is run again
            "enable_health_check": False,
        },
        # A DAG file that is new, or was changed, is seen within ten seconds.
        "dag_processor": {
            "refresh_interval": 10,
            "min_file_process_interval": 10,
            "bundle_refresh_check_interval": 2,
            "print_stats_interval": 300,
            "dag_bundle_storage_path": folder / "bundles",
        },
        "logging": {
            "base_log_folder": folder / "logs",
            "dag_processor_child_process_log_directory": folder / "logs" / "dag_processor",
            "remote_logging": False,
            "colored_console_log": False,
            "file_task_handler_new_folder_permissions": "0o700",
            "file_task_handler_new_file_permissions": "0o600",
        },
    }
    if celery:
        password = quote(settings.required_secret("redis_password").get_secret_value(), safe="")
        sections["celery"] = {
            "broker_url": f"redis://:{password}@{settings.redis_host}:{settings.redis_port}/0",
            "result_backend": f"db+{_database_uri(settings, folder, 'postgresql+psycopg2')}",
            "worker_concurrency": settings.airflow_parallelism,
        }
        # Redis gives a task to a second worker when the first has not finished it in this time.
        sections["celery_broker_transport_options"] = {"visibility_timeout": 7 * DAY}
    return sections


def _database_uri(settings: Settings, folder: Path, driver: str) -> str:
    """The database's address. libpq takes the password from the file that it names, and notices a server that is gone."""
    user, place = settings.postgres_user("airflow"), f"{settings.postgres_host}:{settings.postgres_port}"
    options = f"passfile={quote(str(folder / 'pgpass'), safe='/')}&connect_timeout=10&keepalives_idle=30&keepalives_interval=5"
    return f"{driver}://{user}@{place}/{DATABASE}?{options}&keepalives_count=3"


def _fernet_keys(settings: Settings, folder: Path) -> list[str]:
    """The key that encrypts, and after it the former one, while there is something that was stored under that."""
    key = settings.required_secret("airflow_fernet_key").get_secret_value()
    file = folder / FORMER_KEYS
    known = file.read_text().split() if file.is_file() else []
    keys = [key, *(former for former in known if former != key)]
    write_private(file, "\n".join(keys) + "\n")
    return keys


def _prepare(settings: Settings, say: Say) -> None:
    """Make or migrate the tables, and make the admin or set a changed password. Raises PlatformError with Airflow's own words."""
    folder = _write_config(settings)
    admin = {"user": settings.admin_user, "password": settings.required_secret("airflow_password").get_secret_value()}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(settings.root / "airflow" / "prepare.py")],
            input=json.dumps(admin),
            capture_output=True,
            text=True,
            cwd=folder,
            env={"LC_ALL": "C.UTF-8", "HOME": str(folder)} | _environment(settings, folder),
            timeout=PREPARE_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise PlatformError(f"Airflow's tables were not brought up to date in {PREPARE_TIMEOUT:g} s. Start again.") from None
    for line in done.stdout.splitlines():
        say(line)
    if done.returncode != 0:
        reason = "\n".join(f"    {line}" for line in done.stderr.splitlines()[-15:])
        raise PlatformError(f"Airflow could not be prepared (exit code {done.returncode}). It said:\n{reason}")
    # All that was stored is encrypted with the newest key now.
    write_private(folder / FORMER_KEYS, settings.required_secret("airflow_fernet_key").get_secret_value() + "\n")
    _write_config(settings)


def _check(settings: Settings, part: str, command: str) -> str:
    report = ask_json(settings.airflow_url, "/api/v2/monitor/health")[part]
    if report["status"] != "healthy":
        raise PlatformError(f"Airflow says that its {part.replace('_', ' ')} is {report['status'] or 'not running'}.")
    heartbeat = report.get(f"latest_{part}_heartbeat")
    started = settings.home / "airflow" / f"{command}.started"
    if heartbeat and started.is_file() and datetime.fromisoformat(heartbeat).timestamp() < started.stat().st_mtime:
        raise PlatformError(f"Airflow's {part.replace('_', ' ')} was started and has not begun its work yet.")
    return str(ask_json(settings.airflow_url, "/api/v2/version")["version"])


__all__ = ["airflow", "airflow_worker"]
