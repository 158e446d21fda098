"""A model in the strategy's process: asked bar by bar, in time or not at all, and every answer told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live.model.registering import described, in_folder, with_pins
from live.process.trader import InProcess, adopt, begin, child, live_bar, money, past
from pydantic import TypeAdapter
from runs import data_of, run, specification, strategy
from samples import random_bars

from mbats.live.deployment import Deployment
from mbats.live.models import Pin
from mbats.live.wire import Begin, Broken, Decided, Moment, Ready, Submit
from mbats.market import Bars, Floats, Granularity, Times, bar_ends, bar_starts, to_datetime
from mbats.ml.features import collect_features
from mbats.trading.model import Floats2D, ModelSet

SOURCE = """
import backtrader as bt
from mbats.trading.model import predicted


class InTest(bt.Strategy):
    params = dict(model="", period=5)

    def __init__(self):
        self.mean = [bt.ind.EMA(data.close, period=self.p.period) for data in self.datas]
        self.range = [bt.ind.ATR(data, period=self.p.period) for data in self.datas]
        self.prediction = [
            predicted(self.p.model, data, gap=data.close / self.mean[i] - 1.0, range=self.range[i] / data.close)
            for i, data in enumerate(self.datas)
        ]

    def next(self):
        for i, data in enumerate(self.datas):
            if self.prediction[i][0] > 0.0:
                self.buy(data, size=1)
            elif self.prediction[i][0] < 0.0:
                self.sell(data, size=1)
