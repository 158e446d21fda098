"""What Superset needs before it may start: its tables, its user, its roles, and the dashboards that stand in `assets/`.

Run as `python -P prepare.py` with the variables of `environment.py`. It prints a line for each thing it did; the rest goes to
the standard error. It may be repeated: what is as it should be is skipped, and when all is, Superset is not even imported.

`assets/` is the truth about what stands in it: a dashboard that a user deleted comes back, and one that he changed is his until
its text changes. What he made himself is left alone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import yaml
from environment import CONNECT, DASHBOARD_LOGIN, METADATA_DATABASE, METADATA_LOGIN, Environment, load_environment
from werkzeug.security import check_password_hash, generate_password_hash

ASSETS = Path(__file__).parent / "assets"
LOCK = 0x6D626174_0005  # one process at a time prepares
# Where Superset keeps what the files of each folder describe.
TABLES = {"databases": "dbs", "datasets": "tables", "charts": "slices", "dashboards": "dashboards"}
# A comment on a table of Superset's goes with its database: one that is dropped or restored cannot be taken for prepared.
MARKED = "alembic_version"


def main() -> None:
    place = load_environment()
    place.use_passwords()
    wanted = read_assets(place)
    mark = {
        "superset": importlib.metadata.version("apache-superset"),
        "assets": hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest(),
    }
    with only_one(place) as cursor:
        found = read_mark(cursor)
        same_version = found.get("superset") == mark["superset"]
        same_assets = same_version and found.get("assets") == mark["assets"] and not missing(cursor, wanted)
        same_user = same_version and user_is_right(cursor, place)
        if same_version and not same_user and change_password(cursor, place):
            say(f"Superset: password of {place.admin_user} changed.")
            same_user = user_is_right(cursor, place)
            if same_assets and same_user:
                return
        if same_assets and same_user:
            say(f"Superset {mark['superset']}: tables, user and dashboards are up to date, skipped.")
            return
        app = make_app()
        with app.app_context():
            if not same_version:
                migrate(app)
                say(f"Superset {mark['superset']}: tables and roles made or brought up to date.")
            if not same_user:
                ensure_user(app, place)
                say(f"Superset: user {place.admin_user} made.")
            if not same_assets:
                import_assets(app, place, wanted)
                say(f"Superset: dashboards imported: {', '.join(dashboards_of(wanted))}.")
        if absent := missing(cursor, wanted):
            raise SystemExit(f"superset: not imported, though Superset reported no error: {', '.join(absent)}.")
        write_mark(cursor, mark)


# --- What is wanted --------------------------------------------------------------------------------------------------


def read_assets(place: Environment) -> dict[str, str]:
    """The text of each file in `assets/`; of a database, with the address of this platform's server in it."""
    found = {str(file.relative_to(ASSETS)): file.read_text() for file in sorted(ASSETS.rglob("*.yaml"))}
    for name in found:
        if name.startswith("databases/"):
            content = yaml.safe_load(found[name])
            if f"//{DASHBOARD_LOGIN}@" not in content["sqlalchemy_uri"]:
                raise SystemExit(
                    f"superset: {ASSETS / name} must connect as {DASHBOARD_LOGIN}, not by {content['sqlalchemy_uri']}."
                )
            content["sqlalchemy_uri"] = place.risk_uri
            found[name] = yaml.safe_dump(content, sort_keys=False)
    return found


def dashboards_of(wanted: dict[str, str]) -> list[str]:
    return [str(yaml.safe_load(text)["dashboard_title"]) for name, text in wanted.items() if name.startswith("dashboards/")]


# --- What is there, asked of the database itself -------------------------------------------------------------------------------


@contextmanager
def only_one(place: Environment) -> Iterator[Any]:
    """A cursor on Superset's database, once every other process that prepares it is done."""
    try:
        connection = psycopg2.connect(
            host=place.postgres_host, port=place.postgres_port, user=METADATA_LOGIN, dbname=METADATA_DATABASE, **CONNECT
        )
    except psycopg2.OperationalError as error:
        reason = " ".join(str(error).split())
        raise SystemExit(f"superset: no connection to its database: {reason}. Nothing was changed.") from None
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        yield cursor
    connection.close()


