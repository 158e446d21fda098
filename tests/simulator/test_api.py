"""The HTTP shell: tokens, limits, headers, error bodies and the JSON of every endpoint, at a time set by the test."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mbats.market import MAJORS
from mbats.simulator.api import Service, create_app
from mbats.simulator.limits import RateLimit
from mbats.simulator.wire import TimeFormat, encode

NOW = datetime(2024, 5, 16, 9, 31, 17, 250_000, UTC)
ACCOUNT = "101-004-1435156-001"
AUTHORIZED = {"Authorization": "Bearer secret"}
CANDLES = "/v3/instruments/EUR_USD/candles"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: Any


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def client(exchange, loop):
    """A client of a server on a free port of this machine."""
    service = Service(exchange, SecretStr("secret"), clock=lambda: NOW, limit=RateLimit(1e9, time.monotonic))
    client = TestClient(TestServer(create_app(service), loop=loop), loop=loop)
    loop.run_until_complete(client.start_server())
    yield client
    loop.run_until_complete(client.close())


@pytest.fixture(scope="module")
def get(client, loop):
    def request(path: str, query: Any = None, headers: Mapping[str, str] = AUTHORIZED, method: str = "GET") -> Reply:
        async def run() -> Reply:
            async with client.request(method, path, params=query, headers=headers) as response:
                return Reply(response.status, response.headers, json.loads(await response.read()))

        return loop.run_until_complete(run())

    return request


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "secret"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}]
)
def test_nobody_gets_in_without_the_token(get, headers):
    for path in ("/v3/accounts", CANDLES, f"/v3/accounts/{ACCOUNT}/pricing", "/v3/nothing"):
        reply = get(path, headers=headers)
        assert (reply.status, reply.body) == (401, {"errorMessage": "Insufficient authorization to perform request."})


def test_health_needs_no_token_and_says_what_the_prices_are(get):
    reply = get("/healthz", headers={})

    assert reply.status == 200
    assert reply.body["prices"] == "ECB rates with simulated intraday"


def test_every_response_has_a_request_id_of_its_own_and_a_date(get):
    replies = [get("/v3/accounts"), get("/v3/nothing"), get(CANDLES, {"count": "0"}), get("/v3/accounts", headers={})]

    assert len({reply.headers["RequestID"] for reply in replies}) == 4
    assert all("Date" in reply.headers for reply in replies)


def test_unknown_paths_wrong_methods_and_other_accounts_get_error_bodies(get):
    nothing, post = get("/v3/instruments/EUR_USD/orderBook"), get("/v3/accounts", method="POST")
    other, malformed = get("/v3/accounts/101-004-1435156-002/summary"), get("/v3/accounts/mine/summary")

    assert (nothing.status, "errorMessage" in nothing.body) == (404, True)
    assert (post.status, post.headers["Allow"], "errorMessage" in post.body) == (405, "GET", True)
    assert (other.status, other.body) == (403, {"errorMessage": "The provided request was forbidden."})
    assert (malformed.status, malformed.body) == (400, {"errorMessage": "Invalid value specified for 'accountID'"})
    assert get("/v3/accounts/101-004-1435156-002/instruments/EUR_USD/candles").status == 403


def test_the_account_is_empty_and_in_dollars(get):
    listed = get("/v3/accounts").body
    full = get(f"/v3/accounts/{ACCOUNT}").body
    summary = get(f"/v3/accounts/{ACCOUNT}/summary").body

    assert listed == {"accounts": [{"id": ACCOUNT, "tags": []}]}
    assert (full["account"]["balance"], full["account"]["currency"]) == ("100000.0000", "USD")
    assert full["account"]["NAV"] == full["account"]["marginAvailable"] == "100000.0000"
    assert (full["account"]["trades"], full["account"]["positions"], full["account"]["orders"]) == ([], [], [])
    assert summary["account"] == {
        key: value for key, value in full["account"].items() if key not in ("trades", "positions", "orders")
    }
    assert summary["lastTransactionID"] == summary["account"]["lastTransactionID"]


def test_instruments_are_the_majors_with_their_precision_and_terms(get):
    path = f"/v3/accounts/{ACCOUNT}/instruments"
    listed = {item["name"]: item for item in get(path).body["instruments"]}

    assert tuple(listed) == MAJORS
    assert (listed["USD_JPY"]["displayPrecision"], listed["USD_JPY"]["pipLocation"]) == (3, -2)
    assert listed["EUR_USD"]["minimumTrailingStopDistance"] == "0.00050"
    days = listed["EUR_USD"]["financing"]["financingDaysOfWeek"]
    assert [(day["dayOfWeek"], day["daysCharged"]) for day in days][:3] == [("MONDAY", 1), ("TUESDAY", 1), ("WEDNESDAY", 3)]
    assert sum(day["daysCharged"] for day in days) == 7
    assert [item["name"] for item in get(path, {"instruments": "USD_CHF,EUR_USD"}).body["instruments"]] == ["USD_CHF", "EUR_USD"]
    assert get(path, {"instruments": "EUR_USD,XAU_USD"}).body == {"errorMessage": "Invalid value specified for 'instruments'"}


def test_candles_are_written_as_oanda_writes_them(get):
    reply = get(CANDLES, {"granularity": "M1", "count": "2", "price": "MBA"})
    last = reply.body["candles"][-1]

    assert (reply.body["instrument"], reply.body["granularity"]) == ("EUR_USD", "M1")
    assert last["time"] == "2024-05-16T09:31:00.000000000Z"
    assert (last["complete"], type(last["volume"])) == (False, int)
    assert set(last) == {"complete", "volume", "time", "bid", "mid", "ask"}
    for side in ("bid", "mid", "ask"):
        assert set(last[side]) == {"o", "h", "l", "c"}
        assert all(len(price.split(".")[1]) == 5 for price in last[side].values())
    yen = get("/v3/instruments/USD_JPY/candles", {"count": "1"}).body["candles"][0]
    assert set(yen) == {"complete", "volume", "time", "mid"}
    assert all(len(price.split(".")[1]) == 3 for price in yen["mid"].values())


def test_mid_is_half_way_between_bid_and_ask_to_the_last_digit(get):
    for candle in get(CANDLES, {"granularity": "M1", "count": "200", "price": "MBA"}).body["candles"]:
        for price in "ohlc":
            bid, mid, ask = (int(candle[side][price].replace(".", "")) for side in ("bid", "mid", "ask"))
            assert mid == (bid + ask + 1) // 2


def test_times_come_as_seconds_when_the_client_asks_for_unix(get):
    unix = AUTHORIZED | {"Accept-Datetime-Format": "UNIX"}

    assert get(CANDLES, {"granularity": "M1", "count": "1"}, unix).body["candles"][0]["time"] == "1715851860.000000000"
    assert get(f"/v3/accounts/{ACCOUNT}", headers=unix).body["account"]["createdTime"] == "1104710400.000000000"
    assert get(CANDLES, headers=AUTHORIZED | {"Accept-Datetime-Format": "iso"}).status == 400


def test_an_unknown_instrument_is_refused(get):
    for path in (
        "/v3/instruments/EUR_XXX/candles",
        "/v3/instruments/eur_usd/candles",
        f"/v3/accounts/{ACCOUNT}/instruments/X/candles",
    ):
        reply = get(path)
        assert (reply.status, reply.body) == (400, {"errorMessage": "Invalid value specified for 'instrument'"})


def test_candles_of_an_account_are_the_candles_of_the_instrument(get):
    query = {"granularity": "H1", "count": "5", "price": "BA"}

    through_account = get(f"/v3/accounts/{ACCOUNT}/instruments/EUR_USD/candles", query | {"units": "1000"})

    assert through_account.body == get(CANDLES, query).body
    assert get(f"/v3/accounts/{ACCOUNT}/instruments/EUR_USD/candles", query | {"units": "0"}).status == 400


def test_latest_candles_come_for_each_specification(get):
    path = f"/v3/accounts/{ACCOUNT}/candles/latest"
    found = get(path, {"candleSpecifications": "EUR_USD:M1:BM,USD_JPY:D:A"}).body["latestCandles"]

    assert [(item["instrument"], item["granularity"]) for item in found] == [("EUR_USD", "M1"), ("USD_JPY", "D")]
    assert [candle["complete"] for candle in found[0]["candles"]] == [True, False]
    assert {"bid", "mid"} < set(found[0]["candles"][0])
    assert get(path).body == {"errorMessage": "The request was missing required data"}
    assert get(path, {"candleSpecifications": "EUR_XXX:M1:B"}).status == 400


def test_prices_are_the_last_ones_with_the_worth_of_their_currencies(get):
    path = f"/v3/accounts/{ACCOUNT}/pricing"
    body = get(path, {"instruments": "EUR_USD,USD_JPY", "includeHomeConversions": "True"}).body
    euro, yen = body["prices"]
    forming = get(CANDLES, {"granularity": "M1", "count": "1", "price": "BA"}).body["candles"][0]

    assert (euro["type"], euro["tradeable"], euro["status"]) == ("PRICE", True, "tradeable")
    assert (euro["bids"][0]["price"], euro["asks"][0]["price"]) == (forming["bid"]["c"], forming["ask"]["c"])
    assert euro["time"] < body["time"] == "2024-05-16T09:31:17.250000000Z"
    assert euro["bids"][0]["liquidity"] > 0
    worth = {item["currency"]: item for item in body["homeConversions"]}
    assert set(worth) == {"EUR", "USD", "JPY"}
    assert float(worth["JPY"]["accountGain"]) == pytest.approx(1 / float(yen["asks"][0]["price"]), abs=1e-8)
    assert float(worth["JPY"]["accountLoss"]) == pytest.approx(1 / float(yen["bids"][0]["price"]), abs=1e-8)
    assert yen["unitsAvailable"]["default"]["long"] == "2000000"  # 100,000 dollars at 5 %
    assert get(path, {"instruments": "EUR_USD", "since": body["time"]}).body["prices"] == []
    assert get(path).status == 400


def test_on_a_closed_market_the_last_price_stands_and_is_not_tradeable(exchange):
    now = "2024-05-18T12:00:00"
    body = exchange.prices_body(ACCOUNT, {"instruments": "EUR_USD"}, TimeFormat.RFC3339, _utc(now))

    price = body["prices"][0]
    assert (price["tradeable"], price["status"]) == (False, "non-tradeable")
    assert price["time"].startswith("2024-05-17T20:59")


@pytest.mark.parametrize(
    ("moment", "tradeable"),
    [
        ("2024-05-12T21:03:59", False),  # Sunday, before the market opens
        ("2024-05-12T21:05:00", True),
        ("2024-05-14T20:59:59", True),
        ("2024-05-14T21:01:00", False),  # the daily break
        ("2024-05-17T21:00:00", False),  # Friday evening
        ("2023-12-25T15:00:00", False),  # Christmas
    ],
)
def test_prices_say_whether_the_market_is_open(exchange, moment, tradeable):
    body = exchange.prices_body(ACCOUNT, {"instruments": "EUR_USD"}, TimeFormat.RFC3339, _utc(moment))

    assert body["prices"][0]["tradeable"] is tradeable


def test_before_the_first_price_there_is_none(exchange):
    body = exchange.prices_body(
        ACCOUNT, {"instruments": "EUR_USD", "includeHomeConversions": "true"}, TimeFormat.UNIX, _utc("2004-01-01")
    )

    assert body["prices"] == body["homeConversions"] == []


def test_more_than_a_hundred_and_twenty_requests_a_second_get_429():
    clock = [0.0]
    limit = RateLimit(120, lambda: clock[0])

    assert [limit.allows("a") for _ in range(121)] == [True] * 120 + [False]
    assert limit.allows("b")
    clock[0] = 0.5
    assert [limit.allows("a") for _ in range(61)] == [True] * 60 + [False]


def test_a_client_over_the_limit_is_told_so_and_health_is_not_limited(exchange, loop):
    service = Service(exchange, SecretStr("secret"), limit=RateLimit(2, lambda: 0.0))

    async def run() -> list[int]:
        async with TestClient(TestServer(create_app(service))) as client:
            paths = ["/v3/accounts"] * 3 + ["/healthz"]
            return [(await client.get(path, headers=AUTHORIZED)).status for path in paths]

    assert loop.run_until_complete(run()) == [200, 200, 429, 200]


def test_five_thousand_candles_come_in_one_answer(exchange):
    query = {"granularity": "M1", "count": "5000", "price": "BA", "to": "2024-05-10T12:00:00Z"}

    body = encode(exchange.candles_body("EUR_USD", query, TimeFormat.RFC3339, _utc("2024-05-16T09:31:17")))

    assert len(json.loads(body)["candles"]) == 5000


keys = st.sampled_from(
    [
        "granularity",
        "price",
        "from",
        "to",
        "count",
        "smooth",
        "includeFirst",
        "dailyAlignment",
        "alignmentTimezone",
        "weeklyAlignment",
        "units",
    ]
)
values = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "S5",
            "M1",
            "H2",
            "D",
            "W",
            "M",
            "BA",
            "MBA",
            "True",
            "false",
            "0",
            "1",
            "3",
            "50",
            "5001",
            "Asia/Kolkata",
            "UTC",
            "Monday",
        ]
    ),
    st.integers(9 * 10**8, 18 * 10**8).map(lambda second: datetime.fromtimestamp(second, UTC).isoformat()),
    st.integers(0, 2**35).map(str),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(keys, values), max_size=6), st.sampled_from(["EUR_USD", "USD_JPY", "EUR", "%", "é"]))
def test_no_query_whatever_gets_a_server_error(get, query, instrument):
    if ("granularity", "S5") not in query and not any(key == "granularity" for key, _ in query):
        query = [*query, ("granularity", "M1")]
    reply = get(
        f"/v3/instruments/{instrument}/candles", [(key, value.encode("utf-8", "replace").decode()) for key, value in query]
    )

    assert reply.status in (200, 400, 404)
    if reply.status == 200:
        times = [candle["time"] for candle in reply.body["candles"]]
        assert times == sorted(set(times))
        assert all(candle["complete"] for candle in reply.body["candles"][:-1])
    else:
        assert reply.body["errorMessage"]


def _utc(text: str) -> np.datetime64:
    return np.datetime64(text, "us")
