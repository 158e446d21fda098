"""HTTP sessions at one broker: where it is, who we are, how fast we may call, how long we wait.

Everything that talks to the broker from one process should share one `Sessions`, because OANDA counts requests and new
connections by address, not by purpose.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from oandapyV20 import API
from oandapyV20.endpoints.apirequest import APIRequest
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS
from pydantic import SecretStr

from mbats.errors import ConfigError
from mbats.oanda.clock import BrokerClock
from mbats.oanda.rate import RateLimit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Sessions:
    """One session for each thread, one more for each stream. Safe to share between threads.

    OANDA counts 120 requests and 2 new connections a second. `timeout` is (connect, read) in seconds. `clock` measures from
    every answer how far the broker's clock is from ours. Raises ConfigError for an address or a token that is none.
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
    ) -> None:
        self.url = _checked_url(url)
        self.stream_url = None if stream_url is None else _checked_url(stream_url)
        self.clock = clock or BrokerClock()
        self._token = _checked_token(token)
        self._timeout = timeout
        self._calls = RateLimit(requests_per_second)
        self._connections = RateLimit(connections_per_second)
        # oandapyV20 finds an address by name in one table of the process, so each of ours stands there under its own.
        self._environment = f"mbats-{uuid4().hex}"
        TRADING_ENVIRONMENTS[self._environment] = {"api": self.url, "stream": self.stream_url}
        weakref.finalize(self, TRADING_ENVIRONMENTS.pop, self._environment, None)
        self._of_thread = threading.local()
        self._apis: list[API] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Sessions({self.url!r})"

    def close(self) -> None:
        """Close the connections of every thread; streams close their own."""
        with self._lock:
            for api in self._apis:
                api.close()
            self._apis.clear()
            self._of_thread = threading.local()

    def ask(self, request: APIRequest) -> Any:
        """Send a request once, when its turn has come; the JSON of the answer. Raises what oandapyV20 and requests raise."""
        self._calls.wait()
        return self._api().request(request)

    def open_stream(self, silence: float) -> API:
        """A session of its own for one connection of a stream, when its turn has come; the caller closes it.

        `silence` is for how many seconds the connection may bring nothing at all.
        """
        if self.stream_url is None:
            raise ConfigError(f"The address of the streams that go with {self.url} is not known. Give it as `stream_url`.")
        self._connections.wait()
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
            self._connections.wait()
            api = self._new_api(self._timeout)
            self._of_thread.api = api
            with self._lock:
                self._apis.append(api)
        return api

    def _new_api(self, timeout: tuple[float, float]) -> API:
        # A redirect that is followed would send an order a second time; OANDA has none, only networks with a login page do.
        params = {"timeout": timeout, "allow_redirects": False}
        api = API(self._token.get_secret_value(), self._environment, request_params=params)
        api.client.auth = _as_it_is
        api.client.trust_env = urlsplit(self.url).hostname not in LOOPBACK
        api.client.hooks["response"].append(self.clock.observe_answer)
        return api


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
