"""What time it is for a trader: this machine's time, or the latest that the broker has shown. Both can be waited on.

A trader whose broker lives in the present uses its machine's clock, and measures how far that is from the broker's. A simulator
may live in another year and stand still there: its trader knows the time only by what the broker says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from mbats.oanda.clock import BrokerClock

WARN, BLOCK = 1.0, 5.0  # seconds between our clock and the broker's (R31)
LONGEST_SLEEP = 1.0  # seconds; a machine's clock that is set while somebody waits for it is noticed within that


class SkewLevel(StrEnum):
    """What a difference of the clocks means: nothing, a warning, or that nothing may be opened."""

    OK = "ok"
    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class SkewCheck:
    """By how many seconds the broker's clock is certainly ahead of ours; negative when it is behind, 0 when it need not differ.

    None before the first measurement, which is no reason to block: prices are too old or from the future all the same.
    """

    level: SkewLevel
    seconds: float | None


class Clock(Protocol):
    """The time, as the trader counts it. Every method may be called from any thread."""

    @property
    def steady(self) -> bool:
        """Whether it runs by itself, second by second, so that one may learn how long something takes by it."""
        ...

    def now(self) -> datetime:
        """UTC."""
        ...

    def observe(self, moment: datetime) -> None:
        """The broker has shown this time (UTC)."""
        ...

    def wait_until(self, moment: datetime | None, timeout: float, *, unless: Callable[[], bool] | None = None) -> bool:
        """Wait until `moment` has come; whether it has. False after `timeout` seconds of this machine's, or once `unless` holds.

        `unless` is asked at first and after each `wake`, so that whoever makes it true and then wakes is never missed.
        Without a moment only these two end the waiting.
        """
        ...

    def wake(self) -> None:
        """Let all who wait look again at what they wait for."""
        ...

    def skew_check(self) -> SkewCheck:
        """Whether our clock and the broker's are near enough to trade on."""
        ...


class _Waiting:
    """The part of a clock that waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def now(self) -> datetime:
        raise NotImplementedError

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, moment: datetime | None, timeout: float, *, unless: Callable[[], bool] | None = None) -> bool:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                now = self.now()
                if moment is not None and now >= moment:
                    return True
                rest = deadline - time.monotonic()
                if rest <= 0 or (unless is not None and unless()):
                    return False
                self._changed.wait(min(rest, self._longest_sleep(now, moment)))

    def _longest_sleep(self, now: datetime, moment: datetime | None) -> float:
        raise NotImplementedError


class MachineClock(_Waiting):
    """This machine's time, corrected by nothing: a wrong clock is to be set, not hidden. `broker` has measured the difference."""

    def __init__(self, broker: BrokerClock | None = None, *, machine: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._broker = broker
        self._machine = machine

    @property
    def steady(self) -> bool:
        return True

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._machine(), UTC)

    def observe(self, moment: datetime) -> None:
        """Nothing: the sessions' own BrokerClock measures every answer and every price already."""

    def skew_check(self) -> SkewCheck:
        skew = None if self._broker is None else self._broker.skew()
        if skew is None:
            return SkewCheck(SkewLevel.OK, None)
        # What is certain counts, not the best guess: with a slow answer that may be wrong by seconds, with old prices by days.
        off = max(skew.least, 0.0) + min(skew.most, 0.0)
        level = SkewLevel.BLOCK if abs(off) > BLOCK else SkewLevel.WARN if abs(off) > WARN else SkewLevel.OK
        return SkewCheck(level, off)

    def _longest_sleep(self, now: datetime, moment: datetime | None) -> float:
        return LONGEST_SLEEP if moment is None else min((moment - now).total_seconds(), LONGEST_SLEEP)


class BrokerTimeClock(_Waiting):
    """The latest time that the broker has shown, in prices, heartbeats and answers. It never goes back, and stands in between."""

    def __init__(self, start: datetime) -> None:
        super().__init__()
        self._latest = start

    @property
    def steady(self) -> bool:
        return False

    def now(self) -> datetime:
        return self._latest

    def observe(self, moment: datetime) -> None:
        with self._changed:
            if moment > self._latest:
                self._latest = moment
                self._changed.notify_all()

    def skew_check(self) -> SkewCheck:
        """There is one clock only, so nothing can differ."""
        return SkewCheck(SkewLevel.OK, 0.0)

    def _longest_sleep(self, now: datetime, moment: datetime | None) -> float:
        return LONGEST_SLEEP
