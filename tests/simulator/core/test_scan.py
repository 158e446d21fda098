"""The skip over ticks is never too late: it finds what looking at every single tick finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import TUESDAY

from mbats.simulator.core.account import Account
from mbats.simulator.core.scan import Scan
from mbats.simulator.core.triggers import is_triggered, trigger_price
from mbats.simulator.core.valuation import value
from mbats.simulator.core.values import AccountConfig, Order, OrderState, OrderType, Trade
from mbats.simulator.instruments import terms
from mbats.simulator.market import TickBatch
from mbats.simulator.quotes import Quote

D = Decimal
NAMES = ("EUR_USD", "USD_JPY", "GBP_USD", "EUR_GBP")
MIDDLES = {"EUR_USD": 110_000, "USD_JPY": 150_000, "GBP_USD": 127_000, "EUR_GBP": 86_600}
LISTED = {name: terms(name) for name in NAMES}
MILLISECOND = np.timedelta64(1000, "us")


def price_of(name: str, points: int) -> Decimal:
    return D(int(points)).scaleb(-LISTED[name].display_precision)


def quote_of(name: str, time: np.datetime64, bid: int, ask: int) -> Quote:
    return Quote.at(LISTED[name], time, price_of(name, bid), price_of(name, ask))


@dataclass
class World:
    """Accounts over one batch of ticks; orders that a price sets off end, and some bring others about."""

    batch: TickBatch
    accounts: list[Account] = field(default_factory=list)
    log: list[tuple[Any, ...]] = field(default_factory=list)
    looked_at: int = 0

    def __post_init__(self) -> None:
        self.rows = {name: np.flatnonzero(self.batch.which == at) for at, name in enumerate(self.batch.names)}

    def before(self, name: str) -> Quote:
        """The price before the batch."""
        return quote_of(name, TUESDAY, MIDDLES[name], MIDDLES[name] + 10)

    def seen_at(self, row: int) -> dict[str, Quote]:
        """The prices that are known when a row is looked at: those of this row and of all before it."""
        batch, seen = self.batch, {name: self.before(name) for name in NAMES}
        for name in batch.names:
            if known := int(np.searchsorted(self.rows[name], row, "right")):
                last = self.rows[name][known - 1]
                seen[name] = quote_of(name, batch.time[last], batch.bid[last], batch.ask[last])
        return seen

    def add(self, account: Account, kind: OrderType, **more: Any) -> None:
        number = len(account.orders) + 1000
        defaults = {"units": D(0), "price": None, "bound": None, "time_in_force": "GTC", "position_fill": "DEFAULT"}
        rest = {"created": {}, "valid_until": None, "trade_id": None, "extensions": {}, "trade_extensions": {}}
        order = Order(id=number, type=kind, **(defaults | rest | more))
        account.orders[number] = account.pending[number] = order

    def run(self, fast: bool) -> World:
        """Go through the batch, tick by tick or by the scan."""
        scan = Scan(self.batch, self.accounts, LISTED, self.before) if fast else None
        done, row = 0, scan.next(0) if scan else 0
        while row is not None and row < len(self.batch):
            self.looked_at += 1
            seen = self.seen_at(row)
            name = self.batch.names[self.batch.which[row]]
            for account in self.accounts:
                self.trail(scan, account, done, row, seen)
            for account in self.accounts:
                self.check_margin(account, row, seen)
                self.set_off(account, row, name, seen[name])
            if scan:
                scan.invalidate(name)
            done = row + 1
            row = scan.next(done) if scan else done
        return self

    def trail(self, scan: Scan | None, account: Account, done: int, row: int, seen: dict[str, Quote]) -> None:
        for order in account.pending.values():
            if order.type is OrderType.TRAILING_STOP_LOSS:
                sold = account.trades[order.trade_id].units < 0
                if scan:
                    best = scan.ratchet(account, order, done, row + 1)
                else:
                    own = order.instrument == self.batch.names[self.batch.which[row]]
                    best = trigger_price(sold, order.trigger, seen[order.instrument]) if own else None
                if best is not None:
                    stop = best + order.distance if sold else best - order.distance
                    order.trail = min(order.trail, stop) if sold else max(order.trail, stop)

    def check_margin(self, account: Account, row: int, seen: dict[str, Quote]) -> None:
        if not account.open:
            return
        worth = value(account, LISTED, seen.get)
        if worth.closeout_percent >= 1:
            self.log.append((row, account.config.id, "closeout", worth.closeout_nav))
            for order in [each for each in account.pending.values() if each.trade_id]:
                self.end(account, order)
            account.open.clear()
        elif (worth.call_percent >= 1) != (account.margin_call_since is not None):
            account.margin_call_since = None if account.margin_call_since else str(row)
            self.log.append((row, account.config.id, "call", account.margin_call_since))

    def set_off(self, account: Account, row: int, name: str, quote: Quote) -> None:
        for order in list(account.pending.values()):
            if order.instrument == name and is_triggered(account, order, quote):
                self.log.append((row, account.config.id, order.id, order.trail))
                self.end(account, order)
                if order.id % 2:  # something new begins here
                    units = D(-3000 if order.id % 4 == 1 else 3000)
                    trade = Trade(order.id, name, quote.mid, "", units, D(0), units)
                    account.trades[trade.id] = account.open[trade.id] = trade
                    trail = trigger_price(units < 0, order.trigger, quote) + (D(1) if units < 0 else D(-1)) * price_of(name, 60)
                    self.add(
                        account,
                        OrderType.TRAILING_STOP_LOSS,
                        instrument=name,
                        trigger=order.trigger,
                        trade_id=trade.id,
                        distance=price_of(name, 60),
                        trail=trail,
                    )

    def end(self, account: Account, order: Order) -> None:
        order.state = OrderState.FILLED
        del account.pending[order.id]


@st.composite
def batches(draw: st.DrawFn) -> TickBatch:
    """Up to 400 ticks of a few pairs that wander and jump; some come at the same moment."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(0, 400))
    which = random.integers(0, draw(st.integers(1, len(NAMES))), size)
    gaps = random.integers(0, draw(st.integers(1, 5)), size)
    order = np.lexsort((which, np.cumsum(gaps)))
    which, time = which[order], TUESDAY + np.cumsum(gaps)[order] * MILLISECOND
    bid = np.zeros(size, np.int64)
    for at, name in enumerate(NAMES):
        own = which == at
        bid[own] = MIDDLES[name] + np.cumsum(random.integers(-30, 31, own.sum()) + (random.random(own.sum()) < 0.01) * 400)
    return TickBatch(NAMES, time, which, bid, bid + random.integers(0, 25, size))


