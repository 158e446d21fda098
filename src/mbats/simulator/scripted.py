"""A market without prices of its own: those that are scripted into it (`Market.apply`) are the only ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from mbats.market import MAJORS, Granularity, Instrument
from mbats.simulator.instruments import terms
from mbats.simulator.prices import Candles, Ticks

NEVER = np.datetime64("2200-01-01", "us")


class ScriptedSource:
    """Nothing but instruments, named or given with their terms. Candles down to S5 are made of the prices scripted."""

    description = "prices scripted by whoever runs the simulator"
    refines = True

    def __init__(self, instruments: Iterable[str] | Mapping[str, Instrument] = MAJORS) -> None:
        given = instruments if isinstance(instruments, Mapping) else {name: terms(name) for name in instruments}
        self.listed: dict[str, Instrument] = dict(given)
        self.instruments = tuple(self.listed)

    def base(self, instrument: str) -> Granularity:
        return Granularity.M1

    def first(self, instrument: str) -> np.datetime64:
        """After all that is ever asked for: there is none."""
        return NEVER

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        return Candles.empty()

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        return Ticks.concatenate([])
