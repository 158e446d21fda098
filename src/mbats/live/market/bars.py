"""The bar desk: complete bars for every deployment, as soon as the broker has them, each once and in order of time."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any, TypeVar

from mbats.errors import NoBars, OandaError, OandaRejected
from mbats.live.market.assembly import Assembly, Delivery, Track
from mbats.live.market.clock import Clock
from mbats.live.market.timing import IDLE, Timing
from mbats.live.wire import LiveBar
from mbats.market import Granularity
from mbats.oanda.backoff import Backoff
from mbats.oanda.candles_latest import PAGE, NewCandles, Series, Shown
from mbats.oanda.rate import RateLimit
from mbats.oanda.sessions import Sessions

log = logging.getLogger(__name__)

T = TypeVar("T")

Deliver = Callable[[datetime, dict[str, LiveBar]], None]

AT_ONCE = 40  # series in one request
REQUESTS_PER_SECOND, AT_A_TIME = 10.0, 10  # the desk's share of what the account may ask, and how much of it at once
PATIENCE = 30.0  # seconds of this machine's for which a symbol that cannot be read keeps the others of its moment waiting
REFUSED_PAUSE = 60.0  # seconds until a name that the broker refuses is asked for again, or anything by a token that it refuses
BACKOFF = (0.1, 2.0)  # seconds: the first pause after an answer that cannot be used, and the longest
DENIED = (401, 403)
LET_ON = 0.005  # seconds for which the desk leaves the interpreter to those who decide on its bars
LAGS = 20  # deliveries of which the median lag is told
LAST = 3  # candles that show the newest complete bar: that, one that is over but not complete, and the one that forms


@dataclass(frozen=True, slots=True)
class DeskHealth:
    """How the desk does, for metrics and alarms. Counts are since its making, times by this machine's clock."""

    alive: bool = False
    subscriptions: int = 0
    requests: int = 0
    failures: int = 0  # requests without an answer that can be used
    failing_since: datetime | None = None  # None while answers come
    denied: bool = False  # the broker refuses our token, and is asked once a minute only
    refused: tuple[str, ...] = ()  # symbols that the broker does not know, or not for this account
    last_error: str = ""
    crashes: int = 0  # errors that nobody foresaw, the desk's own or those of who takes the bars
    moments: int = 0  # deliveries
    late: int = 0  # deliveries of bars whose moment had been delivered without them
    lag: float | None = None  # seconds from a bar's end to its delivery, the median of the last ones; by a steady clock only


@dataclass(slots=True)
class _Subscription:
    assembly: Assembly
    deliver: Deliver
    waits_since: float | None = None  # when, by `monotonic`, bars began to wait for others of their moment


