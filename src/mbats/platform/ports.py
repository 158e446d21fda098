"""Which TCP port each service listens on: the usual one when it is free, another when it may be chosen freely."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mbats.errors import ConfigError
from mbats.settings import Settings

HOST = "127.0.0.1"
HIGHEST = 65535
TRIED = 200
LOCK = Path("/tmp/mbats-ports.lock")
LONGEST_WAIT = 120.0


@dataclass(frozen=True, slots=True)
class PortNeed:
    """A port that a service takes: the setting that names it, and what the service takes along with it.

    `twin` is the distance of a second port; `socket` the path, with `{twin}` in it for that port's number, of a Unix socket
    that the service makes where others may have made it before.
    """

    setting: str
    title: str
    twin: int = 0
    socket: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that sets the port."""
        return f"MBATS_{self.setting.upper()}"

    def numbers(self, port: int) -> set[int]:
        """Every port that the service takes when its setting is `port`."""
        return {port, port + self.twin}

    def socket_at(self, port: int) -> Path | None:
        """The Unix socket that the service makes when its setting is `port`."""
        return Path(self.socket.format(twin=port + self.twin)) if self.socket else None

    def obstacle(self, port: int) -> str | None:
        """Who stands in the way of this service at `port`; None when nobody does."""
        for number in sorted(self.numbers(port)):
            if number > HIGHEST:
                return f"it also needs port {number}, and there is none"
            if not is_free(number):
                return f"port {number} is held by {holder(number)}"
        file = self.socket_at(port)
        if file is not None and file.exists() and os.geteuid() not in (0, file.lstat().st_uid):
            return f"the socket {file} of user {file.lstat().st_uid} stands in the way"
        return None


def is_free(port: int) -> bool:
    """Whether a server of this machine could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections are no obstacle
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """The process that listens on this port, in words, as far as this user may know."""
    import psutil  # a container, which chooses no ports, does without

    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        connections = []
    for listener in connections:
        if listener.status == psutil.CONN_LISTEN and listener.laddr and listener.laddr.port == port and listener.pid is not None:
            try:
                return f"'{psutil.Process(listener.pid).name()}' (process {listener.pid})"
            except psutil.NoSuchProcess:
                break
    return "a process that this user may not see"


@contextmanager
def ports_to_choose(say: Callable[[str], None], lock: Path = LOCK) -> Iterator[None]:
    """Hold while ports are chosen and until the services listen there, or two platforms started at once choose the same.

    The lock is the whole machine's. Nobody can hold up others with it for ever: after LONGEST_WAIT seconds it is passed over.
    """
    with suppress(FileExistsError):
        os.close(os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644))
    descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        deadline = time.monotonic() + LONGEST_WAIT
        told = False
        while not _locked(descriptor) and time.monotonic() < deadline:
            if not told:
                say("Another platform is being started on this machine; it chooses its ports first.")
                told = True
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def choose_ports(
    needs: Iterable[PortNeed],
    settings: Settings,
    *,
    fixed: Collection[str],
    ours: Mapping[str, int],
    say: Callable[[str], None],
) -> dict[str, int]:
    """The port for each need, by setting. A taken one is replaced by the next free one, and that is said.

    `fixed` names the settings that the user chose: those are obeyed. `ours` are ports on which the service itself listens
    already. Raises ConfigError that names each fixed port that is taken.
    """
    chosen: dict[str, int] = {}
    occupied: dict[int, str] = {}
    refused: list[str] = []

    def obstacle(need: PortNeed, port: int) -> str | None:
        for number in sorted(need.numbers(port) & occupied.keys()):
            return f"port {number} is that of {occupied[number]}"
        return None if ours.get(need.setting) == port else need.obstacle(port)

    # The fixed ones first, so that no free choice takes a number that the user gave to another service.
    for need in sorted(needs, key=lambda need: need.setting not in fixed):
        port: int = getattr(settings, need.setting)
        taken = obstacle(need, port)
        if taken is not None and need.setting in fixed:
            refused.append(f"{need.title} is to use {need.variable}={port}, but {taken}.")
        elif taken is not None:
            port = next((p for p in range(port + 1, port + TRIED) if obstacle(need, p) is None), 0)
            if port == 0:
                refused.append(f"{need.title}: {taken}, and so are the next {TRIED} ports; set {need.variable}.")
            else:
                say(f"{need.title}: {taken}; uses {port} instead.")
        chosen[need.setting] = port
        occupied |= dict.fromkeys(need.numbers(port), need.variable)
    if refused:
        raise ConfigError(
            " ".join(refused)
            + " Nothing was started. Free the port, set another, or leave the variable out: then a free one is chosen."
        )
    return chosen


__all__ = ["HOST", "PortNeed", "choose_ports", "holder", "is_free", "ports_to_choose"]
