"""The running exchange: a clock that drives the engine, a log that keeps what it does, and whoever wants to hear of it.

    settle    the engine comes as far as the clock        execute   a request is applied
                     └───────────┬──────────────────────────────────────┘
                     written to the log, then told to the streams, then answered

All of it happens in the thread of the event loop, one thing after the other: that order is the order of the log. A restart is the
same log read again. Whatever fails half-way is undone by reading it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbats.simulator.admin.journal import Journal
from mbats.simulator.admin.metrics import Metrics
from mbats.simulator.clock import MICROSECOND, Clock
from mbats.simulator.config import SimulatorConfig
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.execution import EngineOptions
from mbats.simulator.core.placing import Reply
from mbats.simulator.core.times import write_time
from mbats.simulator.core.values import Transaction
from mbats.simulator.errors import Refusal
from mbats.simulator.faults.book import Faults
from mbats.simulator.fit import require_fit
from mbats.simulator.interventions import Kind, read_changes
from mbats.simulator.log import Change
from mbats.simulator.logfolder import LogFolder
from mbats.simulator.market import Market

EVERY = 0.05  # seconds after which the exchange comes as far as its clock by itself
STATE_EVERY = 1.0  # seconds after which it writes down how far it has come, though nothing happened

Sink = Callable[[list[Transaction]], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What an exchange is made of. `beginning` is its clock's state when it has no log yet, and by how much its prices are
    shifted; a log keeps that of its own beginning. `market` makes the market of such a beginning, without any change."""

    config: SimulatorConfig
    market: Callable[[Mapping[str, Any]], Market]
    folder: LogFolder
    beginning: Mapping[str, Any]


