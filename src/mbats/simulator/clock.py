"""The exchange's clock: what time it is there, by how the time of this machine passes or by what the administrator says.

    realtime     as on this machine
    shift        as on this machine, with prices of another time brought to now
    accelerated  so many times as fast
    step         stands until it is told to move
    asap         like step, but moves by itself, as fast as the exchange can follow, to a time

Changing the mode never changes the time; a jump does. A jump back is what clients see of a wrong clock: the exchange itself never
lives through a moment twice, and waits until its clock has come as far as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np

from mbats.simulator.core.times import parse_time, write_time

MICROSECOND = np.timedelta64(1, "us")
SLOWEST, FASTEST = 0.001, 1_000_000.0


class Mode(StrEnum):
    """How time passes."""

    REALTIME = "realtime"
    SHIFT = "shift"
    ACCELERATED = "accelerated"
    STEP = "step"
    ASAP = "asap"

    @property
    def stands(self) -> bool:
        """Whether time moves only when somebody moves it."""
        return self in (Mode.STEP, Mode.ASAP)

    @property
    def follows_wall(self) -> bool:
        return self in (Mode.REALTIME, Mode.SHIFT)


def wall_time() -> np.datetime64:
    """This machine's time, UTC."""
    return np.datetime64(time.time_ns() // 1000, "us")


def seconds(amount: float) -> np.timedelta64:
    """So many seconds, to the microsecond."""
    return np.timedelta64(round(amount * 1_000_000), "us")


class Clock:
    """Tells the exchange's time, UTC. `wall` is this machine's time, `monotonic` are seconds that never go back."""

    def __init__(
        self,
        mode: Mode = Mode.REALTIME,
        *,
        start: np.datetime64 | None = None,
        speed: float = 1.0,
        wall: Callable[[], np.datetime64] = wall_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """A clock that shows `start`, or this machine's time; one that follows this machine's keeps the distance to it."""
        self._wall = wall
        self._monotonic = monotonic
        now = wall()
        self.mode = mode
        self.speed = speed
        self._anchor = now if start is None else start  # the time shown when `_began` was taken
        self._began = monotonic()
        self._skew = self._anchor - now  # ahead of this machine
        self.until: np.datetime64 | None = None  # where a clock that moves as fast as possible stops

    def now(self) -> np.datetime64:
        """What the clock shows. After a jump back, earlier than it once showed."""
        if self.mode.stands:
            return self._anchor
        if self.mode.follows_wall:
            return self._wall() + self._skew
        return self._anchor + seconds((self._monotonic() - self._began) * self.speed)

    def set_mode(self, mode: Mode, speed: float | None = None) -> None:
        """Let time pass in another way from now on. Raises ValueError for a speed that cannot be."""
        wanted = self.speed if speed is None else speed
        if not SLOWEST <= wanted <= FASTEST:
            raise ValueError(f"a speed of {wanted:g}; it must be from {SLOWEST:g} to {FASTEST:g}")
        now = self.now()
        self.mode, self.speed, self.until = mode, wanted, None
        self._show(now)

    def move_to(self, moment: np.datetime64) -> None:
        """Show `moment` from now on."""
        self._show(moment)

    def jump(self, amount: float) -> None:
        """Go so many seconds ahead, or back."""
        self._show(self.now() + seconds(amount))

    def _show(self, moment: np.datetime64) -> None:
        self._anchor, self._began, self._skew = moment, self._monotonic(), moment - self._wall()

    # --- Over a restart ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What `load` needs."""
        skew, until = int(self._skew.astype(np.int64)), None if self.until is None else write_time(self.until)
        return {"mode": self.mode.value, "speed": self.speed, "now": write_time(self.now()), "skew_us": skew, "until": until}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on as `state` says: a clock that follows this machine's did so in between, every other one has stood still."""
        self.mode, self.speed = Mode(state["mode"]), float(state["speed"])
        self.until = None if state["until"] is None else parse_time(state["until"])
        self._show(parse_time(state["now"]))
        if self.mode.follows_wall:
            self._skew = np.timedelta64(state["skew_us"], "us")


__all__ = ["FASTEST", "MICROSECOND", "SLOWEST", "Clock", "Mode", "seconds", "wall_time"]
