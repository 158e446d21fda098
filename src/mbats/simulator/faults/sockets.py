"""How a connection can end: as it should, by a FIN in the middle, or by a RST."""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import web

NO_LINGER = struct.pack("ii", 1, 0)  # on, 0 seconds: close() throws away what is unsent and answers with a RST
LOOK_AGAIN = 0.1  # seconds


def transport_of(request: web.BaseRequest) -> asyncio.Transport | None:
    """The request's connection; None when the client has ended it."""
    transport = request.transport
    return None if transport is None or transport.is_closing() else transport


def reset(transport: asyncio.Transport | None) -> None:
    """End the connection by a RST."""
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()


def close(transport: asyncio.Transport | None) -> None:
    """End the connection by a FIN, after what is written already."""
    if transport is not None:
        transport.close()


async def hold(request: web.BaseRequest) -> None:
    """Do nothing until the client gives up."""
    while transport_of(request) is not None:
        await asyncio.sleep(LOOK_AGAIN)
