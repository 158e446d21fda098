"""What currencies are worth in the account's, asked of the broker once a minute, for pairs of which no price comes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from mbats.errors import OandaError
from mbats.live.market.quotes import QuoteBoard
from mbats.oanda.backoff import Backoff
from mbats.oanda.home_conversions import read_home_conversions
from mbats.oanda.reads import Reads
from mbats.oanda.sessions import Sessions

log = logging.getLogger(__name__)


class HomeRates:
    """A thread that refreshes a board's worth of currencies every so many seconds, whatever goes wrong.

    `symbols` says whose currencies are needed, at each refresh. `failures` counts those that brought nothing, `crashes` those
    that nobody foresaw, `refreshed_at` (UTC, this machine's clock) is the last that brought something.
    """

    def __init__(
        self, sessions: Sessions, account: str, board: QuoteBoard, symbols: Callable[[], Collection[str]], *, every: float = 60.0
    ) -> None:
        self.failures = 0
        self.crashes = 0
        self.refreshed_at: datetime | None = None
        self._reads = Reads(sessions, attempts=1)
        self._account = account
        self._board = board
        self._symbols = symbols
        self._every = every
        self._wanted = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        if self.is_alive:
            raise RuntimeError("Home rates are refreshed already.")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="home-rates", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> bool:
        """End it. False if its thread still hangs in a request after `timeout` seconds."""
        self._stopping = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.is_alive

    def refresh_soon(self) -> None:
        """Do not wait for the next turn: there is a new symbol."""
        self._wanted.set()

    def refresh(self) -> None:
        """Ask once, now, in the caller's thread. Raises OandaError."""
        symbols = self._symbols()
        if not symbols:
            return
        found = read_home_conversions(self._reads, self._account, symbols)
        self._board.observe_home(found.time, found.worth)
        for price in found.prices:
            self._board.observe(price)
        self.refreshed_at = datetime.now(UTC)

    def _run(self) -> None:
        backoff = Backoff(1.0, self._every)
        while not self._stopping:
            try:
                self.refresh()
                backoff, pause = Backoff(1.0, self._every), self._every
            except OandaError as error:
                self.failures += 1
                pause = self._every if error.status in (401, 403) else backoff.after(0.0)
                log.warning("The worth of currencies is as it was, and asked again in %.0f seconds: %s", pause, error)
            except Exception:
                self.crashes += 1
                pause = self._every
                log.exception("The worth of currencies could not be asked; it is asked again in %.0f seconds.", pause)
            self._wanted.wait(pause)
            self._wanted.clear()
