"""Threads that talk to the broker for the owner, which itself never waits: what comes of a call goes into its inbox."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mbats.errors import MbatsError
from mbats.live.owner.inbox import Inbox
from mbats.oanda.outcomes import Outcome, Unknown

log = logging.getLogger(__name__)

IDLE = 20.0  # seconds after which a connection is used for nothing: a broker closes those that are not, in a minute or so

Write = tuple[Any, Callable[[], Outcome]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A write has come to an outcome. `key` is what the owner called it."""

    key: Any
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Fetched:
    """A read has brought a value, or an error."""

    key: Any
    value: Any = None
    error: Exception | None = None


class Calls:
    """Writes and reads have threads of their own: a read that is tried again for a minute keeps no order waiting.

    `touch` uses the connection of the thread that calls it for nothing, and makes it first if there is none; it raises nothing.
    Each writer does so before its first order and whenever it has been idle, since to make a connection takes longer than to
    decide on an order.
    """

    def __init__(self, inbox: Inbox, touch: Callable[[], None] = lambda: None, *, writers: int = 4, readers: int = 2) -> None:
        self._inbox = inbox
        self._touch = touch
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(readers, "reader")
        self._writers = [threading.Thread(target=self._work, name=f"sender_{n}", daemon=True) for n in range(writers)]
        self._cold = writers
        self._lock = threading.Lock()
        self._closed = False
        self._held: list[Write] | None = None
        self.in_flight = 0
        self.crashes = 0  # errors that nobody foresaw
        for thread in self._writers:
            thread.start()

    @property
    def warm(self) -> bool:
        """Whether every writer has a connection, or has tried to make one."""
        return self._cold == 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Writes within the block leave when it ends, and not at all when it raises: put the journal's write inside it."""
        self._held = []
        try:
            yield
            held, self._held = self._held, None
        finally:
            self._held = None
        for key, call in held:
            self.write(key, call)

    def write(self, key: Any, call: Callable[[], Outcome]) -> None:
        """Do it once. Whatever goes wrong, the outcome is at worst unknown."""
        if self._held is not None:
            self._held.append((key, call))
            return
        self.in_flight += 1
        self._queue.put((key, call))

    def read(self, key: Any, call: Callable[[], Any]) -> None:
        """Ask, with all the patience that the client has."""
        self._readers.submit(call).add_done_callback(lambda done: self._inbox.put(self._fetched(key, done)))

    def close(self) -> None:
        """Take no more; what has not begun is dropped."""
        self._closed = True
        for _ in self._writers:
            self._queue.put(None)
        self._readers.shutdown(wait=False, cancel_futures=True)

    # --- A writer's thread --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._touch()
        with self._lock:
            self._cold -= 1
        while not self._closed:
            try:
                write = self._queue.get(timeout=IDLE)
            except queue.Empty:
                self._touch()
                continue
            if write is not None:
                key, call = write
                self._inbox.put(Answered(key, self._outcome(call)))

    def _outcome(self, call: Callable[[], Outcome]) -> Outcome:
        if self._closed:
            return Unknown("the trader stopped before it was sent")
        try:
            return call()
        except Exception as error:
            log.exception("A call to the broker broke off")
            self._count()
            return Unknown(f"{type(error).__name__}: {error}")

    def _count(self) -> None:
        with self._lock:
            self.crashes += 1

    # --- A reader's thread --------------------------------------------------------------------------------------------------

    def _fetched(self, key: Any, done: Future[Any]) -> Fetched:
        if done.cancelled():
            return Fetched(key, error=RuntimeError("the trader is stopping"))
        error = done.exception()
        if error is None:
            return Fetched(key, done.result())
        if not isinstance(error, MbatsError):
            self._count()
        return Fetched(key, error=error if isinstance(error, Exception) else RuntimeError(repr(error)))
