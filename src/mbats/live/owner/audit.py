"""What the trader leaves behind of each transaction, and whether the books agree with the broker.

Fills, positions, round trips and money go to the risk database by way of the journal, in the same write that books them.
Snapshots are compared entry by entry; at the end of each New York trading day the broker's log of the day is added up again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from mbats.live.books import Alarm, BookEvent, Books, Cancelled, Created, Filled, Financed, Rejected, Transferred
from mbats.live.books.checking import check_money, check_positions
from mbats.live.ids import is_ours
from mbats.live.owner.account import Account
from mbats.live.owner.days import Days
from mbats.live.owner.trips import Dealt, Trip, deal
from mbats.live.owner.worth import made, own_profit
from mbats.oanda.account import Details
from mbats.oanda.transactions import Transaction
from mbats.riskdb.live_records import (
    PURPOSES,
    AccountEquityRecord,
    EquityRecord,
    FillRecord,
    OrderEventRecord,
    PositionRecord,
    TradeRecord,
    TransactionRecord,
)
from mbats.trading.costs import money

ZERO = Decimal(0)
TRIPS = "trips"
_TRIPS = TypeAdapter(dict[str, Trip])


class Audit:
    """See the module. Used by the owner's thread alone, its writing methods within the journal's write."""

    def __init__(self, account: Account) -> None:
        self._account = account
        text = account.journal.load(TRIPS)
        self._trips: dict[str, Trip] = _TRIPS.validate_json(text) if text else {}
        self.days = Days(account)

    # --- Every transaction ------------------------------------------------------------------------------------------------

    def note(self, transaction: Transaction, events: Iterable[BookEvent]) -> None:
        """Record one transaction and what it meant."""
        account = self._account
        account.put(TransactionRecord(account.id, transaction.id, transaction.time, transaction.type, transaction.body))
        self.days.add(transaction)
        for number, event in enumerate(events):
            key = f"{transaction.id}.{number}"
            match event:
                case Filled():
                    self._note_fill(event, key)
                case Created() | Cancelled() | Rejected():
                    self._note_order(event, key)
                case Financed():
                    self._note_financing(event)
                case Transferred():
                    account.gate.transferred(event.amount, account.nav(), self._time(transaction))
                case Alarm():
                    account.event(f"transaction {key}", "alarm", "critical", "broker_alarm", event.text)

    def _note_fill(self, event: Filled, key: str) -> None:
        account, at = self._account, self._time(event.transaction)
        self._put_event(event, key, event.owner, "completed", at, units=event.units, price=event.price)
        trading = account.deployments.get(event.owner)
        if not event.owner:
            sentence = f"Somebody else dealt {event.units:f} {event.symbol} at {event.price:f} on this account; it is left alone."
            account.event(f"foreign {key}", "alarm", "warning", "foreign_fill", sentence, symbol=event.symbol)
        if trading is None:
            return
        mid, side, conversion = _quotes_of(event, account)
        direction = 1 if event.units > 0 else -1
        size = abs(event.units)
        spread = money(size * direction * (side - mid) * conversion)
        slippage = money(size * direction * (event.price - side) * conversion)
        name, run, number = event.owner, trading.run_key, event.transaction.id
        fill = FillRecord(
            name,
            run,
            number,
            at,
            event.symbol,
            event.units,
            event.price,
            mid,
            event.order_id,
            str(event.transaction.body.get("reason", "")),
            PURPOSES[event.role],
            conversion,
            event.pnl,
            spread,
            slippage,
            event.position,
            event.client_id,
        )
        account.put(fill)
        self.days.add_fill(fill)
        average = account.books.average_price(name, event.symbol) or ZERO
        account.put(PositionRecord(name, run, number, at, event.symbol, event.position, average if event.position else ZERO))
        self._deal(event, at, spread, slippage)
        self.note_equity(name, at)

    def _deal(self, event: Filled, at: datetime, spread: Decimal, slippage: Decimal) -> None:
        account, key = self._account, f"{event.owner} {event.symbol}"
        before = event.position - event.units
        fill = Dealt(event.transaction.id, at, event.symbol, event.units, event.price, event.pnl, spread, slippage, before)
        over, now = deal(self._trips.get(key), fill)
        if now is None:
            self._trips.pop(key, None)
        else:
            self._trips[key] = now
        account.journal.save(TRIPS, _TRIPS.dump_json(self._trips).decode())
        if over is not None:
            self._note_trip(event.owner, over, at)

    def _note_trip(self, name: str, trip: Trip, at: datetime) -> None:
        account = self._account
        trading = account.deployments[name]
        net = trip.pnl + trip.financing
        length = account.granularity(name).length
        spread, slippage = money(trip.spread_cost), money(trip.slippage_cost)
        account.put(
            TradeRecord(
                name,
                trading.run_key,
                trip.transaction_id,
                trip.symbol,
                trip.side * trip.opened,
                trip.opened_at,
                at,
                trip.opened_value / trip.opened,
                trip.closed_value / trip.closed,
                max(0, (at - trip.opened_at) // length),
                trip.pnl + spread + slippage,
                spread,
                slippage,
                trip.financing,
                net,
                money(trip.best),
                money(trip.worst),
            )
        )
        account.gate.trade_closed(name, net, account.nav(), at)

    def _note_financing(self, event: Financed) -> None:
        """Financing of a deployment goes to its round trips, by the units that they hold."""
        for name, amount in event.amounts.items():
            open_trips = [key for key in self._trips if key.startswith(f"{name} ")]
            for number, key in enumerate(open_trips):
                share = (
                    amount - money(amount / len(open_trips)) * (len(open_trips) - 1)
                    if not number
                    else money(amount / len(open_trips))
                )
                trip = asdict(self._trips[key])
                self._trips[key] = Trip(**(trip | {"financing": trip["financing"] + share}))
        self._account.journal.save(TRIPS, _TRIPS.dump_json(self._trips).decode())

    def _note_order(self, event: Created | Cancelled | Rejected, key: str) -> None:
        from mbats.live.ids import read_client_id

        intent = read_client_id(event.client_id)
        owner = intent.deployment if intent is not None else ""
        status = {"Created": "accepted", "Cancelled": "canceled", "Rejected": "rejected"}[type(event).__name__]
        self._put_event(event, key, owner, status, self._time(event.transaction))

    def _put_event(self, event: Any, key: str, owner: str, status: str, at: datetime, **figures: Any) -> None:
        account = self._account
        account.put(
            OrderEventRecord(
                account.id,
                key,
                at,
                owner,
                getattr(event, "symbol", ""),
                status,
                client_id=event.client_id,
                order_id=getattr(event, "order_id", None),
                transaction_id=event.transaction.id,
                reason=str(getattr(event, "reason", "") or event.transaction.body.get("reason", "")),
                **figures,
            )
        )

    def _time(self, transaction: Transaction) -> datetime:
        return transaction.time or self._account.clock.now()

    # --- Money ------------------------------------------------------------------------------------------------------------

    def note_equity(self, name: str, at: datetime) -> None:
        """A point of a deployment's equity."""
        record = self.equity(name, at)
        if record is not None:
            self._account.put(record)

    def equity(self, name: str, at: datetime) -> EquityRecord | None:
        """What a deployment is worth by itself: what it began with, what it made, and what it would make now."""
        account = self._account
        trading = account.deployments.get(name)
        profit = own_profit(account.books, name, account.quotes)
        if trading is None or profit is None:
            return None
        start = Decimal(trading.deployment.extra.get("starting_cash", "0"))
        base = Decimal(trading.deployment.extra.get("made_before", "0"))
        balance = start + made(account.books, name) - base
        return EquityRecord(name, trading.run_key, at, balance, balance + profit, account.margin_used())

    def look(self, at: datetime) -> None:
        """Now and then: what everything is worth, and the best and worst of what is open."""
        account = self._account
        for key, trip in self._trips.items():
            name, symbol = key.split(" ")
            units, price = account.books.position(name, symbol), account.books.average_price(name, symbol)
            quote, rate = account.quotes.quote(symbol), account.quotes.home().get(symbol.split("_")[1])
            if quote is not None and rate is not None and price is not None:
                profit = units * ((quote.bid if units > 0 else quote.ask) - price) * rate
                self._trips[key] = trip.seen(profit)

    def note_account(self, at: datetime) -> None:
        """A point of the account's equity."""
        account = self._account
        account.put(
            AccountEquityRecord(account.id, at, account.currency, account.books.balance, account.nav(), account.margin_used())
        )

    # --- Agreement --------------------------------------------------------------------------------------------------------

    def compare(self, details: Details) -> bool:
        """Whether a snapshot of the same transaction says what the books say; else the broker's truth takes their place (R15)."""
        account = self._account
        account.broker_margin = (details.summary.last_id, details.summary.margin_used)
        books = account.books
        held = [*check_positions(books.lots, books.trades.values()), *books.doubts, *differences(books, details)]
        findings = [*held, *check_money(books), *balances(books, details)]
        if not findings:
            return True
        at = account.clock.now()
        place = f"account {account.id}, transaction {details.summary.last_id}"
        sentence = f"The books differ from the broker's ({place}): {' '.join(findings)}"
        detail = {"findings": findings, "books": json.loads(books.to_json())}
        # Whose the units are that two deployments have netted away, the broker does not know: kept where only money differs.
        adopted = Books.adopt(details, account.currency) if held else Books.from_json(books.to_json())
        adopted.restate(details.summary.balance, books)
        with account.journal.write():
            key = f"mismatch {details.summary.last_id} {at.isoformat()}"
            account.event(
                key, "mismatch", "critical", "books_differ", f"{sentence} The broker's truth was taken over.", detail=detail
            )
            account.journal.save("books", adopted.to_json())
        account.books = adopted
        return False

    def note_foreign(self) -> None:
        """Tell of what stands on the account and is not ours, if anything does: it is left alone (R17)."""
        account = self._account
        trades = [trade for trade in account.books.trades.values() if not is_ours(trade.client_id)]
        orders = [order for order in account.books.pending.values() if not is_ours(order.client_id)]
        if not trades and not orders:
            return
        found = [f"trade {each.id} ({each.units:f} {each.symbol})" for each in trades]
        found += [f"order {each.id} ({each.type} of {each.units:f} {each.symbol})" for each in orders]
        sentence = f"On account {account.id} MBATS finds what it has not made, and leaves it alone: {', '.join(found)}."
        with account.journal.write():
            account.event(f"not ours {account.clock.now().isoformat()}", "alarm", "warning", "not_ours", sentence)


