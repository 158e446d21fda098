"""Keeps the processes of deployments running: starts them, after a death again, and gives up on one that keeps dying.

One thread decides, and starts every process: the kernel ends a process with the thread that started it, where it was asked to.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from mbats.live.deployment import State
from mbats.live.hosting.restarts import MOST_DEATHS, Restarts, after_end
from mbats.live.hosting.session import End, EndKind, Line, Session
from mbats.live.process.pipe import child_command, traders_end
from mbats.live.wire import FromStrategy, Ready

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at processes that may hang
LONGEST_BEGIN = 20.0  # seconds that `stop` waits for a `begin` that is under way


class Hosting(Protocol):
    """What the host tells the trader. Called from threads of the host; an exception ends the process that it was about."""

    def begin(self, session: Session) -> None:
        """Say to a new process what it needs: Begin, History, Adopt. May take its time. When it raises a passing MbatsError the
        process is started again for ever; anything else counts as a death."""

    def message(self, session: Session, message: FromStrategy) -> None:
        """A process said something."""

    def ended(self, session: Session, end: End) -> None:
        """A process is gone, and has said all that it will say. Comes once for each, before the next one begins."""

    def changed(self, name: str, hosted: Hosted) -> None:
        """The state of a deployment is another one."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """How a deployment's process is. `since` is when it came into this state (UTC, this machine's clock), `again_at` when it
    starts again, `restarts` how often it did so by itself since somebody started it."""

    state: State
    reason: str = ""
    since: datetime | None = None
    again_at: datetime | None = None
    restarts: int = 0


@dataclass(slots=True)
class _Entry:
    hosted: Hosted
    restarts: Restarts
    wanted: bool = True
    session: Session | None = None
    due: float | None = None  # when to start it again
    kill_at: float | None = None  # when a request to end has lasted long enough
    waiting: list[threading.Event] = field(default_factory=list)  # who wants to know that it is gone


class Host:
    """The processes of all deployments, by name. Every method may be called from any thread.

    `patience` is for how many seconds a process may owe the answer to a bar, `start_patience` the word that it is ready.
    """

    def __init__(
        self,
        hosting: Hosting,
        *,
        command: Callable[[int], Sequence[str]] = child_command,
        connect: Callable[[int], Line] = traders_end,
        patience: float = 60.0,
        start_patience: float = 600.0,
        draw: random.Random | None = None,
    ) -> None:
        self._hosting = hosting
        self._command, self._connect = command, connect
        self._patience, self._start_patience = patience, start_patience
        self._draw = draw or random.Random()
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.crashes = 0  # errors that nobody foresaw, of its own or of those whom it tells
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def hosted(self, name: str) -> Hosted:
        """How this deployment is; STOPPED when the host never heard of it."""
        with self._lock:
            entry = self._entries.get(name)
        return entry.hosted if entry else Hosted(State.STOPPED)

    def session(self, name: str) -> Session | None:
        """Its process, if there is one."""
        with self._lock:
            entry = self._entries.get(name)
        return entry.session if entry else None

    def start(self, name: str) -> None:
        """Start it now, and keep it running; what it died of before is forgotten. One that runs is left alone. Does not wait."""
        self._inbox.put(lambda: self._wish_start(name))

    def stay_down(self, name: str, reason: str) -> None:
        """It had failed before this host began, and stays so until somebody starts it. Returns at once."""
        self._inbox.put(lambda: self._wish_down(name, reason))

    def stop(self, name: str, why: str, *, grace: float = 5.0) -> bool:
        """Ask its process to end, and kill it when it does not within `grace` seconds. Returns whether all of it is gone.

        It starts no more in any case. False only when `begin` holds on to it for longer than LONGEST_BEGIN.
        """
        gone = threading.Event()
        self._inbox.put(lambda: self._wish_stop(name, why, grace, gone))
        deadline = time.monotonic() + grace + LONGEST_BEGIN
        while self.alive and time.monotonic() < deadline:
            if gone.wait(TICK):
                return True
        return gone.is_set() or self.session(name) is None

    def close(self, why: str, *, grace: float = 5.0) -> None:
        """End all processes and the host itself."""
        with self._lock:
            names = list(self._entries)
        threads = [threading.Thread(target=self.stop, args=(name, why), kwargs={"grace": grace}) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._inbox.put(None)
        self._thread.join(grace)

    # --- In the host's thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                act = self._inbox.get(timeout=self._pause())
            except queue.Empty:
                act = self._look
            if act is None:
                return
            try:
                act()
                self._look()
            except Exception:
                self.crashes += 1
                log.exception("the host goes on")

    def _pause(self) -> float:
        dues = [entry.due for entry in self._entries.values() if entry.due is not None]
        return max(0.0, min([TICK, *(due - time.monotonic() for due in dues)]))

    def _look(self) -> None:
        now = time.monotonic()
        for name, entry in list(self._entries.items()):
            session = entry.session
            if session is None:
                if entry.due is not None and now >= entry.due:
                    self._launch(name, entry)
            elif not session.alive:
                session.hang_up()
            elif entry.kill_at is not None and now >= entry.kill_at:
                session.kill("It was asked to end and did not.")
            elif session.waiting(now) > (self._start_patience if session.ready_at is None else self._patience):
                session.kill(f"The process of '{name}' did not answer for {session.waiting(now):.0f} s; it was ended.")

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            entry = _Entry(Hosted(State.STOPPED), Restarts())
            with self._lock:
                self._entries[name] = entry
        return entry

    def _wish_down(self, name: str, reason: str) -> None:
        entry = self._entry(name)
        if entry.session is None:
            entry.wanted, entry.due = False, None
            self._show(name, entry, Hosted(State.FAILED, reason))

    def _wish_start(self, name: str) -> None:
        entry = self._entry(name)
        entry.wanted, entry.restarts = True, Restarts()
        if entry.session is None:  # else it runs, or is about to end and is started again then
            self._launch(name, entry)

    def _wish_stop(self, name: str, why: str, grace: float, gone: threading.Event) -> None:
        entry = self._entries.get(name)
        if entry is None:
            gone.set()
            return
        entry.wanted, entry.due = False, None
        if entry.session is None:
            self._show(name, entry, Hosted(State.STOPPED, why))
            gone.set()
            return
        entry.kill_at = min(entry.kill_at or float("inf"), time.monotonic() + grace)
        entry.session.quit(why)
        entry.waiting.append(gone)

    def _launch(self, name: str, entry: _Entry) -> None:
        entry.due = entry.kill_at = None
        self._show(name, entry, Hosted(State.STARTING, restarts=entry.restarts.count))
        try:
            session = Session(
                name,
                self._command,
                self._connect,
                begin=self._hosting.begin,
                message=self._on_message,
                ended=lambda session, end: self._inbox.put(lambda: self._on_end(session, end)),
            )
        except OSError as error:
            self._again(name, entry, End(EndKind.DIED, f"The process of '{name}' cannot be started: {error}.", None), lived=0.0)
            return
        with self._lock:
            entry.session = session

    def _on_message(self, session: Session, message: FromStrategy) -> None:
        if isinstance(message, Ready):
            self._inbox.put(lambda: self._on_ready(session))
        self._hosting.message(session, message)

    def _on_ready(self, session: Session) -> None:
        entry = self._entries[session.name]
        if entry.session is session and entry.wanted:
            self._show(session.name, entry, Hosted(State.LIVE, restarts=entry.restarts.count))

    def _on_end(self, session: Session, end: End) -> None:
        entry = self._entries[session.name]
        with self._lock:
            entry.session = None
        try:
            self._hosting.ended(session, end)
        except Exception:
            self.crashes += 1
            log.exception("the end of %s could not be told", session.name)
        if entry.wanted and entry.kill_at is None:
            lived = time.monotonic() - session.ready_at if session.ready_at is not None else 0.0
            self._again(session.name, entry, end, lived=lived)
        elif entry.wanted:  # it was stopped, and started again before it was gone
            self._launch(session.name, entry)
        else:
            self._show(session.name, entry, Hosted(State.STOPPED, end.reason, restarts=entry.restarts.count))
        for gone in entry.waiting:
            gone.set()
        entry.waiting.clear()

    def _again(self, name: str, entry: _Entry, end: End, *, lived: float) -> None:
        now = time.monotonic()
        died = end.kind is not EndKind.NOT_READY
        entry.restarts, pause = after_end(entry.restarts, now, lived=lived, died=died, luck=self._draw.random())
        if pause is None:
            entry.wanted = False
            reason = f"It died {MOST_DEATHS} times within a minute and stays down until somebody starts it. Lastly: {end.reason}"
            self._show(name, entry, Hosted(State.FAILED, reason, restarts=entry.restarts.count))
            return
        entry.due = now + pause
        again_at = datetime.now(UTC) + timedelta(seconds=pause)
        self._show(name, entry, Hosted(State.WAITING, end.reason, again_at=again_at, restarts=entry.restarts.count))

    def _show(self, name: str, entry: _Entry, hosted: Hosted) -> None:
        entry.hosted = replace(hosted, since=datetime.now(UTC))
        try:
            self._hosting.changed(name, entry.hosted)
        except Exception:
            self.crashes += 1
            log.exception("the state of %s could not be told", name)


__all__ = ["End", "EndKind", "Host", "Hosted", "Hosting", "Session"]
