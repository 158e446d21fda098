"""Candles as they come to be: the newest of many pairs in one request, and those of one pair since a bar that is known.

`OandaClient.candles` reads histories; this is for whoever waits for the next bar, and must know not only which bars are complete
but also which are still to come. Nothing is asked again here: whoever polls asks again anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from oandapyV20.endpoints.apirequest import APIRequest
from oandapyV20.endpoints.instruments import InstrumentsCandles

from mbats.errors import OandaUnavailable
from mbats.market import Bars, Granularity, to_us
from mbats.oanda.parse import format_time, parse_candles, parse_list, parse_time, read_part
from mbats.oanda.reads import Reads
from mbats.oanda.sessions import Sessions

PAGE = 5000  # candles; OANDA refuses more

Series = tuple[str, Granularity]


class LatestCandles(APIRequest):  # type: ignore[misc]  # oandapyV20 has no types
    """`GET /v3/accounts/{accountID}/candles/latest`, which oandapyV20 does not have."""

    def __init__(self, account: str, params: dict[str, str]) -> None:
        super().__init__(f"v3/accounts/{account}/candles/latest")
        self.params = params


@dataclass(frozen=True, slots=True)
class Shown:
    """What the broker shows of a series: complete bars, oldest first, and the start (UTC) of the first that is not complete."""

    bars: Bars
    forming: datetime | None


class NewCandles:
    """Reads candles of one account, bid and ask. Each call is one request, with a time limit of (connect, read) seconds.

    Raises OandaUnavailable when no answer came that can be trusted, OandaRejected when asking again would not help.
    """

    def __init__(self, sessions: Sessions, account: str, *, timeout: tuple[float, float] = (3.05, 4.0)) -> None:
        self._reads = Reads(sessions, attempts=1, timeout=timeout)
        self._path = quote(account, safe="")

    def latest(self, wanted: Sequence[Series]) -> dict[Series, Shown]:
        """Of each series the last complete bar and what came after it. One unknown name has the broker refuse them all.

        What lies between two of these bars is not shown: `since` shows it.
        """
        if not wanted:
            return {}
        specifications = ",".join(f"{name}:{granularity}:BA" for name, granularity in wanted)

        def parse(payload: Any) -> dict[Series, Shown]:
            found = dict(parse_list(payload, "latestCandles", _named))
            missing = set(wanted) - set(found)
            if missing:
                raise OandaUnavailable(f"The answer cannot be read: latest candles of {sorted(missing)} are missing.")
            return {series: found[series] for series in wanted}

        return self._reads.read(LatestCandles(self._path, {"candleSpecifications": specifications}), parse)

    def since(self, instrument: str, granularity: Granularity, start: datetime) -> tuple[Shown, bool]:
        """The candles that start at `start` (UTC) or later, and whether there may be more: the page was full."""
        return self._page(instrument, granularity, {"from": format_time(start), "count": str(PAGE)})

    def last(self, instrument: str, granularity: Granularity, count: int) -> Shown:
        """The last candles, `count` of them, the one that forms among them."""
        return self._page(instrument, granularity, {"count": str(count)})[0]

    def before(self, instrument: str, granularity: Granularity, end: datetime, count: int) -> Bars:
        """The last `count` complete bars that start before `end` (UTC), which the broker refuses when it is in its future."""
        shown, _ = self._page(instrument, granularity, {"to": format_time(end), "count": str(count)})
        return shown.bars[shown.bars.time < to_us(end)]

    def _page(self, instrument: str, granularity: Granularity, params: dict[str, str]) -> tuple[Shown, bool]:
        def parse(payload: Any) -> tuple[Shown, bool]:
            series, shown = _named(payload)
            if series != (instrument, granularity):
                raise OandaUnavailable(f"The answer cannot be read: candles of {series}, expected {instrument} {granularity}.")
            return shown, len(payload["candles"]) >= PAGE

        request = InstrumentsCandles(quote(instrument, safe=""), {"price": "BA", "granularity": granularity.value, **params})
        return self._reads.read(request, parse)


def _named(payload: Any) -> tuple[Series, Shown]:
    """One series of an answer, with its name. What follows a bar that is not complete is not believed to be."""
    series = read_part("candles", lambda: (str(payload["instrument"]), Granularity(payload["granularity"])))
    candles = read_part("candles", lambda: list(payload["candles"]))
    first = read_part("candles", lambda: next((i for i, one in enumerate(candles) if one["complete"] is not True), None))
    forming = None if first is None else read_part("candles", lambda: parse_time(candles[first]["time"]))
    return series, Shown(parse_candles({"candles": candles[:first]}), forming)
