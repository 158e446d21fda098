"""Template: copy this file to strategies/<name>.py, and `mbats backtest <name>` runs it.

Everything a strategy needs is on `self.datas`: one feed for each symbol, whose open, high, low and close are mid prices.
The broker buys at ask and sells at bid. A strategy has no SQL, no HTTP and no print; the same file trades live.
One that asks a model names its features in one line more: `rsi_stochastic.py` shows it.
"""

import backtrader as bt


class Template(bt.Strategy):
    """Buys above its moving average and leaves below it, one position for each symbol."""

    params = dict(period=20, units=1000)

    def __init__(self):
        # Indicators are made once for each symbol and used with the same index: never the first symbol's for all.
        self.average = [bt.ind.SMA(data.close, period=self.p.period) for data in self.datas]

    def next(self):
        for data, average in zip(self.datas, self.average, strict=True):
            position = self.getposition(data)
            if not position and data.close[0] > average[0]:
                self.buy(data=data, size=self.p.units)
            elif position and data.close[0] < average[0]:
                self.close(data=data)
