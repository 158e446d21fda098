"""Trades and positions over HTTP: lists, what they show while open and when closed, and every way to close them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from simulated import ACCOUNT, Simulated
from simulator.served import Scripted


@pytest.fixture
def served() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture
def hedged() -> Iterator[Scripted]:
    server = Scripted(Simulated(hedging=True))
    yield server
    server.close()


def ids(answer) -> list[int]:
    return [int(trade["id"]) for trade in answer.body["trades"]]


def test_an_open_trade_shows_its_worth_and_its_orders_in_full(served):
    bracket = {"takeProfitOnFill": {"price": "1.10500"}, "stopLossOnFill": {"price": "1.09500"}}
    served.order(1000, **bracket, tradeClientExtensions={"id": "t", "tag": "x"})
    served.exchange.price("EUR_USD", "1.10200", "1.10210")

    trade = served.get("trades/@t").body["trade"]

    assert (trade["id"], trade["state"], trade["currentUnits"], trade["price"]) == ("4", "OPEN", "1000", "1.10010")
    assert (trade["unrealizedPL"], trade["realizedPL"], trade["marginUsed"]) == ("1.9000", "0.0000", "22.0410")
    assert (trade["takeProfitOrder"]["price"], trade["stopLossOrder"]["id"]) == ("1.10500", "6")
    assert trade["clientExtensions"] == {"id": "t", "tag": "x"}
    assert not {"closeTime", "averageClosePrice", "closingTransactionIDs"} & set(trade)
    summary = served.get("").body["account"]["trades"][0]
    assert (summary["takeProfitOrderID"], summary["stopLossOrderID"]) == ("5", "6")
    assert "takeProfitOrder" not in summary


def test_a_closed_trade_shows_what_it_made_and_no_worth(served):
    served.order(1000)
    served.exchange.price("EUR_USD", "1.10200", "1.10210")
    served.put("trades/4/close", {"units": "400"})
    served.exchange.price("EUR_USD", "1.10300", "1.10310")
    served.put("trades/4/close", {"units": "ALL"})

    trade = served.get("trades/4").body["trade"]

    assert (trade["state"], trade["currentUnits"], trade["initialUnits"]) == ("CLOSED", "0", "1000")
    assert (trade["realizedPL"], trade["averageClosePrice"]) == ("2.5000", "1.10260")  # 400 · 0.0019 + 600 · 0.0029
    assert (trade["closingTransactionIDs"], trade["closeTime"]) == (["6", "8"], "2024-03-05T12:00:05.000000000Z")
    assert not {"unrealizedPL", "marginUsed"} & set(trade)


def test_trades_are_listed_newest_first_by_state_instrument_and_id(served):
    for number, name in enumerate(("EUR_USD", "USD_JPY", "GBP_USD", "EUR_USD")):
        served.order(100 + number, name)
    served.put("trades/6/close", {"units": "ALL"})

    assert ids(served.get("trades")) == ids(served.get("openTrades")) == [10, 8, 4]
    assert ids(served.get("trades", state="CLOSED")) == [6]
    assert ids(served.get("trades", state="CLOSE_WHEN_TRADEABLE")) == []
    assert ids(served.get("trades", state="ALL", ids="4,6,7")) == [6, 4]
    assert ids(served.get("trades", instrument="EUR_USD,GBP_USD")) == [10, 8, 4]
    page = served.get("trades", instrument="EUR_USD", count="1")
    assert ids(page) == [10]
    assert page.headers["Link"].startswith(f"<{served.url}/v3/accounts/{ACCOUNT}/trades?")
    assert ids(served.get(page.headers["Link"].partition(">")[0][1:].removeprefix(served.url))) == [4]
    assert served.get("trades", state="PENDING").status == 400


def test_unknown_trades_are_404_in_the_recorded_words(served):
    for answer in (served.get("trades/4"), served.get("trades/@t"), served.put("trades/4/close", {"units": "ALL"})):
        assert (answer.status, answer.body["errorCode"]) == (404, "NO_SUCH_TRADE")
        assert answer.body["errorMessage"] == "The trade ID specified does not exist"


def test_a_trade_is_closed_in_parts_and_without_a_body_as_a_whole(served):
    served.order(1000)

    part, rest = served.put("trades/4/close", {"units": "400"}), served.put("trades/4/close")
    late = served.put("trades/4/close")

    assert part.body["orderCreateTransaction"]["tradeClose"] == {"tradeID": "4", "units": "400"}
    assert part.body["orderFillTransaction"]["tradeReduced"]["units"] == "-400"
    assert rest.body["orderFillTransaction"]["tradesClosed"][0]["units"] == "-600"
    assert (part.status, rest.status, late.status) == (200, 200, 404)


def test_more_than_there_is_cannot_be_closed(served):
    served.order(1000)

    answer = served.put("trades/4/close", {"units": "1001"})

    assert (answer.status, answer.body["errorCode"]) == (400, "CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE")
    assert answer.body["orderRejectTransaction"]["type"] == "MARKET_ORDER_REJECT"


def test_a_close_on_a_halted_market_is_answered_200_and_cancelled(served):
    served.order(1000)
    served.exchange.change("halt", instrument="EUR_USD")

    answer = served.put("trades/4/close", {"units": "ALL"})

    assert (answer.status, answer.body["orderCancelTransaction"]["reason"]) == (200, "MARKET_HALTED")


def test_orders_of_a_trade_are_set_replaced_kept_and_cancelled(served):
    served.order(1000)

    first = served.put("trades/4/orders", {"takeProfit": {"price": "1.12"}, "stopLoss": {"price": "1.08", "timeInForce": "GTC"}})
    second = served.put("trades/4/orders", {"stopLoss": {"price": "1.09"}, "trailingStopLoss": {"distance": "0.01"}})
    third = served.put("trades/4/orders", {"takeProfit": None})

    assert (first.body["takeProfitOrderTransaction"]["id"], first.body["stopLossOrderTransaction"]["id"]) == ("5", "6")
    assert second.body["stopLossOrderCancelTransaction"]["replacedByOrderID"] == second.body["stopLossOrderTransaction"]["id"]
    assert "takeProfitOrderTransaction" not in second.body
    assert third.body["takeProfitOrderCancelTransaction"]["orderID"] == "5"
    trade = served.get("trades/4").body["trade"]
    assert trade["stopLossOrder"]["price"] == "1.09000"
    assert trade["trailingStopLossOrder"]["trailingStopValue"] == "1.09000"
    assert "takeProfitOrder" not in trade


def test_a_wrong_order_of_a_trade_stops_all_of_the_request(served):
    served.order(1000)

    answer = served.put("trades/4/orders", {"takeProfit": {"price": "1.12"}, "stopLoss": {"price": "1.1234567"}})

    assert (answer.status, answer.body["errorCode"]) == (400, "PRICE_PRECISION_EXCEEDED")
    assert answer.body["stopLossOrderRejectTransaction"]["tradeID"] == "4"
    assert served.get("pendingOrders").body["orders"] == []


def test_a_trade_gets_a_name(served):
    served.order(1000)

    answer = served.put("trades/4/clientExtensions", {"clientExtensions": {"id": "t", "comment": "c"}})

    changed = answer.body["tradeClientExtensionsModifyTransaction"]
    assert changed["tradeClientExtensionsModify"] == {"id": "t", "comment": "c"}
    assert served.get("trades/@t").body["trade"]["id"] == "4"


# --- Positions -----------------------------------------------------------------------------------------------------------


def test_a_position_sums_its_trades_and_stays_listed_when_it_is_flat(served):
    served.order(1000)
    served.exchange.price("EUR_USD", "1.10200", "1.10210")
    served.order(3000)

    both = served.get("positions/EUR_USD").body["position"]
    assert (both["long"]["units"], both["long"]["averagePrice"], both["long"]["tradeIDs"]) == ("4000", "1.10160", ["4", "6"])
    assert both["short"] == {
        "units": "0",
        "pl": "0.0000",
        "unrealizedPL": "0.0000",
        "resettablePL": "0.0000",
        "financing": "0.0000",
        "dividendAdjustment": "0.0000",
        "guaranteedExecutionFees": "0.0000",
    }
    assert (both["unrealizedPL"], both["marginUsed"]) == ("1.6000", "88.1640")  # 1.9 made, 0.3 lost
    served.put("positions/EUR_USD/close", {"longUnits": "ALL"})
    flat = served.get("positions").body["positions"][0]
    assert (flat["pl"], flat["long"]["pl"], flat["long"]["units"]) == ("1.6000", "1.6000", "0")
    assert "marginUsed" not in flat
    assert served.get("openPositions").body["positions"] == []


def test_a_position_is_closed_with_a_link_to_it(served):
    served.order(1000)

    answer = served.put("positions/EUR_USD/close", {"longUnits": "600"})

    assert (answer.status, answer.headers["Location"]) == (200, f"{served.url}/v3/accounts/{ACCOUNT}/positions/EUR_USD")
    assert answer.body["longOrderCreateTransaction"]["longPositionCloseout"] == {"instrument": "EUR_USD", "units": "600"}
    assert answer.body["longOrderFillTransaction"]["tradeReduced"]["units"] == "-600"
    assert served.get("openPositions").body["positions"][0]["long"]["units"] == "400"


def test_both_sides_of_a_hedged_position_are_closed_by_one_request(hedged):
    hedged.order(1000)
    hedged.order(-400)

    before = hedged.get("positions/EUR_USD").body["position"]
    answer = hedged.put("positions/EUR_USD/close", {"longUnits": "ALL", "shortUnits": "ALL"})

    assert (before["long"]["units"], before["short"]["units"]) == ("1000", "-400")
    assert answer.body["longOrderFillTransaction"]["units"] == "-1000"
    assert answer.body["shortOrderFillTransaction"]["units"] == "400"
    assert len(answer.body["relatedTransactionIDs"]) == 4


def test_what_is_not_there_cannot_be_closed(served):
    answer = served.put("positions/EUR_USD/close", {"longUnits": "ALL"})

    assert (answer.status, answer.body["errorCode"]) == (400, "CLOSEOUT_POSITION_DOESNT_EXIST")
    assert answer.body["longOrderRejectTransaction"]["rejectReason"] == "CLOSEOUT_POSITION_DOESNT_EXIST"
    assert "Location" not in answer.headers


def test_a_pair_that_was_never_traded_has_no_position(served):
    never, unknown = served.get("positions/USD_JPY"), served.get("positions/EUR_XXX")

    assert (never.status, never.body["errorCode"]) == (404, "NO_SUCH_POSITION")
    assert (unknown.status, unknown.body) == (400, {"errorMessage": "Invalid value specified for 'instrument'"})
