"""A run on hardly any data, or on much, ends with a record and not with a traceback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from runs import run, strategy

from mbats.errors import NoBars
from mbats.market import Bars, Granularity, bar_starts
from mbats.settings import PROJECT_ROOT
from mbats.trading.session import StrategyFailed
from mbats.trading.strategies import load_strategy

EXAMPLES = ["rsi_stochastic", "sma_cross", "momentum_rotation", "_template"]


def example(name):
    return load_strategy(name, PROJECT_ROOT / "strategies")


def walk(count: int, seed: int = 0, base: float = 1.1, spread: float = 0.00015) -> Bars:
    rng = np.random.default_rng(seed)
    times = bar_starts(Granularity.D, datetime(2015, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))[:count]
    digits = 5 if base < 10 else 3
    close = base * np.exp(np.cumsum(rng.normal(0, 0.006, count)))
    open_ = np.r_[base, close[:-1]]
    high = np.maximum(open_, close) * (1 + rng.uniform(0, 0.004, count))
    low = np.minimum(open_, close) * (1 - rng.uniform(0, 0.004, count))
    return Bars.from_mid(times, *(np.round(x, digits) for x in (open_, high, low, close)), np.full(count, 100), spread=spread)


def assert_books_balance(result):
    figures = result.performance
    assert (
        figures.ending_nav - figures.starting_cash
        == figures.gross_pnl - figures.spread_cost - figures.slippage_cost + figures.financing
    )
    assert float(figures.ending_nav) == pytest.approx(result.equity.nav[-1], abs=0.01)
    assert figures.net_pnl == sum((t.net_pnl for t in result.trades), Decimal(0))
    for trade in result.trades:
        assert trade.mae <= 0 <= trade.mfe


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 101])
def test_a_run_on_few_bars_ends_with_a_record(name, count):
    result = run(example(name), {"EUR_USD": walk(count)}, costs={"financing": True, "margin": True})

    assert result.performance.bars == count
    assert_books_balance(result)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_run_on_twenty_symbols_balances_to_the_cent(name):
    currencies = ["EUR", "GBP", "AUD", "NZD"]
    names = [f"{currency}_USD" for currency in currencies] + ["USD_JPY", "USD_CHF", "USD_CAD", "USD_SEK", "USD_NOK", "USD_PLN"]
    names += ["EUR_JPY", "GBP_JPY", "AUD_JPY", "EUR_CHF", "EUR_CAD", "GBP_CHF", "GBP_CAD", "AUD_CAD", "NZD_CAD", "EUR_SEK"]
    bars = {
        n: walk(400, seed=i, base=150.0 if n.endswith("JPY") else 1.1, spread=0.02 if n.endswith("JPY") else 0.00015)
        for i, n in enumerate(names)
    }

    result = run(example(name), bars, costs={"financing": True, "margin": True, "slippage": "pips:0.3"})

    assert len({fill.symbol for fill in result.fills}) > 3
    assert_books_balance(result)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_symbol_with_a_hole_neither_stops_the_run_nor_trades_inside_the_hole(name):
    whole, holed = walk(400, seed=1), walk(400, seed=2)
    holed = holed[np.r_[0:150, 220:400]]

    result = run(example(name), {"EUR_USD": whole, "GBP_USD": holed}, costs={"financing": True})

    inside = [
        f
        for f in result.fills
        if f.symbol == "GBP_USD" and whole.time[150] <= np.datetime64(f.time.replace(tzinfo=None)) < whole.time[220]
    ]
    assert inside == []
    assert_books_balance(result)


def test_an_order_is_not_tried_again_on_an_old_bar_while_another_symbol_moves():
    patient = strategy(
        '''
import backtrader as bt


class Patient(bt.Strategy):
    """While GBP_USD has no bars, asks for a price that its last bar had."""

    def next(self):
        if len(self.datas[1]) == 2 and not self.position and len(self) == 3:
            self.buy(data=self.datas[1], exectype=bt.Order.Limit, price=self.datas[1].low[0], size=1000)
'''
    )
    whole = walk(6)
    holed = whole[np.array([0, 1, 5])]

    result = run(patient, {"EUR_USD": whole, "GBP_USD": holed})

    assert all(fill.time >= datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=6) for fill in result.fills)
    assert [f.time for f in result.fills] in ([], [holed.time[2].item().replace(tzinfo=UTC)])


def test_a_run_without_trades_has_no_ratio_of_them():
    idle = strategy("import backtrader as bt\n\n\nclass Idle(bt.Strategy):\n    pass\n")

    figures = run(idle, {"EUR_USD": walk(50)}).performance

    assert (figures.trades, figures.net_pnl, figures.max_drawdown) == (0, 0, 0.0)
    assert figures.sharpe is figures.sortino is figures.profit_factor is figures.expectancy is None


def test_a_symbol_without_bars_is_named_with_what_to_do():
    with pytest.raises(NoBars, match=r"No D bars of GBP_USD .*nothing was done\. `mbats coverage`"):
        run(example("sma_cross"), {"EUR_USD": walk(5), "GBP_USD": Bars.empty()})


def test_a_cross_without_a_pair_that_converts_it_is_refused():
    with pytest.raises(NoBars, match="bars of GBP_USD or USD_GBP are needed"):
        run(example("sma_cross"), {"EUR_GBP": walk(5)})


def test_a_cross_converts_by_the_pair_that_links_it():
    holder = strategy(
        "import backtrader as bt\n\n\nclass Hold(bt.Strategy):\n    def next(self):\n"
        "        if len(self) == 1:\n            self.buy(size=1000)\n"
    )
    cross, link = walk(10, spread=0.0), walk(10, seed=3, base=1.25, spread=0.0)

    result = run(holder, {"EUR_GBP": cross}, links={"GBP_USD": link})

    gained = 1000 * (cross.mid_close[-1] - cross.mid_open[1]) * link.mid_close[-1]
    assert float(result.performance.net_pnl) == pytest.approx(gained, abs=0.001)


def test_a_strategy_that_fails_is_shown_where_and_nothing_is_recorded():
    broken = strategy(
        "import backtrader as bt\n\n\nclass Broken(bt.Strategy):\n    def next(self):\n        1 / 0\n", name="broken"
    )

    with pytest.raises(StrategyFailed, match=r"broken\.py:6 .*ZeroDivisionError.*Nothing was recorded"):
        run(broken, {"EUR_USD": walk(5)})


def test_two_runs_of_one_seed_draw_the_same_numbers():
    gambler = strategy(
        "import random\n\nimport backtrader as bt\n\n\nclass Gambler(bt.Strategy):\n    def next(self):\n"
        "        self.order_target_size(target=random.choice([-1000, 0, 1000]))\n"
    )

    first, second, other = (run(gambler, {"EUR_USD": walk(100)}, seed=seed) for seed in (1, 1, 2))

    assert first.fills == second.fills != other.fills