def differences(books: Books, details: Details) -> list[str]:
    """What a snapshot of the account says otherwise than the books of trades and orders, in sentences."""
    found = []
    ours, theirs = {each.id: each.units for each in books.trades.values()}, {each.id: each.units for each in details.trades}
    for number in sorted(ours.keys() | theirs.keys()):
        if ours.get(number) != theirs.get(number):
            found.append(
                f"Trade {number}: {ours.get(number, 'none')} units in the books, {theirs.get(number, 'none')} at the broker."
            )
    pending = {each.id for each in details.orders if each.trade_id is None}
    for number in sorted(books.pending.keys() ^ pending):
        found.append(f"Order {number} is {'only in the books' if number in books.pending else 'only at the broker'}.")
    return found


def balances(books: Books, details: Details) -> list[str]:
    """The same of the money."""
    if books.balance == details.summary.balance:
        return []
    return [f"The balance is {books.balance} in the books, {details.summary.balance} at the broker."]


def _quotes_of(event: Filled, account: Account) -> tuple[Decimal, Decimal, Decimal]:
    """Mid and top of book on the side dealt, and the conversion to the account's currency, as the fill or the board has it."""
    body = event.transaction.body
    full = body.get("fullPrice") or {}
    try:
        bid, ask = Decimal(full["bids"][0]["price"]), Decimal(full["asks"][0]["price"])
    except (KeyError, IndexError, TypeError, ArithmeticError):
        bid = ask = event.price
    rate = account.quotes.home().get(event.symbol.split("_")[1])
    return (bid + ask) / 2, (ask if event.units > 0 else bid), rate or Decimal(1)
