"""Bars as a Backtrader feed. The strategy sees mid prices as open, high, low and close; the broker deals on bid and ask."""

from __future__ import annotations

import array
from datetime import datetime
from typing import Any

import backtrader as bt
import numpy as np

from mbats.errors import NoBars
from mbats.market import Bars, Floats, Granularity, Instrument, Times, to_datetime

# Backtrader counts days since 0001-01-01 plus one; 1970-01-01 is day 719163 of that count.
_EPOCH_DAY = 719163
_DAY = 86_400_000_000  # microseconds
_NO_TICK = dict.fromkeys(("tick_open", "tick_high", "tick_low", "tick_close"))


def timeframe(granularity: Granularity) -> tuple[int, int]:
    """Backtrader's (timeframe, compression) for a granularity."""
    if granularity in (Granularity.D, Granularity.W, Granularity.M):
        return {"D": bt.TimeFrame.Days, "W": bt.TimeFrame.Weeks, "M": bt.TimeFrame.Months}[granularity.value], 1
    minutes = granularity.length.total_seconds() / 60
    if minutes < 1:
        return bt.TimeFrame.Seconds, int(minutes * 60)
    return bt.TimeFrame.Minutes, int(minutes)


def backtrader_days(times: Times) -> Floats:
    """UTC times as Backtrader's float days, equal to its own `date2num` to within its resolution."""
    micros = times.astype("datetime64[us]").astype(np.int64)
    days, rest = np.divmod(micros, _DAY)
    return np.asarray(days + _EPOCH_DAY + rest / _DAY, np.float64)


class BarFeed(bt.feed.DataBase):
    """One symbol's bars, handed to Backtrader as whole columns.

    Lines: `open high low close` are mid prices, `volume` counts prices, `bid_…`/`ask_…` are the two sides of the book, and
    `conversion` turns the symbol's quote currency into the account's at the bar's close (1.0 for EUR_USD and a USD
    account). A strategy that sizes a position by money multiplies by `conversion`.
    """

    lines: Any = (
        "bid_open",
        "bid_high",
        "bid_low",
        "bid_close",
        "ask_open",
        "ask_high",
        "ask_low",
        "ask_close",
        "conversion",
    )

    params: Any = (
        ("bars", None),  # Bars
        ("instrument", None),  # Instrument
        ("granularity", None),  # Granularity
        ("conversion_open", None),  # Floats: quote to account currency at each bar's open
        ("conversion_close", None),  # Floats: the same at each bar's close
    )

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.bars: Bars = self.p.bars
        self.instrument: Instrument = self.p.instrument
        self.conversion_open: Floats = self.p.conversion_open
        self._timeframe, self._compression = timeframe(self.p.granularity)

    def preload(self) -> None:
        """Put the columns straight into the lines; nothing is loaded bar by bar."""
        bars = self.bars
        columns: dict[str, Any] = {
            "datetime": backtrader_days(bars.time),
            "open": bars.mid_open,
            "high": bars.mid_high,
            "low": bars.mid_low,
            "close": bars.mid_close,
            "volume": bars.volume,
            "openinterest": np.zeros(len(bars)),
            "conversion": self.p.conversion_close,
        }
        for name in self.getlinealiases():
            column = columns[name] if name in columns else getattr(bars, name)
            line = getattr(self.lines, name)
            line.array = array.array("d")
            line.array.frombytes(np.ascontiguousarray(column, np.float64).tobytes())
        self.home()

    def _load(self) -> bool:
        return False

    @property
    def position_in_bars(self) -> int:
        """Which of its bars the feed stands on, from 0."""
        return len(self) - 1

    def time(self) -> datetime:
        """Start of the current bar, UTC."""
        return to_datetime(self.bars.time[len(self) - 1])

    def conversion_at(self, mid: float, currency: str) -> float:
        """What one unit of the quote currency is worth in `currency` while this symbol's mid is `mid`."""
        if self.instrument.quote == currency:
            return 1.0
        if self.instrument.base == currency:
            return 1.0 / mid
        return float(self.conversion_open[len(self) - 1])

    def __len__(self) -> int:
        """Bars so far. Asked a dozen times a bar, and through three objects in Backtrader's own way."""
        count: int = self.lines.lines[0].lencount
        return count

    def advance(self, size: int = 1, datamaster: Any = None, ticks: bool = True) -> None:
        """One bar on. Backtrader's own way asks each of the sixteen lines what it is, which takes a tenth of a run."""
        lines = self.lines.lines
        if size != 1 or datamaster is not None or lines[0].mode != lines[0].UnBounded:
            super().advance(size, datamaster, ticks)
            return
        if ticks:
            self._tick_nullify()
        for line in lines:
            line._idx += 1
            line.lencount += 1

    def _tick_nullify(self) -> None:
        """Forget which side was shown; the matching takes the lines then. Backtrader itself does this for all sixteen lines."""
        self.__dict__.update(_NO_TICK)

    def _tick_fill(self, force: bool = False) -> None:
        """Nothing: what Backtrader would fill in are the values of the lines, which it takes all the same."""

    def show_side(self, side: str) -> None:
        """Let Backtrader's matching see one side of the book: it prefers `tick_…` to the mid prices of the lines."""
        lines = self.lines
        self.tick_open = getattr(lines, f"{side}_open")[0]
        self.tick_high = getattr(lines, f"{side}_high")[0]
        self.tick_low = getattr(lines, f"{side}_low")[0]
        self.tick_close = getattr(lines, f"{side}_close")[0]


def conversion_columns(instrument: Instrument, bars: Bars, currency: str, others: dict[str, Bars]) -> tuple[Floats, Floats]:
    """What one unit of the quote currency is worth in the account's, at each bar's open and at its close.

    A pair that holds the account's currency converts by its own mid. Any other needs the bars of a pair that links the
    two; the quote used is the last one known at that moment. Raises NoBars when that pair, or its first bar, is absent.
    """
    if instrument.quote == currency:
        ones = np.ones(len(bars))
        return ones, ones
    if instrument.base == currency:
        return 1 / bars.mid_open, 1 / bars.mid_close
    straight, inverse = f"{instrument.quote}_{currency}", f"{currency}_{instrument.quote}"
    name = straight if straight in others else inverse
    if name not in others:
        raise NoBars(
            f"{instrument.name} earns {instrument.quote} and the account is in {currency}: bars of {straight} or {inverse} "
            "are needed over the same period to convert, and neither is stored. Add one to interested_tickers.xlsx."
        )
    link = others[name]
    at_open = np.searchsorted(link.time, bars.time, side="right") - 1
    if len(link) == 0 or at_open[0] < 0:
        raise NoBars(f"{name} converts the profit of {instrument.name}, but its first bar is after {bars.time[0]}Z.")
    same_bar = link.time[at_open] == bars.time
    open_quote = np.where(same_bar, link.mid_open[at_open], link.mid_close[at_open])
    close_quote = link.mid_close[at_open]
    return (open_quote, close_quote) if name == straight else (1 / open_quote, 1 / close_quote)


def count_moments(feeds: list[BarFeed]) -> int:
    """How many moments the feeds have between them: the number of bars that Cerebro will count."""
    if not feeds:
        raise NoBars("No symbol was given.")
    return len(np.unique(np.concatenate([feed.bars.time for feed in feeds])))
