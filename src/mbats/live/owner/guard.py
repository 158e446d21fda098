"""Sees to it that what is held is protected, and that what must go goes: stops, watched targets, flattening."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

from mbats.live.gate import Order, Refused, TradingState, read_limits, ruling
from mbats.live.gate.calendar import closed_until
from mbats.live.gate.state import flattened
from mbats.live.ids import read_client_id
from mbats.live.journal import IntentRow, IntentState
from mbats.live.owner.account import Account
from mbats.live.owner.bodies import dependent, standalone_stop
from mbats.live.owner.orders import Orders
from mbats.live.owner.parts import Part
from mbats.live.owner.tickets import Ticket
from mbats.live.protection import (
    Action,
    ArmedTarget,
    Attach,
    CancelOrder,
    Levels,
    MoveStop,
    PlaceStop,
    arm,
    follow,
    is_over,
    is_reached,
    net_stop_name,
    observe,
    plan,
    protector_name,
)
from mbats.live.protection.armed import Armed
from mbats.live.wire import Form, Status, Submit
from mbats.oanda import trading as broker
from mbats.oanda.outcomes import Accepted, Outcome
from mbats.oanda.outcomes import Refused as BrokerRefused
from mbats.oanda.precision import plain_body
from mbats.oanda.prices import Price

log = logging.getLogger(__name__)

ZERO = Decimal(0)
NAKED_FOR = 5.0  # seconds without its stop after which a lot is closed, if no stop can be had
RETRY = 2.0
LONGEST_RETRY = 60.0
TOLD_AFTER = 3  # refusals in a row


@dataclass(slots=True)
class Watch:
    """An order of a form that OANDA does not have, while the trader watches the price for it."""

    ticket: Ticket
    part: Part
    armed: Armed


@dataclass(slots=True)
class Guard:
    """See the module. `touched` pairs are looked at when nothing is under way in them and no transaction is missing."""

    account: Account
    orders: Orders
    dirty: set[str] = field(default_factory=set)
    busy: dict[str, float] = field(default_factory=dict)
    targets: dict[str, tuple[ArmedTarget, ...]] = field(default_factory=dict)
    watches: list[Watch] = field(default_factory=list)
    levels: Levels = field(default_factory=Levels)
    naked_since: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    strays: dict[str, float | None] = field(default_factory=dict)  # when to close a lot; None for those that are wanted
    refusals: dict[str, int] = field(default_factory=dict)
    attaching: dict[str, Attach] = field(default_factory=dict)
    next_hold: float = 0.0
    next_flatten: float = 0.0
    numbers: int = 0

    def touched(self, symbol: str) -> None:
        """Something changed in this pair."""
        self.dirty.add(symbol)

    # --- Stops ------------------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Bring the broker's stops and targets to what the lots must have."""
        account, now = self.account, time.monotonic()
        if account.continuity.is_behind or account.denied:
            return
        for symbol in sorted(self.dirty):
            if now < self.busy.get(symbol, 0.0) or symbol not in account.instruments:
                continue
            self.dirty.discard(symbol)
            found = plan(account.books, symbol, account.instruments[symbol], self.levels)
            self.targets[symbol] = found.armed
            leaving = self._leaving(symbol)
            if leaving:
                self.dirty.add(symbol)  # an exit that comes to nothing leaves them without a stop
            self._carry_out(symbol, found.actions, leaving)
            self._close_strays(symbol)
            self._look_at_naked(symbol, {each.lot_id for each in found.naked} - leaving)

    def _carry_out(self, symbol: str, actions: Iterable[Action], leaving: set[str]) -> None:
        """Stops that are added go at once; whatever changes or takes away one waits for all before it, and is planned anew then.

        So a cancel never overtakes the stop that takes its place.
        """
        for action in actions:
            if not isinstance(action, PlaceStop):
                if not any(self._is_placing(lot.id) for lot in self.account.books.lots if lot.symbol == symbol):
                    self._act(symbol, action, leaving)
                self.dirty.add(symbol)
                return
            self._act(symbol, action, leaving)

    def _leaving(self, symbol: str) -> set[str]:
        """Lots whose exit is under way: their stops were cancelled on purpose."""
        owners = {exit.order.deployment for exit in self.orders.exits.netted if exit.order.symbol == symbol}
        owners |= {
            row.deployment
            for row in self.account.rows.values()
            if row.symbol == symbol and row.reduce_only and row.body.get("type") == "MARKET"
        }
        return {lot.id for lot in self.account.books.lots if lot.symbol == symbol and lot.deployment in owners}

    def _act(self, symbol: str, action: Any, leaving: set[str]) -> None:
        account = self.account
        match action:
            case Attach():
                if action.lot_id is not None and self._is_placing(action.lot_id):
                    self.dirty.add(symbol)  # else both might deal
                    return
                self._busy(symbol)
                own = action.lot_id is not None and account.books.trades[action.trade_id].client_id == action.lot_id
                body = {
                    "stop_loss": _wanted(action.stop, _named(action, "sl", own)),
                    "take_profit": _wanted(action.target, _named(action, "tp", own)),
                    "trailing_stop": _wanted(action.trail, _named(action, "ts", own), trails=True),
                }
                call = partial(account.trading.set_trade_orders, action.trade_id, **_plain(body))
                self.attaching[symbol] = action
                account.calls.write(("guard", symbol), call)
            case PlaceStop():
                if action.lot_id not in leaving and not self._is_placing(action.lot_id):
                    self._place(symbol, action)
            case MoveStop():
                if action.lot_id not in leaving:
                    self._busy(symbol)
                    name = net_stop_name(action.lot_id, account.books.last_id)
                    deployment = _deployment(action.lot_id)
                    moved = standalone_stop(name, deployment, symbol, action.units, action.price)
                    call = partial(account.trading.replace_order, action.order_id, moved)
                    account.calls.write(("guard", symbol), call)
            case CancelOrder():
                self._busy(symbol)
                self.orders.requests.cancel_order(_deployment_of(account, action.order_id), action.order_id)

    def _busy(self, symbol: str) -> None:
        """A request is under way; the pair is looked at again when it is answered, or soon."""
        self.busy[symbol] = time.monotonic() + RETRY
        self.dirty.add(symbol)

    def _is_placing(self, lot_id: str) -> bool:
        return any(
            name.startswith(f"{lot_id}.net") and row.state is not IntentState.WORKING for name, row in self.account.rows.items()
        )

    def _place(self, symbol: str, action: PlaceStop) -> None:
        """A standalone stop: an order like any other, journaled before it is sent."""
        account, now = self.account, self.account.clock.now()
        intent = read_client_id(action.lot_id)
        if intent is None:
            return
        name = net_stop_name(action.lot_id, account.books.last_id)
        if account.journal.intent(name) is not None:
            return  # tried in this very state of the account: something must change first
        body = standalone_stop(name, intent.deployment, symbol, action.units, action.price)
        row = IntentRow(
            client_id=name,
            deployment=intent.deployment,
            symbol=symbol,
            bar=intent.bar,
            purpose=f"{intent.purpose}.net{account.books.last_id}",
            units=action.units,
            form=Form.STOP.value,
            price=action.price,
            stop=None,
            target=None,
            trail=None,
            reduce_only=True,
            session="",
            ref=0,
            why="protection",
            code_version="",
            state=IntentState.SENT,
            decided_at=now,
            updated_at=now,
            sent_at=now,
            attempts=1,
            body=plain_body(body),
        )
        with account.journal.write():
            account.add_row(row)
        account.calls.write(("request", name), partial(account.trading.submit_order, row.body))

    def answered(self, symbol: str, outcome: Outcome) -> None:
        """A change of a trade's stops came to something; the plan is made anew either way."""
        attached = self.attaching.pop(symbol, None)
        why = outcome.error_code or outcome.reason if isinstance(outcome, BrokerRefused) else None
        if isinstance(outcome, Accepted):  # which may say that what was made was cancelled at once
            why = outcome.cancel_reason
        if isinstance(outcome, Accepted) and why is None:
            self.busy.pop(symbol, None)
            self.refusals.pop(symbol, None)
        elif why is not None:
            # The same would be refused again at once; the price must move, or a person look.
            self.refusals[symbol] = self.refusals.get(symbol, 0) + 1
            self.busy[symbol] = time.monotonic() + min(RETRY * 2 ** self.refusals[symbol], LONGEST_RETRY)
            sentence = f"The broker refuses a stop or target in {symbol}: {why}"
            log.error("%s: %s", self.account.name, sentence)
            if self.refusals[symbol] == TOLD_AFTER:
                with self.account.journal.write():
                    key = f"refused stop {symbol} {self.account.clock.now().isoformat()}"
                    self.account.event(key, "alarm", "warning", "stop_refused", sentence, symbol=symbol)
            if attached is not None and "LOSING_TAKE_PROFIT" in why:
                self._take_profit(symbol, attached)
        self.dirty.add(symbol)

    def _take_profit(self, symbol: str, attached: Attach) -> None:
        """The price has passed the target before the order for it could stand: it is reached."""
        lot = next((each for each in self.account.books.lots if each.id == attached.lot_id), None)
        if lot is not None:
            self.exit_now(lot.deployment, symbol, -lot.units, "target")

    def _close_strays(self, symbol: str) -> None:
        """A stop, an exit of the trader's own, or an order that waited, that was only to leave a position and dealt when there
        was nothing left of it, has opened what nobody wants."""
        now = time.monotonic()
        for lot in [each for each in self.account.books.lots if each.symbol == symbol and each.deployment]:
            if lot.id not in self.strays:
                row = self.account.journal.intent(lot.id)
                is_stray = row is not None and row.reduce_only and not (row.session and row.body.get("type") in (None, "MARKET"))
                self.strays[lot.id] = now if is_stray else None
            due = self.strays[lot.id]
            if due is not None:
                self.dirty.add(symbol)
            if due is not None and now >= due:
                self.strays[lot.id] = now + RETRY
                sentence = f"{lot.id} has opened {lot.units:f} {symbol} that nobody wants; they are closed."
                self._tell_once(f"stray {lot.id}", "stray", sentence)
                self.exit_now(lot.deployment, symbol, -lot.units, "stray")

    def _look_at_naked(self, symbol: str, naked: set[str]) -> None:
        """A lot that stays without its stop is told of, and closed when no stop can be had (R18)."""
        account, now = self.account, time.monotonic()
        for lot_id in [each for each in self.naked_since if _symbol(each) == symbol and each not in naked]:
            del self.naked_since[lot_id]
        for lot_id in naked:
            since = self.naked_since.setdefault(lot_id, now)
            self.dirty.add(symbol)
            if now - since > NAKED_FOR:
                self._tell_once(
                    f"naked {lot_id}",
                    "no_stop",
                    f"{lot_id} has had no stop at the broker for {NAKED_FOR:g} seconds and is closed.",
                )
                lot = next((each for each in account.books.lots if each.id == lot_id), None)
                if lot is not None:
                    self.naked_since[lot_id] = now
                    self.exit_now(lot.deployment, symbol, -lot.units, "naked")
            elif now - since > 1.0:
                self._tell_once(f"naked? {lot_id}", "no_stop", f"{lot_id} has no stop at the broker; one is placed now.")

    def _tell_once(self, key: str, code: str, sentence: str) -> None:
        if key not in self.told:
            self.told.add(key)
            with self.account.journal.write():
                at = self.account.clock.now().isoformat()
                self.account.event(f"{key} {at}", "alarm", "critical", code, sentence)

    # --- Prices -----------------------------------------------------------------------------------------------------------

    def watch(self, ticket: Ticket, part: Part) -> None:
        """Take over an order of a form that OANDA does not have."""
        quote = self.account.quotes.quote(part.order.symbol)
        assert quote is not None, "the gate lets nothing pass without a price"
        self.watches.append(Watch(ticket, part, arm(ticket.submit, quote)))
        at = self.account.clock.now()
        self.account.say(ticket.deployment, ticket.session, ticket.accept(at))

    def price(self, price: Price) -> None:
        """A new price: whatever waits for it acts."""
        quote = self.account.quotes.quote(price.instrument)
        if quote is None or not price.tradeable:
            return
        for watch in [each for each in self.watches if each.part.order.symbol == price.instrument]:
            if watch.ticket.ended or watch.ticket.cancelling:
                self.watches.remove(watch)
                continue
            if is_over(watch.armed, quote.time):
                self.watches.remove(watch)
                self.orders.end(watch.ticket, Status.EXPIRED, "TIME_IN_FORCE_EXPIRED")
                continue
            watch.armed, fire = observe(watch.armed, quote)
            if fire is not None:
                self.watches.remove(watch)
                watch.ticket.submit = replace(fire.order, ref=watch.ticket.submit.ref)
                self.orders.begin(watch.ticket, waited=True)
        for target in self.targets.get(price.instrument, ()):
            if is_reached(target, quote):
                self.exit_now(_deployment(target.lot_id), price.instrument, target.units, "target")
        if any(lot.trail is not None and lot.symbol == price.instrument for lot in self.account.books.lots):
            before, self.levels = self.levels, follow(self.levels, self.account.books, price.instrument, quote)
            if self.levels != before:
                self.touched(price.instrument)

    # --- Leaving ----------------------------------------------------------------------------------------------------------

    def exit_now(self, deployment: str, symbol: str, units: Decimal, purpose: str, *, flatten: bool = False) -> bool:
        """Close so many of a deployment's units at the market. False when the gate refuses, or one such exit is under way."""
        account, now = self.account, self.account.clock.now()
        if self._closing(deployment, symbol):
            return False
        if not account.gate.knows(deployment):
            account.gate.admit(deployment, read_limits({}), now)  # of an earlier time: it may leave under the safe defaults
        self.numbers += 1
        bar = now.replace(microsecond=0)
        order = Order(
            deployment,
            symbol,
            units,
            bar,
            f"{purpose}-{account.books.last_id}-{self.numbers}",
            reduce_only=True,
            flatten=flatten,
        )
        answer = account.gate.judge(order, account.view(deployment), now)
        if isinstance(answer, Refused):
            log.warning("%s", answer.sentence)
            return False
        assert isinstance(answer.order, Order)
        self.orders.exits.leave(Ticket(deployment, "", Submit(0, symbol, units, Form.MARKET, bar)), answer.order)
        return True

    def _closing(self, deployment: str, symbol: str) -> bool:
        return any(
            row.reduce_only and (row.deployment, row.symbol) == (deployment, symbol) and row.body.get("type") in (None, "MARKET")
            for row in self.account.rows.values()
        ) or any((exit.order.deployment, exit.order.symbol) == (deployment, symbol) for exit in self.orders.exits.netted)

    def hold(self) -> None:
        """While somebody may not open anything, entries that wait are taken back, until the broker has none (R27).

        The command itself may have come when it could not be reached, or in an earlier life.
        """
        account, now = self.account, time.monotonic()
        if account.denied or now < self.next_hold:
            return
        self.next_hold = now + 1.0
        state, at = account.gate.state, account.clock.now()
        names = {row.deployment for row in account.rows.values()} | set(account.deployments)
        held = {name for name in names if ruling(state, name, at).state is not TradingState.ACTIVE}
        if held:
            self.orders.take_back(held)

    def flatten(self, known: set[str]) -> None:
        """While a flatten is under way: cancel, close, and look again, until fills have confirmed that nothing is left (R27)."""
        state, now = self.account.gate.state, time.monotonic()
        scopes = [None, *state.deployments]
        if self.account.denied or now < self.next_flatten or not any(state.control(scope).flattening for scope in scopes):
            return
        self.next_flatten = now + 1.0
        for scope in scopes:
            if state.control(scope).flattening:
                self._flatten(scope, known if scope is None else {scope})

    def _flatten(self, scope: str | None, names: set[str]) -> None:
        account, now = self.account, self.account.clock.now()
        names = names | ({lot.deployment for lot in account.books.lots if lot.deployment} if scope is None else set())
        self.orders.take_back(names)
        left = [lot for lot in account.books.lots if lot.deployment in names]
        open_rows = [row for row in account.rows.values() if row.deployment in names and not _is_protection(row)]
        if not left and not open_rows and not account.continuity.is_behind:
            account.gate.put_state(flattened(account.gate.state, scope))
            with account.journal.write():
                whom = scope or "everything"
                sentence = f"{whom} is flat, confirmed by fills; trading stays halted until a person resumes."
                account.event(
                    f"flat {whom} {now.isoformat()}", "command", "warning", "flattened", sentence, deployment=scope or ""
                )
            return
        if closed_until(now) is not None:
            self.next_flatten = time.monotonic() + 5.0
        for deployment, symbol in sorted({(lot.deployment, lot.symbol) for lot in left}):
            units = account.books.position(deployment, symbol)
            if units:
                self.exit_now(deployment, symbol, -units, "flatten", flatten=True)


def _wanted(value: Any, name: str | None, *, trails: bool = False) -> Any:
    if value is broker.KEEP or value is None:
        return value
    return dependent(name, distance=value) if trails else dependent(name, price=value)


def _named(action: Attach, ending: str, own: bool) -> str | None:
    return None if action.lot_id is None else protector_name(action.lot_id, ending, action.trade_id, own=own)


def _deployment(lot_id: str) -> str:
    intent = read_client_id(lot_id)
    return intent.deployment if intent is not None else ""


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value is not broker.KEEP}


def _is_protection(row: IntentRow) -> bool:
    return row.why == "protection"


def _deployment_of(account: Account, order_id: int) -> str:
    pending = account.books.pending.get(order_id)
    intent = read_client_id(pending.client_id if pending else None)
    return intent.deployment if intent is not None else ""


def _symbol(lot_id: str) -> str:
    intent = read_client_id(lot_id)
    return intent.symbol if intent is not None else ""
