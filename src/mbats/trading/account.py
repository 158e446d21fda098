"""An FX margin account for Backtrader: what it is worth, what it may hold, and what it was at every bar.

For a strategy, cash is the margin that is left and value is the NAV, in backtest and live alike.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import backtrader as bt

from mbats.market import to_us
from mbats.trading.costs import Slippage, financing_amount, margin_used
from mbats.trading.feeds import BarFeed
from mbats.trading.ledger import Ledger

NO_SLIPPAGE = Slippage()


@dataclass(frozen=True, slots=True)
class AccountRules:
    """How the account trades: currency, cash, costs, and whose rules of bracket activation (`broker` or `backtrader`)."""

    cash: Decimal
    currency: str = "USD"
    slippage: Slippage = NO_SLIPPAGE
    financing: bool = True
    margin: bool = True
    fills: str = "broker"


class FxCommission(bt.CommInfoBase):
    """Tells Backtrader's trades what a price difference is worth in the account's currency. There is no commission."""

    params: Any = (("stocklike", False), ("margin", 1.0), ("feed", None), ("currency", "USD"))

    def getcommission(self, size: float, price: float) -> float:
        return 0.0

    def confirmexec(self, size: float, price: float) -> float:
        return 0.0

    def profitandloss(self, size: float, price: float, newprice: float) -> float:
        return size * (newprice - price) * self.p.feed.conversion_at(newprice, self.p.currency)

    def cashadjust(self, size: float, price: float, newprice: float) -> float:
        return 0.0  # the ledger books profit when it is realised

    def get_credit_interest(self, data: Any, pos: Any, dt: Any) -> float:
        return 0.0  # financing is booked at 17:00 New York instead

    def get_margin(self, price: float) -> float:
        return margin_used(self.p.feed.instrument, 1.0, price, self.p.feed.conversion_at(price, self.p.currency))


class MarginAccount(bt.brokers.BackBroker):
    """The money side of the broker. `ledger` holds the books, `times` and `equity` the account at each bar's close."""

    params: Any = (("rules", None), ("clock", None), ("progress", None))

    def __init__(self, **_: Any) -> None:
        self.rules: AccountRules = self.p.rules
        self._feeds: list[BarFeed] = []
        super().__init__()

    def init(self) -> None:
        super().init()
        self.ledger = Ledger(self.rules.cash)
        self.startingcash = self.cash = self._value = float(self.rules.cash)
        self._margin = 0.0
        self.times: array[int] = array("q")
        self.equity: dict[str, array[float]] = {name: array("d") for name in ("balance", "nav", "margin_used")}
        self._lengths = [0] * len(self._feeds)
        self._fresh: set[int] = set()
        self._now: datetime | None = None

    def attach(self, feed: BarFeed) -> None:
        """Make a symbol known; every feed of the run is attached once, before the run starts."""
        self.addcommissioninfo(FxCommission(feed=feed, currency=self.rules.currency), name=feed._name)
        self._feeds.append(feed)

    def get_cash(self) -> float:
        """Margin available: NAV less margin used, never below zero."""
        return max(0.0, self._value - self._margin)

    getcash = get_cash

    def _get_value(self, datas: Any = None, lever: bool = False) -> float:
        """NAV at the last closes, each position valued at the price at which it would close. For `datas`, their margin."""
        if datas is not None:
            return sum(self._margin_of(feed, self.positions[feed].size, feed.lines.close[0]) for feed in datas)
        nav, margin = float(self.ledger.balance), 0.0
        for feed in self._feeds:
            position = self.positions.get(feed)
            if position:
                quote = feed.lines.bid_close[0] if position.size > 0 else feed.lines.ask_close[0]
                nav += position.size * (quote - position.price) * feed.lines.conversion[0]
                margin += self._margin_of(feed, position.size, feed.lines.close[0])
        self._value = self._valuelever = self._fundval = nav
        self._valuemkt = self._valuemktlever = self._margin = margin
        return nav

    def _margin_of(self, feed: BarFeed, units: float, mid: float) -> float:
        return margin_used(feed.instrument, units, mid, feed.conversion_at(mid, self.rules.currency))

    def _affords(self, feed: BarFeed, units: float, mid: float) -> bool:
        """Whether NAV would cover the margin with `units` of this symbol, everything at the quotes of this moment."""
        nav, used = float(self.ledger.balance), self._margin_of(feed, units, mid)
        for other in self._feeds:
            position = self.positions.get(other)
            if not position:
                continue
            now = mid if other is feed else other.lines.open[0] if id(other) in self._fresh else other.lines.close[0]
            nav += position.size * (now - position.price) * other.conversion_at(now, self.rules.currency)
            used += 0.0 if other is feed else self._margin_of(other, position.size, now)
        return used <= nav

    def _begin_bar(self) -> None:
        """Note which symbols have a new bar, and charge the financing of every 17:00 New York that has passed."""
        lengths = [len(feed) for feed in self._feeds]
        fresh = [feed for feed, now, before in zip(self._feeds, lengths, self._lengths, strict=True) if now > before]
        self._lengths = lengths
        self._fresh = {id(feed) for feed in fresh}
        if fresh:
            self._now = fresh[0].time()
            if self.rules.financing:
                self._charge_financing()

    def _charge_financing(self) -> None:
        for _, weekday in self.p.clock.passed(self._now):
            for feed in self._feeds:
                position = self.positions.get(feed)
                days = feed.instrument.financing_days[weekday]
                if position and days:
                    before = -1 if id(feed) in self._fresh else 0  # the last bar before 17:00
                    amount = financing_amount(feed.instrument, position.size, feed.lines.close[before], days)
                    self.ledger.charge_financing(feed._name, amount * feed.lines.conversion[before])
        self.cash = float(self.ledger.balance)

    def _record(self) -> None:
        assert self._now is not None
        self.times.append(int(to_us(self._now).astype("int64")))
        self.equity["balance"].append(float(self.ledger.balance))
        self.equity["nav"].append(self._value)
        self.equity["margin_used"].append(self._margin)
        if self.p.progress is not None:
            self.p.progress(len(self.times))
