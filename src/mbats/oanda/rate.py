"""The pace of a client: how often all its threads together may call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

Lane = Literal["reads", "orders"]


class RateLimit:
    """A token bucket that gains `per_second` tokens and holds `burst` of them: with one, calls are spread out, never bunched.

    In any one second, `per_second` + `burst` calls are let through at most, and that sum is what the broker counts.
    """

    def __init__(
        self,
        per_second: float,
        *,
        burst: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._saved = (burst - 1) * self._interval  # how much time may be saved up for later
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock() - self._saved
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the caller may go on; callers are let through in the order in which they came."""
        with self._lock:
            now = self._clock()
            turn = max(now - self._saved, self._free_at)
            self._free_at = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


class Pace:
    """The requests and the new connections that one address may make in a second, as one broker counts them.

    Orders have a lane of their own, so that they never wait behind reads: a tenth of the requests may come at once, and then
    15 %. Reads have the rest, three quarters, of which a tenth of all may come at once, when a bar is due. What one lane leaves
    is not the other's: in no second are both together above `requests_per_second`, if that is 4 or more.
    """

    def __init__(
        self,
        requests_per_second: float,
        connections_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        burst = max(1, int(requests_per_second / 10))
        orders = 0.15 * requests_per_second
        reads = max(requests_per_second - orders - 2 * burst, requests_per_second / 4)
        self._lanes: dict[Lane, RateLimit] = {
            "reads": RateLimit(reads, burst=burst, clock=clock, sleep=sleep),
            "orders": RateLimit(orders, burst=burst, clock=clock, sleep=sleep),
        }
        self._connections = RateLimit(connections_per_second, clock=clock, sleep=sleep)

    def wait_for_request(self, lane: Lane) -> None:
        """Return when a request may be sent."""
        self._lanes[lane].wait()

    def wait_for_connection(self) -> None:
        """Return when a connection may be made."""
        self._connections.wait()