KINDS = [kind for kind in OrderType if kind is not OrderType.MARKET]
TRADES = st.tuples(st.sampled_from(NAMES), st.integers(-40_000, 40_000).filter(bool), st.integers(-300, 300))
ORDERS = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(NAMES),
    st.booleans(),
    st.integers(-500, 500),
    st.sampled_from(["DEFAULT", "INVERSE", "BID", "ASK", "MID"]),
    st.integers(0, 5),
)
ACCOUNTS = st.tuples(
    st.sampled_from(["USD", "EUR", "GBP", "JPY"]),
    st.integers(300, 20_000),
    st.sampled_from([None, "0.05", "0.5"]),
    st.booleans(),
    st.lists(TRADES, max_size=4),
    st.lists(ORDERS, max_size=25),
)


def build(batch: TickBatch, accounts: list[Any]) -> World:
    world = World(batch)
    for number, (home, balance, rate, in_call, trades, orders) in enumerate(accounts):
        account = Account(AccountConfig(id=f"1-1-1-{number}", currency=home, hedging=True))
        account.balance = D(balance * (150 if home == "JPY" else 1))
        account.margin_rate = D(rate) if rate else None
        account.margin_call_since = "before" if in_call else None
        for at, (name, units, points) in enumerate(trades, 1):
            price = price_of(name, MIDDLES[name] + points)
            account.trades[at] = account.open[at] = Trade(at, name, price, "", D(units), D(0), D(units))
        for kind, name, buys, points, trigger, owner in orders:
            price = price_of(name, MIDDLES[name] + points)
            rest: dict[str, Any] = {"instrument": name, "trigger": trigger, "price": price, "units": D(1 if buys else -1)}
            if kind.of_trade:
                owners = [trade for trade in account.open.values() if trade.instrument == name]
                if not owners:
                    continue
                trade = owners[owner % len(owners)]
                rest |= {"trade_id": trade.id, "units": D(0)}
                if kind is OrderType.TRAILING_STOP_LOSS:
                    distance = price_of(name, 50 + abs(points))
                    start = trigger_price(trade.units < 0, trigger, world.before(name))
                    trail = start - distance if trade.units > 0 else start + distance
                    rest |= {"price": None, "distance": distance, "trail": trail}
            if kind is OrderType.MARKET_IF_TOUCHED:
                rest["initial_price"] = price_of(name, MIDDLES[name])
            world.add(account, kind, **rest)
        world.accounts.append(account)
    return world


