"""The figures of a run, each against a number worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from mbats.market import Granularity, bar_starts
from mbats.riskdb.records import Equity
from mbats.trading.analyzers.performance import drawdown, longest_drawdown_days, summarise

DAYS = bar_starts(Granularity.D, datetime(2024, 3, 3, tzinfo=UTC), datetime(2025, 3, 3, tzinfo=UTC))


def equity(*nav: float) -> Equity:
    values = np.array(nav)
    return Equity(DAYS[: len(nav)], values, values, np.zeros(len(nav)))


def figures(*nav: float):
    curve = equity(*nav)
    return summarise(curve, (), starting_cash=Decimal(100), ending_balance=Decimal(100), refused_orders=0)


def test_drawdown_is_the_fall_from_the_peak_so_far():
    np.testing.assert_allclose(drawdown(np.array([100.0, 120.0, 90.0, 120.0, 60.0])), [0, 0, 0.25, 0, 0.5])


@pytest.mark.parametrize(
    ("nav", "days"),
    [
        ((101.0, 102.0, 103.0), 0.0),  # never below a peak, not even over a weekend
        ((101.0, 100.5, 101.0, 102.0), 2.0),  # Sunday's peak reached again on Tuesday
        ((101.0, 100.5, 100.9, 100.0), 3.0),  # not reached before the end
        ((99.0, 98.0), 1.0),  # from the starting cash on
    ],
)
def test_the_longest_drawdown_counts_the_days_below_a_peak(nav, days):
    assert longest_drawdown_days(equity(*nav), 100.0) == days


def test_ratios_follow_their_definitions():
    found = figures(101.0, 99.99, 101.9898)

    returns = np.array([0.01, -0.01, 0.02])
    assert found.annual_volatility == pytest.approx(returns.std(ddof=1) * np.sqrt(260))
    assert found.sharpe == pytest.approx(returns.mean() * 260 / (returns.std(ddof=1) * np.sqrt(260)))
    assert found.sortino == pytest.approx(returns.mean() * 260 / (np.sqrt((0.01**2) / 3) * np.sqrt(260)))


def test_minutes_and_days_of_the_same_account_have_the_same_ratios():
    days = np.repeat([101.0, 99.99, 101.9898], 3)
    minutes = Equity(
        np.sort(np.concatenate([DAYS[:3] + np.timedelta64(hour, "h") for hour in (5, 6, 7)])), days, days, np.zeros(9)
    )

    found = summarise(minutes, (), starting_cash=Decimal(100), ending_balance=Decimal(100), refused_orders=0)

    assert found.sharpe == pytest.approx(figures(101.0, 99.99, 101.9898).sharpe)


def test_an_account_that_was_lost_has_no_ratio():
    assert figures(50.0, -1.0, -1.0).sharpe is None
