"""The platform in containers, from a copy of the project as a fresh clone has it. Starts an engine where none is; see engine/."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from mbats.settings import PROJECT_ROOT

HERE = Path(__file__).parent
PROJECT = "mbats-test"  # always the same, so that images are built upon those of the last time
FIRST_PORT = 23_000  # where it begins to look for free ports, so that it meets no platform of a user
BUILD_TIMEOUT = 3600.0
START_TIMEOUT = 900.0
AGAIN = 60.0  # seconds in which the engine must have started what was killed

# Those whose name in the compose file is another one.
CONTAINERS = {
    "s3": "minio",
    "airflow": "airflow-apiserver",
    "simulator-stream": "simulator",
    "simulator-admin": "simulator",
}
# The port of each container, at which it is published as well unless this variable says another.
PORTS = {
    "postgres": (5432, "MBATS_POSTGRES_PORT"),
    "s3": (9000, "MBATS_S3_PORT"),
    "s3-console": (9001, "MBATS_S3_CONSOLE_PORT"),
    "simulator": (8090, "MBATS_SIMULATOR_PORT"),
    "simulator-stream": (8091, "MBATS_SIMULATOR_STREAM_PORT"),
    "simulator-admin": (8092, "MBATS_SIMULATOR_ADMIN_PORT"),
    "trader": (8095, "MBATS_TRADER_PORT"),
    "mlflow": (5500, "MBATS_MLFLOW_PORT"),
    "airflow": (8080, "MBATS_AIRFLOW_PORT"),
    "superset": (8088, "MBATS_SUPERSET_PORT"),
    "jupyter": (8888, "MBATS_JUPYTER_PORT"),
    "pgadmin": (1234, "MBATS_PGADMIN_PORT"),
    "serving": (5600, "MBATS_SERVING_PORT"),
}
READ_SECRETS = (
    "import json, pathlib; files = pathlib.Path('/run/mbats/secrets/tools').glob('mbats_*'); "
    "print(json.dumps({file.name[6:]: file.read_text().strip() for file in files}))"
)


class DockerStack:
    """A platform of containers. `home` is its checkout: a copy made now, or, borrowed, one whose platform runs already."""

    name = "docker"

    def __init__(self, home: Path, *, borrowed: bool = False) -> None:
        self.home = home
        self.borrowed = borrowed
        self._own = {} if borrowed else {"COMPOSE_PROJECT_NAME": PROJECT}
        self._engine: dict[str, str] = {}
        self._secrets: dict[str, str] | None = None
        self._former_logs: dict[str, str] = {}

    # --- Up and down ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.find_engine()
        if self.borrowed:
            return
        self._copy_project()
        self._leave_or_choose_ports()
        self.prepare_images()
        start = time.monotonic()
        self.compose("up", "-d", "--build", timeout=BUILD_TIMEOUT)
        self.wait_well(timeout=START_TIMEOUT)
        how = "with ports of its own in .env" if (self.home / ".env").exists() else "without .env"
        print(f"docker compose up -d --build, {how}: all containers healthy after {time.monotonic() - start:.0f} s")

    def find_engine(self) -> None:
        """An engine and Compose, started and installed where there is none."""
        said = _run([str(HERE / "engine" / "engine.sh"), "start"], timeout=START_TIMEOUT, environment=_plain_environment())
        lines = (line.partition("=") for line in said.stdout.splitlines() if "=" in line)
        self._engine = {name: value for name, _, value in lines if name in ("DOCKER_HOST", "DOCKER", "COMPOSE")}

    def prepare_images(self) -> None:
        """All that can be made before: what others are built from, or a stand-in for it, and the platform's own."""
        images = self.home / "tests" / "stack" / "engine" / "images.sh"
        print(_run([str(images)], timeout=BUILD_TIMEOUT, environment=self._environment()).stdout)

    def starter_script(self, *args: str) -> str:
        """Run the one command, as a user gives it; what it said."""
        compose = Path(self._engine["COMPOSE"].split()[0]).parent
        path = {"PATH": f"{compose}:{os.environ['PATH']}", "MBATS_HOME": str(self.home / ".mbats")}
        script = [str(self.home / "starter_script.sh"), "--docker", *args]
        return _run(script, timeout=BUILD_TIMEOUT, environment=self._environment() | path).stdout

    def up(self, **settings: str) -> str:
        self._write_settings(**settings)
        # As starter_script.sh does: what was handed out anew reaches a service when it is started anew.
        handed_out = self.compose("run", "--rm", "-T", "secrets").stdout
        anew = ["--force-recreate"] if "Handed out to" in handed_out else []
        self._keep_logs()
        start = time.monotonic()
        said = self.compose("up", "--detach", *anew, timeout=START_TIMEOUT).stdout
        self._secrets = None
        self.wait_well(timeout=START_TIMEOUT)
        print(f"Containers: all well after {time.monotonic() - start:.0f} s")
        return handed_out + said

    def up_with_profiles(self, *options: str, **settings: str) -> None:
        """Start what is optional too: `docker compose --profile scale --profile serving up` with these options and settings."""
        self._write_settings(**settings)
        self._keep_logs()
        start = time.monotonic()
        self.compose("--profile", "scale", "--profile", "serving", "up", "-d", *options, timeout=START_TIMEOUT)
        self.wait_well(timeout=START_TIMEOUT)
        print(f"Containers, with those of the profiles: all well after {time.monotonic() - start:.0f} s")

    def beside(self, name: str, **variables: str) -> DockerStack:
        """Another platform from the same checkout on the same engine, of which nothing runs yet, with these variables."""
        other = DockerStack(self.home)
        other._engine = self._engine
        other._own = {"COMPOSE_PROJECT_NAME": f"{PROJECT}-{name}", **variables}
        return other

    def restart_all(self) -> None:
        self._keep_logs()
        print(self.starter_script("stop"), self.starter_script())
        self.wait_well(timeout=START_TIMEOUT)

    def end(self) -> None:
        if not self.borrowed and self._engine:
            self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", timeout=START_TIMEOUT)

    # --- Use -----------------------------------------------------------------------------------------------------------

    def url(self, service: str) -> str:
        port, _ = PORTS[service]
        address = self.compose("port", CONTAINERS.get(service, service), str(port)).stdout.strip()
        assert address.startswith("127.0.0.1:"), f"{service} is published at '{address}'"
        return f"http://{address}"

    def secret(self, name: str) -> str:
        return self.secrets()[name]

    def secrets(self) -> dict[str, str]:
        if self._secrets is None:
            self._secrets = dict(json.loads(self.tools("python", "-c", READ_SECRETS).stdout.splitlines()[-1]))
        return self._secrets

    def mbats(self, *args: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        if args[:1] == ("secrets",):
            self._secrets = None
        return self.tools("mbats", *args, timeout=timeout, check=check)

    def status(self) -> dict[str, dict[str, Any]]:
        said = self.tools("mbats", "status", "--json", check=False).stdout
        return {service["name"]: service for service in json.loads(said[said.index("[") :])}

    def wait_well(self, *services: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            unwell = self._unwell(services)
            if not unwell:
                return
            assert time.monotonic() < deadline, f"not well after {timeout:g} s: {unwell}"
            time.sleep(1)

    def _unwell(self, services: Collection[str]) -> dict[str, str]:
        """What the engine says first, since the platform itself is asked by a container of its own."""
        wanted = [CONTAINERS.get(service, service) for service in services]
        healths = {name: state["Health"]["Status"] for name, state in self._states().items() if "Health" in state}
        unwell = {name: health for name, health in healths.items() if health != "healthy" and name in (wanted or healths)}
        if unwell:
            return unwell
        found = self.status()
        return {name: one["detail"] for name, one in found.items() if not one["healthy"] and name in (services or found)}

    # --- Hurt ----------------------------------------------------------------------------------------------------------

    def started(self) -> dict[str, str]:
        return {_own_name(name): str(state["StartedAt"]) for name, state in self._states().items()}

    def kill(self, service: str) -> None:
        container = CONTAINERS.get(service, service)
        before = self._states()[container]["StartedAt"]
        # From inside: what the engine itself killed, it would not start again. Process 1 is the init, and ends with the rest.
        self.docker("exec", self._containers()[container], "sh", "-c", "kill -9 -1", check=False)
        deadline = time.monotonic() + AGAIN
        while (now := self._states()[container])["StartedAt"] == before or not now["Running"]:
            assert time.monotonic() < deadline, f"{service} stays down"
            time.sleep(0.2)

    def stop(self, service: str) -> None:
        self.docker("stop", self._containers()[CONTAINERS.get(service, service)])

    def start_again(self, service: str) -> None:
        self.docker("start", self._containers()[CONTAINERS.get(service, service)])

    # --- Look ----------------------------------------------------------------------------------------------------------

    def logs(self) -> dict[str, str]:
        now = self._logs()
        return {name: self._former_logs.get(name, "") + now.get(name, "") for name in {**self._former_logs, **now}}

    def processes(self) -> str:
        tops = {name: self.docker("top", container, "auxww").stdout for name, container in self._running().items()}
        return "\n".join(f"{name}:\n{top}" for name, top in tops.items())

    def exposed(self) -> dict[str, str]:
        shown = {f"log of {name}": text for name, text in self.logs().items()}
        shown |= {f"inspection of {name}": self.docker("inspect", found).stdout for name, found in self._containers().items()}
        return shown | {"configuration": self.compose("--profile", "*", "config").stdout, "processes": self.processes()}

    def memory(self) -> dict[str, float]:
        running = self._running()
        said = self.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *running.values()).stdout
        return {
            _own_name(name): _megabytes(line.partition(" / ")[0]) for name, line in zip(running, said.splitlines(), strict=True)
        }

    # --- Means ---------------------------------------------------------------------------------------------------------

    def compose(self, *args: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Docker Compose on this project; its output and errors together."""
        argv = [*self._engine["COMPOSE"].split(), *args]
        return _run(argv, timeout=timeout, check=check, environment=self._environment(), folder=self.home)

    def docker(self, *args: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the engine's own command."""
        return _run([self._engine["DOCKER"], *args], timeout=timeout, check=check, environment=self._environment())

    def hostname(self, container: str) -> str:
        """How the container calls itself."""
        return self.docker("inspect", "--format", "{{.Config.Hostname}}", self._containers()[container]).stdout.strip()

    def tools(self, *args: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a container with every secret."""
        return self.compose("run", "--rm", "--no-deps", "-T", "tools", *args, timeout=timeout, check=check)

    def _environment(self) -> dict[str, str]:
        return _plain_environment() | self._engine | self._own | {"COMPOSE_PROGRESS": "quiet", "COMPOSE_ANSI": "never"}

    def _copy_project(self) -> None:
        listed = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        said = subprocess.run(listed, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
        for name in said.stdout.split("\0"):
            if name and (PROJECT_ROOT / name).is_file():
                (self.home / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT_ROOT / name, self.home / name)

    def _leave_or_choose_ports(self) -> None:
        """No .env, as on a fresh clone; where something has a default port already, others."""
        if not all(_is_free(port) for port, _ in PORTS.values()):
            free = (port for port in range(FIRST_PORT, FIRST_PORT + 1000) if _is_free(port))
            self._write_settings(**{variable: str(next(free)) for _, variable in PORTS.values()})

    def _write_settings(self, **settings: str) -> None:
        """A line for each in .env, as a user writes it."""
        file = self.home / ".env"
        chosen = dotenv_values(file) | settings
        file.write_text("".join(f"{name}={value}\n" for name, value in chosen.items()))

    def _containers(self) -> dict[str, str]:
        """The id of each service's container, of those that have ended too; a second one of a service is `NAME-2`."""
        listed = self.compose("--profile", "*", "ps", "--all", "--quiet").stdout.split()
        label = '{{index .Config.Labels "com.docker.compose.'
        form = label + 'service"}} ' + label + 'container-number"}} {{.Id}}'
        said = self.docker("inspect", "--format", form, *listed).stdout if listed else ""
        found = (line.split() for line in said.splitlines())
        return {name if number == "1" else f"{name}-{number}": identifier for name, number, identifier in found}

    def _running(self) -> dict[str, str]:
        containers = self._containers()
        return {name: containers[name] for name, state in self._states().items() if state["Running"]}

    def _states(self) -> dict[str, dict[str, Any]]:
        containers = self._containers()
        said = self.docker("inspect", "--format", "{{json .State}}", *containers.values()).stdout.splitlines()
        return {name: json.loads(line) for name, line in zip(containers, said, strict=True)}

    def _logs(self) -> dict[str, str]:
        return {_own_name(name): self.docker("logs", found).stdout for name, found in self._containers().items()}

    def _keep_logs(self) -> None:
        """A container that is replaced takes its log with it."""
        self._former_logs = self.logs() if self._engine else {}


def _own_name(container: str) -> str:
    return "s3" if container == "minio" else container


def _run(
    argv: list[str], *, timeout: float, environment: dict[str, str], check: bool = True, folder: Path = PROJECT_ROOT
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
    )
    assert not check or done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}"
    return done


def _plain_environment() -> dict[str, str]:
    """That of the tests without what would steer the platform or Compose."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MBATS_STACK", "MBATS_HOME", "COMPOSE_"))}


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was closed a moment ago is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _megabytes(text: str) -> float:
    for unit, size in (("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1 / 1024), ("B", 1 / 2**20)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * size
    raise ValueError(f"'{text}' is no amount of memory")


__all__ = ["DockerStack"]
