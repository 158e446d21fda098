"""A real S3 store, as the native platform runs it, on ports of this session's own."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Iterator

import pytest

from mbats.platform import weed
from mbats.platform.buckets import prepare_store
from mbats.platform.ports import choose_ports
from mbats.platform.secret_files import ensure_secrets
from mbats.settings import Settings, load_settings

FIRST_PORT = 21800


@pytest.fixture(scope="session")
def store_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a store that is up, with its buckets prepared."""
    home = tmp_path_factory.mktemp("store")
    wanted = {need.setting: FIRST_PORT + 10 * number for number, need in enumerate(weed.PORTS)}
    ports = choose_ports(weed.PORTS, load_settings(home=home, **wanted), fixed=(), ours={}, say=print)
    ensure_secrets(load_settings(home=home))
    (home / "run").mkdir()
    settings = load_settings(home=home, **ports)
    weed.write_config(settings)
    with (home / "s3.log").open("wb") as log:
        server = subprocess.Popen(weed.server_command(settings), cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until_it_answers(settings)
            prepare_store(settings, print)
            yield settings
        finally:
            server.terminate()
            server.wait(timeout=20)
            weed.remove_sockets(settings)


def wait_until_it_answers(settings: Settings) -> None:
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection(settings.s3_host, settings.s3_port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            assert time.monotonic() < deadline, (settings.home / "s3.log").read_text()
        finally:
            connection.close()
        time.sleep(0.1)
