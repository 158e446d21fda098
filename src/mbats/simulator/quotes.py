"""The price of a moment: bid and ask with what can be had at each, and what a currency is worth in another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from mbats.market import Instrument

ZERO, ONE = Decimal(0), Decimal(1)
LIQUIDITY = Decimal(10_000_000)  # units at the one level of an ordinary book
# Currencies over which two others are converted that have no pair of their own, the most traded first.
VEHICLES = ("USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "NZD")


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the book: up to `liquidity` units can be had at `price`."""

    price: Decimal
    liquidity: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """The last price of one pair before some moment: when it came (UTC), bid and ask, and whether one can trade on it.

    `bids` and `asks` are the book, best price first. `bid` and `ask` are its top, and stay when the book is empty: they are what
    positions are valued at.
    """

    instrument: Instrument
    time: np.datetime64
    bid: Decimal
    ask: Decimal
    tradeable: bool
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    @classmethod
    def at(
        cls,
        instrument: Instrument,
        time: np.datetime64,
        bid: Decimal,
        ask: Decimal,
        *,
        tradeable: bool = True,
        units: Decimal = LIQUIDITY,
    ) -> Quote:
        """A quote with one level of `units` on each side."""
        return cls(instrument, time, bid, ask, tradeable, (Level(bid, units),), (Level(ask, units),))

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

    def over(self, other: Conversion) -> Conversion:
        """This conversion and then `other`, which converts what this one leads to."""
        return Conversion(self.currency, self.gain * other.gain, self.loss * other.loss, self.mid * other.mid)


Quotes = Mapping[str, Quote] | Callable[[str], Quote | None]


def vwap(levels: Iterable[Level], units: Decimal) -> tuple[Decimal, Decimal]:
    """The volume-weighted price of `units` (without sign) down the book, and how many there are; the price of none is 0."""
    left, paid = units, ZERO
    for level in levels:
        taken = min(left, level.liquidity)
        left -= taken
        paid += taken * level.price
        if not left:
            break
    found = units - left
    return (paid / found if found else ZERO), found


def conversion(currency: str, home: str, quotes: Quotes) -> Conversion:
    """The worth of `currency` in `home`, by the pair of both, or over a third currency whose pairs with both have quotes.

    What is gained is sold at the worse price, what is lost is bought at the worse one, on each leg. Raises LookupError without
    a way; a callable gives None for a pair that it does not have.
    """
    look = quotes.get if isinstance(quotes, Mapping) else quotes
    if found := _direct(currency, home, look):
        return found
    for vehicle in VEHICLES:
        if (first := _direct(currency, vehicle, look)) and (second := _direct(vehicle, home, look)):
            return first.over(second)
    raise LookupError(f"There are no prices by which {currency} could be converted into {home}.")


def convertible(currency: str, home: str, pairs: Iterable[str]) -> bool:
    """Whether `conversion` finds a way once each of these pairs has had a price."""
    listed = set(pairs)

    def beside(one: str, other: str) -> bool:
        return one == other or f"{one}_{other}" in listed or f"{other}_{one}" in listed

    return beside(currency, home) or any(beside(currency, vehicle) and beside(vehicle, home) for vehicle in VEHICLES)


def _direct(currency: str, home: str, look: Callable[[str], Quote | None]) -> Conversion | None:
    if currency == home:
        return Conversion(currency, ONE, ONE, ONE)
    if straight := look(f"{currency}_{home}"):
        return Conversion(currency, straight.bid, straight.ask, straight.mid)
    if inverse := look(f"{home}_{currency}"):
        return Conversion(currency, 1 / inverse.ask, 1 / inverse.bid, 1 / inverse.mid)
    return None
