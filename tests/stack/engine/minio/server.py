"""A STAND-IN under MinIO's name, for machines on which no registry gives the real image: SeaweedFS behind MinIO's ways.

    server.py server /data --address :9000 --console-address :9001

What begins with /minio/ is answered here (administration.py): whether it is ready, and those calls of MinIO's administration that
`mbats` makes. Everything else is S3 and goes to SeaweedFS byte by byte, so that its signature stays true. That the platform works
with this shows that it makes its calls of MinIO rightly, and nothing else about the real one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from accounts import Accounts
from administration import administration
from aiohttp import web
from seaweed import INSIDE, S3_PORT, Seaweed

ADMINISTRATION_PORT = 9060
CHUNK = 256 * 1024
LONGEST_LINE = 64 * 1024
PATIENCE = 30.0  # seconds in which SeaweedFS, started anew, must listen again
NOTICE = "This is a STAND-IN for MinIO, made for tests from SeaweedFS. It has no console.\n"


async def main(options: argparse.Namespace) -> int:
    """Serve until SeaweedFS ends, with its code, or until this is told to stop."""
    print(NOTICE, end="", flush=True)
    accounts = Accounts(options.folder / ".stand-in", root=(_secret("MINIO_ROOT_USER_FILE"), _secret("MINIO_ROOT_PASSWORD_FILE")))
    store = Seaweed(options.folder, accounts.file)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, store.stop)
    await store.start()
    await _serve(administration(accounts, store), INSIDE, ADMINISTRATION_PORT)
    console = web.Application()
    console.router.add_get("/{any:.*}", _notice)
    await _serve(console, "0.0.0.0", options.console_address)
    await asyncio.start_server(_pass_on, "0.0.0.0", options.address, limit=LONGEST_LINE)
    return await store.end()


def _secret(variable: str) -> str:
    return Path(os.environ[variable]).read_text().strip()


async def _notice(_: web.Request) -> web.Response:
    return web.Response(text=NOTICE)


async def _serve(application: web.Application, host: str, port: int) -> None:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, to whom its first line is for. No client mixes the two on one connection."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        line = await reader.readuntil(b"\n")
        path = line.split(b" ")[1] if line.count(b" ") > 1 else b""
        inner_reader, inner_writer = await _connect(ADMINISTRATION_PORT if path.startswith(b"/minio/") else S3_PORT)
        inner_writer.write(line)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        inner_writer.close()
    writer.close()


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            return await asyncio.open_connection(INSIDE, port)
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.1)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="minio", description=NOTICE)
    parser.add_argument("command", choices=["server"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", type=_port, default=9000)
    parser.add_argument("--console-address", type=_port, default=9001)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(_options())))
