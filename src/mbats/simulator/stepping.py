"""Moves a clock that stands: by seconds, by prices, to a time, or on and on. In slices, so that others get their turn.

How time is sliced changes nothing that the exchange does. When a step ends, the exchange is idle: everything that the time
brought is in the log and told to the streams.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np

from mbats.errors import UsageError
from mbats.simulator.clock import MICROSECOND, Mode, seconds
from mbats.simulator.runtime import Runtime

SLICE = 0.02  # seconds of work at a time
SHORTEST, LONGEST = 1.0, 86_400.0  # seconds of the exchange's time in a slice
LOOK_AHEAD = 7  # days in which so many prices must come
HOUR = np.timedelta64(3_600_000_000, "us")


class Stepping:
    """Whoever moves the clock of one exchange, one step at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._turn = asyncio.Lock()
        self._slice = 60.0
        self._running: asyncio.Task[None] | None = None

    async def move_to(self, moment: np.datetime64) -> None:
        """Come to `moment`, which must not lie before now. Raises UsageError when the clock moves by itself."""
        self._require_standing()
        async with self._turn:
            await self._go(moment)

    async def move_by_ticks(self, count: int, instruments: tuple[str, ...]) -> int:
        """Come to just after the `count`-th price of these pairs; how many there were. Looks a week ahead at most."""
        self._require_standing()
        async with self._turn:
            now = self._runtime.clock.now()
            horizon, found = now + np.timedelta64(LOOK_AHEAD, "D"), 0
            for start in np.arange(now, horizon, HOUR):
                for batch in self._runtime.market.ticks(instruments, start, start + HOUR):
                    if found + len(batch) >= count:
                        await self._go(batch.time[count - found - 1] + MICROSECOND)
                        return count
                    found += len(batch)
                await asyncio.sleep(0)
            await self._go(horizon)
            return found

    def run_to(self, moment: np.datetime64) -> None:
        """Begin to move to `moment` as fast as possible; returns at once."""
        self.stop()
        self._runtime.clock.set_mode(Mode.ASAP)
        self._runtime.clock.until = moment
        self.go_on()

    def go_on(self) -> None:
        """Let a clock that was on its way as fast as possible be so again: after a start, too."""
        clock = self._runtime.clock
        if clock.until is not None and clock.now() < clock.until:
            self._running = asyncio.get_running_loop().create_task(self._run(clock.until))

    async def _run(self, moment: np.datetime64) -> None:
        async with self._turn:
            await self._go(moment)

    def stop(self) -> None:
        """Stay where the clock is."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    @property
    def running(self) -> bool:
        """Whether it moves by itself. Raises what made it fail."""
        if self._running is None or not self._running.done():
            return self._running is not None
        done, self._running = self._running, None
        done.result()
        return False

    async def _go(self, moment: np.datetime64) -> None:
        clock = self._runtime.clock
        if moment < clock.now():
            raise UsageError(f"The clock was not moved: it shows {clock.now()}, and {moment} lies before that.")
        while clock.now() < moment:
            clock.move_to(min(moment, clock.now() + seconds(self._slice)))
            began = time.perf_counter()
            self._runtime.settle()
            took = time.perf_counter() - began
            self._slice = min(max(self._slice * (2 if took < SLICE / 2 else 0.5 if took > SLICE * 2 else 1), SHORTEST), LONGEST)
            await asyncio.sleep(0)
        self._runtime.keep()

    def _require_standing(self) -> None:
        mode = self._runtime.clock.mode
        if not mode.stands:
            raise UsageError(f"The clock was not moved: it runs by itself ({mode}). Set it to step first (POST /clock).")
        if self.running:
            raise UsageError("The clock was not moved: it runs to its end as fast as it can. Set it to step first (POST /clock).")
