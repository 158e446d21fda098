"""Several deployments on one netting account and one pair."""

from __future__ import annotations

from decimal import Decimal

from live.trading import Trader

from mbats.live.gate import CommandKind
from mbats.live.wire import Status


def positions(trader: Trader) -> dict[str, str]:
    trader.settle()
    found: dict[str, str] = trader.owner.state()["positions"]
    return found


def both(trader: Trader) -> None:
    trader.deploy("alpha")
    trader.deploy("beta", session="s2")


def test_opposite_positions_are_kept_apart_and_add_up_to_the_brokers(trader: Trader) -> None:
    both(trader)
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.ended(trader.bracket(-400, "1.09200", "1.08100", name="beta", session="s2"), Status.COMPLETED)
    trader.wait_for(lambda: positions(trader) == {"alpha EUR_USD": "1000", "beta EUR_USD": "-400"})
    assert [trade["currentUnits"] for trade in trader.trades()] == ["600"]
    stops = trader.wait_for(lambda: len(found := [each for each in trader.pending() if each["type"] == "STOP"]) == 2 and found)
    assert sorted((each["units"], each["price"]) for each in stops) == [("-400", "1.08000"), ("400", "1.09200")]


def test_a_price_through_both_stops_leaves_everybody_flat(trader: Trader) -> None:
    both(trader)
    long = trader.bracket(1000, "1.08000", "1.09500")
    trader.ended(long, Status.COMPLETED)
    short = trader.bracket(-400, "1.09200", "1.07000", name="beta", session="s2")
    trader.ended(short, Status.COMPLETED)
    trader.wait_for(lambda: len([each for each in trader.pending() if each["type"] == "STOP"]) == 2)
    trader.price("1.07950", "1.07962")
    trader.ended(long + 1, Status.COMPLETED)
    trader.wait_for(lambda: positions(trader) == {"beta EUR_USD": "-400"})
    trader.price("1.09250", "1.09262")
    trader.ended(short + 1, Status.COMPLETED)
    trader.wait_for(lambda: positions(trader) == {})
    assert trader.trades() == []
    trader.wait_for(lambda: trader.pending() == [])


def test_leaving_a_netted_position_opens_what_the_other_holds(trader: Trader) -> None:
    both(trader)
    trader.ended(trader.bracket(1000, "1.08000", "1.09500"), Status.COMPLETED)
    trader.ended(trader.bracket(-1000, "1.09200", "1.07000", name="beta", session="s2"), Status.COMPLETED)
    trader.wait_for(lambda: len([each for each in trader.pending() if each["type"] == "STOP"]) == 2)
    assert trader.trades() == []
    trader.minute()
    trader.ended(trader.submit(-1000), Status.COMPLETED)
    trader.wait_for(lambda: positions(trader) == {"beta EUR_USD": "-1000"})
    assert [trade["currentUnits"] for trade in trader.trades()] == ["-1000"]


def test_flatten_closes_ours_and_leaves_what_is_not_ours(trader: Trader) -> None:
    both(trader)
    trader.ended(trader.bracket(1000, "1.08000", "1.09500"), Status.COMPLETED)
    trader.ended(trader.submit(500, name="beta", session="s2"), Status.COMPLETED)
    trader.simulator.buy(300)
    trader.wait_for(lambda: positions(trader).get(" EUR_USD") == "300")
    trader.command(CommandKind.FLATTEN)
    trader.wait_for(lambda: positions(trader) == {" EUR_USD": "300"})
    assert sum(Decimal(trade["currentUnits"]) for trade in trader.trades()) == 300
    assert trader.owner.state()["gate"] == "HALTED"
    trader.minute()
    refused = trader.ended(trader.submit(100), Status.REJECTED)
    assert refused.reason == "halted"
