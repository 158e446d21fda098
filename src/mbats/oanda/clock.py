"""How far the broker's clock is from ours, measured from what its answers and prices say of the time."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

WINDOW = 30  # answers that are remembered: together they say more than one, whose Date counts whole seconds


@dataclass(frozen=True, slots=True)
class Skew:
    """By how many seconds the broker's clock is ahead of ours, as the limits of what the measurements allow.

    `most` is infinite while only prices have told the time: a price may be old, so it shows only that it is not later than that.
    """

    least: float
    most: float

    @property
    def seconds(self) -> float:
        """The best guess: the middle, or the one limit that is known. Negative when our clock is ahead."""
        return (self.least + self.most) / 2 if math.isfinite(self.most) else self.least

    @property
    def margin(self) -> float:
        """By how much the guess may be wrong, in seconds."""
        return (self.most - self.least) / 2


class BrokerClock:
    """Collects measurements from any thread. `now` is our clock, in seconds since 1970.

    Each measurement gives limits; the skew is where all of them agree. As soon as a newer one contradicts the older, the older
    are left out: one of the two clocks was set.
    """

    def __init__(self, *, window: int = WINDOW, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._limits: deque[tuple[float, float]] = deque(maxlen=window)
        self._lock = threading.Lock()

    def skew(self) -> Skew | None:
        """What is known now; None before the first measurement."""
        with self._lock:
            limits = list(self._limits)
        if not limits:
            return None
        least, most = limits.pop()
        for older_least, older_most in reversed(limits):
            if max(least, older_least) > min(most, older_most):
                break
            least, most = max(least, older_least), min(most, older_most)
        return Skew(least, most)

    def observe_date(self, header: str | None, *, sent: float, received: float) -> None:
        """The `Date` of an answer to a request that left and was answered at these moments of our clock."""
        try:
            said = parsedate_to_datetime(header or "").timestamp()
        except (ValueError, TypeError, OverflowError):
            return  # an answer without a readable Date measures nothing
        with self._lock:
            # The broker wrote it somewhere between the two moments, and cut off its fraction of a second.
            self._limits.append((said - received, said + 1 - sent))

    def observe_time(self, moment: datetime) -> None:
        """A time of the broker's that has just arrived, as that of a price: the broker's clock shows at least that."""
        least = moment.timestamp() - self._now()
        with self._lock:
            if self._limits and least <= self._limits[-1][1]:
                # Tightened in place: thousands of prices must not push the few Dates out of the window.
                self._limits[-1] = (max(least, self._limits[-1][0]), self._limits[-1][1])
            else:
                self._limits.append((least, math.inf))

    def observe_answer(self, response: requests.Response, *args: Any, **kwargs: Any) -> None:
        """A hook for requests, which calls it as soon as the head of an answer is there."""
        received = self._now()
        self.observe_date(response.headers.get("Date"), sent=received - response.elapsed.total_seconds(), received=received)
