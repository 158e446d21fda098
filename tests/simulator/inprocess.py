"""A running exchange inside the test: time is the test's, prices are scripted, nothing is on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from mbats.simulator.admin.journal import Journal
from mbats.simulator.admin.metrics import Metrics
from mbats.simulator.clock import Clock, Mode, seconds
from mbats.simulator.config import Options, SimulatorConfig, Token, User
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.faults.book import Faults
from mbats.simulator.logfolder import LogFolder
from mbats.simulator.market import Market
from mbats.simulator.runtime import Runtime, Setup
from mbats.simulator.scripted import ScriptedSource

NOW = np.datetime64("2024-05-14T10:00:00", "us")  # an ordinary Tuesday
SECRET = "a-token-in-memory"


class Time:
    """This machine's time, as far as the exchange can tell."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def wall(self) -> np.datetime64:
        return NOW + seconds(self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    def clock(self, mode: Mode = Mode.REALTIME, **more: object) -> Clock:
        return Clock(mode, wall=self.wall, monotonic=self.monotonic, **more)  # type: ignore[arg-type]


def make_runtime(
    clock: Clock, time: Time, *, folder: Path | None = None, kill: Callable[[], None] = lambda: None, **options: object
) -> Runtime:
    """One account on scripted prices."""
    config = SimulatorConfig((User("owner", (Token(SecretStr(SECRET)),), (AccountConfig(),)),), Options(**options))  # type: ignore[arg-type]
    journal = Journal(clock.now, time.wall, secrets=[SECRET])
    setup = Setup(
        config=config,
        market=lambda beginning: Market(ScriptedSource(("EUR_USD", "USD_JPY"))),
        folder=LogFolder(folder),
        beginning={**clock.state(), "weeks": 0},
    )
    faults = Faults(journal, clock.now, seed=7, monotonic=time.monotonic, kill=kill)
    return Runtime(setup, clock, journal=journal, faults=faults, metrics=Metrics())


def price(runtime: Runtime, bid: str, ask: str, instrument: str = "EUR_USD") -> None:
    """A price that comes now, and is the last one a microsecond later."""
    runtime.change_market({"change": "tick", "instrument": instrument, "bid": bid, "ask": ask})
