"""Each bar is predicted by the model that was trained before it, and what that was worth is counted over those days alone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from runs import run, strategy
from samples import random_bars

from mbats.errors import DataError
from mbats.market import Granularity, bar_starts, parse_utc, to_us, trading_days
from mbats.ml.dataset import Samples
from mbats.ml.evaluation import Daily, Evaluation, compare, sharpe
from mbats.ml.out_of_sample import FoldModels, predict_edges
from mbats.ml.recipe import LabelSpec, Recipe, SplitSpec
from mbats.ml.walkforward import run_folds
from mbats.riskdb.records import RunResult

HOUR = np.timedelta64(1, "h")
BUYS_ONCE = """
import backtrader as bt

class BuysOnce(bt.Strategy):
    params = dict(bar=10, units=1000)

    def next(self):
        if len(self) == self.p.bar:
            (self.buy if self.p.units > 0 else self.sell)(size=abs(self.p.units))
"""


def samples(kind: str) -> Samples:
    generator = np.random.default_rng(3)
    time = np.datetime64("2024-01-01", "us") + np.arange(600) * HOUR
    features = generator.normal(size=(600, 2))
    value = features[:, 0] * 0.01 + generator.normal(size=600) * 0.005
    value = np.sign(value) if kind == "direction" else value
    return Samples(np.full(600, "EUR_USD"), time, features, ("a", "b"), value, time + 3 * HOUR, np.zeros(600))


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        ("forward_return", "sklearn.ensemble.RandomForestRegressor"),
        ("direction", "sklearn.ensemble.RandomForestClassifier"),
    ],
)
def test_a_bar_is_predicted_by_the_fold_that_was_trained_before_it(kind: str, estimator: str):
    recipe = Recipe(
        name="x",
        label=LabelSpec(kind=kind),
        splits=SplitSpec(folds=3),
        estimator=estimator,
        parameters={"n_estimators": 5, "max_depth": 3},
    )
    whole = samples(kind)
    folds = run_folds(whole, recipe)

    edges = FoldModels(recipe.kind, folds.folds).predict("EUR_USD", whole.time, whole.features)

    tested = np.isfinite(folds.prediction)
    assert 300 < tested.sum() < 400
    assert edges[tested].tobytes() == folds.prediction[tested].tobytes()
    assert np.isnan(edges[~tested]).all()
    assert len(np.unique(edges[tested])) > 10
    for result in folds.folds:
        assert (whole.end[result.fold.train] <= result.fold.test_from).all()
    later = FoldModels(recipe.kind, folds.folds).predict("EUR_USD", whole.time[-3:] + 100 * HOUR, whole.features[-3:])
    assert later.tobytes() == predict_edges(recipe.kind, folds.folds[-1].estimator, whole.features[-3:]).tobytes()


def bought(bar: int, units: int = 1000, cash: str = "100000") -> RunResult:
    times = bar_starts(Granularity.H1, parse_utc("2024-01-02"), parse_utc("2024-01-20"))
    bars = {"EUR_USD": random_bars(times)}
    return run(strategy(BUYS_ONCE), bars, granularity="H1", cash=cash, bar=bar, units=units)


def test_days_before_the_first_test_count_for_nothing():
    since = to_us(datetime(2024, 1, 10, 12, tzinfo=UTC))
    early, late = bought(10), bought(250)

    evaluation, daily = compare(late, early, since)

    assert (evaluation.since, evaluation.until, evaluation.days) == ("2024-01-10", "2024-01-19", 8)
    assert (evaluation.model.trades, evaluation.baseline.trades) == (1, 0)  # one was opened before
    assert evaluation.model.net_pnl == pytest.approx(float(late.trades[0].net_pnl))
    assert daily.model[0] == 0.0 and daily.model[-1] != 0.0
    assert (daily.baseline != 0.0).all()  # what it held goes on to rise and fall
    days = trading_days(late.equity.time)
    before = late.equity.nav[days < daily.day[0]][-1]
    assert np.prod(1 + daily.model) == pytest.approx(late.equity.nav[-1] / before, rel=1e-12)
    assert evaluation.model.sharpe == sharpe(daily.model)


def test_a_run_without_a_trade_has_days_and_no_ratio():
    silent, _ = compare(bought(10_000), bought(10_000), to_us(datetime(2024, 1, 10, tzinfo=UTC)))

    assert (silent.model.trades, silent.model.total_return, silent.model.sharpe) == (0, 0.0, None)
    assert silent.model.max_drawdown == 0.0


def test_no_day_out_of_sample_is_refused():
    with pytest.raises(DataError, match="There are 0 days out of sample from 2025-01-02 on"):
        compare(bought(10), bought(10), to_us(datetime(2025, 1, 2, tzinfo=UTC)))


def test_an_account_that_is_lost_has_lost_everything_once():
    lost = bought(250, units=-4_000_000, cash="1000")
    assert lost.equity.nav[-1] <= 0

    evaluation, daily = compare(lost, lost, to_us(datetime(2024, 1, 3, tzinfo=UTC)))

    assert (daily.model == -1.0).sum() == 1
    assert evaluation.model.total_return == -1.0
    assert evaluation.model.max_drawdown == 1.0
    assert np.isfinite(daily.model).all()


def test_days_and_figures_are_read_back_as_they_were_written():
    evaluation, daily = compare(bought(250), bought(10), to_us(datetime(2024, 1, 10, tzinfo=UTC)))

    again = Daily.from_parquet(daily.to_parquet())

    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert evaluation.to_json()["trades"] == evaluation.model.trades
    assert again.day.tolist() == daily.day.tolist()
    assert again.model.tobytes() == daily.model.tobytes()
    assert Evaluation.of({}) is None
    assert Evaluation.of({"out_of_sample": "{}"}) is None
    with pytest.raises(DataError, match=r"oos_daily.parquet cannot be read"):
        Daily.from_parquet(b"no parquet")


def test_money_is_in_the_currency_of_the_account():
    evaluation, _ = compare(bought(250), bought(250), to_us(datetime(2024, 1, 10, tzinfo=UTC)))

    assert evaluation.model.spread_cost > 0
    assert Decimal(evaluation.model.net_pnl).is_finite()
