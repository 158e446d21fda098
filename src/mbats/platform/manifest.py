"""What a backup is, and which there are: a folder of the S3 store, named by its time, that is a backup by its manifest.

The manifest is written last. A folder without one was never finished, and nothing in it is ever read.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mbats.errors import DataError, UnknownName, UsageError
from mbats.objectstore import ObjectStore
from mbats.settings import Settings

MANIFEST = "manifest.json"
FORMAT = 1
NAME = "%Y-%m-%dT%H-%M-%SZ"
FOLDER_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")


class UnknownBackup(UnknownName):
    """No backup of this name, or one that was never finished."""

    kind = "backup"
    where = "the S3 store"


@dataclass(frozen=True, slots=True)
class Piece:
    """One object of a backup, with what it must be when it is read again."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DatabaseDump:
    """The dump of one database: what the platform and the server called it, and the heads of its migrations."""

    name: str
    database: str
    heads: tuple[str, ...]
    piece: Piece


@dataclass(frozen=True, slots=True)
class FileCopy:
    """The copy of one of the user's files, the object `name` of the bucket for market data."""

    name: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup. `finished` is False when it has no manifest, and then nothing is known but its name."""

    name: str
    finished: bool
    mbats: str = ""
    server: str = ""
    databases: tuple[DatabaseDump, ...] = ()
    files: tuple[FileCopy, ...] = ()

    @property
    def made_at(self) -> datetime:
        """When it was begun."""
        return datetime.strptime(self.name, NAME).replace(tzinfo=UTC)

    @property
    def pieces(self) -> list[Piece]:
        """Every object that is in it."""
        return [*(database.piece for database in self.databases), *(file.piece for file in self.files)]

    @property
    def size(self) -> int:
        """Bytes of all that is in it."""
        return sum(piece.size for piece in self.pieces)


def manifest(backup: Backup) -> bytes:
    """The manifest that makes its folder this backup."""
    return json.dumps({"format": FORMAT, **asdict(backup)}, indent=1).encode()


def list_backups(settings: Settings, store: ObjectStore | None = None) -> list[Backup]:
    """Every backup, finished or not, the newest first."""
    store = store or ObjectStore(settings, "backup")
    names = {folder for key in store.list(settings.s3_bucket_backups) if FOLDER_NAME.fullmatch(folder := key.partition("/")[0])}
    return [_read(settings, store, name) for name in sorted(names, reverse=True)]


def find_backup(settings: Settings, name: str | None) -> Backup:
    """The finished backup of this name; the newest finished one without a name. Raises UsageError when there is none."""
    finished = [backup for backup in list_backups(settings) if backup.finished]
    if not finished:
        raise UsageError(f"No finished backup in the bucket '{settings.s3_bucket_backups}'. `mbats backup` makes one.")
    for backup in finished:
        if name in (None, backup.name):
            return backup
    raise UnknownBackup(str(name), [backup.name for backup in finished])


def _read(settings: Settings, store: ObjectStore, name: str) -> Backup:
    bucket, key = settings.s3_bucket_backups, f"{name}/{MANIFEST}"
    if not store.exists(bucket, key):
        return Backup(name, False)
    try:
        values = json.loads(store.get(bucket, key))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']}, expected {FORMAT}")
        dumps = (DatabaseDump(d["name"], d["database"], tuple(d["heads"]), Piece(**d["piece"])) for d in values["databases"])
        files = (FileCopy(f["name"], Piece(**f["piece"])) for f in values["files"])
        return Backup(name, True, values["mbats"], values["server"], tuple(dumps), tuple(files))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The manifest '{key}' in the bucket '{bucket}' cannot be read: {error!r}. Nothing was restored or deleted. It may "
            "be of a newer MBATS; else move its folder out of the bucket."
        ) from error


def plain(backup: Backup) -> dict[str, Any]:
    """The backup as values that JSON has."""
    return {"made_at": backup.made_at.isoformat(), "size": backup.size, **asdict(backup)}


__all__ = [
    "MANIFEST",
    "NAME",
    "Backup",
    "DatabaseDump",
    "FileCopy",
    "Piece",
    "UnknownBackup",
    "find_backup",
    "list_backups",
    "manifest",
    "plain",
]
