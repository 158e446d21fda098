"""The price of the moment: the last one that came, whether one can trade on it, and what a currency is worth in another."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

import numpy as np

from mbats.market import SESSION_OPEN, Instrument, day_open, is_holiday, trading_days
from mbats.simulator.prices import PriceSource

LOOK_BACK = np.timedelta64(600_000_000, "us")  # ten minutes; doubled until there is a price, for weekends are long


@dataclass(frozen=True, slots=True)
class Quote:
    """The last price of one pair before some moment: when it came (UTC), bid and ask, and whether the market is open."""

    instrument: Instrument
    time: np.datetime64
    bid: Decimal
    ask: Decimal
    tradeable: bool

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2


@dataclass(frozen=True, slots=True)
class Conversion:
    """What one unit of `currency` is worth in the account's: when it is gained, when it is lost, and at mid."""

    currency: str
    gain: Decimal
    loss: Decimal
    mid: Decimal


def is_open(now: np.datetime64) -> bool:
    """Whether FX trades at this moment: not from Friday to Sunday 17:00 New York, in the daily break or on a holiday."""
    day = trading_days(np.array([now]))
    name = day[0].item()
    if name.weekday() > 4 or is_holiday(name):
        return False
    return bool(now - day_open(day)[0] >= np.timedelta64(SESSION_OPEN))


def last_quote(source: PriceSource, instrument: Instrument, now: np.datetime64) -> Quote | None:
    """The last price before `now`; None before the first."""
    span, first = LOOK_BACK, source.first(instrument.name)
    while True:
        start = max(now - span, first)
        bars = source.bars(instrument.name, start, now)
        if len(bars):
            # The last bar may have begun without a price yet; the one before it is over.
            ticks = source.ticks(instrument.name, bars.time[-2:][0], now)
            if len(ticks):
                point = Decimal(1).scaleb(-instrument.display_precision)
                bid, ask = int(ticks.bid[-1]) * point, int(ticks.ask[-1]) * point
                return Quote(instrument, ticks.time[-1], bid, ask, is_open(now))
        if start <= first:
            return None
        span *= 2


def conversion(currency: str, home: str, quotes: dict[str, Quote]) -> Conversion:
    """The worth of `currency` in `home` by the pair of both, which must be among the quotes: every pair listed has the dollar."""
    if currency == home:
        return Conversion(currency, Decimal(1), Decimal(1), Decimal(1))
    if direct := quotes.get(f"{currency}_{home}"):
        return Conversion(currency, direct.bid, direct.ask, direct.mid)
    inverse = quotes[f"{home}_{currency}"]
    return Conversion(currency, 1 / inverse.ask, 1 / inverse.bid, 1 / inverse.mid)


def units_available(margin: Decimal, margin_rate: Decimal, base: Conversion) -> int:
    """How many units this much margin carries at mid; `base` converts the pair's base currency."""
    return int((margin / margin_rate / base.mid).to_integral_value(ROUND_FLOOR))
