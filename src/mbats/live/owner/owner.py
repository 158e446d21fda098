"""The owner of one account: the one thread that applies the broker's transactions, asks the gate, and decides what is sent.

Everybody else puts messages into its inbox. What it must not lose is in the journal before it acts; so a start, a restart after
kill -9 and the recovery from an error of its own are the same: read the journal, ask the broker what happened since, go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from mbats.errors import ConfigError, MbatsError, OandaError, OandaRejected
from mbats.live.books import Books, Cancelled, Created, Filled, Rejected
from mbats.live.deployment import Deployment
from mbats.live.gate import Command, CommandKind, Latch, Mode, TradingState, read_limits, ruling
from mbats.live.journal import IntentState, Journal
from mbats.live.market.clock import Clock
from mbats.live.market.quotes import QuoteBoard
from mbats.live.owner.account import Account, Notify, OwnerOptions
from mbats.live.owner.audit import Audit
from mbats.live.owner.calls import Answered, Calls, Fetched
from mbats.live.owner.continuity import Continuity
from mbats.live.owner.decisions import Decisions
from mbats.live.owner.figures import figures
from mbats.live.owner.gatekeeper import Gatekeeper
from mbats.live.owner.guard import Guard
from mbats.live.owner.inbox import Inbox
from mbats.live.owner.link import Link, Step
from mbats.live.owner.orders import Orders
from mbats.live.owner.patience import Patience
from mbats.live.owner.processes import Bars, Processes, Send
from mbats.live.wire import (
    Adopt,
    Decided,
    FromStrategy,
    LiveBar,
    Money,
    OrderEvent,
    Submit,
    Withdraw,
)
from mbats.market import Instrument
from mbats.oanda.account_client import AccountClient
from mbats.oanda.client import OandaClient
from mbats.oanda.messages import (
    PriceHeartbeat,
    StreamDown,
    StreamUp,
    TransactionHeartbeat,
    TransactionMessage,
    UnknownMessage,
)
from mbats.oanda.outcomes import Accepted, Why
from mbats.oanda.outcomes import Refused as BrokerRefused
from mbats.oanda.prices import Price
from mbats.oanda.streams import SILENCE, pricing_stream, transaction_stream
from mbats.oanda.trading import TradingClient
from mbats.oanda.transactions import Transaction
from mbats.riskdb.live_records import RiskEventRecord

log = logging.getLogger(__name__)

BOOKS, INSTRUMENTS = "books", "instruments"
INSTRUMENTS_EVERY = 300.0  # seconds: margin rates change
LOSSES_EVERY = 10.0
POINTS_EVERY = 0.5
INTENTS_EVERY = 600.0
MOST_TOGETHER = 16  # wishes in one write
MOST_CRASHES = 5  # in a minute; more, and it takes no new exposure until a person resumes


@dataclass(frozen=True, slots=True)
class _Told:
    """A message from another thread that wants an answer."""

    do: Callable[[], Any]
    answer: Future[Any]


@dataclass(frozen=True, slots=True)
class _Wish:
    name: str
    session: str
    message: FromStrategy


@dataclass(slots=True)
class _Figures:
    """What others may read at any time."""

    money: dict[str, Money] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    beat: float = 0.0
    crashes: int = 0


class Owner:
    """One account. Start it once; `stop` ends it gracefully, and so does anything that kills the process."""

    def __init__(
        self,
        *,
        client: OandaClient,
        account_id: str,
        name: str,
        vendor: str,
        mode: Mode,
        journal: Journal,
        quotes: Callable[[str], QuoteBoard],
        clock: Clock,
        notify: Notify,
        options: OwnerOptions | None = None,
        silence: float = SILENCE,
        fenced: Callable[[], str] = lambda: "",
    ) -> None:
        self.id = account_id
        self.name = name
        self.journal = journal
        self._vendor = vendor
        self._mode = mode
        self.ready = threading.Event()
        self._client = client
        self._make_quotes = quotes
        self._clock = clock
        self._notify = notify
        self._options = options or OwnerOptions()
        self._silence = silence
        self._fenced = fenced
        self._inbox = Inbox()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"owner-{name}", daemon=True)
        self._figures = _Figures()
        self._crash_times: list[float] = []
        self._failed: MbatsError | None = None
        self._told_of_foreign = False
        self._next: dict[str, float] = {}
        self._loading = threading.Lock()  # a command that comes before all is read is written where it will be read
        self._board: QuoteBoard
        self._guard: Guard
        self.latched: Callable[[str, tuple[Latch, ...]], None] = lambda name, latches: None

    # --- For others -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; `ready` is set when the books are read."""
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> bool:
        """Take no more decisions, wait for answers that are under way, close the streams. False if that took too long."""
        self._stopping.set()
        self._inbox.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def crashes(self) -> int:
        """Errors of its own that the thread has survived."""
        return self._figures.crashes

    def stream_crashes(self) -> int:
        """The same of the two streams, since the owner last began anew."""
        link: Link | None = getattr(self, "_link", None)
        return link.crashes() if link is not None else 0

    def call_crashes(self) -> int:
        """The same of the threads that send and ask."""
        calls: Calls | None = getattr(self, "_calls", None)
        return calls.crashes if calls is not None else 0

    def streams_alive(self) -> bool:
        """Whether both streams still try, or wait for a person because the token is refused."""
        link: Link | None = getattr(self, "_link", None)
        return link is None or not self.ready.is_set() or link.step is Step.REFUSED or link.threads_alive()

    @property
    def failed(self) -> MbatsError | None:
        """Why it has given up, such as a hedging account; None while it works."""
        return self._failed

    def since_beat(self) -> float:
        """Seconds since the thread last came round; more than a few mean that it hangs."""
        return time.monotonic() - self._figures.beat if self._figures.beat else 0.0

    @property
    def currency(self) -> str:
        """Of the account; once `ready` is set."""
        return self._account.currency

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """All that the account may trade; once `ready` is set."""
        return self._account.instruments

    def watched(self) -> frozenset[str]:
        """The pairs whose prices are listened to."""
        return self._link.watched

    @property
    def quotes(self) -> QuoteBoard:
        """The board that the owner's prices are written on; once `ready` is set."""
        return self._board

    def state(self) -> dict[str, Any]:
        """Plain values for people, as of the last time round."""
        return dict(self._figures.state)

    def money(self, name: str) -> Money | None:
        """The account as this deployment saw it the last time round."""
        return self._figures.money.get(name)

    def open_session(self, deployment: Deployment, session: str, send: Send, *, timeout: float = 60.0) -> Adopt:
        """A process begins to trade: what there is for it to take up. Raises the MbatsError for which it may not."""
        adopt: Adopt = self._ask(lambda: self._processes.open(deployment, session, send), timeout)
        return adopt

    def close_session(self, name: str, session: str) -> None:
        """The process is gone; its orders stand."""
        self._tell(lambda: self._processes.close(name, session))

    def request(self, name: str, session: str, message: Submit | Withdraw) -> None:
        """What a strategy wants; returns at once."""
        self._inbox.put(_Wish(name, session, message))

    def decided(self, name: str, session: str, message: Decided) -> None:
        """What a model of a strategy said; returns at once."""
        self._tell(lambda: self._note_decided(name, session, message))

    def bars(self, name: str, moment: datetime, bars: Mapping[str, LiveBar]) -> None:
        """Bars have completed: they reach the process when the account is in step, in order; returns at once."""
        self._inbox.put(Bars(name, moment, bars))

    def command(self, command: Command, *, timeout: float = 5.0) -> dict[str, Any]:
        """Halt, reduce, flatten or resume; durable when it returns."""
        if not self._clock.steady:
            command = replace(command, at=self._clock.now())  # said by this machine's clock, and latches are set by the broker's
        with self._loading:
            if not self.ready.is_set() or not self._thread.is_alive():
                gate = Gatekeeper(self.journal, lambda name, latches: None)
                before = gate.state
                with self.journal.write():
                    state = gate.tell(command)
                    self._record(command)
                changed = state != before
                return {"account": self.name, "changed": changed, "states": {}, "everything": str(state.everything.state)}
        answer: dict[str, Any] = self._ask(partial(self._command, command), timeout)
        return answer

    def retire(self, name: str) -> None:
        """The deployment is stopped: what of its could still open something is taken back."""
        self._tell(lambda: self._orders.take_back({name}))

    def watch(self, symbols: frozenset[str]) -> None:
        """Listen to these prices as well."""
        self._tell(lambda: self._link.watch(symbols))

    def _ask(self, do: Callable[[], Any], timeout: float) -> Any:
        answer: Future[Any] = Future()
        self._inbox.put(_Told(do, answer))
        return answer.result(timeout)

    def _tell(self, do: Callable[[], Any]) -> None:
        self._inbox.put(_Told(do, Future()))

    # --- The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._load()
                self._work()
            except MbatsError as error:
                self._give_up(error)
                return
            except Exception:
                self._crashed()
        self._close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            message = self._inbox.get(self._options.tick)
            while message is not None:
                if isinstance(message, _Wish):
                    message = self._handle_wishes(message)
                else:
                    self._handle(message)
                    message = self._inbox.get(0) if len(self._inbox) else None
            self._tick()

    def _handle_wishes(self, first: _Wish) -> Any | None:
        """Wishes that stand one behind the other are written down together, and leave when that is on the disk.

        Returns the next message, which may be another wish; None when none waits.
        """
        message: Any | None = first
        with self._account.saying_later(), self._calls.held(), self.journal.write():
            for _ in range(MOST_TOGETHER):
                if not isinstance(message, _Wish):
                    break
                self._handle(message)
                message = self._inbox.get(0) if len(self._inbox) else None
        return message

    def _crashed(self) -> None:
        """An error of our own: whatever was half done is read again from the journal and the broker."""
        log.exception("%s: the owner of the account broke off and begins anew", self.name)
        now = time.monotonic()
        self._figures.crashes += 1
        self._crash_times = [each for each in self._crash_times if now - each < 60] + [now]
        with self._loading:
            self.ready.clear()  # commands that come now must not wait for a broker that may be away
        self._notify.send("critical", f"{self.name}: error", "The owner of the account broke off and begins anew; see the log.")
        self._drop()
        if len(self._crash_times) > MOST_CRASHES:
            gate = Gatekeeper(self.journal, self._latched)
            why = f"the owner broke off {len(self._crash_times)} times within a minute; look at the log, then resume."
            gate.tell(Command(CommandKind.REDUCE, "mbats", self._clock.now(), why))
            self._stopping.wait(10.0)

    def _give_up(self, error: MbatsError) -> None:
        log.error("%s: %s", self.name, error)
        self._failed = error
        self._notify.send("critical", f"{self.name}: cannot trade", str(error))
        self._drop()
        self.ready.set()
        while (message := self._inbox.get(0)) is not None:
            if isinstance(message, _Told):
                message.answer.set_exception(error)

    def _drop(self) -> None:
        for part in ("_link", "_calls"):
            found = getattr(self, part, None)
            if found is not None:
                found.stop() if part == "_link" else found.close()

    # --- Beginning --------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """All that is known, from the journal; from the broker what the journal never knew."""
        reads = AccountClient(self._client.sessions, self.id, reads=self._client.reads)
        old = getattr(self, "_account", None)
        text = self.journal.load(BOOKS)
        if text is None:
            details = self._patiently(reads.details)
            if details.summary.hedging:
                raise ConfigError(
                    f"Account {self.id} hedges: it holds long and short trades of one pair side by side. MBATS trades netting "
                    "accounts alone. Nothing was sent; use another account."
                )
            books = Books.adopt(details, details.summary.currency)
            with self.journal.write():
                self.journal.save(BOOKS, books.to_json())
        else:
            books = Books.from_json(text)
        instruments = {each.name: each for each in self._patiently(partial(self._client.instruments, self.id))}
        self._board = self._board if old is not None else self._make_quotes(books.currency)
        self._calls = Calls(self._inbox, self._touch)
        self._account = Account(
            id=self.id,
            name=self.name,
            currency=books.currency,
            journal=self.journal,
            books=books,
            continuity=Continuity(books.last_id),
            gate=Gatekeeper(self.journal, self._latched),
            quotes=self._board,
            clock=self._clock,
            calls=self._calls,
            trading=TradingClient(self._client.sessions, self.id),
            reads=reads,
            notify=self._notify,
            options=self._options,
            instruments=instruments,
        )
        self._audit = Audit(self._account)
        self._decisions = Decisions(self._account)
        self._checks_day = False
        self._orders = Orders(self._account, watch=lambda ticket, part: self._guard.watch(ticket, part), touched=self._touched)
        self._guard = Guard(self._account, self._orders)
        self._patience = Patience(self._account, self._orders, self._guard)
        self._account.remember(self.journal.intents())
        self._orders.requests.remember()
        self._link = Link(
            self._account,
            self._inbox,
            make_transactions=lambda inbox: transaction_stream(self._client.sessions, self.id, inbox, silence=self._silence),
            make_prices=lambda inbox, symbols: pricing_stream(
                self._client.sessions, self.id, symbols, inbox, silence=self._silence
            ),
            apply=self._apply,
            compare=self._compare,
            refused=self._orders.requests.login_refused,
        )
        self._processes = Processes(
            self._account, self._orders, self._patience, self._link, self._audit, self._vendor, self._mode
        )
        self._processes.remember()
        if old is not None:  # an error of our own: those who trade are still there
            for trading in old.deployments.values():
                self._processes.admit(trading.deployment, trading.session, trading.say)
        for row in list(self._account.rows.values()):
            if row.state in (IntentState.SENT, IntentState.DECIDED):
                self._orders.requests.unknown(row, "the trader ended before an answer came")
            elif row.state is IntentState.UNKNOWN:
                self._orders.requests.settle_at[row.client_id] = time.monotonic() + self._options.settle_after
        self._guard.dirty |= {lot.symbol for lot in books.lots} | {each.symbol for each in books.trades.values()}
        self._guard.dirty |= {each.symbol for each in books.pending.values()}  # a stop may have outlived its lot
        held = tuple(self._guard.dirty)
        self._link.watch(frozenset(held) | self._processes.conversions(held))
        self._link.start()
        with self._loading:
            self._account.gate = Gatekeeper(self.journal, self._latched)
            for trading in self._account.deployments.values():
                self._account.gate.admit(trading.deployment.name, read_limits(trading.deployment.limits), self._clock.now())
            self.ready.set()

    def _touch(self) -> None:
        """Keep the connection of this thread open; nothing is asked while the broker refuses the token."""
        link: Link | None = getattr(self, "_link", None)
        if link is None or link.step is not Step.REFUSED:
            self._client.sessions.warm()

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer; a refusal is final."""
        while True:
            try:
                return ask()
            except OandaRejected:
                raise
            except OandaError as error:
                log.warning("%s: %s", self.name, error)
                self._figures.beat = time.monotonic()
                gate = Gatekeeper(self.journal, self._latched).state
                states = {name: str(ruling(gate, name, self._clock.now()).state) for name in gate.deployments}
                self._figures.state = {"step": "the broker does not answer", "why": str(error)} | {
                    "gate": str(gate.everything.state),
                    "gates": states,
                }
                if self._stopping.wait(2.0):
                    raise

    def _touched(self, symbol: str) -> None:
        self._guard.touched(symbol)

    def _latched(self, name: str, latches: tuple[Latch, ...]) -> None:
        for each in latches:
            sentence = f"{name} is locked since {each.since:%Y-%m-%d %H:%M:%S} UTC: {each.why}."
            with self.journal.write():
                key = f"latch {name} {each.reason} {each.since.isoformat()}"
                self._account.event(key, "latch", "warning", str(each.reason), sentence, deployment=name, until=each.until)
        self.latched(name, latches)

    # --- Messages ---------------------------------------------------------------------------------------------------------

    def _handle(self, message: Any) -> None:
        self._account.live = self._link.is_live
        match message:
            case (int() as generation, inner):
                self._stream(generation, inner)
            case Answered():
                self._answered(message)
            case Fetched():
                self._fetched(message)
            case _Wish():
                self._wish(message)
            case Bars():
                self._processes.take(message)
            case _Told():
                self._do(message)

    def _do(self, told: _Told) -> None:
        try:
            result = told.do()
        except MbatsError as error:
            told.answer.set_exception(error)
        except Exception as error:
            told.answer.set_exception(error)
            raise
        else:
            told.answer.set_result(result)

    def _stream(self, generation: int, message: Any) -> None:
        if isinstance(message, StreamUp | StreamDown) and not self._link.is_current(message.stream, generation):
            return
        match message:
            case Price():
                self._clock.observe(message.time)
                self._board.observe(message)
                self._guard.price(message)
            case PriceHeartbeat():
                self._clock.observe(message.time)
            case TransactionMessage():
                self._apply([message.transaction])
            case TransactionHeartbeat():
                self._clock.observe(message.time)
                self._account.continuity.expect(message.last_id)
            case StreamUp():
                self._link.up(message)
            case StreamDown():
                self._link.down(message)
            case UnknownMessage():
                log.warning("%s: the broker sent a message of a kind that is not known: %s", self.name, message.body)

    def _wish(self, wish: _Wish) -> None:
        trading = self._account.deployments.get(wish.name)
        if trading is None or trading.session != wish.session:
            return  # the last words of a process that has been replaced
        if isinstance(wish.message, Submit):
            self._orders.submit(wish.name, wish.message)
        elif isinstance(wish.message, Withdraw):
            self._orders.withdraw(wish.name, wish.message)

    def _note_decided(self, name: str, session: str, message: Decided) -> None:
        trading = self._account.deployments.get(name)
        if trading is not None and trading.session == session:
            self._decisions.take(name, message)

    def _answered(self, answer: Answered) -> None:
        self._calls.in_flight -= 1
        kind, what = answer.key
        self._orders.requests.expect(answer.key, answer.outcome)
        if isinstance(answer.outcome, Accepted):
            self._account.continuity.expect(answer.outcome.last_id)
            self._apply(list(answer.outcome.transactions))
        elif isinstance(answer.outcome, BrokerRefused):
            if answer.outcome.kind in (Why.CREDENTIALS, Why.FORBIDDEN):
                self._orders.requests.login_refused(answer.outcome.status)
            self._apply(list(answer.outcome.transactions))
        else:
            self._link.fetch()
        if kind == "request":
            self._orders.requests.answered(what, answer.outcome)
        elif kind == "guard":
            self._guard.answered(what, answer.outcome)

    def _fetched(self, answer: Fetched) -> None:
        if answer.key in ("since", "details"):
            self._link.fetched(answer)
        elif answer.key == "instruments":
            if answer.error is None:
                self._account.instruments = {each.name: each for each in answer.value}
        elif answer.key == "leave":
            if answer.error is None:
                self._apply(answer.value)
                self._orders.exits.informed()
            elif isinstance(answer.error, OandaRejected):
                self._orders.exits.give_up_all()
            else:
                self._orders.exits.ask()
        elif answer.key == "day":
            self._checks_day = False
            if answer.error is None:
                self._audit.days.check(answer.value)
            else:
                log.warning("%s: the broker's log of a day cannot be read yet: %s", self.name, answer.error)
        elif isinstance(answer.key, tuple) and answer.key[0] == "settle":
            self._settled(answer.key[1], answer)

    # --- Transactions -----------------------------------------------------------------------------------------------------

    def _apply(self, transactions: list[Transaction]) -> None:
        """Book what may be booked, each with what follows from it in one write; then say it."""
        account = self._account
        for transaction in account.continuity.offer(transactions):
            with self.journal.write():
                events = account.books.apply(transaction)
                self.journal.add_transactions([transaction])
                self.journal.save(BOOKS, account.books.to_json())
                self._audit.note(transaction, events)
                for event in events:
                    match event:
                        case Created():
                            self._orders.created(event)
                        case Filled():
                            self._orders.filled(event)
                        case Cancelled():
                            self._orders.cancelled(event)
                        case Rejected():
                            self._orders.rejected(event)
                    symbol = getattr(event, "symbol", "")
                    if symbol:
                        self._guard.touched(symbol)
            if transaction.time is not None:
                self._clock.observe(transaction.time)
            dealt = tuple({event.symbol for event in events if isinstance(event, Filled)})
            if dealt:  # what is held is watched, also when no process trades it; without its worth no limit could be judged
                self._link.watch(frozenset(dealt) | self._processes.conversions(dealt))

    def _compare(self, details: Any) -> bool:
        sound = self._audit.compare(details)
        if sound and not self._told_of_foreign:
            self._told_of_foreign = True
            self._audit.note_foreign()
        return sound

    def _look_for(self, name: str) -> None:
        """Find out what became of an intent: everything since the last transaction, and the order by its name (R3)."""
        account = self._account
        row = account.rows.get(name)
        if row is None:
            return

        def look() -> tuple[list[Transaction], bool]:
            found = account.reads.transactions_since(account.continuity.last)
            try:
                account.reads.order(f"@{name}")
            except OandaRejected as error:
                if error.status != 404:
                    raise
                return found, False
            return found, True

        account.calls.read(("settle", name), look)

    def _settled(self, name: str, answer: Fetched) -> None:
        if answer.error is not None:
            if isinstance(answer.error, OandaRejected) and answer.error.status in (401, 403):
                self._orders.requests.login_refused(answer.error.status)
            return  # asked again when it is due
        transactions, is_there = answer.value
        self._apply(transactions)
        row = self._account.rows.get(name)
        if row is None or row.state is not IntentState.UNKNOWN or self._account.continuity.is_behind:
            return
        waiting = next((order.id for order in self._account.books.pending.values() if order.client_id == name), None)
        if waiting is not None:
            self._orders.requests.found(name, waiting)
        elif not is_there:
            self._orders.requests.absent(name)

    # --- Time -------------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        account, now = self._account, time.monotonic()
        self._link.tick()
        account.live = self._link.is_live
        account.fenced = self._fenced()
        for name in self._orders.tick():
            if not account.denied:
                self._look_for(name)
        self._processes.deliver()
        self._guard.work()
        self._guard.hold()
        self._guard.flatten(set(account.deployments))
        self._patience.write()
        if self._due("points", now, POINTS_EVERY):
            self._processes.write()
            self._decisions.write()
        if self._due("losses", now, LOSSES_EVERY):
            account.gate.save_losses()
            self._audit.look(self._clock.now())
        if self._due("nav", now, 1.0) and account.live:
            account.gate.mark_nav(account.nav(), self._clock.now())
        if self._due("day", now, 1.0) and account.live:
            self._look_at_days()
        if self._due("equity", now, 60.0) and account.live:
            with self.journal.write():
                self._audit.note_account(self._clock.now())
        if self._due("intents", now, INTENTS_EVERY):
            account.forget_old_intents()
        if self._due("instruments", now, INSTRUMENTS_EVERY):
            account.calls.read("instruments", partial(self._client.instruments, self.id))
        if self._due("figures", now, 0.5):
            self._show()
        self._figures.beat = now

    def _look_at_days(self) -> None:
        """A trading day that is over is compared with the broker's log of it."""
        self._audit.days.turn(self._clock.now())
        found = self._audit.days.to_check()
        if found is not None and not self._checks_day:
            self._checks_day = True
            self._account.calls.read("day", partial(self._account.reads.transaction_range, *found))

    def _due(self, what: str, now: float, every: float) -> bool:
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every
        return True

    def _show(self) -> None:
        account = self._account
        self._figures.money = {name: account.money(name) for name in account.deployments}
        self._figures.state = figures(account, self._link, self._orders, self._guard) | {
            "crashes": self._figures.crashes,
            "models": self._decisions.troubles(),
        }

    # --- Commands ---------------------------------------------------------------------------------------------------------

    def _command(self, command: Command) -> dict[str, Any]:
        account = self._account
        before = account.gate.state
        state = account.gate.tell(command)
        names = {command.deployment} if command.deployment is not None else set(account.deployments) | self._owners()
        self._record(command)
        if command.kind in (CommandKind.HALT, CommandKind.FLATTEN, CommandKind.REDUCE):
            self._orders.take_back(names)
        if command.kind in (CommandKind.RESUME, CommandKind.FLATTEN):  # whoever says so wants the broker to be asked again
            account.denied = False
            self._link.again()
        self._guard.next_flatten = 0.0
        self._guard.flatten(names)
        self._show()
        now = self._clock.now()
        return {
            "account": self.name,
            "changed": state != before,
            "states": {name: str(ruling(state, name, now).state) for name in sorted(names)},
            "everything": str(state.everything.state),
        }

    def _record(self, command: Command) -> None:
        """Who said what, and why; also while nothing else is known of the account."""
        whom = command.deployment or "all deployments"
        level = "info" if command.kind is CommandKind.RESUME else "warning"
        sentence = f"'{command.kind}' for {whom} on account {self.name} by {command.by}: {command.why}"
        key = f"command {command.kind} {whom} {command.at.isoformat()}"
        code, deployment = str(command.kind), command.deployment or ""
        self.journal.put(
            RiskEventRecord(self.id, key, self._clock.now(), "command", level, code, sentence, deployment, by=command.by)
        )
        if level != "info":
            self._notify.send(level, f"{self.name}: {code}", sentence)

    def _owners(self) -> set[str]:
        return {lot.deployment for lot in self._account.books.lots if lot.deployment}

    # --- The end ----------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Answers that are under way are waited for, so that as little as possible is unknown at the next start (R35)."""
        deadline = time.monotonic() + 10.0
        if not hasattr(self, "_link"):
            return
        while self._calls.in_flight > 0 and time.monotonic() < deadline:
            message = self._inbox.get(0.1)
            if message is not None:
                self._handle_last(message)
        self._orders.abandon()
        self._link.stop()
        self._processes.write()
        self._decisions.write()
        self._account.gate.save_losses()
        self._calls.close()

    def _handle_last(self, message: Any) -> None:
        try:
            self._handle(message)
        except Exception:
            log.exception("%s: a last message could not be handled; the next start reads it from the broker", self.name)


def is_flat(owner: Owner) -> bool:
    """Whether nothing of ours is held on the account."""
    return not any(key.split(" ")[0] for key in owner.state().get("positions", {}))


__all__ = ["OrderEvent", "Owner", "Step", "TradingState", "is_flat"]
