"""Stand-ins that more than one test needs, written once. They are real servers: a client cannot tell."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from mbats.market import Bars, Granularity, bar_ends, bar_starts, parse_utc, to_datetime, to_us

TOKEN = "fake-0123456789abcdef-fedcba9876543210"
ACCOUNT = "101-001-1234567-001"


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def fake_instrument(name: str) -> dict[str, Any]:
    """An instrument as OANDA sends it today, with keys that the 2018 schema does not have."""
    days = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
    yen = name.endswith("JPY")
    return {
        "name": name,
        "type": "CURRENCY",
        "displayName": name.replace("_", "/"),
        "pipLocation": -2 if yen else -4,
        "displayPrecision": 3 if yen else 5,
        "tradeUnitsPrecision": 0,
        "minimumTradeSize": "1",
        "maximumTrailingStopDistance": "1.00000",
        "minimumTrailingStopDistance": "0.00050",
        "maximumPositionSize": "0",
        "maximumOrderUnits": "100000000",
        "marginRate": "0.0333",
        "guaranteedStopLossOrderMode": "DISABLED",
        "tags": [{"type": "ASSET_CLASS", "name": "CURRENCY"}],
        "financing": {
            "longRate": "-0.0123",
            "shortRate": "0.0045",
            "financingDaysOfWeek": [
                {"dayOfWeek": day, "daysCharged": n} for day, n in zip(days, (1, 1, 3, 1, 1, 0, 0), strict=True)
            ],
        },
    }


def fake_bars(granularity: Granularity, start: str, count: int, *, seed: int = 7, drop: float = 0.0) -> Bars:
    """`count` bars on a random walk from the first expected start on, with five-decimal prices; `drop` of them have no price."""
    rng = np.random.default_rng(seed)
    first = parse_utc(start)
    starts = bar_starts(granularity, first, first + granularity.length * count * 2 + timedelta(days=5))
    starts = starts[rng.random(len(starts)) >= drop][:count]
    walk = 110_000 + np.cumsum(rng.integers(-9, 10, (count, 4)), axis=0)
    open_, close = walk[:, 0], walk[:, 1]
    high, low = walk.max(axis=1) + 1, walk.min(axis=1) - 1
    bid = [column / 1e5 for column in (open_, high, low, close)]
    ask = [column / 1e5 for column in (open_ + 12, high + 12, low + 12, close + 12)]
    return Bars(starts, *bid, *ask, rng.integers(1, 500, count))


def candle(bars: Bars, i: int, *, complete: bool = True) -> dict[str, Any]:
    """Bar `i` as OANDA sends it with `price=BA`."""
    sides = {
        side: {
            key: f"{getattr(bars, f'{side}_{name}')[i]:.5f}"
            for key, name in zip("ohlc", ("open", "high", "low", "close"), strict=True)
        }
        for side in ("bid", "ask")
    }
    time_ = np.datetime_as_string(bars.time[i], "us") + "000Z"
    return {"complete": complete, "volume": int(bars.volume[i]), "time": time_, **sides}


@dataclass(frozen=True)
class Seen:
    """One request that the fake received."""

    path: str
    params: dict[str, str]
    connection: tuple[str, int]


class FakeOanda:
    """A small v20 REST server in a thread of the test, whose every answer can be spoiled: `oanda.fail("503", "reset")`.

    It serves the bars in `bars` as a broker whose clock stands at `now`; a bar that ends later is not complete.
    """

    def __init__(self, bars: dict[tuple[str, str], Bars] | None = None, *, now: str = "2030-01-01") -> None:
        self.bars = dict(bars or {})
        self.names = sorted({name for name, _ in self.bars} | {"EUR_USD", "USD_JPY"})
        self.now = parse_utc(now)
        self.seen: list[Seen] = []
        self.token = TOKEN
        self.changes: dict[str, Any] = {}
        self.delay = 0.0
        self._spoiled: deque[tuple[str, str]] = deque()
        self._rendered: dict[tuple[str, str, datetime], str] = {}
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, *faults: str, on: str = "") -> None:
        """Spoil the next answers, one fault each; with `on`, only answers to paths that end so."""
        self._spoiled.extend((fault, on) for fault in faults)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, params: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of one request to a healthy broker."""
        parts = path.strip("/").split("/")
        if parts == ["v3", "accounts"]:
            return 200, encode({"accounts": [{"id": ACCOUNT, "tags": []}]})
        if parts[:2] == ["v3", "accounts"] and parts[3:] == ["instruments"]:
            return self._instruments(parts[2], params)
        if parts[:2] == ["v3", "instruments"] and parts[3:] == ["candles"]:
            return self._candles(parts[2], params)
        return refusal(404, "Not found")

    def _instruments(self, account: str, params: dict[str, str]) -> tuple[int, bytes]:
        if account != ACCOUNT:
            return refusal(403, "The provided request was forbidden.")
        names = params["instruments"].split(",") if "instruments" in params else self.names
        if not set(names) <= set(self.names):
            return refusal(400, "Invalid value specified for 'instruments'")
        return 200, encode({"instruments": [fake_instrument(name) | self.changes for name in names], "lastTransactionID": "6"})

    def _candles(self, name: str, params: dict[str, str]) -> tuple[int, bytes]:
        start, count = parse_utc(params["from"][:26] + "+00:00"), int(params.get("count", 500))
        if count > 5000:
            return refusal(400, "Maximum value for 'count' exceeded")
        if start > self.now:
            return refusal(400, "Invalid value specified for 'from'. Time is in the future")
        if name not in self.names:
            return refusal(400, "Invalid value specified for 'instrument'")
        assert params["price"] == "BA"
        granularity = Granularity(params["granularity"])
        bars = self.bars.get((name, granularity), Bars.empty())
        ends = bar_ends(granularity, bars.time) if len(bars) else bars.time
        first = int(np.searchsorted(ends, to_us(start), side="right"))
        last = int(np.searchsorted(bars.time, to_us(self.now), side="left"))
        rows = range(first, min(last, first + count))
        pieces = [self._line(name, granularity, bars, i) for i in rows]
        if rows and ends[rows[-1]] > to_us(self.now):
            pieces[-1] = json.dumps(candle(bars, rows[-1], complete=False))
        head = json.dumps({"instrument": name, "granularity": granularity, "newKey": 1})[:-1]
        return 200, f'{head}, "candles": [{",".join(pieces)}]}}'.encode()

    def _line(self, name: str, granularity: str, bars: Bars, i: int) -> str:
        """One candle's JSON, rendered once, so that the fake is not what a test waits for."""
        key = (name, granularity, bars.time[i].item())
        if key not in self._rendered:
            self._rendered[key] = json.dumps(candle(bars, i))
        return self._rendered[key]

    def revise(self, name: str, granularity: str, index: int, *, pips: float) -> None:
        """Move one bar's prices up, as a vendor does that corrects itself."""
        bars = self.bars[name, granularity]
        for side in ("bid", "ask"):
            for part in ("open", "high", "low", "close"):
                getattr(bars, f"{side}_{part}")[index] += pips / 1e4
        self.forget()

    def forget(self) -> None:
        """Call after bars of the same times have got other prices."""
        self._rendered.clear()

    def next_fault(self, path: str) -> str | None:
        return self._spoiled.popleft()[0] if self._spoiled and path.endswith(self._spoiled[0][1]) else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that has given up is no error of ours
            super().handle_error(request, client_address)


