"""The clock on the admin port: look at it, set its mode, move it, let it jump."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from aiohttp import web
from pydantic import Field

from mbats.simulator.admin.administration import ADMINISTRATION, Administration
from mbats.simulator.admin.door import Asked, answer, read
from mbats.simulator.clock import FASTEST, SLOWEST, Mode, seconds, wall_time
from mbats.simulator.core.times import write_time
from mbats.simulator.errors import Refusal, missing
from mbats.simulator.queries import read_instruments, read_time


class _Mode(Asked):
    mode: Mode
    speed: Annotated[float | None, Field(ge=SLOWEST, le=FASTEST)] = None
    until: str | None = None


class _Step(Asked):
    seconds: Annotated[float | None, Field(gt=0, le=1e9)] = None
    until: str | None = None
    ticks: Annotated[int | None, Field(ge=1, le=10_000_000)] = None
    instruments: str | None = None


class _Jump(Asked):
    seconds: Annotated[float, Field(ge=-1e9, le=1e9)]


async def show(request: web.Request) -> web.Response:
    """GET /clock."""
    return answer(_clock(request.app[ADMINISTRATION]))


async def set_mode(request: web.Request) -> web.Response:
    """POST /clock: how time passes from now on. `asap` runs to `until`, or to this machine's time."""
    here, asked = request.app[ADMINISTRATION], await read(request, _Mode)
    if asked.until is not None and asked.mode is not Mode.ASAP:
        raise Refusal(400, f"'until' says to where asap runs, and the mode is {asked.mode}. The clock was not changed.")
    if asked.mode is Mode.SHIFT and here.runtime.beginning["mode"] != Mode.SHIFT:
        raise Refusal(400, "Prices are shifted from the start or not at all (MBATS_SIMULATOR_CLOCK). The clock was not changed.")
    until = wall_time() if asked.until is None else _moment(asked.until)
    here.stepping.stop()
    here.runtime.clock.set_mode(asked.mode, asked.speed)
    if asked.mode is Mode.ASAP:
        here.stepping.run_to(until)
    here.runtime.keep()
    return answer(_clock(here))


async def step(request: web.Request) -> web.Response:
    """POST /clock/step: by `seconds`, to `until`, or by so many `ticks` of all or some instruments. Answers when it is done."""
    here, asked = request.app[ADMINISTRATION], await read(request, _Step)
    if sum(each is not None for each in (asked.seconds, asked.until, asked.ticks)) != 1:
        raise Refusal(400, "A step needs one of 'seconds', 'until' and 'ticks'. The clock was not moved.")
    found: dict[str, Any] = {}
    if asked.ticks is not None:
        query = {} if asked.instruments is None else {"instruments": asked.instruments}
        names = read_instruments(query, tuple(here.runtime.market.instruments), required=False)
        found = {"ticks": await here.stepping.move_by_ticks(asked.ticks, names)}
    elif asked.until is not None:
        await here.stepping.move_to(_moment(asked.until))
    else:
        await here.stepping.move_to(here.runtime.clock.now() + seconds(asked.seconds or 0.0))
    here.streams.look()
    return answer(_clock(here) | found)


async def jump(request: web.Request) -> web.Response:
    """POST /clock/jump: a clock that goes wrong by so many `seconds`."""
    here, asked = request.app[ADMINISTRATION], await read(request, _Jump)
    here.runtime.clock.jump(asked.seconds)
    here.runtime.settle()
    here.runtime.keep()
    here.runtime.journal.add("admin", action="clock_jump", seconds=asked.seconds)
    return answer(_clock(here))


def _clock(here: Administration) -> dict[str, Any]:
    """`time` is what clients see; `engineTime` how far the exchange has come, ahead of it after a jump back."""
    clock = here.runtime.clock
    running = here.stepping.running
    return {
        "time": write_time(clock.now()),
        "engineTime": write_time(here.runtime.engine.now),
        "wallTime": write_time(wall_time()),
        "mode": clock.mode.value,
        "speed": clock.speed if clock.mode is Mode.ACCELERATED else None,
        "running": running or not clock.mode.stands,
        "until": None if clock.until is None else write_time(clock.until),
    }


def _moment(text: str) -> np.datetime64:
    moment = read_time({"until": text}, "until")
    if moment is None:
        raise missing()
    return moment
