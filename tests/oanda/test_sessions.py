"""What all connections to one broker share: lanes, spare connections, time limits, and what answers say of the time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import requests
from fakes import ACCOUNT, TOKEN
from faulty_server import HANG, RESET, FaultyServer, answer
from oandapyV20.endpoints.accounts import AccountList, AccountSummary
from pydantic import SecretStr

from mbats.errors import OandaUnavailable
from mbats.oanda.rate import Lane, Pace
from mbats.oanda.reads import Reads
from mbats.oanda.sessions import Sessions
from mbats.oanda.trading import TradingClient

NOTHING = {"accounts": []}
ORDER = {"type": "MARKET", "instrument": "EUR_USD", "units": Decimal("1000")}


class CountingPace(Pace):
    """A pace that lets all through at once and remembers who came."""

    def __init__(self) -> None:
        super().__init__(1000, 1000)
        self.requests: list[Lane] = []
        self.connections = 0

    def wait_for_request(self, lane: Lane) -> None:
        self.requests.append(lane)

    def wait_for_connection(self) -> None:
        self.connections += 1


@pytest.fixture
def broker() -> Iterator[FaultyServer]:
    server = FaultyServer()
    server.otherwise(answer(200, NOTHING))
    yield server
    server.close()


def open_sessions(broker: FaultyServer, **options: object) -> Sessions:
    return Sessions(broker.url, SecretStr(TOKEN), **{"timeout": (5, 5), "connections_per_second": 100} | options)


def in_threads(count: int, work: object) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_orders_have_a_lane_of_their_own(broker):
    pace = CountingPace()
    sessions = open_sessions(broker, pace=pace)

    sessions.ask(AccountList())
    TradingClient(sessions, ACCOUNT).submit_order(ORDER)
    TradingClient(sessions, ACCOUNT).cancel_order(7)

    assert pace.requests == ["reads", "orders", "orders"]
    sessions.close()


def test_sessions_at_one_address_may_share_a_pace(broker):
    pace = CountingPace()
    both = [open_sessions(broker, pace=pace) for _ in range(2)]

    for sessions in both:
        sessions.ask(AccountList())
        sessions.close()

    assert (len(pace.requests), pace.connections) == (2, 2)


def test_threads_that_ask_for_the_first_time_use_the_connections_that_were_made_ahead(broker):
    pace = CountingPace()
    sessions = open_sessions(broker, pace=pace)
    sessions.prepare(3)
    assert (broker.connections, pace.connections) == (3, 3)

    barrier = threading.Barrier(3)

    def ask_twice() -> None:
        sessions.ask(AccountList())
        barrier.wait(20)  # none ends before all have a connection
        sessions.ask(AccountList())

    in_threads(3, ask_twice)

    assert (broker.connections, pace.connections) == (3, 3)
    assert len(broker.requests) == 3 + 6
    in_threads(1, lambda: sessions.ask(AccountList()))
    assert (broker.connections, pace.connections) == (4, 4)
    sessions.close()


@pytest.mark.parametrize("fault", [RESET, answer(503, b"<html>"), answer(200, b"no JSON"), answer(401, {"errorMessage": "no"})])
def test_a_connection_that_cannot_be_made_ahead_is_made_by_who_needs_it(fault, broker):
    sessions = open_sessions(broker)
    broker.then(fault)

    sessions.prepare(1)

    found: list[object] = []
    in_threads(1, lambda: found.append(sessions.ask(AccountList())))
    assert found == [NOTHING]
    sessions.close()


def test_a_connection_is_kept_warm_without_a_word_of_what_the_broker_says(broker):
    sessions = open_sessions(broker)
    sessions.ask(AccountList())
    broker.then(answer(503, b"<html>"))

    sessions.warm()
    sessions.ask(AccountList())

    assert broker.connections == 1
    assert len(broker.requests) == 3
    sessions.close()


def test_one_request_may_have_a_time_limit_of_its_own(broker):
    sessions = open_sessions(broker, timeout=(5, 600))
    broker.then(HANG, answer(200, NOTHING))

    with pytest.raises(OandaUnavailable, match="Read timed out"):
        Reads(sessions, attempts=1, timeout=(5, 0.1)).read(AccountList(), lambda payload: payload)

    assert sessions.ask(AccountList()) == NOTHING
    sessions.close()


def test_every_answer_tells_the_time_that_it_shows_even_an_error(broker):
    told: list[datetime] = []
    sessions = open_sessions(broker, on_date=told.append)
    broker.then(
        answer(200, NOTHING, "Date: Tue, 05 Mar 2024 12:00:00 GMT"),
        answer(200, NOTHING),
        answer(200, NOTHING, "Date: yesterday"),
        answer(503, NOTHING, "Date: Tue, 05 Mar 2024 12:00:07 GMT"),
    )

    for _ in range(3):
        sessions.ask(AccountList())
    with pytest.raises(OandaUnavailable):
        Reads(sessions, attempts=1).read(AccountList(), lambda payload: payload)

    assert told == [datetime(2024, 3, 5, 12, 0, 0, tzinfo=UTC), datetime(2024, 3, 5, 12, 0, 7, tzinfo=UTC)]
    sessions.close()


def test_what_is_raised_is_not_also_logged_by_the_library(broker, caplog):
    caplog.set_level(logging.DEBUG)
    sessions = open_sessions(broker)
    broker.then(RESET, answer(503, b"<html>"))

    with pytest.raises(requests.RequestException):
        sessions.ask(AccountSummary(ACCOUNT))
    with pytest.raises(OandaUnavailable):
        Reads(sessions, attempts=1).read(AccountSummary(ACCOUNT), lambda payload: payload)

    assert [record for record in caplog.records if record.name.startswith("oandapyV20")] == []
    sessions.close()
