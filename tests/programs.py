"""Single services of the platform as real processes, started and stopped as the supervisor starts and stops them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from free_ports import free_ports
from platforms import alive, eventually, family

from mbats.database import wait_for_server
from mbats.errors import MbatsError
from mbats.logins import bootstrap_databases
from mbats.platform.launch import launch_command
from mbats.platform.postgres import init_cluster
from mbats.platform.program import Program
from mbats.platform.secret_files import ensure_secrets
from mbats.platform.service import Service
from mbats.platform.services import services
from mbats.settings import Settings, load_settings


class RunningProgram:
    """One service that runs. `log` is what it has said so far, over all of its starts."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.log_file = folder / f"{service.name}.log"
        self.start()

    def start(self) -> None:
        """Start it, or start it anew with what its configuration says now."""
        self.program: Program = self.service.program()
        command = self.program.command
        if self.program.die_with_parent is not None:
            command = launch_command(command, die_with_parent=self.program.die_with_parent)
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": str(self.program.directory)} | self.program.environment
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.program.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """Its process and all that come from it."""
        return family(self.process.pid)

    def is_well(self) -> bool:
        try:
            self.service.check()
        except MbatsError:
            return False
        return True

    def wait_until_well(self, within: float = 90) -> str:
        """The version that it says it is. Fails with the end of its log when it is not well in time."""
        if not eventually(self.is_well, within=within):
            raise AssertionError(f"{self.service.name} is not well after {within:g} s; the end of its log:\n{self.log[-4000:]}")
        return self.service.check()

    def stop(self) -> None:
        """Stop it as the supervisor does, by force after its time."""
        if self.process.poll() is None:
            send = os.killpg if self.program.stop_as_group else os.kill
            send(self.process.pid, self.program.stop_signal)
            try:
                self.process.wait(self.program.stop_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill(self) -> None:
        """End its first process without a word."""
        self.process.kill()
        self.process.wait()


def new_platform(home: Path, **chosen: object) -> Settings:
    """The settings of a platform in this folder: free ports, secrets made, nothing started. Processes find it by MBATS_HOME."""
    home.mkdir(parents=True, exist_ok=True)
    free = free_ports()
    ports = {need.setting: next(free) for service in services(load_settings(home=home)) for need in service.ports}
    lines = [f"MBATS_{name.upper()}={value}\n" for name, value in (ports | chosen).items()]
    (home / "platform.env").write_text("".join(lines))
    ensure_secrets(load_settings(home=home))
    return load_settings(home=home)


@contextmanager
def running_postgres(settings: Settings) -> Iterator[RunningProgram]:
    """The platform's own PostgreSQL with its databases, one that a test may stop and start."""
    init_cluster(settings, settings.home / "postgres", settings.postgres_password("admin"))
    with running([service for service in services(settings) if service.name == "postgres"], settings.home) as [server]:
        wait_for_server(settings, timeout=60)
        bootstrap_databases(settings)
        yield server


@contextmanager
def running(services: Sequence[Service], folder: Path) -> Iterator[list[RunningProgram]]:
    """Run these services, each when those before it were started. Whatever comes from them is gone at the end."""
    started: list[RunningProgram] = []
    try:
        for service in services:
            started.append(RunningProgram(service, folder))
        yield started
    finally:
        left = [process for program in started if program.process.poll() is None for process in program.family()]
        for program in reversed(started):
            # The others keep nothing that a kill could lose, and take their time to stop.
            program.stop() if program.service.name == "postgres" else program.kill()
        for process in alive(left):
            process.kill()


def visible_text(processes: Sequence[psutil.Process]) -> str:
    """What others of this machine may see of these processes: their command lines and environments."""
    texts = []
    for process in processes:
        for part in ("cmdline", "environ"):
            try:
                texts.append(Path(f"/proc/{process.pid}/{part}").read_bytes().replace(b"\0", b"\n").decode(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
    return "\n".join(texts)