class BarDesk:
    """One thread for all subscriptions. `currency` is the account's, `offered` the names of all its instruments.

    One request shows whether any of many series has a new bar. The broker is asked tightly when one should be there, less often
    while it is not, and for ever, whatever goes wrong. A moment is delivered when each symbol's bar is there, or the broker has
    shown that there is none, or `wait` seconds after its end.
    """

    def __init__(
        self, sessions: Sessions, account: str, clock: Clock, *, currency: str, offered: Collection[str], wait: float = 10.0
    ) -> None:
        self._candles = NewCandles(sessions, account)
        self._clock = clock
        self._currency = currency
        self._offered = frozenset(offered)
        self._wait = timedelta(seconds=wait)
        self._limit = RateLimit(REQUESTS_PER_SECOND, burst=AT_A_TIME)
        self._timing = Timing(clock, wait)
        self._subscriptions: dict[str, _Subscription] = {}
        self._lock = threading.Lock()
        self._changed = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._health = DeskHealth()
        self._lags: deque[float] = deque(maxlen=LAGS)
        self._backoff = Backoff(*BACKOFF)
        self._asked = clock.now()
        self._refused: dict[Series, float] = {}  # until when, by `monotonic`

    # --- From any thread ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, in a thread of its own."""
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError("The bar desk runs already.")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bar-desk", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> bool:
        """End it. False if its thread still hangs in a request after `timeout` seconds."""
        self._stopping = True
        self._clock.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def subscribe(
        self,
        name: str,
        symbols: Sequence[str],
        granularity: Granularity,
        after: Mapping[str, datetime | None],
        deliver: Deliver,
    ) -> None:
        """Deliver the bars that start after `after` (UTC; None: those that complete from now on) from the desk's thread.

        `deliver(completed_at, bars)` gets the bars of one start, by symbol, and must not block. Each symbol's come in order;
        one that comes after its moment was given up is delivered by itself. A subscription of the same name is replaced.
        Raises NoBars when no pair converts what a symbol earns.
        """
        try:
            assembly = Assembly(symbols, granularity, after, currency=self._currency, offered=self._offered)
        except LookupError as error:
            raise NoBars(f"{error.args[0]}, so nothing converts it into {self._currency}. No bars are delivered.") from None
        with self._lock:
            self._subscriptions[name] = _Subscription(assembly, deliver)
            self._changed = True
        self._clock.wake()

    def unsubscribe(self, name: str) -> None:
        """Deliver nothing more under this name. A delivery that is under way may still end after this returns."""
        with self._lock:
            self._subscriptions.pop(name, None)

    def health(self) -> DeskHealth:
        """How it does."""
        with self._lock:
            now = time.monotonic()
            return replace(
                self._health,
                alive=self._thread is not None and self._thread.is_alive(),
                subscriptions=len(self._subscriptions),
                refused=tuple(sorted({name for (name, _), until in self._refused.items() if until > now})),
                lag=median(self._lags) if self._lags else None,
            )

    # --- The desk's thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                pause = self._round()
            except Exception as error:
                self._crashed(f"{type(error).__name__}: {error}")
                pause = 1.0
            self._pause(pause)

    def _pause(self, seconds: float | None) -> None:
        """Wait until the next round: so many seconds, or without them until a bar should be there."""

        def called() -> bool:
            return self._changed or self._stopping

        moment = None
        if seconds is None:
            moment, seconds = self._timing.next_look(self._tracks(), self._asked)
        self._clock.wait_until(moment, seconds, unless=called)

    def _round(self) -> float | None:
        """Ask once for everything, and deliver what is ready. How long to wait then; None to wait for the next bar."""
        self._changed = False
        tracks = self._tracks()
        if not tracks:
            return IDLE
        self._asked = self._clock.now()
        pause = None
        try:
            self._ask(tracks)
        except OandaError as error:
            pause = self._failed(error)
        else:
            self._note(failing_since=None, denied=False, last_error="")
        self._deliver()
        return pause

    def _tracks(self) -> list[Track]:
        with self._lock:
            return [track for each in self._subscriptions.values() for track in each.assembly.tracks.values()]

    # --- What the broker has

    def _ask(self, tracks: Sequence[Track]) -> None:
        """Bring all tracks up to date. What fails for one series is raised when the others have had their turn."""
        problem = _Problem()
        shown = self._latest(list(dict.fromkeys(_series(track) for track in tracks)), problem)
        for track in tracks:
            latest = shown.get(_series(track))
            if latest is None:
                continue
            with problem.of(track.symbol):
                if not track.offer(latest, self._asked):
                    self._fill(track)
                if track.missing_before and track.frontier is not None:
                    self._anchor(track, track.frontier)
        problem.reraise()

    def _latest(self, wanted: Sequence[Series], problem: _Problem) -> dict[Series, Shown]:
        now = time.monotonic()
        asked = [series for series in wanted if self._refused.get(series, now) <= now]
        found: dict[Series, Shown] = {}
        for first in range(0, len(asked), AT_ONCE):
            some = asked[first : first + AT_ONCE]
            try:
                found |= self._request(partial(self._candles.latest, some))
            except OandaRejected as error:
                if error.status in DENIED:
                    raise
                # One name that the broker does not know must not keep the others from their bars.
                for series in some:
                    with problem.of(series[0]):
                        found |= self._latest_alone(series)
        return found

    def _latest_alone(self, series: Series) -> dict[Series, Shown]:
        try:
            shown = self._request(partial(self._candles.last, *series, LAST))
        except OandaRejected as error:
            if error.status not in DENIED:
                self._refused[series] = time.monotonic() + REFUSED_PAUSE
            raise
        self._refused.pop(series, None)
        return {series: shown}

    def _fill(self, track: Track) -> None:
        """Ask for everything from the frontier on: the newest bar is not the next one."""
        while (start := track.frontier) is not None:
            asked = self._clock.now()
            shown, more = self._request(partial(self._candles.since, *_series(track), start))
            track.extend(shown, asked, whole=not more)
            if not more or track.frontier == start:
                return

    def _anchor(self, track: Track, end: datetime) -> None:
        count = min(track.missing_before, PAGE)
        track.anchor(self._request(partial(self._candles.before, *_series(track), end, count)))

    def _request(self, ask: Callable[[], T]) -> T:
        self._limit.wait()
        try:
            answer = ask()
        except OandaError:
            self._note(failures=self._health.failures + 1)
            raise
        finally:
            self._note(requests=self._health.requests + 1)
        self._backoff = Backoff(*BACKOFF)  # whoever answers one question is not away
        return answer

    # --- What the strategies get

    def _deliver(self) -> None:
        with self._lock:
            subscriptions = list(self._subscriptions.items())
        now = time.monotonic()
        before = self._health.moments
        refused = {name for (name, _), until in self._refused.items() if until > now}
        for name, each in subscriptions:
            impatient = each.waits_since is not None and now - each.waits_since > PATIENCE
            for delivery in each.assembly.ready(self._wait, without=refused, impatient=impatient):
                if self._subscriptions.get(name) is each:
                    self._hand_over(name, each, delivery)
            if not each.assembly.waits:
                each.waits_since = None
            elif each.waits_since is None:
                each.waits_since = now
        if self._health.moments > before:
            time.sleep(LET_ON)

    def _hand_over(self, name: str, subscription: _Subscription, delivery: Delivery) -> None:
        try:
            subscription.deliver(delivery.completed_at, delivery.bars)
        except Exception as error:
            self._crashed(f"the bars of {delivery.completed_at} were not taken by {name}: {type(error).__name__}: {error}")
        if self._clock.steady:
            self._lags.append((self._clock.now() - delivery.completed_at).total_seconds())
        self._note(moments=self._health.moments + 1, late=self._health.late + delivery.late)

    # --- What went wrong

    def _failed(self, error: OandaError) -> float:
        """Remember it, and say how long to wait."""
        denied = error.status in DENIED
        since = self._health.failing_since or datetime.now(UTC)
        if self._health.failing_since is None:
            log.warning("The bar desk gets no candles and goes on trying: %s", error)
        self._note(failing_since=since, denied=denied, last_error=str(error))
        self._timing.disturbed()
        return REFUSED_PAUSE if denied else self._backoff.after(0.0)

    def _crashed(self, what: str) -> None:
        log.exception("The bar desk met what nobody foresaw, and goes on: %s", what)
        self._note(crashes=self._health.crashes + 1, last_error=what)

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._health = replace(self._health, **changes)


class _Problem:
    """Keeps the first error of several attempts, so that one does not keep the others from being made."""

    def __init__(self) -> None:
        self._first: OandaError | None = None

    @contextmanager
    def of(self, symbol: str) -> Iterator[None]:
        try:
            yield
        except OandaError as error:
            if error.status in DENIED:
                raise
            self._first = self._first or error

    def reraise(self) -> None:
        if self._first is not None:
            raise self._first


def _series(track: Track) -> Series:
    return track.symbol, track.granularity
