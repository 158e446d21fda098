"""What pgAdmin needs before it may start: its database, its user, and the platform's server in his tree.

Run as `python -P prepare.py` with the variables of `environment.py`. It prints a line for each thing it did; the rest goes to
the standard error. It may be repeated: what is as it should be is skipped, and when all is, pgAdmin is not even imported.
Servers that the user added himself are left alone.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from environment import Environment, load_environment

GROUP = "MBATS"
LOGIN = "mbats_reader"
PASSFILE = "/pgpass"  # pgAdmin looks for it in the folder of the user who is logged in
KEYS = ("SECRET_KEY", "CSRF_SESSION_KEY")


def main() -> None:
    os.umask(0o077)
    place = load_environment()
    place.data.mkdir(parents=True, exist_ok=True)
    with (place.data / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_passwords(place)
        wanted = wanted_state(place)
        if found_state(place) == wanted:
            say(f"pgAdmin {wanted['version']}: user and server are up to date, skipped.")
            return
        prepare(place)
        write_mark(place)
    if (found := found_state(place)) != wanted:
        wrong = sorted(name for name in wanted if found.get(name) != wanted[name])
        raise SystemExit(f"pgadmin: it was set up, and these are still not as they should be: {', '.join(wrong)}.")
    say(f"pgAdmin {wanted['version']}: user {place.user} and server {GROUP} made or changed.")


# --- What is wanted, and what is there ----------------------------------------------------------------------------------------


def server(place: Environment) -> dict[str, Any]:
    """The platform's server as pgAdmin keeps it."""
    return {
        "name": GROUP,
        "host": place.postgres_host,
        "port": place.postgres_port,
        "maintenance_db": place.risk_database,
        "username": LOGIN,
        "db_res": f"{place.risk_database},{place.secmaster_database}",
        "db_res_type": "databases",
        "connection_params": {"sslmode": "prefer", "connect_timeout": 10, "passfile": PASSFILE},
    }


def wanted_state(place: Environment) -> dict[str, Any]:
    return {
        "version": version(),
        "server": server(place),
        "user": "may log in with the password of the secret",
        "keys": {name: key(place, name) for name in KEYS},
    }


def found_state(place: Environment) -> dict[str, Any]:
    """The same as it stands in pgAdmin's database; empty when there is none."""
    if not place.database_file.is_file():
        return {}
    fields = server(place)
    try:
        with closing(sqlite3.connect(place.database_file)) as connection:
            user = connection.execute(
                "SELECT id, active, locked, password FROM user WHERE username = ? AND auth_source = 'internal'", (place.user,)
            ).fetchone()
            row = connection.execute(
                f"SELECT {', '.join('s.' + name for name in fields)} FROM server s JOIN servergroup g ON g.id = s.servergroup_id "
                "WHERE s.user_id = ? AND g.name = ? AND s.name = ?",
                (user[0] if user else None, GROUP, GROUP),
            ).fetchone()
            keys = dict(connection.execute("SELECT name, value FROM keys").fetchall())
    except sqlite3.Error:
        return {}
    found = dict(zip(fields, row, strict=True)) if row else {}
    if found:
        found["connection_params"] = json.loads(found["connection_params"] or "{}")
    known = user is not None and read_mark(place) == [version(), fingerprint(place, str(user[3]))]
    return {
        "version": version() if known else None,
        "server": found,
        "user": wanted_state(place)["user"] if known and user[1] and not user[2] else None,
        "keys": {name: keys.get(name) for name in KEYS},
    }


def fingerprint(place: Environment, stored: str) -> str:
    """Tells whether pgAdmin still keeps what it made of our password, without telling the password."""
    return hashlib.sha256(f"{place.secret('pgadmin_password')} {stored}".encode()).hexdigest()


def read_mark(place: Environment) -> list[str]:
    """The version that was last set up completely, and the fingerprint of then."""
    file = place.data / "prepared"
    return file.read_text().split() if file.is_file() else []


