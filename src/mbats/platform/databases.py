"""Prepares the PostgreSQL server: logins, databases, tables. One path with Docker and without; safe to repeat."""

from __future__ import annotations

from mbats.database import DATABASES, database_name, migrate, wait_for_server
from mbats.logins import bootstrap_databases
from mbats.platform.service import Say
from mbats.settings import Settings


def prepare_databases(settings: Settings, say: Say) -> None:
    """Wait for the server, make the logins and the databases, and bring the tables up to date."""
    wait_for_server(settings, timeout=settings.start_timeout_seconds)
    done = bootstrap_databases(settings)
    say(f"PostgreSQL: made or changed {', '.join(done)}." if done else "PostgreSQL: logins and databases exist, skipped.")
    for name in DATABASES:
        migrated = migrate(settings, name)
        say(f"Tables of {database_name(settings, name)}: {'migrated' if migrated else 'up to date, skipped'}.")


__all__ = ["prepare_databases"]
