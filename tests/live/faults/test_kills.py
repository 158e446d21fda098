"""A trader that is killed while it sends an order: the next one finds the order once or not at all, and knows which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from live.faults.killed import POINTS
from live.trading import FAST, Trader
from simulator.running import Running

from mbats.live.journal import IntentState
from mbats.live.wire import Status
from mbats.settings import PROJECT_ROOT

NEVER_NOTED = ("before the intent is written", "before the intent is committed")
NEVER_SENT = (*NEVER_NOTED, "before the request leaves")


def kill_at(point: str, exchange: Running, folder: Path) -> None:
    tests = PROJECT_ROOT / "tests"
    argv = [sys.executable, str(tests / "live/faults/killed.py"), exchange.url, exchange.stream_url, str(folder), point]
    killed = subprocess.run(argv, env=os.environ | {"PYTHONPATH": str(tests)}, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL


def opened(trader: Trader) -> int:
    """How many of our orders the exchange has ever booked."""
    return sum(each["type"] == "MARKET_ORDER" for each in trader.transactions())


@pytest.mark.proves("R1")
@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_the_next_start_knows_whether_the_order_is_at_the_broker(
    exchange: Running, tmp_path: Path, start_trader: Callable[..., Trader], point: str
) -> None:
    kill_at(point, exchange, tmp_path)

    trader = start_trader()
    trader.wait_for(lambda: not any(row.state.open for row in trader.journal.intents()))
    trader.in_step()

    assert opened(trader) == (0 if point in NEVER_SENT else 1)
    states = [row.state for row in trader.journal.intents()]
    assert states == ([] if point in NEVER_NOTED else [IntentState.ABSENT if point in NEVER_SENT else IntentState.FILLED])
    held = {} if point in NEVER_SENT else {"alpha EUR_USD": "1000"}
    trader.wait_for(lambda: trader.owner.state()["positions"] == held)
    assert trader.owner.watched() == ({"EUR_USD"} if held else set())


@pytest.mark.proves("R1", "R3")
def test_a_strategy_that_is_back_in_time_has_the_order_that_was_never_sent_sent_once(
    exchange: Running, tmp_path: Path, start_trader: Callable[..., Trader]
) -> None:
    kill_at("before the request leaves", exchange, tmp_path)

    trader = start_trader(options=replace(FAST, settle_after=60.0))
    trader.deploy(session="s2")  # in step before the order is looked for, however slow this machine is
    (name,) = (row.client_id for row in trader.journal.intents())
    trader.owner._ask(lambda: trader.owner._orders.requests.settle_at.update({name: 0.0}), 10.0)
    trader.wait_for(lambda: trader.owner.state()["positions"] == {"alpha EUR_USD": "1000"})
    trader.settle()

    (row,) = trader.journal.intents()
    assert (row.state, row.attempts, opened(trader)) == (IntentState.FILLED, 2, 1)
    again = trader.ended(trader.submit(1000, session="s2", bar=row.bar), Status.REJECTED)
    assert again.reason == "duplicate"


@pytest.mark.proves("R1")
def test_an_intent_says_which_order_of_which_bar_and_why_before_its_request_leaves(trader: Trader) -> None:
    trader.deploy()
    seen = []
    post = trader.owner._account.trading.submit_order

    def submit(body: dict) -> object:
        name = body["clientExtensions"]["id"]
        seen.append(trader.journal.intent(name))
        return post(body)

    trader.owner._account.trading.submit_order = submit  # type: ignore[method-assign]
    bar = trader.bar()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000", bar=bar), Status.COMPLETED)
    (row,) = seen
    assert (row.state, row.deployment, row.symbol, row.bar, row.units) == (IntentState.SENT, "alpha", "EUR_USD", bar, 1000)
    assert (row.purpose, row.why, row.code_version) == ("open-long", "strategy", "1")
    assert row.client_id == f"mbats:alpha:EUR_USD:{bar:%Y%m%dT%H%M%SZ}:open-long"
