"""The features that a model is trained on are, to the bit, those that it is asked about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from runs import data_of, run, specification, strategy
from samples import random_bars

from mbats.errors import NoBars, UsageError
from mbats.market import Bars, Floats, Granularity, Times, bar_starts
from mbats.ml.features import Collected, collect_features
from mbats.settings import PROJECT_ROOT
from mbats.trading.model import Floats2D, ModelSet
from mbats.trading.session import StrategyFailed
from mbats.trading.strategies import LoadedStrategy, load_strategy

START = datetime(2021, 1, 4, tzinfo=UTC)
RSI = load_strategy("rsi_stochastic", PROJECT_ROOT / "strategies")


def bars_of(*symbols: str, count: int = 600) -> dict[str, Bars]:
    length = Granularity.H1
    times = bar_starts(length, START, START + length.length * (count * 2 + 100))[:count]
    return {symbol: random_bars(times, seed) for seed, symbol in enumerate(symbols, start=1)}


def collect(loaded: LoadedStrategy, bars: dict[str, Bars], **parameters: Any) -> dict[str, Collected]:
    return collect_features(loaded, specification(loaded, bars, granularity="H1", **parameters), data_of(bars))


def declaring(features: str, *, before: str = "", name: str = "declaring") -> LoadedStrategy:
    """A strategy with these features, which never trades."""
    return strategy(
        f"""
import backtrader as bt
import numpy as np
from mbats.trading.model import predicted
{before}

class Declaring(bt.Strategy):
    params = dict(model="", exit_model="")

    def __init__(self):
        for i, data in enumerate(self.datas):
            {features}
""",
        name,
    )


class Remembers:
    """Keeps what it was asked, by symbol."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[Times, Floats2D]] = {}

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        self.asked[symbol] = times.copy(), features.copy()
        return np.zeros(len(times))


@pytest.mark.parametrize(
    "loaded", [RSI, declaring("predicted(self.p.model, data, gap=data.close / bt.ind.EMA(data.close) - 1.0)")]
)
def test_training_and_a_backtest_see_the_same_bits(loaded: LoadedStrategy) -> None:
    bars = bars_of("EUR_USD", "USD_JPY")
    bars["USD_JPY"] = bars["USD_JPY"][np.r_[0:250, 300:500]]
    model = Remembers()

    trained_on = collect(loaded, bars, model="m@champion")
    run(loaded, bars, granularity="H1", model="m@champion", models=ModelSet({"m@champion": (None, model)}))

    assert trained_on.keys() == model.asked.keys() == set(bars)
    for symbol, found in trained_on.items():
        formed = np.isfinite(found.matrix).all(axis=1)
        times, features = model.asked[symbol]
        assert formed.sum() > 400
        np.testing.assert_array_equal(found.times, bars[symbol].time)
        np.testing.assert_array_equal(found.times[formed], times)
        np.testing.assert_array_equal(found.matrix[formed].view(np.int64), features.view(np.int64))


def test_the_names_are_those_of_the_strategy_in_its_order() -> None:
    found = collect(RSI, bars_of("EUR_USD"))

    assert found["EUR_USD"].names == ("rsi", "percK", "percD", "atr")
    assert found["EUR_USD"].matrix.shape == (600, 4)
    assert np.isnan(found["EUR_USD"].matrix[:17]).all()


def test_costs_cash_and_models_play_no_part() -> None:
    bars = bars_of("EUR_USD")

    plain = collect(RSI, bars)
    other = collect(
        RSI, bars, cash="1", costs={"slippage": "pips:5", "financing": True, "margin": True}, model="never@registered", risk=0.5
    )

    np.testing.assert_array_equal(plain["EUR_USD"].matrix, other["EUR_USD"].matrix)


def test_parameters_of_the_strategy_do() -> None:
    bars = bars_of("EUR_USD")

    assert not np.array_equal(
        collect(RSI, bars)["EUR_USD"].matrix, collect(RSI, bars, rsi_period=20)["EUR_USD"].matrix, equal_nan=True
    )


def test_nothing_is_traded() -> None:
    loaded = declaring(
        "predicted('', data, a=data.close / data.open)\n\n    def next(self):\n        raise RuntimeError('a bar')"
    )

    assert np.isfinite(collect(loaded, bars_of("EUR_USD"))["EUR_USD"].matrix).all()
    with pytest.raises(StrategyFailed, match="a bar"):
        run(loaded, bars_of("EUR_USD"), granularity="H1")


