"""Numbers on their way to the broker are exact, and cut towards zero."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from fakes import fake_instrument

from mbats.oanda.parse import parse_instrument
from mbats.oanda.precision import plain_body, quantise_price, quantise_units

EURO = parse_instrument(fake_instrument("EUR_USD"))
YEN = parse_instrument(fake_instrument("USD_JPY"))
TENTHS = replace(EURO, units_precision=1, minimum_units=Decimal("0.1"))


@pytest.mark.parametrize(
    ("price", "instrument", "sent"),
    [
        ("1.12247999999999", EURO, "1.12247"),
        ("110.79999999999999", YEN, "110.799"),
        ("1.1", EURO, "1.10000"),
        ("0.000019", EURO, "0.00001"),
        ("1E+2", YEN, "100.000"),
    ],
)
@pytest.mark.proves("R20")
def test_a_price_has_the_decimals_of_its_instrument(price, instrument, sent):
    assert plain_body(quantise_price(Decimal(price), instrument)) == sent


@pytest.mark.parametrize(
    ("units", "instrument", "sent"),
    [
        ("1999.99", EURO, "1999"),
        ("-1999.99", EURO, "-1999"),
        ("0.99", EURO, "0"),
        ("-0.99", EURO, "0"),
        ("1.19", TENTHS, "1.1"),
        ("-1.19", TENTHS, "-1.1"),
        ("0.09", TENTHS, "0"),
        ("1E+6", EURO, "1000000"),
    ],
)
@pytest.mark.proves("R20")
def test_units_never_grow_and_too_few_are_none(units, instrument, sent):
    assert plain_body(quantise_units(Decimal(units), instrument)) == sent


def test_fewer_units_than_the_minimum_are_none():
    assert quantise_units(Decimal(99), replace(EURO, minimum_units=Decimal(100))) == 0


@pytest.mark.parametrize("number", [1.1, 1])
@pytest.mark.proves("R20")
def test_a_number_that_is_no_decimal_is_refused(number):
    with pytest.raises(TypeError, match="where a Decimal must stand"):
        quantise_price(number, EURO)


def test_a_body_keeps_all_but_its_decimals():
    body = {"order": {"price": Decimal("1.10000"), "tags": ["a", Decimal("-0.0")], "gtdTime": None, "n": 3, "yes": True}}

    assert plain_body(body) == {"order": {"price": "1.10000", "tags": ["a", "0.0"], "gtdTime": None, "n": 3, "yes": True}}
