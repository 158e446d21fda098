"""One database as a stream of bytes and back, by the pg_dump and pg_restore of the server's own major version.

They are let in by a password file that only its owner may read, so that no password is in a command line or an environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from mbats.database import CONNECT_TIMEOUT, login
from mbats.errors import PlatformError
from mbats.objectstore import Stream
from mbats.platform.files import passfile, private_folder, write_private
from mbats.platform.launch import launch_command
from mbats.platform.postgres import binary_dir
from mbats.settings import Role, Settings

LOCK_TIMEOUT = "60s"  # a migration holds its locks for less
RESTORE_JOBS = 2
FOLDER = "backup"  # in the state folder: the password files, and the dumps that a restore reads


class Measured:
    """A stream that counts and digests what is read from it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """The next `size` bytes, or all that are left."""
        content = self._stream.read(size)
        self._digest.update(content)
        self.size += len(content)
        return content

    @property
    def sha256(self) -> str:
        """Of all that was read so far."""
        return self._digest.hexdigest()


class _Output:
    """What a process writes, which is only over when it has ended well: else reading the end raises PlatformError."""

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[bytes], what: str) -> None:
        self._process = process
        self._complaints = complaints
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        assert self._process.stdout is not None
        content = self._process.stdout.read(size)
        if (size < 0 or len(content) < size) and self._process.wait() != 0:
            raise _failure(self._what, self._process.returncode, self._complaints)
        return content


def server_version(settings: Settings, role: Role, database: str) -> str:
    """What the server calls its version, such as `18.6`."""
    with closing(login(settings, role, database)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0]).split()[0]


def require_tools(settings: Settings, version: str) -> Path:
    """The folder of pg_dump and pg_restore. Raises PlatformError unless they are of the major version of the server."""
    folder = binary_dir(settings, ("pg_dump", "pg_restore"))
    said = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d+", said)
    wanted = version.partition(".")[0]
    if found is None or found.group() != wanted:
        raise PlatformError(
            f"The server is PostgreSQL {version}, and {folder} says '{said.strip()}'. Nothing was dumped or restored. Set "
            f"MBATS_POSTGRES_BIN to the bin folder of a PostgreSQL {wanted}."
        )
    return folder


@contextmanager
def dump(settings: Settings, tools: Path, database: str) -> Iterator[Stream]:
    """The database as it is at this moment, in pg_dump's compressed format. The end of the stream raises when it failed."""
    argv = [*_command(settings, tools / "pg_dump", "backup", database), "--format=custom", f"--lock-wait-timeout={LOCK_TIMEOUT}"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            launch_command(argv, die_with_parent=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_environment(settings, "backup"),
        )
        with process:
            try:
                yield _Output(process, complaints, f"The dump of the database '{database}'")
            finally:
                process.kill()


def restore_into(settings: Settings, tools: Path, database: str, file: Path) -> None:
    """Put the content of a dump into an empty database, with owners and grants, as `admin`. Raises PlatformError."""
    argv = [*_command(settings, tools / "pg_restore", "admin", database), "--exit-on-error", f"--jobs={RESTORE_JOBS}", str(file)]
    with tempfile.TemporaryFile() as complaints:
        done = subprocess.run(
            launch_command(argv, die_with_parent=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env=_environment(settings, "admin"),
        )
        if done.returncode != 0:
            raise _failure(f"The restore into '{database}'", done.returncode, complaints)


def _command(settings: Settings, program: Path, role: Role, database: str) -> Sequence[str]:
    return (
        str(program),
        f"--host={settings.postgres_host}",
        f"--port={settings.postgres_port}",
        f"--username={settings.postgres_user(role)}",
        f"--dbname={database}",
        "--no-password",  # never ask a terminal for it
    )


def _environment(settings: Settings, role: Role) -> dict[str, str]:
    host, port, user = settings.postgres_host, str(settings.postgres_port), settings.postgres_user(role)
    file = private_folder(settings.home / FOLDER) / f"pgpass-{role}"
    write_private(file, passfile(settings.postgres_password(role), host=host, port=port, user=user))
    return {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "PGPASSFILE": str(file),
        "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT),
        "PGAPPNAME": f"mbats {role}",
    }


def _failure(what: str, code: int, complaints: IO[bytes]) -> PlatformError:
    complaints.seek(0)
    reason = " ".join(complaints.read().decode(errors="replace").split()) or "no reason given"
    return PlatformError(f"{what} failed (exit code {code}): {reason[-2000:]}")


__all__ = ["FOLDER", "Measured", "dump", "require_tools", "restore_into", "server_version"]
