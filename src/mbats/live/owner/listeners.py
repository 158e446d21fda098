"""Who hears of the stop and the target of a lot: the broker knows the lot, Backtrader a numbered order for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mbats.live.books import Cancelled, Filled, Lot
from mbats.live.ids import read_client_id
from mbats.live.owner.account import Account
from mbats.live.owner.stakes import base_lot
from mbats.live.owner.tickets import Ticket
from mbats.live.wire import OrderEvent, Status


@dataclass(frozen=True, slots=True)
class Listener:
    """A process, and its number of the order."""

    deployment: str
    session: str
    ref: int


@dataclass(slots=True)
class Listeners:
    """By lot and role, which is `stop` or `target`."""

    account: Account
    by_place: dict[tuple[str, str], Listener] = field(default_factory=dict)

    def listen(self, ticket: Ticket, lot_id: str) -> None:
        """The exits of an entry are heard of as soon as it is sent: its client id will be that of the lot."""
        for role, exit in (("stop", ticket.submit.stop), ("target", ticket.submit.target)):
            if exit is not None:
                self.by_place[lot_id, role] = Listener(ticket.deployment, ticket.session, exit.ref)

    def forget(self, lot_id: str) -> None:
        """A request is over. If it has opened nothing, what is to be heard of its stop and target is said at its order's end."""
        if all(lot.id != lot_id for lot in self.account.books.lots):
            self.by_place.pop((lot_id, "stop"), None)
            self.by_place.pop((lot_id, "target"), None)

    def place_of(self, session: str, ref: int) -> tuple[str, str] | None:
        """Which lot and role a process means by this number."""
        found = (place for place, each in self.by_place.items() if (each.session, each.ref) == (session, ref))
        return next(found, None)

    def leave(self, name: str) -> None:
        """The process of a deployment is gone."""
        self.by_place = {place: each for place, each in self.by_place.items() if each.deployment != name}

    def filled(self, event: Filled, at: datetime) -> None:
        """A stop or target dealt."""
        place = (event.lot_id or "", event.role)
        listener = self.by_place.get(place)
        if listener is None:
            self.outside(event, at)
            return
        gone = all(lot.id != event.lot_id for lot in self.account.books.lots)
        if gone:
            del self.by_place[place]
        status = Status.COMPLETED if gone else Status.PARTIAL
        self._tell(
            listener, OrderEvent(listener.ref, event.symbol, status, at, event.units, event.price, event.position, event.pnl)
        )

    def cancelled(self, event: Cancelled, at: datetime) -> None:
        """A stop or target is no more. That is news only if its lot is there and need not have it any longer."""
        lot_id, role = base_lot(event.client_id)
        listener = self.by_place.get((lot_id, role))
        lot = next((each for each in self.account.books.lots if each.id == lot_id), None)
        if listener is not None and lot is not None and not _must_have(lot, role):
            del self.by_place[lot_id, role]
            self._tell(listener, OrderEvent(listener.ref, event.symbol, Status.CANCELED, at, reason=event.reason))

    def end_gone(self, at: datetime) -> None:
        """Stops and targets of lots that are gone are over as well."""
        there = {lot.id for lot in self.account.books.lots} | set(self.account.rows)
        for place in [place for place in self.by_place if place[0] not in there]:
            listener = self.by_place.pop(place)
            intent = read_client_id(place[0])
            symbol = intent.symbol if intent is not None else ""
            self._tell(listener, OrderEvent(listener.ref, symbol, Status.CANCELED, at, reason="LINKED_TRADE_CLOSED"))

    def outside(self, event: Filled, at: datetime) -> None:
        """A fill that no order of the deployment's present process made."""
        trading = self.account.deployments.get(event.owner)
        if trading is not None:
            figures = (event.units, event.price, event.position, event.pnl)
            news = OrderEvent(None, event.symbol, Status.COMPLETED, at, *figures, reason=event.role)
            self.account.say(event.owner, trading.session, [news])

    def _tell(self, listener: Listener, event: OrderEvent) -> None:
        self.account.say(listener.deployment, listener.session, [event])


def _must_have(lot: Lot, role: str) -> bool:
    return lot.target is not None if role == "target" else (lot.stop is not None or lot.trail is not None)
