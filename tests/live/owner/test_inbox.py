"""The owner's queue: what a decision waits for comes before the prices that every pair brings at the end of a minute."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from mbats.live.owner.inbox import Inbox, Tagged
from mbats.oanda.prices import Price

NOW = datetime(2024, 5, 14, 10, tzinfo=UTC)


def price(symbol: str) -> Price:
    return Price(symbol, NOW, Decimal("1.08"), Decimal("1.0801"), tradeable=True, body={})


def test_prices_let_all_else_go_before_and_both_keep_their_order():
    inbox = Inbox()
    stream = Tagged(inbox, 1)
    for item in (price("EUR_USD"), "a transaction", price("GBP_USD"), "another"):
        stream.put(item)
    inbox.put("bars")

    assert len(inbox) == 5
    taken = [inbox.get(0) for _ in range(5)]

    assert taken[:3] == [(1, "a transaction"), (1, "another"), "bars"]
    assert [item.instrument for _, item in taken[3:]] == ["EUR_USD", "GBP_USD"]
    assert len(inbox) == 0
    assert inbox.get(0) is None


def test_what_comes_while_a_price_waits_goes_before_the_next_one():
    inbox = Inbox()
    stream = Tagged(inbox, 1)
    stream.put(price("EUR_USD"))
    stream.put(price("GBP_USD"))
    inbox.put("first")

    assert inbox.get(0) == "first"
    assert inbox.get(0)[1].instrument == "EUR_USD"
    inbox.put("bars")
    assert inbox.get(0) == "bars"
    assert inbox.get(0)[1].instrument == "GBP_USD"
