"""OANDA's JSON for the market: how times, instruments, prices and candles are written. Values in, dictionaries or bytes out.

Everything but candles is written with times in RFC 3339, as transactions have them; `TimeFormat.rewrite` turns a whole body into
what the client asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from mbats.market import Granularity, Instrument, Times
from mbats.simulator.available import UnitsAvailable
from mbats.simulator.candles import Flags
from mbats.simulator.core.details import MAXIMUM_TRAILING_POINTS, MINIMUM_TRAILING_POINTS
from mbats.simulator.core.numbers import factor_text, price_text, units_text
from mbats.simulator.core.times import parse_time, write_time
from mbats.simulator.prices import ASK, BID, MID, Candles, Points
from mbats.simulator.quotes import Conversion, Level, Quote

SIDE_NAMES = {"B": ("bid", BID), "M": ("mid", MID), "A": ("ask", ASK)}
WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
# Every key of the API under which a time stands.
TIME_KEYS = frozenset(
    {
        "time",
        "timestamp",
        "from",
        "to",
        "gtdTime",
        "createTime",
        "filledTime",
        "cancelledTime",
        "openTime",
        "closeTime",
        "createdTime",
        "resettablePLTime",
        "marginCallEnterTime",
        "lastMarginCallExtensionTime",
        "lastOrderFillTimestamp",
    }
)


class TimeFormat(StrEnum):
    """How times are written: OANDA gives exactly nine digits of a second either way."""

    RFC3339 = "RFC3339"
    UNIX = "UNIX"

    def write(self, times: Times) -> list[str]:
        """These times (`datetime64[us]`, UTC) as text."""
        if self is TimeFormat.RFC3339:
            return [f"{text}000Z" for text in np.datetime_as_string(times, unit="us").tolist()]
        return [f"{us // 1_000_000}.{us % 1_000_000:06d}000" for us in times.astype(np.int64).tolist()]

    def rewrite(self, body: Any) -> Any:
        """A body that is written in RFC 3339, or a part of one, in this format."""
        if self is TimeFormat.RFC3339:
            return body
        if isinstance(body, dict):
            return {key: _unix(value) if key in TIME_KEYS else self.rewrite(value) for key, value in body.items()}
        return [self.rewrite(part) for part in body] if isinstance(body, list) else body


def _unix(text: str) -> str:
    seconds = parse_time(text[:19]).astype("datetime64[s]").astype(np.int64)
    return f"{seconds}.{text[20:29]}"


def encode(body: Any) -> bytes:
    """JSON bytes."""
    return orjson.dumps(body)


def candles_body(
    instrument: Instrument, granularity: Granularity, sides: Iterable[str], candles: Candles, complete: Flags, times: TimeFormat
) -> dict[str, Any]:
    """The answer to a candles request; `sides` are letters of price components."""
    columns: dict[str, Sequence[Any]] = {
        "complete": complete.tolist(),
        "volume": candles.volume.tolist(),
        "time": times.write(candles.time),
    }
    for letter in sides:
        name, side = SIDE_NAMES[letter]
        prices = _prices(candles.prices[side], side, instrument.display_precision)
        columns[name] = [{"o": o, "h": h, "l": low, "c": c} for o, h, low, c in zip(*prices, strict=True)]
    names = tuple(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"instrument": instrument.name, "granularity": granularity.value, "candles": rows}


def instrument_body(instrument: Instrument) -> dict[str, Any]:
    """What OANDA says of one instrument."""
    point = Decimal(1).scaleb(-instrument.display_precision)
    return {
        "name": instrument.name,
        "type": instrument.type,
        "displayName": instrument.display_name,
        "pipLocation": instrument.pip_location,
        "displayPrecision": instrument.display_precision,
        "tradeUnitsPrecision": instrument.units_precision,
        "minimumTradeSize": units_text(instrument.minimum_units),
        "maximumTrailingStopDistance": str(MAXIMUM_TRAILING_POINTS * point),
        "minimumTrailingStopDistance": str(MINIMUM_TRAILING_POINTS * point),
        "maximumPositionSize": "0",  # no limit
        "maximumOrderUnits": units_text(instrument.maximum_units),
        "marginRate": str(instrument.margin_rate),
        "guaranteedStopLossOrderMode": "DISABLED",
        "commission": {"commission": "0.0", "unitsTraded": "0", "minimumCommission": "0.0"},
        "financing": {
            "longRate": str(instrument.long_rate),
            "shortRate": str(instrument.short_rate),
            "financingDaysOfWeek": [
                {"dayOfWeek": name, "daysCharged": days} for name, days in zip(WEEKDAYS, instrument.financing_days, strict=True)
            ],
        },
        "tags": [{"type": "ASSET_CLASS", "name": "CURRENCY"}],
    }


def price_body(quote: Quote) -> dict[str, Any]:
    """One price as the stream sends it."""
    return {
        "type": "PRICE",
        "instrument": quote.instrument.name,
        "time": write_time(quote.time),
        "status": "tradeable" if quote.tradeable else "non-tradeable",
        "tradeable": quote.tradeable,
        "bids": [_bucket(level, quote.instrument) for level in quote.bids],
        "asks": [_bucket(level, quote.instrument) for level in quote.asks],
        "closeoutBid": price_text(quote.bid, quote.instrument),
        "closeoutAsk": price_text(quote.ask, quote.instrument),
    }


def _bucket(level: Level, instrument: Instrument) -> dict[str, Any]:
    return {"price": price_text(level.price, instrument), "liquidity": int(level.liquidity)}


def home_factors_body(counter: Conversion) -> dict[str, str]:
    """What the pair's second currency is worth in the account's, when gained and when lost."""
    return {"positiveUnits": factor_text(counter.gain), "negativeUnits": factor_text(counter.loss)}


def units_available_body(hedging: bool, units: UnitsAvailable) -> dict[str, Any]:
    """How much could be traded now, by the positionFill of the order."""

    def both(pair: tuple[Decimal, Decimal]) -> dict[str, str]:
        return {"long": units_text(pair[0]), "short": units_text(pair[1])}

    return {
        "default": both(units.open_only if hedging else units.reduce_first),
        "reduceFirst": both(units.reduce_first),
        "reduceOnly": both(units.reduce_only),
        "openOnly": both(units.open_only),
    }


def conversion_body(conversion: Conversion) -> dict[str, str]:
    """One entry of homeConversions."""
    return {
        "currency": conversion.currency,
        "accountGain": factor_text(conversion.gain),
        "accountLoss": factor_text(conversion.loss),
        "positionValue": factor_text(conversion.mid),
    }


def _prices(points: Points, side: int, decimals: int) -> list[list[str]]:
    """Open, high, low and close of one side as texts with the display precision. Half points of a mid are rounded up."""
    whole = (points + 1) // 2 if side == MID else points
    form = f"%.{decimals}f"
    return [[form % price for price in row] for row in (whole / 10**decimals).tolist()]
