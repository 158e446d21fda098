"""From settings to a running exchange: which prices, which clock, which log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbats.errors import ConfigError
from mbats.market import to_us
from mbats.settings import Settings
from mbats.simulator.admin.journal import Journal
from mbats.simulator.admin.metrics import Metrics
from mbats.simulator.clock import FASTEST, SLOWEST, Clock, Mode, wall_time
from mbats.simulator.config import SimulatorConfig, read_config
from mbats.simulator.faults.book import Faults
from mbats.simulator.intrabar import Intrabar, PathStyle
from mbats.simulator.logfolder import LogFolder
from mbats.simulator.market import Market
from mbats.simulator.prices import PriceSource
from mbats.simulator.runtime import Runtime, Setup
from mbats.simulator.scripted import ScriptedSource
from mbats.simulator.shift import ShiftedSource, weeks_between
from mbats.simulator.userbars import UserBars


def open_exchange(settings: Settings) -> Runtime:
    """The exchange that the settings describe, as its log has left it.

    Raises ConfigError about a setting, a file or a log that cannot be used, and PlatformError when bars are to come from a
    database that does not answer.
    """
    config = read_config(settings.simulator_config, settings.required_secret)
    source = price_source(settings)
    config.check_market(source.listed.values())
    clock, weeks = _clock(settings, source)
    journal, metrics = _journal(clock, config, data_folder(settings)), Metrics()
    setup = Setup(
        config=config,
        market=lambda beginning: _market(source, beginning),
        folder=LogFolder(data_folder(settings)),
        beginning={**clock.state(), "weeks": weeks},
    )
    faults = Faults(journal, clock.now, seed=settings.simulator_seed)
    return Runtime(setup, clock, journal=journal, faults=faults, metrics=metrics)


def data_folder(settings: Settings) -> Path:
    """Where the simulator keeps its log."""
    return settings.simulator_data or settings.home / "simulator"


def price_source(settings: Settings) -> PriceSource:
    """Where prices come from: as MBATS_SIMULATOR_SOURCE says; without it, files where some are named, else the sample market."""
    kind = _kind(settings)
    path = Intrabar(PathStyle(settings.simulator_intrabar), settings.simulator_seed)
    if kind == "files":
        if settings.simulator_bars is None:
            raise ConfigError(
                "MBATS_SIMULATOR_SOURCE is files, and MBATS_SIMULATOR_BARS names none. The simulator was not started; name a "
                "folder or a file of bars, or choose another source."
            )
        return UserBars(settings.simulator_bars, path)
    if kind == "scripted":
        return ScriptedSource()
    # What only some need is imported here: it takes half a second and more.
    if kind == "database":
        from mbats.database import Database
        from mbats.simulator.databasebars import DatabaseBars

        return DatabaseBars(Database(settings, "secmaster", "reader"), intrabar=path)
    from mbats.simulator.sample import SampleMarket

    return SampleMarket(settings.simulator_seed)


def _kind(settings: Settings) -> str:
    return settings.simulator_source or ("files" if settings.simulator_bars else "sample")


def _clock(settings: Settings, source: PriceSource) -> tuple[Clock, int]:
    """The clock of a beginning, and by how many weeks prices are shifted then."""
    mode, now = Mode(settings.simulator_clock), wall_time()
    if not SLOWEST <= settings.simulator_speed <= FASTEST:
        raise ConfigError(
            f"MBATS_SIMULATOR_SPEED is {settings.simulator_speed:g}; it must be from {SLOWEST:g} to {FASTEST:g}. The simulator "
            "was not started."
        )
    start = _start(settings, source, now)
    weeks = weeks_between(start, now) if mode is Mode.SHIFT else 0
    clock = Clock(mode, start=None if mode.follows_wall else start, speed=settings.simulator_speed)
    clock.until = now if mode is Mode.ASAP else None
    return clock, weeks


def _start(settings: Settings, source: PriceSource, now: np.datetime64) -> np.datetime64:
    """MBATS_SIMULATOR_START or, without it, the first moment at which every pair of the user's has a price; else now."""
    if settings.simulator_start is not None:
        return to_us(settings.simulator_start)
    if _kind(settings) in ("files", "database"):
        first: np.datetime64 = max(source.first(name) for name in source.instruments)
        return first
    return now


def _market(source: PriceSource, beginning: Mapping[str, Any]) -> Market:
    weeks = int(beginning["weeks"])
    return Market(ShiftedSource(source, weeks) if weeks else source)


def _journal(clock: Clock, config: SimulatorConfig, folder: Path) -> Journal:
    secrets = [token.secret.get_secret_value() for user in config.users for token in user.tokens]
    return Journal(clock.now, wall_time, secrets=secrets, file=folder / "faults.jsonl")
