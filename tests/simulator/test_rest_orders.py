"""Orders over HTTP: the answers and their headers, lists and pages, and the recorded order of what a request brings about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from simulated import ACCOUNT, types
from simulator.served import Scripted

ORDERS = f"/v3/accounts/{ACCOUNT}/orders"


@pytest.fixture
def served() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture(scope="module")
def crowded() -> Iterator[Scripted]:
    """Sixty limit orders in two pairs (ids 3 to 62), of which the first is cancelled and the last but one filled."""
    server = Scripted()
    for number in range(60):
        name, price = ("EUR_USD", "1.05000") if number % 3 else ("USD_JPY", "140.000")
        server.order(100 + number, name, "LIMIT", price=price, clientExtensions={"id": f"n{number}"})
    server.put("orders/3/cancel")
    server.put("orders/61", {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": "159", "price": "1.20000"}})
    yield server
    server.close()


def ids(answer) -> list[int]:
    return [int(order["id"]) for order in answer.body["orders"]]


def test_a_new_order_is_answered_201_with_a_link_to_it(served):
    answer = served.order(100, type="LIMIT", price="1.05000")

    assert answer.status == 201
    assert answer.headers["Location"] == f"{served.url}{ORDERS}/3"
    assert served.get(answer.headers["Location"].removeprefix(served.url)).body["order"]["price"] == "1.05000"
    assert set(answer.body) == {"orderCreateTransaction", "relatedTransactionIDs", "lastTransactionID"}


def test_201_is_not_a_fill(served):
    """Margin, halts, bounds and stops on the wrong side cancel a well-formed order."""
    served.exchange.change("halt", instrument="GBP_USD")
    asked = {
        "INSUFFICIENT_MARGIN": {"units": 5_000_000},
        "MARKET_HALTED": {"units": 1, "instrument": "GBP_USD"},
        "BOUNDS_VIOLATION": {"units": 1, "priceBound": "1.09000"},
        "STOP_LOSS_ON_FILL_LOSS": {"units": 1, "stopLossOnFill": {"price": "1.20000"}},
        "INSUFFICIENT_LIQUIDITY": {"units": 20_000_000},
    }
    for reason, more in asked.items():
        answer = served.order(**more)

        assert (answer.status, answer.body["orderCancelTransaction"]["reason"]) == (201, reason)
        assert "orderFillTransaction" not in answer.body
        assert answer.headers["Location"].endswith(f"/orders/{answer.body['orderCreateTransaction']['id']}")
    assert served.get("openTrades").body["trades"] == []


def test_a_broken_rule_of_form_is_answered_400_with_the_reject_and_its_words(served):
    answer = served.order(100, type="LIMIT", price="1.123456")

    reject = answer.body["orderRejectTransaction"]
    assert answer.status == 400
    assert "Location" not in answer.headers
    assert (reject["type"], reject["rejectReason"]) == ("LIMIT_ORDER_REJECT", "PRICE_PRECISION_EXCEEDED")
    assert answer.body == {
        "orderRejectTransaction": reject,
        "relatedTransactionIDs": ["3"],
        "lastTransactionID": "3",
        "errorMessage": "The price specified contains more precision than is allowed for the instrument",
        "errorCode": "PRICE_PRECISION_EXCEEDED",
    }


def test_a_bracket_comes_as_one_batch_in_the_recorded_order(served):
    """MARKET_ORDER, ORDER_FILL, TAKE_PROFIT_ORDER, STOP_LOSS_ORDER: one batch, one time, one request; the trade is the fill."""
    bracket = {"takeProfitOnFill": {"price": "1.10500"}, "stopLossOnFill": {"price": "1.09500"}}

    answer = served.order(1000, **bracket)

    batch = served.get("transactions/sinceid", id=2).body["transactions"]
    assert types(batch) == ["MARKET_ORDER", "ORDER_FILL MARKET_ORDER", "TAKE_PROFIT_ORDER", "STOP_LOSS_ORDER"]
    assert {(each["batchID"], each["requestID"], each["time"]) for each in batch} == {
        ("3", answer.headers["RequestID"], "2024-03-05T12:00:03.000000000Z")
    }
    assert batch[1]["tradeOpened"]["tradeID"] == batch[1]["id"] == batch[2]["tradeID"] == "4"
    assert [(each["reason"], each["orderFillTransactionID"]) for each in batch[2:]] == [("ON_FILL", "4")] * 2
    assert answer.body == {
        "orderCreateTransaction": batch[0],
        "orderFillTransaction": batch[1],
        "relatedTransactionIDs": ["3", "4", "5", "6"],
        "lastTransactionID": "6",
    }


def test_a_close_cancels_what_was_linked_to_the_trade_in_the_same_batch(served):
    """MARKET_ORDER, ORDER_FILL, and ORDER_CANCEL for each order of the trade."""
    served.order(1000, takeProfitOnFill={"price": "1.10500"}, stopLossOnFill={"price": "1.09500"})

    answer = served.put("trades/4/close", {"units": "ALL"})

    batch = served.get("transactions/sinceid", id=6).body["transactions"]
    linked = "ORDER_CANCEL LINKED_TRADE_CLOSED"
    assert types(batch) == ["MARKET_ORDER", "ORDER_FILL MARKET_ORDER_TRADE_CLOSE", linked, linked]
    assert {(each["batchID"], each["requestID"]) for each in batch} == {("7", answer.headers["RequestID"])}
    assert [(each["orderID"], each["closedTradeID"], each["tradeCloseTransactionID"]) for each in batch[2:]] == [
        ("5", "4", "8"),
        ("6", "4", "8"),
    ]
    assert answer.body == {
        "orderCreateTransaction": batch[0],
        "orderFillTransaction": batch[1],
        "relatedTransactionIDs": ["7", "8", "9", "10"],
        "lastTransactionID": "10",
    }


def test_a_take_profit_that_is_reached_cancels_the_stop_loss_without_a_request(served):
    served.order(1000, takeProfitOnFill={"price": "1.10500"}, stopLossOnFill={"price": "1.09500"})

    served.exchange.price("EUR_USD", "1.10510", "1.10520")

    batch = served.get("transactions/sinceid", id=6).body["transactions"]
    assert types(batch) == ["ORDER_FILL TAKE_PROFIT_ORDER", "ORDER_CANCEL LINKED_TRADE_CLOSED"]
    assert {each["batchID"] for each in batch} == {"7"}
    assert not any("requestID" in each for each in batch)


def test_a_replaced_order_is_cancelled_and_its_successor_named(served):
    served.order(100, type="LIMIT", price="1.05000", clientExtensions={"id": "mine", "comment": "first"})

    successor = {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": "200", "price": "1.06000"}}
    answer = served.put("orders/@mine", successor, headers={"ClientRequestID": "once"})

    cancelled, created = answer.body["orderCancelTransaction"], answer.body["orderCreateTransaction"]
    assert (answer.status, answer.headers["Location"]) == (201, f"{served.url}{ORDERS}/5")
    assert (cancelled["reason"], cancelled["replacedByOrderID"]) == ("CLIENT_REQUEST_REPLACED", "5")
    assert (created["reason"], created["replacesOrderID"]) == ("REPLACEMENT", "3")
    old, new = served.get("orders/3").body["order"], served.get("orders/@mine").body["order"]
    assert (old["state"], old["replacedByOrderID"], old["cancellingTransactionID"]) == ("CANCELLED", "5", "4")
    assert (new["id"], new["replacesOrderID"], new["units"]) == ("5", "3", "200")
    assert new["clientExtensions"] == {"id": "mine", "comment": "first"}


def test_an_order_can_be_cancelled_once(served):
    served.order(100, type="STOP", price="1.20000")

    first, second = served.put("orders/3/cancel"), served.put("orders/3/cancel")

    assert (first.status, first.body["orderCancelTransaction"]["reason"]) == (200, "CLIENT_REQUEST")
    assert (second.status, second.body["errorCode"]) == (404, "ORDER_DOESNT_EXIST")
    assert second.body["orderCancelRejectTransaction"]["orderID"] == "3"


def test_an_order_gets_names_and_is_found_by_them(served):
    served.order(100, type="LIMIT", price="1.05000")
    extensions = {"clientExtensions": {"id": "a/b c", "tag": "t"}, "tradeClientExtensions": {"comment": "later"}}

    answer = served.put("orders/3/clientExtensions", extensions)

    assert answer.body["orderClientExtensionsModifyTransaction"]["clientExtensionsModify"] == {"id": "a/b c", "tag": "t"}
    found = served.get("orders/@a%2Fb%20c").body["order"]
    assert (found["clientExtensions"], found["tradeClientExtensions"]) == ({"id": "a/b c", "tag": "t"}, {"comment": "later"})
    assert served.put("orders/9/clientExtensions", extensions).status == 404


def test_names_for_a_trade_stay_without_effect_on_an_order_that_opens_none(served):
    served.order(100, takeProfitOnFill={"price": "1.2"})

    served.put("orders/5/clientExtensions", {"clientExtensions": {"id": "tp"}, "tradeClientExtensions": {"id": "t"}})
    replaced = served.put("orders/@tp", {"order": {"type": "TAKE_PROFIT", "tradeID": "4", "price": "1.3"}})

    assert "tradeClientExtensions" not in replaced.body["orderCreateTransaction"]
    assert served.get("orders/@tp").body["order"]["clientExtensions"] == {"id": "tp"}
    assert served.get("orders/5").body["order"]["state"] == "CANCELLED"


def test_an_order_tells_what_became_of_it(served):
    served.order(300)
    served.order(-500, type="MARKET", positionFill="REDUCE_FIRST")

    filled = served.get("orders/5").body["order"]
    assert (filled["state"], filled["fillingTransactionID"], filled["filledTime"]) == (
        "FILLED",
        "6",
        "2024-03-05T12:00:03.000000000Z",
    )
    assert (filled["tradeOpenedID"], filled["tradeClosedIDs"]) == ("6", ["4"])
    served.order(100)
    assert served.get("orders/7").body["order"]["tradeReducedID"] == "6"


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ({"type": "LIMIT", "price": "1.05"}, {"partialFill", "price", "positionFill"}),
        ({"type": "STOP", "price": "1.2", "priceBound": "1.21"}, {"partialFill", "priceBound"}),
        ({"type": "MARKET_IF_TOUCHED", "price": "1.05"}, {"partialFill", "initialMarketPrice"}),
        ({"type": "LIMIT", "price": "1.05", "timeInForce": "GTD", "gtdTime": "2024-03-08T00:00:00Z"}, {"gtdTime"}),
    ],
)
def test_a_pending_order_shows_what_was_asked_for(served, more, keys):
    served.order(100, **more)

    found = served.get("pendingOrders").body["orders"][0]

    assert keys <= set(found)
    assert (found["state"], found["createTime"]) == ("PENDING", "2024-03-05T12:00:03.000000000Z")


def test_orders_of_a_trade_name_their_trade_and_a_trailing_stop_its_value(served):
    trailing = {"trailingStopLossOnFill": {"distance": "0.00500"}, "tradeClientExtensions": {"id": "t"}}
    served.order(100, **trailing)

    found = served.get("orders").body["orders"][0]

    assert (found["type"], found["tradeID"], found["clientTradeID"]) == ("TRAILING_STOP_LOSS", "4", "t")
    assert (found["distance"], found["trailingStopValue"]) == ("0.00500", "1.09500")
    assert "instrument" not in found
    served.exchange.price("EUR_USD", "1.10300", "1.10310")
    assert served.get("orders/5").body["order"]["trailingStopValue"] == "1.09800"


def test_unknown_orders_are_404_in_the_recorded_words(served):
    for name in ("9", "0", "-1", "x", "@nobody", "%00", "9" * 40):
        answer = served.get(f"orders/{name}")
        assert (answer.status, answer.body) == (
            404,
            {"lastTransactionID": "2", "errorMessage": "The order ID specified does not exist", "errorCode": "NO_SUCH_ORDER"},
        )


# --- Lists ---------------------------------------------------------------------------------------------------------------


def test_orders_are_listed_newest_first_fifty_at_a_time_with_a_link_to_the_rest(crowded):
    first = crowded.get("orders")

    assert len(ids(first)) == 50
    assert ids(first) == sorted(ids(first), reverse=True)
    link = first.headers["Link"]
    assert link == f'<{crowded.url}{ORDERS}?beforeID={ids(first)[-1]}>; rel="next"'
    second = crowded.get(link[1:].partition(">")[0].removeprefix(crowded.url))
    assert "Link" not in second.headers
    assert sorted(ids(first) + ids(second)) == sorted(set(range(3, 63)) - {3, 61})


def test_a_link_keeps_the_filters_of_the_request(crowded):
    found: list[int] = []
    path, query = "orders", {"instrument": "USD_JPY", "count": "7", "state": "ALL"}
    while path:
        answer = crowded.get(path, **query)
        found += ids(answer)
        path, query = answer.headers.get("Link", "").partition(">")[0][1:].removeprefix(crowded.url), {}

    assert found == [3 + number for number in range(59, -1, -1) if number % 3 == 0]


def test_orders_are_filtered_by_state_instrument_and_id(crowded):
    assert ids(crowded.get("orders", state="CANCELLED")) == [61, 3]
    assert ids(crowded.get("orders", state="FILLED")) == [65]
    assert ids(crowded.get("orders", state="TRIGGERED")) == []
    assert ids(crowded.get("orders", state="ALL", ids="3,4,61,999")) == [61, 4, 3]
    assert ids(crowded.get("orders", ids="3,4,5")) == [5, 4]
    assert ids(crowded.get("orders", instrument="GBP_USD")) == []
    assert ids(crowded.get("orders", beforeID="5")) == [4]
    assert len(ids(crowded.get("orders", count="500"))) == len(ids(crowded.get("pendingOrders"))) == 58


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"state": "OPEN"}, "Invalid value specified for 'state'"),
        ({"instrument": "EUR_XXX"}, "Invalid value specified for 'instrument'"),
        ({"count": "0"}, "Invalid value specified for 'count'"),
        ({"count": "501"}, "Maximum value for 'count' exceeded"),
        ({"ids": "1,x"}, "Invalid value specified for 'ids'"),
        ({"beforeID": "-1"}, "Invalid value specified for 'beforeID'"),
    ],
)
def test_wrong_filters_are_refused(crowded, query, words):
    answer = crowded.get("orders", **query)

    assert (answer.status, answer.body) == (400, {"errorMessage": words})
