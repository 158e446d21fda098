"""The 2020 strategy: RSI and stochastic agree that a move is overdone; a bracket of ATR size takes the other side.

Each symbol has its own indicators and its own ATR. The entry is a market order whose stop and target go with it, so that no
position is ever without its stop.

With a model (`model="rsi_stochastic@champion"`) an entry also needs its agreement; `mbats train rsi_stochastic` makes one from
the features that are named below.
"""

import backtrader as bt

from mbats.trading.model import predicted


class RsiStochastic(bt.Strategy):
    """Buys when RSI and stochastic are both low, sells when both are high; stop and target lie a few ATR away."""

    params = dict(
        model="",  # which one, such as rsi_stochastic@champion; none when empty
        edge=0.0,  # an entry needs a prediction for its side of more than this
        rsi_period=14,
        stochastic_period=14,
        atr_period=14,
        low=30.0,
        high=70.0,
        stop_atr=2.0,
        target_atr=3.0,
        risk=0.01,
    )

    def __init__(self):
        # The safe forms give 50 and 0 where a window without any move would divide by zero.
        self.rsi = [bt.ind.RSI_Safe(data.close, period=self.p.rsi_period) for data in self.datas]
        self.stochastic = [bt.ind.Stochastic(data, period=self.p.stochastic_period, safediv=True) for data in self.datas]
        self.atr = [bt.ind.ATR(data, period=self.p.atr_period) for data in self.datas]
        self.prediction = [
            predicted(
                self.p.model,
                data,
                rsi=self.rsi[i],
                percK=self.stochastic[i].percK,
                percD=self.stochastic[i].percD,
                atr=self.atr[i] / data.close,
            )
            for i, data in enumerate(self.datas)
        ]
        self.bracket = [[] for _ in self.datas]

    def next(self):
        for i, data in enumerate(self.datas):
            if self.getposition(data) or any(order.alive() for order in self.bracket[i]):
                continue
            if self.rsi[i][0] < self.p.low and self.stochastic[i].percK[0] < self.p.low:
                self.enter(i, data, self.buy_bracket, side=1)
            elif self.rsi[i][0] > self.p.high and self.stochastic[i].percK[0] > self.p.high:
                self.enter(i, data, self.sell_bracket, side=-1)

    def agrees(self, i, side):
        """Whether the model is for this side; without a model always. A prediction that is missing (NaN) agrees to nothing."""
        return not self.p.model or side * self.prediction[i][0] > self.p.edge

    def enter(self, i, data, bracket, side):
        """A market entry that risks `risk` of the account between here and its stop."""
        if not self.agrees(i, side):
            return
        stop = self.p.stop_atr * self.atr[i][0]
        target = self.p.target_atr * self.atr[i][0]
        if stop <= 0:
            return
        units = int(self.broker.getvalue() * self.p.risk / (stop * data.conversion[0]))
        if units > 0:
            self.bracket[i] = bracket(
                data=data,
                size=units,
                exectype=bt.Order.Market,
                stopprice=data.close[0] - side * stop,
                limitprice=data.close[0] + side * target,
            )
