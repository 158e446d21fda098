"""The account over HTTP: its sums, its instruments, its configuration, its changes, and its transactions."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from simulated import ACCOUNT, Simulated, types
from simulator.served import Scripted
from simulator.spec import spec

from mbats.simulator.core.account import Account
from mbats.simulator.rest.account import CHANGES_AT_ONCE
from mbats.simulator.rest.transactions import FILTERS

TRANSACTIONS = f"/v3/accounts/{ACCOUNT}/transactions"


@pytest.fixture
def served() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture(scope="module")
def lived() -> Iterator[Scripted]:
    """An account with some history: ids 1 to 14."""
    server = Scripted()
    server.order(1000, takeProfitOnFill={"price": "1.10500"}, stopLossOnFill={"price": "1.09500"})  # 3 to 6
    server.exchange.price("EUR_USD", "1.10200", "1.10210")
    server.order(100, "USD_JPY", "LIMIT", price="140.000")  # 7
    server.put("orders/7/cancel")  # 8
    server.patch("configuration", {"alias": "A bot"})  # 9
    server.put("trades/4/close", {"units": "400"})  # 10, 11
    server.order(-200, "GBP_USD")  # 12, 13
    server.order(0)  # 14
    yield server
    server.close()


# --- Sums ----------------------------------------------------------------------------------------------------------------


def test_a_new_account_is_all_balance(served):
    full, summary = served.get(""), served.get("summary")
    account = full.body["account"]

    assert (account["balance"], account["currency"], account["NAV"]) == ("100000.0000", "USD", "100000.0000")
    assert account["marginAvailable"] == account["withdrawalLimit"] == "100000.0000"
    assert (account["trades"], account["positions"], account["orders"]) == ([], [], [])
    lists = ("trades", "positions", "orders")
    assert summary.body["account"] == {key: value for key, value in account.items() if key not in lists}
    assert summary.body["lastTransactionID"] == account["lastTransactionID"] == "2"


def test_the_account_has_every_field_of_the_schema_but_those_of_what_has_not_happened(served):
    if (judge := spec()) is None:
        pytest.skip("OANDA's schema is not here")
    absent = {
        "marginRate",
        "marginCallEnterTime",
        "marginCallExtensionCount",
        "lastMarginCallExtensionTime",
        "lastOrderFillTimestamp",
    }

    assert set(served.get("").body["account"]) == set(judge.schemas["Account"]["properties"]) - absent


def test_the_sums_are_those_of_what_is_listed(lived):
    account = lived.get("").body["account"]

    assert (account["openTradeCount"], account["openPositionCount"], account["pendingOrderCount"]) == (2, 2, 2)
    assert len(account["trades"]) == len(account["positions"]) == len(account["orders"]) == 2
    profits = [Decimal(each["unrealizedPL"]) for each in account["trades"]]
    assert Decimal(account["unrealizedPL"]) == sum(profits)
    assert Decimal(account["NAV"]) == Decimal(account["balance"]) + sum(profits)
    assert Decimal(account["marginUsed"]) == sum(Decimal(each["marginUsed"]) for each in account["positions"])
    assert Decimal(account["pl"]) == sum(Decimal(each["pl"]) for each in account["positions"])
    assert account["lastOrderFillTimestamp"] == "2024-03-05T12:00:04.000000000Z"


def test_a_margin_call_shows_when_it_began(served):
    served.order(4_500_000)
    served.exchange.price("EUR_USD", "1.09900", "1.09910")

    account = served.get("summary").body["account"]

    assert account["marginCallEnterTime"] == "2024-03-05T12:00:03.000000000Z"
    assert account["marginCallExtensionCount"] == 0
    assert Decimal(account["marginCallPercent"]) >= 1
    assert Decimal(account["marginCloseoutPercent"]) == Decimal(account["marginCallPercent"]) / 2


# --- Instruments -----------------------------------------------------------------------------------------------------------


def test_instruments_come_with_their_precision_and_terms(served):
    listed = {item["name"]: item for item in served.get("instruments").body["instruments"]}

    assert tuple(listed) == ("EUR_USD", "USD_JPY", "GBP_USD")
    assert (listed["USD_JPY"]["displayPrecision"], listed["USD_JPY"]["pipLocation"]) == (3, -2)
    assert (listed["EUR_USD"]["minimumTradeSize"], listed["EUR_USD"]["maximumOrderUnits"]) == ("1", "100000000")
    assert listed["EUR_USD"]["minimumTrailingStopDistance"] == "0.00050"
    days = listed["EUR_USD"]["financing"]["financingDaysOfWeek"]
    assert [(day["dayOfWeek"], day["daysCharged"]) for day in days][:3] == [("MONDAY", 1), ("TUESDAY", 1), ("WEDNESDAY", 3)]
    assert sum(day["daysCharged"] for day in days) == 7


def test_instruments_are_chosen_by_name_and_unknown_ones_refused(served):
    chosen = served.get("instruments", instruments="GBP_USD,EUR_USD")
    unknown = served.get("instruments", instruments="EUR_USD,XAU_USD")

    assert [item["name"] for item in chosen.body["instruments"]] == ["GBP_USD", "EUR_USD"]
    assert (unknown.status, unknown.body) == (400, {"errorMessage": "Invalid value specified for 'instruments'"})


# --- Configuration -----------------------------------------------------------------------------------------------------------


def test_alias_and_margin_rate_can_be_set(served):
    answer = served.patch("configuration", {"alias": "Mine", "marginRate": "0.05"})

    assert set(answer.body) == {"clientConfigureTransaction", "lastTransactionID"}
    assert (answer.body["clientConfigureTransaction"]["alias"], answer.status) == ("Mine", 200)
    account = served.get("summary").body["account"]
    assert (account["alias"], account["marginRate"]) == ("Mine", "0.05")
    served.order(1000)
    assert served.get("summary").body["account"]["marginUsed"] == "55.0025"  # 5 % of 1000 · 1.10005


def test_a_margin_rate_that_is_none_or_would_close_the_account_is_refused(served):
    served.order(4_000_000)

    for rate, reason in (("7", "MARGIN_RATE_INVALID"), ("0.5", "MARGIN_RATE_WOULD_TRIGGER_CLOSEOUT")):
        answer = served.patch("configuration", {"marginRate": rate})
        assert (answer.status, answer.body["errorCode"]) == (400, reason)
        assert answer.body["clientConfigureRejectTransaction"]["rejectReason"] == reason


# --- Changes -----------------------------------------------------------------------------------------------------------------


def test_changes_since_a_transaction_are_those_of_the_transactions_after_it(lived):
    body = lived.get("changes", sinceTransactionID="6").body
    changes = body["changes"]

    assert [each["id"] for each in changes["transactions"]] == [str(number) for number in range(7, 15)]
    assert [each["id"] for each in changes["ordersCreated"]] == ["7", "10", "12"]
    assert [each["id"] for each in changes["ordersCancelled"]] == ["7"]
    assert [each["id"] for each in changes["ordersFilled"]] == ["10", "12"]
    assert [each["id"] for each in changes["tradesOpened"]] == ["13"]
    assert [(each["id"], each["currentUnits"]) for each in changes["tradesReduced"]] == [("4", "600")]
    assert changes["tradesClosed"] == changes["ordersTriggered"] == []
    assert [each["instrument"] for each in changes["positions"]] == ["EUR_USD", "GBP_USD"]
    assert body["lastTransactionID"] == "14"


def test_the_state_is_that_of_the_account(lived):
    state, account = lived.get("changes", sinceTransactionID="14").body["state"], lived.get("").body["account"]

    lists = ("orders", "trades", "positions")
    assert {key: value for key, value in state.items() if key not in lists} == {
        key: account[key] for key in state if key not in lists
    }
    assert state["trades"] == [{key: each[key] for key in ("id", "unrealizedPL", "marginUsed")} for each in account["trades"]]
    assert [each["netUnrealizedPL"] for each in state["positions"]] == [each["unrealizedPL"] for each in account["positions"]]


def test_nothing_has_changed_since_the_last_transaction(lived):
    changes = lived.get("changes", sinceTransactionID="14").body["changes"]

    assert all(part == [] for part in changes.values())


def test_a_client_that_follows_changes_knows_the_account(lived):
    """Positions, trades and orders, put together from nothing but changes, are those of the account."""
    known: dict[str, dict[str, dict]] = {"trades": {}, "orders": {}, "positions": {}}
    for since in range(2, 14):
        changes = lived.get("changes", sinceTransactionID=str(since)).body["changes"]
        for key, ended in (("tradesOpened", False), ("tradesReduced", False), ("tradesClosed", True)):
            for trade in changes[key]:
                known["trades"][trade["id"]] = trade
                assert (trade["state"] == "CLOSED") or not ended
        for key in ("ordersCreated", "ordersCancelled", "ordersFilled"):
            known["orders"] |= {order["id"]: order for order in changes[key]}
        known["positions"] |= {position["instrument"]: position for position in changes["positions"]}

    account = lived.get("").body["account"]
    assert [each for each in known["trades"].values() if each["state"] == "OPEN"] == account["trades"]
    assert list(known["positions"].values()) == account["positions"]
    assert [each for each in known["orders"].values() if each["state"] == "PENDING"] == account["orders"]


def test_a_trailing_stop_has_its_value_and_distance_in_the_state(served):
    served.order(1000, trailingStopLossOnFill={"distance": "0.00500"})
    served.exchange.price("EUR_USD", "1.10300", "1.10310")
    served.exchange.price("EUR_USD", "1.10200", "1.10210")

    state = served.get("changes", sinceTransactionID="2").body["state"]

    assert state["orders"] == [
        {"id": "5", "trailingStopValue": "1.09800", "triggerDistance": "0.00400", "isTriggerDistanceExact": True}
    ]


def test_financing_changes_the_position(served):
    served.order(1000)
    served.exchange.until("2024-03-05T22:00:00")

    changes = served.get("changes", sinceTransactionID="4").body["changes"]

    assert types(changes["transactions"]) == ["DAILY_FINANCING"]
    assert changes["positions"][0]["financing"] == changes["transactions"][0]["financing"] != "0.0000"


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({}, 400, "The request was missing required data"),
        ({"sinceTransactionID": "x"}, 400, "Invalid value specified for 'sinceTransactionID'"),
        ({"sinceTransactionID": "15"}, 416, "The transaction range specified is invalid"),
    ],
)
def test_changes_since_what_never_was_are_refused(lived, query, status, words):
    answer = lived.get("changes", **query)

    assert (answer.status, answer.body) == (status, {"errorMessage": words})


def test_changes_from_too_far_back_are_refused_like_oandas():
    exchange = Simulated()
    for number in range(CHANGES_AT_ONCE):
        exchange.engine.configure(ACCOUNT, {"alias": str(number)})
    with Scripted(exchange) as server:
        last = exchange.account.last_id
        assert server.get("changes", sinceTransactionID=str(last - CHANGES_AT_ONCE)).status == 200
        assert server.get("changes", sinceTransactionID=str(last - CHANGES_AT_ONCE - 1)).status == 416


# --- Transactions --------------------------------------------------------------------------------------------------------------


def ids(answer) -> list[int]:
    return [int(each["id"]) for each in answer.body["transactions"]]


def test_transactions_come_by_id_by_range_and_since(lived):
    kept = lived.exchange.account.transactions

    assert lived.get("transactions/5").body == {"transaction": kept[4], "lastTransactionID": "14"}
    assert lived.get("transactions/idrange", from_="3", to="6").body["transactions"] == kept[2:6]
    assert lived.get("transactions/sinceid", id="11").body["transactions"] == kept[11:]
    assert ids(lived.get("transactions/sinceid", id="0")) == list(range(1, 15))
    assert ids(lived.get("transactions/sinceid", id="14")) == []
    assert ids(lived.get("transactions/idrange", from_="1", to="14", type="ORDER_FILL,CREATE")) == [1, 4, 11, 13]
    assert ids(lived.get("transactions/sinceid", id="0", type="FUNDING")) == [2]
    assert ids(lived.get("transactions/sinceid", id="2", type="ADMIN")) == [9]
    assert ids(lived.get("transactions/sinceid", id="2", type="ORDER")) == [3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("transactions/15", {}, 404),
        ("transactions/0", {}, 404),
        ("transactions/x", {}, 404),
        ("transactions/idrange", {"from_": "1"}, 400),
        ("transactions/idrange", {"from_": "1", "to": "x"}, 400),
        ("transactions/idrange", {"from_": "1", "to": "2", "type": "NOTHING"}, 400),
        ("transactions/idrange", {"from_": "0", "to": "2"}, 416),
        ("transactions/idrange", {"from_": "3", "to": "2"}, 416),
        ("transactions/idrange", {"from_": "3", "to": "15"}, 416),
        ("transactions/sinceid", {}, 400),
        ("transactions/sinceid", {"id": "-1"}, 400),
        ("transactions/sinceid", {"id": "15"}, 416),
        ("transactions", {"pageSize": "0"}, 400),
        ("transactions", {"pageSize": "1001"}, 400),
        ("transactions", {"from_": "soon"}, 400),
        ("transactions", {"from_": "2024-03-05T12:00:00Z", "to": "2024-03-04T12:00:00Z"}, 416),
    ],
)
def test_what_is_no_transaction_or_no_range_is_refused(lived, path, query, status):
    answer = lived.get(path, **query)

    assert answer.status == status
    assert answer.body["errorMessage"]
    assert answer.body.get("errorCode") == ("NO_SUCH_TRANSACTION" if status == 404 else None)


def test_pages_are_addresses_of_ranges_and_hold_every_transaction_once(lived):
    body = lived.get("transactions", pageSize="4").body

    assert (body["count"], body["pageSize"]) == (14, 4)
    assert body["pages"][0] == f"{lived.url}{TRANSACTIONS}/idrange?from=1&to=4"
    assert body["pages"][-1] == f"{lived.url}{TRANSACTIONS}/idrange?from=13&to=14"
    found = [number for page in body["pages"] for number in ids(lived.get(page.removeprefix(lived.url)))]
    assert found == list(range(1, 15))
    assert "type" not in body
    assert lived.get("transactions").body["pageSize"] == 100
    one_left = lived.get("transactions", pageSize="13").body["pages"]
    assert [page.partition("?")[2] for page in one_left] == ["from=1&to=13", "from=14&to=14"]


def test_filtered_pages_hold_what_was_asked_for_and_nothing_else(lived):
    body = lived.get("transactions", pageSize="2", type="ORDER_FILL,ORDER_CANCEL").body

    assert (body["count"], body["type"]) == (4, ["ORDER_FILL", "ORDER_CANCEL"])
    pages = [ids(lived.get(page.removeprefix(lived.url))) for page in body["pages"]]
    assert pages == [[4, 8], [11, 13]]
    nothing = lived.get("transactions", type="MARGIN_CALL_EXTEND").body
    assert (nothing["count"], nothing["pages"]) == (0, [])


def test_pages_are_of_the_time_asked_for(lived):
    of_today = lived.get("transactions", from_="2024-03-05T00:00:00Z").body
    before = lived.get("transactions", from_="2000-01-01", to="2024-03-04T00:00:00Z").body

    assert (of_today["count"], of_today["from"]) == (12, "2024-03-05T00:00:00.000000000Z")
    assert of_today["to"] == "2024-03-05T12:00:04.000000000Z"
    assert (before["count"], before["from"]) == (2, "2005-01-03T00:00:00.000000000Z")


def test_every_word_of_the_filter_is_known():
    if (judge := spec()) is None:
        pytest.skip("OANDA's schema is not here")

    assert set(FILTERS) == set(judge.schemas["TransactionFilter"]["enum"])


def test_the_transactions_over_http_are_the_account(lived):
    """A client that replays what it gets stands where the exchange stands."""
    replayed = Account.replay(lived.exchange.account.config, lived.get("transactions/sinceid", id="0").body["transactions"])

    assert replayed.balance == lived.exchange.account.balance
    assert [trade.units for trade in replayed.open.values()] == [trade.units for trade in lived.exchange.account.open.values()]
    assert list(replayed.pending) == list(lived.exchange.account.pending)
