"""Numbers on their way to the broker: the instrument's digits, cut towards zero, exact from the strategy to the wire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live.process.trader import InProcess, adopt, begin, minutes, one_bar, past
from live.trading import NOW, Trader
from runs import instrument

from mbats.live.gate import Kind, Order
from mbats.live.owner.bodies import order_body
from mbats.live.wire import Exit, Form, Status, Submit, encode, read_from_strategy
from mbats.market import Instrument
from mbats.oanda.precision import plain_body, quantise_price, quantise_units

STRATEGY = """
import backtrader as bt


class Once(bt.Strategy):
    params = dict(size=1.0, price=0.0, stop=0.0, target=0.0)

    def __init__(self):
        self.told, self.done = [], False

    def next(self):
        if not self.done:
            self.done = True
            p = self.p
            if p.stop:
                self.buy_bracket(size=p.size, price=p.price, stopprice=p.stop, limitprice=p.target, exectype=bt.Order.Limit)
            elif p.price:
                self.buy(size=p.size, price=p.price, exectype=bt.Order.Limit)
            else:
                self.buy(size=p.size)

    def notify_order(self, order):
        self.told.append((order.getstatusname(), order.info.get("reason")))
"""
CFD = replace(instrument("EUR_USD"), display_precision=1, units_precision=1, minimum_units=Decimal("0.1"))


def wanted(symbol: str = "EUR_USD", terms: Instrument | None = None, **parameters: float) -> tuple[list[Submit], Any]:
    """What the process of a strategy asks for that thinks in floats, and the strategy."""
    live = InProcess()
    first = begin(STRATEGY, [symbol], **parameters)
    if terms is not None:
        first = replace(first, instruments={symbol: terms.to_json()})

    def script() -> Iterator[Any]:
        yield one_bar(3, symbol)
        yield one_bar(4, symbol)

    strategy = live.play(first, [past(symbol, minutes(0, 3))], adopt(), script())
    return live.submitted, strategy


def texts(value: Any) -> bool:
    """Whether no number of it is anything but text or a whole number."""
    if isinstance(value, dict):
        return all(texts(inner) for inner in value.values())
    return value is None or isinstance(value, str | bool | int)


@pytest.mark.proves("R20")
@pytest.mark.parametrize(
    ("symbol", "quote", "asked", "sent"),
    [
        (
            "EUR_USD",
            ("1.08500", "1.08512"),
            {"size": 1000.9, "price": 1.0822479999999, "stop": 1.07 + 1e-9, "target": 1.1 - 1e-12},
            {"units": "1000", "price": "1.08225", "stopLossOnFill": "1.07000", "takeProfitOnFill": "1.10000"},
        ),
        (
            "USD_JPY",
            ("150.123", "150.135"),
            {"size": 2500.999999, "price": 149.79999999999998, "stop": 149.1 + 1e-10, "target": 152.0000000001},
            {"units": "2500", "price": "149.800", "stopLossOnFill": "149.100", "takeProfitOnFill": "152.000"},
        ),
    ],
)
def test_floats_of_a_strategy_reach_the_broker_with_the_digits_that_it_takes(
    trader: Trader, symbol: str, quote: tuple[str, str], asked: dict[str, float], sent: dict[str, str]
) -> None:
    (submit,), _ = wanted(symbol, **asked)
    trader.deploy(symbols=(symbol,))
    trader.show(*quote, symbol)
    if symbol == "USD_JPY":
        trader.know(symbol, float(quote[0]), 0.012)
    trader.owner.request("alpha", "s1", replace(submit, bar=trader.bar()))
    trader.wait_for(lambda: "accepted" in trader.words(submit.ref))
    assert [each["type"] for each in trader.transactions() if "REJECT" in each["type"]] == []
    (order,) = [each for each in trader.pending() if each["type"] == "LIMIT"]
    got = {key: order[key] if isinstance(order[key], str) else order[key]["price"] for key in sent}
    assert {key: Decimal(value) for key, value in got.items()} == {key: Decimal(value) for key, value in sent.items()}
    (request,) = trader.orders_sent()
    body = request["request"]["order"]
    assert body["units"] == sent["units"] and texts(body)
    (row,) = trader.journal.intents()
    assert isinstance(row.units, Decimal) and isinstance(row.price, Decimal) and texts(row.body)


@pytest.mark.proves("R20")
@pytest.mark.parametrize(("size", "units"), [(12.37, "12.3"), (0.1999, "0.1"), (0.3, "0.3"), (7.0, "7.0")])
def test_units_of_a_cfd_are_cut_to_tenths(size: float, units: str) -> None:
    (submit,), _ = wanted(terms=CFD, size=size)
    assert submit.units == Decimal(units)
    order = Order("alpha", "EUR_USD", submit.units, NOW, "open-long")
    assert plain_body(order_body(order, CFD, submit))["units"] in (units, units.removesuffix(".0"))


@pytest.mark.proves("R20")
@pytest.mark.parametrize(("terms", "size"), [(CFD, 0.0999), (instrument("EUR_USD"), 0.99)])
def test_an_order_below_the_least_size_is_skipped_and_the_strategy_is_told(terms: Instrument, size: float) -> None:
    submitted, strategy = wanted(terms=terms, size=size)
    assert submitted == []
    assert strategy.told[-1] == ("Rejected", "UNITS_MINIMUM_NOT_MET")


@pytest.mark.proves("R20")
def test_a_size_that_no_process_has_cut_is_not_sent(trader: Trader) -> None:
    trader.deploy()
    for units in ("0.4", "1000.5"):
        assert trader.ended(trader.submit(units), Status.REJECTED).reason == "malformed"
    assert trader.orders_sent() == []


@pytest.mark.proves("R20")
@given(
    st.decimals("-1e7", "1e7", allow_nan=False, places=9),
    st.decimals("0.00001", "999", allow_nan=False, places=9),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_no_number_ever_grows_or_has_a_digit_too_many(units: Decimal, price: Decimal, digits: int, tenths: int) -> None:
    terms = replace(CFD, display_precision=digits, units_precision=tenths, minimum_units=Decimal(1).scaleb(-tenths))
    cut, rounded = quantise_units(units, terms), quantise_price(price, terms)
    assert abs(cut) <= abs(units) and abs(units) - abs(cut) < Decimal(1).scaleb(-tenths)
    assert cut * units >= 0 and rounded <= price and price - rounded < Decimal(1).scaleb(-digits)
    submit = Submit(1, "EUR_USD", cut, Form.LIMIT, NOW, price=rounded, stop=Exit(2, price), target=Exit(3, price))
    order = Order("alpha", "EUR_USD", cut, NOW, "open-long", Kind.LIMIT, rounded)
    body = plain_body(order_body(order, terms, submit))
    assert texts(body)
    assert Decimal(body["units"]) == cut and Decimal(body["stopLossOnFill"]["price"]) == rounded
    assert read_from_strategy(encode(submit)) == submit
