"""The units that an account is told it could trade are exactly those that the exchange lets it trade."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Simulated, types

from mbats.simulator.available import UnitsAvailable, units_available
from mbats.simulator.core.valuation import conversions, value

BOOK = [[0, 10**12]]  # as deep as anybody could ask for


def exchange_with(units: list[int], instrument: str, **config: object) -> Simulated:
    exchange = Simulated(**config)
    prices = (("EUR_USD", "1.10000", "1.10012"), ("USD_JPY", "150.000", "150.013"), ("GBP_USD", "1.25000", "1.25018"))
    for name, bid, ask in prices:
        exchange.change("liquidity", instrument=name, levels=BOOK)
        exchange.price(name, bid, ask)
    for each in units:
        exchange.order(each, instrument)
    return exchange


def available(exchange: Simulated, instrument: str) -> UnitsAvailable:
    quote = exchange.engine.quote(instrument)
    assert quote is not None
    base, counter = conversions(exchange.account, quote.instrument, exchange.engine.quote)
    worth = value(exchange.account, exchange.market.instruments, exchange.engine.quote)
    return units_available(exchange.account, worth, quote, base, counter)


def outcome(exchange: Simulated, units: Decimal, instrument: str, fill: str) -> str:
    reply = exchange.order(str(units), instrument, positionFill=fill)
    return types([reply.body.get("orderFillTransaction") or reply.body["orderCancelTransaction"]])[0]


@settings(max_examples=60)
@given(
    st.lists(st.integers(-400_000, 400_000).filter(bool), max_size=3),
    st.sampled_from(["EUR_USD", "USD_JPY", "GBP_USD"]),
    st.sampled_from([1, -1]),
    st.sampled_from(["REDUCE_FIRST", "OPEN_ONLY"]),
    st.sampled_from([{}, {"hedging": True}, {"hedging": True, "aggregation": "ABSOLUTE_SUM"}, {"margin_rate": Decimal("0.1")}]),
    st.sampled_from(["USD", "EUR"]),
)
def test_what_is_available_is_filled_and_one_unit_more_is_not(units, instrument, side, fill, config, currency):
    name = {"REDUCE_FIRST": "reduce_first", "OPEN_ONLY": "open_only"}[fill]
    results = []
    for more in (0, 1):
        exchange = exchange_with(units, instrument, currency=currency, **config)
        most = getattr(available(exchange, instrument), name)[0 if side > 0 else 1]
        size = side * (most + more)
        results.append(outcome(exchange, size, instrument, fill) if size and abs(size) <= 100_000_000 else "")

    assert results[0] in ("ORDER_FILL MARKET_ORDER", "")
    assert results[1] in ("ORDER_CANCEL INSUFFICIENT_MARGIN", "ORDER_CANCEL FIFO_VIOLATION")


@pytest.mark.parametrize(("units", "expected"), [([], (0, 0)), ([700], (0, 700)), ([-300], (300, 0)), ([700, -300], (0, 400))])
def test_what_can_be_reduced_is_the_other_side_of_the_position(units, expected):
    exchange = exchange_with(units, "EUR_USD")

    assert available(exchange, "EUR_USD").reduce_only == expected


def test_a_hedged_account_can_reduce_both_sides():
    exchange = exchange_with([700, -300], "EUR_USD", hedging=True)

    assert available(exchange, "EUR_USD").reduce_only == (300, 700)


def test_without_margin_nothing_can_be_opened_and_the_position_still_be_turned():
    exchange = exchange_with([4_000_000], "EUR_USD")
    exchange.price("EUR_USD", "1.09500", "1.09512")

    found = available(exchange, "EUR_USD")

    assert found.open_only == (0, 0)
    assert found.reduce_first == (0, 8_000_000)
