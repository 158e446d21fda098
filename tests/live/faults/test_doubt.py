"""Orders of which nobody knows whether the broker has them: none is taken for refused, none is sent again without proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from live.trading import FAST, Trader, make_client
from simulator.running import Running

from mbats.live.journal import IntentState
from mbats.live.wire import Form, Status
from mbats.riskdb.live_records import IntentRecord

IN_DOUBT: list[dict[str, Any]] = [
    {"do": "reset", "when": "after"},
    {"do": "close", "when": "after"},
    {"do": "answer", "when": "after", "status": 500, "html": True},
    {"do": "answer", "when": "after", "status": 503, "body": {"errorMessage": "Unable to forward request."}},
    {"do": "answer", "when": "after", "status": 504, "html": True},
    {"do": "truncate"},
    {"do": "garble"},
    {"do": "hang", "when": "after"},
]
LOST: list[dict[str, Any]] = [
    {"do": "reset", "when": "before"},
    {"do": "close", "when": "before"},
    {"do": "answer", "when": "before", "status": 502, "html": True},
    {"do": "hang", "when": "before"},
]


def name_of(fault: dict[str, Any]) -> str:
    return " ".join(str(value) for key, value in fault.items() if key in ("do", "when", "status"))


def states(trader: Trader) -> list[str]:
    """Every state that the journal's one intent has had."""
    records = [record for _, record in trader.journal.outbox(1000) if isinstance(record, IntentRecord)]
    return [str(record.state) for record in records]


def opened(trader: Trader) -> list[str]:
    return [each["units"] for each in trader.transactions() if each["type"] == "MARKET_ORDER" and "clientExtensions" in each]


@pytest.fixture
def impatient(exchange: Running, start_trader: Callable[..., Trader]) -> Trader:
    """A trader that waits for an answer for 0.6 seconds, and hears of its orders by asking only."""
    trader = start_trader(
        client=make_client(exchange, timeout=(3.05, 0.6)), options=replace(FAST, catch_up_after=5.0, settle_after=0.3)
    )
    trader.deploy()
    for kind in ("*_ORDER", "ORDER_FILL"):
        exchange.fault("drop", message=kind)
    return trader


@pytest.mark.proves("R2", "R3")
@pytest.mark.parametrize("fault", IN_DOUBT, ids=name_of)
def test_an_order_that_was_booked_without_an_answer_is_unknown_and_then_filled_and_never_sent_again(
    impatient: Trader, fault: dict[str, Any]
) -> None:
    struck = impatient.simulator.fault(fault, method="POST", path="*/orders", times=1)
    ref = impatient.submit(1000)
    impatient.ended(ref, Status.COMPLETED)
    impatient.settle()
    assert impatient.simulator.hits(struck) == 1
    assert impatient.words(ref) == ["submitted", "accepted", "completed"]
    assert opened(impatient) == ["1000"]
    assert len(impatient.orders_sent()) == 1
    assert [each for each in states(impatient) if each in ("unknown", "filled", "rejected")] == ["unknown", "filled"]
    assert [trade["currentUnits"] for trade in impatient.trades()] == ["1000"]


@pytest.mark.proves("R2", "R3")
@pytest.mark.parametrize("fault", LOST, ids=name_of)
def test_an_order_that_never_arrived_is_sent_again_after_the_log_has_proven_it_absent(
    impatient: Trader, fault: dict[str, Any]
) -> None:
    struck = impatient.simulator.fault(fault, method="POST", path="*/orders", times=1)
    ref = impatient.submit(1000)
    impatient.ended(ref, Status.COMPLETED)
    impatient.settle()
    assert impatient.simulator.hits(struck) == 1
    assert impatient.words(ref) == ["submitted", "accepted", "completed"]
    assert opened(impatient) == ["1000"]
    asked = [entry["path"] for entry in impatient.simulator.journal() if entry["kind"] == "request"]
    first, last = [at for at, path in enumerate(asked) if path.endswith("/orders")]
    between = asked[first:last]
    assert any(path.endswith("/sinceid") for path in between)
    assert any("/orders/@" in path for path in between)


