"""Which ticks can be skipped as far as margin goes: up to the next at which an account could enter or leave a margin call, or be
closed out.

Everything here is at mid and in floating point, with a tolerance wider than its error: the exact code decides. Each tick is
looked at with the prices that the exact code would see there: its own, and of other pairs the last one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mbats.market import Floats, Instrument
from mbats.simulator.core.account import Account
from mbats.simulator.core.valuation import CLOSEOUT_FACTOR, margin_rate, margin_units
from mbats.simulator.market import TickBatch
from mbats.simulator.quotes import Quote, conversion

CHUNK = 8192
RELATIVE, ABSOLUTE = 1e-9, 1e-3  # of the tolerance


class Unseen(Exception):
    """A price that counts may move without being in the batch: its pair is not watched, or cannot be traded now."""


class _Mids(NamedTuple):
    """In the place of a quote, so that `conversion` works on whole columns."""

    bid: Any
    ask: Any
    mid: Any


class MarginScan:
    """The skip over one batch, for all accounts. `quote` gives the last prices before its first row."""

    def __init__(
        self,
        batch: TickBatch,
        accounts: Sequence[Account],
        instruments: Mapping[str, Instrument],
        quote: Callable[[str], Quote | None],
    ) -> None:
        self._batch, self._accounts, self._instruments, self._quote = batch, accounts, instruments, quote
        self._mids: dict[str, Floats | None] = {}
        self._worths: dict[tuple[str, str], Floats | float] = {}

    def next(self, at: int, stop: int) -> int | None:
        """The first row in [at, stop) at which margin could matter to an account; None when there is none."""
        end = stop
        for account in self._accounts:
            if account.open:
                end = self._next_of(account, at, end)
        return end if end < stop else None

    def _next_of(self, account: Account, start: int, stop: int) -> int:
        while start < stop:
            rows = slice(start, min(start + CHUNK, stop))
            try:
                hit = self._matters(account, rows)
            except Unseen:
                return start
            if hit.any():
                return start + int(hit.argmax())
            start = rows.stop
        return stop

    def _matters(self, account: Account, rows: slice) -> Any:
        """Whether, in each of these rows, what has to be done about the account's margin differs from what was done."""
        used, nav = np.zeros(rows.stop - rows.start), np.full(rows.stop - rows.start, float(account.balance))
        for name in dict.fromkeys(trade.instrument for trade in account.open.values()):
            instrument, trades = self._instruments[name], account.open_in(name)
            mid = self._mid(name)
            if mid is None:
                raise Unseen
            net = float(sum(trade.units for trade in trades))
            cost = float(sum(trade.units * trade.price for trade in trades))
            margin = float(margin_units(account, *account.units(name)) * margin_rate(account, instrument))
            nav += (net * mid[rows] - cost) * self._worth(instrument.quote, account.config.currency, rows)
            used += margin * self._worth(instrument.base, account.config.currency, rows)
        tolerance = RELATIVE * (np.abs(nav) + used) + ABSOLUTE
        if account.margin_call_since is None:
            return used >= nav - tolerance
        return (used <= nav + tolerance) | (float(CLOSEOUT_FACTOR) * used >= nav - tolerance)

    def _worth(self, currency: str, home: str, rows: slice) -> Floats | float:
        """What a unit of this currency is worth at mid."""
        if (currency, home) not in self._worths:
            try:
                mid = conversion(currency, home, self._column).mid
            except LookupError:
                raise Unseen from None
            self._worths[currency, home] = mid if isinstance(mid, np.ndarray) else float(mid)
        worth = self._worths[currency, home]
        return worth[rows] if isinstance(worth, np.ndarray) else worth

    def _column(self, name: str) -> Any:
        mid = self._mid(name)
        return None if mid is None else _Mids(mid, mid, mid)

    def _mid(self, name: str) -> Floats | None:
        """The mid of a pair at each row of the batch; None for a pair without prices."""
        if name not in self._mids:
            self._mids[name] = self._seen(name)
        return self._mids[name]

    def _seen(self, name: str) -> Floats | None:
        before = self._quote(name) if name in self._instruments else None
        if name not in self._batch.names:
            if before is not None:
                raise Unseen
            return None
        if before is not None and not before.tradeable:
            raise Unseen
        own = self._batch.which == self._batch.names.index(name)
        if before is None and own.any():
            raise Unseen  # its first price ever comes in this batch
        if before is None:
            return None
        double = (self._batch.bid + self._batch.ask)[own] / 10.0 ** self._instruments[name].display_precision
        mids = np.concatenate(([float(before.mid)], double / 2))
        return np.asarray(mids[np.cumsum(own)])
