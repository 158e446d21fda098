"""What somebody does to a market: entries of its log, read and checked.

Each is a JSON object with `change`, the `instrument` that it is about (null or absent: all of them), and `time`, from when it
holds; those of the second group may end at `until`. A later change of one kind takes the place of the one before it, so that a
stretch without end is ended by another whose `until` is its `time`.

    {"change": "tick", "bid": "1.08500", "ask": "1.08512", "liquidity": "1000000"}   a price; `liquidity` may be left out
    {"change": "halt"}, {"change": "resume"}            no prices and no trading; as the sessions have it
    {"change": "gap", "points": -500}                   every price from then on lies this much higher; gaps add up
    {"change": "margin_rate", "rate": "0.1"}

    {"change": "spread", "factor": 20}                  around the mid
    {"change": "freeze"}                                no new prices; the last one can be traded on
    {"change": "liquidity", "levels": [[0, "500"], [3, "2000"]]}   points from the top, units; [] is an empty book

The prices of ticks are taken as they are given, whatever else holds; a JSON fraction is rounded to the instrument's precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

import numpy as np

from mbats.market import Instrument
from mbats.simulator.errors import Refusal
from mbats.simulator.prices import HIGHEST
from mbats.simulator.queries import read_time

FOREVER = 2**62  # microseconds since 1970, after all times

Depth = tuple[tuple[int, Decimal], ...]  # levels of one side of the book: points from the top, units


class Kind(StrEnum):
    """The changes that there are."""

    TICK = "tick"
    HALT = "halt"
    RESUME = "resume"
    GAP = "gap"
    MARGIN_RATE = "margin_rate"
    SPREAD = "spread"
    FREEZE = "freeze"
    LIQUIDITY = "liquidity"


ENDING = (Kind.SPREAD, Kind.FREEZE, Kind.LIQUIDITY)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one instrument in [time, until), microseconds since 1970. What its kind does not have stays as it is here."""

    kind: Kind
    time: int
    until: int = FOREVER
    bid: int = 0
    ask: int = 0
    depth: Depth | None = None
    points: int = 0
    factor: float = 1.0
    rate: Decimal | None = None


def read_changes(entry: Mapping[str, Any], listed: Mapping[str, Instrument]) -> dict[str, Change]:
    """The change that an entry asks for, by the instruments concerned. Raises Refusal (400) that says what is wrong with it."""
    if entry.get("change") not in list(Kind):
        raise _wrong(f"'change' is {entry.get('change')!r}; expected one of {', '.join(Kind)}")
    kind = Kind(entry["change"])
    name = entry.get("instrument")
    if name is not None and name not in listed:
        raise _wrong(f"'instrument' is {name!r}; this market has {', '.join(listed)}")
    if name is None and kind is Kind.TICK:
        raise _wrong("a price is that of one instrument; expected its name as 'instrument'")
    time = _moment(entry, "time")
    until = FOREVER if entry.get("until") is None or kind not in ENDING else _moment(entry, "until")
    if until < time:
        raise _wrong("'until' lies before 'time'")
    return {each: _read(kind, entry, listed[each], time, until) for each in ([name] if name else listed)}


def _read(kind: Kind, entry: Mapping[str, Any], instrument: Instrument, time: int, until: int) -> Change:
    if kind is Kind.TICK:
        bid, ask = (_price(entry, side, instrument) for side in ("bid", "ask"))
        if ask < bid:
            raise _wrong(f"'ask' {entry['ask']} is below 'bid' {entry['bid']}")
        units = entry.get("liquidity")
        return Change(kind, time, bid=bid, ask=ask, depth=None if units is None else ((0, _units(units)),))
    if kind is Kind.GAP:
        return Change(kind, time, points=_whole(entry.get("points"), "points"))
    if kind is Kind.SPREAD:
        return Change(kind, time, until, factor=float(_number(entry.get("factor"), "factor", least=Decimal(0))))
    if kind is Kind.LIQUIDITY:
        return Change(kind, time, until, depth=_depth(entry.get("levels")))
    if kind is Kind.MARGIN_RATE:
        rate = _number(entry.get("rate"), "rate", least=Decimal(0))
        if not 0 < rate <= 1:
            raise _wrong(f"'rate' is {rate}; expected a share of the position above 0 and up to 1")
        return Change(kind, time, rate=rate)
    return Change(kind, time, until)


def _moment(entry: Mapping[str, Any], name: str) -> int:
    moment = read_time({name: str(entry[name])}, name) if entry.get(name) is not None else None
    if moment is None:
        raise _wrong(f"'{name}' is absent; expected a time like 2024-03-01T09:30:00Z")
    return int(moment.astype("datetime64[us]").astype(np.int64))


def _price(entry: Mapping[str, Any], side: str, instrument: Instrument) -> int:
    price = _number(entry.get(side), side, least=Decimal(0))
    points = price.scaleb(instrument.display_precision)
    if isinstance(entry.get(side), float):
        points = points.to_integral_value()  # 1.08 * 1.1 has seventeen digits that nobody meant
    if points != points.to_integral_value() or not 0 < points < HIGHEST:
        raise _wrong(f"'{side}' is {price}; expected a price of {instrument.name} with {instrument.display_precision} decimals")
    return int(points)


def _depth(levels: Any) -> Depth:
    if not isinstance(levels, list | tuple) or not all(isinstance(level, list | tuple) and len(level) == 2 for level in levels):
        raise _wrong("'levels' is no list of pairs; expected like [[0, 500], [3, 2000]]: points from the top, and units")
    depth = tuple((_whole(points, "levels"), _units(units)) for points, units in levels)
    places = [points for points, _ in depth]
    if places != sorted(set(places)) or min(places, default=0) < 0:
        raise _wrong("'levels' are not from the top down; expected points that begin at 0 or more and rise")
    return depth


def _units(value: Any) -> Decimal:
    return _number(value, "liquidity", least=Decimal(0))


def _whole(value: Any, name: str) -> int:
    number = _number(value, name)
    if number != number.to_integral_value() or abs(number) >= HIGHEST:
        raise _wrong(f"'{name}' holds {value!r}; expected whole points")
    return int(number)


def _number(value: Any, name: str, least: Decimal | None = None) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(value, bool) or not number.is_finite() or (least is not None and number < least):
        raise _wrong(f"'{name}' is {value!r}; expected a number{'' if least is None else f' of {least} or more'}")
    return number


def _wrong(why: str) -> Refusal:
    return Refusal(400, f"The market was not changed: {why}.")
