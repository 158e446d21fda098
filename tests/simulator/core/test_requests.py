"""What clients ask for wrongly: every reject reason that they can provoke, and what is refused without a transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import ACCOUNT, Simulated

from mbats.simulator.core.placing import Reply
from mbats.simulator.core.requests import read_order
from mbats.simulator.errors import Refusal

SPEC = Path(__file__).resolve().parents[4] / "shared" / "oanda" / "spec" / "v20v3.json"
LONG = "x" * 129  # one more than a client may give
PAST, FUTURE = "2024-03-05T11:59:59Z", "2024-03-06T12:00:00Z"

LIMIT = {"type": "LIMIT", "price": "1.05000"}
STOP = {"type": "STOP", "price": "1.15000"}
ON_FILL = {"takeProfit": {"price": "1.20000"}, "stopLoss": {"price": "1.00000"}, "trailingStopLoss": {"distance": "0.01000"}}

Action = Callable[[Simulated], Reply]


@pytest.fixture
def exchange() -> Simulated:
    exchange = Simulated()
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.price("USD_JPY", "150.000", "150.010")
    exchange.market.instruments["GBP_USD"] = replace(exchange.market.instruments["GBP_USD"], minimum_units=Decimal(10))
    return exchange


def order(**body: Any) -> Action:
    """An order that is right but for what is said; None leaves a key out."""
    whole = {"type": "MARKET", "instrument": "EUR_USD", "units": "1000"} | body
    return lambda exchange: exchange.engine.create_order(ACCOUNT, {"order": {k: v for k, v in whole.items() if v is not None}})


def on_fill(key: str, **details: Any) -> Action:
    """A market order with one order on fill, right but for what is said."""
    whole = ON_FILL[key] | details
    return order(**{f"{key}OnFill": {name: value for name, value in whole.items() if value is not None}})


def traded(exchange: Simulated, **more: Any) -> str:
    """The id of a trade of 1,000 units bought."""
    fill = exchange.order(1000, **more).body["orderFillTransaction"]
    return str(fill["tradeOpened"]["tradeID"])


def of_trade(type: str, **body: Any) -> Action:
    """An order that ends a trade, right but for what is said."""
    right = {"TAKE_PROFIT": "takeProfit", "STOP_LOSS": "stopLoss", "TRAILING_STOP_LOSS": "trailingStopLoss"}[type]

    def act(exchange: Simulated) -> Reply:
        whole = {"type": type, "tradeID": traded(exchange), **ON_FILL[right], **body}
        return exchange.engine.create_order(ACCOUNT, {"order": {k: v for k, v in whole.items() if v is not None}})

    return act


def again(type: str, **body: Any) -> Action:
    """A second order of a type of which a trade has one at most."""

    def act(exchange: Simulated) -> Reply:
        first = of_trade(type, **body)(exchange)
        second = {"type": type, "tradeID": first.body["orderCreateTransaction"]["tradeID"], **body}
        return exchange.engine.create_order(ACCOUNT, {"order": second})

    return act


def inconsistent(exchange: Simulated) -> Reply:
    one = traded(exchange)
    traded(exchange, tradeClientExtensions={"id": "other"})
    body = {"type": "TAKE_PROFIT", "tradeID": one, "clientTradeID": "other", "price": "1.20000"}
    return exchange.engine.create_order(ACCOUNT, {"order": body})


def same_client_id_twice(exchange: Simulated) -> Reply:
    named = {"instrument": "EUR_USD", "clientExtensions": {"id": "mine"}, **LIMIT}
    exchange.order(1000, **named)
    return exchange.order(1000, **named)


def too_many_pending(exchange: Simulated) -> Reply:
    for _ in range(1001):
        reply = exchange.order(1, **LIMIT)
    return reply


def replaced_by(body: Mapping[str, Any]) -> Action:
    """A pending limit order, replaced."""

    def act(exchange: Simulated) -> Reply:
        old = exchange.order(1000, **LIMIT).body["orderCreateTransaction"]["id"]
        return exchange.engine.replace_order(ACCOUNT, old, {"order": dict(body)})

    return act


def replaced_for_another_trade(exchange: Simulated) -> Reply:
    old = of_trade("TAKE_PROFIT")(exchange).body["orderCreateTransaction"]["id"]
    body = {"type": "TAKE_PROFIT", "tradeID": traded(exchange), "price": "1.20000"}
    return exchange.engine.replace_order(ACCOUNT, old, {"order": body})


def close_trade(**body: Any) -> Action:
    return lambda exchange: exchange.engine.close_trade(ACCOUNT, traded(exchange), body)


def close_position(**body: Any) -> Action:
    def act(exchange: Simulated) -> Reply:
        traded(exchange)
        return exchange.engine.close_position(ACCOUNT, "EUR_USD", body)

    return act


def order_extensions(**body: Any) -> Action:
    def act(exchange: Simulated) -> Reply:
        pending = exchange.order(1000, **LIMIT).body["orderCreateTransaction"]["id"]
        return exchange.engine.set_order_extensions(ACCOUNT, pending, body)

    return act


def trade_extensions(**extensions: Any) -> Action:
    def act(exchange: Simulated) -> Reply:
        traded(exchange, tradeClientExtensions={"id": "taken"})
        return exchange.engine.set_trade_extensions(ACCOUNT, traded(exchange), {"clientExtensions": extensions})

    return act


def configure(**body: Any) -> Action:
    """A change of the account's configuration while a trade needs 22,001 of 100,000 at a rate of 0.02."""

    def act(exchange: Simulated) -> Reply:
        exchange.order(1_000_000)
        return exchange.engine.configure(ACCOUNT, body)

    return act


