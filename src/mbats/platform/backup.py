"""Makes backups: a dump of every database and a copy of the user's own files, in a folder of the S3 store.

A backup that is older than `backup_keep_days` is deleted, but never the newest whole one; what was never finished is deleted
when a day has passed. The bucket `artifacts` and that of MLflow are not in a backup: what lies there is written once, and can
be copied as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mbats import __version__
from mbats.database import database_name, login
from mbats.errors import PlatformError
from mbats.logins import service_databases
from mbats.objectstore import ObjectStore
from mbats.platform.dumps import Measured, dump, require_tools, server_version
from mbats.platform.manifest import MANIFEST, NAME, Backup, DatabaseDump, FileCopy, Piece, list_backups, manifest
from mbats.platform.service import Say
from mbats.settings import Settings, get_settings

UNFINISHED_FOR = timedelta(days=1)  # then nobody is at work on it any more
BACKUP_LOCK = 0x6D626174_0003  # one backup at a time


def make_backup(settings: Settings | None = None, say: Say = lambda line: None, *, now: datetime | None = None) -> Backup:
    """Make a backup of everything, then delete what need not be kept any more.

    Raises PlatformError or ConfigError when it could not be finished; earlier backups are all still there then.
    """
    settings = settings or get_settings()
    moment = now or datetime.now(UTC)
    store = ObjectStore(settings, "backup")
    with _only_one(settings):
        backup = _make(settings, store, moment.strftime(NAME), say)
        for name in delete_old(settings, store, moment):
            say(f"Backup {name}: deleted.")
    return backup


def _make(settings: Settings, store: ObjectStore, name: str, say: Say) -> Backup:
    bucket = settings.s3_bucket_backups
    if store.list(bucket, f"{name}/"):
        raise PlatformError(f"The bucket '{bucket}' holds a backup {name} already. Nothing was done. Try again in a second.")
    secmaster = database_name(settings, "secmaster")
    version = server_version(settings, "backup", secmaster)
    tools = require_tools(settings, version)
    dumps = []
    for database, on_server in _there(settings).items():
        dumps.append(_dump(settings, store, tools, f"{name}/{database}.dump", database, on_server))
        say(f"Database {on_server}: {dumps[-1].piece.size:,} bytes.")
    files = tuple(_copies(settings, store, name))
    say(f"Files of the bucket {settings.s3_bucket_marketdata}: {len(files)}.")
    backup = Backup(name, True, __version__, version, tuple(dumps), files)
    store.put(bucket, f"{name}/{MANIFEST}", manifest(backup), "application/json")
    say(f"Backup {name}: finished, {backup.size:,} bytes.")
    return backup


def platform_databases(settings: Settings) -> dict[str, str]:
    """Every database of this platform with its name on the server, in the order of their dumps.

    The risk database is dumped before the securities master: so each run in a backup finds its bars there.
    """
    own = {"risk": database_name(settings, "risk"), "secmaster": database_name(settings, "secmaster")}
    return own | {name: name for name in service_databases(settings)}


def _there(settings: Settings) -> dict[str, str]:
    """The platform's databases that the server has."""
    wanted = platform_databases(settings)
    with closing(login(settings, "backup", wanted["secmaster"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", (list(wanted.values()),))
        found = {row[0] for row in cursor}
    return {name: on_server for name, on_server in wanted.items() if on_server in found}


def _dump(settings: Settings, store: ObjectStore, tools: Path, key: str, name: str, database: str) -> DatabaseDump:
    heads = _heads(settings, database)
    with dump(settings, tools, database) as stream:
        measured = Measured(stream)
        store.upload(settings.s3_bucket_backups, key, measured)
    return DatabaseDump(name, database, heads, Piece(key, measured.size, measured.sha256))


def _heads(settings: Settings, database: str) -> tuple[str, ...]:
    with closing(login(settings, "backup", database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('public.alembic_version')")
        if cursor.fetchone()[0] is None:
            return ()
        cursor.execute("SELECT version_num FROM public.alembic_version ORDER BY version_num")
        return tuple(row[0] for row in cursor)


def _copies(settings: Settings, store: ObjectStore, folder: str) -> Iterator[FileCopy]:
    source, bucket = ObjectStore(settings), settings.s3_bucket_marketdata
    for name in source.list(bucket):
        key = f"{folder}/{bucket}/{name}"
        with source.open(bucket, name) as stream:
            measured = Measured(stream)
            store.upload(settings.s3_bucket_backups, key, measured)
        yield FileCopy(name, Piece(key, measured.size, measured.sha256))


def delete_old(settings: Settings, store: ObjectStore, now: datetime) -> Sequence[str]:
    """Delete the backups that are older than `backup_keep_days`, and those left unfinished; returns their names.

    The newest finished one is always kept.
    """
    backups = list_backups(settings, store)
    newest = next((backup for backup in backups if backup.finished), None)
    limits = {True: timedelta(days=settings.backup_keep_days), False: UNFINISHED_FOR}
    old = [backup for backup in backups if backup != newest and now - backup.made_at > limits[backup.finished]]
    for backup in old:
        keys = store.list(settings.s3_bucket_backups, f"{backup.name}/")
        # The manifest goes first: half a backup must not look like a whole one.
        store.delete(settings.s3_bucket_backups, sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")))
    return [backup.name for backup in old]


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Raises PlatformError when another backup is being made. A process that dies lets go."""
    with closing(login(settings, "backup", database_name(settings, "secmaster"))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (BACKUP_LOCK,))
        if not cursor.fetchone()[0]:
            raise PlatformError(
                "Another backup is being made. Nothing was done here. Wait for it to end; `mbats backups` lists it."
            )
        yield


__all__ = ["delete_old", "make_backup", "platform_databases"]
