"""How transactions write numbers: prices with the digits of the instrument, money with four, units without an exponent."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from mbats.market import Instrument

CENT_OF_CENT = Decimal("0.0001")


def price_text(price: Decimal, instrument: Instrument) -> str:
    """A price or a distance with the digits that the instrument is quoted in."""
    return f"{to_point(price, instrument):f}"


def to_point(price: Decimal, instrument: Instrument) -> Decimal:
    """The nearest price that the instrument can be quoted at."""
    return price.quantize(Decimal(1).scaleb(-instrument.display_precision), ROUND_HALF_UP)


def to_money(amount: Decimal) -> Decimal:
    """An amount as it is booked, with four decimals."""
    return amount.quantize(CENT_OF_CENT, ROUND_HALF_UP)


def money_text(amount: Decimal) -> str:
    """An amount of the account's currency, with four decimals and no negative zero."""
    return f"{to_money(amount) + 0:f}"


def units_text(units: Decimal) -> str:
    """Units without an exponent and without zeros that say nothing."""
    text = f"{units:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def factor_text(factor: Decimal) -> str:
    """A conversion factor between two currencies."""
    return f"{factor:.8f}"
