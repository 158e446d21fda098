"""Both streams: what is sent and when, in which form, to whom, in which order; and what a client that does not read costs."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from simulator.inprocess import NOW, Time, make_runtime, price
from simulator.running import ACCOUNT, HEADERS, TIMEOUT, Running, scripted_settings
from simulator.test_faults import BUY, ORDERS, RawStream, eventually, raw_stream, send_raw

from mbats.simulator.clock import seconds
from mbats.simulator.faults.deeds import Deeds
from mbats.simulator.faults.rules import Facts
from mbats.simulator.streams import PriceStream, Streams, TransactionStream
from mbats.simulator.wire import TimeFormat

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "simulator_streams.py"


def without_beats(messages: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return list(islice((each for each in messages if each["type"] != "HEARTBEAT"), count))


def lines(running: Running, what: str, query: str = "", **headers: str) -> Iterator[bytes]:
    """The lines of a stream as they are."""
    url = f"{running.stream_url}/v3/accounts/{ACCOUNT}/{what}/stream{query}"
    with requests.get(url, headers=HEADERS | headers, timeout=TIMEOUT, stream=True) as response:
        yield from response.iter_lines(chunk_size=1)


# --- In a time of the test's own ---------------------------------------------------------------------------------------------


class Lines:
    """What a channel was given."""

    def __init__(self) -> None:
        self.open = True
        self.sent: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self.sent += [json.loads(line) for line in data.splitlines()]


class Watched:
    """A stream whose time the test moves."""

    def __init__(self, kind: type[Any] = PriceStream, **more: Any) -> None:
        self.time = Time()
        self.runtime = make_runtime(self.time.clock(), self.time)
        price(self.runtime, "1.08000", "1.08010")
        self.pass_seconds(1)

        async def cut(_: float) -> None: ...

        self.streams = Streams(self.runtime, Deeds(self.runtime, cut), monotonic=self.time.monotonic)
        self.lines = Lines()
        said = {"instruments": ("EUR_USD",), "snapshot": True, "home": None} if kind is PriceStream else {"account": ACCOUNT}
        self.stream = kind(
            streams=self.streams,
            facts=Facts("stream", "GET", "/", ACCOUNT),
            times=TimeFormat.RFC3339,
            channel=self.lines,
            resets=0,
            **(said | more),
        )

    def pass_seconds(self, amount: float) -> None:
        self.time.elapsed += amount
        self.runtime.settle()

    def look(self) -> list[dict[str, Any]]:
        """What has been sent since the last look, once the stream has looked too."""
        self.stream.look(self.time.elapsed)
        sent, self.lines.sent = self.lines.sent, []
        return sent


def in_a_loop(test: Any) -> None:
    async def run() -> None:
        test()

    asyncio.run(run())


def test_a_pair_has_one_price_in_a_window_and_the_last_one_wins():
    def test() -> None:
        watched = Watched()
        watched.stream.begin()
        assert [each["closeoutBid"] for each in watched.look()] == ["1.08000"]

        came = []
        for number in range(1, 10):
            price(watched.runtime, f"1.0800{number}", f"1.0801{number}")
            watched.pass_seconds(0.1)
            came += [each["closeoutBid"] for each in watched.look()]

        assert came == ["1.08003", "1.08006", "1.08009"]
        watched.pass_seconds(1)
        assert watched.look() == []

    in_a_loop(test)


def test_without_a_snapshot_only_new_prices_come():
    def test() -> None:
        watched = Watched(snapshot=False)
        watched.stream.begin()
        watched.pass_seconds(1)
        assert watched.look() == []
        price(watched.runtime, "1.08001", "1.08011")
        watched.pass_seconds(0.1)
        assert [each["closeoutBid"] for each in watched.look()] == ["1.08001"]

    in_a_loop(test)


@pytest.mark.parametrize("kind", [PriceStream, TransactionStream])
def test_a_heartbeat_comes_every_five_seconds_with_the_exchanges_time(kind):
    def test() -> None:
        watched = Watched(kind)
        watched.stream.begin()
        watched.look()
        came = []
        for _ in range(100):
            watched.pass_seconds(0.125)
            came += watched.look()
        assert [each["type"] for each in came] == ["HEARTBEAT"] * 2
        assert [each["time"] for each in came] == [f"{NOW + seconds(after)}000Z" for after in (6, 11)]
        assert came[0].get("lastTransactionID") == ("2" if kind is TransactionStream else None)

    in_a_loop(test)


def test_when_the_market_closes_one_last_price_says_so_and_then_there_are_none():
    def test() -> None:
        watched = Watched()
        watched.stream.begin()
        watched.look()
        watched.runtime.change_market({"change": "halt", "instrument": "EUR_USD"})
        came = []
        for _ in range(20):
            watched.pass_seconds(0.1)
            came += watched.look()
        assert [(each["tradeable"], each["status"]) for each in came] == [(False, "non-tradeable")]
        assert came[0]["time"] == "2024-05-14T10:00:00.000000000Z"

    in_a_loop(test)


def test_conversions_into_the_accounts_currency_come_with_each_price_when_asked_for():
    def test() -> None:
        watched = Watched(instruments=("USD_JPY",), home="USD")
        price(watched.runtime, "150.000", "150.010", "USD_JPY")
        watched.pass_seconds(1)
        watched.stream.begin()
        (message,) = watched.look()
        assert [each["currency"] for each in message["homeConversions"]] == ["USD", "JPY"]
        assert message["homeConversions"][1]["positionValue"] == f"{1 / 150.005:.8f}"

    in_a_loop(test)


# --- Over the wire -----------------------------------------------------------------------------------------------------------


def test_a_closed_market_gives_one_stale_price_and_then_heartbeats(start_simulator, tmp_path):
    settings = {"simulator_source": "sample", "simulator_start": "2024-05-18T12:00:00Z"}
    running = start_simulator(**scripted_settings(tmp_path) | settings)

    with running.stream("pricing", instruments="EUR_USD,USD_JPY") as messages:
        found = list(islice(messages, 5))

    assert [each["type"] for each in found] == ["PRICE", "PRICE", "HEARTBEAT", "HEARTBEAT", "HEARTBEAT"]
    for stale in found[:2]:
        assert not stale["tradeable"]
        assert stale["time"].startswith("2024-05-17T20:5")
    assert found[2]["time"].startswith("2024-05-18T12:00:00")


def test_over_the_weekend_a_stream_says_that_the_market_closes_and_that_it_opens(start_simulator, tmp_path):
    settings = {"simulator_source": "sample", "simulator_start": "2024-05-17T20:57:50Z"}
    running = start_simulator(**scripted_settings(tmp_path, price_window_seconds=0) | settings)

    with running.stream("pricing", instruments="EUR_USD") as messages:
        prices = (each for each in messages if each["type"] == "PRICE")
        assert next(prices)["tradeable"]
        running.step(300)
        running.fault({"do": "end", "when": "before"}, message="HEARTBEAT", times=1)
        closing = list(prices)
    with running.stream("pricing", instruments="EUR_USD", snapshot="false") as messages:
        running.step(48 * 3600 + 120)
        opening = next(each for each in messages if each["type"] == "PRICE" and each["time"] > "2024-05-18")

    assert not any(each["tradeable"] for each in closing)
    assert closing[-1]["time"] < "2024-05-17T21:00:00"
    assert opening["tradeable"]
    assert opening["time"] > "2024-05-19T21:01:00"


def test_every_transaction_comes_once_in_order_and_as_rest_has_it(fresh):
    with fresh.stream() as before_everything:
        for number in range(10):
            fresh.buy(100 + number, order={"takeProfitOnFill": {"price": "1.09000"}})
        ids = [order["id"] for order in fresh.account("GET", "/pendingOrders").json()["orders"]]
        for each in ids[:5]:
            fresh.account("PUT", f"/orders/{each}/cancel")
        fresh.price("1.09500", "1.09510")
        known = fresh.account("GET", "/transactions/sinceid?id=2").json()["transactions"]
        told = without_beats(before_everything, len(known))

    assert told == known
    assert [int(each["id"]) for each in told] == list(range(3, 3 + len(told)))
    assert {"MARKET_ORDER", "ORDER_FILL", "TAKE_PROFIT_ORDER", "ORDER_CANCEL"} == {each["type"] for each in told}


@pytest.mark.parametrize("form", ["RFC3339", "UNIX"])
def test_a_transaction_has_the_same_bytes_on_the_stream_as_in_an_answer(fresh, form):
    headers = {"Accept-Datetime-Format": form}
    stream = lines(fresh, "transactions", **headers)
    beat = orjson.loads(next(stream))
    fresh.buy()
    told = [line for line in islice(stream, 20) if b'"HEARTBEAT"' not in line][:2]
    stream.close()
    answer = fresh.account("GET", "/transactions/sinceid?id=2", headers=HEADERS | headers).content

    assert len(told) == 2
    assert all(line in answer for line in told)
    assert beat["time"] == {"RFC3339": "2024-05-14T10:00:00.000001000Z", "UNIX": "1715680800.000001000"}[form]


def test_prices_have_the_form_of_the_time_that_the_client_asks_for(fresh):
    stream = lines(fresh, "pricing", "?instruments=EUR_USD", **{"Accept-Datetime-Format": "UNIX"})
    found = orjson.loads(next(stream))
    stream.close()

    assert found["time"] == "1715680800.000000000"


def test_nothing_is_replayed(fresh):
    fresh.buy()
    with fresh.stream() as messages:
        beat = next(messages)
        fresh.buy()
        told = without_beats(messages, 2)

    assert (beat["type"], beat["lastTransactionID"]) == ("HEARTBEAT", "4")
    assert [each["id"] for each in told] == ["5", "6"]


def test_a_transaction_is_on_the_stream_before_the_order_is_answered(fresh):
    fresh.fault("drop", message="HEARTBEAT")
    with raw_stream(fresh) as stream, send_raw(fresh.url, "GET", "/healthz") as orders:
        orders.recv(65536)
        for _ in range(30):
            body = json.dumps(BUY).encode()
            head = [f"POST {ORDERS} HTTP/1.1", "Host: x", f"Authorization: {HEADERS['Authorization']}"]
            orders.sendall("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
            select.select([orders], [], [])
            assert select.select([stream.connection], [], [], 0)[0]
            while select.select([stream.connection], [], [], 0)[0]:
                stream.connection.recv(65536)
            orders.recv(65536)


def test_an_exchange_that_is_put_back_ends_its_streams_as_it_should(fresh):
    with raw_stream(fresh) as stream:
        fresh.admin("POST", "/reset")
        assert stream.to_end()[1] == "last chunk"


def test_streams_are_ended_when_the_process_stops(start_simulator, tmp_path):
    running = start_simulator(**scripted_settings(tmp_path))
    with raw_stream(running) as stream:
        code, _ = running.stop()
        assert (code, stream.to_end()[1]) == (0, "last chunk")


# --- Who gets one --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/v3/accounts/{ACCOUNT}/pricing/stream?instruments=EUR_USD", {"Authorization": "Bearer wrong"}, 401),
        (f"/v3/accounts/{ACCOUNT}/pricing/stream", {}, 400),
        (f"/v3/accounts/{ACCOUNT}/pricing/stream?instruments=EUR_XXX", {}, 400),
        (f"/v3/accounts/{ACCOUNT}/pricing/stream?instruments=EUR_USD&snapshot=perhaps", {}, 400),
        (f"/v3/accounts/{ACCOUNT}/transactions/stream", {"Accept-Datetime-Format": "ISO"}, 400),
        ("/v3/accounts/101-004-1435156-999/transactions/stream", {}, 403),
        ("/v3/accounts/mine/transactions/stream", {}, 400),
        (f"/v3/accounts/{ACCOUNT}/summary", {}, 404),
    ],
)
def test_a_stream_that_cannot_be_had_is_refused_in_oandas_form(fresh, path, headers, status):
    response = requests.get(f"{fresh.stream_url}{path}", headers=HEADERS | headers, timeout=TIMEOUT)

    assert (response.status_code, list(response.json())) == (status, ["errorMessage"])
    assert "RequestID" in response.headers


def test_a_stream_needs_chunks(fresh):
    request = f"GET /v3/accounts/{ACCOUNT}/transactions/stream HTTP/1.0\r\nAuthorization: {HEADERS['Authorization']}\r\n\r\n"
    port = int(fresh.stream_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request.encode())
        assert b" 400 " in connection.recv(65536)


def test_a_client_has_only_so_many_streams_and_another_has_its_own(start_simulator, tmp_path):
    running = start_simulator(**scripted_settings(tmp_path, max_streams=3))
    streams = [RawStream(running) for _ in range(4)]
    path = f"/v3/accounts/{ACCOUNT}/transactions/stream"
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {HEADERS['Authorization']}\r\n\r\n".encode()
    port = int(running.stream_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as other:
        other.sendall(request)
        other_status = other.recv(12)

    assert [stream.status for stream in streams] == [200, 200, 200, 429]
    assert other_status == b"HTTP/1.1 200"
    streams[0].__exit__()

    def admitted() -> bool:
        with RawStream(running) as stream:
            return stream.status == 200

    assert eventually(admitted)
    for stream in streams[1:]:
        stream.__exit__()


def test_only_so_many_streams_are_opened_in_a_second(start_simulator, tmp_path):
    running = start_simulator(**scripted_settings(tmp_path, streams_per_second=0.01))
    with RawStream(running) as first, RawStream(running) as second:
        assert (first.status, second.status) == (200, 429)


def test_who_does_not_read_is_cut_off_and_everybody_else_is_not(fresh):
    fresh.fault({"do": "send", "body": {"type": "BIG", "text": "x" * 200_000}}, message="ORDER_FILL")
    with raw_stream(fresh) as sleeper, raw_stream(fresh) as reader:
        messages = reader.messages()
        fills = []
        while not fresh.journal(kind="stream", outcome="ended"):
            fresh.buy(1)
            fills += without_beats(messages, 3)
        (ended,) = fresh.journal(kind="stream", outcome="ended")
        assert ended["why"] == "slow reader"
        assert sleeper.to_end()[1] in ("RST", "FIN")

    assert [each["type"] for each in fills[:3]] == ["MARKET_ORDER", "BIG", "ORDER_FILL"]
    assert len(fills) < 3 * 100
    assert "mbats_simulator_slow_readers_total" in requests.get(f"{fresh.admin_url}/metrics", timeout=30).text


def test_under_load_no_message_is_lost_or_reordered():
    command = [sys.executable, str(BENCHMARK), "--seconds", "4", "--streams", "4"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Nothing was lost, reordered or altered." in ran.stdout
    assert "p99" in ran.stdout
