"""Streams on real sockets: whatever happens to a connection, the owner learns that it is down, and it comes back."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from fakes import ACCOUNT, TOKEN
from faulty_server import END_CHUNKS, FIN, HANG, RESET, Act, FaultyServer, answer, cut_answer, drip, line, stream, together
from oandapyV20.endpoints.pricing import PricingStream
from pydantic import SecretStr

from mbats.errors import ConfigError, OandaUnavailable
from mbats.oanda.backoff import Backoff
from mbats.oanda.lines import StreamLines
from mbats.oanda.messages import (
    Message,
    PriceHeartbeat,
    StreamDown,
    StreamUp,
    TransactionHeartbeat,
    TransactionMessage,
    UnknownMessage,
)
from mbats.oanda.prices import Price
from mbats.oanda.sessions import Sessions
from mbats.oanda.streams import Stream, pricing_stream, transaction_stream

TIME = "2024-03-05T12:00:00.250000000Z"
MOMENT = datetime(2024, 3, 5, 12, 0, 0, 250_000, tzinfo=UTC)
PRICE = {
    "type": "PRICE",
    "instrument": "EUR_USD",
    "time": TIME,
    "bids": [{"price": "1.08300", "liquidity": 1000000}],
    "asks": [{"price": "1.08312", "liquidity": 1000000}],
    "tradeable": True,
}
BEAT = {"type": "HEARTBEAT", "time": TIME}
FILL = {"id": "1000", "type": "ORDER_FILL", "time": TIME}
LAST = {"type": "HEARTBEAT", "lastTransactionID": "1000", "time": TIME}
PATIENCE = 20  # seconds after which a test that waits for a message gives up


class Inbox:
    """The owner's end: takes messages one by one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def put(self, item: Message, /) -> None:
        self._queue.put(item)

    def next(self) -> Message:
        return self._queue.get(timeout=PATIENCE)

    def until(self, kind: type[Message]) -> Message:
        while not isinstance(message := self.next(), kind):
            pass
        return message


@pytest.fixture
def broker() -> Iterator[FaultyServer]:
    server = FaultyServer()
    yield server
    server.close()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def sessions(broker: FaultyServer) -> Sessions:
    return Sessions(broker.url, SecretStr(TOKEN), stream_url=broker.url, timeout=(5, 5), connections_per_second=200)


@pytest.fixture
def started(sessions: Sessions, inbox: Inbox) -> Iterator[Callable[..., Stream]]:
    """Starts streams that lose no time, and stops them again."""
    streams: list[Stream] = []

    def start(kind: str = "pricing", *, silence: float = 30.0) -> Stream:
        quick = {"silence": silence, "backoff": Backoff(0.001, 0.01)}
        if kind == "pricing":
            streams.append(pricing_stream(sessions, ACCOUNT, ["USD_JPY", "EUR_USD"], inbox, **quick))
        else:
            streams.append(transaction_stream(sessions, ACCOUNT, inbox, **quick))
        streams[-1].start()
        return streams[-1]

    yield start
    for each in streams:
        assert each.stop(PATIENCE)


# --- What they deliver -------------------------------------------------------------------------------------------


def test_prices_and_heartbeats_come_typed_and_in_order(started, broker, inbox):
    broker.then(stream(line(PRICE), line(BEAT), line(PRICE | {"instrument": "USD_JPY", "bids": []})))
    running = started()

    up, price, beat, one_sided = (inbox.next() for _ in range(4))

    assert up == StreamUp("pricing", 1)
    assert isinstance(price, Price)
    assert (price.instrument, price.bid, price.ask, price.time) == ("EUR_USD", Decimal("1.083"), Decimal("1.08312"), MOMENT)
    assert beat == PriceHeartbeat(MOMENT)
    assert isinstance(one_sided, Price)
    assert one_sided.bid is None
    assert (running.is_up, running.is_alive, running.failures) == (True, True, 0)


def test_transactions_and_heartbeats_come_with_integers(started, broker, inbox):
    broker.then(stream(line(FILL | {"id": "999"}), line(FILL), line(LAST)))
    started("transactions")

    messages = [inbox.next() for _ in range(4)]

    assert messages[0] == StreamUp("transactions", 1)
    assert [each.transaction.id for each in messages[1:3]] == [999, 1000]
    assert messages[3] == TransactionHeartbeat(1000, MOMENT)
    assert messages[3].last_id > messages[1].transaction.id


def test_the_request_is_the_documented_one_uncompressed(started, broker, inbox):
    broker.then(stream(line(BEAT)))
    started()
    inbox.until(PriceHeartbeat)

    (request,) = broker.requests
    assert request.path == f"/v3/accounts/{ACCOUNT}/pricing/stream?instruments=EUR_USD%2CUSD_JPY&snapshot=true"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["accept-encoding"] == "identity"


def test_a_line_split_over_many_chunks_is_one_message(started, broker, inbox):
    data = line(PRICE)
    broker.then(stream(*[data[i : i + 7] for i in range(0, len(data), 7)]))
    started()

    inbox.next()
    assert isinstance(inbox.next(), Price)


