"""Bars of one symbol in live trading: history as columns, then bar after bar, in the lines that a backtest has."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from mbats.errors import DataError
from mbats.live.wire import LiveBar
from mbats.market import to_datetime, to_us
from mbats.trading.feeds import BarFeed, backtrader_days


class LiveFeed(BarFeed):
    """A `BarFeed` that grows. `conversion_open` is not known live; the conversion at the last close stands for it."""

    def start(self) -> None:
        super().start()
        self._live_time: datetime | None = None

    def time(self) -> datetime:
        """Start of the current bar, UTC."""
        return self._live_time or to_datetime(self.bars.time[len(self) - 1])

    def append(self, bar: LiveBar) -> None:
        """Put one complete bar behind the others. Raises DataError when it is not after the last one."""
        if len(self) and bar.time <= self.time():
            raise DataError(
                f"{self._name}: the bar of {bar.time} came after that of {self.time()}; bars come in order, each once."
            )
        mid = [(bid + ask) / 2 for bid, ask in zip(bar.bid, bar.ask, strict=True)]
        values = {
            "datetime": float(backtrader_days(np.array([to_us(bar.time)]))[0]),
            "volume": float(bar.volume),
            "openinterest": 0.0,
            "conversion": bar.conversion,
        }
        for n, part in enumerate(("open", "high", "low", "close")):
            values |= {part: mid[n], f"bid_{part}": bar.bid[n], f"ask_{part}": bar.ask[n]}
        self.forward()
        for name in self.getlinealiases():
            getattr(self.lines, name)[0] = values[name]
        self._live_time = bar.time.astimezone(UTC)

    def conversion_at(self, mid: float, currency: str) -> float:
        """What one unit of the quote currency is worth in `currency` while this symbol's mid is `mid`."""
        if currency in (self.instrument.quote, self.instrument.base):
            return super().conversion_at(mid, currency)
        return float(self.lines.conversion[0])
