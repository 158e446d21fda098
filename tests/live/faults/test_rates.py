"""A strategy that has run wild is slowed down, then locked until a person looks; the broker's own limit is never met (R25)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from live.faults.records import risk_events, until
from live.trading import FAST, Trader

from mbats.live.gate import Command, CommandKind


def spam(trader: Trader, count: int, *, first: int = 0, session: str = "s1") -> list[int]:
    """As many orders at once, each decided on another bar, so that none is the same one twice."""
    return [trader.submit(1, bar=trader.bar() - timedelta(minutes=first + each), session=session) for each in range(count)]


def reasons(trader: Trader, refs: list[int]) -> list[str]:
    """Why each was refused, "" for those that were filled."""
    trader.wait_for(lambda: all(trader.words(ref)[-1:] in (["completed"], ["rejected"]) for ref in refs))
    return [trader.events(ref)[-1].reason for ref in refs]


@pytest.fixture
def patient(start_trader: Callable[..., Trader]) -> Trader:
    return start_trader(options=replace(FAST, signal_lives=timedelta(days=10)))


@pytest.mark.proves("R25")
def test_a_strategy_that_orders_all_the_time_sends_what_its_bucket_holds_and_no_more(patient: Trader) -> None:
    patient.deploy(orders_per_second=1, order_burst=3, max_open_trades=1000)

    assert reasons(patient, spam(patient, 40)) == [""] * 3 + ["order_rate"] * 37
    assert len(patient.orders_sent()) == 3
    assert [event.code for event in risk_events(patient, "refusal")] == ["order_rate"] * 37

    until(patient, "2024-05-14T10:00:03.500Z")  # two seconds pass, and with them come two tokens
    assert reasons(patient, spam(patient, 3, first=100)) == ["", "", "order_rate"]
    assert len(patient.orders_sent()) == 5


@pytest.mark.proves("R25")
def test_the_bucket_is_as_empty_after_a_restart_as_before(patient: Trader) -> None:
    patient.deploy(orders_per_second="0.01", order_burst=3, max_open_trades=1000)
    assert reasons(patient, spam(patient, 4)) == ["", "", "", "order_rate"]
    patient.settle()

    patient.stop()
    patient.again()
    patient.deploy(session="s2", orders_per_second="0.01", order_burst=3, max_open_trades=1000)

    assert reasons(patient, spam(patient, 1, first=100, session="s2")) == ["order_rate"]


@pytest.mark.proves("R25")
@pytest.mark.parametrize("resumed_at", ["the broker's time", "this machine's time"])
def test_too_many_orders_lock_a_strategy_over_any_time_and_restart_until_a_person_resumes(
    patient: Trader, resumed_at: str
) -> None:
    limits = {"max_repeats": 4, "repeat_window_seconds": 60, "max_open_trades": 1000}
    patient.deploy(**limits)
    patient.command(CommandKind.REDUCE)
    now = patient.owner._clock.now() if resumed_at == "the broker's time" else datetime.now(UTC)
    patient.owner.command(Command(CommandKind.RESUME, "test", now, "it is well"))
    until(patient, "2024-05-14T10:00:03Z")
    assert reasons(patient, spam(patient, 6)) == [""] * 4 + ["repeated_executions"] * 2
    (latch,) = risk_events(patient, "latch")
    assert (latch.code, latch.deployment, latch.until) == ("repeated_executions", "alpha", None)
    assert any("repeated" in title for _, title, _ in patient.said.notices)

    until(patient, "2024-05-14T12:00:00Z")
    patient.show("1.08501", "1.08513")
    assert reasons(patient, spam(patient, 1)) == ["repeated_executions"]
    patient.settle()
    patient.stop()
    patient.again()
    patient.deploy(session="s2", **limits)
    patient.show("1.08501", "1.08513")
    assert reasons(patient, spam(patient, 1, first=50, session="s2")) == ["repeated_executions"]
    assert len(patient.orders_sent()) == 4

    patient.command(CommandKind.RESUME, "alpha")
    patient.show("1.08501", "1.08513")
    assert reasons(patient, spam(patient, 1, first=60, session="s2")) == [""]


@pytest.mark.proves("R25", "R26")
def test_what_the_broker_answers_with_429_is_sent_again_more_slowly_and_deals_once(patient: Trader) -> None:
    patient.deploy(max_open_trades=1000)
    strict = patient.simulator.fault({"do": "rate_limit", "per_second": 4}, method="POST", path="*/orders")

    refs = spam(patient, 10)
    found = reasons(patient, refs)

    assert patient.simulator.hits(strict) > 0
    assert set(found) <= {"", "THROTTLED"}
    filled = found.count("")
    assert filled > 4
    booked = [each for each in patient.transactions() if each["type"] == "ORDER_FILL"]
    assert (len(booked), sum(int(trade["currentUnits"]) for trade in patient.trades())) == (filled, filled)
    sent = patient.orders_sent()
    refused = [entry for entry in sent if entry["told"] == 429]
    assert len(sent) == len(refused) + filled <= 3 * len(refs)
