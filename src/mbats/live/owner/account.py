"""All that the owner of an account knows, in one place; its parts work on it, in the owner's thread alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from mbats.live.books import Books
from mbats.live.deployment import Deployment
from mbats.live.gate import Intent, Kind, View, Working
from mbats.live.ids import read_client_id
from mbats.live.journal import IntentRow, IntentState, Journal
from mbats.live.owner.calls import Calls
from mbats.live.owner.continuity import Continuity
from mbats.live.owner.gatekeeper import Gatekeeper
from mbats.live.owner.worth import Quotes, margin_used, nav, open_profit, own_profit
from mbats.live.wire import Form, Money, OrderEvent
from mbats.market import Granularity, Instrument
from mbats.oanda.account_client import AccountClient
from mbats.oanda.trading import TradingClient
from mbats.riskdb.live_records import LiveRecord, RiskEventRecord

ZERO = Decimal(0)
REMEMBERED = timedelta(days=10)  # for how long intents guard against being said twice; bars are younger when orders are decided

Say = Callable[[OrderEvent], None]


class Clock(Protocol):
    """The time of the account's broker, UTC."""

    def now(self) -> datetime: ...


class Notify(Protocol):
    """Where people are told; never blocks and never raises."""

    def send(self, level: str, title: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class OwnerOptions:
    """Waits, in seconds of our clock, and how long a decision stays good after its bar has closed, in the broker's time."""

    tick: float = 0.25
    settle_after: float = 5.0
    catch_up_after: float = 0.15
    poll_while_down: float = 2.0
    reconcile_every: float = 30.0
    retry_after: float = 1.0
    signal_lives: timedelta = timedelta(seconds=60)
    hold_after_open: timedelta = timedelta(minutes=15)
    most_attempts: int = 3


@dataclass(slots=True)
class Trading:
    """A deployment that the owner has been told of, and the process that trades it, if one does: `say` reaches it."""

    deployment: Deployment
    session: str = ""
    say: Say | None = None

    @property
    def run_key(self) -> str:
        """Which run of the risk database its fills belong to: one for each time that it was deployed."""
        return self.deployment.created_at.isoformat()


@dataclass(slots=True)
class Account:
    """See the module. `live` is that both streams are up and nothing is missed; `known` that positions are beyond doubt."""

    id: str
    name: str
    currency: str
    journal: Journal
    books: Books
    continuity: Continuity
    gate: Gatekeeper
    quotes: Quotes
    clock: Clock
    calls: Calls
    trading: TradingClient
    reads: AccountClient
    notify: Notify
    options: OwnerOptions
    instruments: Mapping[str, Instrument] = field(default_factory=dict)
    deployments: dict[str, Trading] = field(default_factory=dict)
    rows: dict[str, IntentRow] = field(default_factory=dict)  # intents that are open, by client id
    intents: dict[str, set[Intent]] = field(default_factory=dict)
    broker_margin: tuple[int, Decimal] | None = None  # what the broker said, and after which transaction
    live: bool = False
    known: bool = False
    why_not_live: str = "starting"
    fenced: str = ""  # why no new exposure may be taken though all else is well: the lease has run out
    denied: bool = False  # the broker refuses the token: it is asked nothing more until a person says so
    _unsaid: list[tuple[str, str, tuple[OrderEvent, ...]]] | None = None
    unsent: Callable[[], Iterable[Working]] = tuple  # orders that were allowed, and wait for something before they go

    # --- Worth ------------------------------------------------------------------------------------------------------------

    def nav(self) -> Decimal:
        """What the account is worth by our own count; its balance while a price is missing."""
        found = nav(self.books, self.quotes)
        return self.books.balance if found is None else found

    def margin_used(self) -> Decimal:
        """By our own count or the broker's, if it is of this very moment and larger."""
        own = margin_used(self.books, self.quotes, self.instruments) or ZERO
        said = self.broker_margin
        return max(own, said[1]) if said is not None and said[0] == self.books.last_id else own

    def money(self, deployment: str) -> Money:
        """The account as one deployment sees it; what others hold is profit from elsewhere."""
        all_profit = open_profit(self.books.trades.values(), self.quotes) or ZERO
        alone = all(lot.deployment == deployment for lot in self.books.lots) and not self.books.realised.get("")
        own = own_profit(self.books, deployment, self.quotes) or ZERO
        elsewhere = ZERO if alone else all_profit - own
        return Money(self.books.balance, self.books.balance + all_profit, self.margin_used(), elsewhere)

    # --- The gate's view --------------------------------------------------------------------------------------------------

    def view(self, deployment: str) -> View:
        """The snapshot by which an order of this deployment is judged."""
        now, worth = self.clock.now(), self.nav()
        symbols = {lot.symbol for lot in self.books.lots} | {row.symbol for row in self.rows.values()}
        trading = self.deployments.get(deployment)
        symbols |= set(trading.deployment.symbols if trading else ())
        quotes = {symbol: quote for symbol in symbols if (quote := self.quotes.quote(symbol)) is not None}
        return View(
            nav=worth,
            margin_used=self.margin_used(),
            positions=self.books.positions(),
            open_trades=sum(1 for lot in self.books.lots if lot.deployment == deployment),
            working=self._working(),
            quotes=quotes,
            home=dict(self.quotes.home()),
            instruments=self.instruments,
            intents=frozenset(self.intents.get(deployment, ())),
            throttle=self.gate.throttle(deployment),
            losses=self.gate.losses(deployment, worth, now),
            known=self.known and not self.fenced,
        )

    def _working(self) -> tuple[Working, ...]:
        """Orders that are out or about to be: our own by their intents, pending ones of others by the books."""
        found = list(self.unsent())
        for row in self.rows.values():
            if row.state in (IntentState.SENT, IntentState.UNKNOWN, IntentState.DECIDED, IntentState.WORKING):
                kind = Kind(row.body["type"]) if row.body.get("type") in Kind.__members__ else Kind.MARKET
                found.append(Working(row.client_id, row.deployment, row.symbol, row.units, kind, row.reduce_only))
        for order in self.books.pending.values():
            if order.client_id not in self.rows and order.type in Kind.__members__ and not _is_net_stop(order.client_id):
                found.append(Working(str(order.id), "", order.symbol, order.units, Kind(order.type), order.reduce_only))
        return tuple(found)

    # --- Intents ----------------------------------------------------------------------------------------------------------

    def add_row(self, row: IntentRow) -> None:
        """A new intent; within the journal's write that makes it durable."""
        self.journal.add_intent(row)
        self.rows[row.client_id] = row
        intent = read_client_id(row.client_id)
        if intent is not None:
            self.intents.setdefault(row.deployment, set()).add(intent)

    def change_row(self, name: str, **changes: Any) -> IntentRow:
        """A new state of an intent, in the journal and here; one that is over is forgotten here."""
        row = self.journal.update_intent(name, updated_at=self.clock.now(), **changes)
        if row.state.open:
            self.rows[name] = row
        else:
            self.rows.pop(name, None)
        return row

    def remember(self, rows: Iterable[IntentRow]) -> None:
        """Take up what the journal holds."""
        oldest = self.clock.now() - REMEMBERED
        for row in rows:
            intent = read_client_id(row.client_id)
            if row.state.open:
                self.rows[row.client_id] = row
            if intent is not None and row.bar >= oldest:
                self.intents.setdefault(row.deployment, set()).add(intent)

    def forget_old_intents(self) -> None:
        """Let go of what is too old to be said again."""
        oldest = self.clock.now() - REMEMBERED
        for name, known in self.intents.items():
            self.intents[name] = {intent for intent in known if intent.bar >= oldest}

    def forget_intent(self, name: str) -> None:
        """It is proven that the broker never got it, so it may be said again."""
        intent = read_client_id(name)
        if intent is not None:
            self.intents.get(intent.deployment, set()).discard(intent)

    # --- Telling ----------------------------------------------------------------------------------------------------------

    def say(self, deployment: str, session: str, events: Iterable[OrderEvent]) -> None:
        """To the process of a deployment, if it is the one that asked."""
        if self._unsaid is not None:
            self._unsaid.append((deployment, session, tuple(events)))
            return
        trading = self.deployments.get(deployment)
        if trading is not None and trading.say is not None and trading.session == session:
            for event in events:
                trading.say(event)

    @contextmanager
    def saying_later(self) -> Iterator[None]:
        """What is said within the block is said when it ends, so that no order waits for words about it."""
        self._unsaid = []
        try:
            yield
        finally:
            unsaid, self._unsaid = self._unsaid, None
        for each in unsaid:
            self.say(*each)

    def put(self, record: LiveRecord) -> None:
        """For the risk database, whenever that can be reached."""
        self.journal.put(record)

    def event(
        self, key: str, kind: str, level: str, code: str, sentence: str, *, deployment: str = "", symbol: str = "", **more: Any
    ) -> None:
        """Something that people should be able to look up; what is worse than information is also sent to them."""
        record = RiskEventRecord(self.id, key, self.clock.now(), kind, level, code, sentence, deployment, symbol, **more)
        self.journal.put(record)
        if level != "info":
            self.notify.send(level, f"{self.name}: {code.replace('_', ' ')}", sentence)

    def code_version(self, deployment: str) -> str:
        """Of the code that decides for a deployment; "" for one that is only known by what it holds."""
        trading = self.deployments.get(deployment)
        return trading.deployment.code_version if trading is not None else ""

    def granularity(self, deployment: str) -> Granularity:
        return Granularity(self.deployments[deployment].deployment.granularity)

    def foreign_units(self, symbol: str) -> Decimal:
        """What is held in a pair that MBATS does not own."""
        return self.books.positions().get(("", symbol), ZERO)

    def is_shared(self, symbol: str, deployment: str) -> bool:
        """Whether anybody else holds units of the pair."""
        return any(owner != deployment and units for (owner, held), units in self.books.positions().items() if held == symbol)


def _is_net_stop(name: str | None) -> bool:
    intent = read_client_id(name)
    return intent is not None and ".net" in intent.purpose


def form_of(row: IntentRow) -> Form:
    """The form of an order that stands, as the strategy knows it."""
    return {"LIMIT": Form.LIMIT, "STOP": Form.STOP}.get(str(row.body.get("type")), Form.MARKET)


__all__ = ["Account", "Clock", "Notify", "OwnerOptions", "Trading", "form_of"]
