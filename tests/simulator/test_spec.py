"""The judge of answers itself: that it knows every call, that it catches what is wrong, and that its tables say what is so."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from simulated import ACCOUNT
from simulator.served import Scripted
from simulator.spec import NEWER_CANCEL_REASONS, NEWER_KEYS, NEWER_TOPS, SPEC, Spec, Wrong, spec

from mbats.simulator.rest.app import ROUTES

pytestmark = pytest.mark.skipif(not SPEC.exists(), reason="OANDA's schema is not here")

LIMIT = {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": "100", "price": "1.05"}}
NAMES = {"clientExtensions": {"id": "x"}}

# Every call of contract §1.3 but the two streams: method, path below the account, query and body.
CALLS: tuple[tuple[str, str, dict[str, str], Any], ...] = (
    ("GET", "/v3/accounts", {}, None),
    ("GET", "", {}, None),
    ("GET", "summary", {}, None),
    ("GET", "instruments", {"instruments": "EUR_USD"}, None),
    ("PATCH", "configuration", {}, {"alias": "a"}),
    ("GET", "changes", {"sinceTransactionID": "1"}, None),
    ("GET", "/v3/instruments/EUR_USD/candles", {"price": "MBA"}, None),
    ("GET", "instruments/EUR_USD/candles", {"units": "1"}, None),
    ("GET", "candles/latest", {"candleSpecifications": "EUR_USD:M1:MBA"}, None),
    ("POST", "orders", {}, LIMIT),
    ("GET", "orders", {}, None),
    ("GET", "pendingOrders", {}, None),
    ("GET", "orders/8", {}, None),
    ("PUT", "orders/8", {}, LIMIT),
    ("PUT", "orders/8/cancel", {}, None),
    ("PUT", "orders/8/clientExtensions", {}, NAMES),
    ("GET", "trades", {}, None),
    ("GET", "openTrades", {}, None),
    ("GET", "trades/4", {}, None),
    ("PUT", "trades/4/close", {}, {"units": "1"}),
    ("PUT", "trades/4/clientExtensions", {}, NAMES),
    ("PUT", "trades/4/orders", {}, {"takeProfit": {"price": "1.2"}, "stopLoss": None}),
    ("GET", "positions", {}, None),
    ("GET", "openPositions", {}, None),
    ("GET", "positions/EUR_USD", {}, None),
    ("PUT", "positions/EUR_USD/close", {}, {"longUnits": "ALL"}),
    ("GET", "transactions", {"type": "ORDER"}, None),
    ("GET", "transactions/4", {}, None),
    ("GET", "transactions/idrange", {"from": "1", "to": "8"}, None),
    ("GET", "transactions/sinceid", {"id": "1"}, None),
    ("GET", "pricing", {"instruments": "EUR_USD,USD_JPY", "includeHomeConversions": "true"}, None),
)


@pytest.fixture
def served() -> Iterator[Scripted]:
    """A trade (4) with all of its orders (5 to 7), and a pending order (8)."""
    server = Scripted()
    on_fill = {"takeProfitOnFill": {"price": "1.105"}, "stopLossOnFill": {"price": "1.095"}}
    server.order(1000, **on_fill, trailingStopLossOnFill={"distance": "0.01"})
    server.order(100, type="LIMIT", price="1.05000", clientExtensions={"id": "l"})
    yield server
    server.close()


@pytest.mark.parametrize("times", ["RFC3339", "UNIX"])
@pytest.mark.parametrize(("method", "path", "query", "body"), CALLS, ids=lambda part: part if isinstance(part, str) else "")
def test_every_call_is_answered_as_published(served, method, path, query, body, times):
    answer = served.call(method, path, body=body, headers={"Accept-Datetime-Format": times}, **query)

    assert answer.status in (200, 201)
    assert times == "RFC3339" or not re.search(r"\d{4}-\d\d-\d\dT", json.dumps(answer.body))


def test_every_route_is_called():
    called = {(method, _template(path)) for method, path, _, _ in CALLS}
    routes = {(method, re.sub(r"\{\w+\}", "*", path)) for method, path, _ in ROUTES if path.startswith("/v3")}

    assert called == routes


def _template(path: str) -> str:
    whole = path if path.startswith("/") else f"/v3/accounts/*/{path}".rstrip("/")
    return re.sub(r"(?<=/)(\d+|EUR_USD)(?=/|$)", "*", whole)


# --- What the judge catches ---------------------------------------------------------------------------------------------------


def _cut(*path: Any) -> Callable[[Any], None]:
    def spoil(body: Any) -> None:
        del _at(body, path[:-1])[path[-1]]

    return spoil


def _put(value: Any, *path: Any) -> Callable[[Any], None]:
    def spoil(body: Any) -> None:
        _at(body, path[:-1])[path[-1]] = value

    return spoil


def _at(body: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        body = body[part]
    return body


@pytest.mark.parametrize(
    "spoil",
    [
        _cut("lastTransactionID"),
        _cut("orders"),
        _cut("orders", 0, "type"),
        _cut("orders", 0, "timeInForce"),
        _cut("orders", 3, "tradeID"),
        _put("1", "lastTransaction"),
        _put("x", "orders", 0, "note"),
        _put(1.05, "orders", 0, "price"),
        _put("1,05", "orders", 0, "price"),
        _put("1e2", "orders", 0, "units"),
        _put("LIMITED", "orders", 0, "type"),
        _put("STOP", "orders", 3, "type"),
        _put("SOON", "orders", 0, "timeInForce"),
        _put("OPEN", "orders", 0, "state"),
        _put("2024-03-05T12:00:03Z", "orders", 0, "createTime"),
        _put("2024-03-05T12:00:03.000000Z", "orders", 0, "createTime"),
        _put("1709640003.000000000", "orders", 0, "createTime"),
        _put("EURUSD", "orders", 0, "instrument"),
        _put(3, "orders", 0, "id"),
        _put("", "lastTransactionID"),
        _put([], "orders", 0, "clientExtensions"),
    ],
)
def test_a_spoiled_answer_is_wrong(served, spoil):
    body = served.get("orders").body
    spoiled = copy.deepcopy(body)
    spoil(spoiled)
    judge = spec()
    assert judge is not None

    judge.check("GET", f"/v3/accounts/{ACCOUNT}/orders", 200, body)
    with pytest.raises(Wrong):
        judge.check("GET", f"/v3/accounts/{ACCOUNT}/orders", 200, spoiled)


@pytest.mark.parametrize("body", [{}, {"message": "no"}, {"errorMessage": 1}, {"errorMessage": "no", "more": 1}, []])
def test_an_error_without_a_message_is_wrong(body):
    judge = spec()
    assert judge is not None

    judge.check("GET", "/v3/nothing", 404, {"errorMessage": "no", "errorCode": "NO"})
    for status in (400, 404, 500):
        with pytest.raises(Wrong):
            judge.check("GET", f"/v3/accounts/{ACCOUNT}/orders", status, body)


def test_unix_times_are_wrong_where_the_others_were_asked_for_and_the_reverse(served):
    body = served.get("transactions/4").body
    unix = spec("UNIX")
    assert unix is not None

    with pytest.raises(Wrong, match="does not match"):
        unix.check("GET", f"/v3/accounts/{ACCOUNT}/transactions/4", 200, body)


def test_an_answer_that_is_wrong_makes_the_test_fail_that_asked_for_it(served, monkeypatch):
    monkeypatch.setattr("mbats.simulator.rest.orders.order_body", lambda *_: {"id": "1"})

    with pytest.raises(Wrong, match="None is none of MARKET"):
        served.get("orders")


# --- The tables ---------------------------------------------------------------------------------------------------------------


def test_what_is_listed_as_newer_is_not_in_the_schema():
    published = json.loads((SPEC / "v20v3.json").read_text())["components"]["schemas"]

    assert [(name, key) for name, keys in NEWER_KEYS.items() for key in keys if key in published[name]["properties"]] == []
    assert not set(NEWER_CANCEL_REASONS) & set(published["OrderCancelReason"]["enum"])
    for _, path, status in NEWER_TOPS:
        assert path == "*" or path in Spec("RFC3339").document["paths"]
        assert status in (400, 404)


def test_every_transaction_and_order_has_a_schema_of_its_own():
    judge = spec()
    assert judge is not None

    assert set(judge.schemas["Transaction"]["dispatch"]) == set(judge.schemas["TransactionType"]["enum"]) - {"FIXED_PRICE_ORDER"}
    assert set(judge.schemas["Order"]["dispatch"]) == set(judge.schemas["OrderType"]["enum"]) - {"FIXED_PRICE"}
