"""Connections to the two databases, the logins that may have one, and the migrations that make their tables.

Every job has a login with no more rights than it needs: `owner` owns the tables and migrates, `ingest` writes the
securities master, `trading` reads it and writes the risk database, `reader` reads views. `admin` makes the others.
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
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from mbats.errors import PlatformError
from mbats.settings import Role, Settings

DatabaseName = Literal["secmaster", "risk"]
DATABASES: tuple[DatabaseName, ...] = get_args(DatabaseName)

APPLICATION = "mbats"
CONNECT_TIMEOUT = 10  # seconds
# Migrations and the making of databases are done by one process at a time; these are the numbers of their locks.
MIGRATION_LOCK, BOOTSTRAP_LOCK = 0x6D626174_0001, 0x6D626174_0002

# Who may connect to which database; TEMPORARY is for staging tables.
CONNECT_ROLES: dict[DatabaseName, dict[Role, str]] = {
    "secmaster": {"ingest": "CONNECT, TEMPORARY", "trading": "CONNECT", "reader": "CONNECT"},
    "risk": {"trading": "CONNECT, TEMPORARY", "reader": "CONNECT"},
}
# Where each login's password is tried.
HOME_DATABASE: dict[Role, DatabaseName] = {"owner": "secmaster", "ingest": "secmaster", "trading": "risk", "reader": "secmaster"}


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
    return _login(settings, "admin", database)


def _login(settings: Settings, role: Role, database: str) -> Any:
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


def bootstrap_databases(settings: Settings) -> list[str]:
    """Make the logins and both databases, as `admin`. Returns what was made or changed; nothing on a second call.

    A password that differs from the server's is set anew, so that a changed secret is all it takes to rotate one.
    """
    done: list[str] = []
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (BOOTSTRAP_LOCK,))  # held until the connection closes
        created = [role for role in HOME_DATABASE if _create_role(cursor, settings, role)]
        done += [f"login {settings.postgres_user(role)}" for role in created]
        for name in DATABASES:
            if create_database(cursor, settings, name):
                done.append(f"database {database_name(settings, name)}")
        for role, home in HOME_DATABASE.items():
            if role not in created and not _password_is_right(settings, role, home):
                _set_password(cursor, settings, role)
                done.append(f"password of {settings.postgres_user(role)}")
    return done


def create_database(cursor: Any, settings: Settings, name: DatabaseName, *, template: str = "template0") -> bool:
    """Make one database, and let in those who need it and nobody else. False when it was there already."""
    database, owner = sql.Identifier(database_name(settings, name)), sql.Identifier(settings.postgres_user("owner"))
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database_name(settings, name),))
    missing = cursor.fetchone() is None
    if missing:
        statement = "CREATE DATABASE {} OWNER {} TEMPLATE {} ENCODING 'UTF8'"
        cursor.execute(sql.SQL(statement).format(database, owner, sql.Identifier(template)))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    for role, rights in CONNECT_ROLES[name].items():
        login = sql.Identifier(settings.postgres_user(role))
        cursor.execute(sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(rights), database, login))
    return missing


def _create_role(cursor: Any, settings: Settings, role: Role) -> bool:
    login = settings.postgres_user(role)
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,))
    if cursor.fetchone() is not None:
        return False
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"
    verifier = _verifier(cursor, settings, role)
    cursor.execute(sql.SQL("CREATE ROLE {} " + rights).format(sql.Identifier(login), sql.Literal(verifier)))
    return True


def _set_password(cursor: Any, settings: Settings, role: Role) -> None:
    login = sql.Identifier(settings.postgres_user(role))
    cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(login, sql.Literal(_verifier(cursor, settings, role))))


def _verifier(cursor: Any, settings: Settings, role: Role) -> str:
    # The server gets the SCRAM verifier instead of the password, which therefore cannot stand in any log of statements.
    password = settings.postgres_password(role).get_secret_value()
    return str(encrypt_password(password, settings.postgres_user(role), scope=cursor.connection, algorithm="scram-sha-256"))


def _password_is_right(settings: Settings, role: Role, home: DatabaseName) -> bool:
    try:
        _login(settings, role, database_name(settings, home)).close()
    except PlatformError:
        return False
    return True


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
    "bootstrap_databases",
    "create_database",
    "database_name",
    "migrate",
    "wait_for_server",
]
