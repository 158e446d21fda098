"""A model in a strategy: the same numbers by columns and bar by bar, NaN where it has nothing to say, and all of it on record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import data_of, run, specification, strategy
from samples import random_bars

from mbats.errors import ConfigError, UsageError
from mbats.market import Bars, Floats, Granularity, Times, bar_starts, to_datetime
from mbats.settings import PROJECT_ROOT
from mbats.trading.engine import RunCerebro
from mbats.trading.model import Decision, Floats2D, ModelFailed, ModelInfo, ModelSet, references
from mbats.trading.session import prepare
from mbats.trading.strategies import load_strategy

START = datetime(2021, 1, 4, tzinfo=UTC)
FORMED = 17  # the first bar, from 0, on which %D of a stochastic of 14 bars, smoothed twice over 3, is there
NAMES = ("rsi", "percK", "percD", "atr")
RSI = load_strategy("rsi_stochastic", PROJECT_ROOT / "strategies")

TRADER = strategy('''
import backtrader as bt
from mbats.trading.model import predicted


class Trader(bt.Strategy):
    """Follows the sign of the prediction, and remembers every one that it saw."""

    params = dict(model="", period=14)

    def __init__(self):
        self.average = [bt.ind.EMA(data.close, period=self.p.period) for data in self.datas]
        self.stochastic = [bt.ind.Stochastic(data, safediv=True) for data in self.datas]
        self.prediction = [
            predicted(
                self.p.model,
                data,
                gap=data.close / self.average[i] - 1.0,
                percD=self.stochastic[i].percD,
                range=data.high - data.low,
            )
            for i, data in enumerate(self.datas)
        ]

    def next(self):
        for i, data in enumerate(self.datas):
            held = self.getposition(data).size
            if self.prediction[i][0] > 0 and held <= 0:
                self.order_target_size(data, target=1000)
            elif self.prediction[i][0] < 0 and held >= 0:
                self.order_target_size(data, target=-1000)
''')


@dataclass
class Linear:
    """The sum of the features by weights, added in one order; remembers how often it was asked, and what about."""

    weights: tuple[float, ...]
    asked: list[tuple[str, Times, Floats2D]] = field(default_factory=list)

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        self.asked.append((symbol, times.copy(), features.copy()))
        total = np.zeros(len(features))
        for weight, column in zip(self.weights, features.T, strict=True):
            total = total + weight * column
        return total


@dataclass
class Says:
    """Whatever it is told to say."""

    answer: Callable[[int], Any]

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        return self.answer(len(times))


class BarByBar(RunCerebro):
    """Never computes a column."""

    def _runonce(self, runstrats: list[Any]) -> None:
        self._runnext(runstrats)


def bars_of(*symbols: str, count: int = 400, granularity: Granularity = Granularity.H1) -> dict[str, Bars]:
    times = bar_starts(granularity, START, START + granularity.length * (count * 2 + 100))[:count]
    return {symbol: random_bars(times, seed) for seed, symbol in enumerate(symbols, start=1)}


def info_of(names: tuple[str, ...] = NAMES, **changes: Any) -> ModelInfo:
    known = ModelInfo(
        name="rsi_stochastic",
        version=3,
        run_id="a1",
        digest="d" * 64,
        features=names,
        kind="regressor",
        strategy="rsi_stochastic",
        symbols=("EUR_USD",),
        granularity="H1",
        trained_from=datetime(2015, 1, 1, tzinfo=UTC),
        trained_to=datetime(2019, 1, 1, tzinfo=UTC),
    )
    return replace(known, **changes)


def trader_models(model: Any = None, info: ModelInfo | None = None) -> ModelSet:
    return ModelSet({"m@champion": (info, model or Linear((40.0, 0.0001, -3.0)))})


# --- The line -------------------------------------------------------------------------------------------------------------


def lines(engine: type[RunCerebro], bars: dict[str, Bars], models: ModelSet) -> dict[str, tuple[Floats2D, Floats]]:
    """The features and the prediction of each symbol after a run."""
    spec = specification(TRADER, bars, granularity="H1", model="m@champion")
    ready = prepare(spec, TRADER, data_of(bars), models=models, engine=engine)
    ready.go(TRADER)
    return {each.symbol: (each.matrix(), np.array(each.lines.prediction.array)) for each in ready.cerebro.predictions}


def test_by_columns_and_bar_by_bar_the_model_is_given_the_same_and_the_strategy_gets_the_same_to_the_bit() -> None:
    bars = bars_of("EUR_USD", "USD_JPY")
    at_once, one_by_one = Linear((40.0, 0.0001, -3.0)), Linear((40.0, 0.0001, -3.0))

    batch = lines(RunCerebro, bars, trader_models(at_once))
    single = lines(BarByBar, bars, trader_models(one_by_one))

    assert [len(asked[1]) for asked in at_once.asked] == [400 - FORMED, 400 - FORMED]  # one batch a symbol
    assert {len(asked[1]) for asked in one_by_one.asked} == {1}
    for symbol in bars:
        for columns, rows in zip(batch[symbol], single[symbol], strict=True):
            np.testing.assert_array_equal(columns.view(np.int64), rows.view(np.int64))
        times = np.concatenate([asked[1] for asked in one_by_one.asked if asked[0] == symbol])
        [(_, all_times, features)] = [asked for asked in at_once.asked if asked[0] == symbol]
        np.testing.assert_array_equal(all_times, times)
        np.testing.assert_array_equal(features, np.concatenate([a[2] for a in one_by_one.asked if a[0] == symbol]))
        np.testing.assert_array_equal(all_times, bars[symbol].time[FORMED:])


def test_both_ways_make_the_same_trades() -> None:
    bars = bars_of("EUR_USD", "USD_JPY")
    spec = specification(TRADER, bars, granularity="H1", model="m@champion")
    fills = []
    for engine in (RunCerebro, BarByBar):
        ready = prepare(spec, TRADER, data_of(bars), models=trader_models(), engine=engine)
        ready.go(TRADER)
        fills.append(ready.broker.ledger.fills)

    assert len(fills[0]) > 20
    assert fills[0] == fills[1]


def test_symbols_of_different_length_each_get_their_own_bars() -> None:
    bars = bars_of("EUR_USD", "USD_JPY")
    bars["USD_JPY"] = bars["USD_JPY"][np.r_[0:100, 150:300]]
    model = Linear((40.0, 0.0001, -3.0))

    lines(RunCerebro, bars, trader_models(model))

    asked = {symbol: times for symbol, times, _ in model.asked}
    np.testing.assert_array_equal(asked["USD_JPY"], bars["USD_JPY"].time[FORMED:])
    np.testing.assert_array_equal(asked["EUR_USD"], bars["EUR_USD"].time[FORMED:])


@pytest.mark.parametrize("count", [1, FORMED, FORMED + 1, FORMED + 2])
def test_few_bars_are_predicted_as_soon_as_the_features_are_formed(count: int) -> None:
    model = Linear((40.0, 0.0001, -3.0))

    found = lines(RunCerebro, bars_of("EUR_USD", count=count), trader_models(model))

    formed = max(count - FORMED, 0)
    assert sum(len(times) for _, times, _ in model.asked) == formed
    assert np.isfinite(found["EUR_USD"][1]).tolist() == [False] * (count - formed) + [True] * formed


def test_without_a_model_the_prediction_is_nan_and_the_strategy_holds() -> None:
    result = run(TRADER, bars_of("EUR_USD"), granularity="H1")

    assert (result.fills, result.model_version, result.in_sample, result.decisions) == ((), None, None, ())


@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_nan_and_the_strategy_holds(nothing: float) -> None:
    result = run(
        TRADER,
        bars_of("EUR_USD"),
        granularity="H1",
        model="m@champion",
        models=trader_models(Says(lambda n: np.full(n, nothing))),
    )

    assert result.fills == ()


def test_a_bar_whose_feature_is_not_finite_is_not_asked_about() -> None:
    flat = strategy(
        TRADER.source.replace(
            "gap=data.close / self.average[i] - 1.0", "gap=bt.DivByZero(data.close, data.high - data.low, zero=float('inf'))"
        )
    )
    bars = bars_of("EUR_USD")
    prices = bars["EUR_USD"]
    for side in ("bid", "ask"):
        for part in ("open", "high", "low"):
            getattr(prices, f"{side}_{part}")[50:60] = getattr(prices, f"{side}_close")[50:60]
    model = Linear((1e-9, 1e-9, 1e-9))

    run(flat, bars, granularity="H1", model="m@champion", models=trader_models(model))

    [(_, times, features)] = model.asked
    assert np.isfinite(features).all()
    assert set(prices.time[FORMED:]) - set(times) == set(prices.time[50:60])


# --- What is refused ------------------------------------------------------------------------------------------------------


def test_a_reference_that_the_run_was_not_given_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"asks for the model 'm@challenger', which this run was not given; it has: m@champion\."
    ):
        run(TRADER, bars_of("EUR_USD"), granularity="H1", model="m@challenger", models=trader_models())


@pytest.mark.parametrize("names", [("gap", "range", "percD"), ("gap", "percD"), ("gap", "percD", "range", "more")])
def test_a_model_of_other_features_or_another_order_is_refused_with_both_lists(names: tuple[str, ...]) -> None:
    told = f"rsi_stochastic/3 was trained on the features {', '.join(names)}; the strategy declares gap, percD, range"
    with pytest.raises(ConfigError, match=told):
        run(TRADER, bars_of("EUR_USD"), granularity="H1", model="m@champion", models=trader_models(info=info_of(names)))


def broken(n: int) -> Any:
    raise ValueError("no such tree")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (broken, "ValueError: no such tree"),
        (lambda n: np.zeros(n + 1), "383 rows were asked about and the answer has the shape (384,)"),
        (lambda n: np.zeros((n, 2)), "the answer has the shape (383, 2)"),
        (lambda n: 0.0, "the answer has the shape ()"),
    ],
)
def test_a_model_that_fails_ends_a_backtest(answer: Callable[[int], Any], said: str) -> None:
    with pytest.raises(ModelFailed) as failed:
        run(TRADER, bars_of("EUR_USD"), granularity="H1", model="m@champion", models=trader_models(Says(answer)))

    assert said in str(failed.value)
    assert "Model m@champion failed on 383 bars of EUR_USD" in str(failed.value)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ("", "was given no features"),
        ("a=1.5", "Feature 'a' is 1.5, which is no line"),
        ("a=self.stochastic", "Feature 'a' has 2 lines (percK, percD); name the one that is meant"),
        ("a=data", "name the one that is meant"),
        ("a=data.close(1)", "Feature 'a' reads a bar that is still to come"),
        ("a=bt.ind.SMA(data.close(1) - data.close)", "Feature 'a' reads a bar that is still to come"),
        ("a=self.datas[1].close - self.datas[0].close", "is computed from USD_JPY, but the prediction is for EUR_USD"),
        ("a=bt.ind.SMA(self.datas[1].close)", "is computed from USD_JPY, but the prediction is for EUR_USD"),
        ("a=bt.ind.Stochastic(self.datas[1]).percK", "is computed from USD_JPY, but the prediction is for EUR_USD"),
        ("a=bt.If(data.close > self.datas[1].close, 1.0, 0.0)", "is computed from USD_JPY, but the prediction is for EUR_USD"),
    ],
)
def test_a_feature_that_cannot_be_one_is_refused(features: str, said: str) -> None:
    source = f"""
