"""The same bars lead to the same decisions, the same fills and the same news, in a backtest and live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live.process.exchange import Exchange
from live.process.test_indicators import moments
from live.process.trader import CASH, InProcess, adopt, begin, child, past
from runs import instrument, run, strategy
from samples import real_bars

from mbats.live.wire import Moment, Ready
from mbats.market import Bars, to_datetime
from mbats.settings import PROJECT_ROOT
from mbats.trading.feeds import conversion_columns
from mbats.trading.strategies import strategy_names

EXAMPLES = [*strategy_names(PROJECT_ROOT / "strategies"), "_template"]
REFUSALS = ("STOP_LOSS_ON_FILL_LOSS", "TAKE_PROFIT_ON_FILL_LOSS", "UNITS_MINIMUM_NOT_MET")
MARK = "    def next(self):\n"
LOG = """
    log = []

    def notify_order(self, order):
        filled = (order.executed.size, order.executed.price, order.executed.remsize)
        self.log.append((order.ref, order.data._name, order.getstatusname(), filled, order.info.get("reason")))

    def notify_trade(self, trade):
        state = (trade.size, trade.price, trade.pnl, trade.justopened, trade.isopen, trade.isclosed)
        self.log.append((0, trade.data._name, "trade", *state))
"""


def from_then_on(source: str, start: datetime) -> str:
    """The strategy, deciding nothing before `start`: what history is for a live run."""
    naive = start.replace(tzinfo=None)
    assert source.count(MARK) == 1
    guard = f"        import datetime\n        if self.datetime.datetime(0) < {naive!r}:\n            return\n"
    return source.replace(MARK, MARK + guard)


def example(name: str) -> str:
    return (PROJECT_ROOT / "strategies" / f"{name}.py").read_text()


@pytest.fixture(scope="module")
def hours(shared_data: Path) -> dict[str, Bars]:
    """A dollar pair and one whose profit is in yen, with real spreads, weekends and missing hours."""
    folder = shared_data / "oanda" / "H1_bidask"
    return {symbol: real_bars(folder / f"{symbol}_H1.parquet")[4000:4900] for symbol in ("EUR_USD", "USD_JPY")}


def with_conversions(bars: dict[str, Bars], script: list[Moment]) -> list[Moment]:
    """Moments whose bars of USD_JPY say what a yen was worth at their close."""

    def of(symbol: str, bar: Any) -> Any:
        return replace(bar, conversion=1 / ((bar.bid[3] + bar.ask[3]) / 2)) if symbol == "USD_JPY" else bar

    return [replace(each, bars={symbol: of(symbol, bar) for symbol, bar in each.bars.items()}) for each in script]


def pasts_and_moments(bars: dict[str, Bars], split: np.datetime64) -> tuple[list[Any], list[Moment]]:
    old = {symbol: found[found.time < split] for symbol, found in bars.items()}
    new = {symbol: found[found.time >= split] for symbol, found in bars.items()}
    closes = {symbol: conversion_columns(instrument(symbol), found, "USD", {})[1] for symbol, found in old.items()}
    return [past(symbol, found, closes[symbol]) for symbol, found in old.items()], with_conversions(new, moments(new, "H1"))


def told(exchange: Exchange, moment: Moment) -> Iterator[Any]:
    """What the trader says of a moment: what the bars did to the orders, then the bars."""
    yield from exchange.accept(next(iter(moment.bars.values())))
    for symbol, bar in moment.bars.items():
        yield from exchange.pass_bar(symbol, bar)
    yield replace(moment, money=exchange.money())


def expected_fills(result: Any) -> list[tuple[Any, ...]]:
    return by_symbol([(each.symbol, each.time, each.units, each.price, each.pnl, each.position_after) for each in result.fills])


def by_symbol(entries: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Symbol after symbol: which of two fills first in one bar is nobody's promise."""
    return sorted(entries, key=lambda entry: entry[0])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_decides_in_its_own_process_what_it_decides_in_a_backtest(hours: dict[str, Bars], name: str):
    split = hours["EUR_USD"].time[300]
    source = from_then_on(example(name), to_datetime(split))
    expected = expected_fills(run(strategy(source), hours, granularity="H1", cash=str(CASH)))
    pasts, script = pasts_and_moments(hours, split)
    exchange = Exchange(CASH)

    with child() as process:
        ready = process.start(begin(source, hours, "H1"), pasts, adopt())
        for moment in script:
            *events, bars = told(exchange, moment)
            for event in events:
                process.pipe.send(event)
            exchange.hear(process.moment(bars))

    assert ready == Ready(sum(len(each.bars) for each in pasts))
    assert len(expected) > 10
    assert by_symbol(exchange.fills) == expected


