"""A whole platform in a process tree of its own, driven through its command line as a user drives it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mbats.platform import weed
from mbats.platform.files import remove_socket_folder
from mbats.platform.health import ServiceStatus, service_statuses
from mbats.platform.services import services
from mbats.platform.supervisor import Supervisor
from mbats.settings import Settings, load_settings

SERVICES = ("postgres", "s3", "simulator")


@dataclass(frozen=True)
class Platform:
    """The platform of one state folder. `python` is the command that runs Python, `extra` more environment.

    It has the stores and the simulator; all services, when `services` says so, take a minute to start.
    """

    home: Path
    python: Sequence[str] = (sys.executable,)
    extra: dict[str, str] = field(default_factory=dict)
    services: str = ",".join(SERVICES)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MBATS_")}
        return inherited | {"MBATS_HOME": str(self.home), "COLUMNS": "200", "MBATS_SERVICES": self.services} | self.extra

    def mbats(self, *arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; its output and errors together."""
        return subprocess.run(
            [*self.python, "-m", "mbats.cli", *arguments],
            env=self.environment | environment,
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def status(self) -> dict[str, ServiceStatus]:
        """How each service is, by name; what `mbats status` prints, without the time a process takes to start."""
        found = service_statuses(services(self.settings()), Supervisor(self.home))
        return {status.name: status for status in found}

    def settings(self) -> Settings:
        return load_settings(home=self.home, services=self.services)

    def supervisor_pid(self) -> int:
        return int((self.home / "run" / "supervisord.pid").read_text())

    def prefer_ports(self, first: int) -> None:
        """Let it try ports from here on, so that no test meets a platform that is no part of it."""
        self.home.mkdir(parents=True)
        needs = [need for service in services(self.settings()) for need in service.ports]
        lines = (f"{need.variable}={first + 10 * number}\n" for number, need in enumerate(needs))
        (self.home / "platform.env").write_text("".join(lines))

    def kill(self) -> None:
        """End it without a word: the quickest end, and all of its services go with it."""
        try:
            processes = family(self.supervisor_pid())
        except (FileNotFoundError, psutil.NoSuchProcess):
            return
        processes[0].kill()
        assert eventually(lambda: not alive(processes), within=15)
        remove_socket_folder(self.home)
        for need in weed.PORTS:
            socket = need.socket_at(getattr(self.settings(), need.setting))
            assert socket is not None
            socket.unlink(missing_ok=True)

    def is_well(self) -> bool:
        return all(service.healthy for service in self.status().values())


def family(pid: int) -> list[psutil.Process]:
    """This process and all that come from it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that only waits to be buried does not."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue  # it ended between the two questions
    return found


def eventually(condition: Callable[[], bool], *, within: float = 30) -> bool:
    """Whether the condition becomes true in so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()
