"""What really happened: every request with its answer, every stream, every fault that struck, for tests to assert on.

Bounded, by number and by size: the oldest entries go first. Tokens never come out of it: headers are not kept, and a token that a
client puts anywhere else is blotted out.
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from mbats.simulator.core.times import write_time

ENTRIES = 10_000
BODY_BYTES = 20_000  # of one body; the rest is cut off
ALL_BYTES = 32_000_000  # of all bodies together
LONGEST_TOKEN = 4_000
BLOT = "[token]"
OANDA_TOKEN = re.compile(r"\b[0-9a-f]{32}-[0-9a-f]{32}\b")  # the form of a real one, which has no business here at all
BODIES = ("request", "response")

Kind = Literal["request", "stream", "fault", "admin"]
Entry = dict[str, Any]
MATCHED = ("kind", "listener", "method", "path", "account", "action", "outcome", "rule", "status")


class Journal:
    """The entries, numbered from 1. `now` gives the exchange's time and `wall` this machine's, both UTC.

    Entries that are written with `lasting` go to `file` too, and are read back by the next process: a fault that kills this one
    has to be told by the next.
    """

    def __init__(
        self,
        now: Callable[[], np.datetime64],
        wall: Callable[[], np.datetime64],
        *,
        secrets: Iterable[str] = (),
        file: Path | None = None,
    ) -> None:
        self._now = now
        self._wall = wall
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)
        self._file = file
        self._entries: deque[Entry] = deque()
        self._last = 0
        self._bytes = 0
        for line in file.read_bytes().splitlines() if file and file.exists() else ():
            self._keep(orjson.loads(line))

    def add(self, kind: Kind, *, lasting: bool = False, **fields: Any) -> Entry:
        """Note something that happened now. `request` and `response` are the bytes of bodies."""
        entry: Entry = {"kind": kind, "wallTime": write_time(self._wall()), "time": write_time(self._now()), **fields}
        for name in BODIES:
            if content := entry.get(name):
                entry[name] = content[: BODY_BYTES + LONGEST_TOKEN]
        if lasting and self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                file.write(orjson.dumps(self._told(entry) | {"beforeRestart": True}) + b"\n")
        return self._keep(entry)

    def _keep(self, entry: Entry) -> Entry:
        self._last += 1
        entry["number"] = self._last
        self._entries.append(entry)
        self._bytes += _size(entry)
        while len(self._entries) > ENTRIES or self._bytes > ALL_BYTES:
            self._bytes -= _size(self._entries.popleft())
        return entry

    def find(self, query: Mapping[str, str]) -> list[Entry]:
        """Entries, oldest first, that agree with the query: patterns such as `*/orders` for the keys of an entry, `since` for
        the number after which to begin, `limit` for how many of the last ones. Raises ValueError about a wrong number or key.
        """
        wanted = dict(query)
        since, limit = (_whole(name, wanted.pop(name, default)) for name, default in (("since", "0"), ("limit", str(ENTRIES))))
        unknown = sorted(set(wanted) - set(MATCHED))
        if unknown:
            raise ValueError(f"no key {', '.join(unknown)}; known are since, limit, {', '.join(MATCHED)}")
        found = [
            entry
            for entry in self._entries
            if entry["number"] > since
            and all(fnmatch.fnmatchcase(_text(entry.get(key)), pattern) for key, pattern in wanted.items())
        ]
        return [self._told(entry) for entry in (found[-limit:] if limit else [])]

    def forget(self) -> None:
        """Empty it; numbers go on."""
        self._entries.clear()
        self._bytes = 0

    def _told(self, entry: Entry) -> Entry:
        """The entry as it may be shown: bodies as JSON where they are any, no token anywhere."""
        bodies = {name: self._body(entry[name]) for name in BODIES if isinstance(entry.get(name), bytes)}
        told: Entry = self._clean(entry | bodies)
        return told

    def _body(self, content: bytes) -> Any:
        if not content:
            return None
        if len(content) <= BODY_BYTES:
            try:
                return orjson.loads(content)
            except orjson.JSONDecodeError:
                pass  # kept as text: a wrong body is what a test may want to see
        text: str = self._clean(content.decode("utf-8", "replace"))
        return text if len(content) <= BODY_BYTES else f"{text[:BODY_BYTES]}… (cut)"

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, BLOT)
            return OANDA_TOKEN.sub(BLOT, value)
        if isinstance(value, dict):
            return {self._clean(key): self._clean(each) for key, each in value.items()}
        return [self._clean(each) for each in value] if isinstance(value, list | tuple) else value


def _size(entry: Entry) -> int:
    return sum(len(entry[name]) for name in BODIES if isinstance(entry.get(name), bytes))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{name}={text!r}; it must be a whole number from 0")
    return int(text)