def test_a_value_that_is_not_finite_is_none() -> None:
    loaded = declaring("predicted('', data, a=bt.DivByZero(data.close, data.high - data.low, zero=float('inf')))")
    bars = bars_of("EUR_USD")
    prices = bars["EUR_USD"]
    for side in ("bid", "ask"):
        for part in ("open", "high", "low"):
            getattr(prices, f"{side}_{part}")[50:60] = getattr(prices, f"{side}_close")[50:60]

    found = collect(loaded, bars)["EUR_USD"]

    assert np.flatnonzero(np.isnan(found.matrix[:, 0])).tolist() == list(range(50, 60))


@pytest.mark.parametrize("count", [1, 2, 16, 17, 18, 19])
def test_few_bars_are_few_rows(count: int) -> None:
    found = collect(RSI, bars_of("EUR_USD", count=count))["EUR_USD"]

    assert len(found.times) == count
    assert np.isfinite(found.matrix).all(axis=1).sum() == max(count - 17, 0)


def test_a_symbol_that_began_later_has_its_own_rows() -> None:
    bars = bars_of("EUR_USD", "USD_JPY")
    alone = collect(RSI, {"USD_JPY": bars["USD_JPY"][450:]})

    together = collect(RSI, {"EUR_USD": bars["EUR_USD"], "USD_JPY": bars["USD_JPY"][450:]})

    np.testing.assert_array_equal(together["USD_JPY"].matrix, alone["USD_JPY"].matrix)
    assert len(together["EUR_USD"].times) == 600


# --- What is refused -------------------------------------------------------------------------------------------------------


def test_a_strategy_without_features_is_refused_with_the_line_that_it_lacks() -> None:
    with pytest.raises(UsageError, match=r"'sma_cross' declares no features.*predicted\(self\.p\.model, data"):
        collect(load_strategy("sma_cross", PROJECT_ROOT / "strategies"), bars_of("EUR_USD"))


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ("i or predicted('', data, a=data.close)", "declares features for EUR_USD, but none for USD_JPY"),
        ("predicted('', data, **{('a', 'b')[i]: data.close})", "the features a for EUR_USD and b for USD_JPY"),
        ("predicted('', data, a=data.close), predicted('', data, b=data.open)", "declares two predictions for EUR_USD"),
    ],
)
def test_what_one_model_cannot_learn_is_refused(features: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        collect(declaring(features), bars_of("EUR_USD", "USD_JPY"))


WHOLE_HISTORY = '''
class Standardised(bt.Indicator):
    """The close against the mean of all bars, those to come among them."""

    lines = ("z",)

    def once(self, start, end):
        closes = np.array(self.data.close.array)
        for i in range(end):
            self.lines.z.array[i] = closes[i] - closes.mean()

    def next(self):
        self.lines.z[0] = 0.0
'''

NEXT_BAR = '''
class NextBar(bt.Indicator):
    """What the next bar brings."""

    lines = ("change",)

    def once(self, start, end):
        for i in range(start - 1, end):
            following = min(i + 1, end - 1)
            self.lines.change.array[i] = self.data.close.array[following] - self.data.close.array[i]

    def next(self):
        self.lines.change[0] = 0.0
'''


@pytest.mark.parametrize(("indicator", "source"), [("Standardised", WHOLE_HISTORY), ("NextBar", NEXT_BAR)])
def test_a_feature_that_changes_when_later_bars_come_is_refused(indicator: str, source: str) -> None:
    loaded = declaring(f"predicted('', data, open=data.open, peek={indicator}(data))", before=source)

    with pytest.raises(
        UsageError, match=r"Feature 'peek' of strategy 'declaring' looks ahead: for EUR_USD at 2021-.* without the"
    ):
        collect(loaded, bars_of("EUR_USD"))


def test_a_run_that_is_asked_for_more_symbols_than_there_are_bars_of_is_refused() -> None:
    bars = bars_of("EUR_USD")
    spec = replace(specification(RSI, bars_of("EUR_USD", "USD_JPY"), granularity="H1"), symbols=("EUR_USD", "USD_JPY"))

    with pytest.raises(NoBars, match="No H1 bars of USD_JPY"):
        collect_features(RSI, spec, data_of(bars))
