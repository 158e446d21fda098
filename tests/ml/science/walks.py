"""Markets made up for the proofs: pure random walks, and walks with a signal of known size; features as strategies have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mbats.market import Bars, Floats
from mbats.ml.dataset import Samples, pool
from mbats.ml.labels import Labels, label
from mbats.ml.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[3] / "mlflow" / "recipes"
STEPS = 4  # prices within a bar, besides its open
HOUR = np.timedelta64(1, "h")
NAMES = ("rsi", "percK", "percD", "atr")


@dataclass(frozen=True)
class Features:
    times: np.ndarray
    matrix: np.ndarray


def bars_of(steps: Floats, spread: float = 0.0) -> Bars:
    """Bars of one hour from logarithmic steps (n, STEPS); each opens where the one before closed, at 1.0 in the beginning."""
    path = np.exp(np.cumsum(steps.ravel())).reshape(steps.shape)
    open_ = np.r_[1.0, path[:-1, -1]]
    high, low = np.maximum(path.max(axis=1), open_), np.minimum(path.min(axis=1), open_)
    times = np.datetime64("2020-01-06T00", "us") + np.arange(len(steps)) * HOUR
    return Bars.from_mid(times, open_, high, low, path[:, -1], np.ones(len(steps)), spread=spread)


def random_walk(count: int, seed: int, spread: float = 1e-4) -> Bars:
    """Independent steps without drift: nothing in it can be foreseen."""
    return bars_of(np.random.default_rng(seed).normal(0, 2e-4, (count, STEPS)), spread)


def oscillators(bars: Bars) -> Features:
    """RSI, stochastic and relative range, of past bars alone; NaN in the first twenty rows."""
    close = pd.Series(bars.mid_close)
    change = close.diff()
    up = change.clip(lower=0).ewm(alpha=1 / 14).mean()
    down = (-change.clip(upper=0)).ewm(alpha=1 / 14).mean()
    low, high = pd.Series(bars.mid_low).rolling(14).min(), pd.Series(bars.mid_high).rolling(14).max()
    percent_k = 100 * (close - low) / (high - low)
    span = pd.Series(bars.mid_high - bars.mid_low).ewm(alpha=1 / 14).mean() / close
    matrix = np.column_stack([100 * up / (up + down), percent_k, percent_k.rolling(3).mean(), span])
    matrix[:20] = np.nan
    return Features(bars.time, matrix)


def samples_of(bars: Bars, labels: Labels) -> Samples:
    return pool({"EUR_USD": oscillators(bars)}, {"EUR_USD": labels}, NAMES)


@dataclass(frozen=True)
class Planted:
    """A market whose drift is `slope` times a state that is known at each bar's close and fades by `memory` a bar.

    `expected` (n,) is the true mean of the log return from the open of t+1 to the open of t+1+h, given the state at t, and
    `deviation` its standard deviation then.
    """

    bars: Bars
    state: Floats
    slope: float
    memory: float
    noise: float

    def expected(self, horizon: int) -> Floats:
        return self.slope * self.state * (1 - self.memory**horizon) / (1 - self.memory)

    def deviation(self, horizon: int) -> float:
        """Of the noise of h bars, and of the states that are yet to come, each of which moves the bars after it."""
        left = (1 - self.memory ** np.arange(1, horizon)) / (1 - self.memory)  # what an innovation k bars before the end adds
        innovations = self.slope**2 * (1 - self.memory**2) * float(np.sum(left**2))
        return float(np.sqrt(horizon * self.noise**2 + innovations))

    def samples(self, recipe: Recipe) -> Samples:
        """The state among three columns of noise, as features."""
        others = np.random.default_rng(99).normal(size=(len(self.state), 3))
        table = Features(self.bars.time, np.column_stack([others[:, :2], self.state, others[:, 2]]))
        return pool({"EUR_USD": table}, {"EUR_USD": label(self.bars, recipe.label)}, ("a", "b", "state", "c"))


def planted(count: int, seed: int, *, slope: float, memory: float = 0.9, noise: float = 4e-4, spread: float = 0.0) -> Planted:
    """The state is an autoregression of variance one; bar t+1 drifts by slope · state(t)."""
    generator = np.random.default_rng(seed)
    state = np.empty(count)
    shocks = generator.normal(size=count) * np.sqrt(1 - memory**2)
    state[0] = generator.normal()
    for i in range(1, count):
        state[i] = memory * state[i - 1] + shocks[i]
    drift = slope * np.r_[0.0, state[:-1]]
    steps = generator.normal(0, noise / np.sqrt(STEPS), (count, STEPS)) + drift[:, None] / STEPS
    return Planted(bars_of(steps, spread), state, slope, memory, noise)


def shipped(name: str, folds: int) -> Recipe:
    """A recipe as it is shipped, but tried in so many folds."""
    recipe = load_recipe(name, RECIPES)
    return recipe.model_copy(update={"splits": recipe.splits.model_copy(update={"folds": folds})})
