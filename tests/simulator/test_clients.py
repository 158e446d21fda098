"""oandapyV20, which nobody here wrote, works with the simulator unchanged; and every answer has the form OANDA published."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from oandapyV20 import API, V20Error, oandapyV20
from oandapyV20.contrib.factories import InstrumentsCandlesFactory
from oandapyV20.endpoints import accounts, instruments, pricing

TOKEN = "a-token-that-must-stay-out-of-the-log"
ACCOUNT = "101-004-1435156-001"
SPEC = Path(__file__).resolve().parents[3] / "shared" / "oanda" / "spec"
# Keys of today's answers that the schema of 2018 does not have.
NEWER = {"Instrument": {"financing", "tags", "guaranteedStopLossOrderMode"}}


@pytest.fixture(scope="module")
def api(simulator, monkeypatch_module) -> API:
    environments = oandapyV20.TRADING_ENVIRONMENTS
    monkeypatch_module.setitem(environments, "simulator", {"api": simulator.url, "stream": simulator.url})
    return API(access_token=TOKEN, environment="simulator", request_params={"timeout": (3.05, 30)})


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_accounts_summary_and_instruments_come_through_oandapyv20(api):
    listed = api.request(accounts.AccountList())
    summary = api.request(accounts.AccountSummary(ACCOUNT))
    details = api.request(accounts.AccountDetails(ACCOUNT))
    pairs = api.request(accounts.AccountInstruments(ACCOUNT, params={"instruments": "EUR_USD,USD_JPY"}))

    assert listed["accounts"][0]["id"] == summary["account"]["id"] == details["account"]["id"] == ACCOUNT
    assert [pair["name"] for pair in pairs["instruments"]] == ["EUR_USD", "USD_JPY"]


def test_candles_and_prices_come_through_oandapyv20(api):
    candles = api.request(instruments.InstrumentsCandles("EUR_USD", params={"granularity": "M5", "count": 3, "price": "BA"}))
    prices = api.request(pricing.PricingInfo(ACCOUNT, params={"instruments": "EUR_USD"}))

    assert len(candles["candles"]) == 3
    assert prices["prices"][0]["instrument"] == "EUR_USD"


def test_the_factory_of_oandapyv20_downloads_a_history_without_hole_or_double(api):
    start = (datetime.now(UTC) - timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    params = {"granularity": "M15", "from": start, "count": 200, "price": "BA"}
    times: list[str] = []
    for request in InstrumentsCandlesFactory("USD_CAD", params=params):
        times += [candle["time"] for candle in api.request(request)["candles"]]

    whole = api.request(instruments.InstrumentsCandles("USD_CAD", params={"granularity": "M15", "from": start, "count": 5000}))
    assert list(dict.fromkeys(times)) == [candle["time"] for candle in whole["candles"]]
    assert times == sorted(times)


def test_refusals_reach_the_caller_of_oandapyv20_with_oandas_words(api):
    with pytest.raises(V20Error, match="Maximum value for 'count' exceeded") as refusal:
        api.request(instruments.InstrumentsCandles("EUR_USD", params={"count": 5001}))
    assert refusal.value.code == 400


# --- The published schema --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    if not SPEC.exists():
        pytest.skip("OANDA's schema is not here")
    document = json.loads((SPEC / "v20v3.json").read_text())
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            schema["additionalProperties"] = False
            schema["properties"] |= {key: {} for key in NEWER.get(name, ())}
    required = json.loads((SPEC / "entity_required_defaults.json").read_text())
    for name, fields in required.items():
        schema = document["components"]["schemas"].get(name)
        wanted = [field for field, facts in fields.items() if facts["required"]]
        if schema and "properties" in schema and wanted:
            schema["required"] = [field for field in wanted if field in schema["properties"]]
    return document


def schema_of(spec: dict[str, Any], path: str, status: str) -> dict[str, Any]:
    """The schema of an answer with `components` beside it, so that its references resolve; unknown keys are errors."""
    response = spec["paths"][path]["get"]["responses"][status]
    if "$ref" in response:
        response = spec["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    schema = response["content"]["application/json"]["schema"]
    return schema | {"additionalProperties": False, "components": spec["components"]}


@pytest.mark.parametrize("times", ["RFC3339", "UNIX"])
@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/accounts", {}, 200),
        ("/accounts/{accountID}", {}, 200),
        ("/accounts/{accountID}/summary", {}, 200),
        ("/accounts/{accountID}/instruments", {}, 200),
        ("/accounts/{accountID}/instruments", {"instruments": "X"}, 400),
        ("/accounts/{accountID}/pricing", {"instruments": "EUR_USD,USD_JPY", "includeHomeConversions": "true"}, 200),
        ("/accounts/{accountID}/pricing", {}, 400),
        ("/accounts/{accountID}/candles/latest", {"candleSpecifications": "EUR_USD:M1:MBA"}, 200),
        ("/accounts/{accountID}/instruments/{instrument}/candles", {"price": "MBA", "count": "3"}, 200),
        ("/instruments/{instrument}/candles", {"price": "MBA", "count": "3", "granularity": "W"}, 200),
        ("/instruments/{instrument}/candles", {"count": "none"}, 400),
    ],
)
def test_answers_have_the_published_form_and_no_key_besides(spec, simulator, path, query, status, times):
    url = f"{simulator.url}/v3" + path.format(accountID=ACCOUNT, instrument="EUR_USD")
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept-Datetime-Format": times}

    response = requests.get(url, query, headers=headers, timeout=(3.05, 30))

    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("application/json")
    jsonschema.validate(response.json(), schema_of(spec, path, str(status)), cls=jsonschema.Draft202012Validator)


def test_the_account_has_every_field_but_those_of_a_margin_call_or_an_override(spec, simulator):
    absent = {
        "marginRate",
        "marginCallEnterTime",
        "marginCallExtensionCount",
        "lastMarginCallExtensionTime",
        "lastOrderFillTimestamp",
    }
    response = requests.get(
        f"{simulator.url}/v3/accounts/{ACCOUNT}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=(3.05, 30)
    )

    assert set(response.json()["account"]) == set(spec["components"]["schemas"]["Account"]["properties"]) - absent