PROVOKED: dict[str, Action] = {
    "ORDER_DOESNT_EXIST": lambda exchange: exchange.engine.cancel_order(ACCOUNT, "999"),
    "INSTRUMENT_MISSING": order(instrument=None),
    "INSTRUMENT_NOT_TRADEABLE": order(instrument="EUR_GBP"),
    "UNITS_MISSING": order(units=None),
    "UNITS_INVALID": order(units="0.1"),
    "UNITS_PRECISION_EXCEEDED": order(units="1.5"),
    "UNITS_LIMIT_EXCEEDED": order(units="-100000001"),
    "UNITS_MIMIMUM_NOT_MET": order(instrument="GBP_USD", units="9"),
    "PRICE_MISSING": order(type="LIMIT"),
    "PRICE_INVALID": order(type="LIMIT", price="0"),
    "PRICE_PRECISION_EXCEEDED": order(type="MARKET_IF_TOUCHED", instrument="USD_JPY", price="110.79999999999999"),
    "PRICE_BOUND_INVALID": order(priceBound="-1"),
    "PRICE_BOUND_PRECISION_EXCEEDED": order(priceBound="1.100001"),
    "TIME_IN_FORCE_INVALID": order(timeInForce="GTC"),
    "TIME_IN_FORCE_GTD_TIMESTAMP_MISSING": order(**LIMIT, timeInForce="GTD"),
    "TIME_IN_FORCE_GTD_TIMESTAMP_IN_PAST": order(**STOP, timeInForce="GTD", gtdTime=PAST),
    "PENDING_ORDERS_ALLOWED_EXCEEDED": too_many_pending,
    "TRADE_ID_UNSPECIFIED": of_trade("TAKE_PROFIT", tradeID=None),
    "TRADE_DOESNT_EXIST": of_trade("STOP_LOSS", tradeID="999"),
    "TRADE_IDENTIFIER_INCONSISTENCY": inconsistent,
    "PRICE_DISTANCE_MISSING": of_trade("TRAILING_STOP_LOSS", distance=None),
    "PRICE_DISTANCE_INVALID": of_trade("TRAILING_STOP_LOSS", distance="0"),
    "PRICE_DISTANCE_PRECISION_EXCEEDED": of_trade("TRAILING_STOP_LOSS", distance="0.010001"),
    "PRICE_DISTANCE_MAXIMUM_EXCEEDED": of_trade("TRAILING_STOP_LOSS", distance="1.00001"),
    "PRICE_DISTANCE_MINIMUM_NOT_MET": of_trade("TRAILING_STOP_LOSS", distance="0.00049"),
    "TAKE_PROFIT_ORDER_ALREADY_EXISTS": again("TAKE_PROFIT", price="1.20000"),
    "STOP_LOSS_ORDER_ALREADY_EXISTS": again("STOP_LOSS", price="1.00000"),
    "TRAILING_STOP_LOSS_ORDER_ALREADY_EXISTS": again("TRAILING_STOP_LOSS", distance="0.01000"),
    "STOP_LOSS_ORDER_GUARANTEED_NOT_ALLOWED": of_trade("STOP_LOSS", guaranteed=True),
    "STOP_LOSS_ORDER_PRICE_AND_DISTANCE_BOTH_SPECIFIED": of_trade("STOP_LOSS", distance="0.01000"),
    "STOP_LOSS_ORDER_PRICE_AND_DISTANCE_BOTH_MISSING": of_trade("STOP_LOSS", price=None),
    "CLIENT_ORDER_ID_INVALID": order(clientExtensions={"id": LONG}),
    "CLIENT_ORDER_TAG_INVALID": order(clientExtensions={"tag": LONG}),
    "CLIENT_ORDER_COMMENT_INVALID": order(clientExtensions={"comment": LONG}),
    "CLIENT_ORDER_ID_ALREADY_EXISTS": same_client_id_twice,
    "CLIENT_TRADE_ID_INVALID": order(tradeClientExtensions={"id": ""}),
    "CLIENT_TRADE_TAG_INVALID": order(tradeClientExtensions={"tag": LONG}),
    "CLIENT_TRADE_COMMENT_INVALID": order(tradeClientExtensions={"comment": LONG}),
    "CLIENT_TRADE_ID_ALREADY_EXISTS": trade_extensions(id="taken"),
    "CLIENT_EXTENSIONS_DATA_MISSING": order_extensions(),
    "ORDERS_ON_FILL_DUPLICATE_CLIENT_ORDER_IDS": order(
        takeProfitOnFill={"price": "1.20000", "clientExtensions": {"id": "one"}},
        stopLossOnFill={"price": "1.00000", "clientExtensions": {"id": "one"}},
    ),
    "TAKE_PROFIT_ON_FILL_PRICE_MISSING": on_fill("takeProfit", price=None),
    "TAKE_PROFIT_ON_FILL_PRICE_INVALID": on_fill("takeProfit", price="0.00000"),
    "TAKE_PROFIT_ON_FILL_PRICE_PRECISION_EXCEEDED": on_fill("takeProfit", price="1.12247999999999"),
    "TAKE_PROFIT_ON_FILL_TIME_IN_FORCE_INVALID": on_fill("takeProfit", timeInForce="FOK"),
    "TAKE_PROFIT_ON_FILL_GTD_TIMESTAMP_MISSING": on_fill("takeProfit", timeInForce="GTD"),
    "TAKE_PROFIT_ON_FILL_GTD_TIMESTAMP_IN_PAST": on_fill("takeProfit", timeInForce="GTD", gtdTime=PAST),
    "TAKE_PROFIT_ON_FILL_CLIENT_ORDER_ID_INVALID": on_fill("takeProfit", clientExtensions={"id": LONG}),
    "TAKE_PROFIT_ON_FILL_CLIENT_ORDER_TAG_INVALID": on_fill("takeProfit", clientExtensions={"tag": LONG}),
    "TAKE_PROFIT_ON_FILL_CLIENT_ORDER_COMMENT_INVALID": on_fill("takeProfit", clientExtensions={"comment": LONG}),
    "STOP_LOSS_ON_FILL_GUARANTEED_NOT_ALLOWED": order(guaranteedStopLossOnFill={"price": "1.00000"}),
    "STOP_LOSS_ON_FILL_PRICE_INVALID": on_fill("stopLoss", price="-1"),
    "STOP_LOSS_ON_FILL_PRICE_PRECISION_EXCEEDED": on_fill("stopLoss", price="1.000000"),
    "STOP_LOSS_ON_FILL_DISTANCE_INVALID": on_fill("stopLoss", price=None, distance="0"),
    "STOP_LOSS_ON_FILL_DISTANCE_PRECISION_EXCEEDED": on_fill("stopLoss", price=None, distance="0.010001"),
    "STOP_LOSS_ON_FILL_PRICE_DISTANCE_MAXIMUM_EXCEEDED": on_fill("stopLoss", price=None, distance="1.00001"),
    "STOP_LOSS_ON_FILL_PRICE_AND_DISTANCE_BOTH_SPECIFIED": on_fill("stopLoss", distance="0.01000"),
    "STOP_LOSS_ON_FILL_PRICE_AND_DISTANCE_BOTH_MISSING": on_fill("stopLoss", price=None),
    "STOP_LOSS_ON_FILL_TIME_IN_FORCE_INVALID": on_fill("stopLoss", timeInForce="IOC"),
    "STOP_LOSS_ON_FILL_GTD_TIMESTAMP_MISSING": on_fill("stopLoss", timeInForce="GTD"),
    "STOP_LOSS_ON_FILL_GTD_TIMESTAMP_IN_PAST": on_fill("stopLoss", timeInForce="GTD", gtdTime=PAST),
    "STOP_LOSS_ON_FILL_CLIENT_ORDER_ID_INVALID": on_fill("stopLoss", clientExtensions={"id": LONG}),
    "STOP_LOSS_ON_FILL_CLIENT_ORDER_TAG_INVALID": on_fill("stopLoss", clientExtensions={"tag": LONG}),
    "STOP_LOSS_ON_FILL_CLIENT_ORDER_COMMENT_INVALID": on_fill("stopLoss", clientExtensions={"comment": LONG}),
    "TRAILING_STOP_LOSS_ON_FILL_PRICE_DISTANCE_MISSING": on_fill("trailingStopLoss", distance=None),
    "TRAILING_STOP_LOSS_ON_FILL_PRICE_DISTANCE_INVALID": on_fill("trailingStopLoss", distance="0"),
    "TRAILING_STOP_LOSS_ON_FILL_PRICE_DISTANCE_PRECISION_EXCEEDED": on_fill("trailingStopLoss", distance="0.0100000"),
    "TRAILING_STOP_LOSS_ON_FILL_PRICE_DISTANCE_MAXIMUM_EXCEEDED": on_fill("trailingStopLoss", distance="1.1"),
    "TRAILING_STOP_LOSS_ON_FILL_PRICE_DISTANCE_MINIMUM_NOT_MET": on_fill("trailingStopLoss", distance="0.0004"),
    "TRAILING_STOP_LOSS_ON_FILL_TIME_IN_FORCE_INVALID": on_fill("trailingStopLoss", timeInForce="IOC"),
    "TRAILING_STOP_LOSS_ON_FILL_GTD_TIMESTAMP_MISSING": on_fill("trailingStopLoss", timeInForce="GTD"),
    "TRAILING_STOP_LOSS_ON_FILL_GTD_TIMESTAMP_IN_PAST": on_fill("trailingStopLoss", timeInForce="GTD", gtdTime=PAST),
    "TRAILING_STOP_LOSS_ON_FILL_CLIENT_ORDER_ID_INVALID": on_fill("trailingStopLoss", clientExtensions={"id": LONG}),
    "TRAILING_STOP_LOSS_ON_FILL_CLIENT_ORDER_TAG_INVALID": on_fill("trailingStopLoss", clientExtensions={"tag": LONG}),
    "TRAILING_STOP_LOSS_ON_FILL_CLIENT_ORDER_COMMENT_INVALID": on_fill("trailingStopLoss", clientExtensions={"comment": LONG}),
    "CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE": close_trade(units="1001"),
    "CLOSEOUT_POSITION_DOESNT_EXIST": close_position(shortUnits="ALL"),
    "CLOSEOUT_POSITION_INCOMPLETE_SPECIFICATION": close_position(longUnits="NONE"),
    "CLOSEOUT_POSITION_UNITS_EXCEED_POSITION_SIZE": close_position(longUnits="1001"),
    "MARGIN_RATE_INVALID": configure(marginRate="1.1"),
    "MARGIN_RATE_WOULD_TRIGGER_CLOSEOUT": configure(marginRate="0.2"),
    "MARGIN_RATE_WOULD_TRIGGER_MARGIN_CALL": configure(marginRate="0.1"),
    "ALIAS_INVALID": configure(alias=LONG),
    "CLIENT_CONFIGURE_DATA_MISSING": configure(),
    "REPLACING_ORDER_INVALID": replaced_by({"instrument": "EUR_USD", "units": "1000", **STOP}),
    "REPLACING_TRADE_ID_INVALID": replaced_for_another_trade,
}

