"""The platform in containers, from a copy of the project as a fresh clone has it. Starts an engine where none is; see engine/."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
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
CONTAINERS = {"s3": "minio", "airflow": "airflow-apiserver"}
# The port inside each container, and the variable of the one at which it is published.
PORTS = {
    "postgres": (5432, "MBATS_POSTGRES_PORT"),
    "s3": (9000, "MBATS_S3_PORT"),
    "s3-console": (9001, "MBATS_S3_CONSOLE_PORT"),
    "simulator": (8090, "MBATS_SIMULATOR_PORT"),
    "mlflow": (5500, "MBATS_MLFLOW_PORT"),
    "airflow": (8080, "MBATS_AIRFLOW_PORT"),
    "superset": (8088, "MBATS_SUPERSET_PORT"),
    "jupyter": (8888, "MBATS_JUPYTER_PORT"),
    "pgadmin": (1234, "MBATS_PGADMIN_PORT"),
}
STORE_OVERRIDE = "docker-compose.yml:minio/seaweedfs.compose.yml"
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
        self._engine: dict[str, str] = {}
        self._secrets: dict[str, str] | None = None
        self._former_logs: dict[str, str] = {}

    # --- Up and down ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.find_engine()
        if self.borrowed:
            return
        self._copy_project()
        self._choose_ports()
        self.prepare_images()
        self.run_starter_script()

    def find_engine(self) -> None:
        """An engine and Compose, started and installed where there is none."""
        said = _run([str(HERE / "engine" / "engine.sh"), "start"], timeout=START_TIMEOUT, environment=_plain_environment())
        lines = (line.partition("=") for line in said.stdout.splitlines() if "=" in line)
        self._engine = {name: value for name, _, value in lines if name in ("DOCKER_HOST", "DOCKER", "COMPOSE")}

    def prepare_images(self) -> None:
        """The images that others are built from; SeaweedFS takes the place of MinIO's where it cannot be had."""
        said = _run([str(HERE / "engine" / "images.sh")], timeout=START_TIMEOUT, environment=self._environment())
        print(said.stdout)
        if self.docker("image", "inspect", self._minio_image(), check=False).returncode != 0:
            print("MinIO's image cannot be had here; SeaweedFS takes its place.")
            self._write_settings(COMPOSE_FILE=STORE_OVERRIDE)

    def run_starter_script(self) -> None:
        """The one command, as a user gives it; prints what it said."""
        compose = Path(self._engine["COMPOSE"].split()[0]).parent
        path = {"PATH": f"{compose}:{os.environ['PATH']}", "MBATS_HOME": str(self.home / ".mbats")}
        script = [str(self.home / "starter_script.sh"), "--docker"]
        print(_run(script, timeout=BUILD_TIMEOUT, environment=self._environment() | path).stdout)
        self.wait_well(timeout=START_TIMEOUT)

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

    def restart_all(self) -> None:
        self._keep_logs()
        self.compose("down", timeout=START_TIMEOUT)
        self.up()

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
            self._secrets = dict(json.loads(self._tools("python", "-c", READ_SECRETS).stdout.splitlines()[-1]))
        return self._secrets

    def mbats(self, *args: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        if args[:1] == ("secrets",):
            self._secrets = None
        return self._tools("mbats", *args, timeout=timeout, check=check)

    def status(self) -> dict[str, dict[str, Any]]:
        said = self._tools("mbats", "status", "--json", check=False).stdout
        return {service["name"]: service for service in json.loads(said[said.index("[") :])}

    def wait_well(self, service: str | None = None, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            unwell = self._unwell(service)
            if not unwell:
                return
            assert time.monotonic() < deadline, f"not well after {timeout:g} s: {unwell}"
            time.sleep(1)

    def _unwell(self, service: str | None) -> dict[str, str]:
        """What the engine says first, since the platform itself is asked by a container of its own."""
        wanted = None if service is None else CONTAINERS.get(service, service)
        healths = {name: state["Health"]["Status"] for name, state in self._states().items() if "Health" in state}
        unwell = {name: health for name, health in healths.items() if health != "healthy" and wanted in (None, name)}
        if unwell:
            return unwell
        return {
            name: found["detail"] for name, found in self.status().items() if not found["healthy"] and service in (None, name)
        }

    # --- Hurt ----------------------------------------------------------------------------------------------------------

    def started(self, service: str) -> str:
        return str(self._states()[CONTAINERS.get(service, service)]["StartedAt"])

    def kill(self, service: str) -> None:
        before = self.started(service)
        # From inside: what the engine itself killed, it would not start again. Process 1 is the init, and ends with the rest.
        self.docker("exec", self._containers()[CONTAINERS.get(service, service)], "sh", "-c", "kill -9 -1", check=False)
        deadline = time.monotonic() + AGAIN
        while self.started(service) == before or not self._states()[CONTAINERS.get(service, service)]["Running"]:
            assert time.monotonic() < deadline, f"{service} stays down"
            time.sleep(0.2)

    # --- Look ----------------------------------------------------------------------------------------------------------

    def logs(self) -> dict[str, str]:
        return {name: self._former_logs.get(name, "") + text for name, text in self._logs().items()}

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

    def _tools(self, *args: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.compose("run", "--rm", "--no-deps", "-T", "tools", *args, timeout=timeout, check=check)

    def _environment(self) -> dict[str, str]:
        own = {} if self.borrowed else {"COMPOSE_PROJECT_NAME": PROJECT}
        return _plain_environment() | self._engine | own | {"COMPOSE_PROGRESS": "quiet", "COMPOSE_ANSI": "never"}

    def _copy_project(self) -> None:
        listed = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        said = subprocess.run(listed, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
        for name in said.stdout.split("\0"):
            if name and (PROJECT_ROOT / name).is_file():
                (self.home / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT_ROOT / name, self.home / name)

    def _choose_ports(self) -> None:
        free = _free_ports()
        self._write_settings(**{variable: str(next(free)) for _, variable in PORTS.values()})

    def _write_settings(self, **settings: str) -> None:
        """A line for each in .env, as a user writes it."""
        file = self.home / ".env"
        chosen = dotenv_values(file) | settings
        file.write_text("".join(f"{name}={value}\n" for name, value in chosen.items()))

    def _minio_image(self) -> str:
        found: dict[str, Any] = json.loads(self.compose("config", "--format", "json").stdout)
        return str(found["services"]["minio"]["image"])

    def _containers(self) -> dict[str, str]:
        """The id of each service's container, of those that have ended too."""
        listed = self.compose("ps", "--all", "--quiet").stdout.split()
        form = '{{index .Config.Labels "com.docker.compose.service"}} {{.Id}}'
        return (
            dict(line.split() for line in self.docker("inspect", "--format", form, *listed).stdout.splitlines()) if listed else {}
        )

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


def _free_ports() -> Iterator[int]:
    for port in range(FIRST_PORT, FIRST_PORT + 1000):
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


def _megabytes(text: str) -> float:
    for unit, size in (("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1 / 1024), ("B", 1 / 2**20)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * size
    raise ValueError(f"'{text}' is no amount of memory")


__all__ = ["DockerStack"]
