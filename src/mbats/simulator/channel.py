"""One open stream as bytes: lines in chunks, on a connection that can end in every way.

Lines go to the connection at once, so that a transaction is on its way to the streams before the request that caused it is
answered. A client that does not read is cut off when too much waits for it: memory stays bounded.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from mbats.simulator.faults import sockets

WAITING = 262_144  # bytes that may wait for a client in this process, and about as many in the kernel
LAST_CHUNK = b"0\r\n\r\n"


class Channel:
    """The connection of one stream, whose headers are sent."""

    def __init__(self, request: web.Request, *, waiting: int = WAITING) -> None:
        self._transport = sockets.transport_of(request)
        self._limit = waiting
        self._ended = asyncio.Event()
        self.why = ""  # it ended
        if self._transport is None:
            self.end("client")
            return
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, waiting)
        self._transport.set_write_buffer_limits(high=waiting)

    @property
    def open(self) -> bool:
        return not self._ended.is_set()

    def write(self, data: bytes) -> None:
        """Send one chunk. Of a client that does not read, the end is `slow reader`."""
        transport = self._transport
        if transport is None or not self.open:
            return
        if transport.is_closing():
            self.end("client")
            return
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        if transport.get_write_buffer_size() > self._limit:
            self.reset("slow reader")

    def finish(self, why: str) -> None:
        """End it as HTTP wants it: the last chunk, then FIN."""
        if self._transport is not None and self.open and not self._transport.is_closing():
            self._transport.write(LAST_CHUNK)
        self.close(why)

    def close(self, why: str) -> None:
        """End it by FIN, without the last chunk."""
        sockets.close(self._transport)
        self.end(why)

    def reset(self, why: str) -> None:
        """End it by RST."""
        sockets.reset(self._transport)
        self.end(why)

    def end(self, why: str) -> None:
        """Say that it has ended."""
        if self.open:
            self.why = why
            self._ended.set()

    async def wait(self) -> None:
        """Until it has ended."""
        await self._ended.wait()
