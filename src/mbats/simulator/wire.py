"""OANDA's JSON: how instruments, accounts, prices and candles are written. Values in, plain dictionaries or bytes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from mbats.market import Granularity, Instrument, Times, to_us
from mbats.simulator.accounts import Account
from mbats.simulator.candles import Flags
from mbats.simulator.prices import ASK, BID, MID, Candles, Points
from mbats.simulator.quotes import Conversion, Quote, units_available

SIDE_NAMES = {"B": ("bid", BID), "M": ("mid", MID), "A": ("ask", ASK)}
WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
LIQUIDITY = 10_000_000  # of the one level of the book
MINIMUM_TRAILING_POINTS, MAXIMUM_TRAILING_POINTS = 50, 100_000


class TimeFormat(StrEnum):
    """How times are written: OANDA gives exactly nine digits of a second either way."""

    RFC3339 = "RFC3339"
    UNIX = "UNIX"

    def write(self, times: Times) -> list[str]:
        """These times (`datetime64[us]`, UTC) as text."""
        if self is TimeFormat.RFC3339:
            return [f"{text}000Z" for text in np.datetime_as_string(times, unit="us").tolist()]
        return [f"{us // 1_000_000}.{us % 1_000_000:06d}000" for us in times.astype(np.int64).tolist()]

    def write_one(self, moment: np.datetime64) -> str:
        return self.write(np.array([moment], "datetime64[us]"))[0]


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
        "minimumTradeSize": str(instrument.minimum_units),
        "maximumTrailingStopDistance": str(MAXIMUM_TRAILING_POINTS * point),
        "minimumTrailingStopDistance": str(MINIMUM_TRAILING_POINTS * point),
        "maximumPositionSize": "0",  # no limit
        "maximumOrderUnits": str(instrument.maximum_units),
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


def account_body(account: Account, times: TimeFormat) -> dict[str, Any]:
    """The account without the lists of its trades, positions and orders."""
    config = account.config
    created = times.write_one(to_us(config.created))
    nothing, balance, available = money(Decimal(0)), money(account.balance), money(account.margin_available)
    return {
        "id": config.id,
        "alias": config.alias,
        "currency": config.currency,
        "balance": balance,
        "createdByUserID": int(config.id.split("-")[2]),
        "createdTime": created,
        "guaranteedStopLossOrderMode": "DISABLED",
        "pl": nothing,
        "resettablePL": nothing,
        "resettablePLTime": created,
        "financing": nothing,
        "commission": nothing,
        "guaranteedExecutionFees": nothing,
        "openTradeCount": 0,
        "openPositionCount": 0,
        "pendingOrderCount": 0,
        "hedgingEnabled": config.hedging,
        "unrealizedPL": nothing,
        "NAV": balance,
        "marginUsed": nothing,
        "marginAvailable": available,
        "positionValue": nothing,
        "marginCloseoutUnrealizedPL": nothing,
        "marginCloseoutNAV": balance,
        "marginCloseoutMarginUsed": nothing,
        "marginCloseoutPercent": "0.00000",
        "marginCloseoutPositionValue": nothing,
        "withdrawalLimit": available,
        "marginCallMarginUsed": nothing,
        "marginCallPercent": "0.00000",
        "lastTransactionID": str(account.last_transaction),
    }


def price_body(quote: Quote, account: Account, base: Conversion, counter: Conversion, times: TimeFormat) -> dict[str, Any]:
    """One price of the pricing endpoint; `base` and `counter` convert the pair's currencies into the account's."""
    bid, ask = str(quote.bid), str(quote.ask)
    units = str(units_available(account.margin_available, quote.instrument.margin_rate, base))
    both = {"long": units, "short": units}
    return {
        "type": "PRICE",
        "instrument": quote.instrument.name,
        "time": times.write_one(quote.time),
        "status": "tradeable" if quote.tradeable else "non-tradeable",
        "tradeable": quote.tradeable,
        "bids": [{"price": bid, "liquidity": LIQUIDITY}],
        "asks": [{"price": ask, "liquidity": LIQUIDITY}],
        "closeoutBid": bid,
        "closeoutAsk": ask,
        "quoteHomeConversionFactors": {"positiveUnits": rate(counter.gain), "negativeUnits": rate(counter.loss)},
        "unitsAvailable": {"default": both, "reduceFirst": both, "reduceOnly": {"long": "0", "short": "0"}, "openOnly": both},
    }


def conversion_body(conversion: Conversion) -> dict[str, str]:
    """One entry of homeConversions."""
    return {
        "currency": conversion.currency,
        "accountGain": rate(conversion.gain),
        "accountLoss": rate(conversion.loss),
        "positionValue": rate(conversion.mid),
    }


def money(amount: Decimal) -> str:
    """An amount of the account's currency, with the four decimals that OANDA gives."""
    return f"{amount:.4f}"


def rate(value: Decimal) -> str:
    """A conversion rate, with eight decimals."""
    return f"{value:.8f}"


def _prices(points: Points, side: int, decimals: int) -> list[list[str]]:
    """Open, high, low and close of one side as texts with the display precision. Half points of a mid are rounded up."""
    whole = (points + 1) // 2 if side == MID else points
    form = f"%.{decimals}f"
    return [[form % price for price in row] for row in (whole / 10**decimals).tolist()]