def test_many_lines_in_one_chunk_are_as_many_messages(started, broker, inbox):
    broker.then(stream(line(BEAT) * 500))
    started()

    inbox.next()
    assert [inbox.next() for _ in range(500)] == [PriceHeartbeat(MOMENT)] * 500


@pytest.mark.parametrize(
    "unknown", [{"type": "TELEPATHY"}, {"type": None}, {}, {"disconnect": {"code": 64}}, {"type": ["PRICE"]}]
)
@pytest.mark.parametrize("kind", ["pricing", "transactions"])
def test_a_message_of_tomorrow_is_passed_on_as_it_is(kind, unknown, started, broker, inbox):
    known = PRICE if kind == "pricing" else FILL
    broker.then(stream(line(unknown), line(known | {"aKeyOfTomorrow": 1})))
    running = started(kind)

    inbox.next()
    assert inbox.next() == UnknownMessage(kind, unknown)
    assert isinstance(inbox.next(), Price if kind == "pricing" else TransactionMessage)
    assert running.crashes == 0


def test_a_transaction_of_a_type_of_tomorrow_is_a_transaction(started, broker, inbox):
    broker.then(stream(line({"id": "7", "type": "TELEPATHY", "time": None})))
    started("transactions")

    assert inbox.until(TransactionMessage).transaction.type == "TELEPATHY"


# --- How oandapyV20 dies, fault by fault: each is one of two states ----------------------------------------------

AFTER_A_LINE: dict[str, tuple[Act, str]] = {
    "clean end": (stream(line(BEAT), END_CHUNKS), "the broker ended the stream"),
    "FIN without the last chunk": (stream(line(BEAT), FIN), "ChunkedEncodingError"),
    "reset": (stream(line(BEAT), RESET), "ConnectionReset|ChunkedEncodingError"),
    "cut inside a line": (stream(line(BEAT), line(PRICE)[:50], END_CHUNKS), "a line cannot be read .JSONDecodeError"),
    "silence": (stream(line(BEAT)), "no line for 1 seconds"),
    "silence within a line": (stream(line(BEAT), line(PRICE)[:50]), "no line for 1 seconds"),
    "a drip that never ends a line": (stream(line(BEAT), drip(b" ", 0.05)), "no line for 1 seconds"),
    "no JSON": (stream(line(BEAT), b"<html>Log in</html>\n"), "a line cannot be read .JSONDecodeError"),
    "JSON that is no object": (stream(line(BEAT), b"[1]\n"), "expected an object"),
    "no UTF-8": (stream(line(BEAT), b"\xff\xfe\n"), "a line cannot be read .UnicodeDecodeError"),
    "a price without a time": (stream(line(BEAT), line({"type": "PRICE", "instrument": "EUR_USD"})), "price of EUR_USD: 'time'"),
    "a heartbeat without a time": (stream(line(BEAT), line({"type": "HEARTBEAT"})), "heartbeat: 'time' is missing"),
}
ON_CONNECT: dict[str, tuple[Act, str]] = {
    "reset": (RESET, "no connection, or it broke"),
    "FIN": (FIN, "no connection, or it broke"),
    "never answered": (HANG, "no line for 1 seconds"),
    "no line": (stream(), "no line for 1 seconds"),
    "a clean end at once": (stream(END_CHUNKS), "the broker ended the stream"),
    "not HTTP": (together(lambda wire: wire.send(b"SSH-2.0\r\n"), FIN), "no connection, or it broke"),
    "HTML with 200": (answer(200, b"<html>Log in to this network</html>"), "a line cannot be read"),
    "a redirect": (answer(307, b"", "Location: /v3/elsewhere"), "HTTP 307, which is no stream"),
    "a redirect with a page": (answer(302, b"<html>", "Location: /v3/elsewhere"), "HTTP 302, which is no stream"),
    "400": (answer(400, {"errorMessage": "Invalid value specified for 'instruments'"}), "HTTP 400: Invalid value"),
    "404": (answer(404, b"Not Found"), "HTTP 404: Not Found"),
    "429": (answer(429, {"errorMessage": "Too many streams"}), "HTTP 429: Too many streams"),
    "500": (answer(500, b""), "HTTP 500"),
    "503 as a page": (answer(503, b"<html>Service Unavailable</html>"), "HTTP 503: <html>"),
    "504": (answer(504, {"errorMessage": "Timeout waiting for response."}), "HTTP 504: Timeout"),
    "an error that is cut": (cut_answer(503, {"errorMessage": "Service Unavailable"}), "HTTP 503"),
    "an error that is no text": (answer(502, b"\xff\xfe"), "HTTP 502"),
}


