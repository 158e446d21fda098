"""With no spread and stock rules of activation, our account trades what stock Backtrader trades, on real candles."""

from __future__ import annotations

from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from runs import run, strategy

from mbats.market import Bars
from mbats.settings import PROJECT_ROOT
from mbats.trading.strategies import LoadedStrategy, load_strategy

BRACKETS = '''
import datetime

import backtrader as bt


class Brackets(bt.Strategy):
    """The 2020 entry rule with fixed units, several kinds of entry and trailing stops: sizes cannot hide a difference."""

    params = dict(units=1000, atr_period=5, rsi_period=30, period=20, kind="market")

    def __init__(self):
        self.rsi = [bt.ind.RSI_Safe(data.close, period=self.p.rsi_period) for data in self.datas]
        self.stochastic = [bt.ind.Stochastic(data, period=self.p.period, safediv=True) for data in self.datas]
        self.atr = [bt.ind.ATR(data, period=self.p.atr_period) for data in self.datas]
        self.orders = [[] for _ in self.datas]

    def next(self):
        for i, data in enumerate(self.datas):
            if self.getposition(data) or any(order.alive() for order in self.orders[i]):
                continue
            side = 1 if self.rsi[i][0] < 50 else -1
            if (self.stochastic[i].percK[0] < 50) != (side > 0):
                continue
            atr = self.atr[i][0]
            away = {"market": 0.0, "limit": -0.3, "stop": 0.3}[self.p.kind] * side * atr
            bracket = self.buy_bracket if side > 0 else self.sell_bracket
            self.orders[i] = bracket(
                data=data,
                size=self.p.units,
                exectype={"market": bt.Order.Market, "limit": bt.Order.Limit, "stop": bt.Order.Stop}[self.p.kind],
                price=data.close[0] + away,
                valid=datetime.timedelta(days=15),
                stopargs={"valid": None},
                limitargs={"valid": None},
                stopprice=data.close[0] + away - side * 1.5 * atr,
                limitprice=data.close[0] + away + side * 2 * atr,
            )
'''


class StockFeed(bt.feeds.PandasData):
    """Stock's own feed; `conversion` is 1 so that the example strategies find the line they size by."""

    lines = ("conversion",)
    params = (("conversion", "conversion"),)


class Watcher(bt.Analyzer):
    """Every execution and the value of the account at every bar, as stock reports them."""

    def start(self):
        self.fills: list[tuple[str, object, float, float]] = []
        self.values: list[float] = []

    def notify_order(self, order):
        if order.status == order.Completed:
            self.fills.append(
                (order.data._name, order.data.num2date(order.executed.dt), order.executed.size, order.executed.price)
            )

    def next(self):
        self.values.append(self.strategy.broker.getvalue())

    prenext = next


def candles(shared_data: Path, symbol: str, granularity: str, rows: int) -> pd.DataFrame:
    folder = {"D": "D", "H1": "H1_bidask"}[granularity]
    frame = pd.read_parquet(shared_data / "oanda" / folder / f"{symbol}_{granularity}.parquet")
    frame = frame[pd.to_datetime(frame["ts"], utc=True) >= "2005-01-01"].iloc[:rows]
    index = pd.DatetimeIndex(pd.to_datetime(frame["ts"], utc=True)).tz_localize(None)
    return frame.set_index(index)[["open", "high", "low", "close", "volume"]].assign(conversion=1.0)


def stock(
    loaded: LoadedStrategy, frames: dict[str, pd.DataFrame], granularity: str, cash: float, **parameters: object
) -> Watcher:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.broker.setcash(cash)
    for name, frame in frames.items():
        unit = {"D": bt.TimeFrame.Days, "H1": bt.TimeFrame.Minutes}[granularity]
        cerebro.adddata(StockFeed(dataname=frame, timeframe=unit, compression=60 if granularity == "H1" else 1), name=name)
    cerebro.addstrategy(loaded.cls, **parameters)
    cerebro.addanalyzer(Watcher, _name="watcher")
    return cerebro.run()[0].analyzers.watcher


def assert_same_trades(loaded, frames, granularity, *, compare_value, cash=10_000_000.0, **parameters):
    watched = stock(loaded, frames, granularity, cash, **parameters)

    result = run(
        loaded,
        {name: bars_of(frame) for name, frame in frames.items()},
        granularity=granularity,
        cash=str(cash),
        fills="backtrader",
        **parameters,
    )

    ours = [(f.symbol, f.time.replace(tzinfo=None, microsecond=0), float(f.units), float(f.price)) for f in result.fills]
    theirs = [(name, time.replace(microsecond=0), size, price) for name, time, size, price in watched.fills]
    assert [fill[:3] for fill in sorted(ours)] == [fill[:3] for fill in sorted(theirs)]
    np.testing.assert_allclose([fill[3] for fill in sorted(ours)], [fill[3] for fill in sorted(theirs)], rtol=0, atol=1e-9)
    assert len(ours) > 20, "a comparison without trades proves nothing"
    if compare_value:
        np.testing.assert_allclose(result.equity.nav[-len(watched.values) :], watched.values, rtol=0, atol=0.01)


def bars_of(frame: pd.DataFrame) -> Bars:
    return Bars.from_mid(frame.index.to_numpy(), frame["open"], frame["high"], frame["low"], frame["close"], frame["volume"])


@pytest.mark.parametrize("kind", ["market", "limit", "stop"])
@pytest.mark.parametrize("symbols", [["EUR_USD"], ["USD_JPY"], ["EUR_USD", "GBP_USD", "AUD_USD"]], ids="-".join)
def test_brackets_on_ten_years_of_real_days_trade_as_in_stock_backtrader(shared_data, symbols, kind):
    frames = {symbol: candles(shared_data, symbol, "D", 2600) for symbol in symbols}

    assert_same_trades(strategy(BRACKETS), frames, "D", compare_value=symbols != ["USD_JPY"], kind=kind)


@pytest.mark.parametrize("kind", ["market", "limit", "stop"])
def test_brackets_on_a_year_of_real_hours_trade_as_in_stock_backtrader(shared_data, kind):
    frames = {"EUR_USD": candles(shared_data, "EUR_USD", "H1", 6000)}

    assert_same_trades(strategy(BRACKETS), frames, "H1", compare_value=True, kind=kind)


@pytest.mark.parametrize("name", ["rsi_stochastic", "sma_cross", "momentum_rotation", "_template"])
def test_every_example_strategy_trades_on_real_days_as_in_stock_backtrader(shared_data, name):
    frames = {symbol: candles(shared_data, symbol, "D", 2600) for symbol in ("EUR_USD", "GBP_USD", "AUD_USD", "NZD_USD")}
    risk = {"risk": 0.001} if name != "_template" else {}

    assert_same_trades(load_strategy(name, PROJECT_ROOT / "strategies"), frames, "D", compare_value=True, **risk)
