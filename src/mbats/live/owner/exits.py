"""Leaving a position: own trades are closed by their number, and what was netted away at the broker goes at the market."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from mbats.live.gate import Order, Working
from mbats.live.ids import client_id
from mbats.live.journal import IntentRow
from mbats.live.owner.account import Account
from mbats.live.owner.bodies import order_body
from mbats.live.owner.requests import Requests
from mbats.live.owner.stakes import own_trades, standalone_stops
from mbats.live.owner.tickets import Ticket

ZERO = Decimal(0)


@dataclass(slots=True)
class NettedExit:
    """A market order that may go only when the standalone stops of the same units are gone, lest both deal."""

    ticket: Ticket
    order: Order
    stops: set[int]


@dataclass(slots=True)
class Exits:
    """`nothing_left` is called for an order whose units a stop has dealt meanwhile."""

    account: Account
    requests: Requests
    nothing_left: Callable[[Ticket], None]
    netted: list[NettedExit] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Else what still waits to be closed would be closed a second time, by an order that nothing else is asked of.
        self.account.unsent = lambda: [_working(exit.order) for exit in self.netted]

    def give_up(self, ticket: Ticket) -> None:
        """What of this order waits is not sent."""
        for exit in [each for each in self.netted if each.ticket is ticket]:
            self.netted.remove(exit)
            ticket.open.discard(client_id(exit.order.intent))

    def leave(self, ticket: Ticket, order: Order) -> None:
        """Close the deployment's own trades, oldest lot first; what of its units was netted away goes by a market order."""
        account, left, number = self.account, abs(order.units), 0
        names, stops = [], set()
        for lot in [each for each in account.books.lots if (each.deployment, each.symbol) == (order.deployment, order.symbol)]:
            take = min(left, abs(lot.units))
            left -= take
            for trade in own_trades(account.books, lot):
                units = min(take, abs(trade.units))
                if units:
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
            in_trades = sum((abs(row.units) for row in self._closing(order)), ZERO)
            free = max(ZERO, abs(held) - in_trades) if held * order.units < 0 else ZERO
            units = min(abs(order.units), free)
            if not units:
                self.nothing_left(exit.ticket)
                continue
            order = replace(order, units=units if order.units > 0 else -units)
            body = order_body(order, self.account.instruments[order.symbol], None, shared=True)
            self.requests.post(self.requests.note(exit.ticket, order, body))

    def _closing(self, order: Order) -> list[IntentRow]:
        return [
            row
            for row in self.account.rows.values()
            if row.action == "close_trade" and (row.deployment, row.symbol) == (order.deployment, order.symbol)
        ]


def _working(order: Order) -> Working:
    return Working(client_id(order.intent), order.deployment, order.symbol, order.units, order.kind, True)
