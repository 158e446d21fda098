"""The seven majors as the exchange lists them, and terms for any other pair.

Margin rates are those that OANDA's US division asks for; financing rates are plausible ones, policy rates of 2026 less a
broker's charge, and Wednesday's charge is for three days. They are this simulator's own choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from mbats.market import MAJORS, Instrument
from mbats.simulator.params import market_params

FINANCING_DAYS = (1, 1, 3, 1, 1, 0, 0)  # Monday first
MAXIMUM_UNITS = Decimal(100_000_000)
SMALL_CURRENCIES = ("JPY", "HUF")  # quoted with three decimals; all others with five


@dataclass(frozen=True, slots=True)
class Terms:
    """What the broker asks for one pair: margin as a share of the position, financing as annual fractions."""

    margin_rate: str
    long_rate: str
    short_rate: str


TERMS = {
    "EUR_USD": Terms("0.02", "-0.0294", "0.0061"),
    "GBP_USD": Terms("0.05", "-0.0112", "-0.0138"),
    "USD_JPY": Terms("0.05", "0.0183", "-0.0427"),
    "AUD_USD": Terms("0.03", "-0.0129", "-0.0121"),
    "NZD_USD": Terms("0.03", "-0.0187", "-0.0064"),
    "USD_CAD": Terms("0.02", "0.0023", "-0.0262"),
    "USD_CHF": Terms("0.03", "0.0254", "-0.0491"),
}


OTHERS = Terms("0.05", "-0.015", "-0.015")


@cache
def listing() -> dict[str, Instrument]:
    """Every instrument that the exchange can list, by name."""
    return {name: _listed(name) for name in MAJORS}


def terms(name: str) -> Instrument:
    """A major as it is listed, and any other pair of currencies on the terms of OTHERS."""
    return listing()[name] if name in MAJORS else _instrument(name, 3 if name[4:] in SMALL_CURRENCIES else 5, OTHERS)


def _listed(name: str) -> Instrument:
    return _instrument(name, market_params().pairs[name].decimals, TERMS[name])


def _instrument(name: str, decimals: int, asked: Terms) -> Instrument:
    return Instrument(
        name=name,
        display_name=name.replace("_", "/"),
        type="CURRENCY",
        pip_location=1 - decimals,
        display_precision=decimals,
        units_precision=0,
        minimum_units=Decimal(1),
        maximum_units=MAXIMUM_UNITS,
        margin_rate=Decimal(asked.margin_rate),
        long_rate=Decimal(asked.long_rate),
        short_rate=Decimal(asked.short_rate),
        financing_days=FINANCING_DAYS,
    )
