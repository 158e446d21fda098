"""The books of one account, by owner: a fold over the broker's transactions. Pure: no I/O, no clock, no floats.

Σ of the owners' positions = the broker's position after every transaction, and start + realised + financing + costs +
transferred + unexplained = balance to the last digit. What the broker realises by its own way (the oldest trade first) and
the owners' average prices do not is booked on "", as is every rounding of the broker's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mbats.live.books import keeping
from mbats.live.books.checking import check_money, check_positions
from mbats.live.books.dealing import deal_fill, pay_out
from mbats.live.books.entries import ZERO, Ending, Fill, Payment, Placed, Refusal, Renaming
from mbats.live.books.events import Alarm, BookEvent, Cancelled, Created, Financed, Noted, Rejected, Transferred
from mbats.live.books.holdings import Holdings
from mbats.live.books.parts import Held, Lot, Pending
from mbats.live.books.protecting import attach, detach, lot_named, rename, require
from mbats.live.books.reading import (
    read_ending,
    read_fill,
    read_financing,
    read_other,
    read_placed,
    read_refusal,
    read_renaming,
    read_transfer,
)
from mbats.oanda.account import Details
from mbats.oanda.parse import WRONG_KIND
from mbats.oanda.transactions import Transaction

CENT = Decimal("0.01")  # below it a difference is the broker's rounding
ALARMS = {
    "MARGIN_CALL_ENTER": "The account is in a margin call: its margin is used up.",
    "MARGIN_CALL_EXTEND": "The margin call of the account was extended.",
    "MARGIN_CALL_EXIT": "The margin call of the account is over.",
    "DELAYED_TRADE_CLOSURE": "The broker will close trades as soon as their market opens.",
    "CLOSE": "The account was closed.",
}


class Books(Holdings):
    """Who owns what of one netting account. Owners are deployments by name, or "" for all that is not ours.

    `lots` are those of all owners, oldest first. Money is in the account's `currency`. `realised` is by owner, each by its
    own average price; `financing` is what was paid or earned for holding, `costs` commissions and fees (never above zero),
    `transferred` what came and went besides trading, `unexplained` what the broker's balance says and its transactions do
    not. `doubts` are transactions that could not be read or did not fit: what was seen and not understood; while there are
    any, compare with the broker and `adopt` anew.
    """

    def __init__(self, account: str, currency: str, *, last_id: int = 0, balance: Decimal = ZERO) -> None:
        super().__init__()
        self.account = account
        self.currency = currency
        self.last_id = last_id
        self.balance = self.start = balance
        self.trades: dict[int, Held] = {}
        self.made: dict[int, str] = {}  # which lot the order made that opened a trade
        self.orders: dict[int, Placed] = {}
        self.pending: dict[int, Pending] = {}
        self.realised: dict[str, Decimal] = {}
        self.financing: dict[str, Decimal] = {}
        self.costs: dict[str, Decimal] = {}
        self.transferred = self.unexplained = ZERO
        self.doubts: tuple[str, ...] = ()
        self.seen = datetime(1970, 1, 1, tzinfo=UTC)  # the time of the last transaction that had one

    # --- What is there ---------------------------------------------------------------------------------------------------

    def positions(self) -> dict[tuple[str, str], Decimal]:
        """Every position that is not zero, by (owner, symbol)."""
        return {key: self.position(*key) for key in dict.fromkeys((lot.deployment, lot.symbol) for lot in self.lots)}

    def average_price(self, deployment: str, symbol: str) -> Decimal | None:
        """What the held units cost on average; None when flat.

        `pnl` and open profit agree by it, by the lots' prices they do not.
        """
        return self.averages.get((deployment, symbol))

    def broker_position(self, symbol: str) -> Decimal:
        """The signed units that the broker holds for the account."""
        return sum((trade.units for trade in self.trades.values() if trade.symbol == symbol), ZERO)

    def lot_of(self, trade_id: int) -> Lot | None:
        """The lot that this trade was opened with, if it is still there.

        The trade may be larger than it: what is more stands for others.
        """
        return self.find_lot(self.made.get(trade_id))

    def trade_of(self, lot_id: str) -> Held | None:
        """The trade that was opened with this lot, if it is still open."""
        return next((self.trades[number] for number, name in self.made.items() if name == lot_id and number in self.trades), None)

    def check(self) -> list[str]:
        """What is wrong with these books, as sentences; none when they are sound."""
        return [*check_positions(self.lots, self.trades.values()), *check_money(self), *self.doubts]

    def restate(self, balance: Decimal, before: Books) -> None:
        """Begin a new account of the money with this balance: what `before` has given to owners is kept, and the rest is where
        these books start, so that a difference that was reported is not found again."""
        self.realised, self.financing, self.costs = dict(before.realised), dict(before.financing), dict(before.costs)
        self.transferred, self.unexplained, self.balance = before.transferred, ZERO, balance
        parts = (self.realised, self.financing, self.costs)
        self.start = balance - self.transferred - sum((sum(of.values(), ZERO) for of in parts), ZERO)

    # --- What changes them ------------------------------------------------------------------------------------------------

    def set_protection(self, lot_id: str, *, stop: Decimal | None, trail: Decimal | None, target: Decimal | None) -> None:
        """What a lot must have from now on: its deployment changed or cancelled a stop or target.

        One that is gone needs nothing.
        """
        lot = self.find_lot(lot_id)
        if lot is not None:
            self.put_lot(replace(lot, stop=stop, trail=trail, target=target))

    def name_close(self, order_id: int, client_id: str) -> None:
        """Whose the close of a trade is: OANDA lets it carry no name. Without this it is theirs for whom the trade stands."""
        order = self.orders.get(order_id)
        if order is not None and order.client_id is None:
            self.orders[order_id] = order = replace(order, client_id=client_id)
            if order_id in self.pending:
                self.pending[order_id] = keeping.pending(order)

    def apply(self, transaction: Transaction) -> list[BookEvent]:
        """Take in the next transaction. One that cannot be read is counted, remembered as a doubt, and an Alarm.

        Raises ValueError when its id is not `last_id` + 1; nothing was changed then.
        """
        if transaction.id != self.last_id + 1:
            raise ValueError(
                f"Transaction {transaction.id} of account {self.account} cannot follow {self.last_id}; it was not applied. "
                "Fetch those between first."
            )
        read, change = _way_of(transaction.type)
        try:
            entry = read(transaction)
        except WRONG_KIND as error:
            self.last_id = transaction.id
            return [self.doubt(transaction, f"cannot be read, and is not in the books: {type(error).__name__} {error}")]
        self.last_id = transaction.id
        self.seen = transaction.time or self.seen
        return change(self, transaction, entry)

    def _place(self, transaction: Transaction, order: Placed) -> list[BookEvent]:
        events: list[BookEvent] = []
        trade = self.trades.get(order.trade_id) if order.trade_id is not None else None
        if trade is not None:
            order = replace(order, symbol=trade.symbol)
        elif order.trade_id is not None:
            events.append(self.doubt(transaction, f"is for trade {order.trade_id}, which is not known"))
        self.orders[order.id] = order
        if not order.of_trade:
            self.pending[order.id] = keeping.pending(order)
        elif trade is not None:
            self.trades[trade.id] = attach(trade, order)
            lot = self.find_lot(lot_named(order.client_id)) or self.lot_of(trade.id)
            if lot is not None and lot.symbol == trade.symbol:
                self.put_lot(require(lot, order))
        created = Created(transaction, order.id, order.client_id, order.type, order.symbol, order.trade_id, order.replaces)
        return [created, *events]

    def _cancel(self, transaction: Transaction, ending: Ending) -> list[BookEvent]:
        order = self.forget(ending.order_id)
        client_id = ending.client_id or (order.client_id if order else None)
        symbol, trade_id = (order.symbol, order.trade_id) if order else ("", None)
        return [Cancelled(transaction, ending.order_id, client_id, ending.reason, symbol, trade_id, ending.replaced_by)]

    def _fill(self, transaction: Transaction, fill: Fill) -> list[BookEvent]:
        dealt = deal_fill(self, transaction, fill)
        events = [*dealt, *self.settle(transaction, fill.pl + fill.financing - fill.costs, fill.balance)]
        if fill.why == "MARGIN_CLOSEOUT":
            events.append(Alarm(transaction, f"The broker closed {abs(fill.dealt)} {fill.symbol}: the margin was used up."))
        return events

    def _finance(self, transaction: Transaction, payment: Payment) -> list[BookEvent]:
        amount = payment.amount or ZERO
        amounts = pay_out(self, payment.parts, amount)
        return [Financed(transaction, amounts), *self.settle(transaction, amount, payment.balance)]

    def _transfer(self, transaction: Transaction, payment: Payment) -> list[BookEvent]:
        amount = payment.amount or ZERO
        self.transferred += amount
        return [Transferred(transaction, amount), *self.settle(transaction, amount, payment.balance)]

    def _reject(self, transaction: Transaction, refusal: Refusal) -> list[BookEvent]:
        return [Rejected(transaction, refusal.client_id, refusal.reason)]

    def _rename(self, transaction: Transaction, renaming: Renaming) -> list[BookEvent]:
        order = self.orders.get(renaming.order_id or 0)
        if renaming.changed and order is not None:
            order = self.orders[order.id] = replace(order, client_id=renaming.client_id)
            if not order.of_trade:
                self.pending[order.id] = keeping.pending(order)
            elif order.trade_id in self.trades:
                self.trades[order.trade_id] = rename(self.trades[order.trade_id], order.id, order.client_id)
        if renaming.changed and renaming.trade_id in self.trades:
            self.trades[renaming.trade_id] = replace(self.trades[renaming.trade_id], client_id=renaming.client_id)
        return [Noted(transaction)]

    def _note(self, transaction: Transaction, payment: Payment) -> list[BookEvent]:
        """An alarm, or something that is none of ours.

        A balance that it changes is believed: its amount came or went besides trading.
        """
        events: list[BookEvent] = []
        if payment.balance is not None and payment.balance != self.balance:
            change = payment.balance - self.balance
            self.transferred += change
            self.balance = payment.balance
            events.append(Alarm(transaction, f"{transaction.type} changed the balance by {change} {self.currency}."))
        if text := ALARMS.get(transaction.type):
            events.append(Alarm(transaction, text))
        return events or [Noted(transaction)]

    # --- For those who deal with fills --------------------------------------------------------------------------------------

    def forget(self, order_id: int) -> Placed | None:
        """Take out an order that is over."""
        order = self.orders.pop(order_id, None)
        self.pending.pop(order_id, None)
        if order is not None and order.trade_id in self.trades:
            self.trades[order.trade_id] = detach(self.trades[order.trade_id], order_id)
        return order

    def settle(self, transaction: Transaction, change: Decimal, said: Decimal | None) -> list[BookEvent]:
        """Change the balance and compare with what the broker says it is; the broker's counts."""
        self.balance += change
        if said is None or said == self.balance:
            return []
        difference = said - self.balance
        self.balance = said
        if abs(difference) < CENT:
            self.realised[""] = self.realised.get("", ZERO) + difference
            return []
        self.unexplained += difference
        text = f"Transaction {transaction.id} ({transaction.type}) leaves a balance of {said}; expected {said - difference}."
        return [Alarm(transaction, text)]

    def doubt(self, transaction: Transaction, what: str) -> Alarm:
        """Remember what was not understood of a transaction, and say so."""
        text = f"Transaction {transaction.id} ({transaction.type}) {what}."
        self.doubts = (*self.doubts, text)
        return Alarm(transaction, text)

    # --- Keeping ------------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """All of it as one line."""
        return keeping.write(self)

    @classmethod
    def from_json(cls, text: str) -> Books:
        """The reverse of `to_json`, exactly. Raises DataError when the text is damaged."""
        return keeping.read(text, cls)

    @classmethod
    def adopt(cls, details: Details, currency: str) -> Books:
        """Books for an account of which nothing is known but how it stands.

        Each open trade whose client id is ours is a lot of that deployment's, which must have what its orders say; all others
        are lots of nobody's. What netting took away before is not to be seen.
        """
        return keeping.adopt(details, currency, cls)


Change = Callable[[Books, Transaction, Any], list[BookEvent]]
WAYS: dict[str, tuple[Callable[[Transaction], Any], Change]] = {
    "ORDER_FILL": (read_fill, Books._fill),
    "ORDER_CANCEL": (read_ending, Books._cancel),
    "TRANSFER_FUNDS": (read_transfer, Books._transfer),
    "DAILY_FINANCING": (read_financing, Books._finance),
    "ORDER_CLIENT_EXTENSIONS_MODIFY": (read_renaming, Books._rename),
    "TRADE_CLIENT_EXTENSIONS_MODIFY": (read_renaming, Books._rename),
}


def _way_of(kind: str) -> tuple[Callable[[Transaction], Any], Change]:
    if kind in WAYS:
        return WAYS[kind]
    if kind.endswith("_REJECT"):
        return read_refusal, Books._reject
    return (read_placed, Books._place) if kind.endswith("_ORDER") else (read_other, Books._note)