def read_mark(cursor: Any) -> dict[str, str]:
    """What the last complete run of this program had prepared; empty before the first."""
    cursor.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", (f"public.{MARKED}",))
    text = cursor.fetchone()[0]
    return dict(json.loads(text)) if text else {}


def write_mark(cursor: Any, mark: dict[str, str]) -> None:
    cursor.execute(f"COMMENT ON TABLE {MARKED} IS %s", (json.dumps(mark),))


def missing(cursor: Any, wanted: dict[str, str]) -> list[str]:
    """The files of which Superset's database holds nothing, and the dashboards that lack a chart of theirs.

    Superset's import leaves out what it does not like and says nothing.
    """
    absent = []
    for name, text in wanted.items():
        kind = name.partition("/")[0]
        if kind not in TABLES:
            continue
        content = yaml.safe_load(text)
        cursor.execute(f"SELECT 1 FROM {TABLES[kind]} WHERE uuid = %s", (content["uuid"],))
        if cursor.fetchone() is None:
            absent.append(name)
        elif kind == "dashboards":
            items = [item for item in content["position"].values() if isinstance(item, dict)]
            charts = {item["meta"]["uuid"] for item in items if item["type"] == "CHART"}
            cursor.execute(
                "SELECT s.uuid::text FROM slices s JOIN dashboard_slices l ON l.slice_id = s.id "
                "JOIN dashboards d ON d.id = l.dashboard_id WHERE d.uuid = %s",
                (content["uuid"],),
            )
            lacking = charts - {row[0] for row in cursor.fetchall()}
            absent += [f"{name} (chart {uuid})" for uuid in sorted(lacking)]
    return absent


def user_is_right(cursor: Any, place: Environment) -> bool:
    cursor.execute(
        "SELECT u.password FROM ab_user u JOIN ab_user_role ur ON ur.user_id = u.id JOIN ab_role r ON r.id = ur.role_id "
        "WHERE u.username = %s AND u.active AND r.name = 'Admin'",
        (place.admin_user,),
    )
    row = cursor.fetchone()
    return row is not None and check_password_hash(row[0], place.secret("superset_password"))


def change_password(cursor: Any, place: Environment) -> bool:
    """Give the user the password of the secret and let him in; False when there is no such user."""
    hashed = generate_password_hash(place.secret("superset_password"))
    cursor.execute("UPDATE ab_user SET password = %s, active = true WHERE username = %s", (hashed, place.admin_user))
    return bool(cursor.rowcount)


# --- What is done, by Superset itself ----------------------------------------------------------------------------------------


def make_app() -> Any:
    from superset.app import create_app

    return create_app()


def migrate(app: Any) -> None:
    from flask_migrate import upgrade

    upgrade()
    app.appbuilder.add_permissions(update_perms=True)
    app.appbuilder.sm.sync_role_definitions()


def ensure_user(app: Any, place: Environment) -> None:
    """Make the user, or the one who is there an administrator with the password of the secret."""
    from superset import db

    manager = app.appbuilder.sm
    password, admin = place.secret("superset_password"), manager.find_role("Admin")
    user = manager.find_user(place.admin_user)
    if user is None:
        email = f"{place.admin_user}@localhost"
        if not manager.add_user(place.admin_user, place.admin_user, "", email, admin, password=password):
            raise SystemExit(f"superset: the user {place.admin_user} could not be made; the reason stands above.")
        return
    manager.reset_password(user.id, password)
    user.active = True
    user.roles = [*{*user.roles, admin}]
    db.session.commit()


def import_assets(app: Any, place: Environment, wanted: dict[str, str]) -> None:
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.utils.core import override_user

    with override_user(app.appbuilder.sm.find_user(place.admin_user)):
        ImportAssetsCommand(wanted).run()


def say(text: str) -> None:
    print(text, file=OURS, flush=True)


if __name__ == "__main__":
    OURS = sys.stdout
    sys.stdout = sys.stderr  # Superset prints on its own account
    main()
