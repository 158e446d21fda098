"""Leaving a position: own trades are closed by their number, and what was netted away at the broker goes at the market."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial

from mbats.live.gate import Allowed, Order, Working
from mbats.live.ids import client_id
from mbats.live.journal import IntentRow
from mbats.live.owner.account import Account
from mbats.live.owner.bodies import order_body
from mbats.live.owner.requests import Requests
from mbats.live.owner.stakes import own_trades, standalone_stops
from mbats.live.owner.tickets import Ticket
from mbats.live.wire import Status

ZERO = Decimal(0)
# A trade was gone, or smaller, when its close came: its stop was faster, or the broker has netted it against somebody's order.
GONE = ("NO_SUCH_TRADE", "TRADE_DOESNT_EXIST", "CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE")
AGAIN = "-again"


@dataclass(slots=True)
class NettedExit:
    """A market order that may go only when the standalone stops of the same units are gone, lest both deal."""

    ticket: Ticket
    order: Order
    stops: set[int]


@dataclass(frozen=True, slots=True)
class Again:
    """A close that found no trade. What the deployment holds all the same is left another way, else it ends so."""

    ticket: Ticket
    order: Order
    status: Status
    reason: str
    detail: str


@dataclass(slots=True)
class Exits:
    """`nothing_left` is called for an order whose units a stop has dealt meanwhile, `end` for one that comes to nothing."""

    account: Account
    requests: Requests
    nothing_left: Callable[[Ticket], None]
    end: Callable[[Ticket, Status, str, str], None]
    netted: list[NettedExit] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Else what still waits to be closed would be closed a second time, by an order that nothing else is asked of.
        self.account.unsent = lambda: [_working(exit.order) for exit in self.netted]

    def is_leaving(self, deployment: str, symbol: str) -> bool:
        """Whether an exit of the deployment's is under way, or waits. What opened meanwhile might be netted against what it is
        to close, by the broker's first in, first out: the exit would find nothing, and then open what the other was to."""
        found = any((each.order.deployment, each.order.symbol) == (deployment, symbol) for each in self.again)
        return bool(found or self._under_way(deployment, symbol) or self._unsent(deployment, symbol))

    def give_up(self, ticket: Ticket) -> None:
        """What of this order waits is not sent."""
        for exit in [each for each in self.netted if each.ticket is ticket]:
            self.netted.remove(exit)
            ticket.open.discard(client_id(exit.order.intent))
        self.again = [each for each in self.again if each.ticket is not ticket]

    def found_no_trade(self, ticket: Ticket, row: IntentRow, status: Status, detail: str) -> bool:
        """A close came to nothing. If that is because its trade is gone, the broker's log is read before anything is said."""
        if row.action != "close_trade" or row.reason not in GONE or row.purpose.endswith(2 * AGAIN) or ticket.cancelling:
            return False
        purpose, flatten = f"{row.purpose}{AGAIN}", row.why == "flatten"
        order = Order(row.deployment, row.symbol, row.units, row.bar, purpose, reduce_only=True, flatten=flatten)
        ticket.open.add(client_id(order.intent))
        self.again.append(Again(ticket, order, status, row.reason, detail))
        self.ask()
        return True

    def ask(self) -> None:
        """Read what has happened; `informed` is called when that is booked."""
        if self.again:
            self.account.calls.read("leave", partial(self.account.reads.transactions_since, self.account.continuity.last))

    def give_up_all(self) -> None:
        """The broker's log may not be read: nothing is sent that only it could justify."""
        waiting, self.again = self.again, []
        for each in waiting:
            each.ticket.open.discard(client_id(each.order.intent))
            self.end(each.ticket, each.status, each.reason, each.detail)

    def informed(self) -> None:
        """The books are as new as the answers that found no trade."""
        waiting, self.again = self.again, []
        for each in waiting:
            order, ticket = each.order, each.ticket
            ticket.open.discard(client_id(order.intent))
            where = (order.deployment, order.symbol)
            held = self.account.books.position(*where)
            going = self._under_way(*where) + sum((abs(other.units) for other in self._unsent(*where)), ZERO)
            units = min(abs(order.units), abs(held) - going) if held * order.units < 0 else ZERO
            if units > 0:
                order = replace(order, units=units.copy_sign(order.units))
                answer = self.account.gate.judge(order, self.account.view(order.deployment), self.account.clock.now())
                if isinstance(answer, Allowed) and isinstance(answer.order, Order):
                    self.leave(ticket, answer.order)
                    continue
            self.end(ticket, each.status, each.reason, each.detail)

    def leave(self, ticket: Ticket, order: Order) -> None:
        """Close the deployment's own trades, oldest lot first; what of its units was netted away goes by a market order."""
        account, left, number = self.account, abs(order.units), 0
        names, stops = [], set()
        where = (order.deployment, order.symbol)
        leaving = self._under_way(*where) + sum((abs(each.units) for each in self._unsent(*where)), ZERO)
        for lot in [each for each in account.books.lots if (each.deployment, each.symbol) == where]:
            before = min(leaving, abs(lot.units))  # earlier exits are dealt first, and from the oldest lots
            leaving -= before
            take = min(left, abs(lot.units) - before)
            left -= take
            for trade in own_trades(account.books, lot):
                units = min(take, abs(trade.units) - self._under_way(*where, trade.id))
                if units > 0:
                    purpose = order.purpose if not number else f"{order.purpose}.{number}"
                    signed = units if order.units > 0 else -units
                    amount = "ALL" if units == abs(trade.units) else units
                    closing = replace(order, units=signed, purpose=purpose)
                    names.append(self.requests.note(ticket, closing, {"units": amount}, "close_trade", str(trade.id)))
                    take, number = take - units, number + 1
            if take:
                left += take
                stops |= {stop.id for stop in standalone_stops(account.books, lot)}
        if left:
            units = left if order.units > 0 else -left
            # What is sent first has the name that the gate has judged, so that the same wish is refused from now on.
            exit = NettedExit(
                ticket, replace(order, units=units, purpose=f"{order.purpose}-rest" if names else order.purpose), stops
            )
            account.intents.setdefault(order.deployment, set()).add(order.intent)
            ticket.open.add(client_id(exit.order.intent))
            self.netted.append(exit)
            for number in stops:
                self.requests.cancel_order(order.deployment, number)
        for name in names:
            self.requests.post(name)
        self.go_on()

    def go_on(self) -> None:
        """Send the netted exits whose stops are gone; what a stop has dealt meanwhile is not dealt again."""
        for exit in [each for each in self.netted if not each.stops & set(self.account.books.pending)]:
            self.netted.remove(exit)
            order, name = exit.order, client_id(exit.order.intent)
            exit.ticket.open.discard(name)
            held = self.account.books.position(order.deployment, order.symbol)
            free = max(ZERO, abs(held) - self._under_way(order.deployment, order.symbol)) if held * order.units < 0 else ZERO
            units = min(abs(order.units), free)
            if not units:
                self.nothing_left(exit.ticket)
                continue
            order = replace(order, units=units if order.units > 0 else -units)
            body = order_body(order, self.account.instruments[order.symbol], None, shared=True)
            self.requests.post(self.requests.note(exit.ticket, order, body))

    def _under_way(self, deployment: str, symbol: str, trade_id: int | None = None) -> Decimal:
        """How many units of the deployment's are being closed already, of one trade or in all; no stops and targets."""
        return sum(
            (
                abs(row.units)
                for row in self.account.rows.values()
                if row.reduce_only
                and (row.deployment, row.symbol) == (deployment, symbol)
                and row.body.get("type") in (None, "MARKET")
                and (trade_id is None or row.target_id == str(trade_id))
            ),
            ZERO,
        )

    def _unsent(self, deployment: str, symbol: str) -> list[Order]:
        waiting = (each.order for each in self.netted)
        return [each for each in waiting if (each.deployment, each.symbol) == (deployment, symbol)]


def _working(order: Order) -> Working:
    return Working(client_id(order.intent), order.deployment, order.symbol, order.units, order.kind, True)
