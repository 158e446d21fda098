"""What the risk database keeps of models, as plain values: what they said, who put one in charge, and how far they have drifted.

Times have a zone; a model is named `name/version`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Role = Literal["model", "shadow"]


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """What a model said at one bar of a run: `time` is the bar's start, `features` are in the model's order.

    Exactly one of `prediction` and `error` is None. `latency_ms` is None where the bars were predicted in one batch.
    """

    symbol: str
    time: datetime
    role: Role
    model: str
    features: tuple[float, ...]
    prediction: float | None
    latency_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A `ModelDecision` with the run that it belongs to; `deployment` is None for a backtest."""

    run_id: int
    mode: str
    deployment: str | None
    symbol: str
    time: datetime
    role: Role
    model: str
    features: tuple[float, ...]
    prediction: float | None
    latency_ms: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Promotion:
    """Who made which version the champion, and why. `checks` is what the gate found, whatever its form, as JSON.

    `previous_version` is the champion before, None when there was none; `overridden`: a person let it pass failed checks.
    """

    name: str
    version: int
    previous_version: int | None
    by: str
    why: str
    action: Literal["promote", "rollback"]
    overridden: bool = False
    checks: list[dict[str, Any]] = field(default_factory=list)
    at: datetime | None = None  # None until it is recorded: the database's clock counts
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """How far what a model gets or says lies from its training: `psi` is the population stability index.

    `what` is one feature (`feature:rsi`) or the `prediction`, over `rows` decisions at bars that start in [since, until).
    """

    name: str
    version: int
    at: datetime
    what: str
    psi: float
    rows: int
    since: datetime
    until: datetime
    level: Literal["ok", "watch", "alarm"]
