"""One order of a strategy's on its way: what was asked, what was dealt, and which words the strategy still has to hear.

A strategy's order may be several requests to the broker (a close and an opening, a trade each). It hears of one order: submitted,
accepted, then partial or completed, or how it ended. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from mbats.live.owner.parts import Part
from mbats.live.wire import OrderEvent, Status, Submit

ZERO = Decimal(0)

# How an order that the broker cancelled ends for Backtrader; every other reason is Canceled.
ENDS = {
    "INSUFFICIENT_MARGIN": Status.MARGIN,
    "TIME_IN_FORCE_EXPIRED": Status.EXPIRED,
}


@dataclass(slots=True)
class Ticket:
    """`open` holds the client ids of requests that may still deal. A ticket without a session has nobody who listens any more."""

    deployment: str
    session: str
    submit: Submit
    dealt: Decimal = ZERO
    open: set[str] = field(default_factory=set)
    accepted: bool = False
    ended: bool = False
    cancelling: bool = False
    reason: str = ""
    detail: str = ""
    status: Status = Status.CANCELED
    then: Part | None = None  # what opens the other side, when all that was held is closed
    opened: bool = False  # it has made a lot: its stop and target are that lot's, and end with it

    @property
    def key(self) -> tuple[str, int]:
        return self.session, self.submit.ref

    @property
    def refs(self) -> tuple[int, ...]:
        """The numbers of the order and, of a bracket, of its stop and target."""
        exits = (self.submit.stop, self.submit.target)
        return (self.submit.ref, *(each.ref for each in exits if each is not None))

    def words(self, status: Status, at: datetime, *, reason: str = "", detail: str = "") -> list[OrderEvent]:
        """The same for the order and its stop and target."""
        return [OrderEvent(ref, self.submit.symbol, status, at, reason=reason, detail=detail) for ref in self.refs]

    def accept(self, at: datetime) -> list[OrderEvent]:
        """The broker has it; said once."""
        if self.accepted or self.ended:
            return []
        self.accepted = True
        return self.words(Status.ACCEPTED, at)

    def deal(
        self, units: Decimal, price: Decimal, at: datetime, position: Decimal, pnl: Decimal, *, last: bool, opens: bool = True
    ) -> list[OrderEvent]:
        """A fill. `last` says that nothing more of this order can deal, `opens` that it made a lot or more of one."""
        said = list(self.accept(at))
        self.dealt += units
        self.opened = self.opened or opens
        complete = abs(self.dealt) >= abs(self.submit.units) or (last and not self.reason)
        self.ended = self.ended or complete
        status = Status.COMPLETED if complete else Status.PARTIAL
        said.append(OrderEvent(self.submit.ref, self.submit.symbol, status, at, units, price, position, pnl))
        if last and not self.ended:  # another part of it came to nothing before
            self.ended = True
            said += self._endings(self.status, at, reason=self.reason, detail=self.detail)
        elif self.ended and not self.opened:  # it only closed: there is nothing that its stop and target could be for
            said += self.words(Status.CANCELED, at, reason="NOTHING_OPENED")[1:]
        return said

    def give_up(self, status: Status, at: datetime, *, reason: str, detail: str = "") -> list[OrderEvent]:
        """A part of it came to nothing. The strategy hears it when no other part can deal any more, with the first reason."""
        if not self.reason:
            self.status, self.reason, self.detail = status, reason, detail
        if self.open or self.ended or self.then is not None:
            return []
        self.ended = True
        return self._endings(self.status, at, reason=self.reason, detail=self.detail)

    def _endings(self, status: Status, at: datetime, *, reason: str, detail: str) -> list[OrderEvent]:
        """For the order, and for its stop and target unless they stand for what it has opened."""
        words = self.words(status, at, reason=reason, detail=detail)
        return words[:1] if self.opened else words


def end_of(reason: str) -> Status:
    """Backtrader's word for an order that the broker cancelled for this reason."""
    return ENDS.get(reason, Status.CANCELED)
