"""Which ticks can be skipped: the next one at which an order could be set off, or an account's margin could run out.

It may name a tick at which nothing happens, but never passes over one at which something does: all conditions are those of the
exact code, or looser. Orders are grouped by the side that they look at and the way the price has to go, so that of a hundred
orders only the nearest of each group is compared, and prices are compared as whole points, many at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbats.market import Instrument
from mbats.simulator.core.account import Account
from mbats.simulator.core.margin_scan import MarginScan
from mbats.simulator.core.triggers import STOPS, is_buy
from mbats.simulator.core.values import Order, OrderState, OrderType
from mbats.simulator.market import TickBatch
from mbats.simulator.quotes import Quote

CHUNK, LARGEST_CHUNK = 512, 32_768

Points = NDArray[np.int64]


class Level(NamedTuple):
    """Something happens when the price of this side, in half points, is at or above (`rising`) or at or below `limit`."""

    side: str
    rising: bool
    limit: int


class Trail:
    """A trailing stop, in half points. Where it is reached depends on prices alone, so that is looked for only once."""

    def __init__(self, order: Order, account: Account, lane: Lane, row: int) -> None:
        assert order.trade_id is not None and order.distance is not None and order.trail is not None
        self._prices = lane.prices(side_of(account, order))
        self._rising = account.trades[order.trade_id].units < 0  # the stop of a short trade is above the price
        self._distance = int(order.distance.scaleb(lane.digits) * 2)
        stop = int(order.trail.scaleb(lane.digits) * 2)
        self._best = stop - self._distance if self._rising else stop + self._distance  # the best price before `_row`
        self._row = row
        self._found = self._search()

    def next(self, start: int) -> int | None:
        """The first row of the lane, from `start` on, in which the stop is reached. `start` never goes back."""
        if self._found is not None and self._found < start:
            extreme = np.minimum if self._rising else np.maximum
            self._best = int(extreme.reduce(self._prices[self._row : start], initial=self._best))
            self._row = start
            self._found = self._search()
        return self._found

    def _search(self) -> int | None:
        extreme = np.minimum if self._rising else np.maximum
        start, size, best = self._row, CHUNK, self._best
        while start < len(self._prices):
            part = self._prices[start : start + size]
            bests = extreme(extreme.accumulate(part), best)
            hit = part >= bests + self._distance if self._rising else part <= bests - self._distance
            if hit.any():
                return start + int(hit.argmax())
            best, start, size = int(bests[-1]), start + size, min(size * 4, LARGEST_CHUNK)
        return None


class Lane:
    """The ticks of one pair in a batch: `rows` of the batch, and the prices of each side in half points."""

    def __init__(self, batch: TickBatch, at: int, digits: int) -> None:
        self.rows = np.flatnonzero(batch.which == at)
        self.digits = digits
        self._bid, self._ask = batch.bid[self.rows], batch.ask[self.rows]
        self._sides: dict[str, Points] = {}

    def prices(self, side: str) -> Points:
        """The prices of BID, ASK or MID, doubled."""
        if side not in self._sides:
            parts = {"BID": (self._bid, self._bid), "ASK": (self._ask, self._ask), "MID": (self._bid, self._ask)}[side]
            self._sides[side] = parts[0] + parts[1]
        return self._sides[side]


class Scan:
    """The skip over one batch. `quote` gives the last prices before it; accounts are looked at anew after `invalidate`."""

    def __init__(
        self,
        batch: TickBatch,
        accounts: Sequence[Account],
        instruments: Mapping[str, Instrument],
        quote: Callable[[str], Quote | None],
    ) -> None:
        self._accounts = accounts
        digits = [instruments[name].display_precision for name in batch.names]
        self._lanes = {name: Lane(batch, at, digits[at]) for at, name in enumerate(batch.names)}
        self._levels: dict[str, list[Level]] = {}
        self._trails: dict[str, dict[tuple[str, int], Trail]] = {}
        self._watched: dict[str, list[Order]] = {}
        self._found: dict[str, int | None] = {}  # by pair, the row of the batch; missing when it is not known
        self._rows = len(batch)
        self._margin = MarginScan(batch, accounts, instruments, quote)

    def next(self, at: int) -> int | None:
        """The first row from `at` on at which something could happen; None when nothing can. `at` never goes back."""
        rows = [row for name in self._lanes if (row := self._next_of(name, at)) is not None]
        stop = min(rows, default=self._rows)
        found = self._margin.next(at, stop)
        return found if found is not None else stop if rows else None

    def invalidate(self, instrument: str | None = None) -> None:
        """Look again at the orders of one pair (of all when None): something has happened."""
        for name in [instrument] if instrument else list(self._lanes):
            self._levels.pop(name, None)
            self._found.pop(name, None)

    def ratchet(self, account: Account, order: Order, start: int, stop: int) -> Decimal | None:
        """The best price for a trailing stop to follow in rows [start, stop) of the batch; None when there is none."""
        lane = self._lanes.get(order.instrument)
        if lane is None:
            return None
        rows = slice(*np.searchsorted(lane.rows, (start, stop)))
        prices = lane.prices(side_of(account, order))[rows]
        if not len(prices):
            return None
        best = prices.min() if is_buy(account, order) else prices.max()
        return (Decimal(int(best)) / 2).scaleb(-lane.digits)

    def _next_of(self, name: str, at: int) -> int | None:
        if name in self._levels and any(order.state is not OrderState.PENDING for order in self._watched[name]):
            self.invalidate(name)  # it was cancelled by what happened to another pair
        lane = self._lanes[name]
        if name not in self._levels:
            self._look(name, lane, at)
        found = self._found.get(name, -1)
        if found is not None and found < at:
            start = int(np.searchsorted(lane.rows, at))
            hits = [_first(lane.prices(level.side), level, start) for level in self._levels[name]]
            hits += [trail.next(start) for trail in self._trails[name].values()]
            hit = min((each for each in hits if each is not None), default=None)
            self._found[name] = None if hit is None else int(lane.rows[hit])
        return self._found[name]

    def _look(self, name: str, lane: Lane, at: int) -> None:
        """Gather what the pending orders of a pair wait for."""
        nearest: dict[tuple[str, bool], int] = {}
        known, trails = self._trails.get(name, {}), {}
        watched = []
        for account in self._accounts:
            for order in account.pending.values():
                if order.instrument != name or order.type is OrderType.MARKET:
                    continue
                watched.append(order)
                key = account.config.id, order.id
                if order.type is OrderType.TRAILING_STOP_LOSS:
                    trails[key] = known.get(key) or Trail(order, account, lane, int(np.searchsorted(lane.rows, at)))
                    continue
                for level in _levels(account, order, lane.digits):
                    group = level.side, level.rising
                    limit = nearest.setdefault(group, level.limit)
                    nearest[group] = min(limit, level.limit) if level.rising else max(limit, level.limit)
        self._levels[name] = [Level(*group, limit) for group, limit in nearest.items()]
        self._trails[name], self._watched[name] = trails, watched


def side_of(account: Account, order: Order) -> str:
    """Which price the order looks at: BID, ASK or MID."""
    if order.trigger in ("BID", "ASK", "MID"):
        return order.trigger
    return "ASK" if is_buy(account, order) == (order.trigger == "DEFAULT") else "BID"


def _levels(account: Account, order: Order, digits: int) -> list[Level]:
    """At which prices the order is set off; one that waits to be touched from a side not known is set off from both."""
    assert order.price is not None
    side, half_points = side_of(account, order), order.price.scaleb(digits) * 2
    if order.type is not OrderType.MARKET_IF_TOUCHED:
        ways = [is_buy(account, order) == (order.type in STOPS)]
    elif order.initial_price is None:
        ways = [True, False]
    else:
        ways = [order.initial_price < order.price]
    return [Level(side, rising, int(half_points.to_integral_value(ROUND_CEILING if rising else ROUND_FLOOR))) for rising in ways]


def _first(prices: Points, level: Level, start: int) -> int | None:
    size = CHUNK
    while start < len(prices):
        part = prices[start : start + size]
        hit = part >= level.limit if level.rising else part <= level.limit
        if hit.any():
            return start + int(hit.argmax())
        start, size = start + size, min(size * 4, LARGEST_CHUNK)
    return None
