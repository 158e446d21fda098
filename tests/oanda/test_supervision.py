"""The supervisor of a stream by itself: pauses, rates and crashes, on a clock that only sleeping moves."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from fakes import FakeClock

from mbats.errors import OandaUnavailable
from mbats.oanda.backoff import Backoff
from mbats.oanda.messages import PRICING, StreamDown, StreamUp, UnknownMessage
from mbats.oanda.rate import RateLimit
from mbats.oanda.streams import Stream


class Broker:
    """Makes connections, each by the next of `plans`; when none is left, the stream is stopped. Knows when each was made."""

    def __init__(self, clock: FakeClock, plans: Iterable[Callable[[], Iterator[Any]]], limit: RateLimit | None = None) -> None:
        self.clock = clock
        self.limit = limit or RateLimit(1e9, clock=clock, sleep=clock.sleep)
        self.made: list[float] = []
        self.stream: Stream | None = None
        self._plans = iter(plans)

    def __call__(self) -> Connection:
        self.limit.wait()
        plan = next(self._plans, None)
        if plan is None:
            self.stream.stop(0)
            return Connection(lambda: iter(()))
        self.made.append(self.clock.now)
        return Connection(plan)


class Connection:
    def __init__(self, plan: Callable[[], Iterator[Any]]) -> None:
        self._plan = plan
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        return self._plan()

    def close(self) -> None:
        self.closed = True


class Inbox(list[Any]):
    put = list.append


def supervised(clock: FakeClock, broker: Broker, parse: Any = None, inbox: Any = None, **options: Any) -> Stream:
    """Run a stream in this thread until the broker's plans are used up."""
    inbox = Inbox() if inbox is None else inbox
    parse = parse or (lambda payload: UnknownMessage(PRICING, payload))
    stream = Stream(PRICING, broker, parse, inbox, clock=clock, sleep=clock.sleep, **options)
    broker.stream = stream
    stream.run()
    return stream


def refuse() -> Iterator[Any]:
    raise OandaUnavailable("no connection")
    yield


def crash() -> Iterator[Any]:
    yield {}
    raise ZeroDivisionError("a mistake of ours")


def holding(clock: FakeClock, seconds: float) -> Callable[[], Iterator[Any]]:
    def plan() -> Iterator[Any]:
        yield {}
        clock.sleep(seconds)
        raise OandaUnavailable("it broke")

    return plan


# --- Pauses ------------------------------------------------------------------------------------------------------


@pytest.mark.proves("R12")
def test_pauses_double_up_to_the_longest():
    backoff = Backoff(0.5, 30, uniform=lambda low, high: high)

    assert [backoff.after(0) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.proves("R12")
def test_jitter_shortens_a_pause_by_up_to_a_half():
    seeded = random.Random(7)
    pauses = [Backoff(8, 8, uniform=seeded.uniform).after(0) for _ in range(200)]

    assert min(pauses) >= 4
    assert max(pauses) <= 8
    assert len(set(pauses)) == 200


@pytest.mark.proves("R12")
def test_only_a_connection_that_held_begins_anew_with_the_first_pause():
    backoff = Backoff(1, 30, stable=60, uniform=lambda low, high: high)

    assert [backoff.after(held) for held in (0, 59.9, 59.9, 60, 0, 3600)] == [1, 2, 4, 1, 2, 1]


# --- The supervisor ----------------------------------------------------------------------------------------------


@pytest.mark.proves("R12")
def test_ten_minutes_of_refusals_are_a_few_dozen_attempts_and_the_next_one_succeeds():
    clock = FakeClock()
    broker = Broker(clock, [*[refuse] * 25, holding(clock, 1)])
    inbox = Inbox()

    stream = supervised(clock, broker, inbox=inbox, backoff=Backoff(0.5, 30, uniform=lambda low, high: high))

    assert 600 < broker.made[-1] - broker.made[0] < 660
    assert [type(message) for message in inbox] == [StreamDown] * 25 + [StreamUp, UnknownMessage] + [StreamDown] * 2
    assert (stream.connections, stream.failures, stream.crashes) == (1, 26, 0)


@pytest.mark.proves("R12")
def test_never_more_than_two_connections_are_made_in_a_second():
    clock = FakeClock()
    limit = RateLimit(2, clock=clock, sleep=clock.sleep)
    broker = Broker(clock, [refuse, holding(clock, 0.01)] * 50, limit)

    supervised(clock, broker, backoff=Backoff(0, 0))

    assert all(later - earlier >= 0.999 for earlier, later in zip(broker.made, broker.made[2:], strict=False))


@pytest.mark.proves("R12")
def test_a_connection_that_is_taken_and_dropped_is_no_reason_to_hurry():
    clock = FakeClock()
    broker = Broker(clock, [holding(clock, 1)] * 8)

    supervised(clock, broker, backoff=Backoff(0.5, 30, stable=60, uniform=lambda low, high: high))

    gaps = [later - earlier - 1 for earlier, later in zip(broker.made, broker.made[1:], strict=False)]
    assert gaps == pytest.approx([0.5, 1, 2, 4, 8, 16, 30])


def test_an_exception_that_nobody_foresaw_is_counted_told_and_survived(caplog):
    clock = FakeClock()
    inbox = Inbox()

    stream = supervised(clock, Broker(clock, [crash, crash, holding(clock, 1)]), inbox=inbox)

    assert stream.crashes == 2
    assert [message.why for message in inbox if isinstance(message, StreamDown)][:2] == [
        "unforeseen ZeroDivisionError: a mistake of ours"
    ] * 2
    assert inbox[-4:-2] == [StreamUp(PRICING, 3), UnknownMessage(PRICING, {})]
    assert "a mistake of ours" in caplog.text


@pytest.mark.parametrize("where", ["connect", "parse", "inbox"])
def test_a_crash_anywhere_is_survived(where, caplog):
    caplog.set_level(logging.CRITICAL)
    clock = FakeClock()
    broker = Broker(clock, [holding(clock, 1)] * 3)
    times = iter([True, True, False])

    class Fragile(Inbox):
        def put(self, item: Any) -> None:
            fail(where == "inbox")
            self.append(item)

    def fail(here: bool) -> None:
        if here and next(times, False):
            raise MemoryError

    def connect() -> Connection:
        fail(where == "connect")
        return broker()

    def parse(payload: Any) -> Any:
        fail(where == "parse")
        return UnknownMessage(PRICING, payload)

    inbox = Fragile()
    stream = Stream(PRICING, connect, parse, inbox, clock=clock, sleep=clock.sleep)
    broker.stream = stream
    stream.run()

    assert stream.crashes == 2
    assert any(isinstance(message, StreamUp) for message in inbox)
    assert inbox[-1] == StreamDown(PRICING, "stopped, as was asked", final=True)


def test_a_stop_that_comes_while_a_connection_is_made_closes_it():
    clock = FakeClock()
    connection = Connection(lambda: iter([]))

    def connect() -> Connection:
        stream.stop(0)
        return connection

    stream = Stream(PRICING, connect, lambda payload: payload, Inbox(), clock=clock, sleep=clock.sleep)
    stream.run()

    assert connection.closed
