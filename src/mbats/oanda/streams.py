"""The two streams of an account, kept alive by a thread each. All that comes, and every fall, goes into one queue of the owner's.

    inbox = queue.SimpleQueue()
    streams = [transaction_stream(sessions, account, inbox), pricing_stream(sessions, account, ["EUR_USD"], inbox)]
    for stream in streams:
        stream.start()
    while True:
        message = inbox.get()

There are two states, up and down, and down has many causes that make no difference to the owner: until the next StreamUp, and
until what was missed before it has been read, nothing may be decided. A stream comes back by itself for ever, except when the
token is refused: then it stops, since trying on would only be noise.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

from oandapyV20.endpoints.pricing import PricingStream
from oandapyV20.endpoints.transactions import TransactionsStream

from mbats.errors import MbatsError, OandaError
from mbats.oanda.backoff import Backoff
from mbats.oanda.lines import StreamLines
from mbats.oanda.messages import (
    PRICING,
    TRANSACTIONS,
    Message,
    StreamDown,
    StreamMessage,
    StreamUp,
    parse_price_line,
    parse_transaction_line,
)
from mbats.oanda.sessions import Sessions

log = logging.getLogger(__name__)

SILENCE = 10.0  # seconds; the broker sends a heartbeat every 5


class Lines(Protocol):
    """A connection: iterated by the stream's thread, closed by any."""

    def __iter__(self) -> Iterator[Any]: ...
    def close(self) -> None: ...


class Inbox(Protocol):
    """Where messages go, such as a `queue.SimpleQueue`; `put` must not block."""

    def put(self, item: Message, /) -> None: ...


class Stream:
    """One supervised stream. `connect` makes a connection, `parse` a message of each of its lines.

    What it has been through can be read at any time: `connections` that brought a line, `failures` of any kind, `crashes`, which
    are those that nobody foresaw, and `last_line`, by `clock`, in seconds.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Lines],
        parse: Callable[[Any], StreamMessage],
        inbox: Inbox,
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.name = name
        self.connections = 0
        self.failures = 0
        self.crashes = 0
        self.last_line: float | None = None
        self._connect = connect
        self._parse = parse
        self._inbox = inbox
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait  # which a stop cuts short
        self._lines: Lines | None = None
        self._up_since: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_up(self) -> bool:
        """Whether the present connection has brought a line and has not ended."""
        return self._up_since is not None

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs; after a final StreamDown it does not."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin, in a thread of its own; also after a final StreamDown, once its cause is mended."""
        if self.is_alive:
            raise RuntimeError(f"The {self.name} stream runs already.")
        self._stopping.clear()
        self._thread = threading.Thread(target=self.run, name=f"{self.name}-stream", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> bool:
        """End it. False if its thread still hangs in a connection after `timeout` seconds; it ends by itself then."""
        self._stopping.set()
        lines = self._lines
        if lines is not None:
            lines.close()
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.is_alive

    def run(self) -> None:
        """What the thread does: connect, deliver, fall, wait, again. Returns after a final StreamDown."""
        while True:
            down = self._follow()
            held = 0.0 if self._up_since is None else self._clock() - self._up_since
            self._up_since = None
            try:
                self._inbox.put(down)
            except Exception:
                self._crashed("its inbox took no message")
            if down.final:
                return
            self._sleep(self._backoff.after(held))

    def _follow(self) -> StreamDown:
        """Deliver what one connection brings, until it ends, and say why it did."""
        if self._stopping.is_set():
            return self._stopped()
        try:
            with closing(self._connect()) as self._lines:
                if self._stopping.is_set():  # it came between, and found no connection to close
                    self._lines.close()
                for payload in self._lines:
                    self._deliver(payload)
            why, final = "the connection ended", False
        except OandaError as error:
            why, final = str(error), error.status in (401, 403)
        except MbatsError as error:  # nothing of the broker's: a setting is missing
            why, final = str(error), True
        except Exception as error:
            why, final = f"unforeseen {type(error).__name__}: {error}", False
            self._crashed(why)
        finally:
            self._lines = None
        if self._stopping.is_set():
            return self._stopped()
        self.failures += 1
        return StreamDown(self.name, why, final)

    def _deliver(self, payload: Any) -> None:
        message = self._parse(payload)  # first: a connection whose first line is no message never was up
        self.last_line = self._clock()
        if self._up_since is None:
            self._up_since = self.last_line
            self.connections += 1
            self._inbox.put(StreamUp(self.name, self.connections))
        self._inbox.put(message)

    def _stopped(self) -> StreamDown:
        return StreamDown(self.name, "stopped, as was asked", final=True)

    def _crashed(self, why: str) -> None:
        self.crashes += 1
        log.exception("The %s stream broke off and starts again: %s", self.name, why)


def pricing_stream(
    sessions: Sessions, account: str, instruments: Iterable[str], inbox: Inbox, *, silence: float = SILENCE, **options: Any
) -> Stream:
    """The prices of these instruments: first the newest of each, which may be old, then every change."""
    params = {"instruments": ",".join(sorted(instruments)), "snapshot": "true"}
    request = partial(PricingStream, quote(account, safe=""), params)
    return _stream(PRICING, request, parse_price_line, sessions, inbox, silence, options)


def transaction_stream(sessions: Sessions, account: str, inbox: Inbox, *, silence: float = SILENCE, **options: Any) -> Stream:
    """All that happens to the account from now on, and every 5 seconds the number of its last transaction."""
    request = partial(TransactionsStream, quote(account, safe=""))
    return _stream(TRANSACTIONS, request, parse_transaction_line, sessions, inbox, silence, options)


def _stream(
    name: str,
    request: Callable[[], Any],
    parse: Callable[[Any], StreamMessage],
    sessions: Sessions,
    inbox: Inbox,
    silence: float,
    options: dict[str, Any],
) -> Stream:
    def parse_and_measure(payload: Any) -> StreamMessage:
        message = parse(payload)
        moment = getattr(message, "time", None)
        if moment is not None:
            sessions.clock.observe_time(moment)
        return message

    def connect() -> StreamLines:
        return StreamLines(sessions, request(), silence=silence)

    return Stream(name, connect, parse_and_measure, inbox, **options)
