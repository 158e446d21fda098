"""Reading an account: typed, complete, and asked again until an answer can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from fakes import ACCOUNT, TOKEN
from faulty_server import FIN, HANG, RESET, FaultyServer, answer
from pydantic import SecretStr

from mbats.errors import OandaRejected, OandaUnavailable
from mbats.oanda.account_client import AccountClient
from mbats.oanda.reads import Reads
from mbats.oanda.sessions import Sessions
from mbats.oanda.transactions import in_order, parse_id, parse_transaction

SUMMARY = {
    "id": ACCOUNT,
    "currency": "EUR",
    "balance": "43650.78835",
    "NAV": "43650.70000",
    "unrealizedPL": "-0.08835",
    "marginUsed": "0.0000",
    "marginAvailable": "43650.7",
    "marginCloseoutPercent": "0.00000",
    "hedgingEnabled": False,
    "aKeyOfTomorrow": {},
}
TRADE = {
    "id": "1000",
    "instrument": "EUR_USD",
    "currentUnits": "-1000",
    "price": "1.08305",
    "openTime": "2024-03-05T12:00:00.123456789Z",
    "clientExtensions": {"id": "mb-x-1", "tag": "sma_cross"},
}
ORDER = {
    "id": "1001",
    "type": "STOP_LOSS",
    "tradeID": "1000",
    "price": "1.09000",
    "timeInForce": "GTC",
    "state": "PENDING",
}
POSITION = {
    "instrument": "EUR_USD",
    "long": {"units": "0", "pl": "0"},
    "short": {"units": "-1000", "averagePrice": "1.08305", "tradeIDs": ["1000"]},
}
PRICE = {
    "type": "PRICE",
    "instrument": "EUR_USD",
    "time": "2024-03-05T12:00:00.250000000Z",
    "bids": [{"price": "1.08300", "liquidity": 1000000}, {"price": "1.08299", "liquidity": 2000000}],
    "asks": [{"price": "1.08312", "liquidity": 1000000}],
    "tradeable": True,
    "status": "tradeable",
}


@pytest.fixture
def broker() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture
def account(broker: FaultyServer) -> Iterator[AccountClient]:
    sessions = Sessions(broker.url, SecretStr(TOKEN), timeout=(5, 1), connections_per_second=50)
    yield AccountClient(sessions, ACCOUNT, reads=Reads(sessions, attempts=3, first_pause=0.01, longest_pause=0.02))
    sessions.close()


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {"id": str(number), "type": "ORDER_FILL", "time": "2024-03-05T12:00:00.123456789Z"} | more


def log(first: int, last: int, *, of: int | None = None, but: tuple[int, ...] = ()) -> dict[str, Any]:
    """Transactions `first` to `last` of an account that has had `of` of them."""
    return {
        "transactions": [entry(number) for number in range(first, last + 1) if number not in but],
        "lastTransactionID": str(last if of is None else of),
    }


# --- What an account holds ---------------------------------------------------------------------------------------


def test_money_is_exact(account, broker):
    broker.then(answer(200, {"account": SUMMARY, "lastTransactionID": "1001"}))

    summary = account.summary()

    assert (summary.balance, summary.nav, summary.unrealized_pl) == (
        Decimal("43650.78835"),
        Decimal("43650.7"),
        Decimal("-0.08835"),
    )
    assert (summary.currency, summary.hedging, summary.last_id) == ("EUR", False, 1001)


def test_details_hold_all_of_one_moment(account, broker):
    whole = SUMMARY | {"trades": [TRADE | {"stopLossOrderID": "1001"}], "orders": [ORDER], "positions": [POSITION]}
    broker.then(answer(200, {"account": whole, "lastTransactionID": "1001"}))

    details = account.details()

    assert details.summary.last_id == 1001
    assert [(trade.id, trade.units, trade.stop_loss_id) for trade in details.trades] == [(1000, Decimal(-1000), 1001)]
    assert [(order.type, order.trade_id, order.price) for order in details.orders] == [("STOP_LOSS", 1000, Decimal("1.09"))]
    assert [(position.net_units, position.short_price) for position in details.positions] == [
        (Decimal(-1000), Decimal("1.08305"))
    ]


def test_open_trades_know_their_owner_and_their_stops(account, broker):
    broker.then(answer(200, {"trades": [TRADE | {"stopLossOrder": ORDER}, TRADE | {"id": "2"}], "lastTransactionID": "1001"}))

    listing = account.open_trades()

    assert listing.last_id == 1001
    assert [(each.client_id, each.client_tag, each.stop_loss_id) for each in listing.entries] == [
        ("mb-x-1", "sma_cross", 1001),
        ("mb-x-1", "sma_cross", None),
    ]
    assert listing.entries[0].opened == datetime(2024, 3, 5, 12, 0, 0, 123456, tzinfo=UTC)


def test_pending_orders_of_a_type_of_tomorrow_are_read(account, broker):
    new = {"id": "5", "type": "TELEPATHIC", "instrument": "EUR_USD", "units": "10"}
    broker.then(answer(200, {"orders": [ORDER, new], "lastTransactionID": "1001"}))

    assert [(each.id, each.units) for each in account.pending_orders().entries] == [(1001, None), (5, Decimal(10))]


def test_one_order_is_found_by_its_client_id_or_not_at_all(account, broker):
    broker.then(
        answer(200, {"order": ORDER, "lastTransactionID": "1"}), answer(404, {"errorMessage": "The order does not exist"})
    )

    assert account.order("@mb-x-1").id == 1001
    with pytest.raises(OandaRejected) as caught:
        account.order("@mb-x-2")

    assert caught.value.status == 404
    assert [request.path.rpartition("/")[2] for request in broker.requests] == ["@mb-x-1", "@mb-x-2"]


@pytest.mark.proves("R16")
def test_no_positions_are_not_the_same_as_positions_that_cannot_be_read(account, broker):
    broker.then(answer(200, {"positions": [], "lastTransactionID": "1"}))
    assert account.open_positions().entries == ()

    broker.otherwise(answer(500, {"errorMessage": "Unable to forward request."}))
    with pytest.raises(OandaUnavailable, match="Gave up after 3 attempts"):
        account.open_positions()


def test_prices_are_the_best_of_each_side(account, broker):
    empty = PRICE | {"instrument": "USD_JPY", "bids": [], "asks": [], "tradeable": False}
    broker.then(answer(200, {"prices": [PRICE, empty], "time": "2024-03-05T12:00:01.000000000Z"}))

    euro, yen = account.prices(["USD_JPY", "EUR_USD"])

    assert (euro.bid, euro.ask, euro.mid, euro.tradeable) == (Decimal("1.08300"), Decimal("1.08312"), Decimal("1.08306"), True)
    assert (yen.bid, yen.ask, yen.mid, yen.tradeable) == (None, None, None, False)
    assert "instruments=EUR_USD%2CUSD_JPY" in broker.requests[0].path


def test_the_word_tradeable_counts_where_there_is_no_boolean(account, broker):
    old = {key: value for key, value in PRICE.items() if key != "tradeable"}
    broker.then(answer(200, {"prices": [old, old | {"status": "non-tradeable"}, old | {"status": None}]}))

    assert [price.tradeable for price in account.prices(["EUR_USD"])] == [True, False, False]


@pytest.mark.parametrize("wrong", [1.083, "NaN", "Infinity", "", None])
def test_a_price_that_is_no_exact_number_is_not_believed(wrong, account, broker):
    broker.otherwise(answer(200, {"prices": [PRICE | {"bids": [{"price": wrong}]}]}))

    with pytest.raises(OandaUnavailable, match="price of EUR_USD"):
        account.prices(["EUR_USD"])


@pytest.mark.parametrize(
    "fault", [RESET, FIN, HANG, answer(429, b""), answer(503, b"<html>"), answer(200, b"{"), answer(200, {})]
)
def test_a_read_is_asked_again_after_a_fault(fault, account, broker):
    broker.then(fault, answer(200, {"account": SUMMARY, "lastTransactionID": "1001"}))

    assert account.summary().last_id == 1001
    assert len(broker.requests) == 2


# --- What happened to it -----------------------------------------------------------------------------------------


@pytest.mark.proves("R8")
def test_transactions_are_ordered_as_numbers_and_not_as_text(account, broker):
    shuffled = log(998, 1001)
    shuffled["transactions"].reverse()
    broker.then(answer(200, shuffled))

    assert [each.id for each in account.transactions_since(997)] == [998, 999, 1000, 1001]


def test_a_transaction_that_comes_twice_counts_once(account, broker):
    twice = log(998, 1001)
    twice["transactions"] += twice["transactions"][1:]
    broker.then(answer(200, twice))

    assert [each.id for each in account.transactions_since(997)] == [998, 999, 1000, 1001]


def test_nothing_new_is_nothing(account, broker):
    broker.then(answer(200, log(1000, 999)))

    assert account.transactions_since(999) == []


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (log(998, 1001, but=(999,)), "Transaction 999 is missing"),
        (log(998, 1001, but=(998,)), "Transaction 998 is missing"),
        (log(998, 1001, but=(998, 999, 1000, 1001)), "Transactions 998 to 1001 are missing"),
        (log(990, 1001), "Transaction 990 was not asked for"),
        (log(998, 996), "last transaction is 996, though 997 is known"),
        ({"transactions": [entry(998)]}, "'lastTransactionID' is missing"),
        ({"transactions": [{"type": "ORDER_FILL"}], "lastTransactionID": "998"}, "'id' is missing"),
        ({"transactions": [entry(998) | {"id": "9x"}], "lastTransactionID": "998"}, "expected a number as text"),
    ],
)
@pytest.mark.proves("R8")
def test_an_answer_with_a_gap_is_asked_for_again_and_never_applied(spoiled, message, account, broker):
    broker.then(answer(200, spoiled), answer(200, log(998, 1001)))
    assert [each.id for each in account.transactions_since(997)] == [998, 999, 1000, 1001]

    broker.otherwise(answer(200, spoiled))
    with pytest.raises(OandaUnavailable, match=message):
        account.transactions_since(997)


def test_an_answer_that_ends_early_is_continued_from_where_it_ended(account, broker):
    broker.then(answer(200, log(998, 1000, of=1002)), answer(200, log(1001, 1002)))

    assert [each.id for each in account.transactions_since(997)] == [998, 999, 1000, 1001, 1002]
    assert [request.path.partition("?")[2] for request in broker.requests] == ["id=997", "id=1000"]


def test_a_long_range_is_asked_for_in_parts(account, broker):
    broker.then(answer(200, log(1, 1000)), answer(200, log(1001, 1500)))

    assert len(account.transaction_range(1, 1500)) == 1500
    assert [request.path.partition("?")[2] for request in broker.requests] == ["from=1&to=1000", "from=1001&to=1500"]


def test_a_range_with_its_end_missing_is_a_gap(account, broker):
    broker.otherwise(answer(200, log(5, 7, of=9)))

    with pytest.raises(OandaUnavailable, match="Transactions 8 to 9 are missing"):
        account.transaction_range(5, 9)


def test_changes_come_with_every_transaction_or_not_at_all(account, broker):
    def changes(**log_: Any) -> dict[str, Any]:
        return {"changes": {"transactions": log_["transactions"]}, "state": {}, "lastTransactionID": log_["lastTransactionID"]}

    broker.then(answer(200, changes(**log(998, 1000, but=(999,)))), answer(200, changes(**log(998, 999, of=1000))))
    broker.otherwise(answer(200, changes(**log(998, 1000))))

    found = account.changes(997)

    assert [each.id for each in found.transactions] == [998, 999, 1000]
    assert found.last_id == 1000
    assert len(broker.requests) == 3


@pytest.mark.parametrize("number", ["", "-1", "1.0", "٣", " 1", 7, None, True])
def test_a_number_of_a_transaction_is_digits_as_text_and_nothing_else(number):
    with pytest.raises(ValueError, match="expected a number as text"):
        parse_id(number)


def test_a_transaction_of_tomorrow_is_kept_with_all_that_was_sent():
    payload = {"id": "7", "type": "TELEPATHY", "time": "soon", "mind": "blown"}

    found = parse_transaction(payload)

    assert (found.id, found.type, found.time, found.body) == (7, "TELEPATHY", None, payload)


def test_a_gap_names_what_was_found_without_listing_thousands():
    entries = [parse_transaction(entry(number)) for number in range(1, 5000) if number != 3000]

    with pytest.raises(OandaUnavailable, match=r"Transaction 3000 is missing.*found 1, 2, 3, 4, 5, …, 4996, 4997, 4998, 4999"):
        in_order(entries, 1)