"""
FEATURES, WEIGHTS = ("gap", "range"), (1.0, 0.01)
SYMBOLS = ("EUR_USD", "GBP_USD")
START = np.datetime64("2024-03-05T12:00", "us")


def bars_of(count: int) -> dict[str, Bars]:
    start = to_datetime(START)
    times = bar_starts(Granularity.M1, start, start + count * Granularity.M1.length)
    return {symbol: random_bars(times, seed) for seed, symbol in enumerate(SYMBOLS, start=3)}


def first(pins: Iterable[Pin], *, shadow: Pin | None = None, seconds: float = 1.0, **more: Any) -> Begin:
    """The first message to a deployment with these models."""
    plain = begin(SOURCE, **more)
    deployment = with_pins(TypeAdapter(Deployment).validate_python(plain.deployment), *pins, shadow=shadow, seconds=seconds)
    return replace(plain, deployment=TypeAdapter(Deployment).dump_python(deployment, mode="json"))


def moments(bars: dict[str, Bars], start: int) -> list[Moment]:
    """From this bar on, all symbols together."""
    ends = bar_ends(Granularity.M1, next(iter(bars.values())).time)
    return [
        Moment(to_datetime(ends[i]), {symbol: live_bar(each, i) for symbol, each in bars.items()}, money())
        for i in range(start, len(ends))
    ]


def decided(said: list[Any], role: str = "model") -> list[Decided]:
    return [each for each in said if isinstance(each, Decided) and each.role == role]


class Remembers:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Any], tuple[float, ...]] = {}

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        self.rows |= {(symbol, to_datetime(moment)): tuple(row) for moment, row in zip(times, features.tolist(), strict=True)}
        return features[:, 0] * WEIGHTS[0] + features[:, 1] * WEIGHTS[1]


def test_live_features_and_predictions_are_those_of_training_and_of_a_backtest_to_the_bit(tmp_path: Path) -> None:
    bars, loaded = bars_of(120), strategy(SOURCE)
    trained = collect_features(loaded, specification(loaded, bars, granularity="M1"), data_of(bars))
    backtest = Remembers()
    run(loaded, bars, granularity="M1", model="m/1", models=ModelSet({"m/1": (described("m", FEATURES), backtest)}))
    pin = in_folder(tmp_path, FEATURES, WEIGHTS)

    live = InProcess()
    pasts = [past(symbol, each[:60]) for symbol, each in bars.items()]
    live.play(first([pin], symbols=SYMBOLS, model="m/1"), pasts, adopt(), moments(bars, 60))

    told = decided(live.said)
    assert [(each.symbol, each.time) for each in told] == [
        (s, to_datetime(bars[s].time[i])) for i in range(60, 120) for s in SYMBOLS
    ]
    for each in told:
        row = trained[each.symbol].matrix[
            np.searchsorted(trained[each.symbol].times, np.datetime64(each.time.replace(tzinfo=None)))
        ]
        assert each.features == tuple(row) == backtest.rows[each.symbol, each.time]
        assert (each.model, each.error, each.prediction) == ("m/1", None, row[0] * WEIGHTS[0] + row[1] * WEIGHTS[1])


def test_orders_follow_the_predictions_and_each_is_told_before_them(tmp_path: Path) -> None:
    bars = bars_of(80)
    live = InProcess()
    live.play(
        first([in_folder(tmp_path, FEATURES, WEIGHTS)], symbols=SYMBOLS, model="m/1"),
        [past(symbol, each[:60]) for symbol, each in bars.items()],
        adopt(),
        moments(bars, 60),
    )

    sides = [np.sign(each.prediction) for each in decided(live.said)]
    assert [int(each.units) for each in live.submitted] == sides
    kinds = [type(each) for each in live.said if isinstance(each, Decided | Submit)]
    assert kinds == [Decided, Decided, Submit, Submit] * 20


def test_what_a_model_says_of_history_is_no_decision(tmp_path: Path) -> None:
    """A symbol with too few bars for the features has all of the history gone through bar by bar."""
    bars = bars_of(80)
    live = InProcess()
    live.play(
        first([in_folder(tmp_path, FEATURES, WEIGHTS)], symbols=SYMBOLS, model="m/1"),
        [past("EUR_USD", bars["EUR_USD"][:60]), past("GBP_USD", bars["GBP_USD"][58:60])],
        adopt(),
        moments(bars, 60),
    )

    told = decided(live.said)
    assert {each.symbol for each in told} == set(SYMBOLS)
    assert [each.time for each in told if each.symbol == "EUR_USD"] == [to_datetime(t) for t in bars["EUR_USD"].time[60:]]
    assert min(each.time for each in told if each.symbol == "GBP_USD") > to_datetime(bars["GBP_USD"].time[60])


def test_a_late_model_holds_blocks_nobody_and_answers_again(tmp_path: Path) -> None:
    mood, bars = tmp_path / "mood", bars_of(80)
    mood.write_text("")
    pin = in_folder(tmp_path, FEATURES, WEIGHTS, mood=str(mood))
    bar = moments(bars, 60)
    with child() as process:
        started = first([pin], symbols=SYMBOLS, model="m/1", seconds=0.2)
        assert process.start(started, [past(symbol, each[:60]) for symbol, each in bars.items()], adopt()) == Ready(120)
        well = process.moment(bar[0])
        mood.write_text("sleep 1.5")
        late = process.moment(bar[1])
        mood.write_text("")
        held = process.moment(bar[2])
        time.sleep(2.0)  # until the answer that came too late is there
        again = process.moment(bar[3])

    assert [type(each) for each in well] == [type(each) for each in again] == [Decided, Decided, Submit, Submit]
    assert [(each.prediction, each.error) for each in late] == [
        (None, "it did not answer within 0.2 s"),
        (None, f"it is still at work on the bar of EUR_USD at {bars['EUR_USD'].time[61]} UTC, for which it had 0.2 s"),
    ]
    assert [(type(each), each.prediction) for each in held] == [(Decided, None)] * 2
    assert all(each.error is None for each in decided(again))


def test_a_failing_model_holds_and_the_next_bar_asks_again(tmp_path: Path) -> None:
    mood, bars = tmp_path / "mood", bars_of(64)
    mood.write_text("")
    pin = in_folder(tmp_path, FEATURES, WEIGHTS, mood=str(mood))
    bar = moments(bars, 60)
    live = InProcess()

    def script() -> Any:
        yield bar[0]
        mood.write_text("fail")
        yield bar[1]
        mood.write_text("")
        yield bar[2]

    live.play(
        first([pin], symbols=SYMBOLS, model="m/1"), [past(symbol, each[:60]) for symbol, each in bars.items()], adopt(), script()
    )

    errors = [each.error for each in decided(live.said)]
    assert errors == [None, None, *["RuntimeError: in a bad mood"] * 2, None, None]
    assert [each.prediction is None for each in decided(live.said)] == [False, False, True, True, False, False]
    assert len(live.submitted) == 4


@pytest.mark.parametrize("model", ["", "m/1"])
def test_a_shadow_is_asked_at_each_bar_and_never_obeyed(tmp_path: Path, model: str) -> None:
    bars = bars_of(70)
    pins = [in_folder(tmp_path, FEATURES, WEIGHTS)] if model else []
    shadow = in_folder(tmp_path, FEATURES, (-1.0, -0.01), version=2)
    with child() as process:
        process.start(
            first(pins, shadow=shadow, symbols=SYMBOLS, model=model),
            [past(symbol, each[:60]) for symbol, each in bars.items()],
            adopt(),
        )
        for each in moments(bars, 60):
            process.moment(each)
        while len(decided(process.said, "shadow")) < 20:
            process.until(Decided)

    told = {(each.symbol, each.time): each for each in decided(process.said, "shadow")}
    assert len(told) == 20 and {each.model for each in told.values()} == {"m/2"}
    assert all(each.error is None and each.prediction is not None for each in told.values())
    sides = [np.sign(each.prediction) for each in decided(process.said)]
    assert [int(each.units) for each in process.said if isinstance(each, Submit)] == sides
    for each in decided(process.said):
        other = told[each.symbol, each.time]
        assert other.features == each.features and other.prediction == -each.prediction


def test_a_shadow_that_sleeps_delays_no_bar(tmp_path: Path) -> None:
    mood, bars = tmp_path / "mood", bars_of(70)
    mood.write_text("sleep 30")
    shadow = in_folder(tmp_path, FEATURES, WEIGHTS, mood=str(mood))
    live = InProcess()
    live.play(
        first([], shadow=shadow, symbols=SYMBOLS), [past(s, each[:60]) for s, each in bars.items()], adopt(), moments(bars, 60)
    )

    assert live.said[-1].time == moments(bars, 60)[-1].time


def test_what_cannot_be_used_ends_the_process_before_it_says_that_it_is_ready(tmp_path: Path) -> None:
    bars = {"EUR_USD": bars_of(20)["EUR_USD"]}
    pin = in_folder(tmp_path, FEATURES, WEIGHTS)
    other = in_folder(tmp_path, ("rsi",), (1.0,), name="other")
    changed = replace(pin, info=replace(pin.info, digest="0" * 64))
    for started, words in (
        (first([], model="m/1"), "'a-deployment' needs the model m/1, which was not looked up when it was started."),
        (first([changed], model="m/1"), "holds model m/1"),
        (first([replace(pin, path=tmp_path / "gone")], model="m/1"), f"No model can be read from {tmp_path / 'gone'}"),
        (
            first([replace(other, reference="m/1")], model="m/1"),
            "was trained on the features rsi; the strategy declares gap, range",
        ),
        (first([], shadow=other), "The shadow other/1 was trained on the features rsi; the strategy declares gap, range."),
    ):
        with child() as process:
            answer = process.start(started, [past("EUR_USD", bars["EUR_USD"])], adopt())
            assert isinstance(answer, Broken) and words in answer.message, answer


def test_a_strategy_without_a_model_says_nothing_of_models() -> None:
    live = InProcess()
    bars = {"EUR_USD": bars_of(70)["EUR_USD"]}
    live.play(begin(SOURCE), [past("EUR_USD", bars["EUR_USD"][:60])], adopt(), moments(bars, 60))

    assert decided(live.said) == [] and live.submitted == []
