"""A simulator whose time the test moves, and a bar desk that knows the time only from it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from simulator.running import ACCOUNT, TOKEN, Running, scripted_settings, start_process

from mbats.live.market.bars import BarDesk
from mbats.live.market.clock import BrokerTimeClock
from mbats.live.wire import LiveBar
from mbats.market import Granularity, parse_utc
from mbats.oanda.client import OandaClient
from mbats.oanda.sessions import Sessions

OFFERED = ("EUR_USD", "USD_JPY", "GBP_USD", "AUD_USD", "NZD_USD", "USD_CAD", "USD_CHF")
Moment = tuple[datetime, dict[str, LiveBar]]


class Floor:
    """A simulator and a desk at it. `advance` moves the simulator's time, and lets the desk's clock see it."""

    def __init__(self, simulator: Running, start: str, **options: Any) -> None:
        self.simulator = simulator
        self.now = parse_utc(start)
        self.clock = BrokerTimeClock(self.now)
        self.sessions = Sessions(
            simulator.url, SecretStr(TOKEN), requests_per_second=1000, connections_per_second=100, on_date=self.clock.observe
        )
        self.client = OandaClient(simulator.url, SecretStr(TOKEN), requests_per_second=1000, connections_per_second=100)
        self.desk = BarDesk(self.sessions, ACCOUNT, self.clock, **{"currency": "USD", "offered": OFFERED} | options)
        self.taken: queue.Queue[Moment] = queue.Queue()

    def close(self) -> None:
        self.desk.stop()
        self.sessions.close()
        self.client.close()

    def take(self, completed_at: datetime, bars: dict[str, LiveBar]) -> None:
        self.taken.put((completed_at, bars))

    def advance(self, seconds: float) -> None:
        self.simulator.step(seconds)
        self.now += timedelta(seconds=seconds)
        self.clock.observe(self.now)

    def until(self, moment: str) -> None:
        self.advance((parse_utc(moment) - self.now).total_seconds())

    def next(self) -> Moment:
        """The next delivery; fails when none comes."""
        return self.taken.get(timeout=30)

    def starts(self, symbol: str, last: str) -> list[datetime]:
        """The starts of a symbol's bars as they are delivered, up to the one that starts at `last`."""
        found: list[datetime] = []
        while not found or found[-1] < parse_utc(last):
            found += [bars[symbol].time for bars in [self.next()[1]] if symbol in bars]
        return found

    def has_looked(self, times: int = 3) -> None:
        """Return when the desk has asked so many times more, which it does as long as a bar that is due is missing."""
        before = self.desk.health().requests
        pause = 0.0
        while self.desk.health().requests < before + times:
            pause += 0.01
            assert pause < 30, self.desk.health()
            self.clock.wait_until(None, 0.01)

    def subscribe(self, symbols: list[str], granularity: str, after: str | None = None, name: str = "d") -> None:
        begin = None if after is None else parse_utc(after)
        self.desk.subscribe(name, symbols, Granularity(granularity), {symbol: begin for symbol in symbols}, self.take)


@pytest.fixture(scope="session")
def simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Simulators by what they were started with: one that has served another test begins anew, which takes less time."""
    started: dict[str, Running] = {}

    def get(**settings: Any) -> Running:
        key = repr(sorted(settings.items()))
        if key not in started or started[key].process.poll() is not None:
            started[key] = start_process(tmp_path_factory.mktemp("home"), **settings)
        for method, path in (("DELETE", "/faults"), ("POST", "/reset"), ("DELETE", "/journal")):
            started[key].admin(method, path)
        return started[key]

    yield get
    for simulator in started.values():
        simulator.kill()


@pytest.fixture
def start_floor(simulators: Callable[..., Running]) -> Iterator[Callable[..., Floor]]:
    """Starts a simulator of the sample market at this time, and a desk."""
    floors: list[Floor] = []

    def start(at: str, *, options: dict[str, Any] | None = None, **settings: Any) -> Floor:
        simulator = simulators(**{"simulator_clock": "step", "simulator_start": at} | settings)
        floors.append(Floor(simulator, at, **options or {}))
        floors[-1].desk.start()
        return floors[-1]

    yield start
    for floor in floors:
        floor.close()


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The settings of a market in which only the test makes prices, by the simulator's options."""
    made: dict[str, dict[str, Any]] = {}

    def settings(**options: Any) -> dict[str, Any]:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = scripted_settings(tmp_path_factory.mktemp("config"), **options)
        return dict(made[key])

    return settings


@pytest.fixture
def start_scripted(start_floor: Callable[..., Floor], scripted: Callable[..., dict[str, Any]]) -> Callable[..., Floor]:
    """The same with a market in which only the test makes prices; `options` are the desk's, the others the simulator's."""

    def start(options: dict[str, Any] | None = None, **simulators: Any) -> Floor:
        settings = scripted(**simulators)
        return start_floor(str(settings.pop("simulator_start")), options=options, **settings)

    return start
