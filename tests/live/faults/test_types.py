"""Every type of transaction that OANDA has, and one that nobody knows, goes through a live owner: it changes what it should, is
recorded whole, and stops nothing (R33)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from live.books.test_odd import TYPES
from live.faults.records import records, risk_events
from live.trading import Trader

from mbats.live.wire import Status
from mbats.riskdb.live_records import TransactionRecord

UNKNOWN = ("DIVIDEND_ADJUSTMENT", "")
ALARMS = ("MARGIN_CALL_ENTER", "MARGIN_CALL_EXTEND", "MARGIN_CALL_EXIT", "DELAYED_TRADE_CLOSURE", "CLOSE")


def inject(trader: Trader, kind: str, **body: Any) -> int:
    """A transaction comes on the stream, as the next one; its number."""
    number = trader.owner._account.books.last_id + 1
    whole = {"type": kind, "id": str(number), "time": "2024-05-14T10:01:00.000000000Z", "accountID": trader.owner.id, **body}
    sent = trader.simulator.fault({"do": "send", "body": whole}, path="*/transactions/stream", message="HEARTBEAT", times=1)
    trader.wait_for(lambda: trader.owner._account.books.last_id >= number)
    assert trader.simulator.hits(sent) == 1
    return number


@pytest.mark.proves("R33")
@pytest.mark.parametrize("sense", ["full", "bare", "absurd"])
def test_each_of_the_35_types_and_unknown_ones_pass_through_a_live_owner(trader: Trader, sense: str) -> None:
    assert len(set(TYPES)) == 35
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.settle()
    full = {
        "instrument": "GBP_USD",
        "units": "1",
        "price": "1.1",
        "amount": "5",
        "financing": "1",
        "orderID": "1",
        "tradeID": "1",
    }
    absurd = {key: [None, {"x": "NaN"}] for key in full} | {"accountBalance": "a lot", "reason": 7, "clientExtensions": "?"}
    body: dict[str, Any] = {"full": full | {"rejectReason": "WHY", "reason": "R"}, "bare": {}, "absurd": absurd}[sense]

    numbers = {kind: inject(trader, kind, **body) for kind in (*TYPES, *UNKNOWN)}

    recorded = {each.id: each for each in records(trader, TransactionRecord)}
    kept = {each.id: each for each in trader.journal.transactions()}
    for kind, number in numbers.items():
        assert (recorded[number].type, kept[number].type) == (kind, kind)
        assert body.items() <= recorded[number].body.items()
    assert trader.owner._figures.crashes == 0
    alarmed = {
        int(event.key.split(" ")[1].split(".")[0]) for event in risk_events(trader, "alarm") if event.code == "broker_alarm"
    }
    assert {numbers[kind] for kind in ALARMS} <= alarmed
    assert trader.owner._account.books.position("alpha", "EUR_USD") == 1000

    trader.stop()  # what it has kept can be read again
    trader.again()
    assert trader.owner._account.books.last_id == max(numbers.values())
    assert trader.owner._figures.crashes == 0


@pytest.mark.proves("R33")
def test_what_the_exchange_itself_does_to_an_account_is_booked_to_the_cent_and_told(trader: Trader) -> None:
    exchange = trader.simulator
    trader.deploy(max_daily_loss="0.5", max_drawdown="0.9")
    trader.ended(trader.bracket(100_000, "1.07000", "1.09900"), Status.COMPLETED)
    trader.settle()

    exchange.deed("transfer", account=trader.owner.id, amount="2500.5")
    exchange.deed(
        "external_order", account=trader.owner.id, order={"type": "LIMIT", "instrument": "EUR_USD", "units": "9", "price": "1.0"}
    )
    exchange.admin("POST", f"/accounts/{trader.owner.id}/reset_pl")
    exchange.step(11.5 * 3600)  # 17:00 New York: financing
    trader.price("1.08400", "1.08412")
    exchange.deed("transfer", account=trader.owner.id, amount="-100200")
    exchange.step(300)
    trader.price("1.08200", "1.08212")  # a margin call
    exchange.step(5)
    exchange.deed("margin_closeout", account=trader.owner.id)
    exchange.step(5)

    def agreed() -> bool:
        summary = exchange.account("GET", "/summary").json()["account"]
        books = trader.owner._account.books
        return books.last_id == int(summary["lastTransactionID"]) and books.balance == Decimal(summary["balance"])

    trader.wait_for(agreed)
    seen = {each.type for each in trader.journal.transactions()}
    assert {"DAILY_FINANCING", "MARGIN_CALL_ENTER", "TRANSFER_FUNDS", "RESET_RESETTABLE_PL", "LIMIT_ORDER", "ORDER_FILL"} <= seen
    books = trader.owner._account.books
    assert books.check() == []
    assert books.position("alpha", "EUR_USD") == 0
    assert trader.owner._figures.crashes == 0
    assert any(event.code == "broker_alarm" and event.level == "critical" for event in risk_events(trader, "alarm"))
    assert not [event for event in risk_events(trader, "mismatch")]
