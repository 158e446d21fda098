"""Exact numbers on their way to the broker: as many decimals as an instrument has, and never a float.

A float such as 1.12247999999999 is the commonest reason for which OANDA refuses an order, so these functions take decimals only.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any

from mbats.market import Instrument


def quantise_price(price: Decimal, instrument: Instrument) -> Decimal:
    """A price, or a distance between prices, with the instrument's decimals; what is more is cut off, towards zero."""
    return _cut(price, instrument.display_precision)


def quantise_units(units: Decimal, instrument: Instrument) -> Decimal:
    """Units with the instrument's decimals, cut towards zero; 0, which must not be sent, if they are fewer than its minimum."""
    cut = _cut(units, instrument.units_precision)
    return cut if abs(cut) >= instrument.minimum_units else Decimal(0)


def plain_body(value: Any) -> Any:
    """A request's body with each Decimal as text. Raises TypeError for a float, ValueError for a number that is not finite."""
    if isinstance(value, Decimal):
        return write_decimal(value)
    if isinstance(value, Mapping):
        return {str(key): plain_body(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_body(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"A request holds {value!r}, a {type(value).__name__}; nothing was sent. Give numbers as Decimal.")


def write_decimal(value: Decimal) -> str:
    """In digits, without an exponent. Raises ValueError for one that is not finite."""
    if not value.is_finite():
        raise ValueError(f"A request holds the number {value}; nothing was sent.")
    return f"{value if value else abs(value):f}"


def _cut(value: Decimal, decimals: int) -> Decimal:
    if not isinstance(value, Decimal):
        raise TypeError(f"Found {value!r}, a {type(value).__name__}, where a Decimal must stand.")
    return value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_DOWN)
