"""How many requests a client may send."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

CLIENTS_KEPT = 1024


class RateLimit:
    """A token bucket for each address, as OANDA counts: so many requests a second, and as many at once."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._rate = per_second
        self._most = max(per_second, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, client: str) -> bool:
        """Whether one more request of this client is within the limit; if so, it is counted."""
        now = self._clock()
        tokens, before = self._buckets.get(client, (self._most, now))
        tokens = min(self._most, tokens + (now - before) * self._rate)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > CLIENTS_KEPT:
            self._buckets.popitem(last=False)
        return allowed
