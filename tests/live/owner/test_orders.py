"""An order's way from a strategy to the exchange and back, when nothing goes wrong."""

from __future__ import annotations

from live.trading import Trader

from mbats.live.wire import Status


def test_a_market_order_is_submitted_accepted_and_completed_once(trader: Trader) -> None:
    trader.deploy()
    ref = trader.submit(1000)
    done = trader.ended(ref, Status.COMPLETED)
    assert trader.words(ref) == ["submitted", "accepted", "completed"]
    assert (done.units, str(done.price), done.position) == (1000, "1.08512", 1000)
    assert [trade["currentUnits"] for trade in trader.trades()] == ["1000"]


def test_a_bracket_stands_at_the_broker_from_the_moment_of_the_fill(trader: Trader) -> None:
    trader.deploy()
    ref = trader.bracket(1000, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    kinds = {order["type"] for order in trader.pending()}
    assert kinds == {"STOP_LOSS", "TAKE_PROFIT"}
    trader.price("1.07990", "1.08002")
    stop = trader.ended(ref + 1, Status.COMPLETED)
    assert (stop.units, stop.position) == (-1000, 0)
    assert trader.words(ref + 2)[-1] == "canceled"
    assert trader.trades() == []


def test_a_close_and_a_new_entry_in_one_bar_turn_a_position_round(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.minute()
    done = trader.ended(trader.submit(-2500), Status.COMPLETED)
    assert done.position == -1500
    assert [trade["currentUnits"] for trade in trader.trades()] == ["-1500"]
