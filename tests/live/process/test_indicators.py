"""What a strategy sees live are the numbers that it sees in a backtest, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pytest
from live.process.trader import InProcess, adopt, begin, live_bar, money, past
from runs import instrument, strategy
from samples import random_bars, real_bars

from mbats.live.wire import Moment
from mbats.market import Bars, Granularity, bar_ends, to_datetime
from mbats.settings import PROJECT_ROOT
from mbats.trading.account import AccountRules
from mbats.trading.broker import FxBroker
from mbats.trading.costs import RolloverClock
from mbats.trading.engine import RunCerebro
from mbats.trading.feeds import BarFeed
from mbats.trading.strategies import strategy_names

MINUTE = np.timedelta64(1, "m")


def moments(bars: dict[str, Bars], granularity: str) -> list[Moment]:
    """Bars as the trader sends them: those of one start together."""
    starts = np.unique(np.concatenate([found.time for found in bars.values()]))
    places = {symbol: {start: i for i, start in enumerate(found.time)} for symbol, found in bars.items()}
    ends = bar_ends(Granularity(granularity), starts)
    return [
        Moment(to_datetime(end), {s: live_bar(bars[s], places[s][start]) for s in bars if start in places[s]}, money())
        for start, end in zip(starts, ends, strict=True)
    ]


def backtested(source: str, bars: dict[str, Bars], granularity: str, **parameters: Any) -> Any:
    cerebro = RunCerebro(stdstats=False, quicknotify=True)
    times = np.concatenate([found.time for found in bars.values()])
    rules = AccountRules(cash=money().balance, financing=False)
    broker = FxBroker(rules=rules, clock=RolloverClock(to_datetime(min(times)), to_datetime(max(times))))
    cerebro.setbroker(broker)
    for symbol, found in bars.items():
        ones = np.ones(len(found))
        feed = BarFeed(
            name=symbol,
            bars=found,
            instrument=instrument(symbol),
            granularity=Granularity(granularity),
            conversion_open=ones,
            conversion_close=ones,
        )
        cerebro.adddata(feed, name=symbol)
        broker.attach(feed)
    cerebro.addstrategy(strategy(source).cls, **parameters)
    return cerebro.run()[0]


def lived(source: str, bars: dict[str, Bars], granularity: str, split: np.datetime64, **parameters: Any) -> Any:
    old = [past(symbol, found[found.time < split]) for symbol, found in bars.items()]
    new = {symbol: found[found.time >= split] for symbol, found in bars.items()}
    first = begin(source, bars, granularity, **parameters)
    return InProcess().play(first, old, adopt(), moments(new, granularity))


def lines(iterator: Any) -> list[tuple[str, Any]]:
    """Every line below a strategy, its feeds and its own time included."""
    own = [] if isinstance(iterator, bt.Strategy) else [(f"{type(iterator).__name__}", line) for line in iterator.lines]
    below = [
        found for each in iterator._lineiterators[iterator.IndType] if hasattr(each, "_lineiterators") for found in lines(each)
    ]
    top = [(data._name, line) for data in iterator.datas for line in data.lines] if isinstance(iterator, bt.Strategy) else []
    return top + own + below


def assert_same_lines(expected: Any, found: Any) -> int:
    assert len(found) == len(expected)
    pairs = list(zip(lines(expected), lines(found), strict=True))
    for (name, line), (_, other) in pairs:
        assert other.array.tobytes() == line.array.tobytes(), name
    return len(pairs)


@pytest.mark.parametrize("history", [0, 3, 119, 150, 400])
@pytest.mark.parametrize("name", [*strategy_names(PROJECT_ROOT / "strategies"), "_template"])
def test_indicators_of_every_example_are_those_of_a_backtest_whatever_was_history(shared_data: Path, name: str, history: int):
    symbols = ("EUR_USD", "GBP_USD", "AUD_USD")
    source = (PROJECT_ROOT / "strategies" / f"{name}.py").read_text()
    bars = {symbol: real_bars(shared_data / "oanda" / "D" / f"{symbol}_D.parquet")[2000:2450] for symbol in symbols}
    bars["GBP_USD"] = bars["GBP_USD"][np.arange(450) % 7 != 3]  # days without a bar, in history and after
    split = bars["EUR_USD"].time[history]

    live = lived(source, bars, "D", split)

    expected = backtested(source, bars, "D")
    assert assert_same_lines(expected, live) > 45
    assert bytes(live.lines.datetime.array) == bytes(expected.lines.datetime.array)


# Backtrader computes the pivots' couplers by columns as nothing at all, and a line of Ichimoku that lies in the future
# otherwise on the last bar than bar by bar.
APART = {"PivotPoint", "FibonacciPivotPoint", "DemarkPivotPoint", "Ichimoku"}
ONE = """
import backtrader as bt

class One(bt.Strategy):
    def __init__(self):
        self.indicator = bt.ind.{name}(self.data)
