"""Files and folders that only their owner may read, written whole or not at all, and the lock of a state folder."""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from mbats.errors import PlatformError

LONGEST_PATH = 107  # bytes, of a Unix socket
LONGEST_NAME = "supervisor.sock.4194304"  # supervisord binds beside the final name first, with its process id appended


def private_folder(path: Path) -> Path:
    """Make the folder with mode 0700, or narrow its mode to that."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def write_private(path: Path, content: str) -> bool:
    """Give the file this content and mode 0600. False when it has both already.

    A reader sees the old content or the new one, and a kill leaves one of the two.
    """
    if path.is_file() and path.read_text() == content:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return False
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 from the start
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return True


def passfile(password: SecretStr, *, host: str = "*", port: str = "*", user: str = "*") -> str:
    """The content of a file from which libpq takes this password, for every database of this server and login, or of any."""
    fields = (host, port, "*", user, password.get_secret_value())
    return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"


def ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """The text of a configuration file for a program that reads it with configparser and its interpolation."""
    config = configparser.ConfigParser(interpolation=None)
    for title, values in sections.items():
        config[title] = {key: str(value).replace("%", "%%") for key, value in values.items()}
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def socket_folder(home: Path) -> Path:
    """The folder of this platform's Unix sockets, made and private: `run`, or one in /tmp when their paths would be too long.

    Raises PlatformError when somebody else made that folder in /tmp.
    """
    folder = home / "run"
    if len(os.fsencode(folder / LONGEST_NAME)) <= LONGEST_PATH:
        return private_folder(folder)
    folder = _short_folder(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PlatformError(
            f"{folder} is not a private folder of this user, and paths in {home} are too long for Unix sockets. Nothing was "
            f"started. Remove {folder}, or choose a shorter MBATS_HOME."
        )
    return folder


def remove_socket_folder(home: Path) -> None:
    """Remove the folder in /tmp, if there is one; only when nothing of this platform runs."""
    folder = _short_folder(home)
    if folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
        shutil.rmtree(folder)


def _short_folder(home: Path) -> Path:
    # Not tempfile.gettempdir(): another shell with another TMPDIR must find the same socket.
    return Path("/tmp") / f"mbats-{os.geteuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock of this state folder. Raises PlatformError at once when another process holds it."""
    path = private_folder(home / "run") / "lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise PlatformError(
                f"Another start or stop of the platform in {home} is under way (process {lock.read().strip() or 'unknown'}). "
                "Nothing was done here. Wait for it to end, then try again."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


__all__ = ["ini", "only_one", "passfile", "private_folder", "remove_socket_folder", "socket_folder", "write_private"]