def write_mark(place: Environment) -> None:
    with closing(sqlite3.connect(place.database_file)) as connection:
        row = connection.execute("SELECT password FROM user WHERE username = ?", (place.user,)).fetchone()
    write_private(place.data / "prepared", f"{version()} {fingerprint(place, str(row[0]))}\n")


def key(place: Environment, name: str) -> str:
    """A key of pgAdmin's own, made of the secret, so that a changed secret ends every session."""
    digest = hashlib.sha256(f"{name} {place.secret('pgadmin_secret_key')}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()  # it encrypts with one of them, and wants it in this form


def version() -> str:
    return importlib.metadata.version("pgadmin4")


# --- What is done, by pgAdmin itself ------------------------------------------------------------------------------------------


def write_passwords(place: Environment) -> None:
    """The reader's password, where libpq looks when the user opens the server: nobody is asked for it."""
    folder = place.storage / place.user.replace("@", "_")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = place.secret("postgres_reader_password").replace("\\", "\\\\").replace(":", "\\:")
    write_private(folder / PASSFILE.lstrip("/"), f"*:*:*:{LOGIN}:{password}\n")


def prepare(place: Environment) -> None:
    """Make or migrate pgAdmin's database, and put the user, the keys and the server in it."""
    sys.path.insert(0, next(iter(importlib.util.find_spec("pgadmin4").submodule_search_locations)))
    # Its first migration makes the first user, whom it finds in the environment: in ours, which nobody else can see.
    os.environ |= {"PGADMIN_SETUP_EMAIL": place.user, "PGADMIN_SETUP_PASSWORD": place.secret("pgadmin_password")}
    import config
    from pgadmin import create_app
    from pgadmin.setup import create_app_data_directory

    create_app_data_directory(config)
    app = create_app()
    with app.test_request_context():
        put_user(place)
        put_keys(place)
        put_server(place)


def put_user(place: Environment) -> None:
    from pgadmin.model import Role, User, db
    from pgadmin.tools.user_management import create_user, update_user

    password = place.secret("pgadmin_password")
    new = {"newPassword": password, "confirmPassword": password, "active": True}
    user = User.query.filter_by(username=place.user, auth_source="internal").first()
    if user is None:
        role = Role.query.filter_by(name="Administrator").first()
        done, reason = create_user({"email": place.user, "role": role.id, **new})
    else:
        user.locked, user.login_attempts = False, 0
        db.session.commit()
        done, reason = update_user(user.id, new)
    if not done:
        raise SystemExit(f"pgadmin: the user {place.user} could not be made or changed: {reason}")


def put_keys(place: Environment) -> None:
    from pgadmin.model import Keys, db

    for name in KEYS:
        Keys.query.filter_by(name=name).first().value = key(place, name)
    db.session.commit()


def put_server(place: Environment) -> None:
    from pgadmin.model import Server, ServerGroup, User, db

    user = User.query.filter_by(username=place.user, auth_source="internal").first()
    group = ServerGroup.query.filter_by(user_id=user.id, name=GROUP).first()
    if group is None:
        # The group that every user is given, while it is empty: he cannot delete it, and would have two.
        group = ServerGroup.query.filter_by(user_id=user.id).order_by(ServerGroup.id).first()
        if group is None or Server.query.filter_by(servergroup_id=group.id).count():
            group = ServerGroup(user_id=user.id)
            db.session.add(group)
        group.name = GROUP
        db.session.flush()
    found = Server.query.filter_by(user_id=user.id, servergroup_id=group.id, name=GROUP).first()
    if found is None:
        found = Server(user_id=user.id, servergroup_id=group.id, save_password=0, use_ssh_tunnel=0, shared=False)
        found.tunnel_authentication = found.tunnel_prompt_password = 0
        db.session.add(found)
    for name, value in server(place).items():
        setattr(found, name, value)
    db.session.commit()


def write_private(file: Path, text: str) -> None:
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600 from the start
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    Path(unfinished).replace(file)


def say(text: str) -> None:
    print(text, file=OURS, flush=True)


if __name__ == "__main__":
    OURS = sys.stdout
    sys.stdout = sys.stderr  # pgAdmin prints on its own account
    main()
