"""Commands that wait as files for a trader that does not answer: it obeys them first when it starts, and looks for more later.

Each is one JSON file, readable by its owner alone, written whole or not at all. One that cannot be read halts everything: whoever
left it wanted something stopped.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from mbats.errors import MbatsError, PlatformError
from mbats.live.gate import Command, CommandKind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StopDeployment:
    """End the process of one deployment. Says who, when (UTC) and why, as a Command does."""

    name: str
    by: str
    at: datetime
    why: str
    kind: Literal["stop"] = "stop"


Word = Command | StopDeployment
_WORD: TypeAdapter[Word] = TypeAdapter(Word)


@dataclass(frozen=True, slots=True)
class Left:
    """A command that waits in a file."""

    path: Path
    word: Word

    def obeyed(self) -> None:
        """Take it away: what it says was done, and is remembered elsewhere."""
        self.path.unlink(missing_ok=True)


def folder(home: Path) -> Path:
    """Where commands wait, in the state folder `home`."""
    return home / "trader" / "commands"


def leave(home: Path, word: Word) -> Path:
    """Leave a command for the trader, so that a power cut does not lose it. Raises PlatformError when it cannot be written."""
    place = folder(home)
    name = f"{word.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:8]}.json"
    try:
        if not place.is_dir():
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(prefix=".", dir=place)
        with os.fdopen(descriptor, "wb") as file:
            # In containers the folder is that of two users, and belongs to the group of the trader's.
            os.fchmod(descriptor, 0o660 if place.stat().st_mode & stat.S_ISGID else 0o600)
            file.write(_WORD.dump_json(word))
            file.flush()
            os.fsync(descriptor)
        Path(unfinished).replace(place / name)
        _sync(place)
    except OSError as error:
        raise PlatformError(
            f"The command '{word.kind}' cannot be left in {place}: {error.strerror or error}. Nobody was told of it. Make room "
            "there, or close positions at the broker by hand."
        ) from error
    return place / name


def waiting(home: Path, *, now: datetime) -> list[Left]:
    """The commands that wait, oldest first. One that cannot be read stands as a halt of everything, said `now` (UTC)."""
    place = folder(home)
    if not place.is_dir():
        return []
    return [_read(path, now) for path in sorted(place.glob("[!.]*.json"))]


def _read(path: Path, now: datetime) -> Left:
    try:
        return Left(path, _WORD.validate_json(path.read_bytes()))
    except (ValidationError, MbatsError, OSError, json.JSONDecodeError) as error:
        log.error("the command in %s cannot be read, so everything is halted: %s", path, error)
        why = f"a command was left in {path.name} that cannot be read"
        return Left(path, Command(CommandKind.HALT, "mbats", now, why))


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["Left", "StopDeployment", "Word", "folder", "leave", "waiting"]
