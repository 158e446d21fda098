"""What tests of live trading share: one exchange for many tests, and an owner on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live.trading import Trader, begin, make_trader
from simulator.running import Running, scripted_settings, start_process


@pytest.fixture(scope="session")
def scripted_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A simulator process whose time and prices the test moves; used by one test after another."""
    home = tmp_path_factory.mktemp("exchange")
    running = start_process(home, **scripted_settings(home))
    yield running
    running.kill()


@pytest.fixture
def exchange(scripted_exchange: Running) -> Running:
    """The same as at its start."""
    begin(scripted_exchange)
    return scripted_exchange


@pytest.fixture
def start_trader(exchange: Running, tmp_path: Path) -> Iterator[Callable[..., Trader]]:
    """Starts an owner at the exchange, with the options of `make_trader`."""
    started: list[Trader] = []

    def start(**options: Any) -> Trader:
        started.append(make_trader(exchange, tmp_path, **options))
        return started[-1]

    yield start
    for trader in started:
        trader.owner.stop()
        trader.journal.close()
        trader.client.close()


@pytest.fixture
def trader(start_trader: Callable[..., Trader]) -> Trader:
    """An owner with nothing on it yet."""
    return start_trader()
