"""Connections to the two databases, the logins that may have one, and the migrations that make their tables.

Every job has a login with no more rights than it needs: `owner` owns the tables and migrates, `ingest` writes the
securities master, `trading` reads it and writes the risk database, `reader` reads. `mbats.logins` makes them.
Rows go through SQLAlchemy and psycopg2 (`begin`); columns go through ADBC (`bulk`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal, get_args
from urllib.parse import quote

import psycopg2
import sqlalchemy as sa
from adbc_driver_manager import Error as AdbcError
from adbc_driver_manager import OperationalError
from adbc_driver_postgresql import dbapi as adbc

from mbats.errors import PlatformError
from mbats.settings import Role, Settings

DatabaseName = Literal["secmaster", "risk"]
DATABASES: tuple[DatabaseName, ...] = get_args(DatabaseName)

APPLICATION = "mbats"
CONNECT_TIMEOUT = 10  # seconds
MIGRATION_LOCK = 0x6D626174_0001  # migrations are done by one process at a time


def database_name(settings: Settings, name: DatabaseName) -> str:
    """What the database is called on the server; `secmaster` and `risk` unless the settings say otherwise."""
    return settings.postgres_secmaster_database if name == "secmaster" else settings.postgres_risk_database


class Database:
    """One database as one login. Connections are made when they are first needed; `close` ends them.

    Threads may share it: each `begin` and each `bulk` has a connection of its own.
    """

    def __init__(self, settings: Settings, name: DatabaseName, role: Role) -> None:
        self.settings = settings
        self.name = name
        self.role = role
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None
        self._first_bulk: adbc.Connection | None = None

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine over psycopg2, made once. Raises ConfigError when the login's password is not set."""
        with self._lock:
            if self._engine is None:
                self._engine = self._new_engine()
            return self._engine

    def _new_engine(self) -> sa.Engine:
        url = sa.URL.create(
            "postgresql+psycopg2",
            username=self.settings.postgres_user(self.role),
            password=self.settings.postgres_password(self.role).get_secret_value(),
            host=self.settings.postgres_host,
            port=self.settings.postgres_port,
            database=database_name(self.settings, self.name),
        )
        connect = {"connect_timeout": CONNECT_TIMEOUT, "application_name": APPLICATION, "options": "-c timezone=UTC"}
        return sa.create_engine(url, connect_args=connect, pool_pre_ping=True, hide_parameters=True)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A connection in one transaction, committed when the block ends and rolled back when it raises.

        Raises PlatformError when the server cannot be reached, refuses the login, or goes away in the middle.
        """
        try:
            connection = self.engine.connect()
        except sa.exc.OperationalError as error:
            raise self._no_connection(error.orig) from None
        try:
            with connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise self._lost_connection(error.orig) from error
            raise

    @contextmanager
    def bulk(self) -> Iterator[adbc.Connection]:
        """An ADBC connection in one transaction, for Arrow tables in and out; commits and rolls back as `begin` does."""
        try:
            connection = self._bulk_source().adbc_clone()
        except AdbcError as error:
            raise self._no_connection(error) from None
        with closing(connection):
            try:
                yield connection
                connection.commit()
            except AdbcError as error:
                if _connection_lost(error):
                    raise self._lost_connection(error) from error
                raise

    def close(self) -> None:
        """End the connections that are kept open; the next `begin` makes new ones."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            if self._first_bulk is not None:
                self._first_bulk.close()
                self._first_bulk = None

    def _bulk_source(self) -> adbc.Connection:
        # ADBC reads the server's list of types for the first connection, ten times the cost of a copy of it.
        with self._lock:
            if self._first_bulk is None:
                self._first_bulk = adbc.connect(self._uri(), autocommit=True)
            return self._first_bulk

    def _uri(self) -> str:
        settings, role = self.settings, self.role
        user, password, database = (
            quote(part, safe="")
            for part in (
                settings.postgres_user(role),
                settings.postgres_password(role).get_secret_value(),
                database_name(settings, self.name),
            )
        )
        options = f"connect_timeout={CONNECT_TIMEOUT}&application_name={APPLICATION}&options=-c%20timezone%3DUTC"
        return f"postgresql://{user}:{password}@{settings.postgres_host}:{settings.postgres_port}/{database}?{options}"

    @property
    def _place(self) -> str:
        settings = self.settings
        return f"{settings.postgres_host}:{settings.postgres_port}, database '{database_name(settings, self.name)}'"

    def _no_connection(self, reason: object) -> PlatformError:
        return no_connection(self._place, self.settings.postgres_user(self.role), reason)

    def _lost_connection(self, reason: object) -> PlatformError:
        return PlatformError(
            f"PostgreSQL at {self._place} went away in the middle of the work: {_one_line(reason)}. What was not committed is "
            "undone. See `./starter_script.sh status`, then do it again."
        )