@given(batch=batches(), accounts=st.lists(ACCOUNTS, min_size=1, max_size=3))
def test_skipping_finds_what_looking_at_every_tick_finds(batch, accounts):
    plain = build(batch, accounts).run(fast=False)
    fast = build(batch, accounts).run(fast=True)

    assert fast.log == plain.log
    assert fast.looked_at <= plain.looked_at


def wandering(size: int, step: int, seed: int = 1) -> TickBatch:
    random = np.random.default_rng(seed)
    bid = MIDDLES["EUR_USD"] + np.cumsum(random.integers(-step, step + 1, size))
    time = TUESDAY + np.arange(size) * MILLISECOND
    return TickBatch(("EUR_USD",), time, np.zeros(size, np.int64), bid, bid + 10)


def one_account(orders: list[Any], balance: int = 10**6, trades: list[Any] | None = None) -> list[Any]:
    return [("USD", balance, None, False, trades or [], orders)]


def test_only_ticks_at_which_something_happens_are_looked_at():
    orders = [(OrderType.LIMIT, "EUR_USD", at < 0, at, "DEFAULT", 0) for at in range(-1000, 1001, 20) if abs(at) > 20]
    batch = wandering(5000, 20)

    plain, fast = (build(batch, one_account(orders)).run(fast=way) for way in (False, True))

    assert len(fast.log) > 40
    assert fast.log == plain.log
    assert fast.looked_at == len({row for row, *_ in fast.log})
    assert plain.looked_at == 5000


def test_a_trailing_stop_keeps_its_best_price_over_what_happens_to_other_orders():
    up_and_down = np.concatenate([np.arange(0, 900), np.arange(900, -200, -1)]) + MIDDLES["EUR_USD"]
    time = TUESDAY + np.arange(len(up_and_down)) * MILLISECOND
    batch = TickBatch(("EUR_USD",), time, np.zeros(len(time), np.int64), up_and_down, up_and_down + 10)
    sells = [(OrderType.LIMIT, "EUR_USD", False, at, "DEFAULT", 0) for at in range(100, 800, 50)]
    trail = (OrderType.TRAILING_STOP_LOSS, "EUR_USD", True, 150, "DEFAULT", 0)

    fast = build(batch, one_account([*sells, trail], trades=[("EUR_USD", 1000, 0)])).run(fast=True)

    ended = [(row, stop) for row, _, number, stop in fast.log if number == 1000 + len(sells)]
    assert ended == [(1100, price_of("EUR_USD", 110_700))]  # 200 points below the best bid


@pytest.mark.parametrize(("balance", "events"), [(10**6, 0), (2500, 1)])
def test_margin_is_looked_at_only_where_it_could_run_out(balance, events):
    time = TUESDAY + np.arange(5000) * MILLISECOND
    bid = MIDDLES["EUR_USD"] - np.arange(5000) // 10
    batch = TickBatch(("EUR_USD",), time, np.zeros(5000, np.int64), bid, bid + 10)

    fast = build(batch, one_account([], balance=balance, trades=[("EUR_USD", 100_000, 0)])).run(fast=True)

    assert [what for _, _, what, _ in fast.log] == ["call"] * events
    assert fast.looked_at == events


def test_a_pair_that_is_held_but_moves_unseen_is_looked_at_on_every_tick():
    world = build(wandering(50, 1), one_account([], trades=[("USD_JPY", 1000, 0)]))

    assert world.run(fast=True).looked_at == 50


def test_the_best_price_of_rows_is_given_for_the_side_that_the_order_looks_at():
    batch = TickBatch(
        ("EUR_USD",),
        TUESDAY + np.arange(3) * MILLISECOND,
        np.zeros(3, np.int64),
        np.array([100, 103, 101]),
        np.array([105, 104, 110]),
    )
    sides = {}
    for units in (1000, -1000):
        for trigger in ("DEFAULT", "INVERSE", "MID"):
            orders = [(OrderType.TRAILING_STOP_LOSS, "EUR_USD", True, 0, trigger, 0)]
            world = build(batch, one_account(orders, trades=[("EUR_USD", units, 0)]))
            account = world.accounts[0]
            scan = Scan(batch, world.accounts, LISTED, world.before)
            best = scan.ratchet(account, account.orders[1000], 0, 3)
            sides[units > 0, trigger] = best.scaleb(5)
            assert scan.ratchet(account, account.orders[1000], 3, 3) is None

    assert sides[True, "DEFAULT"] == 103  # a long trade ends at the bid
    assert sides[True, "INVERSE"] == 110
    assert sides[True, "MID"] == D("105.5")
    assert sides[False, "DEFAULT"] == 104
    assert sides[False, "INVERSE"] == 100
    assert sides[False, "MID"] == D("102.5")