HAS_A_DEFAULT = "absent, it takes its default"
OTHER_WORD = "a word that OANDA does not know is refused without a transaction, as recorded; each that it knows is allowed"
NOT_IN_REQUESTS = "requests have no such field"
LOCKS = "accounts here are not locked"
PAYMENTS = "payments are the administrator's"
GUARANTEES = "guaranteed stops are not offered: whatever asks for one is not allowed, before anything else is looked at"
NOT_PROVOKED = {
    "INTERNAL_SERVER_ERROR": "the exchange has none",
    "INSTRUMENT_PRICE_UNKNOWN": "a pair without a price is a halted market, and that is a cancellation",
    "INSTRUMENT_UNKNOWN": "refused without a transaction, as recorded",
    "INSUFFICIENT_MARGIN": "too little margin is a cancellation",
    "ORDER_ID_UNSPECIFIED": "it is in the path",
    "ORDER_IDENTIFIER_INCONSISTENCY": "the path has one of them",
    "CLOSE_TRADE_TYPE_MISSING": "absent, it means ALL",
    "CLOSE_TRADE_PARTIAL_UNITS_MISSING": "absent, it means ALL",
    "CLOSEOUT_POSITION_PARTIAL_UNITS_MISSING": "absent, it means NONE",
    "CLOSEOUT_POSITION_REJECT": "each side says what was wrong with it",
    "TRADE_ON_FILL_CLIENT_EXTENSIONS_NOT_SUPPORTED": "of MT4 accounts",
    "TRAILING_STOP_LOSS_ORDERS_NOT_SUPPORTED": "they are supported",
    "STOP_LOSS_ON_FILL_PRICE_MISSING": "a distance would do: both are missing",
    "TIME_IN_FORCE_MISSING": HAS_A_DEFAULT,
    "ORDER_FILL_POSITION_ACTION_MISSING": HAS_A_DEFAULT,
    "TRIGGER_CONDITION_MISSING": HAS_A_DEFAULT,
    "TAKE_PROFIT_ON_FILL_TIME_IN_FORCE_MISSING": HAS_A_DEFAULT,
    "STOP_LOSS_ON_FILL_TIME_IN_FORCE_MISSING": HAS_A_DEFAULT,
    "TRAILING_STOP_LOSS_ON_FILL_TIME_IN_FORCE_MISSING": HAS_A_DEFAULT,
    "ORDER_FILL_POSITION_ACTION_INVALID": OTHER_WORD,
    "TRIGGER_CONDITION_INVALID": OTHER_WORD,
    "TAKE_PROFIT_ON_FILL_TRIGGER_CONDITION_MISSING": NOT_IN_REQUESTS,
    "TAKE_PROFIT_ON_FILL_TRIGGER_CONDITION_INVALID": NOT_IN_REQUESTS,
    "STOP_LOSS_ON_FILL_TRIGGER_CONDITION_MISSING": NOT_IN_REQUESTS,
    "STOP_LOSS_ON_FILL_TRIGGER_CONDITION_INVALID": NOT_IN_REQUESTS,
    "TRAILING_STOP_LOSS_ON_FILL_TRIGGER_CONDITION_MISSING": NOT_IN_REQUESTS,
    "TRAILING_STOP_LOSS_ON_FILL_TRIGGER_CONDITION_INVALID": NOT_IN_REQUESTS,
    "ORDER_PARTIAL_FILL_OPTION_MISSING": NOT_IN_REQUESTS,
    "ORDER_PARTIAL_FILL_OPTION_INVALID": NOT_IN_REQUESTS,
    "INVALID_REISSUE_IMMEDIATE_PARTIAL_FILL": NOT_IN_REQUESTS,
    "MARKUP_GROUP_ID_INVALID": NOT_IN_REQUESTS,
    "POSITION_AGGREGATION_MODE_INVALID": NOT_IN_REQUESTS,
    "ADMIN_CONFIGURE_DATA_MISSING": NOT_IN_REQUESTS,
    "ACCOUNT_NOT_ACTIVE": LOCKS,
    "ACCOUNT_LOCKED": LOCKS,
    "ACCOUNT_ORDER_CREATION_LOCKED": LOCKS,
    "ACCOUNT_CONFIGURATION_LOCKED": LOCKS,
    "ACCOUNT_DEPOSIT_LOCKED": LOCKS,
    "ACCOUNT_WITHDRAWAL_LOCKED": LOCKS,
    "ACCOUNT_ORDER_CANCEL_LOCKED": LOCKS,
    "AMOUNT_INVALID": PAYMENTS,
    "AMOUNT_MISSING": PAYMENTS,
    "INSUFFICIENT_FUNDS": PAYMENTS,
    "FUNDING_REASON_MISSING": PAYMENTS,
    "STOP_LOSS_ON_FILL_REQUIRED_FOR_PENDING_ORDER": GUARANTEES,
    "STOP_LOSS_ON_FILL_GUARANTEED_REQUIRED": GUARANTEES,
    "STOP_LOSS_ON_FILL_GUARANTEED_MINIMUM_DISTANCE_NOT_MET": GUARANTEES,
    "STOP_LOSS_ON_FILL_GUARANTEED_LEVEL_RESTRICTION_EXCEEDED": GUARANTEES,
    "STOP_LOSS_ORDER_GUARANTEED_REQUIRED": GUARANTEES,
    "STOP_LOSS_ORDER_GUARANTEED_PRICE_WITHIN_SPREAD": GUARANTEES,
    "STOP_LOSS_ORDER_GUARANTEED_HALTED_CREATE_VIOLATION": GUARANTEES,
    "STOP_LOSS_ORDER_GUARANTEED_HALTED_TIGHTEN_VIOLATION": GUARANTEES,
    "STOP_LOSS_ORDER_GUARANTEED_HEDGING_NOT_ALLOWED": GUARANTEES,
    "STOP_LOSS_ORDER_GUARANTEED_MINIMUM_DISTANCE_NOT_MET": GUARANTEES,
    "STOP_LOSS_ORDER_GUARANTEED_LEVEL_RESTRICTION_EXCEEDED": GUARANTEES,
    "STOP_LOSS_ORDER_NOT_CANCELABLE": GUARANTEES,
    "STOP_LOSS_ORDER_NOT_REPLACEABLE": GUARANTEES,
}
# Recorded, and not in the spec of 2018.
NEWER_KEYS = {"partialFill"}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    if not SPEC.exists():
        pytest.skip(f"{SPEC} is not here")
    return dict(json.loads(SPEC.read_text("utf-8"))["components"]["schemas"])


