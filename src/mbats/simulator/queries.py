"""What a request asks for, read from its query and checked: plain strings in, typed values out, or a Refusal.

Rules and words are OANDA's, as far as they are known. Nothing here knows HTTP or the clock.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache

import numpy as np

from mbats.market import Granularity, to_us
from mbats.simulator.alignment import Alignment, Weekday
from mbats.simulator.errors import Refusal, invalid, missing, too_many
from mbats.simulator.prices import ASK, BID, MID

DEFAULT_COUNT, MAX_COUNT = 500, 5000
SIDES = {"M": MID, "B": BID, "A": ASK}
UNIX_TIME = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?")
RFC3339_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|z|[+-]\d\d:\d\d)?)?")

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CandleQuery:
    """A checked request for candles. `start` and `end` are UTC and half-open; at most two of start, end, count are set."""

    instrument: str
    granularity: Granularity
    sides: tuple[str, ...]
    start: np.datetime64 | None
    end: np.datetime64 | None
    count: int | None
    alignment: Alignment
    smooth: bool
    include_first: bool


def read_candle_query(instrument: str, query: Query, now: np.datetime64, *, clamp: bool = False) -> CandleQuery:
    """Read the parameters of a candles request. Raises Refusal (400) with OANDA's words about the one that is wrong.

    OANDA refuses a `to` that has not come yet; with `clamp` it counts as now.
    """
    granularity = read_granularity(query.get("granularity", "S5"))
    start, end = read_time(query, "from"), read_time(query, "to")
    if clamp and end is not None:
        end = min(end, now)
    for name, moment in (("from", start), ("to", end)):
        if moment is not None and moment > now:
            raise invalid(name, "Time is in the future")
    count = _read_count(query)
    if start is not None and end is not None:
        if count is not None:
            raise Refusal(400, "'count' cannot be specified when 'to' and 'from' parameters are set")
        if end < start:
            raise invalid("to", "Time is before 'from'")
        if end - start > MAX_COUNT * np.timedelta64(granularity.length):
            raise too_many("count")
    return CandleQuery(
        instrument=instrument,
        granularity=granularity,
        sides=read_sides(query.get("price", "M")),
        start=start,
        end=end,
        count=count,
        alignment=read_alignment(query),
        smooth=read_bool(query, "smooth", default=False),
        include_first=read_bool(query, "includeFirst", default=True),
    )


@dataclass(frozen=True, slots=True)
class LatestSpecification:
    """One of `candleSpecifications`: instrument, granularity and sides, for instance EUR_USD:S10:BM."""

    instrument: str
    granularity: Granularity
    sides: tuple[str, ...]


def read_specifications(query: Query) -> list[LatestSpecification]:
    """Read `candleSpecifications`. Raises Refusal (400)."""
    text = query.get("candleSpecifications")
    if not text:
        raise missing()
    found = []
    for item in text.split(","):
        parts = item.split(":")
        if len(parts) not in (2, 3):
            raise invalid("candleSpecifications")
        found.append(LatestSpecification(parts[0], read_granularity(parts[1]), read_sides(parts[2] if len(parts) == 3 else "M")))
    return found


def read_granularity(text: str) -> Granularity:
    if text not in list(Granularity):
        raise invalid("granularity")
    return Granularity(text)


def read_sides(text: str) -> tuple[str, ...]:
    """The price components, each of M, B and A once, in the order of OANDA's answers: bid, mid, ask."""
    if not text or set(text) - set(SIDES):
        raise invalid("price")
    return tuple(side for side in "BMA" if side in text)


def read_alignment(query: Query) -> Alignment:
    """Daily hour, zone and weekday by which long candles are aligned."""
    hour = query.get("dailyAlignment", "17")
    if not re.fullmatch(r"[0-9]{1,2}", hour) or int(hour) > 23:
        raise invalid("dailyAlignment")
    zone = query.get("alignmentTimezone", "America/New_York")
    if zone not in _zones():
        raise invalid("alignmentTimezone")
    weekday = query.get("weeklyAlignment", "Friday")
    if weekday not in list(Weekday):
        raise invalid("weeklyAlignment")
    return Alignment(int(hour), zone, Weekday(weekday))


def read_bool(query: Query, name: str, *, default: bool) -> bool:
    """True or False in any case; oandapyV20 writes Python's."""
    text = query.get(name)
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise invalid(name)
    return text.lower() == "true"


def read_time(query: Query, name: str) -> np.datetime64 | None:
    """A time in RFC 3339 or in seconds since 1970, to the microsecond; no zone means UTC. None when it is absent."""
    text = query.get(name)
    if text is None:
        return None
    try:
        if unix := UNIX_TIME.fullmatch(text):
            return to_us(datetime.fromtimestamp(int(unix[1]), UTC) + _fraction(unix[2]))
        if parts := RFC3339_TIME.fullmatch(text):
            moment = datetime.fromisoformat(f"{parts[1]}T{parts[2] or '00:00:00'}{(parts[4] or 'Z').upper()}")
            return to_us(moment + _fraction(parts[3]))
    except (ValueError, OverflowError, OSError):
        pass  # a date that does not exist: refused below, like any other text
    raise invalid(name)


def read_instruments(query: Query, known: tuple[str, ...], *, required: bool) -> tuple[str, ...]:
    """The comma-separated `instruments`, all known when the parameter may be absent and is."""
    text = query.get("instruments")
    if text is None:
        if required:
            raise missing()
        return known
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(known):
        raise invalid("instruments")
    return names


def check_units(query: Query) -> None:
    """`units` asks for candles of what so many units cost. Here that is the top of the book, so it only has to be a size."""
    text = query.get("units")
    if text is None:
        return
    try:
        units = Decimal(text)
    except InvalidOperation:
        raise invalid("units") from None
    if not units.is_finite() or units <= 0:
        raise invalid("units")


def read_whole(query: Query, name: str, most: int) -> int:
    """A whole number from 1 on. Raises Refusal (400) in other words when it is above the maximum."""
    text = query[name]
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < 1:
        raise invalid(name)
    if int(text) > most:
        raise too_many(name)
    return int(text)


def _read_count(query: Query) -> int | None:
    return read_whole(query, "count", MAX_COUNT) if "count" in query else None


def _fraction(digits: str | None) -> timedelta:
    return timedelta(microseconds=int((digits or "0").ljust(6, "0")[:6]))


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
