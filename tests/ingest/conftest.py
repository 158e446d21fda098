"""A broker of the test's own, a source that reads from it, and the command line on both."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fakes import TOKEN, FakeOanda
from free_ports import free_ports
from pydantic import SecretStr
from stores import wait_until_well

from mbats.database import Database
from mbats.oanda import OandaClient
from mbats.oanda.source import OandaSource
from mbats.settings import Settings


@pytest.fixture
def source(oanda: FakeOanda) -> Iterator[OandaSource]:
    """The fake broker as a source whose faults do not make a test wait."""
    quick = {"timeout": (1.0, 1.0), "attempts": 2, "first_pause": 0.01, "longest_pause": 0.02, "connections_per_second": 50}
    client = OandaClient(oanda.url, SecretStr(TOKEN), **quick)
    source = OandaSource(client, vendor="oanda")
    yield source
    source.close()


@dataclass(frozen=True)
class Command:
    """`mbats …` in a process of its own, on the platform of the test."""

    settings: Settings
    environment: dict[str, str]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(**self._how(*arguments), capture_output=True, text=True, timeout=120)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(**self._how(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _how(self, *arguments: str) -> dict[str, Any]:
        foreign = {name for name in os.environ if name.startswith("MBATS_")}
        clean = {name: value for name, value in os.environ.items() if name not in foreign}
        home = {"MBATS_HOME": str(self.settings.home), "COLUMNS": "120"}
        return {"args": [sys.executable, "-m", "mbats.cli", *arguments], "env": clean | home | self.environment}


@pytest.fixture
def mbats(secmaster_db: Database, settings: Settings, oanda: FakeOanda) -> Command:
    """The command line with the fake broker in the simulator's place."""
    oanda.token = settings.required_secret("simulator_token").get_secret_value()
    return Command(settings, {"MBATS_SIMULATOR_PORT": str(oanda.port)})


@pytest.fixture
def simulated(secmaster_db: Database, settings: Settings) -> Iterator[Command]:
    """The command line with a real simulator process, beside one that runs on the usual ports."""
    names = ("simulator_port", "simulator_stream_port", "simulator_admin_port")
    ports = dict(zip(names, free_ports(), strict=False))
    command = Command(settings, {f"MBATS_{name.upper()}": str(port) for name, port in ports.items()})
    with command.start("simulator") as process:
        wait_until_well(settings.model_copy(update=ports), "simulator")
        yield command
        process.terminate()
