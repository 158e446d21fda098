"""What MBATS keeps of a day is the broker's log to the cent; a row that somebody has changed is told of (R34)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from live.faults.records import records, risk_events, until
from live.trading import Trader

from mbats.database import Database, admin_connection, database_name
from mbats.live.gate import Command, CommandKind
from mbats.live.mirror import Mirror
from mbats.live.wire import Form, Status
from mbats.riskdb.live_records import FillRecord, IntentRecord, ReconciliationRecord, RunRecord


def busy_day(trader: Trader) -> None:
    """Two deployments on one pair, a foreign trade, a pending order, a stop, money in and out, a restart, interest."""
    exchange = trader.simulator
    trader.deploy()
    trader.deploy("beta", session="b1")
    trader.ended(trader.bracket(30_000, "1.08300", "1.09000"), Status.COMPLETED)
    trader.ended(trader.submit(-12_000, "beta", "b1"), Status.COMPLETED)
    exchange.deed("external_order", account=trader.owner.id, order={"type": "MARKET", "instrument": "GBP_USD", "units": "700"})
    trader.submit(5_000, form=Form.LIMIT, price=Decimal("1.08100"))
    exchange.deed("transfer", account=trader.owner.id, amount="1234.56")
    trader.settle()
    trader.minute()
    trader.stop()
    show_price(trader, "1.08290", "1.08302")  # the stop, while nobody is there
    trader.again()
    trader.deploy(session="s2")
    trader.deploy("beta", session="b2")
    trader.settle()
    trader.minute()
    trader.ended(trader.submit(8_000, "beta", "b2"), Status.COMPLETED)
    exchange.deed("transfer", account=trader.owner.id, amount="-34.56")
    trader.minute()
    trader.ended(trader.submit(3_333, session="s2"), Status.COMPLETED)
    trader.settle()


def show_price(trader: Trader, bid: str, ask: str) -> None:
    trader.simulator.price(bid, ask)
    trader.simulator.step(1)


def next_day(trader: Trader) -> ReconciliationRecord:
    """The record of the day, which comes although nothing but interest happens after 17:00 New York."""
    until(trader, "2024-05-14T21:10:00Z")
    trader.show("1.08555", "1.08567")
    (record,) = trader.wait_for(lambda: records(trader, ReconciliationRecord))
    return record


def log_of_day(trader: Trader) -> list[dict[str, Any]]:
    """The broker's own log before 17:00 New York, but for the making of the account."""
    return [each for each in trader.transactions() if each["time"] < "2024-05-14T21" and int(each["id"]) > 2]


def total(log: list[dict[str, Any]], name: str) -> Decimal:
    return sum((Decimal(each.get(name, "0")) for each in log), Decimal(0))


@pytest.mark.proves("R34")
def test_after_a_busy_day_everything_adds_up_to_the_cent(trader: Trader) -> None:
    busy_day(trader)
    log = log_of_day(trader)

    record = next_day(trader)

    transfers = [each for each in log if each["type"] == "TRANSFER_FUNDS"]
    assert record.findings == ()
    assert (record.first_transaction, record.last_transaction) == (int(log[0]["id"]), int(log[-1]["id"]))
    assert (record.pl, record.financing, record.transferred) == (
        total(log, "pl"),
        total(log, "financing"),
        total(transfers, "amount"),
    )
    assert record.pl < 0 and record.transferred == Decimal("1200")
    assert record.book_balance == record.broker_balance == Decimal(log[-1].get("accountBalance", record.broker_balance))
    fills = records(trader, FillRecord)
    books, account = trader.owner._account.books, trader.simulator.account("GET", "").json()["account"]
    for name in ("alpha", "beta"):
        assert sum(each.pnl for each in fills if each.deployment == name) == books.realised[name]
        assert sum(each.units for each in fills if each.deployment == name) == books.position(name, "EUR_USD")
    spent = [sum(owned.values()) for owned in (books.realised, books.financing)]
    assert (spent[0], books.balance) == (Decimal(account["pl"]), Decimal(account["balance"]))
    assert spent[1] == Decimal(account["financing"])
    assert [str(trade["currentUnits"]) for trade in trader.trades() if trade["instrument"] == "EUR_USD"] == [
        str(books.broker_position("EUR_USD"))
    ]
    assert risk_events(trader, "mismatch") == []


def alter(trader: Trader, statement: str) -> None:
    """Somebody changes the journal behind the trader's back."""
    other = sqlite3.connect(trader.journal_path, timeout=10)
    with other:
        assert other.execute(statement).rowcount == 1
    other.close()


A_FILL = "(SELECT min(id) FROM broker_transaction WHERE type = 'ORDER_FILL')"
TAMPERED = {
    "a profit": f"UPDATE broker_transaction SET body = json_set(body, '$.pl', '0.0001') WHERE id = {A_FILL}",
    "a price": f"UPDATE broker_transaction SET body = json_set(body, '$.price', '1.00000') WHERE id = {A_FILL}",
    "a type": f"UPDATE broker_transaction SET type = 'MARKET_ORDER' WHERE id = {A_FILL}",
    "a whole row": f"DELETE FROM broker_transaction WHERE id = {A_FILL}",
    "a sum of the day": "UPDATE saved SET text = json_set(text, '$.financing', '0.01') WHERE key = 'day'",
    "the opening balance": "UPDATE saved SET text = json_set(text, '$.opening', '99999.99') WHERE key = 'day'",
}


