"""Keeps the owner in step with the broker: two streams, what they missed, and when all is known again.

    down ──the transaction stream is up──▶ backfill ──nothing is missing──▶ snapshot ──it agrees with the books──▶ in step

Nothing may be decided outside of the last. While the stream is down the transactions are asked for now and then, so that
stops that were hit are known of; that alone is not being in step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any

from mbats.errors import OandaError, OandaRejected
from mbats.live.owner.account import Account
from mbats.live.owner.calls import Fetched
from mbats.live.owner.inbox import Inbox, Tagged
from mbats.oanda.account import Details
from mbats.oanda.messages import PRICING, TRANSACTIONS, StreamDown, StreamUp
from mbats.oanda.streams import Stream
from mbats.oanda.transactions import Transaction

log = logging.getLogger(__name__)

MakeStream = Callable[[Tagged], Stream]
MakePrices = Callable[[Tagged, frozenset[str]], Stream]


class Step(StrEnum):
    """How far the link has come."""

    DOWN = "down"
    BACKFILL = "backfill"
    SNAPSHOT = "snapshot"
    IN_STEP = "in step"
    REFUSED = "refused"  # the token: nothing is tried until a person resumes


class Link:
    """See the module. `apply` takes transactions, `compare` a snapshot and says whether the books agree with it."""

    def __init__(
        self,
        account: Account,
        inbox: Inbox,
        *,
        make_transactions: MakeStream,
        make_prices: MakePrices,
        apply: Callable[[list[Transaction]], None],
        compare: Callable[[Details], bool],
        refused: Callable[[int], None],
    ) -> None:
        self.account = account
        self.step = Step.DOWN
        self.prices_up = False
        self.ups: dict[str, int] = {TRANSACTIONS: 0, PRICING: 0}
        self.downs: dict[str, int] = {TRANSACTIONS: 0, PRICING: 0}
        self._inbox = inbox
        self._make_transactions = make_transactions
        self._make_prices = make_prices
        self._apply = apply
        self._compare = compare
        self._refused = refused
        self._streams: dict[str, Stream] = {}
        self._generations: dict[str, int] = {TRANSACTIONS: 0, PRICING: 0}
        self.watched: frozenset[str] = frozenset()
        self._crashes = 0
        self._fetching = False
        self._snapshot = False
        self._next_poll = 0.0
        self._behind_since: float | None = None
        self._next_snapshot = 0.0
        self._old: list[Stream] = []

    # --- Streams ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen to the account; prices come with `watch`."""
        self._open(TRANSACTIONS)
        if self.watched:
            self._open(PRICING)

    def watch(self, symbols: frozenset[str]) -> None:
        """Listen to the prices of these as well. OANDA takes no new pairs on a stream that is open, so it is opened anew."""
        wanted = self.watched | symbols
        if wanted != self.watched:
            self.watched = wanted
            self._open(PRICING)

    def stop(self) -> None:
        """Close both streams; their threads end by themselves."""
        for stream in self._streams.values():
            stream.stop(timeout=0)

    def again(self) -> None:
        """After a refused token: a person says that it is mended."""
        if self.step is Step.REFUSED:
            self.step = Step.DOWN
            self.start()

    def threads_alive(self) -> bool:
        """Whether each stream still tries; after a refused token they do not."""
        return all(stream.is_alive for stream in self._streams.values())

    def crashes(self) -> int:
        """Errors that nobody foresaw, and that the streams have survived."""
        return self._crashes + sum(stream.crashes for stream in list(self._streams.values()))

    def _open(self, name: str) -> None:
        old = self._streams.get(name)
        if old is not None:
            self._crashes += old.crashes
            old.stop(timeout=0)
        if name == PRICING:
            self.prices_up = False
        self._generations[name] += 1
        inbox = Tagged(self._inbox, self._generations[name])
        stream = self._make_transactions(inbox) if name == TRANSACTIONS else self._make_prices(inbox, self.watched)
        self._streams[name] = stream
        stream.start()

    def is_current(self, name: str, generation: int) -> bool:
        """Whether a message is of the stream that is open now."""
        return self._generations[name] == generation

    def up(self, message: StreamUp) -> None:
        """A stream has come."""
        self.ups[message.stream] += 1
        if message.stream == PRICING:
            self.prices_up = True
        elif self.step is not Step.REFUSED:
            self.step = Step.BACKFILL
            self.fetch()

    def down(self, message: StreamDown) -> None:
        """A stream has gone; it comes back by itself unless the token is refused."""
        self.downs[message.stream] += 1
        log.warning("%s: the %s stream is down: %s", self.account.name, message.stream, message.why)
        if message.stream == PRICING:
            self.prices_up = False
        elif self.step is not Step.REFUSED:
            self.step = Step.DOWN
        if message.final and ("HTTP 401" in message.why or "HTTP 403" in message.why):
            self._refuse(401 if "HTTP 401" in message.why else 403)

    def _refuse(self, status: int) -> None:
        if self.step is not Step.REFUSED:
            self.step = Step.REFUSED
            for stream in self._streams.values():
                stream.stop(timeout=0)
            self._refused(status)

    # --- What was missed --------------------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Ask for everything after the last transaction; one such question at a time."""
        if not self._fetching and self.step is not Step.REFUSED:
            self._fetching = True
            self.account.calls.read("since", partial(self.account.reads.transactions_since, self.account.continuity.last))

    def ask_for_snapshot(self) -> None:
        """Ask for the whole account, to compare."""
        if not self._snapshot and self.step is not Step.REFUSED:
            self._snapshot = True
            self.account.calls.read("details", self.account.reads.details)

    def fetched(self, answer: Fetched) -> None:
        """What came of either question."""
        if answer.key == "since":
            self._fetching = False
        else:
            self._snapshot = False
        if answer.error is not None:
            self._failed(answer.error)
            return
        if answer.key == "since":
            self._apply(answer.value)
            if self.step is Step.BACKFILL and not self.account.continuity.is_behind:
                self.step = Step.SNAPSHOT
                self.ask_for_snapshot()
        else:
            self._compare_snapshot(answer.value)

    def _compare_snapshot(self, details: Details) -> None:
        last = self.account.books.last_id
        self.account.continuity.expect(details.summary.last_id)
        if details.summary.last_id > last:
            self.fetch()  # the snapshot is ahead: what it knows is read, and then it is asked for again
            self._next_snapshot = time.monotonic() + 0.2
            return
        if details.summary.last_id < last:
            self._next_snapshot = time.monotonic() + 0.2
            return
        self._next_snapshot = time.monotonic() + self.account.options.reconcile_every
        sound = self._compare(details)
        self.account.known = sound
        if self.step is Step.SNAPSHOT and sound:
            self.step = Step.IN_STEP

    def _failed(self, error: Exception) -> None:
        if isinstance(error, OandaRejected) and error.status in (401, 403):
            self._refuse(error.status)
            return
        if not isinstance(error, OandaError):
            log.error("%s: a question broke off: %r", self.account.name, error)
        # A position that cannot be asked for is unknown, not flat (R16).
        self.account.known = False
        self._next_poll = self._next_snapshot = time.monotonic() + self.account.options.poll_while_down

    def tick(self) -> None:
        """What is due by our clock."""
        now, options, continuity = time.monotonic(), self.account.options, self.account.continuity
        if self.step is Step.REFUSED:
            return
        if not continuity.is_behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since > options.catch_up_after:
            self._behind_since = now
            self.fetch()
        if now >= self._next_poll and self.step in (Step.DOWN, Step.BACKFILL):
            self._next_poll = now + options.poll_while_down
            self.fetch()
        if now >= self._next_snapshot and self.step in (Step.SNAPSHOT, Step.IN_STEP):
            self._next_snapshot = now + options.reconcile_every
            self.ask_for_snapshot()

    @property
    def is_live(self) -> bool:
        """Whether decisions may be carried out."""
        known = self.step is Step.IN_STEP and self.prices_up and not self.account.continuity.is_behind
        return known and self.account.calls.warm

    def state(self) -> dict[str, Any]:
        """Plain values for people."""
        return {
            "step": str(self.step),
            "prices_up": self.prices_up,
            "stream_ups": dict(self.ups),
            "stream_downs": dict(self.downs),
            "last_transaction": self.account.continuity.last,
        }
