"""Threads that talk to the broker for the owner, which itself never waits: what comes of a call goes into its inbox."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mbats.live.owner.inbox import Inbox
from mbats.oanda.outcomes import Outcome, Unknown

log = logging.getLogger(__name__)


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
    """Writes and reads have threads of their own: a read that is tried again for a minute keeps no order waiting."""

    def __init__(self, inbox: Inbox, *, writers: int = 4, readers: int = 2) -> None:
        self._inbox = inbox
        self._writers = ThreadPoolExecutor(writers, "sender")
        self._readers = ThreadPoolExecutor(readers, "reader")
        self.in_flight = 0

    def write(self, key: Any, call: Callable[[], Outcome]) -> None:
        """Do it once. Whatever goes wrong, the outcome is at worst unknown."""
        self.in_flight += 1
        self._writers.submit(call).add_done_callback(lambda done: self._inbox.put(Answered(key, _outcome(done))))

    def read(self, key: Any, call: Callable[[], Any]) -> None:
        """Ask, with all the patience that the client has."""
        self._readers.submit(call).add_done_callback(lambda done: self._inbox.put(_fetched(key, done)))

    def close(self) -> None:
        """Take no more; what has not begun is dropped."""
        self._writers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)


def _outcome(done: Future[Outcome]) -> Outcome:
    if done.cancelled():
        return Unknown("the trader stopped before it was sent")
    error = done.exception()
    if error is not None:
        log.error("A call to the broker broke off: %r", error)
        return Unknown(f"{type(error).__name__}: {error}")
    return done.result()


def _fetched(key: Any, done: Future[Any]) -> Fetched:
    if done.cancelled():
        return Fetched(key, error=RuntimeError("the trader is stopping"))
    error = done.exception()
    if error is None:
        return Fetched(key, done.result())
    return Fetched(key, error=error if isinstance(error, Exception) else RuntimeError(repr(error)))