import backtrader as bt
from mbats.trading.model import predicted


class Wrong(bt.Strategy):
    def __init__(self):
        data = self.datas[0]
        self.stochastic = bt.ind.Stochastic(data)
        self.prediction = predicted("", data, {features})
"""
    with pytest.raises(UsageError) as refused:
        run(strategy(source), bars_of("EUR_USD", "USD_JPY"), granularity="H1")

    assert said in str(refused.value)


def test_the_references_of_a_strategy_are_its_parameters_of_that_name() -> None:
    asked = {
        "model": "a@champion",
        "exit_model": "b/2",
        "size_model": "",
        "model_edge": 0.1,
        "remodel": "c",
        "other_model": "b/2",
    }

    assert references(asked) == ("a@champion", "b/2")


# --- Bar by bar, as in live trading ----------------------------------------------------------------------------------------


def test_each_row_is_told_with_its_features_and_how_long_it_took() -> None:
    bars, told = bars_of("EUR_USD"), list[Decision]()
    models = trader_models(info=info_of(("gap", "percD", "range")))
    models.on_decision = told.append

    found = lines(BarByBar, bars, models)["EUR_USD"]

    assert [decision.time for decision in told] == [to_datetime(time) for time in bars["EUR_USD"].time[FORMED:]]
    np.testing.assert_array_equal([decision.features for decision in told], found[0][FORMED:])
    np.testing.assert_array_equal([decision.prediction for decision in told], found[1][FORMED:])
    assert {(each.symbol, each.reference, each.model, each.error) for each in told} == {
        ("EUR_USD", "m@champion", "rsi_stochastic/3", None)
    }
    assert min(decision.latency_s for decision in told) > 0


@pytest.mark.parametrize(
    ("answer", "said"), [(broken, "ValueError: no such tree"), (lambda n: np.full(n, math.inf), "the prediction is inf")]
)
def test_a_row_that_fails_is_nan_and_told_where_the_run_is_to_hold(answer: Callable[[int], Any], said: str) -> None:
    told = list[Decision]()
    models = ModelSet({"m@champion": (None, Says(answer))}, on_decision=told.append, hold_on_failure=True)

    found = lines(BarByBar, bars_of("EUR_USD"), models)["EUR_USD"]

    assert np.isnan(found[1]).all()
    assert {decision.error for decision in told} == {said}
    assert all(math.isnan(decision.prediction) for decision in told)


def test_a_row_that_fails_ends_the_run_where_it_is_not_to_hold() -> None:
    with pytest.raises(ModelFailed, match=r"failed on the bar of EUR_USD at 2021-01-04 \d\d:00 UTC: ValueError: no such tree"):
        lines(BarByBar, bars_of("EUR_USD"), trader_models(Says(broken)))


def test_history_of_a_model_that_fails_is_nan_where_the_run_is_to_hold() -> None:
    models = ModelSet({"m@champion": (None, Says(broken))}, hold_on_failure=True)

    assert np.isnan(lines(RunCerebro, bars_of("EUR_USD"), models)["EUR_USD"][1]).all()


# --- What is recorded ------------------------------------------------------------------------------------------------------


def test_the_identity_of_a_model_comes_back_equal_from_json() -> None:
    info = info_of(row_by_row=True, symbols=("EUR_USD", "USD_JPY"))

    assert ModelInfo.from_json(info.to_json()) == info
    assert info.reference == "rsi_stochastic/3"


def test_what_the_model_said_is_kept_for_each_bar_at_which_an_order_was_sent() -> None:
    bars = bars_of("EUR_USD", "USD_JPY")
    model = Linear((40.0, 0.0001, -3.0))

    result = run(
        TRADER, bars, granularity="H1", model="m@champion", models=trader_models(model, info_of(("gap", "percD", "range")))
    )

    # A market order fills at the open of the bar after the decision.
    after = {symbol: dict(zip(found.time[1:].tolist(), found.time[:-1].tolist(), strict=True)) for symbol, found in bars.items()}
    filled = {(fill.symbol, after[fill.symbol][fill.time.replace(tzinfo=None)].replace(tzinfo=UTC)) for fill in result.fills}
    kept = {(decision.symbol, decision.time): decision for decision in result.decisions}
    last = {(symbol, to_datetime(found.time[-1])) for symbol, found in bars.items()}
    assert len(kept) > 20
    assert filled <= kept.keys() <= filled | last
    said = {(symbol, to_datetime(t)): row for symbol, times, rows in model.asked for t, row in zip(times, rows, strict=True)}
    for place, decision in kept.items():
        assert decision.features == tuple(said[place])
        assert decision.prediction == Linear(model.weights).predict("", np.zeros(1, "M8[us]"), said[place][None])[0]
        assert (decision.role, decision.model, decision.latency_ms, decision.error) == ("model", "rsi_stochastic/3", None, None)
    assert list(result.decisions) == sorted(result.decisions, key=lambda each: (each.time, each.symbol))


@pytest.mark.parametrize(
    ("trained", "in_sample"),
    [
        ((-900, 0), False),  # up to the start of the first bar
        ((-900, 1), True),
        ((399, 500), True),  # from the start of the last bar
        ((400, 500), False),  # from its end
        ((100, 200), True),
        ((-900, 900), True),
    ],
)
def test_a_run_is_in_sample_when_training_saw_any_of_its_bars(trained: tuple[int, int], in_sample: bool) -> None:
    bars = bars_of("EUR_USD")
    first = to_datetime(bars["EUR_USD"].time[0])
    bars["EUR_USD"] = replace(bars["EUR_USD"], time=bars["EUR_USD"].time[0] + np.arange(400) * np.timedelta64(1, "h"))
    begin, end = (first + timedelta(hours=hours) for hours in trained)
    info = info_of(("gap", "percD", "range"), trained_from=begin, trained_to=end)

    result = run(TRADER, bars, granularity="H1", model="m@champion", models=trader_models(info=info))

    assert (result.model_version, result.in_sample) == ("rsi_stochastic/3", in_sample)
    assert result.models == {"m@champion": info.to_json()}
    warned = [warning for warning in result.warnings if warning.startswith("In sample: rsi_stochastic/3 was trained on ")]
    assert len(warned) == in_sample


def test_of_a_model_without_an_identity_nobody_knows_what_it_has_seen() -> None:
    result = run(TRADER, bars_of("EUR_USD"), granularity="H1", model="m@champion", models=trader_models())

    assert (result.model_version, result.in_sample, result.models) == ("m@champion", None, {})
    assert {decision.model for decision in result.decisions} == {"m@champion"}


# --- The strategy that comes with it ---------------------------------------------------------------------------------------


def without_the_model(folder: Path) -> Any:
    """`rsi_stochastic` as it is without its model, made from its own text."""
    source = RSI.source
    begin, end = source.index("        self.prediction = ["), source.index("        self.bracket = [[]")
    gone = source[:begin] + source[end:]
    gone = gone.replace("        if not self.agrees(i, side):\n            return\n", "")
    assert "self.prediction[i]" in gone  # only in `agrees`, which nothing calls now
    assert "self.agrees" not in gone
    return strategy(gone, "rsi_before")


def test_without_a_model_the_example_trades_as_if_it_had_never_heard_of_one(tmp_path: Path) -> None:
    bars = bars_of("EUR_USD", "USD_JPY", count=1500)

    now, before = (run(loaded, bars, granularity="H1") for loaded in (RSI, without_the_model(tmp_path)))

    assert len(now.fills) > 50
    assert now.fills == before.fills
    np.testing.assert_array_equal(now.equity.nav, before.equity.nav)


@pytest.mark.parametrize(("edge", "sides"), [(0.5, {1, -1}), (2.0, set()), (1.0, set())])
def test_with_a_model_the_example_enters_when_it_agrees_by_more_than_the_edge(edge: float, sides: set[int]) -> None:
    """The model is for the side on which the RSI is, so it agrees with all entries; but it never says more than one."""
    bars = bars_of("EUR_USD", count=1500)

    class WithRsi:
        def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
            return np.where(features[:, 0] < 50, 1.0, -1.0)

    bare = run(RSI, bars, granularity="H1")
    result = run(RSI, bars, granularity="H1", model="m", edge=edge, models=ModelSet({"m": (info_of(), WithRsi())}))

    assert {int(math.copysign(1, trade.units)) for trade in result.trades} == sides
    assert result.fills == (bare.fills if sides else ())


def test_with_a_model_that_is_against_it_the_example_never_enters() -> None:
    class Against:
        def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
            return np.where(features[:, 0] < 50, -1.0, 1.0)

    result = run(RSI, bars_of("EUR_USD", count=1500), granularity="H1", model="m", models=ModelSet({"m": (info_of(), Against())}))

    assert result.fills == ()
