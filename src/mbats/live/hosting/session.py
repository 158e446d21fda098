"""One life of a deployment's process: it is started, spoken to over a pipe, listened to, and buried.

Whoever speaks to it never waits for it: what is sent stands in a queue until the process reads it. A process that hangs or dies
takes nothing with it but itself.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from mbats.errors import MbatsError
from mbats.live.process.pipe import PeerGone
from mbats.live.wire import Broken, Done, FromStrategy, History, Moment, Quit, Ready, ToStrategy

log = logging.getLogger(__name__)

BURIAL = 2.0  # seconds that a process has to end after it hung up
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Line(Protocol):
    """The trader's end of the pipe."""

    def send(self, message: ToStrategy) -> None: ...

    def send_bars(self, history: History, bars: Any, conversions: Any) -> None: ...

    def has_room(self) -> bool: ...

    def receive(self) -> FromStrategy | None: ...

    def close(self) -> None: ...


class EndKind(StrEnum):
    """Why a process ended."""

    ASKED = "asked"  # it was told to
    DIED = "died"  # it crashed, its strategy raised, it hung, or what it needs to begin cannot be had
    NOT_READY = "not ready"  # what it needs to begin is away, such as the broker: no fault of its own


@dataclass(frozen=True, slots=True)
class End:
    """The end of a process, in a sentence for people; `code` is its exit code, less than zero for a signal."""

    kind: EndKind
    reason: str
    code: int | None