@pytest.mark.parametrize("reason", PROVOKED)
def test_a_mistake_is_answered_with_its_reject_transaction_and_changes_nothing_else(exchange, reason):
    reply = PROVOKED[reason](exchange)

    rejects = [value for key, value in reply.body.items() if key.endswith("RejectTransaction")]
    assert len(rejects) == 1
    assert rejects[0]["rejectReason"] == reply.body["errorCode"] == reason
    assert rejects[0]["type"].endswith("_REJECT")
    assert reply.status == (404 if reason == "ORDER_DOESNT_EXIST" else 400)
    assert reply.body["errorMessage"]
    assert reply.body["relatedTransactionIDs"] == [rejects[0]["id"]] == [str(exchange.account.last_id)]
    assert exchange.account.transactions[-1] == rejects[0]


@pytest.mark.parametrize("reason", PROVOKED)
def test_reject_transactions_have_only_keys_that_oanda_has(exchange, reason, schemas):
    PROVOKED[reason](exchange)

    reject = exchange.account.transactions[-1]
    name = "".join(word.title() for word in reject["type"].split("_"))
    assert set(reject) <= set(schemas[f"{name}Transaction"]["properties"]) | NEWER_KEYS


def test_every_reject_reason_of_the_spec_is_provoked_or_has_a_reason_why_not(schemas):
    assert sorted([*PROVOKED, *NOT_PROVOKED]) == sorted(schemas["TransactionRejectReason"]["enum"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "The request was missing required data"),
        ([], "The request was missing required data"),
        ({"order": None}, "The request was missing required data"),
        ({"order": {"instrument": "EUR_USD", "units": "1"}}, "The request was missing required data"),
        ({"order": "MARKET"}, "Invalid value specified for 'order'"),
    ],
)
def test_a_body_without_an_order_is_refused_without_a_transaction(exchange, body, message):
    with pytest.raises(Refusal) as refusal:
        exchange.engine.create_order(ACCOUNT, body)

    assert (refusal.value.status, refusal.value.message) == (400, message)
    assert exchange.account.last_id == 2


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("type", {"type": "FIXED_PRICE"}),
        ("type", {"type": "GUARANTEED_STOP_LOSS"}),
        ("type", {"type": 1}),
        ("instrument", {"instrument": "ABC_XYZ"}),
        ("instrument", {"instrument": "USD_EUR"}),
        ("units", {"units": "ABCD"}),
        ("units", {"units": "NaN"}),
        ("units", {"units": "1e3"}),
        ("units", {"units": True}),
        ("units", {"units": "9" * 30}),
        ("timeInForce", {"timeInForce": "JKK"}),
        ("positionFill", {"positionFill": "NONDEFAULT"}),
        ("price", {"type": "LIMIT", "price": {}}),
        ("triggerCondition", {**LIMIT, "triggerCondition": "LAST"}),
        ("gtdTime", {**LIMIT, "timeInForce": "GTD", "gtdTime": "2024-02-30T00:00:00Z"}),
        ("gtdTime", {**LIMIT, "timeInForce": "GTD", "gtdTime": "tomorrow"}),
        ("takeProfitOnFill", {"takeProfitOnFill": "1.2"}),
        ("takeProfitOnFill.price", {"takeProfitOnFill": {"price": "high"}}),
        ("stopLossOnFill.guaranteed", {"stopLossOnFill": {"price": "1", "guaranteed": "yes"}}),
        ("clientExtensions", {"clientExtensions": "mine"}),
        ("clientExtensions.id", {"clientExtensions": {"id": 7}}),
        ("tradeID", {"type": "TAKE_PROFIT", "tradeID": "six"}),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_by_name_without_a_transaction(exchange, key, body):
    with pytest.raises(Refusal) as refusal:
        order(**body)(exchange)

    assert (refusal.value.status, refusal.value.message) == (400, f"Invalid value specified for 'order.{key}'")
    assert exchange.account.last_id == 2