@pytest.mark.proves("R34")
@pytest.mark.parametrize("what", TAMPERED)
def test_a_row_of_the_journal_that_somebody_has_changed_is_an_alarm_at_the_end_of_the_day(trader: Trader, what: str) -> None:
    trader.deploy()
    trader.ended(trader.submit(10_000), Status.COMPLETED)
    trader.minute()
    trader.ended(trader.submit(-4_000), Status.COMPLETED)
    trader.settle()
    trader.stop()
    alter(trader, TAMPERED[what])
    trader.again()
    trader.deploy(session="s2")
    trader.settle()

    record = next_day(trader)

    (alarm,) = [event for event in risk_events(trader, "mismatch") if event.code in ("day_differs", "books_differ")][:1]
    assert alarm.level == "critical"
    assert any((level == "critical" and "differs" in title) or "differ" in title for level, title, _ in trader.said.notices)
    assert record.findings


def copied(trader: Trader, risk_db: Database, said: list[str]) -> Mirror:
    mirror = Mirror({trader.owner.id: trader.journal}, risk_db, interval=0.01, alarm=said.append)
    while mirror.copy_once():
        pass
    return mirror


IN_POSTGRESQL: dict[str, tuple[str, str]] = {
    "nothing": ("SELECT 1", ""),
    "an entry of the log": (
        """UPDATE broker_transaction SET body = jsonb_set(body, '{pl}', '"77.0000"') WHERE type = 'ORDER_FILL' AND id = 4""",
        "Transaction 4 is another one there",
    ),
    "a lost entry": ("DELETE FROM broker_transaction WHERE id = 4", "Transaction 4 is not there"),
    "a fill's profit": ("UPDATE fill SET pnl = pnl + 0.01 WHERE seq = 6", "sum of their profits"),
    "a fill's units": ("UPDATE fill SET units = units + 1 WHERE seq = 6", "sum of their units"),
    "a lost fill": ("DELETE FROM fill WHERE seq = 6", "number of fills"),
}


@pytest.mark.proves("R34")
@pytest.mark.parametrize("what", IN_POSTGRESQL)
def test_a_row_of_the_risk_database_that_somebody_has_changed_is_an_alarm(trader: Trader, risk_db: Database, what: str) -> None:
    said: list[str] = []
    trader.deploy()
    trader.ended(trader.submit(10_000), Status.COMPLETED)
    trader.minute()
    trader.ended(trader.submit(-4_000), Status.COMPLETED)
    trader.settle()
    assert [each.transaction_id for each in records(trader, FillRecord)] == [4, 6]
    copied(trader, risk_db, said)
    statement, finding = IN_POSTGRESQL[what]
    as_owner(risk_db, statement)

    next_day(trader)
    copied(trader, risk_db, said)

    alarms = [event for event in risk_events(trader, "mismatch") if event.code == "copy_differs"]
    with risk_db.begin() as connection:
        connection.execute(sa.text("SELECT 1"))
    if not finding:
        assert (said, alarms) == ([], [])
        return
    (sentence,) = said
    assert finding in sentence
    found = [event.sentence for event in alarms] or in_database(risk_db)
    assert found == [sentence]


def in_database(risk_db: Database) -> list[str]:
    with risk_db.begin() as connection:
        rows = connection.execute(sa.text("SELECT sentence FROM risk_event WHERE code = 'copy_differs'"))
        return [row.sentence for row in rows]


def as_owner(risk_db: Database, statement: str) -> None:
    """The trader's own role may not change what happened; somebody with more rights does."""
    settings = risk_db.settings
    connection = admin_connection(settings, database_name(settings, "risk"))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.mark.proves("R34", "R1")
def test_the_trail_of_every_order_says_who_what_and_why(trader: Trader) -> None:
    trader.deploy()
    filled = trader.submit(1000)
    trader.ended(filled, Status.COMPLETED)
    trader.settle()
    trader.minute()
    trader.ended(trader.submit(900_000), Status.REJECTED)
    trader.owner.command(Command(CommandKind.FLATTEN, "ann@desk", datetime.now(UTC), "the news are bad"))
    trader.wait_for(lambda: any(event.code == "flattened" for event in risk_events(trader)))

    (run,) = records(trader, RunRecord)
    assert (run.deployment, run.strategy, run.code_version, run.account_id) == ("alpha", "s", "1", trader.owner.id)
    intents = {each.client_id: each for each in records(trader, IntentRecord)}.values()
    assert [(each.deployment, each.why, each.purpose.split("-")[0], each.code_version, each.state) for each in intents] == [
        ("alpha", "strategy", "open", "1", "filled"),
        ("alpha", "flatten", "flatten", "1", "filled"),
    ]
    entry = next(iter(intents))
    assert (entry.bar, entry.session, entry.ref) == (entry.bar, "s1", filled)
    (refusal,) = risk_events(trader, "refusal")
    assert (refusal.code, refusal.deployment, refusal.found, refusal.allowed) == ("order_units", "alpha", 900_000, 200_000)
    command = risk_events(trader, "command")[0]
    assert (command.code, command.by, "the news are bad" in command.sentence) == ("flatten", "ann@desk", True)
    fills = records(trader, FillRecord)
    assert fills[0].client_id == entry.client_id
    assert [each.purpose for each in fills] == ["entry", "exit"]


@pytest.mark.proves("R34")
def test_a_fill_that_comes_before_its_strategy_is_back_is_in_the_ledger_all_the_same(
    trader: Trader, start_trader: Callable[..., Trader]
) -> None:
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.settle()
    trader.stop()
    show_price(trader, "1.07990", "1.08002")

    trader.again()
    trader.in_step()

    assert [(each.deployment, each.purpose, each.units) for each in records(trader, FillRecord)] == [
        ("alpha", "entry", 1000),
        ("alpha", "stop", -1000),
    ]
