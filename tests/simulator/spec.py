"""OANDA's published schema as a judge of answers: shape, required keys, forms of numbers and times, and no key that nobody knows.

The schema is that of 2018 (3.0.25), read from the folder beside the project; what is newer stands in the tables below, each entry
with where it was seen. Where the folder is absent there is no judge, and only the tests of this file's own are skipped.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import requests

SPEC = Path(__file__).resolve().parents[3] / "shared" / "oanda" / "spec"

# Keys of today's answers that the schema does not have.
NEWER_KEYS: dict[str, dict[str, str]] = {
    "Instrument": {
        "financing": "live API: rates and days of financing",
        "tags": "live API",
        "guaranteedStopLossOrderMode": "live API",
    },
    "Account": {"dividendAdjustment": "live API"},
    "AccountSummary": {"dividendAdjustment": "live API"},
    "Position": {"dividendAdjustment": "live API"},
    "PositionSide": {"dividendAdjustment": "live API"},
    "Trade": {"dividendAdjustment": "live API"},
    "TradeSummary": {"dividendAdjustment": "live API"},
    **{
        f"{kind}{end}": {"partialFill": "recorded: samples of oandapyV20, batches of async_v20"}
        for kind in ("LimitOrder", "StopOrder", "MarketIfTouchedOrder")
        for end in ("", "Transaction", "RejectTransaction")
    },
    "OrderCancelTransaction": {
        "closedTradeID": "recorded: batches of async_v20",
        "tradeCloseTransactionID": "recorded: batches of async_v20",
    },
}
# Reasons of today's cancellations that the schema does not have.
NEWER_CANCEL_REASONS = ("FIFO_VIOLATION_SAFEGUARD_VIOLATION", "FIFO_VIOLATION_SAFEGUARD_PARTIAL_CLOSE_VIOLATION")
# Keys beside the schema's at the top of an answer, by call and status; * is every call.
NEWER_TOPS: dict[tuple[str, str, int], dict[str, str]] = {
    ("*", "*", 404): {"lastTransactionID": "recorded: hootnot/oanda-api-v20#204"},
    ("PUT", "/accounts/{accountID}/trades/{tradeSpecifier}/close", 400): {
        "lastTransactionID": "as in the answers of all other writes",
        "relatedTransactionIDs": "as in the answers of all other writes",
    },
}
# Keys at the top of a good answer without which it would say nothing; lastTransactionID is one of all but those here.
WITHOUT_LAST_ID = (
    "/accounts",
    "/instruments/{instrument}/candles",
    "/accounts/{accountID}/instruments/{instrument}/candles",
    "/accounts/{accountID}/candles/latest",
    "/accounts/{accountID}/pricing",
)
OPTIONAL_TOPS = ("homeConversions", "type")
WITHOUT_RELATED_IDS = ("/accounts/{accountID}/configuration",)
# What a rejected request may lack, because its lack can be the reason.
ABSENT_FROM_REJECTS = (
    "instrument",
    "units",
    "price",
    "distance",
    "tradeID",
    "timeInForce",
    "positionFill",
    "triggerCondition",
)

DECIMAL = r"^-?\d+(\.\d+)?$"
RFC3339 = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$"
UNIX = r"^\d+\.\d{9}$"
# The schema's formats are sentences; by their beginning they are as good as patterns.
FORMATS = {
    "A decimal number": DECIMAL,
    "String representation of the numerical OANDA-assigned": r"^[1-9]\d*$",
    "The string representation of the OANDA-assigned": r"^[1-9]\d*$",
    '"-"-delimited string': r"^\d+-\d+-\d+-\d+$",
    "A string containing the base currency": r"^[A-Z]{3}_[A-Z]{3}$",
    "A string containing an ISO 4217 currency": r"^[A-Z]{3}$",
}
TIMES = "The RFC 3339 representation"
CLIENTS_OWN = {"clientOrderID", "clientTradeID"}  # described as OANDA's numbers, and yet the client's words
SPECIAL_NAMES = {"RESET_RESETTABLE_PL": "ResetResettablePLTransaction"}


def _dispatched(validator: Any, kinds: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """Judge an instance by the schema that its type names. Thirty conditions for each transaction would take all day."""
    kind = instance.get("type") if isinstance(instance, dict) else None
    if kind in kinds:
        yield from validator.descend(instance, kinds[kind])
    else:
        yield jsonschema.ValidationError(f"{kind!r} is none of {', '.join(kinds)}")


Judge = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"dispatch": _dispatched})


class Wrong(AssertionError):
    """An answer that is not as OANDA's would be."""


