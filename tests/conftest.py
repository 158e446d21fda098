"""What many tests share: a real PostgreSQL server, fresh migrated databases on it, and the folder of real candles."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import get_args

import hypothesis
import pytest
from fakes import FakeOanda
from psycopg2 import sql
from pydantic import SecretStr
from stores import running_store

from mbats.database import DATABASES, Database, admin_connection, database_name, migrate, wait_for_server
from mbats.logins import VISITORS, bootstrap_databases, create_database
from mbats.objectstore import ObjectStore
from mbats.platform import weed
from mbats.platform.postgres import init_cluster, server_command
from mbats.settings import PROJECT_ROOT, Role, Settings, load_settings

DATABASE_NUMBERS = count(1)
LONG = ("services/test_airflow", "platform/test_platform", "services/", "backup/", "dags/", "platform/", "ingest/test_kill")
SERVER_FOLDERS = ("tests/services/", "tests/backup/", "tests/dags/")
SERVER_FIXTURES = {"postgres_server", "store_settings", "platform", "ordinary"}

# How fast a machine is says nothing about the code: on a busy one these two checks of hypothesis fail by themselves.
hypothesis.settings.register_profile("mbats", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("mbats")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "server: needs a running server; put on every test that has a fixture which starts one")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell in the background ignores Ctrl-C, and every process that the tests start would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str | None:
    return None if os.environ.get("MBATS_STACK") else "tests/stack: left out; MBATS_STACK=native or docker runs it"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest files first, so that no worker is left with one of them alone at the end.
    items.sort(key=lambda item: next((place for place, part in enumerate(LONG) if part in item.nodeid), len(LONG)))
    for item in items:
        starts_one = any(folder in item.nodeid for folder in SERVER_FOLDERS)
        if starts_one or SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")


def an_unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listened a moment ago."""
    return an_unused_port()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real candles beside the repository, which is not part of it."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real candles at {folder}")
    return folder


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A server of this test session, with both databases migrated, as the settings that reach it.

    The session's own databases are never written: each test gets copies of them.
    """
    home = _folder_in_memory() or tmp_path_factory.mktemp("platform")
    passwords = {f"postgres_{role}_password": secrets.token_urlsafe(16) for role in get_args(Role)}
    settings = load_settings(home=home, postgres_port=an_unused_port(), **passwords)
    data_dir = home / "postgres"
    init_cluster(settings, data_dir, settings.postgres_password("admin"))
    # What a power cut would lose does not matter here; every commit of a test waiting for the disk does.
    argv = [*server_command(settings, data_dir, settings.postgres_port), "--fsync=off", "--full_page_writes=off"]
    with (home / "postgres.log").open("wb") as log:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for_server(settings, timeout=60)
            bootstrap_databases(settings)
            for name in DATABASES:
                migrate(settings, name)
            yield settings
        finally:
            stop(server)
    shutil.rmtree(home)


def _folder_in_memory() -> Path | None:
    """A folder of this process in /dev/shm, where a copy of a database takes a tenth of the time; None where there is no room."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 4 * 2**30:
        return None
    for left in memory.glob("mbats-test-*"):
        if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():  # of a session that was killed
            shutil.rmtree(left, ignore_errors=True)
    folder = memory / f"mbats-test-{os.getpid()}"
    folder.mkdir(mode=0o700)
    return folder


def stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


@pytest.fixture
def settings(postgres_server: Settings, tmp_path: Path) -> Settings:
    """Settings of a platform of this test's own: its state folder, and the names of two databases not made yet.

    They stand in the state folder as well, as `starter_script.sh` leaves them, so that `MBATS_HOME=<settings.home> mbats …`
    in a process of its own sees the same platform.
    """
    number = next(DATABASE_NUMBERS)
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    chosen = {f"postgres_{name}_database": f"{name}_{number}" for name in DATABASES} | {
        "postgres_port": str(postgres_server.postgres_port)
    }
    (home / "platform.env").write_text("".join(f"MBATS_{key.upper()}={value}\n" for key, value in chosen.items()))
    passwords = {f"postgres_{role}_password": postgres_server.postgres_password(role) for role in get_args(Role)}
    fresh = {key: SecretStr(secrets.token_urlsafe(16)) for key in ("s3_access_key", "s3_secret_key", "simulator_token")}
    for key, secret in (passwords | fresh).items():
        file = home / "secrets" / f"mbats_{key}"
        file.touch(mode=0o600)
        file.write_text(secret.get_secret_value())
    return load_settings(home=home, **chosen, **passwords, **fresh)


@pytest.fixture
def secmaster_db(postgres_server: Settings, settings: Settings) -> Iterator[Database]:
    """An empty, migrated securities master, as the login that writes it; other logins by `Database(settings, …)`."""
    yield from _fresh_database(postgres_server, settings, "secmaster", "ingest")


@pytest.fixture
def risk_db(postgres_server: Settings, settings: Settings) -> Iterator[Database]:
    """An empty, migrated risk database, as the login that writes it."""
    yield from _fresh_database(postgres_server, settings, "risk", "trading")


def _fresh_database(server: Settings, settings: Settings, name: str, role: Role) -> Iterator[Database]:
    admin = admin_connection(settings)
    try:
        with admin.cursor() as cursor:
            create_database(
                cursor, settings, database_name(settings, name), visitors=VISITORS[name], template=database_name(server, name)
            )
            database = Database(settings, name, role)
            yield database
            database.close()
            cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database_name(settings, name))))
    finally:
        admin.close()


@pytest.fixture
def oanda() -> Iterator[FakeOanda]:
    """A broker of the test's own, with no bars until it is given some."""
    fake = FakeOanda()
    yield fake
    fake.close()


@pytest.fixture
def store(settings: Settings) -> Iterator[ObjectStore]:
    """A real S3 store with its buckets and the sample workbook, at the address that `settings.home/platform.env` names."""
    with running_store(settings) as chosen:
        with (settings.home / "platform.env").open("a") as file:
            file.writelines(f"MBATS_{need.setting.upper()}={getattr(chosen, need.setting)}\n" for need in weed.PORTS)
        yield ObjectStore(chosen)
