"""The order path: from what a strategy wants to what the broker did, each once.

    wish → parts → gate → journal → one request → outcome and transactions → words to the strategy

`requests` sends and settles, `exits` leaves positions, `listeners` knows who hears of stops and targets. What the broker's
transactions say comes in by the four methods named after the books' events.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from mbats.live.books import Cancelled, Created, Filled, Rejected
from mbats.live.gate import Kind, Order, Reason, Refused, View
from mbats.live.gate.calendar import closed_until
from mbats.live.ids import client_id
from mbats.live.journal import IntentState
from mbats.live.owner.account import Account
from mbats.live.owner.bodies import gtd_is_past, order_body
from mbats.live.owner.exits import Exits
from mbats.live.owner.listeners import Listeners
from mbats.live.owner.parts import Part, Way, parts_of
from mbats.live.owner.requests import KNOWN_ALREADY, Requests, bar_end
from mbats.live.owner.tickets import Ticket, end_of
from mbats.live.wire import Form, OrderEvent, Status, Submit, Withdraw

log = logging.getLogger(__name__)

# Why an order that waited for the market to open goes on waiting a little: the first price is not there yet.
OPENING = (Reason.MARKET_CLOSED, Reason.NOT_TRADEABLE, Reason.PRICE_STALE, Reason.NO_PRICE)


@dataclass(slots=True)
class Waiting:
    """A market order that waits for FX to open, with the moment (broker's time) after which it is given up."""

    ticket: Ticket
    until: datetime
    gives_up: datetime


@dataclass(slots=True)
class Orders:
    """See the module. `watch` takes over forms that OANDA does not have; `touched` is told of each pair in which something
    changed."""

    account: Account
    watch: Callable[[Ticket, Part], None]
    touched: Callable[[str], None]
    tickets: dict[tuple[str, int], Ticket] = field(default_factory=dict)
    deferred: list[Ticket] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    turning: list[Ticket] = field(default_factory=list)
    requests: Requests = field(init=False)
    exits: Exits = field(init=False)
    listeners: Listeners = field(init=False)

    def __post_init__(self) -> None:
        self.requests = Requests(self.account, self.finish, self._accepted, self.touched)
        self.exits = Exits(self.account, self.requests, self._nothing_left, self.end)
        self.listeners = Listeners(self.account)

    # --- Wishes ---------------------------------------------------------------------------------------------------------

    def submit(self, name: str, submit: Submit) -> None:
        """A strategy wants an order."""
        account = self.account
        ticket = Ticket(name, account.deployments[name].session, submit)
        self.tickets[ticket.key] = ticket
        self._say(ticket, ticket.words(Status.SUBMITTED, account.clock.now()))
        if account.live:
            self.begin(ticket)
        else:
            self.deferred.append(ticket)

    def begin(self, ticket: Ticket, *, waited: bool = False) -> None:
        """Ask the gate for each part, and carry out what it allows; the first refusal ends it."""
        if ticket.cancelling:
            self.end(ticket, Status.CANCELED, "CLIENT_REQUEST")
            return
        view = self.account.view(ticket.deployment)
        first, *rest = parts_of(ticket.submit, ticket.deployment, view)
        if first.way is Way.OPEN and self.exits.is_leaving(ticket.deployment, first.order.symbol):
            ticket.then = first
            self.turning.append(ticket)
            return
        ticket.then = rest[0] if rest else None
        if not self._ask(ticket, first, view, waited=waited):
            ticket.then = None
        elif ticket.then is not None:
            self.turning.append(ticket)

    def _turn(self, ticket: Ticket) -> None:
        """What turns a position round opens when all that was held is closed. What a stop has closed meanwhile is closed too."""
        part = ticket.then
        if part is None or ticket.open or ticket.ended or self.exits.is_leaving(ticket.deployment, part.order.symbol):
            return
        ticket.then = None
        if not ticket.dealt and not ticket.reason and not ticket.cancelling:  # it only waited for an exit of another order
            self.begin(ticket)
        elif self.account.books.position(ticket.deployment, part.order.symbol) * part.order.units < 0 or ticket.cancelling:
            self.end(ticket, Status.CANCELED, "NOT_CLOSED", "What was held could not be closed, so nothing was opened.")
        elif closed_until(self.account.clock.now()) is not None:
            self.end(ticket, Status.CANCELED, "MARKET_CLOSED", "The market closed before the other side could be opened.")
        else:
            self._ask(ticket, part, self.account.view(ticket.deployment), waited=False)

    def withdraw(self, name: str, withdraw: Withdraw) -> None:
        """A strategy cancels an order of its own. What becomes of it is said when the broker has said it."""
        session = self.account.deployments[name].session
        place = self.listeners.place_of(session, withdraw.ref)
        if place is not None:
            self._release(*place)
            return
        ticket = self.tickets.get((session, withdraw.ref))
        if ticket is None:
            ticket = next((each for each in self.tickets.values() if each.session == session and withdraw.ref in each.refs), None)
        if ticket is not None and not ticket.ended:
            self.cancel(ticket)

    def cancel(self, ticket: Ticket) -> None:
        """Take an order back, wherever it is by now."""
        ticket.cancelling, ticket.then = True, None
        if ticket in self.deferred:
            self.deferred.remove(ticket)
        self.waiting = [each for each in self.waiting if each.ticket is not ticket]
        self.exits.give_up(ticket)
        if not ticket.open:
            self.end(ticket, Status.CANCELED, "CLIENT_REQUEST")
        for name in ticket.open:
            row = self.account.rows.get(name)
            if row is not None and row.order_id in self.account.books.pending:
                self.requests.cancel_order(row.deployment, row.order_id)

    # --- The gate ---------------------------------------------------------------------------------------------------------

    def _ask(self, ticket: Ticket, part: Part, view: View, *, waited: bool) -> bool:
        account, order, now = self.account, part.order, self.account.clock.now()
        if not waited and self._is_late(ticket, order, now):
            self.end(
                ticket, Status.CANCELED, "SIGNAL_EXPIRED", "Its bar closed too long ago: the price it was decided on is gone."
            )
            return False
        opens = closed_until(now)
        if opens is not None and order.kind is Kind.MARKET:
            self.waiting.append(Waiting(ticket, opens, opens + account.options.hold_after_open))
            return False
        foreign = account.foreign_units(order.symbol)
        if foreign * order.units < 0 and part.way is not Way.CLOSE:
            sentence = (
                f"{foreign} units of {order.symbol} on this account are not MBATS's, and this order would close some of them."
            )
            self._refuse(ticket, order, "foreign_position", sentence)
            return False
        answer = account.gate.judge(order, view, now)
        if isinstance(answer, Refused):
            if waited and order.kind is Kind.MARKET and answer.reason in OPENING:
                raise _NotYet
            if answer.reason is Reason.POSITION_UNKNOWN and account.known and account.fenced:
                self._refuse(ticket, order, "fenced", f"{order.deployment}: nothing new may be opened: {account.fenced}.")
            else:
                self._refuse(ticket, order, str(answer.reason), answer.sentence, answer)
            return False
        assert isinstance(answer.order, Order)
        match part.way:
            case Way.CLOSE:
                self.exits.leave(ticket, answer.order)
            case Way.WATCH:
                self.watch(ticket, replace(part, order=answer.order))
            case _:
                self.send(ticket, answer.order)
        return True

    def _is_late(self, ticket: Ticket, order: Order, now: datetime) -> bool:
        """Whether an entry's bar closed longer ago than a decision is good for. A wish to get out is never too late."""
        if order.reduce_only or gtd_is_past(ticket.submit, now):
            return not order.reduce_only
        closed = bar_end(self.account, ticket.deployment, order.bar)
        return now - closed > self.account.options.signal_lives and closed_until(closed) is None

    def _refuse(self, ticket: Ticket, order: Order, code: str, sentence: str, refused: Refused | None = None) -> None:
        account = self.account
        figures: dict[str, Any] = {"detail": _order_json(order)}
        if refused is not None:
            figures |= {"found": refused.found, "allowed": refused.limit, "until": refused.until}
        key = f"refusal {client_id(order.intent)} {ticket.session}.{ticket.submit.ref}"
        with account.journal.write():
            account.event(key, "refusal", "info", code, sentence, deployment=order.deployment, symbol=order.symbol, **figures)
        self.end(ticket, Status.REJECTED, code, sentence)

    def send(self, ticket: Ticket, order: Order) -> None:
        """An order to the broker, journaled first."""
        account = self.account
        shared = account.is_shared(order.symbol, order.deployment)
        body = order_body(order, account.instruments[order.symbol], ticket.submit, shared=shared)
        name = self.requests.note(ticket, order, body)
        if not order.reduce_only:
            self.listeners.listen(ticket, name)
        self.requests.post(name)

    # --- The broker's transactions ----------------------------------------------------------------------------------------

    def created(self, event: Created) -> None:
        """An order came into being."""
        name = self.requests.name_of(event.order_id, event.client_id) or self.requests.close_of(event)
        if event.replaces is not None:
            name = self.requests.by_order.get(event.replaces, name)
        if name is not None and event.client_id is None and event.trade_id is not None:
            self.account.books.name_close(event.order_id, name)
            self.account.journal.save("books", self.account.books.to_json())
        if name is None or name not in self.account.rows:
            return
        self.requests.by_order[event.order_id] = name
        row = self.account.change_row(name, state=IntentState.WORKING, order_id=event.order_id, reason="", detail="")
        self.requests.settled(name)
        ticket = self.requests.tickets.get(name)
        if ticket is not None:
            self._say(ticket, ticket.accept(self._at(event)))
            if ticket.cancelling and event.order_id in self.account.books.pending:
                self.requests.cancel_order(row.deployment, event.order_id)

    def filled(self, event: Filled) -> None:
        """An order dealt for one owner."""
        name = self.requests.name_of(event.order_id, event.client_id)
        at = self._at(event)
        row = self.account.rows.get(name or "")
        if row is not None:
            over = event.order_id not in self.account.books.pending
            self.account.change_row(
                row.client_id, state=IntentState.FILLED if over else IntentState.WORKING, order_id=event.order_id
            )
            self.requests.settled(row.client_id)
        ticket = self.requests.tickets.get(name or "")
        if event.role in ("stop", "target") and event.lot_id is not None:
            self.listeners.filled(event, at)
        elif ticket is not None and row is not None:
            if event.order_id not in self.account.books.pending:
                ticket.open.discard(row.client_id)
                if not ticket.opened and event.role != "entry":
                    self.listeners.forget(row.client_id)
            figures, opens = (event.units, event.price, at, event.position, event.pnl), event.role == "entry"
            self._say(ticket, ticket.deal(*figures, last=not ticket.open and ticket.then is None, opens=opens))
            self._after_end(ticket)
            if not self._is_heard(ticket):
                self.listeners.outside(event, at)
        elif event.owner:
            self.listeners.outside(event, at)
        self.listeners.end_gone(at)

    def cancelled(self, event: Cancelled) -> None:
        """An order is over without a fill."""
        self.requests.cancelling.pop(event.order_id, None)
        if event.replaced_by is not None:
            return
        name = self.requests.name_of(event.order_id, event.client_id)
        if name is not None and name in self.account.rows:
            self.finish(name, IntentState.CANCELLED, end_of(event.reason), event.reason, "", at=self._at(event))
        self.listeners.cancelled(event, self._at(event))

    def rejected(self, event: Rejected) -> None:
        """The broker refused a request by a transaction."""
        if event.reason == KNOWN_ALREADY:
            return  # a request came twice, and the first one stands
        if event.client_id is not None and event.client_id in self.account.rows:
            self.finish(event.client_id, IntentState.REJECTED, Status.REJECTED, event.reason, "", at=self._at(event))

    def finish(
        self, name: str, state: IntentState, status: Status, reason: str, detail: str, *, at: datetime | None = None
    ) -> None:
        """A request came to nothing."""
        with self.account.journal.write():
            row = self.account.change_row(name, state=state, reason=reason, detail=detail)
        self.requests.settled(name)
        self.touched(row.symbol)
        ticket = self.requests.tickets.pop(name, None)
        if ticket is not None:
            ticket.open.discard(name)
            self.listeners.forget(name)
            if self.exits.found_no_trade(ticket, row, status, detail):
                return
            self._say(ticket, ticket.give_up(status, at or self.account.clock.now(), reason=reason, detail=detail))
            self._after_end(ticket)

    def end(self, ticket: Ticket, status: Status, reason: str, detail: str = "") -> None:
        """An order ends before anything of it was sent, or what is left of it does."""
        self._say(ticket, ticket.give_up(status, self.account.clock.now(), reason=reason, detail=detail))
        self._after_end(ticket)

    # --- Time -------------------------------------------------------------------------------------------------------------

    def tick(self) -> list[str]:
        """What is due: retries, orders that waited for the market, cancels. Returns the intents that are to be looked for now."""
        if self.account.live:
            deferred, self.deferred = self.deferred, []
            for ticket in deferred:
                self.begin(ticket)
            self._open_market()
        self.exits.go_on()
        for ticket in list(
            self.turning
        ):  # not as fills come: what is sent must be on the disk, and a fill's write is not over then
            self._turn(ticket)
        self.turning = list({id(each): each for each in self.turning if each.then is not None}.values())
        self.requests.forget_ended()
        return self.requests.due()

    def _open_market(self) -> None:
        now = self.account.clock.now()
        for each in [each for each in self.waiting if now >= each.until]:
            self.waiting.remove(each)
            if now > each.gives_up:
                self.end(each.ticket, Status.CANCELED, "MARKET_CLOSED", "The market opened without a price that could be traded.")
                continue
            try:
                self.begin(each.ticket, waited=True)
            except _NotYet:
                self.waiting.append(each)

    # --- Sessions ---------------------------------------------------------------------------------------------------------

    def leave(self, name: str) -> None:
        """The process of a deployment is gone: its orders stand, and nobody listens until the next one adopts them."""
        self.deferred = [each for each in self.deferred if each.deployment != name]
        self.tickets = {key: each for key, each in self.tickets.items() if each.deployment != name}
        self.listeners.leave(name)

    def adopt(self, ticket: Ticket, name: str) -> None:
        """A new process hears of an order that stands from before."""
        ticket.open.add(name)
        self.tickets[ticket.key] = ticket
        self.requests.tickets[name] = ticket

    def abandon(self) -> None:
        """The trader ends before it was in step again: what could not be decided is told, so that nothing is lost in silence."""
        account, deferred = self.account, self.deferred
        self.deferred = []
        for ticket in deferred:
            submit = ticket.submit
            sentence = (
                f"{ticket.deployment}: an order for {submit.units:f} {submit.symbol} was not decided on, because the trader "
                "ended while it was not in step with the broker."
            )
            key = f"abandoned {ticket.session}.{submit.ref}"
            detail = {"units": str(submit.units), "bar": submit.bar.isoformat(), "form": submit.form.value}
            with account.journal.write():
                account.event(
                    key,
                    "lifecycle",
                    "warning",
                    "TRADER_STOPS",
                    sentence,
                    deployment=ticket.deployment,
                    symbol=submit.symbol,
                    detail=detail,
                )
            self.end(ticket, Status.CANCELED, "TRADER_STOPS", sentence)

    def take_back(self, names: set[str]) -> None:
        """Cancel everything of these deployments that could still open something: pending, waiting or under way.

        What only leaves a position stays: a strategy's own stop protects whoever may do nothing else any more.
        """
        held_back = [*(each.ticket for each in self.waiting), *self.deferred]
        standing = [*self.tickets.values(), *self.requests.tickets.values()]
        found = [*(each for each in standing if each.submit.form is not Form.MARKET), *held_back]
        for ticket in {id(each): each for each in found if each.deployment in names and not each.ended}.values():
            if not self._only_leaves(ticket):
                self.cancel(ticket)
        for row in list(self.account.rows.values()):
            if row.deployment in names and row.order_id in self.account.books.pending and not row.reduce_only:
                assert row.order_id is not None
                self.requests.cancel_order(row.deployment, row.order_id)

    def _only_leaves(self, ticket: Ticket) -> bool:
        rows = [self.account.rows[name] for name in ticket.open if name in self.account.rows]
        if rows:
            return all(row.reduce_only for row in rows)
        submit = ticket.submit
        held = self.account.books.position(ticket.deployment, submit.symbol)
        return held * submit.units < 0 and abs(submit.units) <= abs(held) and submit.stop is None and submit.target is None

    # --- Words ------------------------------------------------------------------------------------------------------------

    def _release(self, lot_id: str, role: str) -> None:
        """The strategy gives up the stop or the target of a lot."""
        books = self.account.books
        lot = next((each for each in books.lots if each.id == lot_id), None)
        if lot is None:
            return
        stop, trail = (None, None) if role == "stop" else (lot.stop, lot.trail)
        books.set_protection(lot_id, stop=stop, trail=trail, target=None if role == "target" else lot.target)
        with self.account.journal.write():
            self.account.journal.save("books", books.to_json())
        self.touched(lot.symbol)

    def _after_end(self, ticket: Ticket) -> None:
        """One of several orders that cancel each other is over."""
        if not ticket.ended:
            return
        if ticket.submit.oco is not None:
            for other in list(self.tickets.values()):
                if other.session == ticket.session and other.submit.oco == ticket.submit.oco and not other.ended:
                    self.cancel(other)
        self.tickets.pop(ticket.key, None)

    def _say(self, ticket: Ticket, events: list[OrderEvent]) -> None:
        self.account.say(ticket.deployment, ticket.session, events)

    def _accepted(self, ticket: Ticket, at: datetime) -> None:
        self._say(ticket, ticket.accept(at))

    def _nothing_left(self, ticket: Ticket) -> None:
        if ticket.then is None:
            self.end(ticket, Status.CANCELED, "POSITION_CLOSED")

    def _is_heard(self, ticket: Ticket) -> bool:
        trading = self.account.deployments.get(ticket.deployment)
        return trading is not None and trading.session == ticket.session

    def _at(self, event: Created | Filled | Cancelled | Rejected) -> datetime:
        return event.transaction.time or self.account.clock.now()


class _NotYet(Exception):
    """The market has opened and has no price yet."""


def _order_json(order: Order) -> dict[str, Any]:
    return {
        "symbol": order.symbol,
        "units": str(order.units),
        "bar": order.bar.isoformat(),
        "purpose": order.purpose,
        "kind": str(order.kind),
        "price": None if order.price is None else str(order.price),
    }