@pytest.mark.proves("R3")
def test_while_the_broker_cannot_say_whether_it_has_the_order_nothing_is_sent_again(impatient: Trader) -> None:
    exchange = impatient.simulator
    exchange.fault({"do": "reset", "when": "before"}, method="POST", path="*/orders", times=1)
    silent = exchange.fault({"do": "answer", "status": 503}, method="GET", path="*/orders/@*")
    ref = impatient.submit(1000)
    impatient.wait_for(lambda: exchange.hits(silent) >= 8)
    assert impatient.words(ref) == ["submitted"]
    assert len(impatient.orders_sent()) == 1
    assert [row.state for row in impatient.journal.intents()] == [IntentState.UNKNOWN]
    exchange.admin("DELETE", f"/faults/{silent}")
    impatient.ended(ref, Status.COMPLETED, timeout=30)
    assert opened(impatient) == ["1000"]
    assert len(impatient.orders_sent()) == 2


@pytest.mark.proves("R3")
def test_an_order_that_never_arrived_is_not_sent_when_its_signal_is_too_old(impatient: Trader) -> None:
    struck = impatient.simulator.fault({"do": "reset", "when": "before"}, method="POST", path="*/orders", times=1)
    ref = impatient.submit(1000)
    impatient.wait_for(lambda: impatient.simulator.hits(struck))
    impatient.simulator.step(3600)
    impatient.price("1.08500", "1.08512")
    over = impatient.ended(ref, Status.CANCELED)
    assert (over.reason, impatient.words(ref)) == ("NOT_AT_BROKER", ["submitted", "canceled"])
    assert opened(impatient) == []
    assert len(impatient.orders_sent()) == 1


@pytest.mark.proves("R4")
def test_an_order_carries_its_name_as_that_of_its_trade(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    (row,) = trader.journal.intents()
    (trade,) = trader.trades()
    assert trade["clientExtensions"]["id"] == row.client_id
    assert trade["clientExtensions"]["tag"] == "mbats:alpha"


@pytest.mark.proves("R4")
@pytest.mark.parametrize("answer", ["first", "second"])
def test_a_market_order_that_is_doubled_on_its_way_opens_one_trade_and_is_told_as_one(trader: Trader, answer: str) -> None:
    trader.deploy()
    doubled = trader.simulator.fault({"do": "duplicate", "answer": answer}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000)
    trader.ended(ref, Status.COMPLETED)
    trader.settle()
    assert trader.simulator.hits(doubled) == 1
    reasons = [each["reason"] for each in trader.transactions() if each["type"] == "ORDER_CANCEL"]
    assert reasons == ["CLIENT_TRADE_ID_ALREADY_EXISTS"]
    assert trader.words(ref) == ["submitted", "accepted", "completed"]
    assert [row.state for row in trader.journal.intents()] == [IntentState.FILLED]
    assert [trade["currentUnits"] for trade in trader.trades()] == ["1000"]


@pytest.mark.proves("R4")
@pytest.mark.parametrize("answer", ["first", "second"])
def test_a_limit_order_that_is_doubled_on_its_way_waits_once_and_is_told_as_one(trader: Trader, answer: str) -> None:
    trader.deploy()
    doubled = trader.simulator.fault({"do": "duplicate", "answer": answer}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"))
    trader.wait_for(lambda: "accepted" in trader.words(ref))
    trader.settle()
    assert trader.simulator.hits(doubled) == 1
    assert [order["units"] for order in trader.pending()] == ["1000"]
    assert [row.state for row in trader.journal.intents()] == [IntentState.WORKING]
    trader.price("1.07980", "1.07992")
    trader.ended(ref, Status.COMPLETED)
    assert trader.words(ref) == ["submitted", "accepted", "completed"]


@pytest.mark.proves("R2", "R4")
def test_an_order_that_arrives_after_it_was_proven_absent_and_sent_again_deals_once(impatient: Trader) -> None:
    late = impatient.simulator.fault({"do": "delay", "when": "before", "seconds": 3}, method="POST", path="*/orders", times=1)
    ref = impatient.submit(1000)
    impatient.ended(ref, Status.COMPLETED)
    impatient.wait_for(lambda: len(opened(impatient)) == 2)  # the first one has arrived at last
    impatient.settle()
    assert impatient.simulator.hits(late) == 1
    assert impatient.words(ref) == ["submitted", "accepted", "completed"]
    assert [trade["currentUnits"] for trade in impatient.trades()] == ["1000"]
    impatient.wait_for(lambda: impatient.owner.state()["positions"] == {"alpha EUR_USD": "1000"})
