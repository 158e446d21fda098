"""Spread, slippage, financing and margin, against numbers that OANDA itself published and against plain arithmetic."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import instrument, run, strategy

from mbats.errors import UsageError
from mbats.market import Bars, Granularity, bar_starts
from mbats.trading.costs import RolloverClock, Slippage, exact, financing_amount, margin_used, money

ROUND_TRIP = strategy(
    '''
import backtrader as bt


class RoundTrip(bt.Strategy):
    """Deals `units` at the first bar it sees and closes at bar `leave`."""

    params = dict(units=1000, enter=1, leave=4)

    def next(self):
        for data in self.datas:
            if len(data) == self.p.enter:
                (self.buy if self.p.units > 0 else self.sell)(data=data, size=abs(self.p.units))
            elif len(data) == self.p.leave:
                self.close(data=data)
'''
)


def flat_bars(granularity: Granularity, start: datetime, end: datetime, price: float, spread: float) -> Bars:
    times = bar_starts(granularity, start, end)
    level = np.full(len(times), price)
    return Bars.from_mid(times, level, level, level, level, np.ones(len(times)), spread=spread)


def days(count: int, price: float = 1.1, spread: float = 0.0002) -> Bars:
    return flat_bars(Granularity.D, datetime(2024, 3, 3, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC), price, spread)[:count]


def test_a_round_trip_on_a_market_that_stands_still_loses_one_spread_and_nothing_else():
    result = run(ROUND_TRIP, {"EUR_USD": days(8)}, units=10_000)

    assert [(f.price, f.mid) for f in result.fills] == [(Decimal("1.1001"), Decimal("1.1")), (Decimal("1.0999"), Decimal("1.1"))]
    assert result.performance.spread_cost == Decimal("2.0000")
    assert result.performance.net_pnl == Decimal("-2.0000")
    assert result.performance.gross_pnl == 0


def test_a_yen_pair_costs_its_spread_at_the_price_of_the_day():
    result = run(ROUND_TRIP, {"USD_JPY": days(8, price=150.0, spread=0.03)}, units=10_000)

    # 10,000 units, 0.015 yen of half spread at each end, converted at mid.
    assert result.performance.net_pnl == pytest.approx(Decimal("-2.0000"), abs=Decimal("0.0002"))


@pytest.mark.parametrize("units", [10_000, -10_000])
def test_fixed_slippage_worsens_both_fills_whichever_way_the_trade_goes(units):
    result = run(ROUND_TRIP, {"EUR_USD": days(8)}, units=units, costs={"slippage": "pips:0.5"})

    assert result.performance.slippage_cost == Decimal("1.0000")
    assert result.performance.net_pnl == Decimal("-3.0000")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("none", 0.0), ("pips:0.2", 0.00002), ("spread:0.5", 0.0001), ("range:0.05", 0.0005)],
)
def test_each_slippage_model_is_known_by_its_name(text, expected):
    model = Slippage.parse(text)

    assert model.distance(pip=0.0001, spread=0.0002, bar_range=0.01) == pytest.approx(expected)
    assert str(model) == text


@pytest.mark.parametrize("text", ["", "pips", "pips:", "pips:-1", "pips:x", "magic:1", "none:1"])
def test_a_slippage_that_cannot_be_read_is_refused_with_the_forms_that_can(text):
    with pytest.raises(UsageError, match=r"Known: none, pips:0\.2"):
        Slippage.parse(text)


def test_financing_equals_the_example_on_the_brokers_page():
    pair = instrument("EUR_USD", long_rate=Decimal("-0.03"))

    assert round(financing_amount(pair, 100_000, 1.15826, 1), 2) == -9.52


def test_financing_vector_of_the_shared_facts_agrees(shared_data):
    vector = json.loads((shared_data.parent / "oanda/spec/numeric_vectors.json").read_text())["financing_oanda_page"]
    pair = instrument("EUR_USD", long_rate=Decimal(vector["annual_rate"]))

    amount = financing_amount(pair, vector["units"], float(vector["price_at_17NY"]), vector["days"])

    assert f"{amount:.2f}" == vector["amount_quote_ccy"]


def test_margin_vector_of_the_shared_facts_agrees(shared_data):
    vector = json.loads((shared_data.parent / "oanda/spec/numeric_vectors.json").read_text())["margin_uk_help"]
    pair = instrument("EUR_GBP", margin_rate=Decimal(vector["marginRate"]))

    used = margin_used(pair, vector["units"], float(vector["mid"]), 1.0)

    assert f"{used:.2f}" == vector["marginUsed"]


def test_a_position_held_over_a_week_pays_seven_days_with_three_of_them_on_wednesday():
    hours = flat_bars(Granularity.H1, datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 15, tzinfo=UTC), 1.1, 0.0)
    week = 24 * 5

    result = run(ROUND_TRIP, {"EUR_USD": hours}, granularity="H1", units=100_000, leave=week, costs={"financing": True})

    charges = [money(100_000 * 1.1 * -0.02 * days / 365) for days in (1, 1, 3, 1, 1)]
    assert result.performance.financing == sum(charges)


def test_rollovers_come_at_17_new_york_on_both_sides_of_daylight_saving():
    clock = RolloverClock(datetime(2024, 3, 7, tzinfo=UTC), datetime(2024, 3, 13, tzinfo=UTC))

    moments = clock.passed(datetime(2024, 3, 13, tzinfo=UTC))

    assert [f"{moment:%a %H:%M}" for moment, _ in moments] == [
        "Thu 22:00", "Fri 22:00", "Sat 22:00", "Sun 21:00", "Mon 21:00", "Tue 21:00",
    ]  # fmt: skip
    assert clock.passed(datetime(2024, 3, 20, tzinfo=UTC)) == []


@given(st.integers(-10_000_000, 10_000_000), st.integers(0, 6))
def test_exact_is_the_decimal_a_person_would_write(points, digits):
    written = Decimal(points).scaleb(-digits)

    assert exact(float(written)) == written
