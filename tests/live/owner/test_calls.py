"""Threads that send: warm before they are needed, and nothing leaves before it is written down."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from live.trading import Trader

from mbats.live.owner import calls as module
from mbats.live.owner.calls import Answered, Calls
from mbats.live.owner.inbox import Inbox
from mbats.live.wire import Status
from mbats.oanda.outcomes import Unknown

DONE = Unknown("a test")


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def calls(inbox: Inbox) -> Iterator[Calls]:
    made = Calls(inbox, writers=2)
    yield made
    made.close()


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_every_writer_makes_its_connection_before_the_first_order(inbox: Inbox) -> None:
    open_, touched = threading.Event(), []

    def touch() -> None:
        touched.append(threading.current_thread().name)
        open_.wait(10)

    calls = Calls(inbox, touch, writers=3)
    try:
        wait_for(lambda: len(touched) == 3)
        assert not calls.warm
        open_.set()
        wait_for(lambda: calls.warm)
        assert sorted(touched) == ["sender_0", "sender_1", "sender_2"]
    finally:
        open_.set()
        calls.close()


def test_a_writer_that_is_idle_keeps_its_connection_open(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.02)
    touched: list[float] = []
    calls = Calls(inbox, lambda: touched.append(time.monotonic()), writers=1)
    try:
        wait_for(lambda: len(touched) >= 4)
        calls.write("after that", lambda: DONE)
        assert inbox.get(10) == Answered("after that", DONE)
    finally:
        calls.close()


def test_what_is_held_leaves_when_the_block_ends_in_its_order(inbox: Inbox) -> None:
    gone: list[int] = []
    calls = Calls(inbox, writers=1)
    with calls.held():
        for number in range(3):
            calls.write(number, lambda number=number: gone.append(number) or DONE)  # type: ignore[misc]
        time.sleep(0.05)
        assert gone == []
        assert calls.in_flight == 0
    assert calls.in_flight == 3
    assert [inbox.get(10).key for _ in range(3)] == [0, 1, 2]
    assert gone == [0, 1, 2]
    calls.close()


def test_what_is_held_never_leaves_when_the_block_raises(inbox: Inbox, calls: Calls) -> None:
    gone: list[str] = []
    with pytest.raises(OSError, match="disk"), calls.held():
        calls.write("lost", lambda: gone.append("lost") or DONE)  # type: ignore[func-returns-value]
        raise OSError("the disk is full")
    calls.write("next", lambda: gone.append("next") or DONE)  # type: ignore[func-returns-value]
    assert inbox.get(10).key == "next"
    assert gone == ["next"]


def test_a_call_that_breaks_off_is_unknown_and_its_thread_goes_on(inbox: Inbox, calls: Calls) -> None:
    for number in range(4):
        calls.write(number, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        answer = inbox.get(10)
        assert isinstance(answer.outcome, Unknown)
        assert "ZeroDivisionError" in answer.outcome.why
    assert calls.crashes == 4


def test_wishes_of_one_moment_are_on_the_disk_before_any_of_them_leaves(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    trader.deploy(symbols=("EUR_USD", "GBP_USD"))
    seen: list[set[str]] = []
    submit = trader.owner._account.trading.submit_order

    def look(body: Any) -> Any:
        seen.append({row.client_id for row in trader.journal.intents()})
        return submit(body)

    monkeypatch.setattr(trader.owner._account.trading, "submit_order", look)
    held = threading.Event()
    trader.owner._tell(lambda: held.wait(10))  # so that both stand in the inbox together
    refs = [trader.submit(units, symbol=symbol) for units, symbol in ((1000, "EUR_USD"), (Decimal(2000), "GBP_USD"))]
    held.set()
    for ref in refs:
        trader.ended(ref, Status.COMPLETED)
    assert len(seen) == 2
    assert len(seen[0]) == 2  # the first order left when the second was written down as well


def test_a_wish_that_breaks_the_owner_takes_no_order_of_its_moment_to_the_broker(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    trader.deploy(symbols=("EUR_USD", "GBP_USD"))
    note = trader.owner._orders.requests.__class__.note

    def fail(self: Any, ticket: Any, order: Any, *rest: Any) -> str:
        name = note(self, ticket, order, *rest)
        if order.symbol == "GBP_USD":
            raise RuntimeError("an error of our own")
        return name

    monkeypatch.setattr(trader.owner._orders.requests.__class__, "note", fail)
    held = threading.Event()
    trader.owner._tell(lambda: held.wait(10))
    trader.submit(1000, symbol="EUR_USD")
    trader.submit(1000, symbol="GBP_USD")
    held.set()
    trader.wait_for(lambda: trader.owner._figures.crashes == 1)
    trader.in_step()
    assert trader.orders_sent() == []
    assert trader.journal.intents() == []
