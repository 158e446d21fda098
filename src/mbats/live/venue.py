"""Everything that belongs to one account while it is traded: connections, journal, owner, prices, bars, and the right to it."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mbats.database import Database
from mbats.errors import ConfigError, MbatsError, PlatformError
from mbats.live.accounts import AccountRef
from mbats.live.gate import Command
from mbats.live.journal import Journal
from mbats.live.lease import Lease, LeaseHeld
from mbats.live.liveness import HUNG_AFTER
from mbats.live.market.bars import BarDesk
from mbats.live.market.clock import BrokerTimeClock, Clock, MachineClock, SkewLevel
from mbats.live.market.home import HomeRates
from mbats.live.market.quotes import QuoteBoard
from mbats.live.owner import Owner, OwnerOptions
from mbats.live.owner.account import Notify
from mbats.oanda.client import OandaClient
from mbats.settings import Settings

log = logging.getLogger(__name__)

RENEW_EVERY = 15.0  # seconds; the lease lasts four times as long
READY_WITHIN = 30.0


class Venue:
    """One account that is open for trading. `open` may be called again after it has failed; `close` ends it gracefully."""

    def __init__(
        self,
        settings: Settings,
        ref: AccountRef,
        *,
        notify: Notify,
        journaled: Callable[[str, Journal], None],
        options: OwnerOptions | None = None,
        lease: bool = True,
    ) -> None:
        self.ref = ref
        self.client = OandaClient(
            ref.url, ref.token, stream_url=ref.stream_url, requests_per_second=settings.oanda_requests_per_second
        )
        self.vendor = "simulator" if ref.environment == "simulator" else "oanda"
        self._settings = settings
        self._notify = notify
        self._journaled = journaled
        self._options = options
        self._wants_lease = lease
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._lease: Lease | None = None
        self._lease_thread: threading.Thread | None = None
        self._lease_trouble = "the right to trade on the account was not asked for yet"
        self._lost = False
        self._skewed = SkewLevel.OK
        self.clock: Clock | None = None
        self.owner: Owner | None = None
        self.desk: BarDesk | None = None
        self.home: HomeRates | None = None
        self.journal: Journal | None = None
        self.account_id = ref.account_id or ""

    # --- Beginning --------------------------------------------------------------------------------------------------------

    def open(self) -> Owner:
        """The owner of the account, at work. Raises the MbatsError for which it cannot be had now."""
        with self._lock:
            if self.owner is not None and self.owner.is_alive and self.owner.failed is None:
                self._wait_for(self.owner)
                return self.owner
            self.account_id = self.account_id or self._first_account()
            if self.journal is None:
                place = self._settings.trader_home / f"{self.ref.environment}-{self.account_id}.sqlite"
                self.journal = Journal.open(place)
                self._journaled(self.account_id, self.journal)
            self._take_lease()
            self.clock = self.clock or self._make_clock()
            self.owner = Owner(
                client=self.client,
                account_id=self.account_id,
                name=self.ref.name,
                vendor=self.vendor,
                mode=self.ref.mode,
                journal=self.journal,
                quotes=QuoteBoard,
                clock=self.clock,
                notify=self._notify,
                options=self._options,
                fenced=self.fence,
            )
            self.owner.start()
            self._wait_for(self.owner)
            self._begin_market(self.owner)
            return self.owner

    def replaces(self, owner: Owner | None) -> bool:
        """Whether this owner is gone and another has taken its place, which knows no process that traded under the first."""
        return owner is not None and self.owner is not owner

    def _wait_for(self, owner: Owner) -> None:
        if not owner.ready.wait(READY_WITHIN):
            raise PlatformError(
                f"Account '{self.ref.name}' is not ready: {owner.state().get('why', 'the broker has not answered yet')}. "
                "It is tried again until it is."
            )
        if owner.failed is not None:
            raise owner.failed

    def _first_account(self) -> str:
        accounts = self.client.accounts()
        if not accounts:
            raise ConfigError(f"The token of '{self.ref.name}' opens no account at {self.client.url}. Nothing was started.")
        return accounts[0]

    def _make_clock(self) -> Clock:
        if self._settings.trader_clock == "machine":
            return MachineClock(self.client.sessions.clock)
        skew = self.client.sessions.clock.skew()  # measured by the answer that told the account
        if skew is None:
            self.client.accounts()
            skew = self.client.sessions.clock.skew()
        seconds = 0.0 if skew is None else skew.least
        return BrokerTimeClock(datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds, UTC))

    def _begin_market(self, owner: Owner) -> None:
        assert self.clock is not None
        if self.desk is None:
            self.desk = BarDesk(
                self.client.sessions, self.account_id, self.clock, currency=owner.currency, offered=list(owner.instruments)
            )
            self.desk.start()
        if self.home is not None:
            self.home.stop(0.0)  # it wrote on the board of an owner that is gone
        self.home = HomeRates(self.client.sessions, self.account_id, owner.quotes, owner.watched)
        self.home.start()

    # --- The right to trade -----------------------------------------------------------------------------------------------

    def _take_lease(self) -> None:
        """Ask for the lease, and keep it renewed. Raises LeaseHeld when another trader has it.

        While PostgreSQL is away nobody can tell, so nothing new is opened; what is held stays protected.
        """
        if not self._wants_lease or self._lease_thread is not None:
            return
        holder = f"{socket.gethostname()}:{self._settings.trader_home}"
        database = Database(self._settings, "risk", "trading")
        lease = Lease(database, f"{self.ref.environment}:{self.account_id}", holder)
        try:
            lease.acquire()
            self._lease_trouble = ""
        except LeaseHeld:
            database.close()
            raise
        except MbatsError as error:
            self._lease_trouble = str(error)
        self._lease = lease
        self._lease_thread = threading.Thread(target=self._keep_lease, name=f"lease-{self.ref.name}", daemon=True)
        self._lease_thread.start()

    def _keep_lease(self) -> None:
        assert self._lease is not None
        while not self._stopping.wait(RENEW_EVERY if not self._lease_trouble else RENEW_EVERY / 5):
            try:
                if self._lease.term:
                    self._lease.renew()
                else:
                    self._lease.acquire()
                self._lease_trouble, self._lost = "", False
            except LeaseHeld as error:
                self._lease_trouble, self._lost = str(error), True
                self._notify.send("critical", f"{self.ref.name}: another trader", str(error))
            except MbatsError as error:
                if "is gone from the risk database" in str(error):
                    self._lease.term = 0
                self._lease_trouble = str(error)
            except Exception as error:
                log.exception("%s: the lease could not be renewed", self.ref.name)
                self._lease_trouble = repr(error)

    def fence(self) -> str:
        """Why nothing new may be opened though all else is well; "" when it may."""
        if self._wants_lease and (self._lease is None or not self._lease.valid):
            return f"the right to trade on the account has run out: {self._lease_trouble}"
        if self.clock is not None:
            skew = self.clock.skew_check()
            if skew.level is not SkewLevel.OK:
                what = f"this machine's clock and the broker's differ by {skew.seconds:.1f} seconds; set the clock"
                self._warn_of_skew(skew.level, what)
                return what if skew.level is SkewLevel.BLOCK else ""
            self._skewed = SkewLevel.OK
        return ""

    def _warn_of_skew(self, level: SkewLevel, what: str) -> None:
        """Once when it begins, and once when it becomes so large that nothing may be opened."""
        if self._skewed not in (level, SkewLevel.BLOCK):
            self._notify.send("critical" if level is SkewLevel.BLOCK else "warning", f"{self.ref.name}: clock", f"{what}.")
            self._skewed = level

    # --- How it is --------------------------------------------------------------------------------------------------------

    def threads(self) -> dict[str, bool]:
        """Whether each thread of the account does its work, by a name for people."""
        found: dict[str, bool] = {}
        owner = self.owner
        if owner is not None and owner.failed is None:
            found["owner"] = owner.is_alive and owner.since_beat() <= HUNG_AFTER
            found["streams"] = owner.streams_alive()
        if self.desk is not None:
            found["bar desk"] = self.desk.health().alive
        if self.home is not None:
            found["home rates"] = self.home.is_alive
        if self._lease_thread is not None:
            found["lease"] = self._lease_thread.is_alive()
        return found

    def crashes(self) -> dict[str, int]:
        """How many errors that nobody foresaw each part has survived."""
        owner, desk, home = self.owner, self.desk, self.home
        return {
            "owner": owner.crashes() if owner is not None else 0,
            "streams": owner.stream_crashes() if owner is not None else 0,
            "senders": owner.call_crashes() if owner is not None else 0,
            "bar desk": desk.health().crashes if desk is not None else 0,
            "home rates": home.crashes if home is not None else 0,
        }

    def skew(self) -> float:
        """By how many seconds the broker's clock is ahead of ours, as far as is certain."""
        return (self.clock.skew_check().seconds or 0.0) if self.clock is not None else 0.0

    @property
    def lost(self) -> bool:
        """Whether another trader has taken the account over."""
        return self._lost

    # --- The end ----------------------------------------------------------------------------------------------------------

    def command(self, command: Command) -> dict[str, Any]:
        """Halt, reduce, flatten or resume, whatever else is away. Raises PlatformError when the account was never open."""
        if self.owner is None:
            raise PlatformError(f"Account '{self.ref.name}' is not open yet; the command is obeyed as soon as it is.")
        return self.owner.command(command)

    def close(self) -> None:
        """Gracefully: answers are waited for, the lease is given back, the journal is closed."""
        self._stopping.set()
        for part in (self.desk, self.home, self.owner):
            if part is not None and not part.stop(12.0):
                log.warning("%s: a thread of %s did not end in time", self.ref.name, type(part).__name__)
        if self._lease_thread is not None:
            self._lease_thread.join(2.0)
        if self._lease is not None:
            try:
                self._lease.release()
            except MbatsError as error:
                log.warning("%s: %s", self.ref.name, error)
        self.client.close()


def worker() -> str:
    """Which process this is, for people."""
    return f"{socket.gethostname()} pid {os.getpid()}"
