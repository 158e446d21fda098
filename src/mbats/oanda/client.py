"""OANDA v20 over oandapyV20: one client for all threads, typed results, typed errors.

    client = OandaClient.from_settings(get_settings())
    for bars in client.candles("EUR_USD", Granularity.H1, start=start):
        ...

oandapyV20 sets no timeout, never tries again, and shares one HTTP session between threads; here every call has a
timeout, reads are tried again with growing pauses, and each thread has its own session. `OandaUnavailable` means that no
trustworthy answer came, after all attempts; `OandaRejected` that asking again would not help.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

import numpy as np
from oandapyV20.endpoints.accounts import AccountInstruments, AccountList
from oandapyV20.endpoints.instruments import InstrumentsCandles
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS
from pydantic import SecretStr

from mbats.errors import OandaUnavailable
from mbats.market import Bars, Granularity, Instrument, to_datetime, to_us
from mbats.oanda.parse import format_time, parse_accounts, parse_candles, parse_instruments, still_forming
from mbats.oanda.reads import Reads
from mbats.oanda.sessions import Sessions
from mbats.settings import Settings

PAGE = 5000  # candles; OANDA refuses more


class OandaClient:
    """The market data of OANDA v20. Safe to share between threads; close it, or use it in a `with`.

    OANDA counts 120 requests and 2 new connections a second. `timeout` is (connect, read) in seconds. `attempts` counts the
    first one; the pauses between them grow from `first_pause` to `longest_pause` seconds, with jitter so that threads do not
    come back together. What else talks to the broker should share `sessions`, and with it the pace;
    what else reads from it may share `reads`, which asks again as this does.
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
        attempts: int = 6,
        first_pause: float = 0.25,
        longest_pause: float = 8.0,
    ) -> None:
        self.sessions = Sessions(
            url,
            token,
            stream_url=stream_url,
            requests_per_second=requests_per_second,
            connections_per_second=connections_per_second,
            timeout=timeout,
        )
        self.reads = Reads(self.sessions, attempts=attempts, first_pause=first_pause, longest_pause=longest_pause)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The client of the chosen environment. Raises ConfigError when its token is missing."""
        environment = settings.oanda_environment
        if environment == "simulator":
            url, stream_url = settings.simulator_url, settings.simulator_stream_url
            token = settings.required_secret("simulator_token")
        else:
            hosts = TRADING_ENVIRONMENTS[environment]
            url, stream_url, token = hosts["api"], hosts["stream"], settings.required_secret("oanda_token")
        return cls(url, token, stream_url=stream_url, requests_per_second=settings.oanda_requests_per_second)

    @property
    def url(self) -> str:
        """The address of the REST side."""
        return self.sessions.url

    def __repr__(self) -> str:
        return f"OandaClient({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of every thread."""
        self.sessions.close()

    def accounts(self) -> list[str]:
        """The ids of the accounts that the token may use."""
        return self.reads.read(AccountList(), parse_accounts)

    def instruments(self, account: str, names: Iterable[str] | None = None) -> list[Instrument]:
        """The instruments of an account: the named ones, or all. OANDA refuses the whole call for one unknown name."""
        wanted = None if names is None else sorted(names)
        if wanted == []:
            return []
        params = {} if wanted is None else {"instruments": ",".join(wanted)}
        return self.reads.read(AccountInstruments(quote(account, safe=""), params), parse_instruments)

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

    def candles_before(self, instrument: str, granularity: Granularity, end: datetime, count: int) -> Bars:
        """The last complete bars that start before `end` (UTC), at most `count` of them and at most 5000.

        The broker refuses an `end` in its future.
        """
        params = {"price": "BA", "granularity": granularity.value, "to": format_time(end), "count": min(count, PAGE)}
        bars = self.reads.read(InstrumentsCandles(quote(instrument, safe=""), params), parse_candles)
        return bars[bars.time < to_us(end)]

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

        return self.reads.read(InstrumentsCandles(quote(instrument, safe=""), params), parse)
