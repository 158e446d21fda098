"""The book's average price, and what a currency is worth in another, directly and over a third."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.simulator.instruments import terms
from mbats.simulator.quotes import Level, Quote, conversion, convertible, vwap

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "oanda" / "spec" / "numeric_vectors.json"
NOW = np.datetime64("2024-05-15T10:00", "us")
PRICES = {"EUR_USD": ("1.0850", "1.0852"), "USD_JPY": ("155.10", "155.12"), "USD_CHF": ("0.9050", "0.9053")}
MARKET = {name: Quote.at(terms(name), NOW, *map(Decimal, sides)) for name, sides in PRICES.items()}


def levels(*pairs: tuple[object, object]) -> tuple[Level, ...]:
    return tuple(Level(Decimal(price), Decimal(units)) for price, units in pairs)


def test_the_average_price_down_the_book_is_that_of_the_brokers_example():
    if not VECTORS.exists():
        pytest.skip("the shared specification is not here")
    example = json.loads(VECTORS.read_text())["vwap_fill"]

    price, found = vwap(levels(*example["levels"]), Decimal(example["units"]))

    assert (price, found) == (Decimal(example["vwap"]), Decimal(example["units"]))


def test_a_book_gives_what_it_has():
    book = levels(("1.1", 100), ("1.2", 300))

    assert vwap(book, Decimal(40)) == (Decimal("1.1"), Decimal(40))
    assert vwap(book, Decimal(1000)) == (Decimal("1.175"), Decimal(400))
    assert vwap((), Decimal(10)) == (0, 0)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)), max_size=5), st.integers(1, 10**7))
def test_the_average_lies_between_the_best_and_the_worst_price_that_was_taken(pairs, wanted):
    book = levels(*sorted(pairs))

    price, found = vwap(book, Decimal(wanted))

    assert found == min(wanted, sum(level.liquidity for level in book))
    if found:
        touched = [level.price for level in book if level.liquidity]
        assert touched[0] <= round(price, 9) <= touched[-1]


def test_what_is_gained_is_sold_at_the_bid_and_what_is_lost_is_bought_at_the_ask():
    euro = conversion("EUR", "USD", MARKET)
    yen = conversion("JPY", "USD", MARKET)

    assert (euro.gain, euro.loss, euro.mid) == (Decimal("1.0850"), Decimal("1.0852"), Decimal("1.0851"))
    assert (yen.gain, yen.loss, yen.mid) == (1 / Decimal("155.12"), 1 / Decimal("155.10"), 1 / Decimal("155.11"))
    assert conversion("CHF", "CHF", {}).gain == 1


def test_two_currencies_without_a_pair_of_their_own_are_converted_over_a_third():
    swiss = conversion("CHF", "EUR", MARKET)
    yen = conversion("JPY", "CHF", MARKET.get)

    assert swiss.gain == (1 / Decimal("0.9053")) * (1 / Decimal("1.0852"))
    assert swiss.loss == (1 / Decimal("0.9050")) * (1 / Decimal("1.0850"))
    assert yen.mid == (1 / Decimal("155.11")) * Decimal("0.90515")
    assert swiss.gain < swiss.mid < swiss.loss


def test_a_third_currency_need_not_be_the_dollar():
    crosses = {name: Quote.at(terms(name), NOW, Decimal(2), Decimal(2)) for name in ("EUR_GBP", "EUR_NOK")}

    assert conversion("NOK", "GBP", crosses).mid == 1
    assert convertible("NOK", "GBP", crosses)
    assert not convertible("NOK", "USD", crosses)


def test_without_a_way_it_is_said():
    with pytest.raises(LookupError, match="no prices by which JPY could be converted into GBP"):
        conversion("JPY", "GBP", MARKET)


def test_a_quote_has_one_level_of_ten_millions_unless_told_otherwise():
    quote = MARKET["EUR_USD"]

    assert quote.bids == levels(("1.0850", 10_000_000))
    assert quote.asks == levels(("1.0852", 10_000_000))
    assert quote.mid == Decimal("1.0851")
