"""Prices in, quotes out: what a price is judged by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.live.market.quotes import QuoteBoard
from mbats.live.wire import LiveBar
from mbats.market import Bars, Granularity
from mbats.oanda.prices import Price

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
D = Decimal


def price(at: float, bid: Any, ask: Any = None, *, symbol: str = "EUR_USD", tradeable: bool = True) -> Price:
    """A price so many seconds after noon; one number is the mid, with a spread of two points. "-" is a side without an offer."""
    sides = (D(str(bid)) - D("0.00001"), D(str(bid)) + D("0.00001")) if ask is None else (bid, ask)
    offers = [None if side == "-" else D(str(side)) for side in sides]
    return Price(symbol, NOON + timedelta(seconds=at), *offers, tradeable, {})


def board(*prices: Price, currency: str = "USD") -> QuoteBoard:
    made = QuoteBoard(currency)
    for each in prices:
        made.observe(each)
    return made


def bar(close: float, spread: float = 0.0002) -> LiveBar:
    bid, ask = close - spread / 2, close + spread / 2
    return LiveBar(NOON, (bid,) * 4, (ask,) * 4, 5, 1.0)


def test_before_the_first_price_there_is_no_quote():
    assert board().quote("EUR_USD") is None
    assert board(price(0, "1.1", symbol="GBP_USD")).quotes(["EUR_USD"]) == {}


def test_the_newest_price_is_the_quote_and_an_older_one_changes_nothing():
    known = board(price(2, "1.10"), price(1, "1.20"))

    quote = known.quote("EUR_USD")

    assert (quote.mid, quote.time) == (D("1.10"), NOON + timedelta(seconds=2))
    assert quote.tradeable


def test_a_side_without_an_offer_keeps_its_last_price_which_is_not_tradeable():
    quote = board(price(0, "1.1000", "1.1002"), price(1, "-", "1.1003")).quote("EUR_USD")

    assert (quote.bid, quote.ask, quote.tradeable) == (D("1.1000"), D("1.1003"), False)
    assert quote.time == NOON + timedelta(seconds=1)


def test_half_a_price_that_never_was_whole_is_none():
    assert board(price(0, "-", "1.1003")).quote("EUR_USD") is None


def test_the_first_price_has_no_reference_and_is_judged_by_no_spread():
    quote = board(price(0, "1.1")).quote("EUR_USD")

    assert (quote.reference, quote.usual_spread) == (None, None)


def test_a_price_is_judged_by_the_middle_of_the_minute_before_it_and_never_by_itself():
    mids = ["1.10", "1.30", "1.12", "1.11", "1.13"]
    known = board(*(price(n, mid) for n, mid in enumerate(mids)))
    assert known.quote("EUR_USD").reference == D("1.115")

    known.observe(price(5, "9.99"))  # one crazy tick

    assert known.quote("EUR_USD").reference == D("1.12")


def test_prices_of_more_than_a_minute_ago_do_not_count_while_there_are_newer_ones():
    known = board(*(price(n, "1.50") for n in range(20)), *(price(n, "1.10") for n in (70, 71, 72)), price(100, "1.11"))

    assert known.quote("EUR_USD").reference == D("1.10")


def test_without_prices_of_the_minute_the_last_close_counts_if_it_is_newer():
    known = board(*(price(n, "1.50") for n in range(5)))
    known.observe_bar("EUR_USD", NOON + timedelta(seconds=60), bar(1.2))
    known.observe(price(200, "1.21"))
    assert known.quote("EUR_USD").reference == D("1.2")

    for at in (300, 400, 500, 600):
        known.observe(price(at, "1.25"))

    assert known.quote("EUR_USD").reference == D("1.25")


def test_the_close_of_a_bar_that_holds_the_price_itself_does_not_judge_it():
    known = board()
    known.observe_bar("EUR_USD", NOON, bar(1.1))
    known.observe(price(59, "9.99"))  # the last tick of the minute, and its close
    known.observe_bar("EUR_USD", NOON + timedelta(seconds=60), bar(9.99))

    assert known.quote("EUR_USD").reference == D("1.1")


def test_the_usual_spread_is_that_at_which_bars_close_and_before_there_are_any_that_of_prices():
    known = board(*(price(n, "1.1000", f"1.100{n + 1}") for n in range(4)))
    assert known.quote("EUR_USD").usual_spread == D("0.0002")

    for n, spread in enumerate((0.0005, 0.0004, 0.05)):
        known.observe_bar("EUR_USD", NOON + timedelta(minutes=n), bar(1.1, spread))

    assert float(known.quote("EUR_USD").usual_spread) == pytest.approx(0.0005)


def test_the_wide_spread_at_which_a_trading_day_closes_is_not_usual():
    days = Bars.from_mid(["2024-03-03T22:00", "2024-03-04T22:00"], *[[1.1, 1.1]] * 4, [9, 9], spread=0.01)
    known = board(*(price(n, "1.1000", "1.1001") for n in range(5)))

    known.observe_history("EUR_USD", Granularity.D, days)

    assert known.quote("EUR_USD").usual_spread == D("0.0001")
    assert board(price(0, "1.1")).quote("EUR_USD").reference is None


def test_history_gives_the_first_price_what_it_is_judged_by():
    bars = Bars.from_mid(["2024-03-05T11:57", "2024-03-05T11:58"], *[[1.1, 1.2]] * 4, [9, 9], spread=0.0004)
    known = board()

    known.observe_history("EUR_USD", Granularity.M1, bars)
    known.observe(price(0, "1.19"))

    quote = known.quote("EUR_USD")
    assert float(quote.reference) == pytest.approx(1.2)
    assert float(quote.usual_spread) == pytest.approx(0.0004)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 10**6)), min_size=1, max_size=60))
def test_whatever_comes_the_quote_is_the_newest_and_its_reference_a_middle_of_earlier_ones(found):
    known = QuoteBoard("USD")
    taken: list[tuple[int, Decimal]] = []
    for at, points in found:
        known.observe(price(at, D(points) / 1000 + 1))
        if not taken or at >= taken[-1][0]:
            if taken and at == taken[-1][0]:
                taken.pop()
            taken.append((at, D(points) / 1000 + 1))

    quote = known.quote("EUR_USD")

    at, mid = taken[-1]
    recent = [earlier for time, earlier in taken[:-1] if time > at - 60]
    last = [earlier for _, earlier in taken[:-1]][-3:]
    expected = median(recent if len(recent) >= 3 else last) if last else None
    assert (quote.time, quote.mid, quote.reference) == (NOON + timedelta(seconds=at), mid, expected)


def test_currencies_are_worth_what_a_pair_with_the_accounts_currency_says():
    known = board(price(0, "1.25", symbol="EUR_USD"), price(0, "160", symbol="USD_JPY"), price(0, "200", symbol="EUR_JPY"))

    assert known.home() == {"USD": D(1), "EUR": D("1.25"), "JPY": D("0.00625")}


def test_what_no_pair_says_the_broker_does_and_the_newer_of_both_counts():
    known = board(price(10, "1.25", symbol="EUR_USD"))

    known.observe_home(NOON, {"EUR": D("1.1"), "CHF": D("1.12")})
    assert known.home() == {"USD": D(1), "EUR": D("1.25"), "CHF": D("1.12")}
    known.observe_home(NOON + timedelta(seconds=20), {"EUR": D("1.26"), "CHF": D("1.13")})
    assert known.home() == {"USD": D(1), "EUR": D("1.26"), "CHF": D("1.13")}
    known.observe_home(NOON, {"CHF": D("9")})
    assert known.home()["CHF"] == D("1.13")


def test_a_price_that_contradicts_itself_says_nothing_of_what_a_currency_is_worth():
    assert board(price(0, "1.30", "1.20")).home() == {"USD": D(1)}
