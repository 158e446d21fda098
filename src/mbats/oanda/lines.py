"""One connection of a stream, read line by line over oandapyV20, with a watch on silence.

oandapyV20 blocks for ever on a connection that is half open, ends without a word when the broker ends the stream, and raises
five kinds of exception for the rest. Here every end is an OandaError but one that was asked for by `close`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import requests
from oandapyV20 import V20Error
from oandapyV20.endpoints.apirequest import APIRequest

from mbats.errors import OandaUnavailable
from mbats.oanda.reads import refusal
from mbats.oanda.sessions import Sessions


class StreamLines:
    """Iterate once for the JSON of each line, in one thread; `close` may be called by any.

    Raises OandaRejected when the broker refuses the stream (HTTP 4xx but 429), else OandaUnavailable however the connection
    ended: by the broker, by the network, by a line that is no JSON, or because no line came for `silence` seconds.
    """

    def __init__(
        self, sessions: Sessions, request: APIRequest, *, silence: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sessions = sessions
        self._request = request
        self._silence = silence
        self._clock = clock
        self._last_line = clock()
        self._response: requests.Response | None = None
        self._status = 0
        self._silent = False
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Any]:
        what = f"{self._request.method} {self._request} at {self._sessions.stream_url}"
        try:
            yield from self._read()
        except V20Error as error:
            raise refusal(self._sessions, what, error) from None
        except (requests.RequestException, ValueError, OSError) as error:
            if self._status >= 400:  # the body that says why was cut, or is no text
                raise refusal(self._sessions, what, V20Error(self._status, "")) from error
            if not self._closed.is_set():
                raise OandaUnavailable(f"{what}: {self._reason(error)}.") from error
        else:
            if not self._closed.is_set():
                raise OandaUnavailable(f"{what}: {self._reason(None)}.")

    def close(self) -> None:
        """End the iteration, at once if a line is being waited for."""
        self._closed.set()
        self._shut()

    def _read(self) -> Iterator[Any]:
        api = self._sessions.open_stream(self._silence)
        api.client.hooks["response"].append(self._opened)
        self._last_line = self._clock()
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,), name="silence", daemon=True)
        watch.start()
        try:
            for payload in api.request(self._request):
                self._last_line = self._clock()
                yield payload
        finally:
            done.set()
            with self._lock:
                if self._response is not None:
                    self._response.close()
                    self._response = None
            api.close()
            watch.join()

    def _watch(self, done: threading.Event) -> None:
        """The time-out of a socket sees a connection that brings nothing, but not one that drips and never ends a line."""
        while not done.wait(max(self._last_line + self._silence - self._clock(), self._silence / 20)):
            if self._clock() - self._last_line >= self._silence and self._response is not None:
                self._silent = True
                self._shut()
                return

    def _opened(self, response: requests.Response, *args: Any, **kwargs: Any) -> None:
        with self._lock:
            self._response = response
            self._status = response.status_code
        if self._closed.is_set():
            self._shut()

    def _shut(self) -> None:
        """Wake whoever waits for a line; closing is left to the thread that reads."""
        with self._lock, suppress(OSError, RuntimeError, ValueError):  # it may have ended by itself meanwhile
            if self._response is not None:
                self._response.raw.shutdown()

    def _reason(self, error: Exception | None) -> str:
        if self._silent or (isinstance(error, requests.Timeout | requests.ConnectionError) and "Read timed out" in str(error)):
            return f"no line for {self._silence:g} seconds"
        if self._status not in (0, 200):
            return f"HTTP {self._status}, which is no stream"
        if error is None:
            return "the broker ended the stream"
        if isinstance(error, requests.RequestException):
            return f"no connection, or it broke ({type(error).__name__}: {error})"
        return f"a line cannot be read ({type(error).__name__}: {error})"
