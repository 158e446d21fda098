"""Tells people what they should know, by Apprise: mail, chat, push. It never holds anybody up and never fails whoever calls it.

A notice waits in a short queue for a thread of its own; what is said again within a minute is not sent again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import SecretStr

from mbats.errors import ConfigError

log = logging.getLogger(__name__)

QUEUE = 100  # notices; more than that at once tell nobody anything
AGAIN_AFTER = 60.0  # seconds
TITLE = "MBATS"


class Level(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to know."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """How many notices went out, failed, were said too often, or found the queue full."""

    sent: int = 0
    failed: int = 0
    repeated: int = 0
    dropped: int = 0


Send = Callable[[Notice], bool]


class Notices:
    """The thread that tells people. Without addresses it writes notices to the log alone, where they always stand.

    `send` says whether a notice went out; `clock` is in seconds.
    """

    def __init__(self, send: Send | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._queue: queue.Queue[Notice | None] = queue.Queue(QUEUE)
        self._lock = threading.Lock()
        self._said: dict[tuple[Level, str], float] = {}
        self._counts = dict.fromkeys(("sent", "failed", "repeated", "dropped"), 0)
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    @classmethod
    def to_addresses(cls, urls: SecretStr | None) -> Notices:
        """Notices to the addresses of MBATS_NOTIFY_URLS. Raises ConfigError when one of them is none that Apprise knows."""
        given = urls.get_secret_value().split() if urls is not None else []
        return cls(_apprise(given) if given else None)

    def tell(self, level: Level, text: str, *, key: str = "") -> None:
        """Send a notice, from any thread and without waiting. Those of the same `key`, or else the same text, are one."""
        log.log({"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}[level], "%s", text)
        if self._send is None or self._repeats(level, key or text):
            return
        try:
            self._queue.put_nowait(Notice(level, text))
        except queue.Full:
            self._count("dropped")

    def figures(self) -> Figures:
        with self._lock:
            return Figures(**self._counts)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def close(self, timeout: float = 5.0) -> None:
        """Send what waits, for so many seconds at most."""
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            log.warning("%d notices were not sent", self._queue.qsize())
            return
        self._thread.join(timeout)

    def _repeats(self, level: Level, key: str) -> bool:
        now = self._clock()
        with self._lock:
            self._said = {said: at for said, at in self._said.items() if now - at < AGAIN_AFTER}
            if (level, key) in self._said:
                self._counts["repeated"] += 1
                return True
            self._said[level, key] = now
            return False

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _run(self) -> None:
        while (notice := self._queue.get()) is not None:
            try:
                sent = self._send is not None and self._send(notice)
            except Exception:
                log.exception("a notice could not be sent")
                sent = False
            self._count("sent" if sent else "failed")
            if not sent:
                log.warning("a notice reached nobody, or not all: %s", notice.text)


def _apprise(urls: Sequence[str]) -> Send:
    import apprise  # takes half a second, and most have no addresses

    kinds = {
        Level.INFO: apprise.NotifyType.INFO,
        Level.WARNING: apprise.NotifyType.WARNING,
        Level.CRITICAL: apprise.NotifyType.FAILURE,
    }
    everybody = apprise.Apprise()
    for number, url in enumerate(urls, start=1):
        if not everybody.add(url):
            kind = url.partition("://")[0] if "://" in url else "no address at all"
            raise ConfigError(
                f"Address {number} of {len(urls)} in MBATS_NOTIFY_URLS ({kind[:20]}) is none that Apprise can use; expected one "
                "such as ntfy://topic, several of them separated by blanks. The trader was not started."
            )

    def send(notice: Notice) -> bool:
        return bool(everybody.notify(notice.text, title=f"{TITLE}: {notice.level}", notify_type=kinds[notice.level]))

    return send


__all__ = ["Figures", "Level", "Notice", "Notices"]
