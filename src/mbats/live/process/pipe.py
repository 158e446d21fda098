"""Both ends of the pipe between the trader and a strategy's process: whole messages, in order, from any thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from select import select
from typing import Any

import numpy as np
from pydantic import ValidationError

from mbats.errors import DataError, PlatformError
from mbats.live.wire import FromStrategy, History, ToStrategy, encode, read_from_strategy, read_to_strategy
from mbats.market import Bars, Floats

_PRICES = tuple(f"{side}_{part}" for side in ("bid", "ask") for part in ("open", "high", "low", "close"))
_WIDTH = 8 * (len(_PRICES) + 3)  # bytes of a bar: its time, eight prices, the volume and the conversion


class PeerGone(PlatformError):
    """The process at the other end has closed the pipe, or died."""


@dataclass(frozen=True, slots=True)
class Past:
    """A `History` with its bars; `conversions` is the worth of the quote currency in the account's at each bar's close."""

    symbol: str
    bars: Bars
    conversions: Floats


class Pipe:
    """One end. Several threads may send; one receives."""

    def __init__(self, connection: Connection, read: Callable[[bytes], Any]) -> None:
        self._connection = connection
        self._read = read
        self._lock = threading.Lock()

    def send(self, message: FromStrategy | ToStrategy) -> None:
        """Send one message. Raises PeerGone; waits while the other end does not read and the pipe is full."""
        self._send(encode(message))

    def send_bars(self, history: History, bars: Bars, conversions: Floats) -> None:
        """Send a symbol's history, its bars right behind it. Raises PeerGone."""
        self._send(encode(history), _pack(bars, conversions))

    def has_room(self) -> bool:
        """Whether a message of a few kilobytes can be sent without waiting. False when the pipe is closed."""
        try:
            return bool(select([], [self._connection], [], 0)[1])
        except (OSError, ValueError):
            return False

    def receive(self) -> Any:
        """The next message, on the strategy's side a `Past` for a `History`; None when the other end is gone.

        Raises DataError for what is no message.
        """
        try:
            message = self._read(self._connection.recv_bytes())
            return _unpack(message, self._connection.recv_bytes()) if isinstance(message, History) else message
        except (EOFError, OSError):
            return None
        except ValidationError as error:
            raise DataError(f"What came through the pipe is no message: {error}") from error

    def close(self) -> None:
        """Close this end; the other then receives None."""
        self._connection.close()

    def _send(self, *frames: bytes) -> None:
        try:
            with self._lock:
                for frame in frames:
                    self._connection.send_bytes(frame)
        except OSError as error:
            raise PeerGone(f"The process at the other end of the pipe is gone: {error}. Nothing more is sent to it.") from error


def traders_end(fd: int) -> Pipe:
    """The trader's end: receives `FromStrategy`."""
    return Pipe(Connection(fd), read_from_strategy)


def strategys_end(fd: int) -> Pipe:
    """The strategy's end: receives `ToStrategy`, and `Past`."""
    return Pipe(Connection(fd), read_to_strategy)


def child_command(fd: int) -> list[str]:
    """The argv of a strategy's process whose end of the pipe is the file descriptor `fd`, which it must inherit.

    The process ends when the other end is closed, so let nobody else inherit that.
    """
    return [sys.executable, "-P", "-m", "mbats.live.process", str(fd)]


def _pack(bars: Bars, conversions: Floats) -> bytes:
    columns: list[Any] = [bars.time.astype("<M8[us]")]
    columns += [getattr(bars, name).astype("<f8") for name in _PRICES]
    columns += [bars.volume.astype("<i8"), conversions.astype("<f8")]
    return b"".join(np.ascontiguousarray(column).tobytes() for column in columns)


def _unpack(history: History, frame: bytes) -> Past:
    if len(frame) != history.count * _WIDTH:
        raise DataError(f"{history.symbol}: {history.count} bars of history were announced, and {len(frame)} bytes came.")
    kinds = ["<M8[us]", *["<f8"] * len(_PRICES), "<i8", "<f8"]
    size = history.count * 8
    columns: list[Any] = [np.frombuffer(frame, kind, history.count, n * size) for n, kind in enumerate(kinds)]
    return Past(history.symbol, Bars(*columns[:-1]), columns[-1])
