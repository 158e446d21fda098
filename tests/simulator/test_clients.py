"""oandapyV20, which nobody here wrote, works with a simulator process unchanged: every request class, and its helpers."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import oandapyV20.contrib.requests as bodies
import pytest
from oandapyV20 import API, V20Error, endpoints, oandapyV20
from oandapyV20.contrib.factories import InstrumentsCandlesFactory
from oandapyV20.endpoints import accounts, instruments, orders, positions, pricing, trades, transactions
from oandapyV20.endpoints.apirequest import APIRequest
from simulator.running import ACCOUNT, TOKEN, Running
from simulator.spec import judge

LEFT_OUT = {
    "InstrumentsOrderBook": "books are out of scope",
    "InstrumentsPositionBook": "books are out of scope",
    **dict.fromkeys(
        ("Calendar", "HistoricalPositionRatios", "Spreads", "CommitmentsOfTraders", "OrderbookData", "Autochartist"),
        "the labs are no part of v3",
    ),
}


def every_class() -> dict[str, type[APIRequest]]:
    """All request classes that the package has."""
    modules = [importlib.import_module(f"{endpoints.__name__}.{each.name}") for each in pkgutil.iter_modules(endpoints.__path__)]
    found = [
        each for module in modules for each in vars(module).values() if inspect.isclass(each) and issubclass(each, APIRequest)
    ]
    return {each.__name__: each for each in found if getattr(each, "ENDPOINT", "")}


# --- A client of a process whose answers are judged ---------------------------------------------------------------------------


def client_of(running: Running, patch: pytest.MonkeyPatch, **options: Any) -> API:
    environments = oandapyV20.TRADING_ENVIRONMENTS
    patch.setitem(environments, "simulator", {"api": running.url, "stream": running.stream_url})
    api = API(access_token=TOKEN, environment="simulator", request_params={"timeout": (3.05, 30)}, **options)
    api.client.hooks["response"].append(judge)
    return api


@pytest.fixture
def api(fresh: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[API]:
    """A client of an exchange with an open trade (4) that has a stop loss (5), and a pending order (6)."""
    fresh.price("150.000", "150.010", "USD_JPY")
    with client_of(fresh, monkeypatch) as api:
        api.request(orders.OrderCreate(ACCOUNT, data=order(100, stopLossOnFill={"price": "1.07000"})))
        api.request(orders.OrderCreate(ACCOUNT, data=order(100, type="LIMIT", price="1.05000", clientExtensions={"id": "mine"})))
        yield api


def order(units: int, instrument: str = "EUR_USD", **more: Any) -> dict[str, Any]:
    return {"order": {"type": "MARKET", "instrument": instrument, "units": str(units)} | more}


LIMIT = order(200, type="LIMIT", price="1.06000")
NAMES = {"clientExtensions": {"id": "other", "comment": "c"}}

# Every class with what it is made of here, and a word on what comes back.
CALLS: dict[str, tuple[Callable[[], APIRequest], Callable[[Any], object]]] = {
    "AccountList": (accounts.AccountList, lambda body: body["accounts"][0]["id"]),
    "AccountDetails": (lambda: accounts.AccountDetails(ACCOUNT), lambda body: body["account"]["trades"][0]["id"]),
    "AccountSummary": (lambda: accounts.AccountSummary(ACCOUNT), lambda body: body["account"]["openTradeCount"]),
    "AccountInstruments": (
        lambda: accounts.AccountInstruments(ACCOUNT, params={"instruments": "EUR_USD,USD_JPY"}),
        lambda body: [each["name"] for each in body["instruments"]],
    ),
    "AccountConfiguration": (
        lambda: accounts.AccountConfiguration(ACCOUNT, data={"marginRate": "0.05"}),
        lambda body: body["clientConfigureTransaction"]["marginRate"],
    ),
    "AccountChanges": (
        lambda: accounts.AccountChanges(ACCOUNT, params={"sinceTransactionID": 4}),
        lambda body: [each["id"] for each in body["changes"]["ordersCreated"]],
    ),
    "InstrumentsCandles": (
        lambda: instruments.InstrumentsCandles("EUR_USD", params={"granularity": "M5", "count": 3, "price": "BA"}),
        lambda body: [each["complete"] for each in body["candles"]],
    ),
    "OrderCreate": (lambda: orders.OrderCreate(ACCOUNT, data=LIMIT), lambda body: body["orderCreateTransaction"]["id"]),
    "OrderList": (
        lambda: orders.OrderList(ACCOUNT, params={"instrument": "EUR_USD"}),
        lambda body: [each["id"] for each in body["orders"]],
    ),
    "OrdersPending": (lambda: orders.OrdersPending(ACCOUNT), lambda body: [each["id"] for each in body["orders"]]),
    "OrderDetails": (lambda: orders.OrderDetails(ACCOUNT, orderID="@mine"), lambda body: body["order"]["id"]),
    "OrderReplace": (
        lambda: orders.OrderReplace(ACCOUNT, orderID="6", data=LIMIT),
        lambda body: body["orderCreateTransaction"]["replacesOrderID"],
    ),
    "OrderCancel": (lambda: orders.OrderCancel(ACCOUNT, orderID="6"), lambda body: body["orderCancelTransaction"]["reason"]),
    "OrderClientExtensions": (
        lambda: orders.OrderClientExtensions(ACCOUNT, orderID="6", data=NAMES),
        lambda body: body["orderClientExtensionsModifyTransaction"]["orderID"],
    ),
    "PositionList": (lambda: positions.PositionList(ACCOUNT), lambda body: len(body["positions"])),
    "OpenPositions": (lambda: positions.OpenPositions(ACCOUNT), lambda body: body["positions"][0]["long"]["units"]),
    "PositionDetails": (
        lambda: positions.PositionDetails(ACCOUNT, instrument="EUR_USD"),
        lambda body: body["position"]["long"]["tradeIDs"],
    ),
    "PositionClose": (
        lambda: positions.PositionClose(ACCOUNT, instrument="EUR_USD", data={"longUnits": "ALL"}),
        lambda body: body["longOrderFillTransaction"]["units"],
    ),
    "PricingInfo": (
        lambda: pricing.PricingInfo(ACCOUNT, params={"instruments": "EUR_USD,USD_JPY"}),
        lambda body: [each["closeoutBid"] for each in body["prices"]],
    ),
    "PricingStream": (
        lambda: pricing.PricingStream(ACCOUNT, params={"instruments": "EUR_USD", "snapshot": True}),
        lambda lines: next(lines)["closeoutBid"],
    ),
    "TradesList": (lambda: trades.TradesList(ACCOUNT, params={"state": "OPEN"}), lambda body: body["trades"][0]["id"]),
    "OpenTrades": (lambda: trades.OpenTrades(ACCOUNT), lambda body: body["trades"][0]["stopLossOrder"]["id"]),
    "TradeDetails": (lambda: trades.TradeDetails(ACCOUNT, tradeID="4"), lambda body: body["trade"]["currentUnits"]),
    "TradeClose": (lambda: trades.TradeClose(ACCOUNT, tradeID="4"), lambda body: body["orderFillTransaction"]["units"]),
    "TradeClientExtensions": (
        lambda: trades.TradeClientExtensions(ACCOUNT, tradeID="4", data=NAMES),
        lambda body: body["tradeClientExtensionsModifyTransaction"]["tradeID"],
    ),
    "TradeCRCDO": (
        lambda: trades.TradeCRCDO(ACCOUNT, tradeID="4", data={"takeProfit": {"price": "1.20000"}, "stopLoss": None}),
        lambda body: (body["takeProfitOrderTransaction"]["tradeID"], body["stopLossOrderCancelTransaction"]["orderID"]),
    ),
    "TransactionList": (
        lambda: transactions.TransactionList(ACCOUNT, params={"pageSize": 200}),
        lambda body: (body["count"], len(body["pages"])),
    ),
    "TransactionDetails": (
        lambda: transactions.TransactionDetails(ACCOUNT, transactionID="4"),
        lambda body: body["transaction"]["type"],
    ),
    "TransactionIDRange": (
        lambda: transactions.TransactionIDRange(ACCOUNT, params={"from": 1, "to": 3}),
        lambda body: [each["type"] for each in body["transactions"]],
    ),
    "TransactionsSinceID": (
        lambda: transactions.TransactionsSinceID(ACCOUNT, params={"id": 5}),
        lambda body: [each["id"] for each in body["transactions"]],
    ),
    "TransactionsStream": (
        lambda: transactions.TransactionsStream(ACCOUNT),
        lambda lines: next(lines)["lastTransactionID"],
    ),
}
EXPECTED = {
    "AccountList": ACCOUNT,
    "AccountDetails": "4",
    "AccountSummary": 1,
    "AccountInstruments": ["EUR_USD", "USD_JPY"],
    "AccountConfiguration": "0.05",
    "AccountChanges": ["5", "6"],
    "InstrumentsCandles": [False],
    "OrderCreate": "7",
    "OrderList": ["6", "5"],
    "OrdersPending": ["6", "5"],
    "OrderDetails": "6",
    "OrderReplace": "6",
    "OrderCancel": "CLIENT_REQUEST",
    "OrderClientExtensions": "6",
    "PositionList": 1,
    "OpenPositions": "100",
    "PositionDetails": ["4"],
    "PositionClose": "-100",
    "PricingInfo": ["1.08000", "150.000"],
    "PricingStream": "1.08000",
    "TradesList": "4",
    "OpenTrades": "5",
    "TradeDetails": "100",
    "TradeClose": "-100",
    "TradeClientExtensions": "4",
    "TradeCRCDO": ("4", "5"),
    "TransactionList": (6, 1),
    "TransactionDetails": "ORDER_FILL",
    "TransactionIDRange": ["CREATE", "TRANSFER_FUNDS", "MARKET_ORDER"],
    "TransactionsSinceID": ["6"],
    "TransactionsStream": "6",
}


@pytest.mark.parametrize("name", CALLS)
def test_every_request_class_works_unchanged(api, name):
    make, look = CALLS[name]
    request = make()

    answer = api.request(request)

    assert look(answer) == EXPECTED[name]
    assert "stream" in str(request) or request.status_code == request.expected_status


def test_no_request_class_is_forgotten():
    assert set(every_class()) == set(CALLS) | set(LEFT_OUT)


def test_what_is_left_out_is_answered_404(api):
    with pytest.raises(V20Error) as refusal:
        api.request(instruments.InstrumentsOrderBook("EUR_USD"))

    assert refusal.value.code == 404


def test_the_client_may_ask_for_unix_times(fresh, monkeypatch):
    with client_of(fresh, monkeypatch, headers={"Accept-Datetime-Format": "UNIX"}) as api:
        answer = api.request(orders.OrderCreate(ACCOUNT, data=order(100)))

    assert answer["orderFillTransaction"]["fullPrice"]["timestamp"] == "1715680800.000000000"


# --- The helpers that make bodies ---------------------------------------------------------------------------------------------

HELPERS: dict[str, Callable[[], Any]] = {
    "MarketOrderRequest": lambda: bodies.MarketOrderRequest("EUR_USD", units=100),
    "LimitOrderRequest": lambda: bodies.LimitOrderRequest("EUR_USD", units=100, price=1.05),
    "StopOrderRequest": lambda: bodies.StopOrderRequest("EUR_USD", units=100, price=1.2),
    "MITOrderRequest": lambda: bodies.MITOrderRequest("EUR_USD", units=100, price=1.05),
    "TakeProfitOrderRequest": lambda: bodies.TakeProfitOrderRequest(tradeID="4", price=1.2),
    "StopLossOrderRequest": lambda: bodies.StopLossOrderRequest(tradeID="8", price=1.05),
    "TrailingStopLossOrderRequest": lambda: bodies.TrailingStopLossOrderRequest(tradeID="4", distance=0.005),
}


@pytest.mark.parametrize("name", HELPERS)
def test_orders_made_by_the_helpers_are_accepted(api, name):
    api.request(orders.OrderCreate(ACCOUNT, data=order(100)))  # trade 8, which has no orders yet
    answer = api.request(orders.OrderCreate(ACCOUNT, data=HELPERS[name]().data))

    assert answer["orderCreateTransaction"]["reason"] == "CLIENT_ORDER"
    assert "orderCancelTransaction" not in answer


def test_on_fill_orders_and_names_made_by_the_helpers_are_accepted(api):
    helper = bodies.MarketOrderRequest(
        "EUR_USD",
        units=100,
        takeProfitOnFill=bodies.TakeProfitDetails(price=1.2, clientExtensions=bodies.ClientExtensions(clientID="tp").data).data,
        stopLossOnFill=bodies.StopLossDetails(price=1.05).data,
        trailingStopLossOnFill=bodies.TrailingStopLossDetails(distance=0.005).data,
        tradeClientExtensions=bodies.ClientExtensions(clientID="t", clientComment="c").data,
    )

    answer = api.request(orders.OrderCreate(ACCOUNT, data=helper.data))

    trade = api.request(trades.TradeDetails(ACCOUNT, tradeID="@t"))["trade"]
    assert len(answer["relatedTransactionIDs"]) == 5
    assert trade["takeProfitOrder"]["clientExtensions"] == {"id": "tp"}
    assert trade["trailingStopLossOrder"]["distance"] == "0.00500"


def test_closes_made_by_the_helpers_are_accepted(api):
    part = api.request(trades.TradeClose(ACCOUNT, tradeID="4", data=bodies.TradeCloseRequest(units=40).data))
    rest = api.request(positions.PositionClose(ACCOUNT, "EUR_USD", data=bodies.PositionCloseRequest(longUnits=60).data))

    assert part["orderFillTransaction"]["tradeReduced"]["units"] == "-40"
    assert rest["longOrderFillTransaction"]["tradesClosed"][0]["units"] == "-60"


def test_the_helpers_five_decimals_are_too_many_for_yen(api):
    """As users found out: the library writes every price with five digits."""
    helper = bodies.LimitOrderRequest("USD_JPY", units=100, price=140.5)

    with pytest.raises(V20Error) as refusal:
        api.request(orders.OrderCreate(ACCOUNT, data=helper.data))

    said = json.loads(str(refusal.value))
    assert (refusal.value.code, said["errorCode"]) == (400, "PRICE_PRECISION_EXCEEDED")
    assert said["orderRejectTransaction"]["price"] == "140.50000"


def test_refusals_reach_the_caller_with_oandas_words(api):
    with pytest.raises(V20Error, match="Maximum value for 'count' exceeded") as refusal:
        api.request(instruments.InstrumentsCandles("EUR_USD", params={"count": 5001}))
    assert refusal.value.code == 400


# --- On the sample market, in real time ---------------------------------------------------------------------------


def test_the_factory_of_oandapyv20_downloads_a_history_without_hole_or_double(simulator, monkeypatch):
    start = (datetime.now(UTC) - timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    params = {"granularity": "M15", "from": start, "count": 200, "price": "BA"}
    times: list[str] = []
    with client_of(simulator, monkeypatch) as api:
        for request in InstrumentsCandlesFactory("USD_CAD", params=params):
            times += [candle["time"] for candle in api.request(request)["candles"]]
        whole = api.request(
            instruments.InstrumentsCandles("USD_CAD", params={"granularity": "M15", "from": start, "count": 5000})
        )

    assert list(dict.fromkeys(times)) == [candle["time"] for candle in whole["candles"]]
    assert times == sorted(times)