@pytest.mark.parametrize("fault", AFTER_A_LINE)
@pytest.mark.proves("R10")
def test_a_stream_is_down_and_comes_back_after(fault, started, broker, inbox):
    act, why = AFTER_A_LINE[fault]
    broker.then(act, stream(line(PRICE)))
    running = started(silence=1.0 if "no line" in why else 30.0)

    assert [inbox.next(), inbox.next()] == [StreamUp("pricing", 1), PriceHeartbeat(MOMENT)]
    down = inbox.next()
    assert isinstance(down, StreamDown)
    assert not down.final
    assert re.search(why, down.why), down.why
    assert inbox.next() == StreamUp("pricing", 2)
    assert isinstance(inbox.next(), Price)
    assert running.crashes == 0


@pytest.mark.parametrize("fault", ON_CONNECT)
def test_a_stream_was_never_up_and_tries_again_after(fault, started, broker, inbox):
    act, why = ON_CONNECT[fault]
    broker.then(act, stream(line(PRICE)))
    running = started(silence=1.0 if "no line" in why else 30.0)

    down = inbox.next()
    assert isinstance(down, StreamDown)
    assert not down.final
    assert why in down.why
    assert inbox.next() == StreamUp("pricing", 1)
    assert running.crashes == 0


@pytest.mark.proves("R12")
def test_a_broker_that_is_not_there_is_tried_again(started, broker, inbox):
    broker.close()
    started()

    downs = [inbox.next() for _ in range(5)]

    assert all(isinstance(down, StreamDown) and "ConnectionError" in down.why for down in downs)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [{"errorMessage": "Insufficient authorization to perform request."}, b"\xff", b""])
def test_a_refused_token_stops_the_stream_at_once_and_for_good(body, status, started, broker, inbox):
    broker.otherwise(answer(status, body))
    running = started()

    down = inbox.next()

    assert isinstance(down, StreamDown)
    assert down.final
    assert f"HTTP {status}" in down.why
    running._thread.join(PATIENCE)
    assert not running.is_alive
    assert len(broker.requests) == 1


def test_a_token_that_is_revoked_while_a_stream_runs_stops_it_and_a_new_start_revives_it(started, broker, inbox):
    broker.then(stream(line(BEAT), FIN), answer(401, {"errorMessage": "Insufficient authorization"}), stream(line(BEAT)))
    running = started()
    while not inbox.until(StreamDown).final:
        pass
    running._thread.join(PATIENCE)

    running.start()

    assert inbox.next() == StreamUp("pricing", 2)


@pytest.mark.proves("R11")
def test_a_silent_stream_falls_while_the_other_stays(started, broker, inbox):
    by_path = {"pricing": stream(line(BEAT)), "transactions": stream(drip(line(LAST), 0.05))}

    def serve(wire: Any) -> None:
        by_path["pricing" if "pricing" in broker.requests[-1].path else "transactions"](wire)

    broker.otherwise(serve)
    transactions = started("transactions", silence=1.0)
    inbox.until(TransactionHeartbeat)
    started("pricing", silence=1.0)

    assert [inbox.until(StreamDown).stream for _ in range(2)] == ["pricing"] * 2
    assert transactions.is_up
    assert (transactions.connections, transactions.failures) == (1, 0)


# --- Stopping, and the rest --------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [stream(line(BEAT)), stream(line(BEAT), drip(b" ", 0.01))])
def test_a_stop_does_not_wait_for_the_next_line(act, started, broker, inbox):
    broker.then(act)
    running = started(silence=300)
    inbox.until(PriceHeartbeat)

    assert running.stop(PATIENCE)

    assert inbox.next() == StreamDown("pricing", "stopped, as was asked", final=True)
    assert (running.is_alive, running.is_up) == (False, False)
    assert [thread.name for thread in threading.enumerate() if thread.name == "silence"] == []


def test_a_stream_that_runs_cannot_be_started_twice(started, broker, inbox):
    broker.then(stream(line(BEAT)))
    running = started()

    with pytest.raises(RuntimeError, match="runs already"):
        running.start()


def test_no_address_of_streams_is_a_mistake_that_stops_at_once(broker, inbox):
    lonely = transaction_stream(Sessions(broker.url, SecretStr(TOKEN)), ACCOUNT, inbox)

    lonely.run()

    down = inbox.next()
    assert down.final
    assert "stream_url" in down.why


def test_lines_end_with_an_error_of_ours_or_because_we_closed_them(broker, sessions):
    broker.then(stream(line(BEAT), END_CHUNKS), stream(line(BEAT)))
    ended, closed = (StreamLines(sessions, pricing_request()) for _ in range(2))

    with pytest.raises(OandaUnavailable, match="the broker ended the stream"):
        list(ended)
    for _ in closed:
        closed.close()

    with pytest.raises(ConfigError, match="stream_url"):
        next(iter(StreamLines(Sessions(broker.url, SecretStr(TOKEN)), pricing_request())))


def test_what_streams_say_of_the_time_measures_the_clock(started, broker, inbox, sessions):
    broker.then(stream(line(BEAT | {"time": "2999-01-01T00:00:00.000000000Z"})))
    running = started()
    inbox.until(PriceHeartbeat)

    assert sessions.clock.skew().seconds > 900 * 365 * 86400
    assert running.last_line is not None


def pricing_request() -> Any:
    return PricingStream(ACCOUNT, {"instruments": "EUR_USD"})
