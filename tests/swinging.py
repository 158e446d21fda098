"""A market that swings around its mean, and a strategy that trades nothing but what a model says of it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from mbats.market import Bars, Granularity, bar_starts

STRATEGY = '''"""Holds the side that the model is for."""

import backtrader as bt

from mbats.trading.model import predicted


class Follow(bt.Strategy):
    params = dict(model="", period=10, units=50000)

    def __init__(self):
        self.away = [data.close / bt.ind.SMA(data.close, period=self.p.period) - 1 for data in self.datas]
        self.range = [bt.ind.ATR(data, period=14) / data.close for data in self.datas]
        self.prediction = [
            predicted(self.p.model, data, away=self.away[i], range=self.range[i]) for i, data in enumerate(self.datas)
        ]

    def next(self):
        for i, data in enumerate(self.datas):
            side = (self.prediction[i][0] > 0) - (self.prediction[i][0] < 0)
            if side and side * self.getposition(data).size <= 0:
                self.order_target_size(data, target=side * self.p.units)
'''
RECIPE = """
estimator = "sklearn.ensemble.RandomForestRegressor"
[label]
horizon = 3
after_costs = false
[splits]
folds = 3
embargo = 3
[parameters]
n_estimators = 8
max_depth = 3
min_samples_leaf = 0.02
"""
JOB = """
[follow]
strategy = "follow"
symbols = ["EUR_USD"]
granularity = "H1"
recipe = "quick"
schedule = "weekly"
rule = "RULE"
"""
START = datetime(2023, 1, 2, tzinfo=UTC)
BARS = 3000


def swinging(count: int, *, seed: int, pull: float, size: float = 0.002, start: datetime = START) -> Bars:
    """Hours of which each is pulled back by `pull` of its distance to the mean; without any pull they are a random walk."""
    generator = np.random.default_rng(seed)
    times = bar_starts(Granularity.H1, start, datetime(2035, 1, 1, tzinfo=UTC))[:count]
    steps, place = np.empty(count), 0.0
    for number, step in enumerate(generator.normal(0, size, count)):
        place = steps[number] = (1 - pull) * place + step
    close = 1.1 * np.exp(steps)
    open_ = np.r_[1.1, close[:-1]]
    high, low = np.maximum(open_, close) * (1 + size / 5), np.minimum(open_, close) * (1 - size / 5)
    prices = (np.round(price, 5) for price in (open_, high, low, close))
    return Bars.from_mid(times, *prices, np.full(count, 50), spread=0.0001)
