"""What should trade: one strategy on some symbols of one account, with its parameters and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from mbats.live.gate import Mode


class Desired(StrEnum):
    """What a person asked for."""

    RUNNING = "running"
    STOPPED = "stopped"


class State(StrEnum):
    """What is. A deployment that keeps dying is FAILED and stays so until a person starts it again."""

    STOPPED = "stopped"
    STARTING = "starting"  # the process is being made, and its history read
    LIVE = "live"  # it gets bars as they complete, and its orders are taken
    WAITING = "waiting"  # it died, or its account is not ready; it starts again by itself
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One line of what should trade. `source` is the strategy's file as it was deployed: an edit changes nothing that runs.

    `account` is the name of an account in the settings, `warmup_from` the start (UTC) of the first bar that the strategy's
    indicators see: fixed when it is first started, so that a restart gives them the same values.
    """

    name: str
    strategy: str
    source: str
    parameters: dict[str, Any]
    symbols: tuple[str, ...]
    granularity: str
    account: str
    mode: Mode
    limits: dict[str, Any]
    created_at: datetime
    created_by: str
    code_version: str
    seed: int = 0
    warmup_bars: int | None = None
    warmup_from: datetime | None = None
    desired: Desired = Desired.RUNNING
    extra: dict[str, Any] = field(default_factory=dict)  # a shadow model, and the models as they were found: see `live.models`