class Session:
    """A process that runs. `message` gets what it says, `ended` comes once, after the last message and when `begin` has returned.

    `begin` says to it what it needs first. It runs in the session's thread and may take its time; what others send meanwhile
    comes after. Every callback comes from a thread of the session.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        connect: Callable[[int], Line],
        *,
        begin: Callable[[Session], None],
        message: Callable[[Session, FromStrategy], None],
        ended: Callable[[Session, End], None],
    ) -> None:
        """Start the process; must be called in a thread that lives as long as the process may. Raises OSError."""
        self.name = name
        self._begin, self._message, self._ended = begin, message, ended
        self._queue: queue.SimpleQueue[ToStrategy | None] = queue.SimpleQueue()
        self._order = threading.Lock()  # of what is sent
        self._idle = False  # whether the feeder has begun, and has nothing to send
        self._lock = threading.Lock()
        self._unanswered: deque[tuple[Any, float]] = deque()  # moments that were sent, and when
        self._verdict: tuple[EndKind, str] | None = None  # why we ended it
        self._broken: Broken | None = None
        self.started = time.monotonic()
        self.ready_at: float | None = None
        self.last_done: Done | None = None
        self._socket, self.process = _start(command)
        self._line = connect(os.dup(self._socket.fileno()))
        self._feeder = threading.Thread(target=self._feed, name=f"feed {name}", daemon=True)
        self._reader = threading.Thread(target=self._read, name=f"read {name}", daemon=True)
        self._feeder.start()
        self._reader.start()

    # --- To the process ----------------------------------------------------------------------------------------------------

    def send(self, message: ToStrategy) -> None:
        """Send, from any thread, without waiting: in order, and after what `begin` says. One that is gone gets nothing."""
        if threading.current_thread() is self._feeder:
            self._write(message)
            return
        with self._order:
            if self._idle and self._line.has_room():  # to wake the feeder for a bar would take as long as to send it
                with suppress(PeerGone):  # whoever listens to it learns why
                    self._write(message)
            else:
                self._enqueue(message)

    def _enqueue(self, message: ToStrategy) -> None:
        """For the feeder, who waits where we may not. Call with `_order` held."""
        self._idle = False
        self._queue.put(message)

    def send_bars(self, history: History, bars: Any, conversions: Any) -> None:
        """Bars of one symbol before the present; for `begin` alone."""
        if threading.current_thread() is not self._feeder:
            raise RuntimeError("history is sent while a session begins, by `begin` itself")
        self._line.send_bars(history, bars, conversions)

    def quit(self, why: str) -> None:
        """Ask it to end."""
        self._judge(EndKind.ASKED, why)
        with self._order:
            self._enqueue(Quit(why))

    def kill(self, reason: str, kind: EndKind = EndKind.DIED) -> None:
        """End it at once. The reason of the first who ends it is the one that is told."""
        self._judge(kind, reason)
        self.process.kill()

    # --- How it is ---------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    @property
    def pid(self) -> int:
        return self.process.pid

    def waiting(self, now: float) -> float:
        """For how many seconds it owes an answer: to the oldest moment that it was given, or the word that it is ready."""
        if self.ready_at is None:
            return now - self.started
        with self._lock:
            return now - self._unanswered[0][1] if self._unanswered else 0.0

    def hang_up(self) -> None:
        """Let go of a pipe that a process has left behind: one of its own children may hold it open."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("the pipe to %s was closed already: %s", self.name, error)

    # --- Its threads -------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            self._begin(self)
            while (message := self._next()) is not None:
                self._write(message)
        except PeerGone as error:
            log.debug("%s: %s", self.name, error)  # whoever listens to it learns why
        except MbatsError as error:
            self.kill(str(error), EndKind.NOT_READY if error.passing else EndKind.DIED)
        except Exception as error:
            log.exception("the process of %s cannot be begun", self.name)
            self.kill(f"The process of '{self.name}' cannot be begun: {type(error).__name__}: {error}.")

    def _next(self) -> ToStrategy | None:
        with self._order:
            self._idle = self._queue.empty()
        return self._queue.get()

    def _write(self, message: ToStrategy) -> None:
        if isinstance(message, Moment):
            with self._lock:
                self._unanswered.append((message.time, time.monotonic()))
        self._line.send(message)

    def _read(self) -> None:
        try:
            while (message := self._line.receive()) is not None:
                self._note(message)
                self._message(self, message)
        except Exception as error:
            # What it wanted was not taken. Going on would leave it in the belief that it was.
            log.exception("a message of %s cannot be taken; its process is ended", self.name)
            self.kill(f"A message of '{self.name}' could not be taken ({type(error).__name__}: {error}); its process was ended.")
        self._bury()

    def _note(self, message: FromStrategy) -> None:
        match message:
            case Ready():
                self.ready_at = time.monotonic()
            case Done(time=moment):
                self.last_done = message
                with self._lock:
                    while self._unanswered and self._unanswered[0][0] <= moment:
                        self._unanswered.popleft()
            case Broken():
                self._broken = message

    def _bury(self) -> None:
        try:
            code = self.process.wait(BURIAL)
        except subprocess.TimeoutExpired:
            self.kill(f"The process of '{self.name}' hung up and did not end.")
            code = self.process.wait()
        self.hang_up()
        self._queue.put(None)
        self._feeder.join()
        self._line.close()
        self._socket.close()
        self._ended(self, self._end(code))

    def _end(self, code: int) -> End:
        if self._broken is not None and (self._verdict is None or self._verdict[0] is not EndKind.ASKED):
            where = f" ({self._broken.where})" if self._broken.where else ""
            return End(EndKind.DIED, f"{self._broken.message}{where}", code)
        if self._verdict is not None:
            return End(*self._verdict, code)
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return End(EndKind.DIED, f"The process of '{self.name}' {how} and did not say why.", code)

    def _judge(self, kind: EndKind, reason: str) -> None:
        with self._lock:
            self._verdict = self._verdict or (kind, reason)


def _start(command: Callable[[int], Sequence[str]]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the command with one end of a socket pair; it gets no setting, no secret and no input."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            command(theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a strategy prints belongs into the trader's log
            pass_fds=[theirs.fileno()],
            env={name: value for name, value in os.environ.items() if not name.startswith("MBATS_")} | ONE_THREAD,
            process_group=0,  # Ctrl-C is for the trader, which ends its processes itself
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours, process


__all__ = ["End", "EndKind", "Line", "Session"]
