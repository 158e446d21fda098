"""What the acceptance tests ask of a platform, wherever it runs, and the native one that gives it."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psutil
from platforms import Platform, alive, eventually, family

from mbats.platform.supervisor import Supervisor

FIRST_PORT = 25_000  # where it begins to look for free ports, so that it meets no platform of a user
START_TIMEOUT = 600.0
AGAIN = 60.0  # seconds in which a supervisor must have started what was killed

SERVICES = (
    "postgres",
    "s3",
    "simulator",
    "trader",
    "mlflow",
    "airflow-apiserver",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
    "superset",
    "jupyter",
    "pgadmin",
)


class Substrate(Protocol):
    """A platform that can be used, hurt and looked at. Services have the names of SERVICES; `airflow` is its API server."""

    name: str
    borrowed: bool  # it ran before the tests, holds what its user put there, and goes on running

    def start(self) -> None:
        """Bring it up from nothing, until every service is well. Raises AssertionError with what was said."""

    def end(self) -> None:
        """End it for good, with all its processes; what it kept may go as well."""

    def url(self, service: str) -> str:
        """`http://127.0.0.1:PORT`, for S3, PostgreSQL and Airflow too."""

    def secret(self, name: str) -> str:
        """The secret called so now, such as `airflow_password`."""

    def secrets(self) -> dict[str, str]:
        """Every secret that the platform has made, by name."""

    def mbats(self, *args: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line with all secrets; its output and errors together. Asserts exit code 0 unless `check` is off."""

    def status(self) -> dict[str, dict[str, Any]]:
        """What `mbats status --json` lists, by the names of SERVICES."""

    def started(self) -> dict[str, str]:
        """For each service, a word that changes when it is started anew."""

    def kill(self, service: str) -> None:
        """kill -9 the main process of the service; returns when it was started again without help, which may not be well yet."""

    def stop(self, service: str) -> None:
        """Stop this service alone, so that nothing starts it again; returns when it is gone."""

    def start_again(self, service: str) -> None:
        """Start what `stop` has stopped; it may not be well yet."""

    def wait_well(self, *services: str, timeout: float) -> None:
        """Return when these services, or all, are well together. Raises AssertionError that says which is not, and why."""

    def up(self, **settings: str) -> str:
        """Start again what is not as it should be, after a change of secrets or of these settings; returns what was said.

        The settings stay chosen, as if a line for each stood in .env: `up(MBATS_AIRFLOW_PORT="8081")`. All are well at the end.
        """

    def restart_all(self) -> None:
        """Stop everything cleanly and start it again, until every service is well."""

    def logs(self) -> dict[str, str]:
        """The whole log of each service, by name."""

    def processes(self) -> str:
        """All processes of the platform with their arguments, as `ps auxww` shows them."""

    def exposed(self) -> dict[str, str]:
        """Everything in which a secret must not stand: logs, arguments, environments, written configurations of the runner."""

    def memory(self) -> dict[str, float]:
        """Megabytes that each service takes now."""


