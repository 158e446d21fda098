"""How oandapyV20 dies, fault by fault: the table of the requirements, with the real client against a real process.

What the client does is its own; that it does exactly this shows that the faults are those that the table was measured with.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from oandapyV20 import API, V20Error, oandapyV20
from oandapyV20.endpoints import accounts, orders, pricing, transactions
from simulator.running import ACCOUNT, TOKEN, Running

ORDER = {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "100"}}


@pytest.fixture
def environment(fresh: Running, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(oandapyV20.TRADING_ENVIRONMENTS, "simulator", {"api": fresh.url, "stream": fresh.stream_url})
    return "simulator"


@pytest.fixture
def api(environment: str) -> Iterator[API]:
    with API(TOKEN, environment=environment, request_params={"timeout": (3.05, 1.0)}) as api:
        yield api


def prices(api: API) -> Iterator[dict[str, Any]]:
    """The price stream as oandapyV20 gives it."""
    return api.request(pricing.PricingStream(ACCOUNT, params={"instruments": "EUR_USD"}))


def trades(fresh: Running) -> int:
    return len(fresh.account("GET", "/openTrades").json()["trades"])


# --- Streams -----------------------------------------------------------------------------------------------------------


def test_a_clean_end_of_the_stream_ends_the_loop_without_an_exception(fresh, api):
    fresh.fault({"do": "end", "when": "after"}, message="HEARTBEAT")

    assert [message["type"] for message in prices(api)] == ["PRICE", "HEARTBEAT"]


def test_a_fin_without_the_last_chunk_is_a_chunked_encoding_error(fresh, api):
    fresh.fault({"do": "close", "when": "after"}, message="HEARTBEAT")

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="Response ended prematurely"):
        list(prices(api))


def test_a_reset_of_the_stream_is_a_chunked_encoding_error_that_names_the_reset(fresh, api):
    fresh.fault({"do": "reset", "when": "after"}, message="HEARTBEAT")

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="ConnectionResetError"):
        list(prices(api))


def test_a_line_that_is_cut_is_a_json_decode_error(fresh, api):
    fresh.fault("cut", message="HEARTBEAT")

    with pytest.raises(json.JSONDecodeError):
        list(prices(api))


def test_a_line_in_many_chunks_arrives_whole(fresh, api):
    fresh.fault({"do": "split", "bytes": 1}, message="*")
    fresh.fault({"do": "end", "when": "after"}, message="HEARTBEAT", nth=2)

    assert [message["type"] for message in prices(api)] == ["PRICE", "HEARTBEAT", "HEARTBEAT"]


def test_silence_with_a_timeout_is_a_connection_error_and_no_timeout(fresh, api):
    fresh.fault("silence", message="HEARTBEAT")

    with pytest.raises(requests.ConnectionError, match="Read timed out") as error:
        list(prices(api))
    assert not isinstance(error.value, requests.Timeout)


def test_silence_without_a_timeout_blocks_until_somebody_ends_the_connection(fresh, api, environment):
    fresh.fault("silence", message="HEARTBEAT")
    seen: list[object] = []

    def read() -> None:
        try:
            with API(TOKEN, environment=environment) as patient:
                for message in prices(patient):
                    seen.append(message["type"])
        except requests.RequestException as error:
            seen.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    with pytest.raises(requests.ConnectionError, match="Read timed out"):
        list(prices(api))  # one who does set a timeout has long given up
    blocked = reader.is_alive()
    fresh.deed("disconnect")
    reader.join(30)

    assert blocked
    assert seen[0] == "PRICE"
    assert isinstance(seen[1], requests.exceptions.ChunkedEncodingError)


def test_both_streams_die_alike(fresh, api):
    fresh.fault({"do": "reset", "when": "before"}, message="HEARTBEAT", path="*/transactions/stream")

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(api.request(transactions.TransactionsStream(ACCOUNT)))


# --- Requests ----------------------------------------------------------------------------------------------------------


def test_429_is_an_error_with_the_code_and_the_body(fresh, api):
    fresh.fault({"do": "answer", "status": 429})

    with pytest.raises(V20Error) as error:
        api.request(accounts.AccountSummary(ACCOUNT))
    assert error.value.code == 429
    assert json.loads(error.value.msg) == {"errorMessage": "Rate limit exceeded. At most 120 requests a second are answered."}


def test_503_in_html_is_an_error_with_the_code_and_the_html(fresh, api):
    fresh.fault({"do": "answer", "status": 503, "html": True})

    with pytest.raises(V20Error) as error:
        api.request(orders.OrderCreate(ACCOUNT, data=ORDER))
    assert error.value.code == 503
    assert error.value.msg.startswith("<html>")
    fresh.admin("DELETE", "/faults")
    assert trades(fresh) == 0


def test_an_order_that_is_applied_and_then_reset_is_a_connection_error_and_a_trade(fresh, api):
    fresh.fault({"do": "reset", "when": "after"}, method="POST", path="*/orders")

    with pytest.raises(requests.ConnectionError) as error:
        api.request(orders.OrderCreate(ACCOUNT, data=ORDER))
    assert not isinstance(error.value, requests.Timeout)
    assert trades(fresh) == 1


def test_an_order_that_is_answered_after_the_timeout_is_a_read_timeout_and_a_trade(fresh, api):
    fresh.fault({"do": "delay", "when": "after", "seconds": 3}, method="POST", path="*/orders")

    with pytest.raises(requests.ReadTimeout):
        api.request(orders.OrderCreate(ACCOUNT, data=ORDER))
    assert trades(fresh) == 1
