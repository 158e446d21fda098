"""What the broker refuses, closes out, and cancels with a trade."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from runs import instrument, run, strategy

from mbats.market import Bars, Granularity, bar_starts

TIMES = bar_starts(Granularity.D, datetime(2024, 3, 3, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC))


def bars(*rows: tuple[float, float, float, float], spread: float = 0.0002) -> Bars:
    open_, high, low, close = (np.array(column) for column in zip(*rows, strict=True))
    return Bars.from_mid(TIMES[: len(rows)], open_, high, low, close, np.ones(len(rows)), spread=spread)


def still(count: int, price: float = 1.1) -> list[tuple[float, float, float, float]]:
    return [(price, price, price, price)] * count


def one_order(call: str) -> object:
    """A strategy that says `call` on its first bar and notes how the orders ended."""
    return strategy(
        f'''
import backtrader as bt


class OneOrder(bt.Strategy):
    """One call on the first bar."""

    def next(self):
        if len(self) == 1:
            {call}
'''
    )


def test_an_order_beyond_the_margin_is_refused_when_it_would_fill():
    result = run(one_order("self.buy(size=5_000_000)"), {"EUR_USD": bars(*still(4))}, costs={"margin": True})

    assert result.fills == ()
    assert result.performance.refused_orders == 1
    assert result.warnings == ("1 order refused: INSUFFICIENT_MARGIN",)


def test_an_order_within_the_margin_of_fifty_to_one_fills():
    result = run(one_order("self.buy(size=4_000_000)"), {"EUR_USD": bars(*still(4))}, costs={"margin": True})

    assert [fill.units for fill in result.fills] == [4_000_000]
    assert result.equity.margin_used[-1] == pytest.approx(4_000_000 * 1.1 * 0.02)


def test_the_account_is_closed_out_when_half_its_margin_reaches_its_value():
    falling = bars(*still(2), (1.1, 1.1, 1.08, 1.085), (1.085, 1.085, 1.085, 1.085))

    result = run(one_order("self.buy(size=4_000_000)"), {"EUR_USD": falling}, costs={"margin": True})

    assert [fill.purpose for fill in result.fills] == ["entry", "margin_closeout"]
    # 4M × (1.0849 − 1.1001): the bid of that close against the ask of the entry.
    assert result.performance.ending_nav == Decimal("39200.0000")
    assert "closed out" in result.warnings[-1]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("self.buy(size=0.4)", "UNITS_MINIMUM_NOT_MET"),
        ("self.buy(size=200_000_000)", "UNITS_LIMIT_EXCEEDED"),
        ("self.buy(size=1000, exectype=bt.Order.Close)", "CLOSE_ORDER_UNKNOWN"),
        ("self.buy_bracket(size=1000, exectype=bt.Order.Market, stopprice=1.1, limitprice=1.2)", "STOP_LOSS_ON_FILL_LOSS"),
        ("self.sell_bracket(size=1000, exectype=bt.Order.Market, stopprice=1.2, limitprice=1.1001)", "TAKE_PROFIT_ON_FILL_LOSS"),
    ],
)
def test_what_the_broker_would_refuse_is_refused_under_its_name(call, reason):
    result = run(one_order(call), {"EUR_USD": bars(*still(5))})

    assert result.fills == ()
    assert result.warnings == (f"1 order refused: {reason}",)


def test_prices_and_units_are_cut_to_what_the_broker_accepts():
    rows = [*still(1), (1.1, 1.11, 1.09, 1.1), *still(1)]

    result = run(one_order("self.buy(size=1000.9, exectype=bt.Order.Limit, price=1.0951234567)"), {"EUR_USD": bars(*rows)})

    assert [(fill.units, fill.price) for fill in result.fills] == [(1000, Decimal("1.09512"))]


def test_a_bracket_is_protected_on_the_very_bar_of_its_entry():
    rows = [*still(1), (1.1, 1.101, 1.08, 1.1), *still(2)]
    bracket = "self.buy_bracket(size=1000, exectype=bt.Order.Market, stopprice=1.09, limitprice=1.2)"

    ours = run(one_order(bracket), {"EUR_USD": bars(*rows)})
    stock = run(one_order(bracket), {"EUR_USD": bars(*rows)}, fills="backtrader")

    assert [(fill.purpose, fill.price) for fill in ours.fills] == [("entry", Decimal("1.1001")), ("stop", Decimal("1.09"))]
    assert [fill.purpose for fill in stock.fills] == ["entry"]  # stock looks at the stop from the next bar on


def test_closing_a_trade_takes_its_stop_and_target_back():
    closer = strategy(
        '''
import backtrader as bt


class Closer(bt.Strategy):
    """Enters with a bracket, closes by hand, and would be stopped afterwards."""

    def next(self):
        if len(self) == 1:
            self.buy_bracket(size=1000, exectype=bt.Order.Market, stopprice=1.05, limitprice=1.2)
        elif len(self) == 3:
            self.close()
'''
    )
    rows = [*still(5), (1.1, 1.1, 1.0, 1.0), *still(1, 1.0)]

    result = run(closer, {"EUR_USD": bars(*rows)})

    assert [fill.purpose for fill in result.fills] == ["entry", "exit"]
    assert result.fills[-1].position_after == 0


def test_cash_is_the_margin_that_is_left_and_value_is_nav():
    asker = strategy(
        '''
import backtrader as bt


class Asker(bt.Strategy):
    """Remembers what the broker says."""

    seen = []

    def next(self):
        if len(self) == 1:
            self.buy(size=1_000_000)
        type(self).seen.append((self.broker.getcash(), self.broker.getvalue()))
'''
    )

    run(asker, {"EUR_USD": bars(*still(3))}, costs={"margin": True}, instruments={"EUR_USD": instrument("EUR_USD")})

    assert asker.cls.seen[0] == (100_000, 100_000)
    cash, value = asker.cls.seen[-1]
    assert value == pytest.approx(100_000 - 200)  # one spread of two pips on a million
    assert cash == pytest.approx(value - 1_000_000 * 1.1 * 0.02)
