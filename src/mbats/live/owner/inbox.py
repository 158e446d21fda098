"""The one queue of an account's owner. Everything that happens to the account passes through it, in one order."""

from __future__ import annotations

import queue
from collections import deque
from typing import Any

from mbats.oanda.prices import Price

_PRICE = object()


class Inbox:
    """A queue that never blocks who puts, and that one thread takes from.

    Prices come last: at the end of a minute every pair has a new one, and bars or an order would wait until each is weighed.
    All else keeps its order, and so do prices.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._prices: deque[Any] = deque()
        self._owed = 0  # prices whose turn in the queue has come, and which let others go before

    def put(self, item: Any, /) -> None:
        """From any thread."""
        self._queue.put(item)

    def put_price(self, item: Any, /) -> None:
        """From any thread: something that lets all else go before."""
        self._prices.append(item)
        self._queue.put(_PRICE)

    def get(self, timeout: float) -> Any | None:
        """The next message; None when none came for `timeout` seconds."""
        while True:
            try:
                item = self._queue.get_nowait() if self._owed else self._queue.get(timeout=max(timeout, 0.001))
            except queue.Empty:
                if not self._owed:
                    return None
                self._owed -= 1
                return self._prices.popleft()
            if item is not _PRICE:
                return item
            self._owed += 1

    def __len__(self) -> int:
        return self._queue.qsize() + self._owed


class Tagged:
    """The inbox for one generation of streams, so that the last words of an old one are not taken for those of the new."""

    def __init__(self, inbox: Inbox, generation: int) -> None:
        self._inbox = inbox
        self.generation = generation

    def put(self, item: Any, /) -> None:
        put = self._inbox.put_price if isinstance(item, Price) else self._inbox.put
        put((self.generation, item))
