"""Supervisord, which keeps the services running: its configuration, its start and stop, and what it says of them.

It runs in the background, apart from the shell that started it. Its socket and everything in its folder are this user's
alone. A service that dies is started again, at once or, when it dies at its start, after 1, 2, 3… seconds.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from mbats.errors import PlatformError
from mbats.platform.files import private_folder, socket_folder, write_private
from mbats.platform.program import Program, supervisord_conf

RPC_TIMEOUT = 10.0
START_TIMEOUT = 30.0
IDLE = ("stopped", "exited", "fatal", "backoff")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What supervisord says of one service: its word for the state, and since when (UTC) with which process id."""

    state: str
    pid: int | None
    since: datetime | None
    detail: str


class Supervisor:
    """The supervisord of one state folder, running or not."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.run = home / "run"
        self.logs = home / "logs"
        self.config = self.run / "supervisord.conf"
        self.pid_file = self.run / "supervisord.pid"
        self.own_log = self.log_file("supervisord")

    @property
    def socket(self) -> Path:
        """Where supervisord listens for what it is asked; the folder is made private."""
        return socket_folder(self.home) / "supervisor.sock"

    def log_file(self, name: str) -> Path:
        """Where this service's output goes; older parts stand beside it with .1, .2, …"""
        return self.logs / f"{name}.log"

    def pid(self) -> int | None:
        """The process id of the running supervisord. A stale file, or a number that another process has now, is None."""
        try:
            number = int(self.pid_file.read_text())
            command = psutil.Process(number).cmdline()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.ZombieProcess):
            return None
        return number if str(self.config) in command else None

    def was_killed(self) -> bool:
        """Whether the last supervisord ended without a word: its process is gone and its file is not."""
        try:
            return not psutil.pid_exists(int(self.pid_file.read_text()))
        except (FileNotFoundError, ValueError):
            return False

    def write_config(self, programs: Sequence[Program]) -> bool:
        """Write what is to run. False when nothing changed."""
        private_folder(self.run)
        private_folder(self.logs)
        return write_private(
            self.config,
            supervisord_conf(programs, run=self.run, logs=self.logs, socket=self.socket, pid_file=self.pid_file),
        )

    def start(self) -> None:
        """Start supervisord with the written configuration. Raises PlatformError with its own words when it does not start."""
        self.pid_file.unlink(missing_ok=True)
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": str(self.home)}
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self.config)],
                env=environment,
                cwd=self.run,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=START_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise PlatformError(
                f"supervisord did not go into the background in {START_TIMEOUT:g} s. See {self.own_log}."
            ) from None
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip()
            raise PlatformError(f"supervisord did not start (exit code {done.returncode}): {reason}")
        deadline = time.monotonic() + START_TIMEOUT
        while self.pid() is None or not self.answers():
            if time.monotonic() > deadline:
                raise PlatformError(f"supervisord started but does not answer at {self.socket}. See {self.own_log}.")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether supervisord can be spoken to."""
        try:
            self._call("getState")
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False
        return True

    def states(self) -> dict[str, ProcessState]:
        """Each service's state, by name; empty when supervisord does not run."""
        if self.pid() is None:
            return {}
        return {info["name"]: _process_state(info) for info in self._ask("getAllProcessInfo")}

    def apply_config(self) -> list[str]:
        """Make the known services those of the written configuration; one that changed is stopped. Returns those touched."""
        [[added, changed, removed]] = self._ask("reloadConfig")
        for name in [*changed, *removed]:
            self._ask("stopProcessGroup", name, False)
        for name in [*changed, *removed]:
            self._wait_stopped(name)
            self._ask("removeProcessGroup", name)
        for name in [*added, *changed]:
            self._ask("addProcessGroup", name)
        return sorted({*added, *changed, *removed})

    def start_service(self, name: str) -> bool:
        """Start one service of the configuration. False when it was running or being started already."""
        state = self.states()[name].state
        if state == "backoff":
            self._ask("stopProcess", name)  # the next try may be minutes away
        elif state not in IDLE:
            return False
        self._ask("startProcess", name, False)
        return True

    def restart(self, name: str) -> None:
        """Stop one service, by force if it must be, and start it."""
        self._ask("stopProcess", name, False)
        self._wait_stopped(name)
        self._ask("startProcess", name, False)

    def stop_services(self, names: Sequence[str]) -> None:
        """Stop these services, all at once, and wait until they are gone; supervisord by itself takes one after the other."""
        for name in names:
            if self.states()[name].state not in IDLE:
                self._ask("stopProcess", name, False)
        for name in names:
            self._wait_stopped(name)

    def stop(self, timeout: float) -> bool:
        """Stop supervisord, which stops its services first. False when none ran. Raises PlatformError after `timeout` seconds."""
        number = self.pid()
        if number is None:
            return False
        process = psutil.Process(number)
        process.terminate()
        try:
            process.wait(timeout)
        except psutil.TimeoutExpired:
            raise PlatformError(
                f"supervisord (process {number}) still runs {timeout:g} s after it was asked to stop. See "
                f"{self.own_log}; `kill -9 {number}` ends it and its services at once, which loses nothing that was committed."
            ) from None
        return True

    def _wait_stopped(self, name: str) -> None:
        deadline = time.monotonic() + 90
        while self._ask("getProcessInfo", name)["statename"] in ("RUNNING", "STARTING", "STOPPING"):
            if time.monotonic() > deadline:
                raise PlatformError(f"The service {name} does not stop. See {self.log_file(name)}.")
            time.sleep(0.1)

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return self._call(method, *arguments)
        except (OSError, xmlrpc.client.Error, http.client.HTTPException) as error:
            raise PlatformError(
                f"supervisord (process {self.pid()}) did not do '{method}': {error}. See {self.own_log}; "
                "`./starter_script.sh stop` and a new start begin afresh."
            ) from error

    def _call(self, method: str, *arguments: Any) -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self.socket)) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self.path)
        self._connection = host, connection  # what close() closes
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=RPC_TIMEOUT)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(RPC_TIMEOUT)
        self.sock.connect(str(self.path))


def _process_state(info: Mapping[str, Any]) -> ProcessState:
    alive = info["pid"] != 0
    return ProcessState(
        state=info["statename"].lower(),
        pid=info["pid"] if alive else None,
        since=datetime.fromtimestamp(info["start"], UTC) if alive else None,
        detail=info["spawnerr"] or info["description"],
    )


__all__ = ["ProcessState", "Supervisor"]
