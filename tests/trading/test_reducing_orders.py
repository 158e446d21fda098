"""A lone stop or limit against a position only reduces, in the broker's way of filling: it never opens the other side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from runs import run, strategy

from mbats.market import Bars

SOURCE = """
import backtrader as bt
from backtrader import Order


class InTest(bt.Strategy):
    params = dict(script={})

    def next(self):
        exec(self.p.script.get(len(self), ""))
"""
CLOSES = [1.10, 1.10, 1.10, 1.10, 1.09, 1.08, 1.12]


def filled(script: dict[int, str], fills: str = "broker") -> tuple[list[tuple[int, str]], Any]:
    times = np.datetime64("2024-03-05T12:00", "us") + np.arange(len(CLOSES)) * np.timedelta64(1, "m")
    close = np.array(CLOSES)
    open_ = np.r_[close[0], close[:-1]]
    bars = Bars.from_mid(times, open_, np.maximum(open_, close), np.minimum(open_, close), close, np.ones(len(close)))
    result = run(strategy(SOURCE), {"EUR_USD": bars}, granularity="M1", fills=fills, script=script)
    return [(int(fill.units), fill.purpose) for fill in result.fills], result


STOP = "self.sell(size={}, exectype=Order.Stop, price=1.095)"


def test_a_lone_stop_closes_what_is_left_of_the_position():
    found, _ = filled({1: "self.buy(size=10)", 2: STOP.format(10), 3: "self.sell(size=4)"})

    assert found == [(10, "entry"), (-4, "exit"), (-6, "stop")]


def test_a_lone_stop_is_cancelled_where_nothing_is_left():
    found, result = filled({1: "self.buy(size=10)", 2: STOP.format(10), 3: "self.close()"})

    assert found == [(10, "entry"), (-10, "exit")]
    assert result.warnings == ("1 order refused: POSITION_CLOSEOUT_FAILED",)


@pytest.mark.parametrize("script", [{2: STOP.format(11)}, {1: f"self.buy(size=10); {STOP.format(10)}"}])
def test_a_stop_that_is_larger_than_the_position_or_older_opens_the_other_side(script: dict[int, str]):
    found, _ = filled({1: "self.buy(size=10)", 3: "self.close()"} | script)

    assert found[:2] == [(10, "entry"), (-10, "exit")]
    assert found[2][1] == "entry"


def test_the_entry_of_a_bracket_is_no_order_that_only_reduces():
    entry = "self.sell_bracket(size=10, exectype=Order.Stop, price=1.095, stopprice=1.2, limitprice=1.0)"
    found, _ = filled({1: "self.buy(size=10)", 2: entry, 3: "self.close()"})

    assert found == [(10, "entry"), (-10, "exit"), (-10, "entry")]


def test_stock_rules_know_no_order_that_only_reduces():
    found, _ = filled({1: "self.buy(size=10)", 2: STOP.format(10), 3: "self.close()"}, fills="backtrader")

    assert found == [(10, "entry"), (-10, "exit"), (-10, "entry")]
