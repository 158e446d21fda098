"""Candles as they come to be: what is complete, what is not yet, and what an answer leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import ACCOUNT, TOKEN
from faulty_server import FaultyServer, answer
from pydantic import SecretStr

from mbats.errors import OandaRejected, OandaUnavailable
from mbats.market import Granularity, parse_utc
from mbats.oanda.candles_latest import PAGE, NewCandles
from mbats.oanda.sessions import Sessions

M1, M5 = Granularity.M1, Granularity.M5
SIDE = {"o": "1.1", "h": "1.3", "l": "1.0", "c": "1.2"}


def candle(at: str, *, complete: bool = True) -> dict[str, Any]:
    return {"time": f"2024-05-14T{at}:00.000000000Z", "bid": SIDE, "ask": SIDE, "volume": 3, "complete": complete}


def series(name: str, granularity: str, *candles: dict[str, Any]) -> dict[str, Any]:
    return {"instrument": name, "granularity": granularity, "candles": list(candles)}


def shown(*found: dict[str, Any]) -> dict[str, Any]:
    return {"latestCandles": list(found)}


@pytest.fixture
def broker() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture
def candles(broker: FaultyServer) -> Iterator[NewCandles]:
    sessions = Sessions(broker.url, SecretStr(TOKEN), connections_per_second=100)
    yield NewCandles(sessions, ACCOUNT)
    sessions.close()


def test_the_newest_of_several_series_come_with_one_request(candles, broker):
    euro = series("EUR_USD", "M1", candle("10:00"), candle("10:01", complete=False))
    yen = series("USD_JPY", "M5", candle("09:55"))
    broker.then(answer(200, shown(yen, euro)))

    found = candles.latest([("EUR_USD", M1), ("USD_JPY", M5)])

    assert list(found) == [("EUR_USD", M1), ("USD_JPY", M5)]
    assert [str(time)[11:16] for time in found["EUR_USD", M1].bars.time] == ["10:00"]
    assert found["EUR_USD", M1].forming == parse_utc("2024-05-14T10:01Z")
    assert found["USD_JPY", M5].forming is None
    path = broker.requests[0].path.replace("%3A", ":").replace("%2C", ",")
    assert path == f"/v3/accounts/{ACCOUNT}/candles/latest?candleSpecifications=EUR_USD:M1:BA,USD_JPY:M5:BA"


def test_nothing_is_asked_for_no_series(candles, broker):
    assert candles.latest([]) == {}
    assert broker.requests == []


def test_what_follows_a_candle_that_is_not_complete_is_not_taken_for_complete(candles, broker):
    odd = series("EUR_USD", "M1", candle("10:00"), candle("10:01", complete=False), candle("10:02"))
    broker.then(answer(200, shown(odd)))

    found = candles.latest([("EUR_USD", M1)])["EUR_USD", M1]

    assert len(found.bars) == 1
    assert found.forming == parse_utc("2024-05-14T10:01Z")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (shown(series("EUR_USD", "M1")), "latest candles of .*USD_JPY.* are missing"),
        (shown(series("EUR_USD", "M1", {"time": "x"})), "'complete' is missing"),
        (shown(series("EUR_USD", "M7")), "M7"),
        (shown({"instrument": "EUR_USD", "granularity": "M1"}), "'candles' is missing"),
        ({}, "'latestCandles' is missing"),
        ([], "latestCandles"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_no_answer_and_is_not_asked_again(body, message, candles, broker):
    broker.then(answer(200, body))

    with pytest.raises(OandaUnavailable, match=message):
        candles.latest([("EUR_USD", M1), ("USD_JPY", M1)])

    assert len(broker.requests) == 1


def test_candles_since_a_moment_say_whether_there_may_be_more(candles, broker):
    broker.then(answer(200, series("EUR_USD", "M1", candle("10:00"), candle("10:01", complete=False))))

    found, more = candles.since("EUR_USD", M1, parse_utc("2024-05-14T10:00Z"))

    assert (len(found.bars), found.forming, more) == (1, parse_utc("2024-05-14T10:01Z"), False)
    assert "from=2024-05-14T10%3A00%3A00.000000000Z" in broker.requests[0].path

    full = [candle(f"{n // 60 % 24:02}:{n % 60:02}") | {"time": str(1715680800 + 60 * n)} for n in range(PAGE)]
    broker.then(answer(200, series("EUR_USD", "M1", *full)))
    assert candles.since("EUR_USD", M1, parse_utc("2024-05-14T10:00Z"))[1]


def test_candles_of_another_pair_are_no_answer(candles, broker):
    broker.then(answer(200, series("GBP_USD", "M1", candle("10:00"))))

    with pytest.raises(OandaUnavailable, match="GBP_USD"):
        candles.since("EUR_USD", M1, parse_utc("2024-05-14T10:00Z"))


def test_candles_before_a_moment_never_reach_it(candles, broker):
    broker.then(answer(200, series("EUR_USD", "M1", candle("09:58"), candle("09:59"), candle("10:00"))))

    bars = candles.before("EUR_USD", M1, parse_utc("2024-05-14T10:00Z"), 3)

    assert [str(time)[11:16] for time in bars.time] == ["09:58", "09:59"]


def test_a_refusal_keeps_its_status(candles, broker):
    broker.then(answer(400, {"errorMessage": "Invalid value specified for 'candleSpecifications'"}))

    with pytest.raises(OandaRejected) as caught:
        candles.latest([("XXX_YYY", M1)])

    assert caught.value.status == 400
