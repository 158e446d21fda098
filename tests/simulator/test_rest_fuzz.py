"""schemathesis drives every call of the published schema with requests that fit it and with others: no 5xx, no hang.

Every answer is judged by the schema as well. The exchange lives on from request to request, and its prices move, so that what
was created by some requests is found, changed and ended by others.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import Case, GenerationMode
from simulated import ACCOUNT, Simulated
from simulator.running import HEADERS, Running
from simulator.served import TOKEN, Scripted
from simulator.spec import SPEC

pytestmark = pytest.mark.skipif(not SPEC.exists(), reason="OANDA's schema is not here")

EXAMPLES = {GenerationMode.POSITIVE: 30, GenerationMode.NEGATIVE: 12}
TIMEOUT = 10.0  # seconds in which an answer has to come

# Values that lead somewhere, by what the schema says of a text or calls a key. Others come with the requests that do not fit.
LIKELY: dict[str, dict[str, Any]] = {
    "A decimal number": {"pattern": r"^-?(0|[1-9]\d{0,8})(\.\d{1,6})?$"},
    "String representation of the numerical": {"pattern": r"^[1-9]\d?$"},
    "The string representation of the": {"pattern": r"^[1-9]\d?$"},
    "Either the": {"pattern": r"^[1-9]\d?$"},
    '"-"-delimited string': {"enum": [ACCOUNT]},
    "A string containing the base currency": {"enum": ["EUR_USD", "USD_JPY", "GBP_USD"]},
    "The RFC 3339": {
        "enum": ["2024-03-05T12:00:00Z", "2024-03-06T00:00:00.123456789Z", "2030-01-01T00:00:00Z", "1709640000", "1709726400.5"]
    },
}
LIKELY_KEYS: dict[str, dict[str, Any]] = {
    "units": {"enum": ["1", "100", "-100", "5000", "-2000", "0", "1.5", "99999999", "ALL"]},
    "longUnits": {"enum": ["1", "100", "ALL", "NONE", "0.5"]},
    "shortUnits": {"enum": ["1", "100", "ALL", "NONE", "-3"]},
    "price": {"enum": ["1.10000", "1.09", "1.2", "1.05", "0.9", "1.123456", "0"]},
    "priceBound": {"enum": ["1.3", "0.9", "1.10000"]},
    "distance": {"enum": ["0.005", "0.00050", "0.2", "0.00001"]},
    "marginRate": {"enum": ["0.02", "0.5", "1", "7"]},
}
LIKELY_PARAMETERS: dict[str, dict[str, Any]] = {
    "state": {"enum": ["PENDING", "FILLED", "CANCELLED", "OPEN", "CLOSED", "ALL"]},
    "count": {"type": "integer", "minimum": 1, "maximum": 600},
    "pageSize": {"type": "integer", "minimum": 1, "maximum": 1100},
    "candleSpecifications": {"type": "array", "items": {"enum": ["EUR_USD:M1:BM", "USD_JPY:D"]}, "minItems": 1},
    "alignmentTimezone": {"enum": ["America/New_York", "Europe/Berlin", "UTC"]},
    "dailyAlignment": {"type": "integer", "minimum": 0, "maximum": 23},
    "weeklyAlignment": {"enum": ["Monday", "Friday"]},
    "units": {"enum": ["1", "100000"]},
    "price": {"enum": ["M", "BA", "MBA"]},
}
CLIENT_IDS = {"enum": ["a", "b", "a/b", "é" * 129, ""]}
NEEDED = {"Market": ["instrument", "units"], "TakeProfit": ["tradeID", "price"], "StopLoss": ["tradeID"]}
NEEDED |= {"TrailingStopLoss": ["tradeID", "distance"]}
NEEDED |= {kind: ["instrument", "units", "price"] for kind in ("Limit", "Stop", "MarketIfTouched")}


@pytest.fixture(scope="module")
def served() -> Iterator[Scripted]:
    server = Scripted(Simulated(hedging=False))
    yield server
    server.close()


def operations() -> dict[str, Any]:
    """Every call of the schema, made of values that lead somewhere."""
    if not SPEC.exists():
        return {}
    document = json.loads((SPEC / "v20v3.json").read_text())
    _make_likely(document)
    schemas = document["components"]["schemas"]
    for kind, needed in NEEDED.items():
        name = "".join(f"_{letter}" if letter.isupper() else letter for letter in kind).upper().strip("_")
        schemas[f"{kind}OrderRequest"]["properties"]["type"] = {"enum": [name]}
        schemas[f"{kind}OrderRequest"]["required"] = ["type", *needed]
    schemas["OrderRequest"] = {"anyOf": [{"$ref": f"#/components/schemas/{kind}OrderRequest"} for kind in NEEDED]}
    schemas["ClientExtensions"]["properties"]["id"] = CLIENT_IDS
    for method in ("post", "put"):
        path = document["paths"]["/accounts/{accountID}/orders" + ("/{orderSpecifier}" if method == "put" else "")]
        path[method]["requestBody"]["content"]["application/json"]["schema"]["required"] = ["order"]
    document["components"]["parameters"]["acceptDatetimeFormatHeaderParam"]["schema"] = {"enum": ["RFC3339", "UNIX"]}
    del document["security"], document["components"]["securitySchemes"]
    schema = schemathesis.openapi.from_dict(document)
    found = [each.ok() for each in schema.get_all_operations()]
    return {each.label: each for each in found}


def _make_likely(node: Any) -> None:
    if isinstance(node, dict):
        if "in" in node and node.get("name") in LIKELY_PARAMETERS:
            node["schema"] = LIKELY_PARAMETERS[node["name"]]
        text = node.get("format")
        if isinstance(text, str) and node.get("type") == "string":
            likely = next((LIKELY[key] for key in LIKELY if text.startswith(key)), None)
            if likely is not None:
                node.clear()
                node |= {"type": "string"} | likely
        for key, value in list(node.items()):
            _make_likely(value)
            if key in LIKELY_KEYS and isinstance(value, dict) and value.get("type") == "string":
                node[key] = {"type": "string"} | LIKELY_KEYS[key]
    elif isinstance(node, list):
        for value in node:
            _make_likely(value)


OPERATIONS = operations()


def calls(*, streams: bool) -> list[tuple[str, GenerationMode]]:
    """The calls to make, in both modes where there is a wrong way to ask: the account is always the right one."""
    found = [(label, each) for label, each in OPERATIONS.items() if label.endswith("/stream") == streams]
    choice = {label for label, each in found if {part.name for part in each.iter_parameters()} - {"accountID"}}
    return [(label, mode) for label, _ in found for mode in EXAMPLES if mode is GenerationMode.POSITIVE or label in choice]


PLAIN = itertools.cycle((True, False))  # every other order is one that may well be accepted
PRICES = itertools.cycle(("1.10000", "1.09000", "1.10500", "1.20000", "1.08000", "1.10010"))


def live(served: Scripted, case: Case) -> None:
    """Let a price come, see to it that something is open and pending, and let a likely number be that of something."""
    exchange, account = served.exchange, served.exchange.account
    bid = next(PRICES)
    exchange.price("EUR_USD", bid, f"{float(bid) + 0.0001:.5f}")
    for pool, body in ((account.open, {}), (account.pending, {"type": "LIMIT", "price": "0.95"})):
        if len(pool) < 3:
            exchange.order(100, **body, positionFill="OPEN_ONLY")
    for name, pool in (("orderSpecifier", account.pending), ("tradeSpecifier", account.open)):
        text = case.path_parameters.get(name)
        if isinstance(text, str) and text.isdecimal() and pool:
            case.path_parameters[name] = str(list(pool)[int(text) % len(pool)])
    order = case.body.get("order") if isinstance(case.body, dict) else None
    if isinstance(order, dict) and str(order.get("tradeID", "")).isdecimal() and account.open:
        order["tradeID"] = str(list(account.open)[int(order["tradeID"]) % len(account.open)])
    if isinstance(order, dict) and "price" in order and "units" in order and next(PLAIN):
        case.body["order"] = {"type": "LIMIT", "units": "100"} | {
            key: order[key] for key in ("instrument", "price") if key in order
        }


@pytest.mark.parametrize(("label", "mode"), calls(streams=False))
def test_whatever_is_asked_is_answered(served, label, mode):
    operation, statuses = OPERATIONS[label], set()

    @seed(20240305)
    @settings(max_examples=EXAMPLES[mode], deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(mode, path_parameters={"accountID": ACCOUNT} if "{accountID}" in label else None))
    def ask(case: Case) -> None:
        live(served, case)
        response = case.call(
            base_url=f"{served.url}/v3", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=TIMEOUT, allow_redirects=False
        )
        statuses.add(response.status_code)
        assert response.status_code < 500
        served.complain()

    ask()
    served_at_all = not label.endswith("Book")
    assert mode is GenerationMode.NEGATIVE or bool(statuses & {200, 201}) == served_at_all


@pytest.mark.parametrize(("label", "mode"), calls(streams=True))
def test_streams_answer_whatever_is_asked_and_go_on_when_it_was_right(fresh: Running, label, mode):
    operation, statuses = OPERATIONS[label], set()

    @seed(20240305)
    @settings(max_examples=EXAMPLES[mode] // 3, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(mode, path_parameters={"accountID": ACCOUNT}))
    def ask(case: Case) -> None:
        sent = case.as_transport_kwargs(base_url=f"{fresh.stream_url}/v3", headers=HEADERS)
        with requests.request(**sent, stream=True, timeout=TIMEOUT) as response:
            statuses.add(response.status_code)
            assert response.status_code < 500
            first = json.loads(next(response.iter_lines(chunk_size=1)))
            assert (first.get("type") in ("PRICE", "HEARTBEAT")) == (response.status_code == 200)

    ask()
    assert mode is GenerationMode.NEGATIVE or 200 in statuses
