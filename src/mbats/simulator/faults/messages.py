"""What every message of a stream passes through on its way to the client: the faults that strike it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from mbats.simulator.channel import Channel
from mbats.simulator.faults.actions import (
    DEEDS,
    AddField,
    Close,
    Cut,
    Deed,
    Delay,
    Drop,
    Duplicate,
    End,
    HeartbeatsOnly,
    Merge,
    Reorder,
    Reset,
    Send,
    Silence,
    Split,
)
from mbats.simulator.faults.rules import Rule

HEARTBEAT = "HEARTBEAT"
FOREVER = float("inf")
QUEUED = 10_000  # delayed messages of one stream

Striking = Callable[[str, str | None], list[Rule]]
Do = Callable[[Rule, Deed], None]


@dataclass(frozen=True, slots=True)
class Message:
    """One line of a stream, without its end; `instrument` is that of a price or of a transaction that has one."""

    type: str
    line: bytes
    instrument: str | None = None


@dataclass(slots=True)
class _Plan:
    """How one message is sent."""

    lines: list[bytes]
    chunk: int | None = None
    merged: bool = False
    late: bool = False  # after the next one
    delay: float = 0.0
    end: tuple[str, int] | None = None  # how the stream ends, and by the fault of which rule
    after: list[tuple[Rule, Deed]] = field(default_factory=list)


class Spoiler:
    """Sends the messages of one stream in their order, except where a fault says otherwise.

    `striking` finds the rules for a message by its type and instrument, `do` does deeds, and `loop` tells the time.
    """

    def __init__(self, channel: Channel, striking: Striking, do: Do, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = channel
        self._striking = striking
        self._do = do
        self._loop = loop
        self._silent_until = self._beating_until = 0.0
        self._held: list[_Plan] = []  # until the next one is sent
        self._kept = b""  # for the chunk of the next one
        self._waiting: deque[tuple[float, _Plan]] = deque()

    def send(self, message: Message) -> None:
        """Send it, or what the faults leave of it."""
        rules = self._striking(message.type, message.instrument)
        plan = self._plan(message, rules) if rules else _Plan([message.line])
        now = self._loop.time()
        if now < self._silent_until or (now < self._beating_until and message.type != HEARTBEAT):
            return
        if plan.delay or self._waiting:
            self._wait(now + plan.delay, plan)
        else:
            self._through(plan)

    def _plan(self, message: Message, rules: list[Rule]) -> _Plan:
        plan = _Plan([message.line])
        for rule in rules:
            action = rule.action
            if isinstance(action, DEEDS):
                if action.when == "before":
                    self._do(rule, action)
                else:
                    plan.after.append((rule, action))
            elif isinstance(action, Silence):
                self._silent_until = self._until(action.seconds)
            elif isinstance(action, HeartbeatsOnly):
                self._beating_until = self._until(action.seconds)
            elif isinstance(action, End | Close | Reset | Cut):
                plan.end = (action.then if isinstance(action, Cut) else action.do, rule.number)
                if isinstance(action, Cut):
                    plan.lines = [message.line[: len(message.line) // 2]]
                    plan.chunk = 0
                elif action.when == "before":
                    plan.lines = []
            else:
                self._change(plan, message, action)
        return plan

    def _change(self, plan: _Plan, message: Message, action: Any) -> None:
        if isinstance(action, Drop):
            plan.lines = []
        elif isinstance(action, Duplicate):
            plan.lines = plan.lines * 2
        elif isinstance(action, AddField):
            plan.lines = [orjson.dumps(orjson.loads(message.line) | {action.name: action.value})]
        elif isinstance(action, Send):
            line = orjson.dumps(action.body)
            plan.lines = [line, *plan.lines] if action.when == "before" else [*plan.lines, line]
        elif isinstance(action, Delay):
            plan.delay += action.seconds
        elif isinstance(action, Reorder):
            plan.late = True
        elif isinstance(action, Split):
            plan.chunk = action.bytes
        elif isinstance(action, Merge):
            plan.merged = True

    def _until(self, seconds: float | None) -> float:
        return FOREVER if seconds is None else self._loop.time() + seconds

    # --- In its turn --------------------------------------------------------------------------------------------------------

    def _wait(self, due: float, plan: _Plan) -> None:
        if len(self._waiting) >= QUEUED:
            self._channel.reset("too many delayed messages")
            return
        due = max(due, self._waiting[-1][0] if self._waiting else due)
        self._waiting.append((due, plan))
        if len(self._waiting) == 1:
            self._loop.call_at(due, self._release)

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            self._through(self._waiting.popleft()[1])
        if self._waiting and self._channel.open:
            self._loop.call_at(self._waiting[0][0], self._release)

    def _through(self, plan: _Plan) -> None:
        if plan.late:
            self._held.append(plan)
            return
        self._put(plan)
        held, self._held = self._held, []
        for each in held:
            self._put(each)

    def _put(self, plan: _Plan) -> None:
        data = self._kept + b"".join(line if plan.chunk == 0 else line + b"\n" for line in plan.lines)
        self._kept = b""
        if plan.merged:
            self._kept = data
        elif data:
            size = plan.chunk or len(data)
            for at in range(0, len(data), size):
                self._channel.write(data[at : at + size])
        for rule, deed in plan.after:
            self._do(rule, deed)
        if plan.end is not None:
            how, rule_number = plan.end
            end = {"end": self._channel.finish, "close": self._channel.close, "reset": self._channel.reset}[how]
            end(f"fault {rule_number}")


__all__ = ["HEARTBEAT", "Message", "Spoiler"]
