"""A trader that begins again: it adopts what is its own, and learns what happened while it was away."""

from __future__ import annotations

from decimal import Decimal

from live.trading import Trader
from simulator.running import ACCOUNT

from mbats.live.wire import Form, Status


def test_a_new_process_adopts_position_stop_and_target(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.owner.close_session("alpha", "s1")
    adopt = trader.deploy(session="s2")
    assert [(each.symbol, each.units) for each in adopt.holdings] == [("EUR_USD", 1000)]
    assert [(each.role, each.form, each.units) for each in adopt.orders] == [
        ("stop", Form.STOP, -1000),
        ("target", Form.LIMIT, -1000),
    ]
    trader.price("1.07990", "1.08002")
    stop = trader.ended(adopt.orders[0].ref, Status.COMPLETED)
    assert stop.position == 0
    trader.ended(adopt.orders[1].ref, Status.CANCELED)


def test_a_stop_that_was_hit_while_the_trader_was_away_is_booked_once(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.stop()
    trader.price("1.07990", "1.08002")
    trader.again()
    adopt = trader.deploy(session="s2")
    trader.settle()
    trader.wait_for(lambda: trader.owner.state()["positions"] == {})
    for order in adopt.orders:  # adopted before the broker was asked, they hear now what happened
        trader.ended(order.ref, Status.COMPLETED if order.role == "stop" else Status.CANCELED)
    assert trader.trades() == []


def test_without_a_journal_own_trades_are_known_by_their_names_and_foreign_ones_left_alone(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.simulator.buy(300)
    trader.settle()
    trader.stop()
    trader.journal_path = trader.journal_path.with_name("another.sqlite")
    trader.again()
    adopt = trader.deploy(session="s2")
    assert [(each.symbol, each.units) for each in adopt.holdings] == [("EUR_USD", 1000)]
    trader.wait_for(lambda: trader.owner.state()["positions"] == {"alpha EUR_USD": "1000", " EUR_USD": "300"})
    assert len(trader.trades()) == 2
    assert len(trader.pending()) == 2, ACCOUNT


def test_an_entry_that_waits_is_adopted_and_can_be_cancelled(trader: Trader) -> None:
    trader.deploy()
    ref = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"))
    trader.wait_for(lambda: "accepted" in trader.words(ref))
    trader.stop()
    trader.again()
    adopt = trader.deploy(session="s2")
    (standing,) = adopt.orders
    assert (standing.role, standing.units, standing.price) == ("entry", 1000, Decimal("1.08000"))
    trader.withdraw(standing.ref, session="s2")
    trader.ended(standing.ref, Status.CANCELED)
    assert trader.pending() == []


def test_an_order_that_waits_for_a_price_survives_a_restart(trader: Trader) -> None:
    trader.deploy()
    ref = trader.submit(1000, form=Form.STOP_LIMIT, price=Decimal("1.08600"), limit=Decimal("1.08610"))
    trader.wait_for(lambda: "accepted" in trader.words(ref))
    trader.settle()
    trader.stop()
    trader.again()
    (standing,) = trader.deploy(session="s2").orders
    assert (standing.form, standing.units) == (Form.STOP_LIMIT, 1000)
    trader.settle()
    trader.price("1.08592", "1.08604")
    done = trader.ended(standing.ref, Status.COMPLETED)
    assert done.position == 1000


def test_a_decision_of_a_closed_market_is_carried_out_when_it_opens(trader: Trader) -> None:
    trader.simulator.admin("POST", "/clock/step", {"until": "2024-05-14T20:59:30Z"})  # a minute and a half after FX has shut
    trader.price("1.08500", "1.08512")
    trader.deploy()
    ref = trader.submit(1000)
    trader.settle()
    trader.stop()
    trader.again()
    (standing,) = trader.deploy(session="s2").orders
    assert trader.trades() == [], ref
    trader.simulator.admin("POST", "/clock/step", {"until": "2024-05-14T21:05:00Z"})
    trader.price("1.08500", "1.08512")
    trader.ended(standing.ref, Status.COMPLETED)
