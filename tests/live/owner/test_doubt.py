"""Orders whose outcome nobody knows at first: each is sent once, found in the broker's log, and told once."""

from __future__ import annotations

import pytest
from live.trading import Trader

from mbats.live.wire import Status


def opened(trader: Trader) -> list[str]:
    return [each["units"] for each in trader.transactions() if each["type"] == "MARKET_ORDER" and "clientExtensions" in each]


@pytest.mark.parametrize("do", ["reset", "close"])
def test_an_order_that_is_applied_before_the_connection_breaks_is_found_and_told_once(trader: Trader, do: str) -> None:
    trader.deploy()
    fault = trader.simulator.fault({"do": do, "when": "after"}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000)
    trader.ended(ref, Status.COMPLETED)
    trader.settle()
    assert trader.simulator.hits(fault) == 1
    assert trader.words(ref) == ["submitted", "accepted", "completed"]
    assert opened(trader) == ["1000"]


@pytest.mark.parametrize("do", ["reset", "close"])
def test_an_order_that_never_arrived_is_sent_once_more_when_that_is_proven(trader: Trader, do: str) -> None:
    trader.deploy()
    fault = trader.simulator.fault({"do": do, "when": "before"}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000)
    trader.ended(ref, Status.COMPLETED)
    assert trader.simulator.hits(fault) == 1
    assert trader.words(ref) == ["submitted", "accepted", "completed"]
    assert opened(trader) == ["1000"]


def test_an_order_that_never_arrived_and_is_too_late_is_cancelled_and_not_sent(trader: Trader) -> None:
    trader.deploy()
    fault = trader.simulator.fault({"do": "reset", "when": "before"}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000)
    trader.wait_for(lambda: trader.simulator.hits(fault))
    trader.simulator.step(3600)
    trader.price("1.08500", "1.08512")
    over = trader.ended(ref, Status.CANCELED)
    assert over.reason == "NOT_AT_BROKER"
    assert opened(trader) == []


def test_a_stream_that_is_faster_than_the_answer_tells_the_same_story_once(trader: Trader) -> None:
    trader.deploy()
    trader.simulator.fault({"do": "delay", "when": "after", "seconds": 1.0}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000)
    trader.ended(ref, Status.COMPLETED)
    trader.settle()
    assert trader.words(ref) == ["submitted", "accepted", "completed"]
