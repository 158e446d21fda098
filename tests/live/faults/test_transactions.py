"""The account's transactions reach the books in order and once each, whatever the streams lose, double or mix up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live.trading import FAST, Trader, begin
from live_samples import transaction
from simulator.running import Running

from mbats.live.owner.continuity import Continuity
from mbats.live.wire import OrderEvent, Status
from mbats.oanda.transactions import Transaction
from mbats.riskdb.live_records import FillRecord, TransactionRecord

# Other ways to hear of a transaction are shut, so that the one that a test is about has to work.
SELDOM_COMPARED = replace(FAST, reconcile_every=600.0)
ONLY_THE_STREAM = replace(SELDOM_COMPARED, catch_up_after=600.0)


def booked(trader: Trader) -> list[int]:
    """The transactions that are on their way to the risk database, in the order in which they were booked."""
    return [record.id for _, record in trader.journal.outbox(5000) if isinstance(record, TransactionRecord)]


def fills(trader: Trader) -> list[Decimal]:
    return [record.units for _, record in trader.journal.outbox(5000) if isinstance(record, FillRecord)]


def each_once(trader: Trader) -> None:
    """What is booked is what the exchange has, and both of its journals agree."""
    everything = [int(each["id"]) for each in trader.transactions()]
    trader.wait_for(lambda: booked(trader)[-1:] == everything[-1:])
    assert booked(trader) == list(range(booked(trader)[0], everything[-1] + 1))
    assert [each.id for each in trader.journal.transactions()] == booked(trader)


@pytest.mark.proves("R6")
def test_a_fill_that_comes_by_the_answer_and_twice_by_the_stream_is_booked_once(trader: Trader) -> None:
    trader.deploy()
    doubled = trader.simulator.fault("duplicate", message="ORDER_FILL")
    first, second = (trader.bracket(units, "1.08000", "1.09500", bar=trader.bar()) for units in (1000, 500))
    trader.ended(first, Status.COMPLETED)
    refused = trader.ended(second, Status.REJECTED)
    assert refused.reason == "duplicate"
    trader.price("1.07990", "1.08002")  # the stop's fill comes by the stream alone, twice
    trader.ended(first + 1, Status.COMPLETED)
    trader.settle()
    assert trader.simulator.hits(doubled) == 2
    trader.wait_for(lambda: trader.owner.state()["repeated"] >= 3)
    assert trader.words(first).count("completed") == trader.words(first + 1).count("completed") == 1
    assert fills(trader) == [1000, -1000]
    assert trader.owner.state()["positions"] == {}
    each_once(trader)


@pytest.mark.proves("R6")
def test_a_log_that_is_asked_for_again_books_nothing_twice(trader: Trader) -> None:
    trader.deploy()
    ref = trader.submit(1000)
    trader.ended(ref, Status.COMPLETED)
    before = booked(trader)
    again = trader.owner._account.reads.transactions_since(1)
    assert len(again) >= 2
    trader.owner._ask(lambda: trader.owner._apply(again), 10.0)
    trader.settle()
    assert trader.words(ref) == ["submitted", "accepted", "completed"]
    assert (booked(trader), fills(trader)) == (before, [1000])
    trader.wait_for(lambda: trader.owner.state()["repeated"] >= len(again))
    assert trader.owner.state()["positions"] == {"alpha EUR_USD": "1000"}


@pytest.mark.proves("R7")
def test_a_fill_that_the_stream_tells_before_the_answer_comes_is_told_at_once_and_once(
    start_trader: Callable[..., Trader],
) -> None:
    trader = start_trader(options=ONLY_THE_STREAM)
    trader.deploy()
    slow = trader.simulator.fault({"do": "delay", "when": "after", "seconds": 2.0}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000)
    trader.ended(ref, Status.COMPLETED)
    assert trader.owner._calls.in_flight == 1  # the answer is not there yet
    assert trader.simulator.hits(slow) == 1
    trader.settle()
    assert trader.owner._calls.in_flight == 0
    assert trader.words(ref) == ["submitted", "accepted", "completed"]
    assert [row.state for row in trader.journal.intents()] == ["filled"]
    each_once(trader)


@pytest.fixture
def at_995(exchange: Running, start_trader: Callable[..., Trader]) -> Trader:
    """A trader on an account whose last transaction is number 995, so that numbers soon have a digit more."""
    begin(exchange)
    number = 2
    while number < 992:
        pays = exchange.admin("POST", "/accounts/101-004-1435156-001/transfer", {"amount": "1"})
        number = int(pays.get("lastTransactionID") or exchange.account("GET", "/summary").json()["lastTransactionID"])
    while number < 995:
        exchange.admin("POST", "/accounts/101-004-1435156-001/transfer", {"amount": "1"})
        number += 1
    assert exchange.account("GET", "/summary").json()["lastTransactionID"] == "995"
    trader = start_trader(options=replace(FAST, catch_up_after=0.05))
    trader.deploy()
    return trader


@pytest.mark.proves("R8")
@pytest.mark.parametrize("fault", ["drop", "reorder", "none"])
def test_numbers_are_compared_as_numbers_and_a_gap_is_fetched_before_what_follows(at_995: Trader, fault: str) -> None:
    trader = at_995
    # 996 and 997 are an order and its fill; 998 to 1001 two more, and 998 is lost or comes too late
    orders = trader.simulator.fault(fault, message="MARKET_ORDER", nth=2) if fault != "none" else ""
    for _ in range(4):
        trader.simulator.buy(100, hooks={})
    trader.wait_for(lambda: trader.owner.state()["last_transaction"] == 1003)
    assert not orders or trader.simulator.hits(orders) == 1
    trader.wait_for(lambda: trader.owner.state()["positions"] == {" EUR_USD": "400"})
    assert booked(trader) == list(range(booked(trader)[0], 1004))
    each_once(trader)
    ref = trader.submit(1000)
    trader.ended(ref, Status.COMPLETED)
    assert trader.owner._account.continuity.last == 1005


@pytest.mark.proves("R8")
@given(st.data())
def test_however_transactions_come_each_is_applied_once_in_its_turn(data: st.DataObject) -> None:
    first = data.draw(st.sampled_from([1, 7, 95, 995]))
    count = data.draw(st.integers(1, 25))
    log = [transaction(first + n) for n in range(count)]
    continuity, applied = Continuity(first - 1), list[Transaction]()
    for _ in range(data.draw(st.integers(0, 12))):
        some = data.draw(st.lists(st.sampled_from(log), max_size=8))
        applied += continuity.offer(some)
        assert [each.id for each in applied] == list(range(first, first + len(applied)))
        assert continuity.is_behind == (continuity.needed > continuity.last)
    continuity.expect(log[-1].id)
    assert continuity.is_behind == (len(applied) < count)
    applied += continuity.offer(log[len(applied) :])  # what was asked for
    assert [each.id for each in applied] == [each.id for each in log]
    assert not continuity.is_behind


@pytest.mark.proves("R8", "R9")
@pytest.mark.parametrize("message", ["MARKET_ORDER", "ORDER_FILL", "STOP_LOSS_ORDER"])
def test_a_line_that_is_lost_on_a_stream_that_stays_up_is_missed_by_the_next_heartbeat(
    start_trader: Callable[..., Trader], message: str
) -> None:
    trader = start_trader(options=SELDOM_COMPARED)
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.settle()
    trader.heard.clear()
    lost = trader.simulator.fault("drop", message=message)
    trader.simulator.account(
        "POST",
        "/orders",
        {"order": {"type": "MARKET", "instrument": "GBP_USD", "units": "100", "stopLossOnFill": {"price": "1.20000"}}},
    )
    trader.price("1.07990", "1.08002")
    trader.wait_for(lambda: trader.owner.state()["positions"] == {" GBP_USD": "100"})
    assert trader.simulator.hits(lost) >= 1
    assert [each.position for each in trader.heard if isinstance(each, OrderEvent) and each.units] == [Decimal(0)]
    assert trader.owner.state()["stream_downs"] == {"transactions": 0, "pricing": 0}
    each_once(trader)


@pytest.mark.proves("R9")
def test_a_single_fill_that_is_lost_is_found_though_nothing_else_happens_on_the_account(
    start_trader: Callable[..., Trader],
) -> None:
    trader = start_trader(options=SELDOM_COMPARED)
    trader.deploy()
    ref = trader.bracket(1000, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    trader.settle()
    lost = trader.simulator.fault("drop", message="ORDER_*")  # the fill, and the end of the target
    trader.price("1.07990", "1.08002")
    trader.ended(ref + 1, Status.COMPLETED)
    assert trader.simulator.hits(lost) == 2
    assert trader.owner.state()["stream_downs"]["transactions"] == 0
    each_once(trader)
