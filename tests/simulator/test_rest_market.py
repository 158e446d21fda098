"""Candles and prices over HTTP, on the sample market at a moment of 2024."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import ACCOUNT, Simulated
from simulator.served import Scripted, Served

from mbats.market import MAJORS
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.market import Market
from mbats.simulator.sample import SampleMarket

NOW = np.datetime64("2024-05-16T09:31:17.250", "us")
CANDLES = "/v3/instruments/EUR_USD/candles"


def sample_engine(market: SampleMarket, now: np.datetime64, **account: object) -> Engine:
    engine = Engine(Market(market), [AccountConfig(id=ACCOUNT, **account)])
    engine.start(now)
    return engine


@pytest.fixture(scope="module")
def served(market) -> Iterator[Served]:
    server = Served(sample_engine(market, NOW))
    yield server
    server.close()


def at(market: SampleMarket, moment: str) -> Served:
    return Served(sample_engine(market, np.datetime64(moment, "us")))


# --- Candles -----------------------------------------------------------------------------------------------------------------


def test_candles_are_written_as_oanda_writes_them(served):
    answer = served.get(CANDLES, granularity="M1", count="2", price="MBA")
    last = answer.body["candles"][-1]

    assert (answer.body["instrument"], answer.body["granularity"]) == ("EUR_USD", "M1")
    assert last["time"] == "2024-05-16T09:31:00.000000000Z"
    assert (last["complete"], type(last["volume"])) == (False, int)
    assert set(last) == {"complete", "volume", "time", "bid", "mid", "ask"}
    for side in ("bid", "mid", "ask"):
        assert set(last[side]) == {"o", "h", "l", "c"}
        assert all(len(price.split(".")[1]) == 5 for price in last[side].values())
    yen = served.get("/v3/instruments/USD_JPY/candles", count="1").body["candles"][0]
    assert set(yen) == {"complete", "volume", "time", "mid"}
    assert all(len(price.split(".")[1]) == 3 for price in yen["mid"].values())


def test_mid_is_half_way_between_bid_and_ask_to_the_last_digit(served):
    for candle in served.get(CANDLES, granularity="M1", count="200", price="MBA").body["candles"]:
        for price in "ohlc":
            bid, mid, ask = (int(candle[side][price].replace(".", "")) for side in ("bid", "mid", "ask"))
            assert mid == (bid + ask + 1) // 2


def test_candles_come_with_unix_times_when_asked_for(served):
    unix = {"Accept-Datetime-Format": "UNIX"}

    assert served.get(CANDLES, granularity="M1", count="1", headers=unix).body["candles"][0]["time"] == "1715851860.000000000"


def test_an_unknown_instrument_is_refused(served):
    for path in ("/v3/instruments/EUR_XXX/candles", "/v3/instruments/eur_usd/candles", "instruments/X/candles"):
        answer = served.get(path)
        assert (answer.status, answer.body) == (400, {"errorMessage": "Invalid value specified for 'instrument'"})


def test_candles_of_an_account_are_the_candles_of_the_instrument(served):
    query = {"granularity": "H1", "count": "5", "price": "BA"}

    through_account = served.get("instruments/EUR_USD/candles", **query, units="1000")

    assert through_account.body == served.get(CANDLES, **query).body
    assert served.get("instruments/EUR_USD/candles", **query, units="0").status == 400


def test_five_thousand_candles_come_in_one_answer(served):
    answer = served.get(CANDLES, granularity="M1", count="5000", price="BA", to="2024-05-10T12:00:00Z")

    assert len(answer.body["candles"]) == 5000
    assert served.get(CANDLES, count="5001").body == {"errorMessage": "Maximum value for 'count' exceeded"}


def test_smooth_candles_open_where_the_one_before_closed(served):
    rough = served.get(CANDLES, granularity="M5", count="20").body["candles"]
    smooth = served.get(CANDLES, granularity="M5", count="20", smooth="True").body["candles"]

    assert [candle["mid"]["o"] for candle in smooth[1:]] == [candle["mid"]["c"] for candle in rough[:-1]]
    assert smooth != rough


def test_a_time_that_has_not_come_is_refused_or_counts_as_now(served, market):
    query = {"granularity": "M1", "from_": "2024-05-16T09:00:00Z", "to": "2024-05-16T10:00:00Z"}
    refused = served.get(CANDLES, **query)
    with Served(sample_engine(market, NOW), future_to="clamp") as lenient:
        given = lenient.get(CANDLES, **query).body["candles"]
        assert lenient.get(CANDLES, from_="2024-05-16T10:00:00Z").status == 400

    assert (refused.status, refused.body["errorMessage"]) == (400, "Invalid value specified for 'to'. Time is in the future")
    assert given == served.get(CANDLES, granularity="M1", from_="2024-05-16T09:00:00Z").body["candles"]


def test_a_candle_may_be_said_to_be_complete_a_little_late(market):
    """Recorded: a candle just past its end was reported incomplete for a moment."""
    with Served(sample_engine(market, np.datetime64("2024-05-16T09:31:03", "us")), candle_lag_seconds=5.0) as server:
        early = server.get(CANDLES, granularity="M1", count="3").body["candles"]
        newest = server.get("candles/latest", candleSpecifications="EUR_USD:M1:M").body["latestCandles"][0]["candles"]
        server.runtime.engine.advance(np.datetime64("2024-05-16T09:31:05", "us"))
        later = server.get(CANDLES, granularity="M1", count="3").body["candles"]

    assert [candle["complete"] for candle in early] == [True, False, False]
    assert [candle["complete"] for candle in later] == [True, True, False]
    assert early[:2] == [candle | {"complete": early[place]["complete"]} for place, candle in enumerate(later[:2])]
    assert newest == early


def test_latest_candles_come_for_each_specification(served):
    path = "candles/latest"
    found = served.get(path, candleSpecifications="EUR_USD:M1:BM,USD_JPY:D:A").body["latestCandles"]

    assert [(item["instrument"], item["granularity"]) for item in found] == [("EUR_USD", "M1"), ("USD_JPY", "D")]
    assert [candle["complete"] for candle in found[0]["candles"]] == [True, False]
    assert {"bid", "mid"} < set(found[0]["candles"][0])
    assert served.get(path).body == {"errorMessage": "The request was missing required data"}
    assert served.get(path, candleSpecifications="EUR_XXX:M1:B").status == 400
    assert served.get(path, candleSpecifications="EUR_USD:M1:B", units="none").status == 400


def test_at_the_weekend_the_latest_candle_is_the_last_complete_one(market):
    with at(market, "2024-05-18T12:00:00") as server:
        found = server.get("candles/latest", candleSpecifications="EUR_USD:M5").body["latestCandles"][0]["candles"]

    assert [(candle["time"], candle["complete"]) for candle in found] == [("2024-05-17T20:55:00.000000000Z", True)]


keys = (
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
)
words = ("M1", "H2", "D", "W", "M", "BA", "MBA", "True", "false", "0", "1", "3", "50", "5001", "Asia/Kolkata", "UTC", "Monday")
values = st.one_of(
    st.text(max_size=20),
    st.sampled_from(words),
    st.integers(9 * 10**8, 18 * 10**8).map(lambda second: datetime.fromtimestamp(second, UTC).isoformat()),
    st.integers(0, 2**35).map(str),
)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(st.sampled_from(keys), values, max_size=6),
    st.sampled_from(["M1", "M30", "H4", "D", "W", "M", "M3"]),
    st.sampled_from(["EUR_USD", "USD_JPY", "EUR", "%25", "é"]),
)
def test_no_query_whatever_gets_a_server_error(served, query, granularity, instrument):
    asked = {key: value.encode("utf-8", "replace").decode() for key, value in query.items()}

    answer = served.get(f"/v3/instruments/{instrument}/candles", **asked, granularity=granularity)

    assert answer.status in (200, 400)
    if answer.status == 200:
        times = [candle["time"] for candle in answer.body["candles"]]
        assert times == sorted(set(times))
        assert all(candle["complete"] for candle in answer.body["candles"][:-1])
    else:
        assert answer.body["errorMessage"]


# --- Prices ------------------------------------------------------------------------------------------------------------------


def test_prices_are_the_last_ones_with_the_worth_of_their_currencies(served):
    body = served.get("pricing", instruments="EUR_USD,USD_JPY", includeHomeConversions="True").body
    euro, yen = body["prices"]
    forming = served.get(CANDLES, granularity="M1", count="1", price="BA").body["candles"][0]

    assert (euro["type"], euro["tradeable"], euro["status"]) == ("PRICE", True, "tradeable")
    assert (euro["bids"][0]["price"], euro["asks"][0]["price"]) == (forming["bid"]["c"], forming["ask"]["c"])
    assert euro["time"] < body["time"] == "2024-05-16T09:31:17.250000000Z"
    assert euro["bids"][0]["liquidity"] > 0
    worth = {item["currency"]: item for item in body["homeConversions"]}
    assert set(worth) == {"EUR", "USD", "JPY"}
    assert float(worth["JPY"]["accountGain"]) == pytest.approx(1 / float(yen["asks"][0]["price"]), abs=1e-8)
    assert float(worth["JPY"]["accountLoss"]) == pytest.approx(1 / float(yen["bids"][0]["price"]), abs=1e-8)
    assert yen["quoteHomeConversionFactors"] == {
        "positiveUnits": worth["JPY"]["accountGain"],
        "negativeUnits": worth["JPY"]["accountLoss"],
    }
    assert served.get("pricing").body == {"errorMessage": "The request was missing required data"}


def test_only_prices_since_a_moment_come_when_asked_for(served):
    price = served.get("pricing", instruments="EUR_USD").body["prices"][0]

    assert served.get("pricing", instruments="EUR_USD", since=price["time"]).body["prices"] == []
    earlier = served.get("pricing", instruments="EUR_USD", since="2024-05-16T09:00:00Z", includeUnitsAvailable="false")
    assert earlier.body["prices"] == [{key: value for key, value in price.items() if key != "unitsAvailable"}]


def test_all_majors_have_a_price(served):
    prices = served.get("pricing", instruments=",".join(MAJORS)).body["prices"]

    assert [price["instrument"] for price in prices] == list(MAJORS)
    assert all(price["tradeable"] for price in prices)


@pytest.mark.parametrize(
    ("moment", "tradeable"),
    [
        ("2024-05-12T21:03:59", False),  # Sunday, before the market opens
        ("2024-05-12T21:05:00", True),
        ("2024-05-14T20:57:59", True),
        ("2024-05-14T21:01:00", False),  # the daily break
        ("2024-05-17T21:00:00", False),  # Friday evening
        ("2023-12-25T15:00:00", False),  # Christmas
    ],
)
def test_prices_say_whether_the_market_is_open(market, moment, tradeable):
    with at(market, moment) as server:
        price = server.get("pricing", instruments="EUR_USD").body["prices"][0]

    assert (price["tradeable"], price["status"]) == (tradeable, "tradeable" if tradeable else "non-tradeable")


def test_on_a_closed_market_the_last_price_stands(market):
    with at(market, "2024-05-18T12:00:00") as server:
        price = server.get("pricing", instruments="EUR_USD").body["prices"][0]

    assert price["time"].startswith("2024-05-17T20:5")
    assert price["bids"] and price["asks"]


def test_before_the_first_price_of_a_pair_there_is_none_and_no_worth_of_its_currencies():
    exchange = Simulated()
    with Served(exchange.engine) as server:
        first = server.get("pricing", instruments="EUR_USD,USD_JPY", includeHomeConversions="true").body
        exchange.price("USD_JPY", "150.000", "150.010")
        second = server.get("pricing", instruments="EUR_USD,USD_JPY", includeHomeConversions="true").body

    assert first["prices"] == first["homeConversions"] == []
    assert [price["instrument"] for price in second["prices"]] == ["USD_JPY"]
    assert {each["currency"] for each in second["homeConversions"]} == {"USD", "JPY"}


def test_an_empty_book_has_a_closeout_price_and_no_other():
    with Scripted() as server:
        server.exchange.change("liquidity", instrument="EUR_USD", levels=[])
        price = server.get("pricing", instruments="EUR_USD").body["prices"][0]

    assert (price["bids"], price["asks"]) == ([], [])
    assert (price["closeoutBid"], price["closeoutAsk"]) == ("1.10000", "1.10010")