BRACKETS = '''
import datetime
import backtrader as bt

class Brackets(bt.Strategy):
    """Enters and leaves in every way there is, by the numbers of a generator."""

    params = dict(luck=1)

    def __init__(self):
        import random
        self.random = random.Random(self.p.luck)
        self.range = [bt.ind.ATR(data, period=5) for data in self.datas]
        self.bracket = [[] for _ in self.datas]

    def next(self):
        for i, data in enumerate(self.datas):
            number, position = self.random.random(), self.getposition(data)
            alive = any(order.alive() for order in self.bracket[i])
            if position and number < 0.1:
                self.close(data=data)
            elif not position and not alive and number < 0.5:
                self.enter(i, data, 1 if self.random.random() < 0.5 else -1)

    def enter(self, i, data, side):
        kind = self.random.choice([bt.Order.Market, bt.Order.Limit, bt.Order.Stop])
        away = {bt.Order.Market: 0.0, bt.Order.Limit: -0.3, bt.Order.Stop: 0.3}[kind] * side * self.range[i][0]
        bracket = self.buy_bracket if side > 0 else self.sell_bracket
        valid = self.random.choice([None, datetime.timedelta(hours=3)]) if kind != bt.Order.Market else None
        self.bracket[i] = bracket(
            data=data, size=1000 + 100 * self.random.randrange(9), exectype=kind, price=data.close[0] + away, valid=valid,
            stopprice=data.close[0] + away - side * 2 * self.range[i][0],
            limitprice=data.close[0] + away + side * self.random.choice([0.001, 3.0]) * self.range[i][0],
        )
'''


def news_by_order(log: list[tuple[Any, ...]]) -> tuple[list[list[Any]], list[Any]]:
    """What was said of each order, the orders by age; and of trades. Live, more endings have a reason than in a backtest."""
    refs = sorted({entry[0] for entry in log if entry[0]})
    shown = [entry if not entry[0] or entry[-1] in REFUSALS else (*entry[:-1], None) for entry in log]
    return [[entry[1:] for entry in shown if entry[0] == ref] for ref in refs], [entry[1:] for entry in shown if not entry[0]]


@pytest.mark.parametrize(("name", "luck"), [*((name, None) for name in EXAMPLES), *(("brackets", luck) for luck in range(6))])
def test_what_a_strategy_is_told_of_its_orders_and_trades_is_what_a_backtest_tells(
    hours: dict[str, Bars], name: str, luck: int | None
):
    bars = {symbol: found[:500] for symbol, found in hours.items()}
    split = bars["EUR_USD"].time[200]
    source = from_then_on(example(name) if luck is None else BRACKETS, to_datetime(split)) + LOG
    parameters = {} if luck is None else {"luck": luck}
    backtested = strategy(source)
    result = run(backtested, bars, granularity="H1", cash=str(CASH), **parameters)
    pasts, script = pasts_and_moments(bars, split)
    exchange, live = Exchange(CASH), InProcess()

    def conversation() -> Iterator[Any]:
        heard = 0
        for moment in script:
            yield from told(exchange, moment)
            exchange.hear(live.said[heard:])
            heard = len(live.said)

    lived = live.play(begin(source, bars, "H1", **parameters), pasts, adopt(), conversation())

    assert by_symbol(exchange.fills) == expected_fills(result)
    orders, trades = news_by_order(lived.log)
    known_orders, known_trades = news_by_order(backtested.cls.log)
    assert len(known_orders) > 5
    assert by_symbol(trades) == by_symbol(known_trades)
    # The last bar's orders have been sent live; a backtest would take them up on the next.
    assert orders[: len(known_orders)] == known_orders
