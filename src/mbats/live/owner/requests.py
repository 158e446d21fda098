"""One request for each intent: written down, sent once, and its outcome. Doubt is settled here, from the broker's log.

An intent is on the disk before its request leaves. An outcome that is not certain leaves it UNKNOWN; it is sent again, under the
same name, only when it is proven that the broker never got it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

from mbats.live.books import Created
from mbats.live.gate import Cancel, Kind, Order, Refused
from mbats.live.gate.state import refused_login
from mbats.live.ids import client_id
from mbats.live.journal import IntentRow, IntentState
from mbats.live.owner.account import Account
from mbats.live.owner.tickets import Ticket
from mbats.live.wire import Status
from mbats.market import bar_ends, to_datetime, to_us
from mbats.oanda import outcomes
from mbats.oanda.outcomes import Accepted, Outcome, Throttled, Why
from mbats.oanda.precision import plain_body

log = logging.getLogger(__name__)

KNOWN_ALREADY = "CLIENT_ORDER_ID_ALREADY_EXISTS"
UNSURE = (IntentState.SENT, IntentState.UNKNOWN, IntentState.DECIDED)


class Finish(Protocol):
    """What is called when a request came to nothing."""

    def __call__(
        self, name: str, state: IntentState, status: Status, reason: str, detail: str, *, at: datetime | None = None
    ) -> None: ...


@dataclass(slots=True)
class Requests:
    """By the intents' names. `tickets` are the orders that they belong to, `by_order` the broker's numbers of them."""

    account: Account
    finish: Finish
    accepted: Callable[[Ticket, datetime], None]
    touched: Callable[[str], None]
    tickets: dict[str, Ticket] = field(default_factory=dict)
    by_order: dict[int, str] = field(default_factory=dict)
    retry_at: dict[str, float] = field(default_factory=dict)
    settle_at: dict[str, float] = field(default_factory=dict)
    cancelling: dict[int, float] = field(default_factory=dict)

    # --- Sending ----------------------------------------------------------------------------------------------------------

    def note(self, ticket: Ticket, order: Order, body: dict[str, Any], action: str = "order", target: str | None = None) -> str:
        """Write down what is about to be sent; its name."""
        account, name, now = self.account, client_id(order.intent), self.account.clock.now()
        submit = ticket.submit
        changes: dict[str, Any] = {
            "units": order.units,
            "state": IntentState.SENT,
            "body": plain_body(body),
            "attempts": 1,
            "sent_at": now,
            "reason": "",
            "detail": "",
            "target_id": target,
            "action": action,
            "session": ticket.session,
            "ref": submit.ref,
        }
        with account.journal.write():
            known = account.journal.intent(name)
            if known is not None and known.state is not IntentState.ABSENT:
                raise RuntimeError(f"{name} is {known.state} in the journal, and was to be sent once more; it was not.")
            if known is not None:  # proven absent before, and decided anew
                account.change_row(name, **changes)
                account.intents.setdefault(order.deployment, set()).add(order.intent)
            else:
                account.add_row(
                    IntentRow(
                        client_id=name,
                        deployment=order.deployment,
                        symbol=order.symbol,
                        bar=order.bar,
                        purpose=order.purpose,
                        form=submit.form.value,
                        price=order.price,
                        stop=submit.stop.price if submit.stop and not order.reduce_only else None,
                        target=submit.target.price if submit.target and not order.reduce_only else None,
                        trail=submit.stop.trail if submit.stop and not order.reduce_only else submit.trail,
                        reduce_only=order.reduce_only,
                        why="flatten" if order.flatten else "strategy",
                        code_version=account.code_version(order.deployment),
                        decided_at=now,
                        updated_at=now,
                        valid_until=submit.valid_until,
                        **changes,
                    )
                )
            account.gate.sent(order.deployment, order, now)
        ticket.open.add(name)
        self.tickets[name] = ticket
        return name

    def post(self, name: str) -> None:
        """The one request of an intent that stands as SENT in the journal."""
        account = self.account
        row = account.rows[name]
        if row.action == "close_trade":
            assert row.target_id is not None
            units = row.body["units"]
            call = partial(account.trading.close_trade, row.target_id, "ALL" if units == "ALL" else Decimal(units))
        else:
            call = partial(account.trading.submit_order, row.body)
        self.touched(row.symbol)
        account.calls.write(("request", name), call)

    def send_again(self, name: str) -> None:
        """A request that is proven not to have been carried out, once more and under the same name."""
        account = self.account
        row = account.rows.get(name)
        if row is None:
            return
        with account.journal.write():
            account.change_row(name, state=IntentState.SENT, attempts=row.attempts + 1, sent_at=account.clock.now())
        self.post(name)

    def cancel_order(self, deployment: str, order_id: int) -> None:
        """Ask the broker to cancel a pending order; asked again later if that comes to nothing."""
        if order_id in self.cancelling:
            return
        self.cancelling[order_id] = time.monotonic()
        account = self.account
        with account.journal.write():
            account.gate.sent(deployment, Cancel(deployment, str(order_id)), account.clock.now())
        account.calls.write(("cancel", order_id), partial(account.trading.cancel_order, order_id))

    # --- Outcomes ---------------------------------------------------------------------------------------------------------

    def expect(self, key: tuple[str, Any], outcome: Outcome) -> None:
        """Before an answer's transactions are applied: which request they are of."""
        if key[0] == "request" and isinstance(outcome, Accepted):
            for created in outcome.created:
                other = self.by_order.get(created.id, key[1])
                self.by_order[created.id] = key[1]
                if other != key[1]:
                    self._mistaken(key[1], other)

    def _mistaken(self, name: str, other: str) -> None:
        """Of two closes that ask for the same, the broker's log was read as if it had done the other one. Now it is known
        better: each takes the other's place, and what has become of the other is to be found out."""
        row, taken = self.account.rows.get(name), self.account.journal.intent(other)
        if row is None or row.state not in UNSURE or taken is None:
            return
        with self.account.journal.write():
            changes = {"reason": taken.reason, "detail": taken.detail, "order_id": taken.order_id}
            self.account.change_row(name, state=taken.state, **changes)
            self.account.change_row(other, state=IntentState.UNKNOWN, order_id=None, reason="UNKNOWN", detail=row.detail)
        self.settled(name)
        self.settle_at[other] = time.monotonic() + self.account.options.settle_after
        waits, told = self.tickets.pop(name, None), self.tickets.pop(other, None)
        if told is not None:
            self.tickets[name] = told
            told.open = {name if each == other else each for each in told.open}
        if waits is not None:
            self.tickets[other] = waits
            waits.open = {other if each == name else each for each in waits.open}

    def answered(self, name: str, outcome: Outcome) -> None:
        """What became of a request, after the transactions that came with the answer."""
        row = self.account.rows.get(name)
        if row is None or row.state not in UNSURE:
            return  # the stream was faster, and said it all
        match outcome:
            case Accepted():
                pass  # its transactions say what happened, and those that are missing are being fetched
            case outcomes.Refused():
                self._refused(row, outcome)
            case Throttled():
                self._throttled(row, outcome)
            case _:
                self.unknown(row, outcome.why)

    def _refused(self, row: IntentRow, refused: outcomes.Refused) -> None:
        code = refused.error_code or f"HTTP_{refused.status}"
        if refused.kind in (Why.CREDENTIALS, Why.FORBIDDEN):
            self.login_refused(refused.status)
            code = "UNAUTHORIZED" if refused.kind is Why.CREDENTIALS else "FORBIDDEN"
        if code == KNOWN_ALREADY:
            self.unknown(row, "the broker has an order of this name already")
        elif refused.kind is Why.NOT_FOUND and row.action == "close_trade":
            self.finish(row.client_id, IntentState.CANCELLED, Status.CANCELED, code, refused.reason)
        else:
            self.finish(row.client_id, IntentState.REJECTED, Status.REJECTED, code, refused.reason)

    def login_refused(self, status: int) -> None:
        """HTTP 401 or 403: everything is halted until a person has looked (R30)."""
        account = self.account
        account.gate.put_state(refused_login(account.gate.state, status=status, at=account.clock.now()))
        if not account.denied:
            account.denied = True
            sentence = (
                f"The broker answered HTTP {status}: it refuses the token of account {account.id}. All trading on it is halted."
            )
            with account.journal.write():
                account.event(f"login {account.clock.now().isoformat()}", "alarm", "critical", "login_refused", sentence)

    def _throttled(self, row: IntentRow, throttled: Throttled) -> None:
        if row.attempts >= self.account.options.most_attempts:
            self.finish(row.client_id, IntentState.REJECTED, Status.REJECTED, "THROTTLED", throttled.reason)
            return
        with self.account.journal.write():
            self.account.change_row(row.client_id, state=IntentState.DECIDED, reason="THROTTLED", detail=throttled.reason)
        self.retry_at[row.client_id] = time.monotonic() + self.account.options.retry_after * row.attempts

    def unknown(self, row: IntentRow, why: str) -> None:
        """Nobody knows whether the broker has it. It is looked for when whatever was under way must have arrived."""
        with self.account.journal.write():
            self.account.change_row(row.client_id, state=IntentState.UNKNOWN, reason="UNKNOWN", detail=why)
        self.settle_at[row.client_id] = time.monotonic() + self.account.options.settle_after

    def found(self, name: str, order_id: int) -> None:
        """The broker has it among the orders that wait, and made it before the books began."""
        self.by_order[order_id] = name
        with self.account.journal.write():
            self.account.change_row(name, state=IntentState.WORKING, order_id=order_id, reason="", detail="")
        self.settled(name)
        ticket = self.tickets.get(name)
        if ticket is not None:
            self.accepted(ticket, self.account.clock.now())

    def absent(self, name: str) -> None:
        """It is proven that the broker never got it: sent again while it still makes sense, else over."""
        account = self.account
        row = account.rows.get(name)
        if row is None or row.state not in UNSURE:
            return
        if row.attempts < account.options.most_attempts and self._still_wanted(row):
            self.send_again(name)
            return
        account.forget_intent(name)
        self.finish(name, IntentState.ABSENT, Status.CANCELED, "NOT_AT_BROKER", row.detail)

    def _still_wanted(self, row: IntentRow) -> bool:
        account, now = self.account, self.account.clock.now()
        ticket = self.tickets.get(row.client_id)
        if ticket is not None and ticket.cancelling:
            return False
        if row.action == "close_trade":
            return row.target_id is not None and int(row.target_id) in account.books.trades
        if row.reduce_only:
            return account.books.position(row.deployment, row.symbol) * row.units < 0
        trading = account.deployments.get(row.deployment)
        if not account.live or not account.known or trading is None or trading.say is None:
            return False
        order = Order(row.deployment, row.symbol, row.units, row.bar, row.purpose, _kind(row), row.price)
        if now - bar_end(account, row.deployment, row.bar) > account.options.signal_lives:
            return False
        account.forget_intent(row.client_id)  # so that the guard against saying it twice does not meet the same intent
        del account.rows[row.client_id]
        try:
            answer = account.gate.judge(order, account.view(row.deployment), now)
        finally:
            account.rows[row.client_id] = row
            account.intents.setdefault(row.deployment, set()).add(order.intent)
        return not isinstance(answer, Refused)

    def remember(self) -> None:
        """Take up the numbers of orders that were under way when the trader ended: the broker goes on to call them by these."""
        self.by_order |= {row.order_id: name for name, row in self.account.rows.items() if row.order_id is not None}

    # --- Names ------------------------------------------------------------------------------------------------------------

    def name_of(self, order_id: int, name: str | None) -> str | None:
        """The intent of an order: by its number, or by the name that it carries."""
        return self.by_order.get(order_id) or (name if name in self.account.rows else None)

    def close_of(self, event: Created) -> str | None:
        """The close of a trade carries no name; it is ours if one of this trade is under way."""
        if event.trade_id is None or event.client_id is not None:
            return None
        asked = _units((event.transaction.body.get("tradeClose") or {}).get("units"))
        found = [
            row
            for row in self.account.rows.values()
            if row.action == "close_trade"
            and row.target_id == str(event.trade_id)
            and row.state in UNSURE
            and _units(row.body["units"]) == asked
        ]
        # One that waits to be sent again was certainly not carried out, unless nothing else can have been.
        found.sort(key=lambda row: row.state is IntentState.DECIDED)
        return found[0].client_id if found else None

    def settled(self, name: str) -> None:
        self.settle_at.pop(name, None)
        self.retry_at.pop(name, None)

    def forget_ended(self) -> None:
        """Let go of orders that are over; between transactions, since one of them may deal an order in several events."""
        rows = self.account.rows
        for name in [name for name, ticket in self.tickets.items() if ticket.ended and name not in rows]:
            del self.tickets[name]
        for order_id in [order_id for order_id, name in self.by_order.items() if name not in rows]:
            del self.by_order[order_id]

    def due(self) -> list[str]:
        """Intents that are to be looked for now. Retries that are due are made."""
        now, account = time.monotonic(), self.account
        for name in [name for name, at in self.retry_at.items() if now >= at]:
            del self.retry_at[name]
            self.absent(name)
        for order_id in [each for each, since in self.cancelling.items() if now - since > 2 * account.options.retry_after]:
            del self.cancelling[order_id]
            if order_id in account.books.pending:
                row = account.rows.get(self.by_order.get(order_id, ""))
                self.cancel_order(row.deployment if row else "", order_id)
        due = [name for name, at in self.settle_at.items() if now >= at]
        for name in due:
            self.settle_at[name] = now + account.options.settle_after
        return due


def _units(text: Any) -> Any:
    """The units of a close, as a number where they are one: "100" and "100.0" ask for the same."""
    try:
        return Decimal(str(text))
    except ArithmeticError:
        return text


def bar_end(account: Account, deployment: str, bar: datetime) -> datetime:
    """When the bar that was decided on was over, UTC."""
    return to_datetime(bar_ends(account.granularity(deployment), to_us(bar).reshape(1))[0])


def _kind(row: IntentRow) -> Kind:
    return Kind(row.body["type"]) if row.body.get("type") in Kind.__members__ else Kind.MARKET
