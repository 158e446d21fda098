"""Who may do what in which database, and how the databases come to be."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, get_args

import psycopg2
import pyarrow as pa
import pytest
import sqlalchemy as sa
from adbc_driver_manager import ProgrammingError as AdbcProgrammingError
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from mbats.database import DATABASES, Database, admin_connection, database_name, migrate
from mbats.errors import ConfigError, PlatformError
from mbats.logins import VISITORS, bootstrap_databases, create_database
from mbats.riskdb import tables as risk
from mbats.secmaster import tables as secmaster
from mbats.settings import Role, Settings, load_settings

METADATA = {"secmaster": secmaster.metadata, "risk": risk.metadata}
LIVE_VIEWS = ["dash_deployments", "dash_live_orders", "dash_live_positions", "dash_live_equity", "dash_risk_events"]
VIEWS = {"secmaster": ["daily_data", "minute_data"], "risk": ["dash_runs", "dash_equity", *LIVE_VIEWS]}
STATES = {"deployment", "order_intent", "heartbeat", "lease"}  # tables of what is now, and not of what happened
Connect = Callable[..., Database]


@pytest.fixture
def connect(settings: Settings, secmaster_db: Database, risk_db: Database) -> Iterator[Connect]:
    """Opens a database as a role; all are closed at the end."""
    opened: list[Database] = []

    def open_as(name: str, role: Role, of: Settings = settings) -> Database:
        opened.append(Database(of, name, role))
        return opened[-1]

    yield open_as
    for database in opened:
        database.close()


def run(database: Database, statement: str) -> Any:
    with database.begin() as connection:
        result = connection.execute(sa.text(statement))
        return result.all() if result.returns_rows else None


def assert_denied(database: Database, statement: str) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        run(database, statement)


def some_column(table: sa.Table) -> str:
    return list(table.columns)[-1].name  # the first may be an identity, which nobody may set


# --- Rights ------------------------------------------------------------------------------------------------------


def test_trading_reads_the_securities_master_and_cannot_write_it(connect: Connect) -> None:
    trading = connect("secmaster", "trading")

    for table in METADATA["secmaster"].sorted_tables:
        run(trading, f"SELECT * FROM {table}")
        assert_denied(trading, f"INSERT INTO {table} DEFAULT VALUES")
        assert_denied(trading, f"UPDATE {table} SET {some_column(table)} = NULL")
        assert_denied(trading, f"DELETE FROM {table}")


def test_ingest_cannot_delete_a_bar_or_rewrite_a_revision(connect: Connect) -> None:
    ingest = connect("secmaster", "ingest")

    for statement in ("DELETE FROM bar", "TRUNCATE bar", "UPDATE bar_revision SET volume = 0", "DELETE FROM bar_revision"):
        assert_denied(ingest, statement)


def test_trading_cannot_change_a_run_once_it_is_recorded(connect: Connect) -> None:
    trading = connect("risk", "trading")

    for table in METADATA["risk"].sorted_tables:
        run(trading, f"SELECT * FROM {table}")
        assert_denied(trading, f"DELETE FROM {table}")
        if table.name not in STATES:
            assert_denied(trading, f"UPDATE {table} SET {some_column(table)} = NULL")


@pytest.mark.parametrize("name", DATABASES)
def test_the_reader_reads_everything_and_writes_nothing(connect: Connect, name: str) -> None:
    reader = connect(name, "reader")

    for readable in [*VIEWS[name], *(table.name for table in METADATA[name].sorted_tables)]:
        run(reader, f"SELECT * FROM {readable}")
    for table in METADATA[name].sorted_tables:
        assert_denied(reader, f"DELETE FROM {table}")


@pytest.mark.parametrize(("name", "role"), [("secmaster", "ingest"), ("secmaster", "reader"), ("risk", "trading")])
def test_nobody_but_the_owner_makes_tables(connect: Connect, name: str, role: Role) -> None:
    assert_denied(connect(name, role), "CREATE TABLE mine (x int)")


@pytest.mark.parametrize("name", DATABASES)
def test_everything_belongs_to_the_owner(connect: Connect, name: str) -> None:
    query = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"

    assert run(connect(name, "owner"), query) == [("mbats_owner",)]


def test_ingest_cannot_enter_the_risk_database(connect: Connect) -> None:
    with pytest.raises(PlatformError, match="permission denied for database"):
        run(connect("risk", "ingest"), "SELECT 1")


@pytest.mark.parametrize("name", DATABASES)
def test_a_login_without_a_job_enters_neither_database(settings: Settings, connect: Connect, name: str) -> None:
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE stranger LOGIN PASSWORD 'x'")
        try:
            with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                psycopg2.connect(
                    host=settings.postgres_host,
                    port=settings.postgres_port,
                    user="stranger",
                    password="x",
                    dbname=database_name(settings, name),
                )
        finally:
            cursor.execute("DROP ROLE stranger")


# --- Connections -------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_refused_and_not_repeated_in_the_message(settings: Settings, connect: Connect) -> None:
    wrong = load_settings(**settings.model_dump() | {"postgres_ingest_password": "not-the-password"})
    database = connect("secmaster", "ingest", wrong)

    for use in (database.begin, database.bulk):
        with pytest.raises(PlatformError, match="password authentication failed") as refusal, use():
            pass
        assert f"127.0.0.1:{settings.postgres_port}" in str(refusal.value)
        assert "'mbats_ingest'" in str(refusal.value)
        assert "not-the-password" not in str(refusal.value)


def test_a_server_that_is_not_there_is_named_with_what_to_do(settings: Settings, connect: Connect, free_port: int) -> None:
    database = connect("secmaster", "ingest", settings.model_copy(update={"postgres_port": free_port}))

    for use in (database.begin, database.bulk):
        with pytest.raises(PlatformError, match=rf"127.0.0.1:{free_port}.*starter_script.sh"), use():
            pass


def test_a_password_that_was_never_made_is_a_matter_of_configuration(settings: Settings, connect: Connect) -> None:
    database = connect("secmaster", "ingest", settings.model_copy(update={"postgres_ingest_password": None}))

    with pytest.raises(ConfigError, match="postgres_ingest_password"), database.begin():
        pass


def test_a_transaction_that_raises_leaves_nothing(secmaster_db: Database) -> None:
    with pytest.raises(ZeroDivisionError), secmaster_db.begin() as connection:
        connection.execute(sa.insert(secmaster.data_vendor).values(name="half"))
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), secmaster_db.bulk() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("data_vendor", pa.table({"name": ["half"]}), mode="append")
        raise ZeroDivisionError

    assert run(secmaster_db, "SELECT * FROM data_vendor") == []


def test_a_server_that_goes_away_in_the_middle_is_one_plain_error_and_the_next_transaction_works(
    settings: Settings, secmaster_db: Database
) -> None:
    def throw_out() -> None:
        with closing(admin_connection(settings)) as admin, admin.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mbats_ingest'")

    with pytest.raises(PlatformError, match="went away in the middle"), secmaster_db.begin() as connection:
        throw_out()
        connection.execute(sa.text("SELECT 1"))
    with pytest.raises(PlatformError, match="went away in the middle"), secmaster_db.bulk() as connection:
        throw_out()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1").fetchall()

    assert run(secmaster_db, "SELECT 1") == [(1,)]
    with secmaster_db.bulk() as connection, connection.cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def test_an_error_of_ours_is_not_taken_for_a_lost_server(secmaster_db: Database) -> None:
    with pytest.raises(AdbcProgrammingError), secmaster_db.bulk() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 'server closed the connection' FROM nowhere")
    with pytest.raises(sa.exc.ProgrammingError), secmaster_db.begin() as connection:
        connection.execute(sa.text("SELECT 1 FROM nowhere"))


# --- How databases come to be -----------------------------------------------------------------------------------------------


def test_bootstrapping_again_changes_nothing_and_says_so(settings: Settings, connect: Connect) -> None:
    assert bootstrap_databases(settings) == []


def test_a_changed_password_is_set_by_the_next_bootstrap_and_stands_in_no_log(
    postgres_server: Settings, settings: Settings, connect: Connect
) -> None:
    new = secrets.token_urlsafe(16)
    rotated = load_settings(**settings.model_dump() | {"postgres_reader_password": new})
    log = postgres_server.home / "postgres.log"
    with closing(admin_connection(settings)) as admin, admin.cursor() as cursor:
        cursor.execute("ALTER ROLE postgres SET log_statement = 'all'")  # the worst a curious administrator could do
        try:
            changed = bootstrap_databases(rotated)

            assert changed == ["password of mbats_reader"]
            assert run(connect("secmaster", "reader", rotated), "SELECT 1") == [(1,)]
            with pytest.raises(PlatformError, match="password authentication failed"):
                run(connect("secmaster", "reader", settings), "SELECT 1")
            assert "ALTER ROLE" in log.read_text()
            assert new not in log.read_text()
        finally:
            cursor.execute("ALTER ROLE postgres RESET log_statement")
            bootstrap_databases(settings)


@pytest.fixture
def unmigrated(settings: Settings) -> Iterator[Settings]:
    """Settings whose databases exist and are empty."""
    with closing(admin_connection(settings)) as admin, admin.cursor() as cursor:
        for name in DATABASES:
            create_database(cursor, settings, database_name(settings, name), visitors=VISITORS[name])
        yield settings
        for name in DATABASES:
            cursor.execute(f"DROP DATABASE {database_name(settings, name)} WITH (FORCE)")


def test_two_processes_that_migrate_at_once_do_it_once(unmigrated: Settings) -> None:
    code = (
        "import sys; from mbats.database import migrate; from mbats.settings import load_settings\n"
        "print(migrate(load_settings(home=sys.argv[1]), 'secmaster'))"
    )
    argv = [sys.executable, "-c", code, str(unmigrated.home)]

    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]

    assert sorted(answer[0].strip() for answer in answers) == ["False", "True"], answers
    assert migrate(unmigrated, "secmaster") is False


def test_a_migration_that_fails_leaves_the_tables_as_they_were(unmigrated: Settings, tmp_path: Any) -> None:
    history = tmp_path / "db" / "risk"
    (history / "versions").mkdir(parents=True)
    (history / "env.py").write_text((unmigrated.root / "db" / "risk" / "env.py").read_text())
    (history / "versions" / "0001_broken.py").write_text(
        "from alembic import op\nrevision = '0001'\ndown_revision = None\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (x int)')\n    op.execute('SELECT * FROM nowhere')\n"
    )

    with pytest.raises(sa.exc.ProgrammingError, match="nowhere"):
        migrate(unmigrated.model_copy(update={"root": tmp_path}), "risk")

    owner = Database(unmigrated, "risk", "owner")
    assert run(owner, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []
    owner.close()


def test_a_root_without_migrations_is_named(settings: Settings, tmp_path: Any) -> None:
    with pytest.raises(PlatformError, match=r"No migrations of 'risk' at .*MBATS_ROOT"):
        migrate(settings.model_copy(update={"root": tmp_path}), "risk")


@pytest.mark.parametrize("name", DATABASES)
def test_the_tables_that_python_knows_are_those_that_the_migrations_make(connect: Connect, name: str) -> None:
    def is_not_a_partition(found: str | None, kind: str, parents: dict[str, str | None]) -> bool:
        return not (kind == "table" and found is not None and found.startswith("bar_") and found in partitions)

    with connect(name, "owner").begin() as connection:
        query = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'"
        partitions = set(connection.scalars(sa.text(query)))
        options = {"include_name": is_not_a_partition, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)

        assert compare_metadata(context, METADATA[name]) == []


def test_every_login_has_a_password_of_its_own(settings: Settings) -> None:
    passwords = [settings.postgres_password(role).get_secret_value() for role in get_args(Role)]

    assert len(set(passwords)) == len(passwords)
