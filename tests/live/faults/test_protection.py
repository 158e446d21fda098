"""Stops and targets: whoever must have a stop has one at the broker or is closed, and each end of a bracket is told once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from live.faults.records import risk_events
from live.trading import Trader

from mbats.live.owner import guard
from mbats.live.wire import Form, OrderEvent, Status

TRADE_ORDERS = "*/trades/*/orders"


def stops(trader: Trader) -> list[tuple[str, str]]:
    return sorted((each["type"], each["price"]) for each in trader.pending())


def held(trader: Trader, units: int = 1000) -> int:
    """A long position with stop and target: the number of its entry; its stop and target are the next two."""
    trader.deploy()
    ref = trader.bracket(units, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    trader.settle()
    return ref


def fills(trader: Trader, ref: int | None) -> list[tuple[Decimal | None, Decimal | None, str]]:
    return [(each.units, each.position, str(each.status)) for each in trader.events(ref) if each.units]


@pytest.mark.proves("R18")
def test_a_stop_that_the_broker_loses_on_the_fill_is_attached_to_the_trade(trader: Trader) -> None:
    trader.simulator.admin("POST", "/strip_on_fill", {"on": True})
    ref = held(trader)
    trader.wait_for(lambda: stops(trader) == [("STOP_LOSS", "1.08000"), ("TAKE_PROFIT", "1.09000")])
    filled = next(each for each in trader.transactions() if each["type"] == "ORDER_FILL")
    attached = next(each for each in trader.transactions() if each["type"] == "STOP_LOSS_ORDER")
    assert attached["reason"] == "CLIENT_ORDER" and int(attached["id"]) > int(filled["id"])  # not with the fill
    trader.price("1.07990", "1.08002")
    trader.ended(ref + 1, Status.COMPLETED)
    trader.ended(ref + 2, Status.CANCELED)


@pytest.mark.proves("R18")
def test_a_stop_that_somebody_takes_away_is_put_back(trader: Trader) -> None:
    ref = held(trader)
    (trade,) = trader.trades()
    trader.simulator.account("PUT", f"/trades/{trade['id']}/orders", {"stopLoss": None})
    trader.wait_for(lambda: [each for each in trader.transactions() if each["type"] == "ORDER_CANCEL"])
    trader.wait_for(lambda: ("STOP_LOSS", "1.08000") in stops(trader))
    assert trader.words(ref + 1) == ["submitted", "accepted"]
    trader.price("1.07990", "1.08002")
    trader.ended(ref + 1, Status.COMPLETED)


@pytest.mark.proves("R18")
@pytest.mark.parametrize("status", [400, 503])
def test_a_position_for_which_no_stop_can_be_had_is_closed_and_people_are_told(
    trader: Trader, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(guard, "NAKED_FOR", 0.8)
    monkeypatch.setattr(guard, "RETRY", 0.2)
    trader.simulator.admin("POST", "/strip_on_fill", {"on": True})
    body = {"errorMessage": "not now", "errorCode": "STOP_LOSS_ORDER_NOT_POSSIBLE"}
    refused = trader.simulator.fault({"do": "answer", "status": status, "body": body}, method="PUT", path=TRADE_ORDERS)
    trader.deploy()
    ref = trader.bracket(1000, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    trader.wait_for(lambda: trader.trades() == [])
    trader.wait_for(lambda: fills(trader, None) == [(Decimal(-1000), Decimal(0), "completed")])
    assert trader.simulator.hits(refused) >= 1
    assert trader.words(ref + 1)[-1] == trader.words(ref + 2)[-1] == "canceled"
    alarms = [each for each in risk_events(trader, "alarm") if each.code == "no_stop"]
    assert any("is closed" in each.sentence for each in alarms)
    assert [each for each in trader.said.notices if each[:2] == ("critical", "paper: no stop")]


@pytest.mark.proves("R18")
def test_a_price_that_has_run_through_a_lost_stop_leaves_no_position(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "NAKED_FOR", 0.8)
    monkeypatch.setattr(guard, "RETRY", 0.2)
    trader.simulator.admin("POST", "/strip_on_fill", {"on": True})
    away = trader.simulator.fault({"do": "answer", "status": 503}, method="PUT", path=TRADE_ORDERS)
    trader.deploy()
    ref = trader.bracket(1000, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    trader.wait_for(lambda: trader.simulator.hits(away))
    trader.price("1.07500", "1.07512")
    trader.simulator.admin("DELETE", f"/faults/{away}")
    trader.wait_for(lambda: trader.trades() == [])
    trader.wait_for(lambda: trader.owner._account.books.positions() == {})
    trader.settle()
    assert trader.trades() == trader.pending() == []


@pytest.mark.proves("R18")
def test_an_entry_whose_stop_would_lose_at_once_opens_nothing(trader: Trader) -> None:
    trader.deploy()
    ref = trader.bracket(1000, "1.08900", "1.09500")
    over = trader.ended(ref, Status.CANCELED)
    assert over.reason == "STOP_LOSS_ON_FILL_LOSS"
    trader.wait_for(lambda: trader.words(ref + 1)[-1] == trader.words(ref + 2)[-1] == "canceled")
    trader.settle()
    assert trader.trades() == trader.pending() == []


# --- The ends of a bracket ---------------------------------------------------------------------------------------------------


@pytest.mark.proves("R19")
def test_a_bracket_goes_as_one_order_with_its_stop_and_target_on_fill(trader: Trader) -> None:
    held(trader)
    (sent,) = trader.orders_sent()
    order: dict[str, Any] = sent["request"]["order"]
    assert (order["stopLossOnFill"]["price"], order["takeProfitOnFill"]["price"]) == ("1.08000", "1.09000")
    batch = {each["batchID"] for each in trader.transactions() if each["type"].endswith(("_ORDER", "_FILL"))}
    assert len(batch) == 1  # the broker made all of it in one go


@pytest.mark.proves("R19")
@pytest.mark.parametrize(("bid", "ask", "filled", "other"), [("1.09400", "1.09412", 2, 1), ("1.07500", "1.07512", 1, 2)])
def test_a_gap_through_one_side_fills_it_at_the_market_and_cancels_the_other(
    trader: Trader, bid: str, ask: str, filled: int, other: int
) -> None:
    ref = held(trader)
    trader.price(bid, ask)
    end = trader.ended(ref + filled, Status.COMPLETED)
    assert (end.units, end.position, end.price) == (-1000, 0, Decimal(bid))
    linked = trader.ended(ref + other, Status.CANCELED)
    assert linked.reason == "LINKED_TRADE_CLOSED"
    trader.settle()
    assert trader.trades() == trader.pending() == []
    assert trader.words(ref + filled) == ["submitted", "accepted", "completed"]
    assert trader.words(ref + other) == ["submitted", "accepted", "canceled"]


@pytest.mark.proves("R19")
def test_after_a_partial_close_the_stop_closes_the_rest_and_no_more(trader: Trader) -> None:
    ref = held(trader)
    part = trader.ended(trader.submit(-400), Status.COMPLETED)
    assert part.position == 600
    assert trader.words(ref + 1)[-1] == trader.words(ref + 2)[-1] == "accepted"
    assert stops(trader) == [("STOP_LOSS", "1.08000"), ("TAKE_PROFIT", "1.09000")]
    trader.price("1.07990", "1.08002")
    end = trader.ended(ref + 1, Status.COMPLETED)
    assert (end.units, end.position) == (-600, 0)
    trader.ended(ref + 2, Status.CANCELED)
    trader.settle()
    assert trader.trades() == trader.pending() == []


@pytest.mark.proves("R19")
@pytest.mark.parametrize("units", ["ALL", "250"])
def test_a_trade_that_a_person_closes_is_told_as_a_fill_from_outside(trader: Trader, units: str) -> None:
    ref = held(trader)
    (trade,) = trader.trades()
    trader.simulator.account("PUT", f"/trades/{trade['id']}/close", {"units": units})
    closed = Decimal(1000 if units == "ALL" else units)
    trader.wait_for(lambda: fills(trader, None) == [(-closed, 1000 - closed, "completed")])
    if units == "ALL":
        for child in (ref + 1, ref + 2):
            assert trader.ended(child, Status.CANCELED).reason == "LINKED_TRADE_CLOSED"
    else:
        trader.settle()
        assert trader.words(ref + 1) == ["submitted", "accepted"]
        trader.price("1.09010", "1.09022")
        end = trader.ended(ref + 2, Status.COMPLETED)
        assert (end.units, end.position) == (-750, 0)
    assert trader.trades() == []


@pytest.mark.proves("R19")
def test_of_orders_that_cancel_each_other_the_first_to_fill_ends_the_rest(trader: Trader) -> None:
    trader.deploy()
    group = trader.ref + 1
    below = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"), oco=group)
    above = trader.submit(1000, form=Form.STOP, price=Decimal("1.09000"), oco=group)
    alone = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.07000"), oco=trader.ref + 1)
    for ref in (below, above, alone):
        trader.wait_for(lambda ref=ref: "accepted" in trader.words(ref))
    trader.price("1.09010", "1.09022")
    trader.ended(above, Status.COMPLETED)
    assert trader.ended(below, Status.CANCELED).reason == "CLIENT_REQUEST"
    trader.settle()
    assert [each["price"] for each in trader.pending()] == ["1.07000"]
    assert trader.words(alone) == ["submitted", "accepted"]
    assert [each for each in trader.heard if isinstance(each, OrderEvent) and each.ref is None] == []
