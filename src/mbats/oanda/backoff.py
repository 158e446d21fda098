"""How long to wait before trying again, when trying goes on for ever."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Pauses that double from `first` to `longest` seconds, each shortened at random by up to a half.

    The jitter keeps those who lost their connections together from coming back together. Only a connection that held for
    `stable` seconds begins anew with the first pause: one that is taken and dropped at once is no success.
    """

    def __init__(
        self,
        first: float = 0.5,
        longest: float = 30.0,
        *,
        stable: float = 60.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first = first
        self._longest = longest
        self._stable = stable
        self._uniform = uniform
        self._pause = first

    def after(self, held: float) -> float:
        """The pause after a connection that held for so many seconds; 0 for one that never came about."""
        if held >= self._stable:
            self._pause = self._first
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return pause * self._uniform(0.5, 1.0)
