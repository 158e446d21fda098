"""What the door for commands asks of the trader, and what it tells of each deployment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from mbats.errors import UnknownName
from mbats.live.deployment import Deployment, Desired, State
from mbats.live.gate import Command, Mode, TradingState


class UnknownDeployment(UnknownName):
    """The trader has no deployment of this name."""

    kind = "deployment"
    where = "the trader"


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """One deployment as people see it. Times are UTC, money is in the account's currency.

    `reason` says why it is not live, or why it does not trade. `positions` are signed units by symbol, `orders` how many of its
    orders stand, `pnl` what its closed trades made, `last_bar` the start of the last bar that it decided on, `restarts` how often
    its process was started again since the trader runs, `model` with which models it was started.
    """

    name: str
    strategy: str
    symbols: tuple[str, ...]
    granularity: str
    account: str
    mode: Mode
    desired: Desired
    state: State
    trading: TradingState = TradingState.ACTIVE
    reason: str = ""
    positions: dict[str, Decimal] = field(default_factory=dict)
    orders: int = 0
    pnl: Decimal | None = None
    currency: str = ""
    last_bar: datetime | None = None
    since: datetime | None = None
    restarts: int = 0
    model: str = ""


class Desk(Protocol):
    """The trader, as whoever gives it commands sees it. Every method may be called from any thread, and may take a few seconds.

    What is refused raises an MbatsError that says why: UnknownDeployment, UsageError and ConfigError when the request is at
    fault, PlatformError and OandaUnavailable when something does not answer.
    """

    def deploy(self, deployment: Deployment) -> None:
        """Store a new deployment and start it if that is desired. Raises UsageError when another one has its name, or its model
        cannot be had."""

    def start(self, name: str) -> None:
        """Start a deployment that is stopped or failed; nothing when it runs."""

    def stop(self, name: str) -> None:
        """End a deployment's process and keep it from starting again. Its positions and orders stay as they are."""

    def command(self, command: Command) -> dict[str, Any]:
        """Obey. Returns what came of it, plain values for JSON; with a key `message` that is one sentence for people."""
        ...

    def deployments(self) -> list[DeploymentStatus]:
        """All of them, by name."""
        ...

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        """Whether the trader does its work, and plain values that say how. False only when a restart of the process would help:
        a broker or a database that is away is said in the values, `reason` first, and changes nothing here."""
        ...

    def metrics(self) -> bytes:
        """Figures in the text format of Prometheus. Must not wait for anything."""
        ...


__all__ = ["DeploymentStatus", "Desk", "UnknownDeployment"]
