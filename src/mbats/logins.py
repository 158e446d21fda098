"""The logins of the PostgreSQL server and the databases they may enter, made by `admin`. Safe to repeat.

| login | owns | may enter | to |
|---|---|---|---|
| mbats_owner | secmaster, risk | both | migrate their tables |
| mbats_ingest | | secmaster | write bars |
| mbats_trading | | both | read bars, write runs |
| mbats_reader | | both | read everything |
| mbats_dashboard | | both | read the views `dash_*` |
| mbats_backup | | all | read everything, for dumps |
| mbats_mlflow, mbats_airflow, mbats_superset | their own | their own | keep their service's data |

Nobody else may enter any of them. What a login may do inside is granted by the migrations, which make the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from types import MappingProxyType
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from mbats.database import DATABASES, admin_connection, database_name, login
from mbats.errors import PlatformError
from mbats.settings import Role, Settings

BOOTSTRAP_LOCK = 0x6D626174_0002  # one process at a time
RIGHTS = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"

# TEMPORARY is for staging tables.
VISITORS: Mapping[str, Mapping[Role, str]] = MappingProxyType(
    {
        "secmaster": {
            "ingest": "CONNECT, TEMPORARY",
            "trading": "CONNECT",
            "reader": "CONNECT",
            "dashboard": "CONNECT",
            "backup": "CONNECT",
        },
        "risk": {"trading": "CONNECT, TEMPORARY", "reader": "CONNECT", "dashboard": "CONNECT", "backup": "CONNECT"},
    }
)
SERVICE_DATABASES: Mapping[str, Role] = MappingProxyType(
    {"mlflow": "mlflow", "mlflow_auth": "mlflow", "airflow": "airflow", "superset": "superset"}
)
# Where each login's password is tried.
HOMES: Mapping[Role, str] = MappingProxyType(
    {
        "owner": "secmaster",
        "ingest": "secmaster",
        "trading": "risk",
        "reader": "secmaster",
        "dashboard": "risk",
        "backup": "secmaster",
    }
)


def service_databases(settings: Settings) -> dict[str, Role]:
    """The databases of the services that this platform has, each with the login that owns it."""
    return {name: role for name, role in SERVICE_DATABASES.items() if settings.has_service(role)}


def server_databases(settings: Settings) -> list[str]:
    """The names, on the server, of every database of this platform."""
    return [*(database_name(settings, name) for name in DATABASES), *service_databases(settings)]


def bootstrap_databases(settings: Settings) -> list[str]:
    """Make the logins and the databases, as `admin`. Returns what was made or changed; nothing on a second call.

    A password that differs from the server's is set anew, so that a changed secret is all it takes to rotate one.
    """
    done: list[str] = []
    homes = _homes(settings)
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (BOOTSTRAP_LOCK,))  # held until the connection closes
        created = [role for role in homes if _create_role(cursor, settings, role)]
        done += [f"login {settings.postgres_user(role)}" for role in created]
        cursor.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(sql.Identifier(settings.postgres_user("backup"))))
        for name in DATABASES:
            if create_database(cursor, settings, database_name(settings, name), visitors=VISITORS[name]):
                done.append(f"database {database_name(settings, name)}")
        for database, role in service_databases(settings).items():
            if create_database(cursor, settings, database, owner=role, visitors={"backup": "CONNECT"}):
                done.append(f"database {database}")
        if settings.postgres_managed or settings.postgres_dedicated:
            # Of a server of somebody else, the databases that came with it are not ours to close.
            cursor.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        for role, home in homes.items():
            if role not in created and not _password_is_right(settings, role, home):
                _set_password(cursor, settings, role)
                done.append(f"password of {settings.postgres_user(role)}")
    return done


def set_admin_password(settings: Settings, new: Settings) -> None:
    """Give `admin` the password of `new`, let in by that of `settings`. Raises PlatformError when the server is not there."""
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        _set_password(cursor, new, "admin")


def create_database(
    cursor: Any,
    settings: Settings,
    database: str,
    *,
    owner: Role = "owner",
    visitors: Mapping[Role, str],
    template: str = "template0",
) -> bool:
    """Make one database, and let in its owner, the `visitors` with their rights, and nobody else. False when it was there."""
    place, master = sql.Identifier(database), sql.Identifier(settings.postgres_user(owner))
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
    missing = cursor.fetchone() is None
    if missing:
        statement = "CREATE DATABASE {} OWNER {} TEMPLATE {} ENCODING 'UTF8'"
        cursor.execute(sql.SQL(statement).format(place, master, sql.Identifier(template)))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(place))
    for role, rights in visitors.items():
        visitor = sql.Identifier(settings.postgres_user(role))
        cursor.execute(sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(rights), place, visitor))
    return missing


def _homes(settings: Settings) -> dict[Role, str]:
    """The database in which each login's password is tried, by its name on the server."""
    own = {name: database_name(settings, name) for name in DATABASES}
    homes: dict[Role, str] = {role: own[home] for role, home in HOMES.items()}  # type: ignore[index]
    for database, role in service_databases(settings).items():
        homes.setdefault(role, database)
    return homes


def _create_role(cursor: Any, settings: Settings, role: Role) -> bool:
    name = settings.postgres_user(role)
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
    if cursor.fetchone() is not None:
        return False
    verifier = _verifier(cursor, settings, role)
    cursor.execute(sql.SQL("CREATE ROLE {} " + RIGHTS).format(sql.Identifier(name), sql.Literal(verifier)))
    return True


def _set_password(cursor: Any, settings: Settings, role: Role) -> None:
    name = sql.Identifier(settings.postgres_user(role))
    cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(_verifier(cursor, settings, role))))


def _verifier(cursor: Any, settings: Settings, role: Role) -> str:
    # The server gets the SCRAM verifier instead of the password, which therefore cannot stand in any log of statements.
    password = settings.postgres_password(role).get_secret_value()
    return str(encrypt_password(password, settings.postgres_user(role), scope=cursor.connection, algorithm="scram-sha-256"))


def _password_is_right(settings: Settings, role: Role, home: str) -> bool:
    try:
        login(settings, role, home).close()
    except PlatformError:
        return False
    return True


__all__ = [
    "SERVICE_DATABASES",
    "VISITORS",
    "bootstrap_databases",
    "create_database",
    "server_databases",
    "service_databases",
    "set_admin_password",
]
