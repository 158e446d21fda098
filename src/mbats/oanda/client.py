"""OANDA v20 over oandapyV20: one client for all threads, typed results, typed errors.

    client = OandaClient.from_settings(get_settings())
    for bars in client.candles("EUR_USD", Granularity.H1, start=start):
        ...

oandapyV20 sets no timeout, never tries again, and shares one HTTP session between threads; here every call has a
timeout, reads are tried again with growing pauses, and each thread has its own session. `OandaUnavailable` means that no
trustworthy answer came, after all attempts; `OandaRejected` that asking again would not help.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

import numpy as np
import requests
from oandapyV20 import API, V20Error
from oandapyV20.endpoints.accounts import AccountInstruments, AccountList
from oandapyV20.endpoints.apirequest import APIRequest
from oandapyV20.endpoints.instruments import InstrumentsCandles
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS
from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from mbats.errors import ConfigError, OandaError, OandaRejected, OandaUnavailable
from mbats.market import Bars, Granularity, Instrument, to_datetime, to_us
from mbats.oanda.parse import format_time, parse_accounts, parse_candles, parse_instruments, parse_refusal, still_forming
from mbats.oanda.rate import RateLimit
from mbats.settings import Settings

T = TypeVar("T")

PAGE = 5000  # candles; OANDA refuses more
LOOPBACK = ("127.0.0.1", "localhost", "::1")

HINTS = {
    401: "A practice token works only on the practice host and a live one only on the live host: check MBATS_OANDA_TOKEN and "
    "MBATS_OANDA_ENVIRONMENT; the simulator takes the token that ./starter_script.sh made.",
    403: "The account does not belong to this token: check MBATS_OANDA_ACCOUNT.",
    404: "Check the name, and that the address is that of a v20 REST host.",
}


class OandaClient:
    """The read side of OANDA v20. Safe to share between threads; close it, or use it in a `with`.

    OANDA counts 120 requests and 2 new connections a second. `timeout` is (connect, read) in seconds. `attempts` counts the
    first one; the pauses between them grow from `first_pause` to `longest_pause` seconds, with jitter so that threads do not
    come back together.
    """

    def __init__(
        self,
        url: str,
        token: SecretStr,
        *,
        requests_per_second: float = 100.0,
        connections_per_second: float = 2.0,
        timeout: tuple[float, float] = (3.05, 10.0),
        attempts: int = 6,
        first_pause: float = 0.25,
        longest_pause: float = 8.0,
    ) -> None:
        self.url = _checked_url(url)
        self._token = _checked_token(token)
        self._timeout = timeout
        self._calls = RateLimit(requests_per_second)
        self._connections = RateLimit(connections_per_second)
        self._attempts = attempts
        self._retrying = Retrying(
            retry=retry_if_exception_type(OandaUnavailable),
            stop=stop_after_attempt(attempts),
            wait=wait_exponential(multiplier=first_pause, max=longest_pause) + wait_random(0, first_pause),
            reraise=True,
        )
        # oandapyV20 finds an address by name in one table of the process, so each client stands there under its own.
        self._environment = f"mbats-{uuid4().hex}"
        TRADING_ENVIRONMENTS[self._environment] = {"api": self.url}
        weakref.finalize(self, TRADING_ENVIRONMENTS.pop, self._environment, None)
        self._of_thread = threading.local()
        self._apis: list[API] = []
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The client of the chosen environment. Raises ConfigError when its token is missing."""
        environment = settings.oanda_environment
        if environment == "simulator":
            url, token = settings.simulator_url, settings.required_secret("simulator_token")
        else:
            url, token = TRADING_ENVIRONMENTS[environment]["api"], settings.required_secret("oanda_token")
        return cls(url, token, requests_per_second=settings.oanda_requests_per_second)

    def __repr__(self) -> str:
        return f"OandaClient({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of every thread."""
        with self._lock:
            for api in self._apis:
                api.close()
            self._apis.clear()
            self._of_thread = threading.local()

    def accounts(self) -> list[str]:
        """The ids of the accounts that the token may use."""
        return self._read(AccountList(), parse_accounts)

    def instruments(self, account: str, names: Iterable[str] | None = None) -> list[Instrument]:
        """The instruments of an account: the named ones, or all. OANDA refuses the whole call for one unknown name."""
        wanted = None if names is None else sorted(names)
        if wanted == []:
            return []
        params = {} if wanted is None else {"instruments": ",".join(wanted)}
        return self._read(AccountInstruments(quote(account, safe=""), params), parse_instruments)

    def candles(
        self, instrument: str, granularity: Granularity, *, start: datetime, end: datetime | None = None
    ) -> Iterator[Bars]:
        """Yield the complete bars that start in [start, end), oldest first, in pages of at most 5000; without `end`, up to now.

        The bar still forming is left out: a stored bar never changes but by the vendor's revision. Pages are asked for by
        a start and a count, never by an end: OANDA refuses an end in its future, and our clock is not its clock.
        """
        seen = to_us(start) - np.timedelta64(1, "us")
        position = start
        while end is None or position < end:
            bars, is_newest = self._candle_page(instrument, granularity, position, end)
            fresh = bars[bars.time > seen]
            wanted = fresh if end is None else fresh[fresh.time < to_us(end)]
            if len(wanted):
                yield wanted
            # A short page proves nothing, since only the broker knows what its count covers: go on until nothing is new.
            if is_newest or len(wanted) < len(fresh) or not len(fresh):
                return
            seen = fresh.time[-1]
            position = to_datetime(seen)

    def _candle_page(self, instrument: str, granularity: Granularity, start: datetime, end: datetime | None) -> tuple[Bars, bool]:
        """The complete bars of one page from `start` on, and whether the broker has none newer."""
        count = PAGE if end is None else min(PAGE, (end - start) // granularity.length + 2)
        params = {"price": "BA", "granularity": granularity.value, "from": format_time(start), "count": count}

        def parse(payload: Any) -> tuple[Bars, bool]:
            bars = parse_candles(payload)
            found = (payload.get("instrument"), payload.get("granularity"))
            if found != (instrument, granularity.value):
                raise OandaUnavailable(f"The answer cannot be read: candles of {found}, expected {instrument} {granularity}.")
            return bars, still_forming(payload)

        return self._read(InstrumentsCandles(quote(instrument, safe=""), params), parse)

    def _read(self, request: APIRequest, parse: Callable[[Any], T]) -> T:
        """Ask, and ask again when no good answer came. For reads only: an order that is sent twice may be filled twice."""
        try:
            answer: T = self._retrying(self._ask, request, parse)
            return answer
        except OandaUnavailable as error:
            message = f"{error} Gave up after {self._attempts} attempts."
            raise OandaUnavailable(message, status=error.status, error_code=error.error_code) from error

    def _ask(self, request: APIRequest, parse: Callable[[Any], T]) -> T:
        """One attempt, as one of two errors when it fails."""
        self._calls.wait()
        what = f"{request.method} {request} at {self.url}"
        try:
            return parse(self._api().request(request))
        except OandaUnavailable as error:
            raise OandaUnavailable(f"{what}: {error}") from error
        except V20Error as error:
            raise self._refusal(what, error.code, error.msg) from None
        except requests.RequestException as error:
            raise OandaUnavailable(f"{what}: no answer ({type(error).__name__}: {error}).") from error
        except ValueError as error:  # not JSON, not UTF-8, or a success that is not 200
            raise OandaUnavailable(f"{what}: The answer cannot be read: {error}.") from error

    def _refusal(self, what: str, status: int, body: str) -> OandaError:
        reason, code = parse_refusal(body)
        # An answer might quote the request; the token must not travel on in a message.
        message = f"{what}: HTTP {status}: {reason}".replace(self._token.get_secret_value(), "(token)")
        if status == 429 or status >= 500:
            return OandaUnavailable(message, status=status, error_code=code)
        return OandaRejected(f"{message} {HINTS.get(status, '')}".rstrip(), status=status, error_code=code)

    def _api(self) -> API:
        """This thread's own session, since a `requests.Session` must not be shared."""
        api: API | None = getattr(self._of_thread, "api", None)
        if api is None:
            self._connections.wait()
            api = API(self._token.get_secret_value(), self._environment, request_params={"timeout": self._timeout})
            api.client.auth = _as_it_is
            api.client.trust_env = urlsplit(self.url).hostname not in LOOPBACK
            self._of_thread.api = api
            with self._lock:
                self._apis.append(api)
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
