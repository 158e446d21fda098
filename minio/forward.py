"""Show one port of a container to its network and keep the others inside: `python minio/forward.py 9000 9050 -- command …`.

SeaweedFS opens its inner ports wherever it opens that of S3, and asks nobody who comes through those of gRPC for a key. So it
listens on the container's loopback alone, and what comes from outside to the first port is passed on to the second one in there.
Ends when the command does, with its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

INSIDE = "127.0.0.1"
CHUNK = 256 * 1024


async def main(outer: int, inner: int, command: list[str]) -> int:
    """Run the command, and pass on what comes."""
    child = await asyncio.create_subprocess_exec(*command)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, child.send_signal, number)
    outside = socket.gethostbyname(socket.gethostname())
    await asyncio.start_server(lambda reader, writer: pass_on(reader, writer, inner), outside, outer)
    return await child.wait()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """One connection, in both directions, until both sides have said their last."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(INSIDE, port)
    except OSError:  # the command does not listen yet, or no more
        writer.close()
        return
    await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
    for end in (writer, inner_writer):
        end.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes, and then that no more will come."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[4:])))
