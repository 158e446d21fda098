"""A broker's HTTP server that can break in every way a network knows: raw sockets on loopback, one thread for each connection.

    server.then(answer(201, {...}))                      the next request is answered
    server.then(stream(line({...}), RESET))              the next one gets a stream of one line, and then a reset
    server.otherwise(HANG)                               all others are accepted and never answered

An act is a function of a `Wire`. Requests are counted as they arrive, whatever becomes of them.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request as it was received; `connection` counts the connections from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self.socket = connection
        self.closing = closing
        self.is_open = True
        self._received = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_line(self) -> str:
        """The next line of a request; empty at the end of its head, and at the end of the connection."""
        while b"\r\n" not in self._received and (data := self.socket.recv(65536)):
            self._received += data
        text, _, self._received = self._received.partition(b"\r\n")
        return text.decode()

    def read(self, size: int) -> bytes:
        while len(self._received) < size and (data := self.socket.recv(65536)):
            self._received += data
        body, self._received = self._received[:size], self._received[size:]
        return body

    def head(self, status: int, *headers: str) -> None:
        self.send("\r\n".join([f"HTTP/1.1 {status} Whatever", *headers, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        """FIN: no more is coming."""
        self.is_open = False
        self.socket.close()

    def reset(self) -> None:
        """RST: whatever was under way is lost."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()


Act = Callable[[Wire], None]


class FaultyServer:
    """Answers each request by the next act; those that come when none is left get `otherwise`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._acts: deque[Act] = deque()
        self._otherwise: Act = answer(500, {"errorMessage": "The test has foreseen no further request."})
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def then(self, *acts: Act) -> None:
        self._acts.extend(acts)

    def otherwise(self, act: Act) -> None:
        self._otherwise = act

    def sent(self, method: str) -> list[Request]:
        """The requests of one method, in the order in which they came."""
        return [request for request in self.requests if request.method == method]

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError):  # it wakes the accepting thread, which closing alone does not
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits 40 ms for an ACK
            self._sockets.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        wire = Wire(connection, self._closing)
        with connection, suppress(OSError):
            while wire.is_open and (line := wire.read_line()):
                method, path, _ = line.split()
                headers = {}
                while header := wire.read_line():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = wire.read(int(headers.get("content-length", 0)))
                with self._lock:
                    self.requests.append(Request(method, path, headers, body, number))
                    act = self._acts.popleft() if self._acts else self._otherwise
                act(wire)


def answer(status: int, body: Any, *headers: str) -> Act:
    """A whole answer: an object as JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return together(lambda wire: wire.head(status, f"Content-Length: {len(data)}", *headers), lambda wire: wire.send(data))


def cut_answer(status: int, body: Any) -> Act:
    """An answer that ends halfway."""
    data = json.dumps(body).encode()
    return together(lambda wire: wire.head(status, f"Content-Length: {len(data)}"), lambda wire: wire.send(data[:-9]), Wire.end)


def stream(*acts: Act | bytes, status: int = 200) -> Act:
    """The beginning of a chunked answer, then these acts; bytes are chunks. What it does not end stays open and silent."""
    steps = [(lambda wire, data=act: wire.chunk(data)) if isinstance(act, bytes) else act for act in acts]
    return together(lambda wire: wire.head(status, "Transfer-Encoding: chunked"), *steps, HANG)


def line(body: Any) -> bytes:
    """One line of a stream."""
    return json.dumps(body).encode() + b"\n"


def drip(data: bytes, every: float) -> Act:
    """The bytes one by one, so many seconds apart, over and over."""

    def act(wire: Wire) -> None:
        while not wire.closing.wait(every):
            wire.chunk(data)

    return act


def together(*acts: Act) -> Act:
    def act(wire: Wire) -> None:
        for each in acts:
            if wire.is_open:
                each(wire)

    return act


def HANG(wire: Wire) -> None:
    """Say nothing, until the other side goes away or the test is over."""
    with suppress(OSError):
        wire.socket.recv(1)
    wire.is_open = False


def END_CHUNKS(wire: Wire) -> None:
    """The clean end of a stream."""
    wire.send(b"0\r\n\r\n")
    wire.end()


FIN: Act = Wire.end
RESET: Act = Wire.reset