class Spec:
    """The judge of answers with times of one format."""

    def __init__(self, times: str) -> None:
        self.document: dict[str, Any] = json.loads((SPEC / "v20v3.json").read_text())
        self.schemas: dict[str, Any] = self.document["components"]["schemas"]
        required = json.loads((SPEC / "entity_required_defaults.json").read_text())
        for name, schema in self.schemas.items():
            self._complete(name, schema, required.get(name, {}))
        _add_patterns(self.document, UNIX if times == "UNIX" else RFC3339)
        # Recorded fills have the price as the platform knows it, with a timestamp and texts for liquidity.
        bucket = {"type": "object", "properties": {"price": {"pattern": DECIMAL}, "liquidity": {"pattern": DECIMAL}}}
        ladder = {"type": "array", "items": bucket | {"required": ["price", "liquidity"], "additionalProperties": False}}
        self.schemas["Price"]["properties"] |= {"bids": ladder, "asks": ladder}
        self.schemas["OrderFillTransaction"]["properties"]["fullPrice"] = {"$ref": "#/components/schemas/Price"}
        self._dispatch("Transaction", {kind: _transaction_schema(kind) for kind in self._words("TransactionType")})
        orders = [kind for kind in self._words("OrderType") if kind != "FIXED_PRICE"]
        self._dispatch("Order", {kind: f"{_camel(kind)}Order" for kind in orders})
        self._paths = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$"), path) for path in sorted(self.document["paths"])]
        self._judges: dict[tuple[str, str, int], Any] = {}
        self._parts: dict[str, Any] = {}

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        """Raise Wrong about the first thing that this answer to `method` `path` (from /v3 on) does not have as it should."""
        template = self.template(path)
        key = (method, template or "", status)
        if key not in self._judges:
            schema = self._answer(method, template, status) | {"components": self.document["components"]}
            self._judges[key] = Judge(schema)
        error = jsonschema.exceptions.best_match(self._judges[key].iter_errors(body))
        if error is not None:
            place = "".join(f"[{part!r}]" for part in error.absolute_path)
            raise Wrong(f"{method} {path} answered {status}: body{place}: {error.message[:600]}")

    def check_part(self, name: str, body: Any) -> None:
        """Raise Wrong unless this, for instance a line of a stream, is what the schema calls `name`."""
        if name not in self._parts:
            self._parts[name] = Judge({"$ref": f"#/components/schemas/{name}", "components": self.document["components"]})
        error = jsonschema.exceptions.best_match(self._parts[name].iter_errors(body))
        if error is not None:
            raise Wrong(f"{name}{''.join(f'[{part!r}]' for part in error.absolute_path)}: {error.message[:600]}")

    def template(self, path: str) -> str | None:
        """The path of the schema that this one is, for instance /accounts/{accountID}/orders."""
        bare = path.removeprefix("/v3")
        return next((template for pattern, template in self._paths if pattern.match(bare) and _literal(template, bare)), None)

    def _answer(self, method: str, template: str | None, status: int) -> dict[str, Any]:
        """The schema of an answer, closed: only keys that are known, and those that matter are there."""
        response = self.document["paths"].get(template, {}).get(method.lower(), {}).get("responses", {}).get(str(status))
        if response is None or "$ref" in response:  # of no call in particular
            schema: dict[str, Any] = {
                "type": "object",
                "properties": {"errorCode": {"type": "string"}, "errorMessage": {"type": "string"}},
            }
        else:
            schema = dict(response["content"]["application/json"]["schema"])
        more = NEWER_TOPS.get(("*", "*", status), {}) | NEWER_TOPS.get((method, template or "", status), {})
        properties = schema["properties"] | {name: {} for name in more}
        return schema | {
            "properties": properties,
            "additionalProperties": False,
            "required": self._required(method, template, status, properties),
        }

    @staticmethod
    def _required(method: str, template: str | None, status: int, properties: Mapping[str, Any]) -> list[str]:
        if status >= 400:
            return ["errorMessage"]
        if method == "GET":
            return [name for name in properties if name not in OPTIONAL_TOPS]
        return ["lastTransactionID"] + (["relatedTransactionIDs"] if template not in WITHOUT_RELATED_IDS else [])

    def _complete(self, name: str, schema: dict[str, Any], facts: Mapping[str, Any]) -> None:
        if "properties" not in schema:
            return
        schema["additionalProperties"] = False
        schema["properties"] |= {key: {} for key in NEWER_KEYS.get(name, ())}
        absent = ABSENT_FROM_REJECTS if name.endswith("RejectTransaction") else ()
        if absent:  # what is rejected names what the client named, which may be no number at all
            schema["properties"] |= {key: {"type": "string"} for key in ("orderID", "tradeID") if key in schema["properties"]}
        wanted = [key for key, fact in facts.items() if fact["required"] and key in schema["properties"] and key not in absent]
        if wanted:
            schema["required"] = wanted

    def _words(self, name: str) -> list[str]:
        return [word for word in self.schemas[name]["enum"] if word not in ("FIXED_PRICE", "FIXED_PRICE_ORDER")]

    def _dispatch(self, name: str, kinds: Mapping[str, str]) -> None:
        """Make the schema of a family that of the member that `type` names, and every member's type its own."""
        for kind, member in kinds.items():
            self.schemas[member]["properties"]["type"] = {"const": kind}
            self.schemas[member]["required"] = [*self.schemas[member].get("required", ()), "type", "id"]
        self.schemas[name] = {"dispatch": {kind: {"$ref": f"#/components/schemas/{member}"} for kind, member in kinds.items()}}