def no_connection(place: str, login: str, reason: object) -> PlatformError:
    """The error for a server that cannot be reached, or that refuses the login."""
    return PlatformError(
        f"No connection to PostgreSQL at {place} as '{login}': {_one_line(reason)}. Nothing was read or written. "
        "See `./starter_script.sh status`; `./starter_script.sh` starts the platform and sets its passwords."
    )


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split()).rstrip(".")


def _connection_lost(error: AdbcError) -> bool:
    # An error of the server's own has a state, class 57P when an operator ended the session; libpq's, who lost it, has none.
    return error.sqlstate.startswith("57P") if error.sqlstate else isinstance(error, OperationalError)


def wait_for_server(settings: Settings, *, timeout: float) -> None:
    """Wait until the server lets `admin` in. Raises PlatformError with its last refusal after `timeout` seconds.

    A password that the server refuses will not become right: that is raised at once.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            admin_connection(settings).close()
            return
        except PlatformError as error:
            if "password authentication failed" in str(error):
                raise PlatformError(
                    f"{error} The password of '{settings.postgres_user('admin')}' was set when the server's data folder was "
                    f"made: put that one back, into {settings.secrets_dir}/mbats_postgres_admin_password or where it stood."
                ) from None
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.05)


def admin_connection(settings: Settings, database: str = "postgres") -> Any:
    """A psycopg2 connection of `admin` that commits each statement by itself, as CREATE DATABASE needs."""
    return login(settings, "admin", database)


def login(settings: Settings, role: Role, database: str) -> Any:
    """A psycopg2 connection as the login of this job, to any database of the server; commits each statement by itself.

    Raises PlatformError when the server cannot be reached or refuses the login.
    """
    try:
        connection = psycopg2.connect(
            host=settings.postgres_host,
            port=settings.postgres_port,
            user=settings.postgres_user(role),
            password=settings.postgres_password(role).get_secret_value(),
            dbname=database,
            connect_timeout=CONNECT_TIMEOUT,
            application_name=APPLICATION,
        )
    except psycopg2.OperationalError as error:
        place = f"{settings.postgres_host}:{settings.postgres_port}, database '{database}'"
        raise no_connection(place, settings.postgres_user(role), error) from None
    connection.autocommit = True
    return connection


def migrate(settings: Settings, name: DatabaseName) -> bool:
    """Bring one database's tables up to date, as `owner`, in one transaction. False when they were so already.

    Two processes may do it at once: the second waits, and finds nothing left to do. A kill in the middle leaves the
    tables as they were.
    """
    # Imported here: Alembic is needed by nobody who only reads or writes rows.
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    history = settings.root / "db" / name
    if not (history / "env.py").is_file():
        raise PlatformError(f"No migrations of '{name}' at {history}. MBATS_ROOT must be the project's folder.")
    config = Config()
    config.set_main_option("script_location", str(history).replace("%", "%%"))
    database = Database(settings, name, "owner")
    try:
        with database.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
            connection.execute(sa.text("SET LOCAL statement_timeout = '300s'"))
            before = MigrationContext.configure(connection).get_current_heads()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return before != MigrationContext.configure(connection).get_current_heads()
    except sa.exc.OperationalError as error:
        raise PlatformError(
            f"The tables of '{database_name(settings, name)}' could not be migrated: {_one_line(error.orig)}. They are as they "
            "were. Another process may hold them: stop what is running, then do it again."
        ) from error
    finally:
        database.close()


__all__ = [
    "DATABASES",
    "Database",
    "DatabaseName",
    "admin_connection",
    "database_name",
    "login",
    "migrate",
    "wait_for_server",
]
