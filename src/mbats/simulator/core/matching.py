"""Time passes: prices come, orders are set off, days end, margins run out.

On each tick, in this order and account by account: margin, then every order that the price sets off, protecting ones first.
Stretches in which nothing can happen are skipped as a whole (`scan`), which changes nothing but the speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from mbats.simulator.core.account import Account
from mbats.simulator.core.batch import Batch
from mbats.simulator.core.execution import Desk, EngineOptions, Execution, plan
from mbats.simulator.core.fills import book, cancel
from mbats.simulator.core.numbers import money_text, units_text
from mbats.simulator.core.scan import Scan
from mbats.simulator.core.times import day_end, day_end_weekday, write_time
from mbats.simulator.core.triggers import RANK, is_triggered
from mbats.simulator.core.valuation import Valuation, financing, value
from mbats.simulator.core.values import AccountConfig, Order, OrderState, OrderType, Trade, Transaction
from mbats.simulator.market import Market, TickBatch
from mbats.simulator.quotes import Quote


class Matching:
    """Accounts in a market, up to `now` (UTC). Transactions that came since are handed out by `take`."""

    def __init__(self, market: Market, configs: Iterable[AccountConfig], options: EngineOptions | None = None) -> None:
        self.market = market
        self.accounts = {config.id: Account(config) for config in configs}
        self.options = options or EngineOptions()
        self.now: np.datetime64 = np.datetime64(0, "us")
        self._desk = Desk(market.instruments, self.quote, self.options)
        self._fresh: list[Transaction] = []
        self._quotes: dict[str, Quote | None] = {}

    # --- What can be seen -------------------------------------------------------------------------------------------------

    def quote(self, instrument: str) -> Quote | None:
        """The last price of one pair before `now`; None before its first."""
        if instrument not in self._quotes:
            self._quotes[instrument] = self.market.quote(instrument, self.now) if instrument in self.market.instruments else None
        return self._quotes[instrument]

    def valuation(self, account_id: str) -> Valuation:
        """What the account is worth at the last prices."""
        return value(self.accounts[account_id], self.market.instruments, self.quote)

    def take(self) -> list[Transaction]:
        """The transactions since the last time, oldest first, of all accounts."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def state(self) -> dict[str, Any]:
        """What no transaction says: how far prices were matched, where stops trail, and from where touches are awaited."""
        pending = [(account.config.id, order) for account in self.accounts.values() for order in account.pending.values()]
        return {
            "now": write_time(self.now),
            "trails": [[name, order.id, str(order.trail)] for name, order in pending if order.trail is not None],
            "initial": [[name, order.id, str(order.initial_price)] for name, order in pending if order.initial_price is not None],
        }

    # --- Start and restart ---------------------------------------------------------------------------------------------------

    def start(self, now: np.datetime64) -> None:
        """Open the accounts that are not open yet, and begin at `now` unless a log was restored."""
        self._move(max(self.now, now))
        for account in self.accounts.values():
            if not account.last_id:
                self._open(account)

    def restore(self, transactions: Iterable[Transaction], state: Mapping[str, Any]) -> None:
        """Go on where a log ends. Raises KeyError when it has an account that is not configured."""
        for transaction in transactions:
            self.accounts[transaction["accountID"]].apply(transaction)
        for name, number, trail in state["trails"]:
            self.accounts[name].orders[number].trail = Decimal(trail)
        for name, number, price in state["initial"]:
            self.accounts[name].orders[number].initial_price = Decimal(price)
        self._move(np.datetime64(state["now"][:26], "us"))

    def _open(self, account: Account) -> None:
        config = account.config
        site, division, user, number = (int(part) for part in config.id.split("-"))
        created = min(np.datetime64(config.created.replace(tzinfo=None), "us"), self.now)
        batch = Batch(account, created, requested=False)
        batch.add(
            {
                "type": "CREATE",
                "divisionID": division,
                "siteID": site,
                "accountUserID": user,
                "accountNumber": number,
                "homeCurrency": config.currency,
            }
        )
        amount = money_text(config.balance)
        batch.add({"type": "TRANSFER_FUNDS", "amount": amount, "fundingReason": "CLIENT_FUNDING", "accountBalance": amount})
        self._publish(batch)

    # --- Time ------------------------------------------------------------------------------------------------------------------

    def advance(self, until: np.datetime64) -> None:
        """Take every tick in [now, until) and every timer in (now, until]. Time never goes back."""
        while self.now < until:
            timer = self._next_timer()
            stop = until if timer is None else min(until, timer)
            self._match(stop)
            self._move(stop)
            if stop == timer:
                self._fire()

    def _move(self, now: np.datetime64) -> None:
        self.now = now
        self._quotes.clear()

    def forget_prices(self) -> None:
        """Ask the market again: its prices of the moment were changed."""
        self._quotes.clear()

    def _next_timer(self) -> np.datetime64 | None:
        """When an order runs out or, as long as something is open, the day ends."""
        moments = [
            order.valid_until
            for account in self.accounts.values()
            for order in account.pending.values()
            if order.valid_until is not None and order.valid_until > self.now
        ]
        if any(account.open for account in self.accounts.values()):
            moments.append(day_end(self.now))
        return min(moments, default=None)

    def _fire(self) -> None:
        for account in self.accounts.values():
            for order in list(account.pending.values()):
                if order.valid_until is not None and order.valid_until <= self.now:
                    batch = Batch(account, self.now, requested=False)
                    cancel(batch, order, "TIME_IN_FORCE_EXPIRED")
                    self._publish(batch)
            if account.open and account.config.financing == "DAILY" and day_end(self.now - np.timedelta64(1, "us")) == self.now:
                self._finance(account)

    def _finance(self, account: Account) -> None:
        weekday = day_end_weekday(self.now)
        total, positions = financing(account, self.market.instruments, self.quote, weekday)
        if not positions:
            return
        batch = Batch(account, self.now, requested=False)
        batch.add(
            {
                "type": "DAILY_FINANCING",
                "financing": money_text(total),
                "accountBalance": money_text(account.balance + total),
                "accountFinancingMode": account.config.financing,
                "positionFinancings": positions,
            }
        )
        self._publish(batch)

    # --- Ticks -----------------------------------------------------------------------------------------------------------------

    def _match(self, stop: np.datetime64) -> None:
        names = self._watched()
        if not names:
            return
        for batch in self.market.ticks(names, self.now, stop):
            if not len(batch):
                continue
            self._move(batch.time[0])  # what came before, even where one could not trade, is known now
            scan = Scan(batch, list(self.accounts.values()), self.market.instruments, self.quote)
            done, row = 0, scan.next(0)
            while row is not None:
                self._trail(scan, done, row + 1)
                self._tick(batch, row)
                scan.invalidate(batch.names[batch.which[row]])
                done, row = row + 1, scan.next(row + 1)
            self._trail(scan, done, len(batch))
            self._move(batch.time[-1] + np.timedelta64(1, "us"))

    def _watched(self) -> tuple[str, ...]:
        """The pairs whose prices matter now: those of orders and trades, and those that convert them to home currencies."""
        wanted: set[str] = set()
        for account in self.accounts.values():
            wanted |= self._with_conversions(account, (*account.pending.values(), *account.open.values()))
        return tuple(name for name in self.market.instruments if name in wanted)

    def _with_conversions(self, account: Account, held: Iterable[Order | Trade]) -> set[str]:
        names = {each.instrument for each in held}
        currencies = {part for name in names for part in name.split("_")} | {account.config.currency, "USD"}
        return names | {name for name in self.market.instruments if names and set(name.split("_")) <= currencies}

    def _trail(self, scan: Scan, start: int, stop: int) -> None:
        """Move trailing stops after the best price in rows [start, stop)."""
        for account in self.accounts.values():
            for order in account.pending.values():
                if order.type is not OrderType.TRAILING_STOP_LOSS or order.trade_id is None:
                    continue
                best = scan.ratchet(account, order, start, stop)
                if best is None:
                    continue
                assert order.distance is not None and order.trail is not None
                if account.trades[order.trade_id].units > 0:
                    order.trail = max(order.trail, best - order.distance)
                else:
                    order.trail = min(order.trail, best + order.distance)

    def _tick(self, batch: TickBatch, row: int) -> None:
        name, moment = batch.names[batch.which[row]], batch.time[row]
        self._move(moment)
        # Prices of one moment come one after the other, too: those before this one are known.
        for place in range(int(np.searchsorted(batch.time, moment)), row + 1):
            pair = batch.names[batch.which[place]]
            self._quotes[pair] = self.market.quote_of(pair, moment, int(batch.bid[place]), int(batch.ask[place]))
        quote = self._quotes[name]
        assert quote is not None
        for account in self.accounts.values():
            if name in self._with_conversions(account, account.open.values()):
                self._check_margin(account)
            met = [
                order for order in account.pending.values() if order.instrument == name and is_triggered(account, order, quote)
            ]
            for order in sorted(met, key=lambda each: (RANK[each.type], each.id)):
                if order.state is OrderState.PENDING:
                    self._set_off(account, order, quote)
            self._relieve(account)

    def _set_off(self, account: Account, order: Order, quote: Quote) -> None:
        outcome = plan(account, order, quote, self._desk)
        if outcome is None:
            return
        batch = Batch(account, self.now, requested=False)
        if isinstance(outcome, Execution):
            book(batch, order, outcome, quote, self._desk)
        else:
            cancel(batch, order, outcome)
        self._publish(batch)

    # --- Margin --------------------------------------------------------------------------------------------------------------

    def _check_margin(self, account: Account) -> None:
        worth = value(account, self.market.instruments, self.quote)
        if worth.closeout_percent >= 1:
            self.close_out(account)
        elif (worth.call_percent >= 1) != (account.margin_call_since is not None):
            batch = Batch(account, self.now, requested=False)
            batch.add({"type": "MARGIN_CALL_EXIT" if account.margin_call_since else "MARGIN_CALL_ENTER"})
            self._publish(batch)

    def close_out(self, account: Account) -> None:
        """End every trade whose market is open, as OANDA does when half of the margin used is no longer covered.

        Which trades OANDA ends first is not known; here all go, pair by pair.
        """
        for name in dict.fromkeys(trade.instrument for trade in list(account.open.values())):
            quote = self.quote(name)
            for units in account.units(name):
                if units and quote is not None and quote.tradeable and (quote.bids if units > 0 else quote.asks):
                    self._close_side(account, name, -units, quote)
        self._relieve(account)

    def _relieve(self, account: Account) -> None:
        """End the margin call of an account that holds nothing any more: there is no price that would end it."""
        if account.margin_call_since is not None and not account.open:
            batch = Batch(account, self.now, requested=False)
            batch.add({"type": "MARGIN_CALL_EXIT"})
            self._publish(batch)

    def _close_side(self, account: Account, name: str, units: Decimal, quote: Quote) -> None:
        batch = Batch(account, self.now, requested=False)
        created = batch.add(
            {
                "type": "MARKET_ORDER",
                "instrument": name,
                "units": units_text(units),
                "timeInForce": "IOC",
                "positionFill": "REDUCE_ONLY",
                "marginCloseout": {"reason": "MARGIN_CHECK_VIOLATION"},
                "reason": "MARGIN_CLOSEOUT",
            }
        )
        order = account.orders[int(created["id"])]
        outcome = plan(account, order, quote, self._desk)
        if isinstance(outcome, Execution):
            book(batch, order, outcome, quote, self._desk)
        else:
            cancel(batch, order, outcome or "INSUFFICIENT_LIQUIDITY")
        self._publish(batch)

    def _publish(self, batch: Batch) -> None:
        self._fresh += batch.transactions