@cache
def spec(times: str = "RFC3339") -> Spec | None:
    """The judge, or None where the schema is not."""
    return Spec(times) if SPEC.exists() else None


def judge(response: requests.Response, *_: Any, **__: Any) -> None:
    """Raise Wrong about an answer that a client got. It can be a hook of a client that is built on requests.

    What is no JSON or a 5xx was made by a fault, and is judged by who set it.
    """
    path, found = urlsplit(response.url).path, spec(response.request.headers.get("Accept-Datetime-Format", "RFC3339"))
    if found is None or not path.startswith("/v3") or path.endswith("/stream") or response.status_code >= 500:
        return
    with contextlib.suppress(requests.JSONDecodeError):
        found.check(str(response.request.method), path, response.status_code, response.json())


def _literal(template: str, path: str) -> bool:
    """Whether no name of the path stands where the template has a place for a value: transactions/idrange is no transaction."""
    pairs = zip(template.split("/"), path.split("/"), strict=True)
    return not any(part == "{transactionID}" and value in ("idrange", "sinceid", "stream") for part, value in pairs)


def _add_patterns(node: Any, times: str) -> None:
    """Turn the sentences that say how a text is written into patterns, and add today's words to enumerations."""
    if isinstance(node, dict):
        for name in CLIENTS_OWN & set(node):
            node[name] = {"type": "string"}
        text = node.get("format")
        if isinstance(text, str) and node.get("type") == "string":
            found = times if text.startswith(TIMES) else next((FORMATS[key] for key in FORMATS if text.startswith(key)), None)
            if found:
                node["pattern"] = found
        if "LINKED_TRADE_CLOSED" in node.get("enum", ()):
            node["enum"] = [*node["enum"], *NEWER_CANCEL_REASONS]
        for value in node.values():
            _add_patterns(value, times)
    elif isinstance(node, list):
        for value in node:
            _add_patterns(value, times)


def _transaction_schema(kind: str) -> str:
    return SPECIAL_NAMES.get(kind, f"{_camel(kind)}Transaction")


def _camel(words: str) -> str:
    return "".join(word.capitalize() for word in words.split("_"))
