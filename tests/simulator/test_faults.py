"""Every fault, as a client sees it on the wire: real sockets, a real process, and the journal that tells what really happened."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from simulator.running import ACCOUNT, HEADERS, TOKEN, Running, scripted_settings

ORDERS = f"/v3/accounts/{ACCOUNT}/orders"
BUY = {"order": {"type": "MARKET", "instrument": "EUR_USD", "units": "100"}}


def eventually(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `look` gives as soon as it is anything."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def trades(running: Running) -> int:
    return len(running.admin("GET", f"/accounts/{ACCOUNT}")["account"]["trades"])


def transactions(running: Running) -> int:
    return int(running.admin("GET", "/log")["transactions"])


def requested(running: Running, path: str = "*/orders") -> dict[str, Any]:
    """The one request of this path that the journal has, as soon as it is over."""
    (entry,) = eventually(lambda: running.journal(kind="request", path=path))
    return entry


# --- Raw connections -----------------------------------------------------------------------------------------------------


def send_raw(url: str, method: str, path: str, body: object = None) -> socket.socket:
    """A connection on which a request was just sent."""
    where = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    connection = socket.create_connection((where.hostname, where.port), timeout=30)
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {where.netloc}",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Length: {len(content)}",
    ]
    connection.sendall("\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + content)
    return connection


def read_raw(connection: socket.socket) -> tuple[bytes, str]:
    """All that comes, and whether it ends by FIN or by RST."""
    received = b""
    with connection:
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                return received, "RST"
            if not part:
                return received, "FIN"
            received += part


def exchange_raw(running: Running, method: str = "POST", path: str = ORDERS, body: object = BUY) -> tuple[bytes, str]:
    return read_raw(send_raw(running.url, method, path, body))


class RawStream:
    """A stream as chunks, and how it ends."""

    def __init__(self, running: Running, what: str = "transactions", query: str = "") -> None:
        path = f"/v3/accounts/{ACCOUNT}/{what}/stream{query}"
        self.connection = send_raw(running.stream_url, "GET", path)
        self.file = self.connection.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while (line := self.file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()

    def chunk(self) -> bytes | str:
        """The next chunk, or how the stream ended: `last chunk`, `FIN` or `RST`."""
        try:
            size = self.file.readline()
            if not size:
                return "FIN"
            data = self.file.read(int(size, 16) + 2)[:-2]
        except ConnectionResetError:
            return "RST"
        return data or "last chunk"

    def to_end(self) -> tuple[list[bytes], str]:
        chunks: list[bytes] = []
        while isinstance(found := self.chunk(), bytes):
            chunks.append(found)
        return chunks, found

    def messages(self) -> Iterator[dict[str, Any]]:
        """Line by line."""
        kept = b""
        while isinstance(found := self.chunk(), bytes):
            *lines, kept = (kept + found).split(b"\n")
            yield from (json.loads(line) for line in lines)

    def __enter__(self) -> RawStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.connection.close()


@contextmanager
def raw_stream(running: Running, what: str = "transactions", query: str = "") -> Iterator[RawStream]:
    with RawStream(running, what, query) as stream:
        yield stream


def types(messages: Iterator[dict[str, Any]], count: int, *, beats: bool = False) -> list[str]:
    """The types of the next messages; heartbeats are left out unless asked for."""
    found: list[str] = []
    while len(found) < count:
        kind = next(messages)["type"]
        if beats or kind != "HEARTBEAT":
            found.append(kind)
    return found


# --- Requests ------------------------------------------------------------------------------------------------------------


def test_a_delay_before_applies_the_order_though_the_client_has_given_up(fresh):
    rule = fresh.fault({"do": "delay", "seconds": 4}, method="POST", path="*/orders")

    with send_raw(fresh.url, "POST", ORDERS, BUY):
        eventually(lambda: fresh.hits(rule))
    before = trades(fresh)
    entry = requested(fresh)

    assert before == 0
    assert trades(fresh) == 1
    assert (entry["outcome"], entry["status"], entry["faults"]) == ("abandoned", 201, [rule])


def test_a_delay_after_lets_the_stream_tell_of_the_order_first(fresh):
    fresh.fault({"do": "delay", "seconds": 2, "when": "after"}, method="POST", path="*/orders")

    with fresh.stream() as messages, send_raw(fresh.url, "POST", ORDERS, BUY) as order:
        assert types(messages, 2) == ["MARKET_ORDER", "ORDER_FILL"]
        order.settimeout(0.01)
        with pytest.raises(TimeoutError):
            order.recv(1)
        order.settimeout(30)
        assert order.recv(12) == b"HTTP/1.1 201"


@pytest.mark.parametrize(("when", "expected"), [("before", 0), ("after", 1)])
def test_a_request_that_hangs_is_never_answered(fresh, when, expected):
    fresh.fault({"do": "hang", "when": when}, method="POST")

    with pytest.raises(requests.ReadTimeout):
        fresh.buy(timeout=(3, 0.5))

    assert requested(fresh)["outcome"] == "hung"
    assert trades(fresh) == expected


@pytest.mark.parametrize(("when", "expected"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize(("action", "end", "outcome"), [("reset", "RST", "reset"), ("close", "FIN", "closed")])
def test_a_connection_ends_by_rst_or_by_fin_before_or_after_the_order(fresh, action, end, outcome, when, expected):
    rule = fresh.fault({"do": action, "when": when}, method="POST")

    assert exchange_raw(fresh) == (b"", end)
    assert trades(fresh) == expected
    entry = requested(fresh)
    assert (entry["outcome"], entry["told"], entry["status"]) == (outcome, None, 201 if expected else None)
    assert fresh.journal(kind="fault")[0]["rule"] == rule


def test_a_truncated_answer_announces_more_than_it_has(fresh):
    fresh.fault({"do": "truncate", "bytes": 10}, method="POST")

    received, end = exchange_raw(fresh)

    head, _, body = received.partition(b"\r\n\r\n")
    assert end == "FIN"
    assert b"201 Created" in head
    assert len(body) == 10
    assert int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) > 1000
    assert trades(fresh) == 1


def test_a_garbled_answer_is_whole_and_no_json(fresh):
    fresh.fault("garble", method="POST")

    response = fresh.buy()

    assert response.status_code == 201
    assert len(response.content) == int(response.headers["Content-Length"])
    with pytest.raises(requests.exceptions.JSONDecodeError):
        response.json()
    assert trades(fresh) == 1


@pytest.mark.parametrize("status", [502, 503])
def test_a_proxys_error_is_html(fresh, status):
    fresh.fault({"do": "answer", "status": status})

    response = fresh.buy()

    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert f"<h1>{status} " in response.text
    assert trades(fresh) == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "Insufficient authorization to perform request."),
        (403, "The provided request was forbidden."),
        (429, "Rate limit exceeded. At most 120 requests a second are answered."),
        (500, "Unable to forward request."),
        (504, "Timeout waiting for response."),
    ],
)
def test_an_error_has_the_words_that_were_seen_in_the_wild(fresh, status, words):
    fresh.fault({"do": "answer", "status": status})

    response = fresh.buy()

    assert (response.status_code, response.json()) == (status, {"errorMessage": words})
    assert trades(fresh) == 0


def test_an_error_after_the_order_hides_a_trade_and_may_say_anything(fresh):
    fresh.fault({"do": "answer", "status": 500, "when": "after", "body": {"oops": 1}}, method="POST")
    fresh.fault({"do": "answer", "status": 504, "html": True}, method="PUT")

    response = fresh.buy()

    assert (response.status_code, response.json()) == (500, {"oops": 1})
    assert trades(fresh) == 1
    entry = requested(fresh)
    assert (entry["outcome"], entry["status"], entry["told"]) == ("replaced", 201, 500)
    assert "504 Gateway Time-out" in fresh.account("PUT", "/trades/4/close", {}).text


def test_a_revoked_token_opens_nothing_more_neither_here_nor_there(fresh):
    rule = fresh.fault({"do": "answer", "status": 401})

    statuses = [fresh.account(method, path).status_code for method, path in (("GET", "/summary"), ("POST", "/orders"))]
    with raw_stream(fresh) as stream:
        statuses.append(stream.status)
    fresh.admin("DELETE", f"/faults/{rule}")

    assert statuses == [401, 401, 401]
    assert fresh.account("GET", "/summary").status_code == 200


def test_a_rate_limit_answers_what_is_too_much_with_429(fresh):
    fresh.fault({"do": "rate_limit", "per_second": 0.001}, path="*/summary")

    statuses = [fresh.account("GET", "/summary").status_code for _ in range(3)]

    assert statuses == [200, 429, 429]
    assert fresh.account("GET", "").status_code == 200


@pytest.mark.parametrize("answer", ["first", "second"])
def test_a_duplicated_order_trades_twice(fresh, answer):
    fresh.fault({"do": "duplicate", "answer": answer}, method="POST")

    filled = fresh.buy().json()["orderFillTransaction"]["id"]

    assert trades(fresh) == 2
    assert filled == {"first": "4", "second": "6"}[answer]


def test_the_twin_of_an_order_whose_trade_has_a_name_is_cancelled(fresh):
    fresh.fault({"do": "duplicate", "answer": "second"}, method="POST")

    said = fresh.buy(order={"tradeClientExtensions": {"id": "mb-1"}}).json()

    assert said["orderCancelTransaction"]["reason"] == "CLIENT_TRADE_ID_ALREADY_EXISTS"
    assert trades(fresh) == 1


def test_an_answer_drips(fresh):
    fresh.fault({"do": "drip", "bytes": 400, "seconds": 0.05}, method="POST")

    with send_raw(fresh.url, "POST", ORDERS, BUY) as connection:
        parts = [connection.recv(65536)]
        while not parts[-1].endswith(b"}"):
            parts.append(connection.recv(65536))

    assert len(parts) > 2
    assert json.loads(b"".join(parts).partition(b"\r\n\r\n")[2])["lastTransactionID"] == "4"


def test_a_stale_read_is_one_transaction_behind(fresh):
    fresh.buy()
    rule = fresh.fault("stale", path="*/openTrades")

    stale = fresh.account("GET", "/openTrades").json()
    summary = fresh.account("GET", "/summary").json()
    fresh.admin("DELETE", f"/faults/{rule}")
    today = fresh.account("GET", "/openTrades").json()

    assert (stale["trades"], stale["lastTransactionID"]) == ([], "3")
    assert summary["lastTransactionID"] == "4"
    assert ([trade["id"] for trade in today["trades"]], today["lastTransactionID"]) == (["4"], "4")


@pytest.mark.parametrize("seconds", [30, -30])
def test_the_date_is_wrong(fresh, seconds):
    def date() -> float:
        return parsedate_to_datetime(fresh.account("GET", "/summary").headers["Date"]).timestamp()

    right = date()
    fresh.fault({"do": "date", "seconds": seconds})

    assert date() - right == seconds


def test_rules_add_up(fresh):
    fresh.fault({"do": "duplicate"}, method="POST")
    fresh.fault({"do": "reset", "when": "after"}, method="POST")

    assert exchange_raw(fresh) == (b"", "RST")
    assert trades(fresh) == 2


# --- Streams ---------------------------------------------------------------------------------------------------------------


def test_streams_are_chunks_of_whole_lines_without_compression(fresh):
    with requests.get(
        f"{fresh.stream_url}/v3/accounts/{ACCOUNT}/transactions/stream",
        headers=HEADERS | {"Accept-Encoding": "gzip, deflate"},
        stream=True,
        timeout=30,
    ) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Encoding" not in response.headers
        fresh.buy()
        fresh.fault({"do": "end"}, message="HEARTBEAT")
        lines = response.content.split(b"\n")

    assert lines[-1] == b""
    assert all(json.loads(line)["type"] for line in lines[:-1])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("action", "end"), [("end", "last chunk"), ("close", "FIN"), ("reset", "RST")])
def test_a_stream_ends_in_three_ways_with_the_message_or_without(fresh, action, end, when):
    rule = fresh.fault({"do": action, "when": when}, message="ORDER_FILL")
    fresh.fault("drop", message="HEARTBEAT")

    with raw_stream(fresh) as stream:
        fresh.buy()
        chunks, how = stream.to_end()

    sent = [json.loads(chunk)["type"] for chunk in chunks]
    assert (sent, how) == (["MARKET_ORDER", "ORDER_FILL"] if when == "after" else ["MARKET_ORDER"], end)
    ended = eventually(lambda: fresh.journal(kind="stream", outcome="ended"))
    assert ended[0]["why"] == f"fault {rule}"


@pytest.mark.parametrize(("then", "end"), [("end", "last chunk"), ("close", "FIN"), ("reset", "RST")])
def test_a_stream_is_cut_in_the_middle_of_a_line(fresh, then, end):
    fresh.fault({"do": "cut", "then": then}, message="MARKET_ORDER")

    with raw_stream(fresh) as stream:
        fresh.buy()
        chunks, how = stream.to_end()

    assert how == end
    assert chunks[-1].startswith(b'{"id":"3"')
    assert b"\n" not in chunks[-1]


def test_silence_loses_everything_for_a_while(fresh):
    fresh.fault({"do": "silence", "seconds": 3}, message="HEARTBEAT", nth=2)

    with raw_stream(fresh) as stream:
        messages = stream.messages()
        types(messages, 1, beats=True)
        eventually(lambda: fresh.journal(kind="fault"))
        fresh.buy()
        beat = next(messages)

    # What came in between is lost, but the heartbeat says that there was something.
    assert (beat["type"], beat["lastTransactionID"]) == ("HEARTBEAT", "4")


def test_silence_for_ever_keeps_the_connection_open(fresh):
    fresh.fault("silence", message="HEARTBEAT")

    with raw_stream(fresh) as stream:
        eventually(lambda: fresh.journal(kind="fault"))
        fresh.buy()
        stream.connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            stream.chunk()
        assert "mbats_simulator_open_streams 1.0" in requests.get(f"{fresh.admin_url}/metrics", timeout=30).text


def test_heartbeats_go_on_while_nothing_else_does(fresh):
    fresh.fault("heartbeats_only", message="MARKET_ORDER")

    with raw_stream(fresh) as stream:
        fresh.buy()
        messages = stream.messages()
        assert types(messages, 3, beats=True) == ["HEARTBEAT"] * 3


def test_heartbeats_stop_on_one_stream_and_go_on_on_the_other(fresh):
    fresh.fault("drop", message="HEARTBEAT", path="*/pricing/stream")

    with raw_stream(fresh) as transactions_, raw_stream(fresh, "pricing", "?instruments=EUR_USD") as prices:
        assert types(transactions_.messages(), 3, beats=True) == ["HEARTBEAT"] * 3
        fresh.price("1.08001", "1.08011")
        assert types(prices.messages(), 2, beats=True) == ["PRICE", "PRICE"]


def test_the_nth_message_is_lost_and_the_heartbeat_tells(fresh):
    fresh.fault("drop", message="ORDER_FILL", nth=2)

    with fresh.stream() as messages:
        for _ in range(3):
            fresh.buy()
        ids = [each["id"] for each in islice((each for each in messages if each["type"] != "HEARTBEAT"), 5)]

        assert ids == ["3", "4", "5", "7", "8"]
        assert next(messages)["lastTransactionID"] == "8"


def test_a_delayed_message_comes_after_the_answer_and_before_what_follows_it(fresh):
    fresh.fault({"do": "delay", "seconds": 0.6}, message="MARKET_ORDER", nth=1)
    fresh.fault("drop", message="HEARTBEAT")

    with raw_stream(fresh) as stream:
        fresh.buy()
        fresh.buy()
        messages = stream.messages()
        assert [next(messages)["id"] for _ in range(4)] == ["3", "4", "5", "6"]
    (fault,) = fresh.journal(kind="fault", action="delay")
    assert fault["message"] == "MARKET_ORDER"


def test_a_duplicated_message_comes_twice(fresh):
    fresh.fault("duplicate", message="ORDER_FILL")

    with fresh.stream() as messages:
        fresh.buy()
        assert types(messages, 3) == ["MARKET_ORDER", "ORDER_FILL", "ORDER_FILL"]


def test_messages_change_their_order(fresh):
    fresh.fault("reorder", message="MARKET_ORDER")

    with fresh.stream() as messages:
        fresh.buy()
        assert types(messages, 2) == ["ORDER_FILL", "MARKET_ORDER"]


def test_lines_are_split_over_chunks_and_share_one(fresh):
    fresh.fault({"do": "split", "bytes": 5}, message="MARKET_ORDER", nth=1)
    fresh.fault("merge", message="MARKET_ORDER", nth=2)
    fresh.fault("drop", message="HEARTBEAT")

    with raw_stream(fresh) as stream:
        fresh.buy()
        split = []
        while not (split and split[-1].endswith(b"\n")):
            split.append(stream.chunk())
        fill = stream.chunk()
        fresh.buy()
        merged = stream.chunk()

    assert {len(chunk) for chunk in split[:-1]} == {5}
    assert json.loads(b"".join(split))["id"] == "3"
    assert json.loads(fill)["id"] == "4"
    assert [json.loads(line)["id"] for line in merged.splitlines()] == ["5", "6"]


def test_a_key_and_a_type_come_that_nobody_knows(fresh):
    fresh.fault({"do": "add_field", "name": "shiny", "value": [1]}, message="MARKET_ORDER")
    fresh.fault({"do": "send", "when": "after"}, message="ORDER_FILL")
    fresh.fault({"do": "send", "body": {"type": "DELAYED_TRADE_CLOSURE", "id": "9"}}, message="ORDER_FILL")

    with fresh.stream() as messages:
        fresh.buy()
        found = list(islice((each for each in messages if each["type"] != "HEARTBEAT"), 4))

    assert found[0]["shiny"] == [1]
    assert [each["type"] for each in found[1:]] == ["DELAYED_TRADE_CLOSURE", "ORDER_FILL", "SOMETHING_NEW"]


def test_prices_of_one_pair_can_be_struck_alone(fresh):
    fresh.price("150.100", "150.110", "USD_JPY")
    fresh.fault("drop", message="PRICE", instrument="USD_JPY")

    with fresh.stream("pricing", instruments="USD_JPY,EUR_USD") as messages:
        price = next(each for each in messages if each["type"] == "PRICE")

    assert price["instrument"] == "EUR_USD"


def test_new_streams_are_refused(fresh):
    fresh.fault({"do": "answer", "status": 429}, path="*/stream")

    with raw_stream(fresh) as stream:
        assert stream.status == 429
    assert requested(fresh, "*/stream")["told"] == 429


# --- The exchange itself ---------------------------------------------------------------------------------------------------


def price_of(running: Running, instrument: str = "EUR_USD") -> dict[str, Any]:
    return running.account("GET", f"/pricing?instruments={instrument}").json()["prices"][0]


def test_a_halt_cancels_market_orders(fresh):
    fresh.deed("market", change={"change": "halt", "instrument": "EUR_USD"})

    assert fresh.buy().json()["orderCancelTransaction"]["reason"] == "MARKET_HALTED"
    assert not price_of(fresh)["tradeable"]
    fresh.deed("market", change={"change": "resume", "instrument": "EUR_USD"})
    assert "orderFillTransaction" in fresh.buy().json()


def test_a_halt_can_strike_just_before_an_order(fresh):
    rule = fresh.fault({"do": "market", "change": {"change": "halt"}}, method="POST", path="*/orders", nth=2)

    first, second = fresh.buy().json(), fresh.buy().json()

    assert "orderFillTransaction" in first
    assert second["orderCancelTransaction"]["reason"] == "MARKET_HALTED"
    assert fresh.hits(rule) == 1


def test_a_crazy_tick_fills_at_a_crazy_price(fresh):
    tick = {"change": "tick", "instrument": "EUR_USD", "bid": "1.18800", "ask": "1.18810"}
    fresh.fault({"do": "market", "change": tick}, method="POST", nth=2)

    assert [fresh.buy().json()["orderFillTransaction"]["price"] for _ in range(2)] == ["1.08010", "1.18810"]


def test_spreads_widen_prices_gap_and_freeze_in_a_market_that_lives(start_simulator, tmp_path):
    running = start_simulator(**scripted_settings(tmp_path) | {"simulator_source": "sample"})
    running.step(60)

    def after(**change: Any) -> tuple[float, float, str]:
        running.deed("market", change={"instrument": "EUR_USD"} | change)
        running.step(60)
        price = price_of(running)
        bid, ask = float(price["closeoutBid"]), float(price["closeoutAsk"])
        return bid, ask - bid, price["time"]

    usual = after(change="spread", factor=1)
    wide = after(change="spread", factor=20)
    gone = after(change="gap", points=5000)
    frozen = after(change="freeze")

    assert wide[1] > 10 * usual[1]
    assert gone[0] - wide[0] > 0.04
    assert frozen[2] < running.admin("GET", "/market")["changes"][-1]["time"]
    assert price_of(running)["tradeable"]


def test_an_empty_book_and_one_with_little_in_it(fresh):
    fresh.deed("market", change={"change": "liquidity", "instrument": "EUR_USD", "levels": []})
    empty = fresh.buy().json()
    book = price_of(fresh)
    fresh.deed("market", change={"change": "liquidity", "instrument": "EUR_USD", "levels": [[0, "50"]]})
    little = fresh.buy().json()

    assert (book["bids"], book["asks"]) == ([], [])
    assert empty["orderCancelTransaction"]["reason"] == "INSUFFICIENT_LIQUIDITY"
    assert little["orderCancelTransaction"]["reason"] == "INSUFFICIENT_LIQUIDITY"


def test_a_higher_margin_rate_is_told_and_counts(fresh):
    fresh.buy(1_000_000)
    used = fresh.account("GET", "/summary").json()["account"]["marginUsed"]
    fresh.deed("market", change={"change": "margin_rate", "instrument": "EUR_USD", "rate": "0.05"})

    listed = fresh.account("GET", "/instruments?instruments=EUR_USD").json()["instruments"][0]
    assert float(listed["marginRate"]) == 0.05
    assert float(fresh.account("GET", "/summary").json()["account"]["marginUsed"]) > 2 * float(used)


def test_a_margin_closeout_ends_all_trades_and_the_stream_tells(fresh):
    fresh.buy()
    with fresh.stream() as messages:
        fresh.deed("margin_closeout", account=ACCOUNT)
        order = next(each for each in messages if each["type"] == "MARKET_ORDER")

    assert order["reason"] == "MARGIN_CLOSEOUT"
    assert trades(fresh) == 0


def test_orders_on_fill_disappear(fresh):
    bracket = {"stopLossOnFill": {"price": "1.07000"}}
    fresh.deed("strip_on_fill")
    stripped = fresh.buy(order=bracket).json()
    fresh.deed("strip_on_fill", on=False)
    whole = fresh.buy(order=bracket).json()

    assert stripped["relatedTransactionIDs"] == ["3", "4"]
    assert whole["relatedTransactionIDs"] == ["5", "6", "7"]


def test_somebody_else_trades_on_the_account(fresh):
    with fresh.stream() as messages:
        fresh.deed("external_order", account=ACCOUNT, order=BUY["order"])
        assert types(messages, 2) == ["MARKET_ORDER", "ORDER_FILL"]
        fresh.deed("external_close", account=ACCOUNT, trade="4")
        assert types(messages, 2) == ["MARKET_ORDER", "ORDER_FILL"]
        fresh.deed("transfer", account=ACCOUNT, amount="-500.5", comment="fees")
        assert types(messages, 1) == ["TRANSFER_FUNDS"]

    assert fresh.journal(kind="request") == []
    assert float(fresh.account("GET", "/summary").json()["account"]["balance"]) < 99_500


def test_the_clock_jumps_ahead_and_back_but_the_exchange_only_waits(fresh):
    def shown() -> str:
        return str(fresh.account("GET", "/pricing?instruments=EUR_USD").json()["time"][:19])

    fresh.deed("clock_jump", seconds=30)
    assert shown() == "2024-05-14T10:00:30"
    fresh.buy()
    fresh.deed("clock_jump", seconds=-60)
    assert shown() == "2024-05-14T09:59:30"
    fresh.buy()

    clock = fresh.admin("GET", "/clock")
    times = [each["time"] for each in fresh.account("GET", "/transactions/sinceid?id=2").json()["transactions"]]
    assert times == sorted(times)
    assert clock["time"] < clock["engineTime"]
    assert fresh.account("GET", "/summary").headers["Date"] == "Tue, 14 May 2024 09:59:30 GMT"


def test_candles_up_to_a_time_that_has_not_come_are_refused_after_a_jump_back(fresh):
    def status() -> int:
        return fresh.ask("GET", "/instruments/EUR_USD/candles?from=2024-05-14T09:00:00Z&to=2024-05-14T10:00:00Z").status_code

    before = status()
    fresh.deed("clock_jump", seconds=-30)

    assert (before, status()) == (200, 400)


def test_a_deed_that_cannot_be_done_is_no_fault_of_the_request(fresh):
    fresh.fault({"do": "market", "change": {"change": "earthquake"}}, method="POST")

    assert fresh.buy().status_code == 201
    (failed,) = fresh.journal(kind="fault", outcome="failed")
    assert "earthquake" in failed["why"]


# --- Connections and the process -------------------------------------------------------------------------------------------


def test_all_connections_are_reset_at_once(fresh):
    with raw_stream(fresh) as one, raw_stream(fresh, "pricing", "?instruments=EUR_USD") as other:
        fresh.deed("disconnect")
        assert [stream.to_end()[1] for stream in (one, other)] == ["RST", "RST"]
    assert fresh.account("GET", "/summary").status_code == 200


def test_in_an_outage_nobody_gets_a_connection_until_it_is_over(fresh):
    fresh.deed("outage", seconds=1)

    with pytest.raises(requests.ConnectionError, match="refused"):
        fresh.account("GET", "/summary")
    with pytest.raises(ConnectionRefusedError):
        send_raw(fresh.stream_url, "GET", "/")

    def back() -> bool:
        try:
            return fresh.account("GET", "/summary").status_code == 200
        except requests.ConnectionError:
            return False

    assert eventually(back)


POINTS = {"before_apply": 2, "before_write": 2, "after_write": 4, "after_publish": 4, "during_answer": 4, None: 2}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_log_has_all_of_an_order_or_nothing(start_simulator, tmp_path, point):
    settings = scripted_settings(tmp_path) | {"home": tmp_path}
    running = start_simulator(**settings)
    running.price("1.08000", "1.08010")
    rule = running.fault({"do": "kill", **({"point": point} if point else {})}, method="POST")

    with raw_stream(running) as stream:
        received, _ = exchange_raw(running)
        told = [json.loads(chunk)["type"] for chunk in stream.to_end()[0]]
    code = running.wait_for_end()
    again = start_simulator(**settings)

    assert code == -9
    assert transactions(again) == POINTS[point]
    assert ("ORDER_FILL" in told) == (point in ("after_publish", "during_answer"))
    assert bool(received) == (point == "during_answer")
    (fault,) = again.journal(kind="fault")
    assert (fault["action"], fault["point"], fault["rule"], fault["beforeRestart"]) == ("kill", point, rule, True)
    # The next order goes on where the log ends.
    ids = again.buy().json()["relatedTransactionIDs"]
    assert ids == [str(POINTS[point] + 1), str(POINTS[point] + 2)]


def test_a_process_that_is_killed_again_and_again_keeps_the_log_of_one_that_is_not(start_simulator, tmp_path):
    def script(running: Running, step: int) -> None:
        running.price(f"1.0{80 + step}00", f"1.0{80 + step}10")
        limit = {"type": "LIMIT", "instrument": "EUR_USD", "units": "7", "price": f"1.0{80 + step}50", "timeInForce": "GTC"}
        running.account("POST", "/orders", {"order": limit})
        running.buy(10, order={"trailingStopLossOnFill": {"distance": "0.00200"}})
        running.step(3600 * 8)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = start_simulator(**scripted_settings(tmp_path / "a"))
    broken_settings = scripted_settings(tmp_path / "b") | {"home": tmp_path / "b"}
    for step in range(4):
        script(whole, step)
        broken = start_simulator(**broken_settings)
        script(broken, step)
        broken.kill()

    logs = [running.admin("GET", "/log") for running in (whole, start_simulator(**broken_settings))]
    assert logs[0] == logs[1]
    assert logs[0]["transactions"] > 20
