"""Orders that the trader holds back, kept over a restart: some wait for FX to open, some for a price that it watches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import TypeAdapter

from mbats.live.owner.account import Account
from mbats.live.owner.guard import Guard, Watch
from mbats.live.owner.orders import Orders, Waiting
from mbats.live.owner.parts import Part
from mbats.live.owner.tickets import Ticket
from mbats.live.protection.armed import Armed
from mbats.live.wire import Standing, Submit

KEY = "held"


@dataclass(frozen=True, slots=True)
class Kept:
    """One order that is held back: until the market opens (`until`, given up at `gives_up`), or as `armed`."""

    deployment: str
    submit: Submit
    until: datetime | None = None
    gives_up: datetime | None = None
    part: Part | None = None
    armed: Armed | None = None


_KEPT = TypeAdapter(list[Kept])


class Patience:
    """Writes down what is held back when it has changed, and brings it back. Used by the owner's thread alone."""

    def __init__(self, account: Account, orders: Orders, guard: Guard) -> None:
        self._account, self._orders, self._guard = account, orders, guard
        self._written = account.journal.load(KEY) or "[]"
        for kept in _KEPT.validate_json(self._written):
            self._bring_back(kept)

    def _bring_back(self, kept: Kept) -> None:
        ticket = Ticket(kept.deployment, "", kept.submit, accepted=kept.armed is not None)
        if kept.armed is not None and kept.part is not None:
            self._guard.watches.append(Watch(ticket, kept.part, kept.armed))
        elif kept.until is not None and kept.gives_up is not None:
            self._orders.waiting.append(Waiting(ticket, kept.until, kept.gives_up))

    def write(self) -> None:
        """Durable when it returns, if anything has changed."""
        found = [Kept(each.ticket.deployment, each.ticket.submit, each.until, each.gives_up) for each in self._orders.waiting]
        found += [
            Kept(each.ticket.deployment, each.ticket.submit, part=each.part, armed=each.armed)
            for each in self._guard.watches
            if not each.ticket.ended
        ]
        text = _KEPT.dump_json(found).decode()
        if text != self._written:
            with self._account.journal.write():
                self._account.journal.save(KEY, text)
            self._written = text

    def adopt(self, name: str, session: str, number: int) -> list[Standing]:
        """What of a deployment's is held back, for its new process; numbered downwards from `number`."""
        held: list[Waiting | Watch] = [*self._orders.waiting, *self._guard.watches]
        tickets = [each.ticket for each in held if each.ticket.deployment == name]
        found: list[Standing] = []
        for ticket in tickets:
            submit = ticket.submit
            ticket.session = session
            ticket.submit = replace(submit, ref=number - len(found))
            self._orders.tickets[ticket.key] = ticket
            price = submit.price
            found.append(
                Standing(ticket.submit.ref, submit.symbol, submit.units, submit.form, "entry", submit.bar, price, submit.trail)
            )
        return found
