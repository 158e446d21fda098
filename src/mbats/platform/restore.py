"""Brings databases back from a backup: into new ones beside the old, which then change places, all at one moment.

Until that moment nothing is changed, but that a few unfinished databases lie about; after it, everything is as in the backup.
So a kill at any time leaves the old or the new, and the same command again does the whole work anew. The databases that were
replaced are kept under another name, until they are dropped by request.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from psycopg2 import errors, sql

from mbats.database import DATABASES, admin_connection, migrate
from mbats.errors import DataError, PlatformError, UnknownName
from mbats.logins import SERVICE_DATABASES, VISITORS, bootstrap_databases, create_database
from mbats.objectstore import ObjectStore
from mbats.platform.backup import platform_databases
from mbats.platform.dumps import FOLDER, Measured, require_tools, restore_into, server_version
from mbats.platform.files import private_folder
from mbats.platform.manifest import Backup, DatabaseDump, Piece
from mbats.platform.service import Say
from mbats.settings import Role, Settings

UNFINISHED = "_restoring"
REPLACED = "_before_restore_"
LONGEST_NAME = 63  # bytes, of a database
RESTORE_LOCK = 0x6D626174_0004  # one restore at a time
LEAVE_TIMEOUT = 3.0  # seconds, for a connection that has just been closed to be gone
SESSIONS = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = ANY(%s)"


class UnknownDatabase(UnknownName):
    """The backup holds no database of this name."""

    kind = "database"


def restore(
    settings: Settings, backup: Backup, databases: Sequence[str] = (), *, force: bool = False, drop_old: bool = False, say: Say
) -> list[str]:
    """Put these databases back as they are in the backup, or without names all of them and the user's files as well.

    Returns what the databases that were replaced are called now; none with `drop_old`. With `force`, connections to them are
    ended. Raises MbatsError when something is not as it must be, and then nothing was changed.
    """
    done = bootstrap_databases(settings)  # on a new server, the logins that own what is restored
    if done:
        say(f"PostgreSQL: made or changed {', '.join(done)}.")
    tools = require_tools(settings, server_version(settings, "admin", "postgres"))
    dumps = _chosen(settings, backup, databases, say)
    copies = () if databases else backup.files
    pieces = [*(dump.piece for dump in dumps.values()), *(copy.piece for copy in copies)]
    with _only_one(settings) as cursor, _folder(settings, pieces) as folder:
        if not force:
            _require_nobody(cursor, list(dumps))
        files = {piece: _fetch(settings, piece, folder) for piece in pieces}
        say(f"Backup {backup.name}: {len(files)} files read, each as it was written.")
        drop_databases(cursor, [_named(name, UNFINISHED) for name in platform_databases(settings).values()])
        for name, dump in dumps.items():
            _load(settings, cursor, tools, dump, _named(name, UNFINISHED), files[dump.piece])
            say(f"Database {name}: loaded beside the old one.")
        replaced = _swap(settings, list(dumps), force=force)
        say(f"Databases {', '.join(dumps)}: as in the backup.")
        for copy in copies:
            _put_back(settings, copy.name, files[copy.piece], say)
        if drop_old:
            drop_databases(cursor, replaced)
    return [] if drop_old else replaced


def replaced_databases(settings: Settings) -> list[str]:
    """What restores have replaced and kept."""
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database ORDER BY datname")
        found = [row[0] for row in cursor]
    return [name for name in found if any(name.startswith(f"{old}{REPLACED}") for old in platform_databases(settings).values())]


def drop_replaced(settings: Settings) -> list[str]:
    """Drop what restores have replaced and kept; returns the names."""
    names = replaced_databases(settings)
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        drop_databases(cursor, names)
    return names


def drop_databases(cursor: Any, names: Sequence[str]) -> None:
    """Drop these databases, whoever is connected; one that is not there is no error."""
    for name in names:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _chosen(settings: Settings, backup: Backup, databases: Sequence[str], say: Say) -> dict[str, DatabaseDump]:
    """The dumps to restore, by the names of their databases on the server."""
    held = {dump.name: dump for dump in backup.databases}
    places = platform_databases(settings)
    for name in databases:
        if name not in held or name not in places:
            raise UnknownDatabase(name, set(held) & set(places), where=f"the backup {backup.name}")
    for name in sorted(set(held) - set(places)):
        say(f"Database {name}: this platform does not have its service, skipped.")
    return {places[name]: dump for name, dump in held.items() if name in places and (not databases or name in databases)}


def _fetch(settings: Settings, piece: Piece, folder: Path) -> Path:
    """The file, read from the store into the folder. Raises DataError when it is not what was written."""
    file = folder / piece.sha256
    bucket = settings.s3_bucket_backups
    with ObjectStore(settings, "backup").open(bucket, piece.key) as stream, file.open("wb") as target:
        measured = Measured(stream)
        shutil.copyfileobj(measured, target, 2**20)
    if (measured.size, measured.sha256) != (piece.size, piece.sha256):
        raise DataError(
            f"'{piece.key}' in the bucket '{bucket}' is not what was backed up: {measured.size:,} bytes with SHA-256 "
            f"{measured.sha256}, expected {piece.size:,} with {piece.sha256}. Nothing was changed. Restore another backup; "
            "`mbats backups` lists them."
        )
    return file


def _load(settings: Settings, cursor: Any, tools: Path, dump: DatabaseDump, place: str, file: Path) -> None:
    """Make the database `place` as the dump has it, with its tables migrated to what this program expects."""
    owner, visitors = _rights(dump.name)
    create_database(cursor, settings, place, owner=owner, visitors=visitors)
    restore_into(settings, tools, place, file)
    for name in DATABASES:
        if name == dump.name:
            try:
                migrate(settings.model_copy(update={f"postgres_{name}_database": place}), name)
            except CommandError as error:
                raise PlatformError(
                    f"The tables of '{name}' in the backup are of another MBATS than this one: {error}. Nothing was changed. "
                    "Restore with the version that `mbats backups` names."
                ) from error
    with closing(admin_connection(settings, place)) as connection, connection.cursor() as inside:
        inside.execute("ANALYZE")


def _rights(name: str) -> tuple[Role, Mapping[Role, str]]:
    return ("owner", VISITORS[name]) if name in VISITORS else (SERVICE_DATABASES[name], {"backup": "CONNECT"})


def _swap(settings: Settings, names: Sequence[str], *, force: bool) -> list[str]:
    """Give the loaded databases the names of the old ones, in one transaction; returns what the old ones are called then."""
    suffix = f"{REPLACED}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    renames = [pair for name in names for pair in ((name, _named(name, suffix)), (_named(name, UNFINISHED), name))]
    with closing(admin_connection(settings)) as connection, _kept_out(settings, names if force else ()):
        connection.autocommit = False
        try:
            with connection, connection.cursor() as cursor:
                for old, new in renames:
                    # Nobody new gets in from here to the commit; who is in has five seconds to leave.
                    statement = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                    cursor.execute(statement.format(sql.Identifier(old), sql.Identifier(new)))
        except errors.ObjectInUse as error:
            raise PlatformError(
                f"The databases could not change places: {' '.join(str(error).split())} Nothing was changed. Stop what uses them "
                "and do it again, or add --force, which ends the connections."
            ) from None
    return [_named(name, suffix) for name in names]


@contextmanager
def _kept_out(settings: Settings, names: Sequence[str]) -> Iterator[None]:
    """End every connection to these databases, again and again until the block ends: services come back at once."""
    over = threading.Event()

    def keep_out() -> None:
        with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
            while not over.is_set():
                cursor.execute(f"SELECT pg_terminate_backend(pid) {SESSIONS}", (list(names),))
                over.wait(0.1)

    guard = threading.Thread(target=keep_out, daemon=True)
    if names:
        guard.start()
    try:
        yield
    finally:
        over.set()
        if names:
            guard.join()


def _require_nobody(cursor: Any, names: Sequence[str]) -> None:
    """Raises PlatformError that names who is connected to these databases."""
    deadline = time.monotonic() + LEAVE_TIMEOUT
    while True:
        cursor.execute(f"SELECT datname, usename, count(*) {SESSIONS} GROUP BY 1, 2 ORDER BY 1, 2", (list(names),))
        found = cursor.fetchall()
        if not found:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    users = ", ".join(f"{user} in {database} ({number})" for database, user, number in found)
    raise PlatformError(
        f"The databases are in use: {users} {'connection' if sum(row[2] for row in found) == 1 else 'connections'}. Nothing was "
        "changed. Stop what uses them, or add --force, which ends the connections; services then come back by themselves."
    )


def _put_back(settings: Settings, name: str, file: Path, say: Say) -> None:
    store, bucket = ObjectStore(settings), settings.s3_bucket_marketdata
    content = file.read_bytes()
    if store.exists(bucket, name) and store.get(bucket, name) == content:
        say(f"File {bucket}/{name}: as in the backup, skipped.")
        return
    store.put(bucket, name, content)
    say(f"File {bucket}/{name}: put back; what stood there is an older version now.")


@contextmanager
def _folder(settings: Settings, pieces: Sequence[Piece]) -> Iterator[Path]:
    """An empty private folder with room for what is read, gone when the block ends. A killed restore's is emptied first."""
    folder = private_folder(settings.home / FOLDER) / "restore"
    shutil.rmtree(folder, ignore_errors=True)
    private_folder(folder)
    needed, free = sum(piece.size for piece in pieces), shutil.disk_usage(folder).free
    if needed > free:
        raise PlatformError(f"The backup needs {needed:,} bytes in {folder}, where {free:,} are free. Nothing was changed.")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _only_one(settings: Settings) -> Iterator[Any]:
    """A cursor of `admin` that holds the lock of restores. Raises PlatformError when another one is under way."""
    with closing(admin_connection(settings)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (RESTORE_LOCK,))
        if not cursor.fetchone()[0]:
            raise PlatformError("Another restore is under way. Nothing was done here. Wait for it to end.")
        yield cursor


def _named(name: str, suffix: str) -> str:
    return name[: LONGEST_NAME - len(suffix)] + suffix


__all__ = ["UnknownDatabase", "drop_replaced", "replaced_databases", "restore"]
