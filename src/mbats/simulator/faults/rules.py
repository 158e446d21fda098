"""When a fault strikes: a match for requests or for messages of streams, and how often."""

from __future__ import annotations

import fnmatch
import random
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError

from mbats.errors import UsageError
from mbats.simulator.core.times import write_time
from mbats.simulator.errors import Refusal
from mbats.simulator.faults.actions import ACTION, DEEDS, ON_MESSAGES, ON_REQUESTS, Action, Part, RateLimit
from mbats.simulator.limits import RateLimit as Bucket
from mbats.simulator.queries import read_time


def _moment(text: Any) -> Any:
    try:
        found = read_time({"time": str(text)}, "time")
    except Refusal:
        found = None
    if found is None:
        raise ValueError("no time in RFC 3339, such as 2024-05-16T09:30:00Z")
    return write_time(found)


Moment = Annotated[str, BeforeValidator(_moment)]  # with nine digits and a Z, so that texts compare as times do
Nth = Annotated[int, Field(ge=1)]


class Window(Part):
    """A stretch of the exchange's time, half-open."""

    start: Moment | None = None
    end: Moment | None = None


class Match(Part):
    """Which requests or messages a fault strikes; every key given must agree.

    `path` and `message` (the type of a stream's message) are patterns such as `*/orders` and `*_ORDER`. `message` makes it a rule
    for messages. Of those that agree, `nth` counts from 1, `probability` draws by the simulator's seed, and `times` ends it.
    `window` is of the exchange's time, `ttl` are seconds of this machine's.
    """

    method: str | None = None
    path: str | None = None
    account: str | None = None
    instrument: str | None = None
    message: str | None = None
    nth: Nth | list[Nth] | None = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    window: Window | None = None
    ttl: Annotated[float | None, Field(gt=0)] = None
    times: Annotated[int | None, Field(ge=1)] = None


class _Rule(Part):
    match: Match | None = None
    action: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request, or of a message when `message` is its type."""

    listener: str
    method: str
    path: str
    account: str | None = None
    instrument: str | None = None
    message: str | None = None

    def to_json(self) -> dict[str, str]:
        """What of it there is."""
        names = ("listener", "method", "path", "account", "instrument", "message")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(slots=True)
class Rule:
    """A fault in force. `seen` are the requests or messages that agreed, `hits` those that it struck."""

    number: int
    match: Match | None
    action: Action
    born: float
    draw: random.Random
    seen: int = 0
    hits: int = 0
    buckets: Bucket | None = field(default=None)

    def strikes(self, facts: Facts, now: np.datetime64, monotonic: float) -> bool:
        """Whether it strikes this one; counts it."""
        match = self.match
        if match is None or not self._agrees(match, facts) or self.is_over(monotonic):
            return False
        if match.window is not None and not _within(match.window, write_time(now)):
            return False
        self.seen += 1
        if match.nth is not None and self.seen not in (match.nth if isinstance(match.nth, list) else (match.nth,)):
            return False
        if match.probability < 1 and self.draw.random() >= match.probability:
            return False
        if self.buckets is not None and self.buckets.allows(""):
            return False
        self.hits += 1
        return True

    def is_over(self, monotonic: float) -> bool:
        """Whether it has struck often enough, or its time has passed."""
        match = self.match
        if match is None:
            return self.hits > 0
        return (match.times is not None and self.hits >= match.times) or (
            match.ttl is not None and monotonic - self.born >= match.ttl
        )

    @staticmethod
    def _agrees(match: Match, facts: Facts) -> bool:
        if (match.message is None) != (facts.message is None):
            return False
        return (
            (match.method is None or match.method.upper() == facts.method)
            and (match.path is None or fnmatch.fnmatchcase(facts.path, match.path))
            and (match.account is None or match.account == facts.account)
            and (match.instrument is None or match.instrument == facts.instrument)
            and (match.message is None or fnmatch.fnmatchcase(facts.message or "", match.message))
        )

    def to_json(self, monotonic: float) -> dict[str, Any]:
        """The rule as it was given, with what it did."""
        return {
            "id": str(self.number),
            "match": None if self.match is None else self.match.model_dump(exclude_defaults=True),
            "action": self.action.model_dump(mode="json"),
            "seen": self.seen,
            "hits": self.hits,
            "active": not self.is_over(monotonic),
        }


def read_rule(body: Any) -> tuple[Match | None, Action]:
    """Read what POST /faults was given. Raises UsageError that names the wrong key and what was expected."""
    try:
        rule = _Rule.model_validate(body)
        action = ACTION.validate_python(rule.action)
    except ValidationError as error:
        raise UsageError("No fault was set: " + "; ".join(map(_problem, error.errors()))) from None
    if rule.match is None and not isinstance(action, DEEDS):
        raise UsageError(
            f"No fault was set: '{action.do}' happens to requests or messages, so it needs a 'match'; {{}} is every request"
        )
    on_messages = rule.match is not None and rule.match.message is not None
    if not isinstance(action, (*DEEDS, *(ON_MESSAGES if on_messages else ON_REQUESTS))):
        other = "requests; leave 'message' out" if on_messages else "messages of streams; add 'message' to the match, '*' for all"
        raise UsageError(f"No fault was set: '{action.do}' happens to {other}")
    return rule.match, action


def make_rule(number: int, match: Match | None, action: Action, *, seed: int, monotonic: Any) -> Rule:
    """A rule that begins now; `monotonic` gives seconds that never go back."""
    rule = Rule(number, match, action, monotonic(), random.Random(f"{seed}:{number}"))
    if isinstance(action, RateLimit):
        rule.buckets = Bucket(action.per_second, monotonic)
    return rule


def _within(window: Window, now: str) -> bool:
    return (window.start is None or window.start <= now) and (window.end is None or now < window.end)


def _problem(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the body"
    return f"{where}: {problem['msg']} (found {problem['input']!r})"
