"""Several symbols, one decision: hold the strongest pairs long and the weakest short, and look again every month.

Strength is the return over the lookback divided by the volatility over it, so that a quiet pair can rank with a wild one.
"""

import backtrader as bt


class MomentumRotation(bt.Strategy):
    """Every `rebalance` bars holds the `top` strongest symbols long and as many of the weakest short, at equal risk."""

    params = dict(lookback=120, rebalance=20, top=2, risk=0.002)

    def __init__(self):
        self.momentum = [bt.ind.ROC(data.close, period=self.p.lookback) for data in self.datas]
        changes = [bt.ind.PctChange(data.close, period=1) for data in self.datas]
        self.volatility = [bt.ind.StdDev(change, period=self.p.lookback) for change in changes]

    def next(self):
        if (len(self) - self.p.lookback) % self.p.rebalance:
            return
        ranked = sorted(range(len(self.datas)), key=self.strength, reverse=True)
        top = min(self.p.top, len(ranked) // 2)
        wanted = {i: 1 for i in ranked[:top]} | {i: -1 for i in ranked[len(ranked) - top :]}
        for i, data in enumerate(self.datas):
            self.order_target_size(data, target=wanted.get(i, 0) * self.units(i))

    def strength(self, i):
        """Return over the lookback in units of its volatility; 0 where the price did not move at all."""
        volatility = self.volatility[i][0]
        return self.momentum[i][0] / volatility if volatility else 0.0

    def units(self, i):
        """As many units as move the account by `risk` on a day like the average one of the lookback."""
        data = self.datas[i]
        daily = self.volatility[i][0] * data.close[0] * data.conversion[0]
        return int(self.broker.getvalue() * self.p.risk / daily) if daily else 0
