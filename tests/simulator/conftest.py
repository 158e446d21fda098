"""The sample market of the default seed, an exchange on it, and a real simulator process."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mbats.simulator.exchange import Exchange
from mbats.simulator.sample import SampleMarket

SHARED = Path(__file__).resolve().parents[3] / "shared"
SEED = 20050103
TOKEN = "a-token-that-must-stay-out-of-the-log"
ACCOUNT = "101-004-1435156-001"


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


@pytest.fixture(scope="session")
def market() -> SampleMarket:
    return SampleMarket(SEED)


@pytest.fixture(scope="session")
def exchange(market: SampleMarket) -> Exchange:
    return Exchange(market)


@dataclass(frozen=True)
class Running:
    """A simulator process: where it listens, what it has printed so far, and the process itself."""

    url: str
    banner: str
    process: subprocess.Popen[str]

    def stop(self) -> tuple[int, str]:
        """End it as a supervisor would; the exit code, and all that it printed after the banner."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def start_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts `mbats simulator` with a home of its own; keyword arguments are MBATS_ variables in lower case."""
    started: list[subprocess.Popen[str]] = []

    def start(**variables: object) -> Running:
        settings = {"simulator_token": TOKEN, "simulator_port": free_port()} | variables
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MBATS_")}
        environment |= {f"MBATS_{key.upper()}": str(value) for key, value in settings.items() if value is not None}
        environment["MBATS_HOME"] = str(tmp_path_factory.mktemp("home"))
        command = [sys.executable, "-m", "mbats.cli", "simulator"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        banner = _first_line(process)
        url = re.search(r"http://\S+?:\d+", banner)
        return Running(url[0] if url else "", banner, process)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _first_line(process: subprocess.Popen[str], timeout: float = 60.0) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.5)[0]:
            return process.stdout.readline()
    raise TimeoutError("the simulator printed nothing")


@pytest.fixture(scope="session")
def simulator(start_simulator: Callable[..., Running]) -> Running:
    return start_simulator()
