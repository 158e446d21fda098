"""The answers that oandapyV20 ships as samples, recorded by its author in 2016, are given here in the same situations.

Every key of a sample is in the answer of today with a value of the same form, and every key beside them is written down below
with the reason why the sample does not have it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oandapyV20.endpoints.responses import accounts, forexlabs, instruments, orders, positions, pricing, trades, transactions
from simulator.running import Running
from simulator.served import Answer, Scripted

SAMPLES = {
    name: sample
    for module in (accounts, instruments, orders, positions, pricing, trades, transactions)
    for name, sample in module.responses.items()
}
NOT_SERVED = {
    "_v3_instruments_instrument_orderbook": "books are out of scope and answer 404",
    "_v3_instruments_instrument_positionbook": "books are out of scope and answer 404",
}
assert forexlabs.responses  # the labs are no part of v3, and out of scope as a whole

Provoke = Callable[[Scripted], Answer]

# --- The same situations ---------------------------------------------------------------------------------------------------


def _limit(served: Scripted, **more: Any) -> Answer:
    """The order of most samples."""
    return served.order(-100, type="LIMIT", price="1.2", timeInForce="GTC", positionFill="DEFAULT", **more)


STOP_LOSS = {"stopLossOnFill": {"timeInForce": "GTC", "price": "1.22"}}
NAMED = {"clientExtensions": {"id": "myID", "comment": "myComment"}}


def _full_account(served: Scripted) -> Answer:
    served.order(100)
    served.exchange.price("EUR_USD", "1.09900", "1.09910")
    served.put("positions/EUR_USD/close", {"longUnits": "ALL"})
    served.order(10, "USD_JPY")
    served.exchange.price("USD_JPY", "150.500", "150.510")
    served.put("positions/USD_JPY/close", {"longUnits": "ALL"})
    for _ in range(2):
        served.order(-10, "USD_JPY")
    served.patch("configuration", {"marginRate": "0.05"})
    _limit(served, **NAMED, **STOP_LOSS)
    old = served.get("orders").body["orders"][0]["id"]
    served.put(
        f"orders/{old}", {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": "-500", "price": "1.25"} | STOP_LOSS_HIGH}
    )
    return served.get("")


STOP_LOSS_HIGH = {"stopLossOnFill": {"timeInForce": "GTC", "price": "1.26"}}


def _summary(served: Scripted) -> Answer:
    _full_account(served)
    return served.get("summary")


def _changes(served: Scripted) -> Answer:
    _limit(served, **STOP_LOSS)
    return served.get("changes", sinceTransactionID="2")


def _listed(path: str, **more: Any) -> Provoke:
    def provoke(served: Scripted) -> Answer:
        _limit(served, **STOP_LOSS, **more)
        return served.get(path)

    return provoke


def _cancel(served: Scripted) -> Answer:
    _limit(served, **NAMED)
    return served.put("orders/3/cancel")


def _replace(served: Scripted) -> Answer:
    _limit(served, **NAMED)
    return served.put("orders/3", {"order": {"units": "-500000", "type": "LIMIT", "instrument": "EUR_USD", "price": "1.25000"}})


def _name_order(served: Scripted) -> Answer:
    _limit(served)
    return served.put("orders/3/clientExtensions", NAMED)


def _two_trades(path: str, **query: str) -> Provoke:
    def provoke(served: Scripted) -> Answer:
        served.order(10, "USD_JPY")
        served.order(100)
        return served.get(path, **query)

    return provoke


def _close_trade(served: Scripted) -> Answer:
    served.order(100)
    return served.put("trades/4/close", {"units": 100})


def _name_trade(served: Scripted) -> Answer:
    served.order(100)
    return served.put("trades/4/clientExtensions", NAMED)


def _order_trade(served: Scripted) -> Answer:
    served.order(-100, stopLossOnFill={"price": "1.15"})
    both = {"takeProfit": {"timeInForce": "GTC", "price": "1.05"}, "stopLoss": {"timeInForce": "GTC", "price": "1.12"}}
    return served.put("trades/4/orders", both)


def _positions(path: str) -> Provoke:
    def provoke(served: Scripted) -> Answer:
        served.order(100, "GBP_USD")
        served.put("positions/GBP_USD/close", {"longUnits": "ALL"})
        for _ in range(2):
            served.order(-10, "USD_JPY")
        if path == "openPositions":
            served.order(10)
        return served.get(path)

    return provoke


def _close_position(served: Scripted) -> Answer:
    served.order(1)
    served.order(250)
    return served.put("positions/EUR_USD/close", {"longUnits": "ALL"})


def _history(path: str, **query: str) -> Provoke:
    """A limit order, its name, its replacement, its end, another, and two configurations: ids 3 to 9."""

    def provoke(served: Scripted) -> Answer:
        _limit(served, **STOP_LOSS)
        served.put("orders/3/clientExtensions", NAMED)
        served.put("orders/3", {"order": {"units": "-500000", "type": "LIMIT", "instrument": "EUR_USD", "price": "1.25000"}})
        served.put("orders/6/cancel")
        _limit(served, **STOP_LOSS)
        served.patch("configuration", {"marginRate": "0.01"})
        served.patch("configuration", {"marginRate": "0.01"})
        return served.get(path, **query)

    return provoke


def _pricing(served: Scripted) -> Answer:
    for name in ("EUR_USD", "USD_JPY"):
        served.exchange.change("liquidity", instrument=name, levels=[[0, 1_000_000], [1, 2_000_000]])
    return served.get("pricing", instruments="EUR_USD,USD_JPY")


SITUATIONS: dict[str, Provoke] = {
    "_v3_accounts": lambda served: served.get("/v3/accounts"),
    "_v3_account_by_accountID": _full_account,
    "_v3_account_by_accountID_summary": _summary,
    "_v3_account_by_accountID_instruments": lambda served: served.get("instruments", instruments="EUR_USD,USD_JPY"),
    "_v3_accounts_accountID_account_config": lambda served: served.patch("configuration", {"marginRate": "0.05"}),
    "_v3_accounts_accountID_account_changes": _changes,
    "_v3_instruments_instrument_candles": lambda served: served.get(
        "/v3/instruments/EUR_USD/candles", count="5", granularity="M5"
    ),
    "_v3_accounts_accountID_orders_create": lambda served: _limit(served, **STOP_LOSS),
    "_v3_accounts_accountID_orders_pending": _listed("orders", **NAMED),
    "_v3_accounts_accountID_order_cancel": _cancel,
    "_v3_accounts_accountID_orders_list": _listed("orders"),
    "_v3_accounts_accountID_order_details": _listed("orders/3"),
    "_v3_accounts_accountID_order_replace": _replace,
    "_v3_accounts_accountID_order_clientextensions": _name_order,
    "_v3_accounts_accountID_trades": _two_trades("trades", instrument="USD_JPY,EUR_USD"),
    "_v3_accounts_accountID_opentrades": _two_trades("openTrades"),
    "_v3_account_accountID_trades_details": _two_trades("trades/4"),
    "_v3_account_accountID_trades_close": _close_trade,
    "_v3_account_accountID_trades_cltext": _name_trade,
    "_v3_account_accountID_trades_crcdo": _order_trade,
    "_v3_accounts_accountID_positions": _positions("positions"),
    "_v3_accounts_accountID_openpositions": _positions("openPositions"),
    "_v3_accounts_accountID_positiondetails": _positions("positions/USD_JPY"),
    "_v3_accounts_accountID_position_close": _close_position,
    "_v3_accounts_accountID_transactions": _history("transactions", pageSize="2"),
    "_v3_accounts_transaction_details": _history("transactions/3"),
    "_v3_accounts_transaction_idrange": _history("transactions/idrange", from_="3", to="5"),
    "_v3_accounts_transaction_sinceid": _history("transactions/sinceid", id="5"),
    "_v3_accounts_accountID_pricing": _pricing,
}
ON_STREAMS = {"_v3_accounts_transactions_stream": "transactions", "_v3_accounts_accountID_pricing_stream": "pricing"}

# --- How a body is compared ---------------------------------------------------------------------------------------------------

FORMS = (
    ("time", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")),
    ("whole number", re.compile(r"-?\d+")),
    ("decimal", re.compile(r"-?\d+\.\d+")),
    ("address", re.compile(r"https?://\S+/v3/accounts/[\d-]+/transactions/idrange\?from=\d+&to=\d+")),
)


def form(value: Any) -> str:
    """What kind of value this is; of texts, what is written in them."""
    if not isinstance(value, str):
        return type(value).__name__
    return next((name for name, pattern in FORMS if pattern.fullmatch(value)), "text")


def shape(body: Any, path: str = "") -> dict[str, set[str]]:
    """Where there is a value in this body, and of which forms; all elements of a list count as one."""
    found: dict[str, set[str]] = {}
    parts = body.items() if isinstance(body, dict) else [("[]", part) for part in body] if isinstance(body, list) else ()
    if not parts and not isinstance(body, dict | list):
        return {path: {form(body)}}
    for key, part in parts:
        for place, forms in shape(part, f"{path}.{key}" if path else key).items():
            found.setdefault(place, set()).update(forms)
    return found


# Keys of today's answers that the samples of 2016 do not have, wherever they stand, and why.
NEWER = {
    "requestID": "in the schema of 2018: the request that a transaction belongs to",
    "guaranteedStopLossOrderMode": "in the schema of 2018: guaranteed stop losses",
    "guaranteedExecutionFees": "in the schema of 2018: guaranteed stop losses",
    "guaranteedExecutionFee": "in the schema of 2018: guaranteed stop losses",
    "resettablePLTime": "in the schema of 2018",
    "financing": "in the schema of 2018, but for that of instruments, which is newer",
    "commission": "in the schema of 2018",
    "lastOrderFillTimestamp": "in the schema of 2018",
    "initialMarginRequired": "in the schema of 2018",
    "marginUsed": "in the schema of 2018, of trades and positions",
    "marginCloseoutPositionValue": "in the schema of 2018, of the state with changes",
    "gainQuoteHomeConversionFactor": "in the schema of 2018",
    "lossQuoteHomeConversionFactor": "in the schema of 2018",
    "fullVWAP": "in the schema of 2018",
    "fullPrice": "in the schema of 2018, in the form of recorded fills",
    "halfSpreadCost": "in the schema of 2018",
    "cancellingTransactionID": "in the schema of 2018; the sample of a trade's orders already has it",
    "tradeable": "in the schema of 2018, beside the older status",
    "time": "in the schema of 2018, of the prices as a whole",
    "partialFill": "recorded in transactions of 2017, in orders already in 2016",
    "dividendAdjustment": "live API",
    "tags": "live API, of instruments",
    "price": "in the schema of 2018, of what a fill closes",
    "type": "in the schema of 2018, of prices that are asked for; those of the stream have it",
}
# Values that another word or form stands for today.
RENAMED = {
    "TRIGGER_DEFAULT": "DEFAULT",
    "POSITION_DEFAULT": "DEFAULT",
    "DEFAULT_FILL": "DEFAULT",
    "CFD": "CURRENCY",  # the sample lists indices too, and this exchange has none
}
WORDS = ("type", "reason", "timeInForce", "triggerCondition", "positionFill", "partialFill", "state", "status")


def sample_of(name: str) -> Any:
    return SAMPLES[name].get("response") or SAMPLES[name]["ciresponse"]


def compare(sample: Any, body: Any) -> set[str]:
    """Assert that the body has all of the sample; the keys that it has beside it."""
    wanted, found = shape(sample), shape(body)
    assert set(wanted) <= set(found)
    forms = {place: (forms, found[place]) for place, forms in wanted.items() if forms != found[place]}
    assert {place for place in forms if not place.endswith(".userID")} == set(), forms
    words, today = said(sample), said(body)
    assert {place: {RENAMED.get(word, word) for word in words[place]} for place in words} == {
        place: today[place] for place in words
    }
    more = set(found) - set(wanted)
    return {next((part for part in place.split(".") if part in NEWER), place) for place in more}


def said(body: Any, path: str = "") -> dict[str, set[str]]:
    """The words of enumerations in this body."""
    found: dict[str, set[str]] = {}
    parts = body.items() if isinstance(body, dict) else [("[]", part) for part in body] if isinstance(body, list) else ()
    for key, part in parts:
        if key in WORDS and isinstance(part, str):
            found.setdefault(f"{path}.{key}", set()).add(part)
        for place, words in said(part, f"{path}.{key}").items():
            found.setdefault(place, set()).update(words)
    return found


@pytest.fixture
def served() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_sample_of_2016_is_given_again_key_for_key_and_form_for_form(served, name):
    answer = SITUATIONS[name](served)

    assert answer.status in (200, 201)
    unexplained = compare(sample_of(name), answer.body) - set(NEWER)
    assert unexplained == set()


@pytest.mark.parametrize("name", ON_STREAMS)
def test_so_are_the_lines_of_the_streams(fresh: Running, name):
    query = {"instruments": "EUR_USD,USD_JPY"} if ON_STREAMS[name] == "pricing" else {}
    for pair, bid, ask in (("EUR_USD", "1.08000", "1.08010"), ("USD_JPY", "150.000", "150.010")):
        fresh.price(bid, ask, pair)
    with fresh.stream(ON_STREAMS[name], **query) as lines:
        found = [next(lines) for _ in range(4)]

    assert compare(sample_of(name), found) - set(NEWER) == set()


def test_every_sample_is_given_again_or_said_to_be_left_out():
    assert set(SAMPLES) == set(SITUATIONS) | set(ON_STREAMS) | set(NOT_SERVED)


def test_every_newer_key_is_of_some_answer(fresh: Running):
    """The table says nothing that is not so."""
    found: set[str] = set()
    for name, provoke in SITUATIONS.items():
        server = Scripted()
        found |= compare(sample_of(name), provoke(server).body)
        server.close()
    fresh.price("150.000", "150.010", "USD_JPY")
    with fresh.stream("pricing", instruments="EUR_USD,USD_JPY") as lines:
        found |= compare(sample_of("_v3_accounts_accountID_pricing_stream"), [next(lines) for _ in range(4)])

    assert found == set(NEWER)


def test_what_is_left_out_answers_404(served):
    for name in NOT_SERVED:
        path = SAMPLES[name]["url"].format(instrument="EUR_USD")
        assert served.get(path).status == 404
