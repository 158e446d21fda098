"""What an account is worth: OANDA's worked numbers to the last digit, and the rules between them."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import SECOND, TUESDAY, Simulated

from mbats.simulator.core.account import Account
from mbats.simulator.core.valuation import Valuation, financing, margin_of, value
from mbats.simulator.core.values import AccountConfig, Position, Trade
from mbats.simulator.instruments import terms
from mbats.simulator.quotes import Level, Quote, conversion, vwap

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "oanda" / "spec" / "numeric_vectors.json"
D = Decimal


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    if not VECTORS.exists():
        pytest.skip(f"{VECTORS} is not here")
    return dict(json.loads(VECTORS.read_text("utf-8")))


def quote(name: str, bid: str, ask: str) -> Quote:
    return Quote.at(terms(name), TUESDAY, D(bid), D(ask))


class Book:
    """An account with trades put in as they are, and the quotes that it is valued at."""

    def __init__(self, *quotes: Quote, balance: str = "100000", **config: Any) -> None:
        self.quotes = {each.instrument.name: each for each in quotes}
        self.instruments = {name: each.instrument for name, each in self.quotes.items()}
        self.account = Account(AccountConfig(**config))
        self.account.balance = D(balance)

    def hold(self, name: str, units: int | str, price: str) -> Trade:
        number = len(self.account.trades) + 1
        trade = Trade(number, name, D(price), "", D(units), D(0), D(units))
        self.account.trades[number] = self.account.open[number] = trade
        self.account.positions.setdefault(name, Position(name))
        return trade

    def value(self) -> Valuation:
        return value(self.account, self.instruments, self.quotes.get)


def digits(amount: Decimal, like: str) -> str:
    """An amount with as many digits as the printed one."""
    return str(amount.quantize(D(like), ROUND_HALF_UP))


def test_the_margin_example_of_the_help_page_agrees_to_the_last_digit(vectors):
    example = vectors["margin_uk_help"]
    book = Book(quote(example["instrument"], example["bid"], example["ask"]), balance=example["balance"], currency="GBP")
    book.instruments["EUR_GBP"] = replace(book.instruments["EUR_GBP"], margin_rate=D(example["marginRate"]))
    book.hold("EUR_GBP", example["units"], example["open_price"])

    found = book.value()

    assert digits(found.margin_used, example["marginUsed"]) == example["marginUsed"]
    assert digits(found.closeout_unrealized_pl, example["UPL_mid"]) == example["UPL_mid"]
    assert digits(found.closeout_nav, example["NAV_mid"]) == example["NAV_mid"]
    assert digits(found.margin_available, example["marginAvailable"]) == example["marginAvailable"]
    assert digits(found.closeout_percent, example["marginCloseoutPercent"]) == example["marginCloseoutPercent"]


def test_the_recorded_closeout_percentages_agree_to_the_last_digit(vectors):
    recorded = vectors["closeout_percent_recorded"]
    book = Book(quote("EUR_USD", "1.00000", "1.00000"), balance=recorded["NAV"], currency="USD")
    book.instruments["EUR_USD"] = replace(book.instruments["EUR_USD"], margin_rate=D(recorded["marginRate"]))
    book.hold("EUR_USD", recorded["positionValue"], "1.00000")

    found = book.value()

    assert found.margin_used == D(recorded["marginUsed"])
    assert found.position_value == D(recorded["positionValue"])
    assert digits(found.closeout_percent, recorded["marginCloseoutPercent"]) == recorded["marginCloseoutPercent"]
    assert digits(found.call_percent, recorded["marginCallPercent"]) == recorded["marginCallPercent"]


def test_the_financing_example_agrees_to_the_last_digit(vectors):
    example = vectors["financing_oanda_page"]
    book = Book(quote("EUR_USD", example["price_at_17NY"], example["price_at_17NY"]))
    days = (example["days"],) * 7
    rates = {"long_rate": D(example["annual_rate"]), "financing_days": days}
    book.instruments["EUR_USD"] = replace(book.instruments["EUR_USD"], **rates)
    book.hold("EUR_USD", example["units"], "1.10000")

    total, positions = financing(book.account, book.instruments, book.quotes.get, 0)

    assert digits(total, example["amount_quote_ccy"]) == example["amount_quote_ccy"]
    assert positions == [
        {"instrument": "EUR_USD", "financing": "-9.5199", "openTradeFinancings": [{"tradeID": "1", "financing": "-9.5199"}]}
    ]


def test_the_vwap_example_agrees_to_the_last_digit(vectors):
    example = vectors["vwap_fill"]
    levels = [Level(D(price), D(units)) for price, units in example["levels"]]

    assert vwap(levels, D(example["units"])) == (D(example["vwap"]), D(example["units"]))


def test_a_fill_uses_the_last_price_however_old_it_is(vectors):
    for case in vectors["fill_uses_prevailing_price"]["cases"]:
        tick, fill = (np.datetime64(case[key][:26], "us") for key in ("fullPrice.timestamp", "fill_time"))
        exchange = Simulated(tick - SECOND)
        exchange.wait(SECOND)
        exchange.price("EUR_USD", "1.17000", "1.17010")
        exchange.wait(fill - exchange.engine.now)

        filled = exchange.order(1).body["orderFillTransaction"]

        assert filled["time"][:26] == case["fill_time"][:26]
        assert filled["fullPrice"]["timestamp"][:26] == case["fullPrice.timestamp"][:26]


def test_what_a_client_sees_is_at_bid_and_ask_and_what_margin_sees_at_mid():
    book = Book(quote("EUR_USD", "1.10000", "1.10020"), balance="1000")
    book.hold("EUR_USD", 1000, "1.10000")
    book.hold("EUR_USD", -500, "1.10000")

    found = book.value()

    assert found.unrealized_pl == D("-0.1")  # bought units at the bid, sold ones at the ask
    assert found.nav == D("999.9")
    assert found.closeout_unrealized_pl == D("0.05")
    assert found.closeout_nav == D("1000.05")
    assert found.trades[1].unrealized_pl == 0
    assert found.trades[2].unrealized_pl == D("-0.1")
    assert (found.positions["EUR_USD"].long_pl, found.positions["EUR_USD"].short_pl) == (0, D("-0.1"))
    assert found.positions["EUR_USD"].net_pl == D("-0.1")


def test_gains_are_sold_at_the_bid_of_the_conversion_and_losses_bought_at_its_ask():
    book = Book(quote("EUR_GBP", "0.85000", "0.85000"), quote("GBP_USD", "1.25000", "1.26000"))
    book.hold("EUR_GBP", 1000, "0.84000")
    book.hold("EUR_GBP", 1000, "0.86000")

    found = book.value()

    assert found.trades[1].unrealized_pl == 10 * D("1.25000")
    assert found.trades[2].unrealized_pl == -10 * D("1.26000")
    assert found.closeout_unrealized_pl == 0


def test_the_account_s_own_margin_rate_counts_where_it_is_above_the_instrument_s():
    used = {}
    for rate in (None, D("0.01"), D("0.1")):
        book = Book(quote("EUR_USD", "1.00000", "1.00000"), margin_rate=rate)
        book.account.margin_rate = rate
        book.hold("EUR_USD", 1000, "1.00000")
        used[rate] = book.value().margin_used

    assert used == {None: 20, D("0.01"): 20, D("0.1"): 100}


@pytest.mark.parametrize(("aggregation", "margin"), [("ABSOLUTE_SUM", 32), ("MAXIMAL_SIDE", 20), ("NET_SUM", 8)])
def test_the_margin_of_a_hedged_position_goes_by_the_aggregation_mode(aggregation, margin):
    book = Book(quote("EUR_USD", "1.00000", "1.00000"), hedging=True, aggregation=aggregation)
    book.hold("EUR_USD", 1000, "1.00000")
    book.hold("EUR_USD", -600, "1.00000")

    found = book.value()

    assert found.margin_used == found.positions["EUR_USD"].margin_used == margin
    assert (found.trades[1].margin_used, found.trades[2].margin_used) == (20, 12)


def test_an_account_without_trades_is_worth_its_balance():
    found = Book().value()

    assert (found.nav, found.closeout_nav, found.margin_available, found.withdrawal_limit) == (100_000,) * 4
    assert (found.closeout_percent, found.call_percent, found.margin_used) == (0, 0, 0)


def test_an_account_that_has_lost_everything_is_far_past_its_closeout_and_has_nothing_available():
    book = Book(quote("EUR_USD", "0.90000", "0.90000"), balance="100")
    book.hold("EUR_USD", 1000, "1.00000")

    found = book.value()

    assert found.closeout_nav == 0
    assert found.margin_available == 0
    assert found.closeout_percent.is_finite()
    assert found.closeout_percent > 1


def test_a_pair_without_a_price_cannot_be_valued():
    book = Book(quote("EUR_USD", "1.10000", "1.10010"))
    book.hold("EUR_USD", 1, "1.10000")
    del book.quotes["EUR_USD"]

    with pytest.raises(LookupError, match="EUR_USD is held but has no price yet"):
        book.value()


def test_financing_is_charged_by_side_and_weekday_and_each_trade_is_rounded_by_itself():
    book = Book(quote("EUR_USD", "1.10000", "1.10010"), quote("USD_JPY", "150.000", "150.010"))
    book.hold("EUR_USD", 1000, "1.10000")
    book.hold("EUR_USD", 2001, "1.10000")
    book.hold("USD_JPY", -1000, "150.000")
    long, short = book.instruments["EUR_USD"].long_rate, book.instruments["USD_JPY"].short_rate

    total, positions = financing(book.account, book.instruments, book.quotes.get, 2)  # a Wednesday: three days

    cent = D("0.0001")
    first, second = ((units * D("1.10005") * long * 3 / 365).quantize(cent) for units in (1000, 2001))
    third = (1000 * D("150.005") * short * 3 / 365 / D("150.000")).quantize(cent)  # a charge in yen is bought at the bid
    assert total == first + second + third
    assert [position["instrument"] for position in positions] == ["EUR_USD", "USD_JPY"]
    assert positions[0]["financing"] == str(first + second)
    assert positions[0]["openTradeFinancings"][1] == {"tradeID": "2", "financing": str(second)}
    assert financing(book.account, book.instruments, book.quotes.get, 5) == (0, [])


def test_an_account_without_financing_is_not_charged():
    book = Book(quote("EUR_USD", "1.10000", "1.10010"), financing="NO_FINANCING")
    book.hold("EUR_USD", 1000, "1.10000")

    assert financing(book.account, book.instruments, book.quotes.get, 0) == (0, [])


UNITS = st.integers(-1_000_000, 1_000_000).filter(bool)


@given(
    holdings=st.lists(st.tuples(st.sampled_from(["EUR_USD", "USD_JPY", "EUR_GBP"]), UNITS, st.integers(-500, 500)), max_size=6),
    balance=st.integers(1, 10**7),
    home=st.sampled_from(["USD", "EUR", "GBP", "CHF"]),
    aggregation=st.sampled_from(["ABSOLUTE_SUM", "MAXIMAL_SIDE", "NET_SUM"]),
)
def test_the_parts_add_up_to_the_whole(holdings, balance, home, aggregation):
    quotes = [
        quote("EUR_USD", "1.10000", "1.10010"),
        quote("USD_JPY", "150.000", "150.010"),
        quote("GBP_USD", "1.27000", "1.27020"),
        quote("EUR_GBP", "0.86600", "0.86615"),
        quote("USD_CHF", "0.88000", "0.88010"),
    ]
    book = Book(*quotes, balance=str(balance), currency=home, hedging=True, aggregation=aggregation)
    for name, units, points in holdings:
        opened = book.quotes[name].mid + points * D(1).scaleb(-book.instruments[name].display_precision)
        book.hold(name, units, str(opened))

    found = book.value()

    def same(one: Decimal, other: Decimal | int) -> bool:
        return abs(one - other) < D("1e-12")  # what is divided has no last digit

    assert same(found.nav, balance + found.unrealized_pl)
    assert same(found.unrealized_pl, sum(trade.unrealized_pl for trade in found.trades.values()))
    assert same(found.unrealized_pl, sum(position.net_pl for position in found.positions.values()))
    assert same(found.margin_used, sum(position.margin_used for position in found.positions.values()))
    assert found.margin_available == max(0, found.closeout_nav - found.margin_used)
    assert found.closeout_percent == found.call_percent / 2
    assert found.unrealized_pl <= found.closeout_unrealized_pl  # the spread is always paid
    for name, position in found.positions.items():
        base = conversion(name[:3], home, book.quotes)
        assert position.margin_used == margin_of(book.account, book.instruments[name], *book.account.units(name), base)
