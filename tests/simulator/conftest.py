"""The sample market of the default seed, and real simulator processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from simulator.running import Running, scripted_settings, start_process
from simulator.spec import spec

from mbats.simulator.core.batch import Batch
from mbats.simulator.core.values import Transaction
from mbats.simulator.sample import SampleMarket

SHARED = Path(__file__).resolve().parents[3] / "shared"
SEED = 20050103
ACCOUNT = "101-004-1435156-001"


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


@pytest.fixture(scope="session", autouse=True)
def every_transaction_is_judged() -> Iterator[None]:
    """No transaction comes to be in any test that OANDA's schema would not know."""
    judge, add = spec(), Batch.add

    def judged(batch: Batch, fields: Transaction) -> Transaction:
        transaction = add(batch, fields)
        if judge is not None:
            judge.check_part("Transaction", transaction)
        return transaction

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "add", judged)
        yield


@pytest.fixture(scope="session")
def market() -> SampleMarket:
    return SampleMarket(SEED)


@pytest.fixture(scope="session")
def start_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts `mbats simulator` with a home of its own; keyword arguments are MBATS_ variables in lower case."""
    started: list[Running] = []

    def start(**variables: object) -> Running:
        home = variables.pop("home", None) or tmp_path_factory.mktemp("home")
        started.append(start_process(home, **variables))
        return started[-1]

    yield start
    for running in started:
        running.kill()


@pytest.fixture(scope="session")
def simulator(start_simulator: Callable[..., Running]) -> Running:
    return start_simulator()


@pytest.fixture(scope="session")
def scripted_simulator(start_simulator: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> Running:
    return start_simulator(**scripted_settings(tmp_path_factory.mktemp("config")))


@pytest.fixture
def fresh(scripted_simulator: Running) -> Running:
    """A simulator whose every price and every moment is set by the test: a new account, one price of EUR_USD, no faults."""
    scripted_simulator.admin("DELETE", "/faults")
    scripted_simulator.admin("POST", "/clock", {"mode": "step"})
    scripted_simulator.admin("POST", "/reset")
    scripted_simulator.admin("DELETE", "/journal")
    scripted_simulator.price("1.08000", "1.08010")
    return scripted_simulator