def test_defaults_are_filled_in_and_numbers_written_as_the_instrument_is_quoted(exchange):
    details = {
        "takeProfitOnFill": {"price": 1.2},
        "stopLossOnFill": {"distance": "0.01"},
        "trailingStopLossOnFill": {"distance": ".01"},
    }
    body = {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": 100.0, "price": 1.05, "unknown": 1, **details}}

    fields, reason = read_order(exchange.account, exchange.market.instruments, body, exchange.engine.now)

    assert reason is None
    assert fields == {
        "type": "LIMIT_ORDER",
        "instrument": "EUR_USD",
        "units": "100",
        "price": "1.05000",
        "timeInForce": "GTC",
        "triggerCondition": "DEFAULT",
        "partialFill": "DEFAULT",
        "positionFill": "DEFAULT",
        "takeProfitOnFill": {"price": "1.20000", "timeInForce": "GTC"},
        "stopLossOnFill": {"distance": "0.01000", "timeInForce": "GTC"},
        "trailingStopLossOnFill": {"distance": "0.01000", "timeInForce": "GTC"},
        "reason": "CLIENT_ORDER",
    }


def test_a_recorded_reject_is_reproduced_key_for_key(exchange):
    body = {"type": "MARKET_IF_TOUCHED", "instrument": "USD_JPY", "units": 300, "price": "110.79999999999999"}

    fields, reason = read_order(exchange.account, exchange.market.instruments, {"order": body}, exchange.engine.now)

    assert reason == "PRICE_PRECISION_EXCEEDED"
    assert list(fields.items()) == [
        ("type", "MARKET_IF_TOUCHED_ORDER_REJECT"),
        ("instrument", "USD_JPY"),
        ("units", "300"),
        ("price", "110.79999999999999"),
        ("timeInForce", "GTC"),
        ("triggerCondition", "DEFAULT"),
        ("partialFill", "DEFAULT"),
        ("positionFill", "DEFAULT"),
        ("reason", "CLIENT_ORDER"),
        ("rejectReason", "PRICE_PRECISION_EXCEEDED"),
    ]


@pytest.mark.parametrize(("strict", "reason"), [(True, "PRICE_PRECISION_EXCEEDED"), (False, None)])
def test_zeros_at_the_end_of_a_price_count_only_where_prices_are_strict(exchange, strict, reason):
    body = {"order": {"type": "LIMIT", "instrument": "USD_JPY", "units": "1", "price": "150.12300"}}

    fields, found = read_order(exchange.account, exchange.market.instruments, body, exchange.engine.now, strict=strict)

    assert found == reason
    assert fields["price"] == ("150.12300" if strict else "150.123")


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        ("0", "UNITS_INVALID"),
        ("-0", "UNITS_INVALID"),
        ("0.1", "UNITS_INVALID"),
        ("-1.5", "UNITS_PRECISION_EXCEEDED"),
        ("100000001", "UNITS_LIMIT_EXCEEDED"),
        ("+1", None),
        ("-1", None),
        ("1.0", None),
        ("-100000000", None),
    ],
)
def test_units_are_whole_and_within_the_limit(exchange, units, reason):
    body = {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": units}}

    fields, found = read_order(exchange.account, exchange.market.instruments, body, exchange.engine.now)

    assert found == reason
    assert fields["units"] == (units if reason else str(int(float(units))))


@pytest.mark.parametrize(
    ("type", "allowed"),
    [
        ("MARKET", {"FOK", "IOC"}),
        ("LIMIT", {"GTC", "GTD", "GFD", "FOK", "IOC"}),
        ("STOP", {"GTC", "GTD", "GFD", "FOK", "IOC"}),
        ("MARKET_IF_TOUCHED", {"GTC", "GTD", "GFD"}),
        ("TAKE_PROFIT", {"GTC", "GTD", "GFD"}),
        ("STOP_LOSS", {"GTC", "GTD", "GFD"}),
        ("TRAILING_STOP_LOSS", {"GTC", "GTD", "GFD"}),
    ],
)
def test_each_type_of_order_has_its_times_in_force(exchange, type, allowed):
    trade = traded(exchange)
    rest = {"distance": "0.01"} if type == "TRAILING_STOP_LOSS" else {"price": "1.05"}
    body = {"type": type, "instrument": "EUR_USD", "units": "1", "tradeID": trade, "gtdTime": FUTURE, **rest}

    def reason(word: str) -> str | None:
        asked = {"order": body | {"timeInForce": word}}
        return read_order(exchange.account, exchange.market.instruments, asked, exchange.engine.now)[1]

    found = {word: reason(word) for word in ("GTC", "GTD", "GFD", "FOK", "IOC")}

    assert {word for word, reason in found.items() if reason is None} == allowed
    assert {reason for reason in found.values() if reason} <= {"TIME_IN_FORCE_INVALID"}


@pytest.mark.parametrize(
    "text", ["2024-03-06T12:00:00Z", "2024-03-06T13:00:00.000000000+01:00", "1709726400", "1709726400.000000000"]
)
def test_a_date_is_read_in_both_formats_and_written_with_nine_digits(exchange, text):
    reply = exchange.order(1, **LIMIT, timeInForce="GTD", gtdTime=text)

    assert reply.body["orderCreateTransaction"]["gtdTime"] == "2024-03-06T12:00:00.000000000Z"


def test_a_client_id_is_unique_among_pending_orders_only(exchange):
    named = {"clientExtensions": {"id": "mine"}}
    filled = [exchange.order(1, **named).status for _ in range(2)]
    waiting = exchange.order(1, **LIMIT, **named)
    twin = exchange.order(1, **named)
    replaced = exchange.engine.replace_order(
        ACCOUNT, "@mine", {"order": {"instrument": "EUR_USD", "units": "2", **LIMIT, **named}}
    )
    exchange.engine.cancel_order(ACCOUNT, "@mine")
    after = exchange.order(1, **LIMIT, **named)

    assert filled == [201, 201]
    assert waiting.status == 201
    assert (twin.status, twin.body["errorCode"]) == (400, "CLIENT_ORDER_ID_ALREADY_EXISTS")
    assert replaced.status == 201
    assert after.status == 201


def test_an_order_that_replaces_another_keeps_its_client_extensions_unless_it_brings_its_own(exchange):
    mine, trade = {"id": "mine", "comment": "first"}, {"id": "entry"}
    old = exchange.order(1, **LIMIT, clientExtensions=mine, tradeClientExtensions=trade).body["orderCreateTransaction"]["id"]
    body = {"instrument": "EUR_USD", "units": "2", **LIMIT}

    kept = exchange.engine.replace_order(ACCOUNT, old, {"order": body}).body["orderCreateTransaction"]
    own = exchange.engine.replace_order(ACCOUNT, kept["id"], {"order": body | {"clientExtensions": {"tag": "new"}}})

    assert (kept["reason"], kept["clientExtensions"], kept["tradeClientExtensions"]) == ("REPLACEMENT", mine, trade)
    assert own.body["orderCreateTransaction"]["clientExtensions"] == {"tag": "new"}


def test_orders_of_a_trade_are_kept_when_absent_and_cancelled_when_null(exchange):
    trade = traded(exchange, takeProfitOnFill={"price": "1.20000"}, stopLossOnFill={"price": "1.00000"})

    reply = exchange.engine.set_trade_orders(ACCOUNT, trade, {"takeProfit": None, "trailingStopLoss": {"distance": "0.01"}})

    kinds = sorted(order.type for order in exchange.account.pending.values())
    assert reply.status == 200
    assert kinds == ["STOP_LOSS", "TRAILING_STOP_LOSS"]
    assert reply.body["takeProfitOrderCancelTransaction"]["reason"] == "CLIENT_REQUEST"


def test_orders_of_a_trade_are_set_all_or_none(exchange):
    trade = traded(exchange)
    wrong = {"takeProfit": {"price": "1.20000"}, "stopLoss": {}}
    same_name = {key: {**ON_FILL[key], "clientExtensions": {"id": "one"}} for key in ("takeProfit", "stopLoss")}

    replies = [exchange.engine.set_trade_orders(ACCOUNT, trade, body) for body in (wrong, same_name)]

    assert [reply.body["errorCode"] for reply in replies] == [
        "STOP_LOSS_ORDER_PRICE_AND_DISTANCE_BOTH_MISSING",
        "CLIENT_ORDER_ID_ALREADY_EXISTS",
    ]
    assert not exchange.account.pending


@pytest.mark.parametrize(("units", "closed"), [({}, "-1000"), ({"units": "ALL"}, "-1000"), ({"units": 100}, "-100")])
def test_a_trade_is_closed_whole_or_in_part(exchange, units, closed):
    reply = close_trade(**units)(exchange)

    created = reply.body["orderCreateTransaction"]
    assert (created["units"], created["positionFill"], created["reason"]) == (closed, "REDUCE_ONLY", "TRADE_CLOSE")
    assert created["tradeClose"] == {"tradeID": "4", "units": str(units.get("units", "ALL"))}


def test_both_sides_of_a_hedged_position_are_closed_with_names_of_their_own():
    exchange = Simulated(hedging=True)
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.order(300)
    exchange.order(-200)

    body = {"longUnits": "100", "shortUnits": "ALL", "longClientExtensions": {"id": "mine"}}
    reply = exchange.engine.close_position(ACCOUNT, "EUR_USD", body)

    created = reply.body["longOrderCreateTransaction"]
    assert created["longPositionCloseout"] == {"instrument": "EUR_USD", "units": "100"}
    assert created["clientExtensions"] == {"id": "mine"}
    assert reply.body["shortOrderCreateTransaction"]["units"] == "200"
    assert exchange.account.units("EUR_USD") == (200, 0)


def test_client_extensions_of_orders_and_trades_are_changed_by_what_is_given(exchange):
    order = exchange.order(1, **LIMIT, clientExtensions={"id": "mine", "tag": "old"}).body["orderCreateTransaction"]["id"]
    trade = traded(exchange)

    body = {"clientExtensions": {"tag": "new"}, "tradeClientExtensions": {"id": "entry"}}
    of_order = exchange.engine.set_order_extensions(ACCOUNT, order, body).body["orderClientExtensionsModifyTransaction"]
    named = {"clientExtensions": {"id": "held"}}
    of_trade = exchange.engine.set_trade_extensions(ACCOUNT, trade, named).body["tradeClientExtensionsModifyTransaction"]

    assert of_order["clientOrderID"] == "mine"
    assert exchange.account.orders[int(order)].extensions == {"id": "mine", "tag": "new"}
    assert of_trade["tradeClientExtensionsModify"] == {"id": "held"}
    assert exchange.account.trade_by("@held") is exchange.account.trades[int(trade)]


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
NUMBERS = st.one_of(st.sampled_from(["1", "0", "-1000", "1.1", "1.10000", "1.100001", "1e5", ".5", "", "ALL"]), VALUES)
WORDS = st.sampled_from(["GTC", "GTD", "GFD", "FOK", "IOC", "DEFAULT", "MID", "REDUCE_ONLY", "2030-01-01T00:00:00Z", "EUR_USD"])
DETAILS = st.dictionaries(st.sampled_from(["price", "distance", "timeInForce", "gtdTime", "guaranteed"]), NUMBERS | WORDS)
ORDERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["MARKET", "LIMIT", "STOP", "MARKET_IF_TOUCHED", "TAKE_PROFIT", "STOP_LOSS", "TRAILING_STOP_LOSS"])},
    optional={
        **{key: NUMBERS for key in ("units", "price", "distance", "priceBound", "tradeID")},
        **{key: WORDS for key in ("timeInForce", "gtdTime", "triggerCondition", "positionFill")},
        **{f"{key}OnFill": DETAILS | VALUES for key in ON_FILL},
        "instrument": st.sampled_from(["EUR_USD", "USD_JPY", "EUR_GBP"]) | VALUES,
        "clientExtensions": st.dictionaries(st.sampled_from(["id", "tag", "comment"]), VALUES) | VALUES,
    },
)


