"""Exits that meet other orders on their way: each deals once, opens nothing, and is not lost."""

from __future__ import annotations

import pytest
from live.trading import Trader

from mbats.live.wire import Status


def both(trader: Trader) -> None:
    trader.deploy("alpha")
    trader.deploy("beta", session="s2")


def test_a_close_whose_trade_another_order_has_netted_goes_on_at_the_market(trader: Trader) -> None:
    both(trader)
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.minute()
    fault = trader.simulator.fault({"do": "delay", "seconds": 0.5}, method="PUT", path="*/close", times=1)
    leaving = trader.submit(-1000)
    trader.wait_for(lambda: trader.simulator.hits(fault))
    trader.ended(trader.submit(-1000, name="beta", session="s2"), Status.COMPLETED)
    done = trader.ended(leaving, Status.COMPLETED)
    assert done.position == 0
    trader.wait_for(lambda: trader.owner.state()["positions"] == {"beta EUR_USD": "-1000"})
    assert [trade["currentUnits"] for trade in trader.trades()] == ["-1000"]


def test_a_close_whose_trade_its_own_stop_has_ended_is_not_dealt_again(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09500"), Status.COMPLETED)
    trader.minute()
    fault = trader.simulator.fault({"do": "delay", "seconds": 0.5}, method="PUT", path="*/close", times=1)
    leaving = trader.submit(-1000)
    trader.wait_for(lambda: trader.simulator.hits(fault))
    trader.price("1.07900", "1.07912")
    assert trader.ended(leaving, Status.CANCELED).reason == "NO_SUCH_TRADE"
    assert trader.trades() == []


def test_what_turns_a_position_round_opens_after_what_was_held_is_closed(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.minute()
    trader.simulator.fault({"do": "delay", "seconds": 0.5}, method="PUT", path="*/close", times=1)
    assert trader.ended(trader.submit(-3000), Status.COMPLETED).position == -2000
    fills = [each for each in trader.transactions() if each["type"] == "ORDER_FILL"]
    assert [each["reason"] for each in fills] == ["MARKET_ORDER", "MARKET_ORDER_TRADE_CLOSE", "MARKET_ORDER"]


def test_an_entry_waits_for_an_exit_that_is_under_way(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.minute()
    fault = trader.simulator.fault({"do": "delay", "seconds": 0.5}, method="PUT", path="*/close", times=1)
    leaving = trader.submit(-1000)
    trader.wait_for(lambda: trader.simulator.hits(fault))
    entering = trader.bracket(-500, "1.09500", "1.07000")
    assert trader.ended(leaving, Status.COMPLETED).position == 0
    assert trader.ended(entering, Status.COMPLETED).position == -500
    kinds = {each["type"] for each in trader.pending()}
    assert kinds == {"STOP_LOSS", "TAKE_PROFIT"}


@pytest.mark.proves("R24")
def test_the_same_exit_wanted_twice_in_a_bar_is_dealt_once_also_when_it_was_netted_away(trader: Trader) -> None:
    both(trader)
    trader.ended(trader.bracket(2000, "1.08000", "1.09500"), Status.COMPLETED)
    trader.ended(trader.submit(-2000, name="beta", session="s2"), Status.COMPLETED)
    trader.wait_for(lambda: [each["type"] for each in trader.pending()] == ["STOP"])
    trader.minute()
    first, second = trader.submit(-500), trader.submit(-500)
    assert trader.ended(second, Status.REJECTED).reason == "duplicate"
    assert trader.ended(first, Status.COMPLETED).position == 1500


@pytest.mark.proves("R18")
def test_an_exit_that_comes_to_nothing_leaves_the_position_with_its_stop(trader: Trader) -> None:
    both(trader)
    trader.ended(trader.bracket(2000, "1.08000", "1.09500"), Status.COMPLETED)
    trader.ended(trader.submit(-2000, name="beta", session="s2"), Status.COMPLETED)
    (stop,) = trader.wait_for(lambda: [each for each in trader.pending() if each["type"] == "STOP"])
    trader.minute()
    fault = trader.simulator.fault({"do": "answer", "status": 429}, method="POST", path="*/orders", times=3)
    leaving = trader.submit(-2000)
    trader.ended(leaving, Status.REJECTED)
    assert trader.simulator.hits(fault) == 3
    (again,) = trader.wait_for(lambda: [each for each in trader.pending() if each["type"] == "STOP"])
    assert (again["units"], again["price"]) == (stop["units"], stop["price"])
    assert again["id"] != stop["id"]