class NativeSubstrate:
    """A platform of plain processes in a folder of its own. One that was given a `home` which runs already is left running."""

    name = "native"

    def __init__(self, home: Path, *, borrowed: bool = False) -> None:
        self.platform = Platform(home, services="all")
        self.borrowed = borrowed

    def start(self) -> None:
        if self.borrowed:
            # What its own checkout installed: another one's commands would start every service anew, from there.
            python = psutil.Process(self.platform.supervisor_pid()).cmdline()[0]
            self.platform = replace(self.platform, python=(python,))
            return
        self.platform.prefer_ports(FIRST_PORT)
        self.up()

    def end(self) -> None:
        if self.borrowed:
            return
        processes = self._processes()
        self.platform.mbats("stop", timeout=START_TIMEOUT)
        left = alive(processes)
        for process in left:
            process.kill()
        assert not left, f"still there after a stop, and killed now: {left}"

    def url(self, service: str) -> str:
        settings = self.platform.settings()
        if service == "postgres":
            return f"http://{settings.postgres_host}:{settings.postgres_port}"
        url: str = getattr(settings, f"{service.replace('-', '_')}_url")
        assert urlsplit(url).hostname == "127.0.0.1"
        return url

    def secret(self, name: str) -> str:
        return self._secret_file(name).read_text().strip()

    def secrets(self) -> dict[str, str]:
        files = sorted(self.platform.settings().secrets_dir.glob("mbats_*"))
        return {file.name.removeprefix("mbats_"): file.read_text().strip() for file in files}

    def mbats(self, *args: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.platform.mbats(*args, timeout=timeout)
        assert not check or done.returncode == 0, f"mbats {' '.join(args)} ended with {done.returncode}:\n{done.stdout}"
        return done

    def status(self) -> dict[str, dict[str, Any]]:
        return {name: {field: getattr(found, field) for field in found.__slots__} for name, found in self._statuses().items()}

    def started(self) -> dict[str, str]:
        return {name: str(pid) for name, pid in self._pids().items()}

    def kill(self, service: str) -> None:
        before = self._pids()[service]
        assert before is not None, f"{service} does not run"
        psutil.Process(before).kill()
        assert eventually(lambda: self._pids()[service] not in (None, before), within=AGAIN), f"{service} stays down"

    def stop(self, service: str) -> None:
        Supervisor(self.platform.home).stop_services([service])

    def start_again(self, service: str) -> None:
        Supervisor(self.platform.home).start_service(service)

    def wait_well(self, *services: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            found = self._statuses()
            unwell = {name: status.detail for name, status in found.items() if not status.healthy and name in (services or found)}
            if not unwell:
                return
            assert time.monotonic() < deadline, f"not well after {timeout:g} s: {unwell}"
            time.sleep(0.2)

    def up(self, **settings: str) -> str:
        self.platform = replace(self.platform, extra=self.platform.extra | settings)
        done = self.platform.mbats("up", timeout=START_TIMEOUT)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def restart_all(self) -> None:
        self.mbats("stop")
        self.up()

    def logs(self) -> dict[str, str]:
        return {file.stem: file.read_text(errors="replace") for file in sorted((self.platform.home / "logs").glob("*.log"))}

    def processes(self) -> str:
        numbers = ",".join(str(process.pid) for process in self._processes())
        return subprocess.run(["ps", "uww", "-p", numbers], capture_output=True, text=True, check=True).stdout

    def exposed(self) -> dict[str, str]:
        shown = {"ps": self.processes()}
        for process in self._processes():
            try:
                environment = process.environ()
                title = f"{process.name()} {process.pid}"
            except psutil.NoSuchProcess:
                continue  # it ended between the two questions
            shown[f"environment of {title}"] = "\n".join(f"{name}={value}" for name, value in environment.items())
        shown |= {f"log of {name}": text for name, text in self.logs().items()}
        for file in (self.platform.home / "platform.env", self.platform.home / "run" / "supervisord.conf"):
            shown[file.name] = file.read_text()
        return shown

    def memory(self) -> dict[str, float]:
        taken = {}
        for name, pid in self._pids().items():
            assert pid is not None, f"{name} does not run"
            taken[name] = sum(_proportional_memory(process.pid) for process in alive(family(pid)))
        return taken

    def _statuses(self) -> dict[str, Any]:
        return self.platform.status()

    def _pids(self) -> dict[str, int | None]:
        return {name: state.pid for name, state in Supervisor(self.platform.home).states().items()}

    def _processes(self) -> list[psutil.Process]:
        return family(self.platform.supervisor_pid())

    def _secret_file(self, name: str) -> Path:
        return self.platform.settings().secrets_dir / f"mbats_{name}"


def _proportional_memory(pid: int) -> float:
    """Megabytes of one process, with pages that it shares divided by those who share them; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def substrate(kind: str, folder: Path) -> Substrate:
    """The platform of this kind; one that runs already when MBATS_STACK_HOME names its folder."""
    running = os.environ.get("MBATS_STACK_HOME")
    home = Path(running) if running else folder / "state"
    if kind == "native":
        return NativeSubstrate(home, borrowed=running is not None)
    from stack.docker import DockerStack  # imported here: it needs an engine's client

    made: Substrate = DockerStack(home, borrowed=running is not None)
    return made


__all__ = ["SERVICES", "NativeSubstrate", "Substrate", "substrate"]
