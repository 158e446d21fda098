"""Bring Airflow's tables, permissions and admin up to date. It can be repeated: `python -P airflow/prepare.py`.

Reads `{"user": …, "password": …}` from stdin, since a command line and an environment can be read by others. Says on stdout, a
line each, what it did; what Airflow has to say goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Do what is missing."""
    admin = json.load(sys.stdin)
    own_words = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(line: str) -> None:
        own_words.write(f"{line}\n")
        own_words.flush()

    _migrate(say)
    _read_with_the_new_key(say)
    _make_admin(admin["user"], admin["password"], say)


def _migrate(say: Callable[[str], None]) -> None:
    from airflow.utils import db

    before = _revisions()
    db.upgradedb()
    after = _revisions()
    if before == after:
        say("Airflow's tables are up to date, skipped.")
    else:
        say("Airflow's tables: made." if not any(before.values()) else "Airflow's tables: migrated.")


def _revisions() -> dict[str, str | None]:
    """How far each history of Airflow's tables has come; None where it has not begun."""
    from airflow import settings
    from sqlalchemy import inspect, text

    with settings.get_engine().connect() as connection:
        there = set(inspect(connection).get_table_names())
        return {
            table: connection.execute(text(f"SELECT version_num FROM {table}")).scalar() if table in there else None
            for table in ("alembic_version", "alembic_version_fab")
        }


def _read_with_the_new_key(say: Callable[[str], None]) -> None:
    """Encrypt anew, with the first of several Fernet keys, what was stored under an older one."""
    from airflow.configuration import conf

    if "," in conf.get("core", "fernet_key"):
        from airflow.cli.commands.rotate_fernet_key_command import rotate_fernet_key

        rotate_fernet_key(argparse.Namespace())
        say("Airflow's stored connections and variables: encrypted with the new key.")


def _make_admin(user: str, password: str, say: Callable[[str], None]) -> None:
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        builder.add_permissions(update_perms=True)
        builder.sm.sync_roles()
        say(f"Airflow's user '{user}': {_user(builder.sm, user, password)}.")


def _user(manager: Any, name: str, password: str) -> str:
    from werkzeug.security import check_password_hash

    admin, found = manager.find_role("Admin"), manager.find_user(name)
    if found is None:
        manager.add_user(name, "MBATS", "admin", f"{name}@example.com", admin, password)
        return "made"
    done = []
    if not check_password_hash(found.password, password):
        manager.reset_password(found.id, password)
        done.append("password set anew")
    if admin not in found.roles or not found.active:
        found.roles, found.active = [*{*found.roles, admin}], True
        manager.update_user(found)
        done.append("made admin again")
    return ", ".join(done) or "exists, skipped"


if __name__ == "__main__":
    main()
