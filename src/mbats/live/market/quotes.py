"""The newest price of each symbol, and what one needs to judge it: an earlier mid, the usual spread, the worth of currencies."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median

from mbats.live.gate import Quote
from mbats.live.gate.calendar import closed_until
from mbats.live.wire import LiveBar
from mbats.market import Bars, Granularity, bar_ends, to_datetime
from mbats.oanda.prices import Price

MINUTE = timedelta(minutes=1)
KEPT = 240  # prices of a symbol: OANDA's stream brings four a second, so this is a minute
FEW = 3  # fewer earlier prices than this are no middle
SPREADS = 50  # bars whose closing spread is remembered


@dataclass(slots=True)
class _Symbol:
    """What is remembered of one symbol. `earlier` are times and mids before the present one, oldest first."""

    quote: Quote | None = None
    earlier: deque[tuple[datetime, Decimal]] = field(default_factory=lambda: deque(maxlen=KEPT))
    spreads: deque[Decimal] = field(default_factory=lambda: deque(maxlen=KEPT))
    closes: deque[tuple[datetime, Decimal]] = field(default_factory=lambda: deque(maxlen=3))  # ends and mids of complete bars
    closing_spreads: deque[Decimal] = field(default_factory=lambda: deque(maxlen=SPREADS))
    judged: Quote | None = None  # the quote with what it is judged by; None when something has changed since


class QuoteBoard:
    """Prices in, quotes out, from any thread. `currency` is the account's."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self._symbols: dict[str, _Symbol] = {}
        self._worth: dict[str, tuple[datetime, Decimal]] = {}
        self._lock = threading.Lock()

    def observe(self, price: Price) -> None:
        """A price has come, streamed or asked for. One older than the newest is passed over."""
        with self._lock:
            self._observe(self._symbols.setdefault(price.instrument, _Symbol()), price)

    def observe_bar(self, symbol: str, completed_at: datetime, bar: LiveBar) -> None:
        """A bar is complete; `completed_at` (UTC) is its end."""
        close = tuple(Decimal(repr(side[3])) for side in (bar.bid, bar.ask))
        with self._lock:
            self._close(self._symbols.setdefault(symbol, _Symbol()), completed_at, close[0], close[1])

    def observe_history(self, symbol: str, granularity: Granularity, bars: Bars) -> None:
        """Complete bars from before, oldest first: the last ones say what spread is usual."""
        recent = bars[-SPREADS:]
        ends = bar_ends(granularity, recent.time) if len(recent) else recent.time
        with self._lock:
            known = self._symbols.setdefault(symbol, _Symbol())
            for end, bid, ask in zip(ends, recent.bid_close.tolist(), recent.ask_close.tolist(), strict=True):
                self._close(known, to_datetime(end), Decimal(repr(bid)), Decimal(repr(ask)))

    def observe_home(self, at: datetime, worth: Mapping[str, Decimal]) -> None:
        """The worth of one unit of these currencies in the account's, at mid, as the broker said at this time (UTC)."""
        with self._lock:
            for currency, value in worth.items():
                if currency not in self._worth or self._worth[currency][0] <= at:
                    self._worth[currency] = (at, value)

    def quote(self, symbol: str) -> Quote | None:
        """The newest price, None before the first. A side without an offer keeps its last price, which is not tradeable."""
        with self._lock:
            known = self._symbols.get(symbol)
            return None if known is None else self._judged(known)

    def quotes(self, symbols: Collection[str] | None = None) -> dict[str, Quote]:
        """Those of these symbols, or of all, of which there is a price."""
        with self._lock:
            found = {name: self._judged(known) for name, known in self._symbols.items() if symbols is None or name in symbols}
        return {name: quote for name, quote in found.items() if quote is not None}

    def home(self) -> dict[str, Decimal]:
        """The worth of one unit of each currency in the account's, at mid: by the price of a pair with it, or as the broker says,
        whichever is newer. A currency of which neither is known is left out."""
        with self._lock:
            found = dict(self._worth)
            for name, known in self._symbols.items():
                base, _, counter = name.partition("_")
                quote = known.quote
                if quote is None or not quote.sound or self.currency not in (base, counter):
                    continue
                currency, worth = (base, quote.mid) if counter == self.currency else (counter, 1 / quote.mid)
                if currency not in found or found[currency][0] <= quote.time:
                    found[currency] = (quote.time, worth)
        return {currency: worth for currency, (_, worth) in found.items()} | {self.currency: Decimal(1)}

    def _observe(self, known: _Symbol, price: Price) -> None:
        before = known.quote
        if before is not None and price.time < before.time:
            return
        bid = price.bid if price.bid is not None else None if before is None else before.bid
        ask = price.ask if price.ask is not None else None if before is None else before.ask
        if bid is None or ask is None:
            return  # half a price that never was whole
        whole = price.bid is not None and price.ask is not None
        if before is not None and before.sound and price.time > before.time:
            known.earlier.append((before.time, before.mid))
            known.spreads.append(before.spread)
        known.quote, known.judged = Quote(price.time, bid, ask, price.tradeable and whole), None

    def _close(self, known: _Symbol, end: datetime, bid: Decimal, ask: Decimal) -> None:
        if known.closes and end <= known.closes[-1][0]:
            return
        known.closes.append((end, (bid + ask) / 2))
        known.judged = None
        # Around 17:00 New York a spread is many times the usual one, which is where every daily bar closes.
        if closed_until(end) is None:
            known.closing_spreads.append(ask - bid)

    def _judged(self, known: _Symbol) -> Quote | None:
        quote = known.quote
        if quote is None:
            return None
        if known.judged is None:
            known.judged = replace(quote, reference=_reference(known, quote), usual_spread=_usual_spread(known))
        return known.judged


def _reference(known: _Symbol, quote: Quote) -> Decimal | None:
    """The middle of the minute before this price, or else the last close, whichever is newer.

    Nothing judges itself: a bar that ended after the price has it as its close.
    """
    recent = [mid for time, mid in known.earlier if time > quote.time - MINUTE]
    if len(recent) >= FEW:
        return median(recent)
    last = [mid for _, mid in known.earlier][-FEW:]
    close = next(((end, mid) for end, mid in reversed(known.closes) if end <= quote.time), None)
    if close is not None and (len(last) < FEW or known.earlier[-1][0] <= close[0]):
        return close[1]
    return median(last) if last else None


def _usual_spread(known: _Symbol) -> Decimal | None:
    """The middle of the spreads at which the last bars closed; before there are any, of the last prices."""
    spreads = known.closing_spreads or known.spreads
    return median(spreads) if spreads else None
