"""At the end of a trading day the broker's log of the day is added up, and what is missing is told."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from live.trading import Trader

from mbats.live.journal import Journal
from mbats.live.wire import Status
from mbats.riskdb.live_records import ReconciliationRecord, RiskEventRecord


def trade_a_day(trader: Trader) -> None:
    """In and out with a loss, and something held over 17:00 New York, so that interest is paid."""
    trader.deploy()
    trader.ended(trader.submit(10_000), Status.COMPLETED)
    trader.minute()
    trader.ended(trader.submit(-6_000), Status.COMPLETED)


def next_day(trader: Trader, session: str = "s1") -> ReconciliationRecord:
    """The record that the first transaction of the next trading day leaves."""
    trader.simulator.admin("POST", "/clock/step", {"until": "2024-05-15T10:00:00Z"})
    trader.price("1.08500", "1.08512")
    trader.minute()
    trader.submit(100, session=session)

    def found() -> list[ReconciliationRecord]:
        return [each for _, each in trader.journal.outbox(10_000) if isinstance(each, ReconciliationRecord)]

    trader.wait_for(found)
    return found()[0]


@pytest.mark.proves("R34")
def test_the_sums_of_a_day_are_the_brokers_to_the_cent(trader: Trader) -> None:
    trade_a_day(trader)
    record = next_day(trader)
    assert record.findings == ()
    assert record.pl < 0
    total = record.opening_balance + record.pl + record.financing + record.transferred + record.charged
    assert total == record.book_balance == record.broker_balance
    assert (record.opening_balance, str(record.day)) == (Decimal("100000.0000"), "2024-05-14")


@pytest.mark.proves("R34")
def test_a_day_that_was_tampered_with_is_told(trader: Trader) -> None:
    trade_a_day(trader)
    trader.settle()
    trader.stop()
    journal = Journal.open(trader.journal_path)
    day = json.loads(journal.load("day") or "{}")
    with journal.write():
        journal.save("day", json.dumps(day | {"pl": str(Decimal(day["pl"]) + 1)}))
    journal.close()
    trader.again()
    trader.deploy(session="s2")
    record = next_day(trader, session="s2")
    assert any("adds up" in finding for finding in record.findings)
    events = [each for _, each in trader.journal.outbox(10_000) if isinstance(each, RiskEventRecord)]
    assert any(each.kind == "mismatch" and each.level == "critical" for each in events)
