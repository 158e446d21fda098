"""The faults in force, and what each has struck."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mbats.errors import UsageError
from mbats.simulator.admin.journal import Journal
from mbats.simulator.faults.actions import Action, Point
from mbats.simulator.faults.rules import Facts, Match, Rule, make_rule

LIMIT = 1000  # rules at a time


def kill_process() -> None:
    """End this process as `kill -9` does: nothing is finished, nothing is closed."""
    os.kill(os.getpid(), signal.SIGKILL)


class Faults:
    """Rules by their number, oldest first. Every time that one strikes is journalled.

    `now` gives the exchange's time, `monotonic` seconds that never go back; `seed` decides what probabilities draw.
    """

    def __init__(
        self,
        journal: Journal,
        now: Callable[[], np.datetime64],
        *,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        kill: Callable[[], None] = kill_process,
    ) -> None:
        self.rules: dict[int, Rule] = {}
        self._journal = journal
        self._now = now
        self._seed = seed
        self._monotonic = monotonic
        self._kill = kill
        self._numbers = 0
        self._armed: dict[Point, Rule] = {}

    def add(self, match: Match | None, action: Action) -> Rule:
        """Set a fault. Raises UsageError when there are too many."""
        if len(self.rules) >= LIMIT:
            raise UsageError(f"No fault was set: {LIMIT} are in force, and more are not kept. Delete some (DELETE /faults)")
        self._numbers += 1
        rule = make_rule(self._numbers, match, action, seed=self._seed, monotonic=self._monotonic)
        self.rules[rule.number] = rule
        return rule

    def remove(self, number: int) -> Rule:
        """Take a fault away. Raises KeyError when there is none of this number."""
        rule = self.rules.pop(number)
        self._armed = {point: each for point, each in self._armed.items() if each is not rule}
        return rule

    def clear(self) -> list[Rule]:
        """Take all faults away; those that there were."""
        return [self.remove(number) for number in list(self.rules)]

    def striking(self, facts: Facts) -> list[Rule]:
        """The rules that strike this request or message, oldest first."""
        if not self.rules:
            return []
        now, monotonic = self._now(), self._monotonic()
        struck = [rule for rule in self.rules.values() if rule.strikes(facts, now, monotonic)]
        for rule in struck:
            self.note(rule, facts)
        return struck

    def note(self, rule: Rule, facts: Facts | None = None, *, lasting: bool = False) -> None:
        """Journal that a rule has struck."""
        known = facts.to_json() if facts is not None else {}
        self._journal.add("fault", lasting=lasting, rule=str(rule.number), action=rule.action.do, **known)

    def active(self) -> list[Rule]:
        """The rules that may strike yet."""
        monotonic = self._monotonic()
        return [rule for rule in self.rules.values() if not rule.is_over(monotonic)]

    def told(self, rule: Rule) -> dict[str, Any]:
        """A rule as it was given, with what it did."""
        return rule.to_json(self._monotonic())

    def to_json(self, *, never_hit: bool = False) -> list[dict[str, Any]]:
        """Every rule with what it did; with `never_hit`, only those that have struck nothing."""
        return [self.told(rule) for rule in self.rules.values() if not (never_hit and rule.hits)]

    # --- The end of the process -----------------------------------------------------------------------------------------

    def arm(self, rule: Rule, point: Point) -> None:
        """Kill the process when it comes to this point."""
        self._armed[point] = rule

    def disarm(self, point: Point) -> None:
        """Do not: the request for which it was armed is over."""
        self._armed.pop(point, None)

    def passing(self, point: Point) -> None:
        """The process is at this point; it may end here."""
        if rule := self._armed.pop(point, None):
            self.kill(rule, point)

    def is_armed(self, point: Point) -> bool:
        """Whether the process ends at this point."""
        return point in self._armed

    def kill(self, rule: Rule, point: Point | None = None) -> None:
        """Write down why, and end the process."""
        rule.hits += 0 if rule.match is not None else 1
        self._journal.add("fault", lasting=True, rule=str(rule.number), action="kill", point=point)
        self._kill()
