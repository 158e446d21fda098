"""The pace of a client: how often all its threads together may call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimit:
    """A token bucket that holds one token and gains `per_second` of them: calls are spread out, never bunched.

    A bucket of more than one would let `per_second` + its size through in one second, over the limit that OANDA counts.
    """

    def __init__(
        self, per_second: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the caller may go on; callers are let through in the order in which they came."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._free_at)
            self._free_at = turn + self._interval
        if turn > now:
            self._sleep(turn - now)
