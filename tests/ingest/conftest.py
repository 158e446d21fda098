"""A broker of the test's own, a source that reads from it, an S3 store, and the command line on all of them."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from fakes import TOKEN, FakeOanda
from pydantic import SecretStr

from mbats.database import Database
from mbats.oanda import OandaClient
from mbats.oanda.source import OandaSource
from mbats.objectstore import ObjectStore
from mbats.platform import weed
from mbats.platform.buckets import prepare_store
from mbats.platform.ports import is_free
from mbats.settings import Settings


@pytest.fixture
def oanda() -> Iterator[FakeOanda]:
    fake = FakeOanda()
    yield fake
    fake.close()


@pytest.fixture
def source(oanda: FakeOanda) -> Iterator[OandaSource]:
    """The fake broker as a source whose faults do not make a test wait."""
    quick = {"timeout": (0.3, 0.3), "attempts": 2, "first_pause": 0.01, "longest_pause": 0.02, "connections_per_second": 50}
    client = OandaClient(oanda.url, SecretStr(TOKEN), **quick)
    source = OandaSource(client, vendor="oanda")
    yield source
    source.close()


@pytest.fixture
def store(settings: Settings) -> Iterator[ObjectStore]:
    """A real S3 store with its buckets and the sample workbook, at the address that `settings.home/platform.env` names."""
    free = (port for port in range(random.randrange(20_000, 40_000), 50_000) if is_free(port) and is_free(port + weed.GRPC))
    ports = {need.setting: next(free) for need in weed.PORTS}
    keys = {name: SecretStr(secrets.token_urlsafe(16)) for name in ("s3_admin_access_key", "s3_admin_secret_key")}
    chosen = settings.model_copy(update=ports | keys)
    with (settings.home / "platform.env").open("a") as file:
        file.writelines(f"MBATS_{name.upper()}={port}\n" for name, port in ports.items())
    weed.write_config(chosen)
    (settings.home / "run").mkdir()
    with (settings.home / "weed.log").open("wb") as log:
        process = subprocess.Popen(weed.server_command(chosen), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for(f"{chosen.s3_url}/healthz")
        prepare_store(chosen, lambda line: None)
        yield ObjectStore(chosen)
    finally:
        process.terminate()
        process.wait(timeout=20)
        weed.remove_sockets(chosen)


def wait_for(url: str) -> None:
    """Return when the address answers with 200."""
    for _ in range(300):
        with suppress(requests.ConnectionError):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.1)
    raise TimeoutError(url)


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
def simulated(secmaster_db: Database, settings: Settings, free_port: int) -> Iterator[Command]:
    """The command line with a real simulator process."""
    command = Command(settings, {"MBATS_SIMULATOR_PORT": str(free_port)})
    with command.start("simulator") as process:
        wait_for(f"http://127.0.0.1:{free_port}/healthz")
        yield command
        process.terminate()
