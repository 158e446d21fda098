"""The loop of a live run: history by columns, as a backtest computes it, then one message of the trader after the other.

A strategy decides on live bars alone. While history is read it gets `prenext`, as it does in a backtest before its indicators
are ready, and `nextstart` comes with the first live bar on which they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import backtrader as bt
import numpy as np

from mbats.errors import DataError, MbatsError
from mbats.live.process.broker import LiveBroker
from mbats.live.process.feed import LiveFeed
from mbats.live.process.shadow import Shadowing
from mbats.live.wire import Done, Moment, NewShadow, OrderEvent, Quit, Ready
from mbats.trading.engine import RunCerebro


class LiveCerebro(RunCerebro):
    """Cerebro that reads its feeds to their end, then lives from `receive`: a function that waits for the next message."""

    params: Any = (("receive", None), ("send", None))
    shadowing: Shadowing | None = None  # asked about the bars that the strategy has decided on

    def _runonce(self, runstrats: list[Any]) -> None:
        """Backtrader calls this where every indicator can be computed by columns."""
        (strategy,) = runstrats
        needed = max(strategy._minperiods, default=1)
        if min(feed.buflen() for feed in self.datas) < needed:
            self._runnext(runstrats)
            return
        strategy._once()
        strategy.reset()
        if type(strategy).prenext is not bt.Strategy.prenext:
            for moment in self._past():
                for indicator in _due(strategy):
                    indicator.advance()
                strategy.forward()
                strategy.lines.datetime[0] = moment
                strategy.prenext()
        else:
            self._skip_to_the_end(strategy)
        _move_to_end(strategy)
        self._live(strategy)

    def _runnext(self, runstrats: list[Any]) -> None:
        """The same bar by bar, where an indicator cannot be computed by columns or has too few bars for it."""
        (strategy,) = runstrats
        told, self.models.on_decision = self.models.on_decision, None  # what a model says of history is no decision
        for _ in self._past():
            _compute(strategy)
            strategy.prenext()
        self.models.on_decision = told
        self._live(strategy)

    def _past(self) -> Iterator[float]:
        """Move the feeds through their history, one moment after the other; symbols without a bar stay where they are."""
        while True:
            starts = [feed.advance_peek() for feed in self.datas]
            moment = min(starts)
            if moment == float("inf"):
                return
            for feed, start in zip(self.datas, starts, strict=True):
                if start == moment:
                    feed.advance()
            yield moment

    def _skip_to_the_end(self, strategy: Any) -> None:
        moments = np.unique(np.concatenate([np.frombuffer(feed.lines.datetime.array, np.float64) for feed in self.datas]))
        strategy.forward(size=len(moments))
        strategy.lines.datetime.array[:] = type(strategy.lines.datetime.array)("d", moments.tobytes())
        for feed in self.datas:
            feed.advance(size=feed.buflen())

    # --- live -----------------------------------------------------------------------------------------------------

    def _live(self, strategy: Any) -> None:
        broker: LiveBroker = self._broker
        self._deciding = False
        if self.shadowing is not None:
            self.shadowing.begin(self.predictions)
        self.p.send(Ready(sum(len(feed) for feed in self.datas)))
        orders = broker.adopt(strategy, max((feed.time() for feed in self.datas if len(feed)), default=None))
        broker._get_value()
        for feed in self.datas:
            feed.put_notification(feed.LIVE)
        self._datanotify()
        self._brokernotify()
        if hasattr(strategy, "adopt"):
            strategy.adopt(orders)
            self._brokernotify()
        while not self._event_stop:
            message = self.p.receive()
            if isinstance(message, Moment):
                self._moment(strategy, message)
                if self.shadowing is not None:
                    self.shadowing.look(message.bars)
            elif isinstance(message, OrderEvent):
                self._news(strategy, message)
            elif isinstance(message, NewShadow):
                if self.shadowing is not None:
                    self.shadowing.renew(message)
            elif isinstance(message, Quit):
                return
            else:
                raise DataError(f"Expected bars, news of an order or the end, but got {type(message).__name__}.")
        raise MbatsError("The strategy ended its own run (runstop); live, only the trader ends one.")

    def _news(self, strategy: Any, event: OrderEvent) -> None:
        self._broker.hear(event, strategy)
        self._brokernotify()
        if event.ref is None:
            what = {"symbol": event.symbol, "units": event.units, "price": event.price, "reason": event.reason}
            strategy.notify_store("position changed outside", **what)
            self._brokernotify()

    def _moment(self, strategy: Any, moment: Moment) -> None:
        for symbol, bar in moment.bars.items():
            feed: LiveFeed | None = self.datasbyname.get(symbol)
            if feed is None:
                raise DataError(
                    f"A bar of {symbol}, which this deployment does not trade; it trades {', '.join(self.datasbyname)}."
                )
            feed.append(bar)
            feed._tick_fill(force=True)
        if moment.bars:
            self._broker.begin_bar(max(bar.time for bar in moment.bars.values()), moment.money)
            now = max(self.datasbyname[symbol].lines.datetime[0] for symbol in moment.bars)
            self._check_timers([strategy], now, cheat=True)
            self._check_timers([strategy], now, cheat=False)
            self._step(strategy)
            self._brokernotify()
        self.p.send(Done(moment.time))

    def _step(self, strategy: Any) -> None:
        _compute(strategy)
        strategy._notify()
        missing = strategy._getminperstatus()
        if missing > 0:
            strategy.prenext()
        elif not self._deciding:
            self._deciding = True
            strategy.nextstart()
        else:
            strategy.next()
        strategy._next_analyzers(missing)
        strategy._next_observers(missing)
        strategy.clear()
        strategy._orders.clear()  # Backtrader keeps every order for observers, of which there are none


def _due(strategy: Any) -> Iterator[Any]:
    """The indicators whose source has a new value, found as one goes: the source may be the indicator before.

    The others must not be computed again: one may remember its calls.
    """
    for each in strategy._lineiterators[strategy.IndType]:
        if len(each._clock) > len(each):
            yield each


def _compute(strategy: Any) -> None:
    strategy._clk_update()
    for indicator in _due(strategy):
        indicator._next()


def _move_to_end(iterator: Any) -> None:
    """Let every indicator, and those inside it, stand on the last of the values that it has computed by columns."""
    for each in iterator._lineiterators[iterator.IndType]:
        for line in each.lines:
            line.home()
            line.advance(size=line.buflen())
        if hasattr(each, "_lineiterators"):
            _move_to_end(each)
