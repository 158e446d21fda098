"""A real S3 store, as the native platform runs it, for as long as a test needs it."""

from __future__ import annotations

import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from free_ports import free_ports
from pydantic import SecretStr

from mbats.errors import PlatformError
from mbats.platform import weed
from mbats.platform.buckets import prepare_store
from mbats.platform.services import services
from mbats.settings import Settings


@contextmanager
def running_store(settings: Settings) -> Iterator[Settings]:
    """Run the store on free ports, with its buckets and sample files; yields the settings that reach it."""
    free = free_ports()
    ports = {need.setting: next(free) for need in weed.PORTS}
    keys = {
        name: getattr(settings, name) or SecretStr(secrets.token_urlsafe(16))
        for name in Settings.model_fields
        if re.fullmatch("s3_.*(access|secret)_key", name)
    }
    chosen = settings.model_copy(update=ports | keys)
    weed.write_config(chosen)
    (chosen.home / "run").mkdir(exist_ok=True)
    with (chosen.home / "weed.log").open("wb") as log:
        server = subprocess.Popen(weed.server_command(chosen), cwd=chosen.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until_well(chosen, "s3")
            prepare_store(chosen, lambda line: None)
            yield chosen
        finally:
            server.kill()  # asked to stop, it waits half a minute for connections that nobody uses any more
            server.wait()
            weed.remove_sockets(chosen)


def wait_until_well(settings: Settings, name: str) -> None:
    """Return when the platform would call this service well."""
    check = next(service.check for service in services(settings) if service.name == name)
    deadline = time.monotonic() + 30
    while True:
        try:
            return check()
        except PlatformError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
