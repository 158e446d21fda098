"""The one queue of an account's owner. Everything that happens to the account passes through it, in one order."""

from __future__ import annotations

import queue
import time
from typing import Any


class Inbox:
    """A queue that never blocks who puts, and says how old the oldest message is."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[float, Any]] = queue.SimpleQueue()

    def put(self, item: Any, /) -> None:
        """From any thread."""
        self._queue.put((time.monotonic(), item))

    def get(self, timeout: float) -> Any | None:
        """The next message; None when none came for `timeout` seconds."""
        try:
            return self._queue.get(timeout=max(timeout, 0.001))[1]
        except queue.Empty:
            return None

    def __len__(self) -> int:
        return self._queue.qsize()


class Tagged:
    """The inbox for one generation of streams, so that the last words of an old one are not taken for those of the new."""

    def __init__(self, inbox: Inbox, generation: int) -> None:
        self._inbox = inbox
        self.generation = generation

    def put(self, item: Any, /) -> None:
        self._inbox.put((self.generation, item))
