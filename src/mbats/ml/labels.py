"""What is to be learned of a bar: what happened to the price after it, and nothing else.

The decision is taken when bar t is over. It is filled at the open of bar t+1, and given up at the open of bar t+1+h, as the
backtest would do it. No price of bar t or before enters a label, so that a model cannot be taught the past; only the distance of
barriers is measured with the average true range at t, which whoever places them knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mbats.market import Bars, Floats, Times
from mbats.ml.recipe import LabelSpec

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Labels:
    """One label for each bar of a symbol, in the order of the bars.

    `time` (n,) is the bar's start, UTC. `value` (n,) is NaN where the bars that follow do not suffice. For a forward return it is
    a fraction before costs; for classes it is 1 (up), −1 (down) or 0 (neither). `end` (n,) is the moment at which the last price
    that the label looked at was known, NaT where there is no label. `cost` (n,) is what a position over this time costs by the
    spread, as a fraction: a long one earns value − cost, a short one −value − cost. It is zero when costs are not counted, and
    for classes, whose values count them already.
    """

    time: Times
    value: Floats
    end: Times
    cost: Floats

    def __len__(self) -> int:
        return len(self.time)


def label(bars: Bars, spec: LabelSpec) -> Labels:
    """The labels of all bars of one symbol.

    - `forward_return`: from the open of t+1 to the open of t+1+h, half of what a long position earns over a short one. Between
      mid prices this is the plain return.
    - `direction`: 1 where a long position over the same time would have earned something, −1 where a short one, else 0.
    - `triple_barrier` (López de Prado, Advances in Financial Machine Learning, 2018, chapter 3, with a trade on either side): 1
      where a long position reaches its target before its stop within bars t+1 … t+h, −1 where a short one does, the one that is
      first; else 0. A bar that reaches both stop and target counts as stopped, and one that reaches both targets as neither.

    After costs, positions open and close at the side of the spread that they would get; else at mid.
    """
    priced = bars if spec.after_costs else bars.without_spread()
    if spec.kind == "triple_barrier":
        width = average_true_range(bars, spec.atr_period)
        return barriers(priced, spec.horizon, stop=spec.stop_atr * width, target=spec.target_atr * width)
    value, cost, end = _over_the_horizon(priced, spec.horizon)
    if spec.kind == "direction":
        value, cost = np.where(np.isnan(value), np.nan, 1.0 * (value > cost) - 1.0 * (-value > cost)), np.zeros_like(cost)
    return Labels(bars.time, value, end, cost)


def _over_the_horizon(bars: Bars, horizon: int) -> tuple[Floats, Floats, Times]:
    """Return, cost and end, so that a long position earns return − cost and a short one −return − cost, exactly."""
    value, cost, end = _nothing(bars)
    count = max(len(bars) - 1 - horizon, 0)
    entry, exit_ = slice(1, 1 + count), slice(1 + horizon, 1 + horizon + count)
    long = bars.bid_open[exit_] / bars.ask_open[entry] - 1
    short = 1 - bars.ask_open[exit_] / bars.bid_open[entry]
    value[:count] = (long - short) / 2
    cost[:count] = -(long + short) / 2
    end[:count] = bars.time[exit_]
    return value, cost, end


def barriers(bars: Bars, horizon: int, *, stop: Floats, target: Floats) -> Labels:
    """Triple-barrier labels with stop and target at these distances (n,), in units of price; NaN gives no label."""
    value, cost, end = _nothing(bars)
    count = max(len(bars) - 1 - horizon, 0)
    stop, target = stop[:count], target[:count]
    buy, sell = bars.ask_open[1 : 1 + count], bars.bid_open[1 : 1 + count]
    long = np.isfinite(stop) & np.isfinite(target)  # whose position on this side is still open
    short = long.copy()
    open_ = long.copy()
    value[:count][open_] = 0.0
    end[:count][open_] = bars.time[1 + horizon :][open_]
    for k in range(1, horizon + 1):
        bar = slice(k, k + count)
        long &= bars.bid_low[bar] > buy - stop
        short &= bars.ask_high[bar] < sell + stop
        up = open_ & long & (bars.bid_high[bar] >= buy + target)
        down = open_ & short & (bars.ask_low[bar] <= sell - target)
        value[:count][up & ~down] = 1.0
        value[:count][down & ~up] = -1.0
        over = open_ & (up | down | ~(long | short))
        end[:count][over] = bars.time[k + 1 : k + 1 + count][over]  # a high or a low is known when its bar is over
        open_ &= ~over
    return Labels(bars.time, value, end, cost)


def average_true_range(bars: Bars, period: int) -> Floats:
    """Wilder's average true range of mid prices, in units of price, (n,); NaN before `period` bars."""
    before = np.r_[bars.mid_close[:1], bars.mid_close[:-1]] if len(bars) else bars.mid_close
    reach = np.maximum(bars.mid_high, before) - np.minimum(bars.mid_low, before)
    smooth = pd.Series(reach).ewm(alpha=1 / period, adjust=False, min_periods=period).mean()
    return np.asarray(smooth.to_numpy(), np.float64)


def _nothing(bars: Bars) -> tuple[Floats, Floats, Times]:
    count = len(bars)
    return np.full(count, np.nan), np.zeros(count), np.full(count, np.datetime64("NaT"), "datetime64[us]")
