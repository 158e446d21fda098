"""Every way in which the answer to an order can fail to come, and that no order is ever sent twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from fakes import ACCOUNT, TOKEN
from faulty_server import FIN, HANG, RESET, Act, FaultyServer, answer, cut_answer
from pydantic import SecretStr

from mbats.oanda.outcomes import Accepted, Outcome, Refused, Throttled, Unknown, Why
from mbats.oanda.sessions import Sessions
from mbats.oanda.trading import KEEP, TradingClient

ORDER = {"type": "MARKET", "instrument": "EUR_USD", "units": Decimal("1000"), "clientExtensions": {"id": "mb-x-1"}}
CREATED = {"id": "999", "type": "MARKET_ORDER", "time": "2024-03-05T12:00:00.123456789Z", "instrument": "EUR_USD"}
FILLED = {"id": "1000", "type": "ORDER_FILL", "orderID": "999", "time": "2024-03-05T12:00:00.123456789Z"}
DONE = {
    "orderFillTransaction": FILLED,
    "orderCreateTransaction": CREATED,
    "relatedTransactionIDs": ["999", "1000"],
    "lastTransactionID": "1000",
}
REJECTED = {
    "orderRejectTransaction": {"id": "7", "type": "MARKET_ORDER_REJECT", "rejectReason": "PRICE_PRECISION_EXCEEDED"},
    "lastTransactionID": "7",
    "errorMessage": "The price specified contains more precision than is allowed for the instrument",
    "errorCode": "PRICE_PRECISION_EXCEEDED",
}

CALLS: dict[str, Callable[[TradingClient], Outcome]] = {
    "submit": lambda trading: trading.submit_order(ORDER),
    "replace": lambda trading: trading.replace_order(12, ORDER),
    "cancel": lambda trading: trading.cancel_order("@mb-x-1"),
    "close trade": lambda trading: trading.close_trade(12),
    "trade orders": lambda trading: trading.set_trade_orders(12, stop_loss={"price": Decimal("1.1")}),
    "close position": lambda trading: trading.close_position("EUR_USD", long_units="ALL"),
}

# What oandapyV20 makes an exception of, and some things that it does not notice.
UNKNOWN: dict[str, Act] = {
    "reset after it was applied": RESET,
    "end of connection after it was applied": FIN,
    "answer after the time-out": HANG,
    "answer that is cut": cut_answer(201, DONE),
    "503 as a page": answer(503, b"<html>Service Unavailable</html>"),
    "504": answer(504, {"errorMessage": "Timeout waiting for response."}),
    "500 after it was applied": answer(500, DONE),
    "half the JSON": answer(201, b'{"orderCreateTransaction": {"id"'),
    "no JSON": answer(201, b"<html>Log in to this network</html>"),
    "no UTF-8": answer(201, b"\xff\xfe"),
    "nothing at all": answer(201, b""),
    "a list": answer(201, []),
    "an object of no transaction": answer(201, {}),
    "a transaction without a number": answer(201, {"orderCreateTransaction": {"type": "MARKET_ORDER"}}),
    "a number that is none": answer(201, DONE | {"lastTransactionID": "many"}),
    "another success": answer(202, DONE),
    "a redirect": answer(307, b"", "Location: /elsewhere"),
    "408": answer(408, {"errorMessage": "Request timeout"}),
    "405": answer(405, {"errorMessage": "Method not allowed"}),
    "400 of a gateway": answer(400, b"<html>Bad Request</html>"),
    "404 of a gateway": answer(404, b"<html>Not Found</html>"),
    "400 that gives no reason": answer(400, {}),
    "400 that is cut": cut_answer(400, REJECTED),
    "no HTTP": lambda wire: (wire.send(b"SSH-2.0-OpenSSH\r\n"), wire.end())[1],
}


@pytest.fixture
def broker() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture
def trading(broker: FaultyServer) -> Iterator[TradingClient]:
    sessions = Sessions(broker.url, SecretStr(TOKEN), timeout=(5, 1), connections_per_second=50)
    yield TradingClient(sessions, ACCOUNT)
    sessions.close()


# --- No order is sent twice --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", UNKNOWN)
@pytest.mark.proves("R2")
def test_an_order_is_unknown_and_was_sent_once_after(fault, trading, broker):
    broker.then(UNKNOWN[fault])

    outcome = trading.submit_order(ORDER)

    assert isinstance(outcome, Unknown), outcome
    assert outcome.why
    assert len(broker.requests) == 1


@pytest.mark.parametrize("fault", [RESET, FIN, HANG, answer(503, b"")])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.proves("R26")
def test_no_write_of_any_kind_is_sent_again(call, fault, trading, broker):
    broker.then(fault)

    assert isinstance(CALLS[call](trading), Unknown)
    assert len(broker.requests) == 1


def test_an_order_on_a_connection_that_the_broker_has_left_meanwhile_is_sent_once(trading, broker):
    broker.then(answer(201, DONE), RESET, answer(201, DONE))
    trading.submit_order(ORDER)

    assert isinstance(trading.submit_order(ORDER), Unknown)
    assert len(broker.sent("POST")) == 2
    assert {request.connection for request in broker.requests} == {1}


def test_after_an_unknown_outcome_the_next_order_goes_out_by_a_new_connection(trading, broker):
    broker.then(RESET, answer(201, DONE))
    trading.submit_order(ORDER)

    assert isinstance(trading.submit_order(ORDER), Accepted)
    assert [request.connection for request in broker.requests] == [1, 2]


def test_a_broker_that_is_not_there_leaves_an_unknown_outcome(trading, broker):
    broker.close()

    outcome = trading.submit_order(ORDER)

    assert isinstance(outcome, Unknown)
    assert "ConnectionError" in outcome.why


def test_a_library_that_breaks_leaves_an_unknown_outcome(trading, broker):
    broker.then(answer(201, b"[" * 100_000))  # RecursionError inside json

    assert isinstance(trading.submit_order(ORDER), Unknown)


# --- What was accepted -------------------------------------------------------------------------------------------


def test_an_accepted_order_names_its_transactions_by_number_as_integers(trading, broker):
    broker.then(answer(201, DONE))

    outcome = trading.submit_order(ORDER)

    assert isinstance(outcome, Accepted)
    assert [each.id for each in outcome.transactions] == [999, 1000]
    assert [each.id for each in outcome.created] == [999]
    assert [each.id for each in outcome.fills] == [1000]
    assert (outcome.related_ids, outcome.last_id) == ((999, 1000), 1000)
    assert outcome.cancel_reason is None


@pytest.mark.parametrize("reason", ["INSUFFICIENT_MARGIN", "MARKET_HALTED", "BOUNDS_VIOLATION", "A_REASON_OF_TOMORROW"])
def test_an_order_that_is_cancelled_at_once_is_accepted_and_says_why(reason, trading, broker):
    cancel = {"id": "1000", "type": "ORDER_CANCEL", "orderID": "999", "reason": reason}
    broker.then(answer(201, {"orderCreateTransaction": CREATED, "orderCancelTransaction": cancel, "lastTransactionID": "1000"}))

    outcome = trading.submit_order(ORDER)

    assert isinstance(outcome, Accepted)
    assert outcome.cancel_reason == reason
    assert [each.id for each in outcome.cancelled] == [1000]
    assert outcome.fills == ()


def test_the_cancellation_of_the_order_that_was_replaced_is_not_that_of_the_new_one(trading, broker):
    old = {"id": "998", "type": "ORDER_CANCEL", "orderID": "12", "reason": "CLIENT_REQUEST_REPLACED"}
    body = {"orderCancelTransaction": old, "orderCreateTransaction": CREATED, "lastTransactionID": "999"}
    failed = {"id": "1000", "type": "ORDER_CANCEL", "orderID": "999", "reason": "MARKET_HALTED"}
    broker.then(answer(201, body), answer(201, body | {"replacingOrderCancelTransaction": failed}))

    assert trading.replace_order(12, ORDER).cancel_reason is None
    assert trading.replace_order(12, ORDER).cancel_reason == "MARKET_HALTED"


def test_a_cancellation_that_was_asked_for_is_accepted(trading, broker):
    cancel = {"id": "1000", "type": "ORDER_CANCEL", "orderID": "12", "reason": "CLIENT_REQUEST"}
    broker.then(answer(200, {"orderCancelTransaction": cancel, "lastTransactionID": "1000"}))

    outcome = trading.cancel_order(12)

    assert isinstance(outcome, Accepted)
    assert outcome.cancel_reason is None


def test_keys_and_types_that_did_not_exist_yesterday_do_no_harm(trading, broker):
    new = {"id": "1001", "type": "TELEPATHIC_ORDER", "time": "soon", "strange": [None]}
    broker.then(answer(201, DONE | {"telepathicOrderTransaction": new, "another": {"deep": 1}, "noneTransaction": None}))

    outcome = trading.submit_order(ORDER)

    assert [each.type for each in outcome.transactions] == ["MARKET_ORDER", "ORDER_FILL", "TELEPATHIC_ORDER"]
    assert outcome.transactions[2].time is None


# --- What was refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, REJECTED, Why.RULE, "PRICE_PRECISION_EXCEEDED"),
        (400, {"errorMessage": "Invalid value specified for 'order.instrument'"}, Why.RULE, None),
        (400, {"orderRejectTransaction": {"id": "7", "rejectReason": "UNITS_INVALID"}}, Why.RULE, "UNITS_INVALID"),
        (401, {"errorMessage": "Insufficient authorization to perform request."}, Why.CREDENTIALS, None),
        (401, b"<html>no JSON</html>", Why.CREDENTIALS, None),
        (403, {"errorMessage": "The provided request was forbidden."}, Why.FORBIDDEN, None),
        (404, {"errorMessage": "There is none", "errorCode": "NO_SUCH_TRADE"}, Why.NOT_FOUND, "NO_SUCH_TRADE"),
    ],
)
@pytest.mark.proves("R5")
def test_each_refusal_can_be_told_from_the_others(status, body, kind, code, trading, broker):
    broker.then(answer(status, body))

    outcome = trading.submit_order(ORDER)

    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.kind, outcome.error_code) == (status, kind, code)
    assert outcome.reason
    assert len(broker.requests) == 1


def test_a_refusal_hands_on_the_transaction_that_the_broker_wrote_about_it(trading, broker):
    broker.then(answer(400, REJECTED))

    outcome = trading.submit_order(ORDER)

    assert [(each.id, each.type) for each in outcome.transactions] == [(7, "MARKET_ORDER_REJECT")]
    assert outcome.reason.startswith("The price specified contains more precision")


@pytest.mark.parametrize("body", [{"errorMessage": "Rate limit exceeded"}, b"<html>slow down</html>", b""])
def test_429_means_that_it_was_certainly_not_done(body, trading, broker):
    broker.then(answer(429, body, "Retry-After: 1"))

    assert isinstance(trading.submit_order(ORDER), Throttled)
    assert len(broker.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_no_outcome_repeats_the_token(status, trading, broker):
    broker.then(answer(status, {"errorMessage": f"Bearer {TOKEN} is odd"}))

    assert TOKEN not in repr(trading.submit_order(ORDER))


# --- What is sent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "method", "path", "body"),
    [
        ("submit", "POST", "/orders", {"order": ORDER | {"units": "1000"}}),
        ("replace", "PUT", "/orders/12", {"order": ORDER | {"units": "1000"}}),
        ("cancel", "PUT", "/orders/@mb-x-1/cancel", None),
        ("close trade", "PUT", "/trades/12/close", {"units": "ALL"}),
        ("trade orders", "PUT", "/trades/12/orders", {"stopLoss": {"price": "1.1"}}),
        ("close position", "PUT", "/positions/EUR_USD/close", {"longUnits": "ALL", "shortUnits": "NONE"}),
    ],
)
def test_requests_are_what_the_v20_documentation_shows(call, method, path, body, trading, broker):
    CALLS[call](trading)

    (request,) = broker.requests
    assert (request.method, request.path) == (method, f"/v3/accounts/{ACCOUNT}{path}")
    assert (request.json if request.body else None) == body
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


def test_an_order_of_a_trade_is_cancelled_by_none_and_kept_by_silence(trading, broker):
    trading.set_trade_orders(12, take_profit=None, stop_loss=KEEP)

    assert broker.requests[0].json == {"takeProfit": None}


def test_a_change_of_nothing_is_a_mistake_of_the_caller(trading, broker):
    with pytest.raises(ValueError, match="asked to change nothing; nothing was sent"):
        trading.set_trade_orders(12)

    assert broker.requests == []


@pytest.mark.parametrize("units", [1.5, float("nan")])
@pytest.mark.proves("R20")
def test_a_float_is_refused_before_anything_is_sent(units, trading, broker):
    with pytest.raises(TypeError, match="nothing was sent"):
        trading.submit_order(ORDER | {"units": units})

    assert broker.requests == []


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_number_that_is_none_is_refused_before_anything_is_sent(number, trading, broker):
    with pytest.raises(ValueError, match="nothing was sent"):
        trading.submit_order(ORDER | {"units": Decimal(number)})

    assert broker.requests == []


def test_a_client_id_cannot_break_out_of_its_place_in_the_address(trading, broker):
    outcome: Any = trading.cancel_order("@a/../b?c")

    assert isinstance(outcome, Unknown)
    assert broker.requests[0].path.endswith("/orders/@a%2F..%2Fb%3Fc/cancel")