"""
TIMES = np.datetime64("2024-03-05T00:00", "us") + np.arange(260) * MINUTE


def ordinary_indicators(bars: dict[str, Bars]) -> Iterator[tuple[str, Any]]:
    """Backtrader's indicators that can be made from one feed alone, each in a strategy that has been through a backtest."""
    for name in sorted(dir(bt.ind)):
        cls = getattr(bt.ind, name)
        if isinstance(cls, type) and issubclass(cls, bt.Indicator) and cls.__name__ == name and name not in APART:
            try:
                yield name, backtested(ONE.format(name=name), bars, "M1")
            except (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError):
                continue  # it needs other arguments, two feeds, or a package that is not installed


def test_every_indicator_of_backtrader_goes_on_from_history_as_if_it_had_been_there_all_along():
    bars = {"EUR_USD": random_bars(TIMES, seed=3)}
    compared = 0
    for name, expected in ordinary_indicators(bars):
        found = lived(ONE.format(name=name), bars, "M1", TIMES[200])

        compared += assert_same_lines(expected, found) > 16

    assert compared > 90


REMEMBERING = """
import backtrader as bt

class Calls(bt.Indicator):
    lines = ("calls",)

    def __init__(self):
        self.count = 0

    def next(self):
        self.count += 1
        self.lines.calls[0] = self.count

class Counting(bt.Strategy):
    def __init__(self):
        self.calls = [Calls(data) for data in self.datas]
"""


def test_an_indicator_is_not_computed_again_while_another_symbol_moves():
    bars = {"EUR_USD": random_bars(TIMES, seed=3), "GBP_USD": random_bars(TIMES[::3], seed=4)}

    live = lived(REMEMBERING, bars, "M1", TIMES[200])

    assert_same_lines(backtested(REMEMBERING, bars, "M1"), live)
    assert [calls.count for calls in live.calls] == [260, 87]


WATCHING = """
import backtrader as bt

class Watching(bt.Strategy):
    params = dict(period=5)

    def __init__(self):
        self.average = [bt.ind.SMA(data, period=self.p.period) for data in self.datas]
        self.seen = []

    def prenext(self):
        self.note("prenext")

    def nextstart(self):
        self.note("nextstart")

    def next(self):
        self.note("next")

    def note(self, what):
        self.seen.append((what, len(self), [len(data) for data in self.datas], [average[0] for average in self.average]))
"""


@pytest.mark.parametrize("period", [1, 5, 30, 56])
def test_history_is_shown_to_prenext_and_the_first_live_bar_to_nextstart_alone(period: int):
    bars = {"EUR_USD": random_bars(TIMES[:60], seed=3), "GBP_USD": random_bars(TIMES[:60:2], seed=4)}
    period = min(period, 28)

    live = lived(WATCHING, bars, "M1", TIMES[50], period=period)

    called = [what for what, *_ in live.seen]
    ready = 50 if period <= 25 else 2 * period - 2  # the second symbol has every other bar
    assert called == ["prenext"] * ready + ["nextstart"] + ["next"] * (59 - ready)
    assert [count for _, count, *_ in live.seen] == list(range(1, 61))
    assert [lengths for *_, lengths, _ in live.seen] == [[n, (n + 1) // 2] for n in range(1, 61)]
    known = np.array([values for *_, values in backtested(WATCHING, bars, "M1", period=period).seen])
    assert np.array([values for *_, values in live.seen]).tobytes() == known.tobytes()


HEIKIN = WATCHING.replace("bt.ind.SMA(data, period=self.p.period)", "bt.ind.HeikinAshi(data)")


def test_an_indicator_that_cannot_be_computed_by_columns_is_computed_bar_by_bar():
    bars = {"EUR_USD": random_bars(TIMES, seed=3)}

    live = lived(HEIKIN, bars, "M1", TIMES[200])

    assert_same_lines(backtested(HEIKIN, bars, "M1"), live)
    assert [what for what, *_ in live.seen] == ["prenext"] * 200 + ["nextstart"] + ["next"] * 59


def test_timers_ring_on_live_bars_and_not_on_those_of_the_past():
    source = """
import datetime
import backtrader as bt

class Timed(bt.Strategy):
    def __init__(self):
        self.rung = []
        self.add_timer(when=datetime.time(0, 0), repeat=datetime.timedelta(minutes=10))

    def notify_timer(self, timer, when, *args, **kwargs):
        self.rung.append(self.data.datetime.datetime(0))
"""
    bars = {"EUR_USD": random_bars(TIMES, seed=3)}

    live = lived(source, bars, "M1", TIMES[200])

    expected = [moment for moment in backtested(source, bars, "M1").rung if moment >= TIMES[200].item()]
    assert len(expected) == 6
    assert live.rung[-5:] == expected[-5:]
    assert min(live.rung) >= TIMES[200].item()
