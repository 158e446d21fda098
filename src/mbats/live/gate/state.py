"""Whether trading goes on: ACTIVE, REDUCING or HALTED, for each deployment and for all of them; the stricter wins.

`halt`, `reduce` and `flatten` only ever tighten, so that it does not matter in which order two of them arrive; `resume` alone
loosens, and is a person's. Latches lock beside that, until a stated time or until a person resumes. A value is journalled
with `as_json.to_json`, so that a kill switch outlives the process (R27).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from mbats.errors import UsageError
from mbats.live.gate.reasons import Reason


class TradingState(StrEnum):
    """What may pass, loosest first: everything that the limits allow; what reduces exposure; cancels."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

    @property
    def strictness(self) -> int:
        return list(TradingState).index(self)


class CommandKind(StrEnum):
    """What a person, or the trader itself, may say."""

    HALT = "halt"
    REDUCE = "reduce"
    FLATTEN = "flatten"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Command:
    """One word to the gate with who says it, when (UTC) and why. `deployment` None means all.

    `to` is for `resume` alone: how far to loosen. Raises UsageError when nobody says it, or when it says nothing.
    """

    kind: CommandKind
    by: str
    at: datetime
    why: str
    deployment: str | None = None
    to: TradingState = TradingState.ACTIVE

    def __post_init__(self) -> None:
        if not self.by.strip() or not self.why.strip():
            raise UsageError(
                f"'{self.kind}' needs who says it and why (found by={self.by!r}, why={self.why!r}); nothing changed."
            )
        if self.to is not TradingState.ACTIVE and self.kind is not CommandKind.RESUME:
            raise UsageError(f"Only 'resume' says to which state; '{self.kind}' was given {self.to}. Nothing changed.")
        if self.to is TradingState.HALTED:
            raise UsageError("'resume' cannot resume to HALTED; use 'halt'. Nothing changed.")


@dataclass(frozen=True, slots=True)
class Latch:
    """A lock on new exposure: since when, until when (UTC; None is until a person resumes), and the figures that set it."""

    reason: Reason
    since: datetime
    until: datetime | None
    why: str

    def holds(self, now: datetime) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Control:
    """The state of one deployment, or of all: who set it, when and why, whether a flatten is under way, and the latches."""

    state: TradingState = TradingState.ACTIVE
    by: str = ""
    at: datetime | None = None
    why: str = ""
    flattening: bool = False
    latches: tuple[Latch, ...] = ()

    def in_words(self) -> str:
        """Who set it, when and why."""
        return f"{self.state} by {self.by} at {self.at:%Y-%m-%d %H:%M:%S} UTC: {self.why}" if self.at else str(self.state)


@dataclass(frozen=True, slots=True)
class GateState:
    """The control of all, and those of the deployments that ever had one."""

    everything: Control = field(default_factory=Control)
    deployments: dict[str, Control] = field(default_factory=dict)

    def control(self, deployment: str | None) -> Control:
        """The control of one deployment, or with None that of all."""
        return self.everything if deployment is None else self.deployments.get(deployment, Control())

    def with_control(self, deployment: str | None, control: Control) -> GateState:
        """The same state with one control put in place of its old one."""
        if deployment is None:
            return replace(self, everything=control)
        return replace(self, deployments={**self.deployments, deployment: control})


@dataclass(frozen=True, slots=True)
class Ruling:
    """What holds for one deployment: the stricter state with the control that set it, flattens under way, and latches.

    `last_command` is when anybody last said anything about it, UTC.
    """

    control: Control
    flattening: bool
    latches: tuple[Latch, ...]
    last_command: datetime | None

    @property
    def state(self) -> TradingState:
        return self.control.state


def apply(state: GateState, command: Command) -> GateState:
    """The state after a command. One that would change nothing leaves the first who, when and why in place.

    A `resume` that was said before what it would undo does not undo it: whoever said it did not know.
    """
    control = state.control(command.deployment)
    if command.kind is CommandKind.RESUME:
        if control.at is not None and command.at < control.at:
            return state
        unseen = tuple(found for found in control.latches if found.since > command.at)
        new = Control(command.to, command.by, command.at, command.why, latches=unseen)
    else:
        wanted = TradingState.REDUCING if command.kind is CommandKind.REDUCE else TradingState.HALTED
        starts_flatten = command.kind is CommandKind.FLATTEN and not control.flattening
        if wanted.strictness <= control.state.strictness and not starts_flatten:
            return state
        new = replace(control, state=wanted, by=command.by, at=command.at, why=command.why)
        new = replace(new, flattening=control.flattening or starts_flatten)
    return state.with_control(command.deployment, new)


def flattened(state: GateState, deployment: str | None) -> GateState:
    """The flatten is over, confirmed by fills; trading stays HALTED until a person resumes."""
    return state.with_control(deployment, replace(state.control(deployment), flattening=False))


def latch(state: GateState, deployment: str | None, latches: Iterable[Latch]) -> GateState:
    """Lock new exposure. Of two latches with the same reason, the one that holds longer stays."""
    kept = {found.reason: found for found in state.control(deployment).latches}
    for new in latches:
        old = kept.get(new.reason)
        if old is None or (old.until is not None and (new.until is None or new.until > old.until)):
            kept[new.reason] = new
    return state.with_control(deployment, replace(state.control(deployment), latches=tuple(kept.values())))


def refused_login(state: GateState, *, status: int, at: datetime) -> GateState:
    """HALTED for all because the broker answered 401 or 403: asking again would only be a storm of refusals (R30)."""
    why = f"the broker answered HTTP {status}: it refuses the token. Check the token and the account, then resume."
    return apply(state, Command(CommandKind.HALT, "mbats", at, why))


def ruling(state: GateState, deployment: str, now: datetime) -> Ruling:
    """What holds for this deployment now, all in all."""
    both = (state.everything, state.control(deployment))
    return Ruling(
        control=max(both, key=lambda control: control.state.strictness),
        flattening=any(control.flattening for control in both),
        latches=tuple(found for control in both for found in control.latches if found.holds(now)),
        last_command=max((control.at for control in both if control.at is not None), default=None),
    )
