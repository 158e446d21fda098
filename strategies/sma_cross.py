"""Two moving averages: long while the fast one is above the slow one, short while it is below.

The oldest trend rule there is, here as the plainest example of a strategy that is always in the market.
"""

import backtrader as bt


class SmaCross(bt.Strategy):
    """Follows the side on which a fast moving average crosses a slow one, always in the market."""

    params = dict(fast=20, slow=100, risk=0.01, atr_period=20)

    def __init__(self):
        self.cross = []
        self.atr = []
        for data in self.datas:
            fast = bt.ind.SMA(data.close, period=self.p.fast)
            slow = bt.ind.SMA(data.close, period=self.p.slow)
            self.cross.append(bt.ind.CrossOver(fast, slow))
            self.atr.append(bt.ind.ATR(data, period=self.p.atr_period))

    def next(self):
        for i, data in enumerate(self.datas):
            if self.cross[i][0] > 0:
                self.order_target_size(data, target=self.units(i))
            elif self.cross[i][0] < 0:
                self.order_target_size(data, target=-self.units(i))

    def units(self, i):
        """As many units as lose `risk` of the account, shared among the symbols, when the price moves by one ATR."""
        data = self.datas[i]
        money = self.broker.getvalue() * self.p.risk / len(self.datas)
        return int(money / (self.atr[i][0] * data.conversion[0]))