class Runtime:
    """One running exchange. `engine`, `market` and `log` are replaced by a reset: ask for them each time."""

    def __init__(self, setup: Setup, clock: Clock, *, journal: Journal, faults: Faults, metrics: Metrics) -> None:
        """Open the log and go on where it ends. Raises ConfigError when the log and the settings do not fit together."""
        self.setup = setup
        self.config = setup.config
        self.clock = clock
        self.journal = journal
        self.faults = faults
        self.metrics = metrics
        self.log = setup.folder.open()
        self.strip_on_fill = False
        self.resets = 0  # how often the exchange was put back; whoever follows it has to begin anew
        self._sinks: dict[str, list[Sink]] = {}
        self._written = 0.0
        self.beginning = setup.beginning
        state = self.log.state()
        same = state is not None and state["beginning"]["mode"] == setup.beginning["mode"]
        if state is not None and same:
            self.beginning = state["beginning"]
            clock.load(state["clock"])
        self._load(state)
        self.keep()
        if not same and not clock.mode.follows_wall:
            clock.move_to(max(clock.now(), self.engine.now))

    # --- What happens ---------------------------------------------------------------------------------------------------

    def settle(self) -> np.datetime64:
        """Let the engine come as far as the clock; what the clock shows, UTC."""
        shown = self.clock.now()
        if shown > self.engine.now:
            began = time.perf_counter()
            with self._undone_by_failure():
                self.engine.advance(shown)
            self._commit()
            self.metrics.settled(time.perf_counter() - began)
        return shown

    def execute(self, call: Callable[[Engine], Reply]) -> Reply:
        """Settle, apply a request, and keep and tell what came of it before it is answered. Raises what `call` raises."""
        self.settle()
        self.faults.passing("before_apply")
        with self._undone_by_failure():
            reply = call(self.engine)
        self._commit()
        return reply

    def change_market(self, change: Change) -> Change:
        """Change the market from `time` on, which is now when it is left out; the change as it is kept. Raises Refusal (400).

        It is in the log before it holds. A price that comes now is the last price when this returns, though the clock may stand.
        """
        comes_now = change.get("change") == Kind.TICK and change.get("time") is None
        self.settle()
        now = write_time(self.engine.now)
        change = {"time": now} | {key: value for key, value in change.items() if value is not None}
        earliest = min(each.time for each in read_changes(change, self.market.instruments).values())
        if earliest < self.engine.now.astype(np.int64):
            raise Refusal(400, f"The market was not changed: 'time' lies before {now}, and what has been stays as it was.")
        self.log.append([], [change], self._state())
        self.market.apply(change)
        self.engine.forget_prices()
        if comes_now:
            self._pass_moment()
        return change

    def _pass_moment(self) -> None:
        """Let the engine come past now. A clock that stands goes along, unless it is wrong and stands elsewhere."""
        before = self.engine.now
        with self._undone_by_failure():
            self.engine.advance(before + MICROSECOND)
        if self.clock.mode.stands and self.clock.now() == before:
            self.clock.move_to(self.engine.now)
        self._commit(always=True)

    def set_strip_on_fill(self, on: bool) -> None:
        """Drop the orders on fill of every order from now on, or no longer."""
        self.strip_on_fill = self.engine.strip_on_fill = on

    # --- Who hears of it --------------------------------------------------------------------------------------------------

    def subscribe(self, account_id: str, sink: Sink) -> Callable[[], None]:
        """Hand `sink` every transaction of the account from now on, as soon as it is written; the answer ends that."""
        sinks = self._sinks.setdefault(account_id, [])
        sinks.append(sink)
        return lambda: sinks.remove(sink)

    async def run(self, *watchers: Callable[[], None]) -> None:
        """Settle again and again, and let each watcher look at the exchange, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self.settle()
            for watch in watchers:
                watch()

    # --- Keeping ------------------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Write down how far the exchange has come."""
        self._commit(always=True)

    def close(self) -> None:
        """Write down how far the exchange has come, and let go of the log."""
        self.keep()
        self.log.close()

    def reset(self, snapshot: str | None = None) -> None:
        """Begin anew, or go back to a snapshot. Raises UsageError when there is none of that name; then nothing is changed."""
        folder = self.setup.folder
        if snapshot is not None:
            folder.find(snapshot)
        self.log.close()
        if snapshot is None:
            folder.clear()
        else:
            folder.restore(snapshot)
        self.log = folder.open()
        state = self.log.state()
        self.clock.load(state["clock"] if state else self.beginning)
        self.strip_on_fill = False
        self.resets += 1
        self._load(state)
        self.keep()

    def _load(self, state: Mapping[str, Any] | None) -> None:
        """The exchange as the log has it."""
        self.market = self.setup.market(self.beginning)
        for change in self.log.changes():
            if change.get("instrument") in (None, *self.market.instruments):  # else nobody ever traded it
                self.market.apply(change)
        options = self.config.options
        engine_options = EngineOptions(
            slippage_points=options.slippage_points, latency=np.timedelta64(options.latency_ms * 1000, "us")
        )
        self.engine = Engine(self.market, self.config.accounts, engine_options)
        self.engine.strip_on_fill = self.strip_on_fill
        if state:
            transactions = list(self.log.transactions())
            require_fit(transactions, self.config.accounts, self.market.instruments, self.setup.folder.path)
            self.engine.restore(transactions, state["engine"])
        self.engine.start(self.engine.now if state else self.clock.now())

    def _commit(self, *, always: bool = False) -> None:
        """Write what is new and tell it."""
        transactions = self.engine.take()
        now = time.monotonic()
        if not transactions and not always and now - self._written < STATE_EVERY:
            return
        if transactions:
            self.faults.passing("before_write")
        with self._undone_by_failure():
            self.log.append(transactions, [], self._state())
        self._written = now
        if transactions:
            self.faults.passing("after_write")
            self.metrics.written(transactions)
            self._publish(transactions)
            self.faults.passing("after_publish")

    def _publish(self, transactions: list[Transaction]) -> None:
        for account_id, sinks in self._sinks.items():
            of_account = [transaction for transaction in transactions if transaction["accountID"] == account_id]
            for sink in list(sinks) if of_account else ():
                sink(of_account)

    def _state(self) -> dict[str, Any]:
        return {"engine": self.engine.state(), "clock": self.clock.state(), "beginning": dict(self.beginning)}

    @contextmanager
    def _undone_by_failure(self) -> Iterator[None]:
        """An engine that failed half-way is not what the log says any more: read it again. A Refusal leaves it as it was."""
        try:
            yield
        except Refusal:
            raise
        except BaseException:
            self._load(self.log.state())
            raise