def _handler(oanda: FakeOanda) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            params = dict(parse_qsl(url.query))
            oanda.seen.append(Seen(url.path, params, self.client_address))
            time.sleep(oanda.delay)
            if self.headers["Authorization"] != f"Bearer {oanda.token}":
                return self.reply(*refusal(401, "Insufficient authorization to perform request."))
            status, body = oanda.answer(url.path, params)
            fault = oanda.next_fault(url.path)
            if fault is None:
                return self.reply(status, body)
            return SPOIL[fault](self, status, body)

        def reply(self, status: int, body: bytes, *, kind: str = "application/json", length: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _reset(handler: Any, status: int, body: bytes) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.rfile.close()  # it holds the socket open
    handler.connection.close()


def _hang(handler: Any, status: int, body: bytes) -> None:
    time.sleep(1.5)  # longer than the read timeout that the tests set
    handler.close_connection = True


def _cut(handler: Any, status: int, body: bytes) -> None:
    handler.reply(status, body[: len(body) // 2], length=len(body))
    handler.close_connection = True


def _edit(change: Any) -> Any:
    def spoil(handler: Any, status: int, body: bytes) -> None:
        payload = json.loads(body)
        change(payload)
        handler.reply(status, encode(payload))

    return spoil


def _twice(payload: dict[str, Any]) -> None:
    payload["candles"] = [candle for candle in payload["candles"] for _ in range(2)]


def _backwards(payload: dict[str, Any]) -> None:
    payload["candles"].reverse()


def _without_ask(payload: dict[str, Any]) -> None:
    del payload["candles"][1]["ask"]


def _wrong_pair(payload: dict[str, Any]) -> None:
    payload["instrument"] = "GBP_USD"


SPOIL: dict[str, Any] = {
    "429": lambda handler, status, body: handler.reply(*refusal(429, "Rate limit exceeded")),
    "500 quoting the token": lambda handler, status, body: handler.reply(*refusal(500, f"Bearer {TOKEN} is odd")),
    "503 html": lambda handler, status, body: handler.reply(503, b"<html><h1>Service Unavailable</h1></html>", kind="text/html"),
    "504": lambda handler, status, body: handler.reply(*refusal(504, "Timeout waiting for response.")),
    "bad utf-8": lambda handler, status, body: handler.reply(502, b"\xff\xfe\xfa"),
    "html with 200": lambda handler, status, body: handler.reply(200, b"<html>Log in to this network</html>", kind="text/html"),
    "half the json": lambda handler, status, body: handler.reply(200, body[: len(body) // 2]),
    "empty": lambda handler, status, body: handler.reply(200, b""),
    "list": lambda handler, status, body: handler.reply(200, b"[]"),
    "cut": _cut,
    "reset": _reset,
    "hang": _hang,
    "twice": _edit(_twice),
    "backwards": _edit(_backwards),
    "without ask": _edit(_without_ask),
    "wrong pair": _edit(_wrong_pair),
}


def encode(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def refusal(status: int, message: str, **more: str) -> tuple[int, bytes]:
    return status, encode({"errorMessage": message, **more})


def bar_times(pages: Iterable[Bars]) -> list[datetime]:
    """The starts of all bars of these pages, in the order in which they came."""
    return [to_datetime(moment).astimezone(UTC) for page in pages for moment in page.time]
