"""HTTP sessions at one broker: where it is, who we are, how fast we may call, how long we wait.

Everything that talks to the broker from one process should share one `Sessions`, because OANDA counts requests and new
connections by address, not by purpose.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from oandapyV20 import API, V20Error
from oandapyV20.endpoints.accounts import AccountList
from oandapyV20.endpoints.apirequest import APIRequest
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS
from pydantic import SecretStr
from urllib3.exceptions import HTTPError

from mbats.errors import ConfigError
from mbats.oanda.clock import BrokerClock
from mbats.oanda.rate import Lane, Pace

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_ANSWER = 30.0  # seconds from the head of an answer to its end, however it trickles
PIECE = 65536  # bytes


class Sessions:
    """One session for each thread, one more for each stream. Safe to share between threads.

    OANDA counts 120 requests and 2 new connections a second; several `Sessions` at one address share a `pace`. `timeout` is
    (connect, read) in seconds. `clock` measures from every answer how far the broker's clock is from ours, `on_date` is told
    the time (UTC) that each answer shows. Raises ConfigError for an address or a token that is none.
    """

    def __init__(
        self,
        url: str,
        token: SecretStr,
        *,
        stream_url: str | None = None,
        requests_per_second: float = 100.0,
        connections_per_second: float = 2.0,
        timeout: tuple[float, float] = (3.05, 10.0),
        clock: BrokerClock | None = None,
        pace: Pace | None = None,
        on_date: Callable[[datetime], None] | None = None,
    ) -> None:
        self.url = _checked_url(url)
        self.stream_url = None if stream_url is None else _checked_url(stream_url)
        self.clock = clock or BrokerClock()
        self._token = _checked_token(token)
        self._timeout = timeout
        self._pace = pace or Pace(requests_per_second, connections_per_second)
        self._on_date = on_date
        # oandapyV20 finds an address by name in one table of the process, so each of ours stands there under its own.
        self._environment = f"mbats-{uuid4().hex}"
        TRADING_ENVIRONMENTS[self._environment] = {"api": self.url, "stream": self.stream_url}
        weakref.finalize(self, TRADING_ENVIRONMENTS.pop, self._environment, None)
        # It logs as an error whatever it raises; here each error is raised by name, and logged by who handles it.
        logging.getLogger(API.__module__).setLevel(logging.CRITICAL)
        self._of_thread = threading.local()
        self._apis: list[API] = []
        self._spare: deque[API] = deque()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Sessions({self.url!r})"

    def close(self) -> None:
        """Close the connections of every thread; streams close their own."""
        with self._lock:
            for api in self._apis:
                api.close()
            self._apis.clear()
            self._spare.clear()
            self._of_thread = threading.local()

    def ask(self, request: APIRequest, *, lane: Lane = "reads", timeout: tuple[float, float] | None = None) -> Any:
        """Send a request once, when its turn has come; the JSON of the answer. Raises what oandapyV20 and requests raise.

        What writes goes by the lane of orders, which reads cannot fill. `timeout` is for this request alone.
        """
        self._pace.wait_for_request(lane)
        api = self._api()
        api.request_params["timeout"] = timeout or self._timeout
        return api.request(request)

    def prepare(self, count: int) -> None:
        """Make connections ahead: the next `count` threads that ask for the first time neither wait for their turn to make one,
        nor for the making. Those that cannot be made now are made by these threads; nothing is raised."""
        for _ in range(count):
            self._pace.wait_for_connection()
            api = self._kept(self._new_api(self._timeout))
            self._touch(api)
            with self._lock:
                self._spare.append(api)

    def warm(self) -> None:
        """Use this thread's connection for nothing, so that the broker does not close it as idle; nothing is raised."""
        self._touch(self._api())

    def open_stream(self, silence: float) -> API:
        """A session of its own for one connection of a stream, when its turn has come; the caller closes it.

        `silence` is for how many seconds the connection may bring nothing at all.
        """
        if self.stream_url is None:
            raise ConfigError(f"The address of the streams that go with {self.url} is not known. Give it as `stream_url`.")
        self._pace.wait_for_connection()
        api = self._new_api((self._timeout[0], silence))
        # A compressed stream would arrive in blocks, each as late as its first line is old.
        api.client.headers["Accept-Encoding"] = "identity"
        return api

    def without_token(self, text: str) -> str:
        """The text with our token taken out: an answer might quote the request."""
        return text.replace(self._token.get_secret_value(), "(token)")

    def _api(self) -> API:
        """This thread's own session, since a `requests.Session` must not be shared."""
        api: API | None = getattr(self._of_thread, "api", None)
        if api is None:
            with self._lock:
                api = self._spare.popleft() if self._spare else None
            if api is None:
                self._pace.wait_for_connection()
                api = self._kept(self._new_api(self._timeout))
            self._of_thread.api = api
        return api

    def _kept(self, api: API) -> API:
        with self._lock:
            self._apis.append(api)
        return api

    def _touch(self, api: API) -> None:
        """Ask for something small, whose answer does not matter: what is wrong will be told to who asks for something."""
        self._pace.wait_for_request("reads")
        api.request_params["timeout"] = self._timeout
        with suppress(V20Error, requests.RequestException, ValueError):
            api.request(AccountList())

    def _new_api(self, timeout: tuple[float, float]) -> API:
        # A redirect that is followed would send an order a second time; OANDA has none, only networks with a login page do.
        params = {"timeout": timeout, "allow_redirects": False}
        api = API(self._token.get_secret_value(), self._environment, request_params=params)
        api.client.auth = _as_it_is
        api.client.trust_env = urlsplit(self.url).hostname not in LOOPBACK
        api.client.hooks["response"] += [self.clock.observe_answer, _read_in_time]
        if self._on_date is not None:
            api.client.hooks["response"].append(_teller(self._on_date))
        return api


def _teller(on_date: Callable[[datetime], None]) -> Callable[..., None]:
    """A hook for requests that tells the time which an answer shows, if it does."""

    def tell(response: requests.Response, *args: Any, **kwargs: Any) -> None:
        with suppress(ValueError, TypeError):
            on_date(parsedate_to_datetime(response.headers.get("Date", "")).replace(tzinfo=UTC))

    return tell


def _read_in_time(response: requests.Response, *args: Any, stream: bool = False, **kwargs: Any) -> None:
    """A hook for requests that reads the body of an answer. The time-out of requests is for each piece of it, so that an answer
    which comes byte by byte would hold its thread for ever."""
    if stream:
        return
    until, pieces = time.monotonic() + LONGEST_ANSWER, []
    try:
        while piece := response.raw.read1(PIECE, decode_content=True):
            pieces.append(piece)
            if time.monotonic() > until:
                raise requests.ReadTimeout(f"the answer was not whole after {LONGEST_ANSWER:g} seconds", response=response)
    except HTTPError as error:  # of urllib3
        response.close()
        raise requests.ConnectionError(error, response=response) from error
    except requests.ReadTimeout:
        response.close()
        raise
    vars(response).update(_content=b"".join(pieces), _content_consumed=True)  # what requests does when it has read all


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without an auth of its own, requests would put a login from ~/.netrc in the place of our token."""
    return request


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"OANDA's address is '{url}', expected http(s)://host[:port]. Correct it in .env.")
    return url.rstrip("/")


def _checked_token(token: SecretStr) -> SecretStr:
    """The token, refused here when it is no header value: requests would print it in its complaint."""
    text = token.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError("OANDA's token is empty, or holds a space or a character that no token has. Copy it again.")
    return token