@given(body=ORDERS)
def test_whatever_is_sent_is_accepted_rejected_or_refused_and_what_is_accepted_reads_the_same_again(body):
    exchange = Simulated()
    try:
        fields, reason = read_order(exchange.account, exchange.market.instruments, {"order": body}, exchange.engine.now)
    except Refusal as refusal:
        assert refusal.status == 400
        return

    assert fields["type"] == f"{body['type']}_ORDER{'_REJECT' if reason else ''}"
    if reason is None:
        again = {"order": fields | {"type": body["type"]}}
        assert read_order(exchange.account, exchange.market.instruments, again, exchange.engine.now) == (fields, None)
    else:
        assert list(fields.items())[-1] == ("rejectReason", reason)


@given(body=st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=5))
def test_a_body_of_any_form_is_refused_or_rejected_by_every_request(body):
    exchange = Simulated()
    exchange.price("EUR_USD", "1.10000", "1.10010")
    trade, engine = traded(exchange), exchange.engine
    requests: list[Callable[[], object]] = [
        lambda: engine.create_order(ACCOUNT, body),
        lambda: engine.close_trade(ACCOUNT, trade, body),
        lambda: engine.close_position(ACCOUNT, "EUR_USD", body),
        lambda: engine.set_trade_extensions(ACCOUNT, trade, body),
        lambda: engine.set_trade_orders(ACCOUNT, trade, body),
        lambda: engine.configure(ACCOUNT, body),
    ]
    for request in requests:
        before = exchange.account.last_id
        try:
            request()
        except Refusal as refusal:
            assert refusal.status in (400, 404)
            assert exchange.account.last_id == before
