"""What the models of deployments said: for the risk database, and for people as soon as one fails.

Used by the owner's thread alone. Written a moment after the orders that follow from it, which wait for nothing; what a kill takes
with it is half a second of these rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mbats.live.owner.account import Account
from mbats.live.wire import Decided
from mbats.riskdb.live_records import ModelDecisionRecord

CODES = {"model": "model_failed", "shadow": "shadow_failed"}


@dataclass(slots=True)
class Decisions:
    """See the module. `failing` says since when a deployment's model, or its shadow, gives nothing for a symbol, and why: one
    alarm for each such time, however many bars it lasts."""

    account: Account
    waiting: list[tuple[str, Decided]] = field(default_factory=list)
    failing: dict[tuple[str, str, str], tuple[datetime, str]] = field(default_factory=dict)

    def take(self, name: str, said: Decided) -> None:
        """A model was asked for a deployment."""
        self.waiting.append((name, said))

    def write(self) -> None:
        """Keep what was said since the last time."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        with self.account.journal.write():
            for name, said in waiting:
                self._write(name, said)

    def troubles(self) -> dict[str, str]:
        """A sentence for each deployment that gets nothing from its model now."""
        return {name: why for (name, role, _), (_, why) in self.failing.items() if role == "model"}

    def _write(self, name: str, said: Decided) -> None:
        account = self.account
        trading = account.deployments.get(name)
        if trading is None:
            return
        account.put(
            ModelDecisionRecord(
                name,
                trading.run_key,
                said.symbol,
                said.time,
                said.role,
                said.model,
                said.features,
                said.prediction,
                said.latency_s * 1000.0,
                said.error,
            )
        )
        key = name, said.role, said.symbol
        if said.error is None:
            since = self.failing.pop(key, None)
            if since is not None:
                self._tell(
                    name, said, "info", f"{self._whose(name, said)} answers again; it had failed since {since[0]:%H:%M:%S} UTC."
                )
        elif key not in self.failing:
            holds = (
                "it holds until it answers again" if said.role == "model" else "the shadow decides nothing, so nothing changes"
            )
            sentence = (
                f"{self._whose(name, said)} failed on the bar of {said.symbol} at {said.time:%Y-%m-%d %H:%M:%S} UTC: "
                f"{said.error.rstrip('.')}. There is no prediction; {holds}."
            )
            self.failing[key] = account.clock.now(), sentence
            self._tell(name, said, "critical" if said.role == "model" else "warning", sentence)

    @staticmethod
    def _whose(name: str, said: Decided) -> str:
        return f"{'Model' if said.role == 'model' else 'Shadow'} {said.model} of '{name}'"

    def _tell(self, name: str, said: Decided, level: str, sentence: str) -> None:
        code = CODES[said.role] if said.error is not None else "model_answers"
        key = f"{code} {name} {said.role} {said.symbol} {said.time.isoformat()}"
        detail = {"model": said.model, "latency_ms": said.latency_s * 1000.0, "error": said.error}
        self.account.event(key, "alarm", level, code, sentence, deployment=name, symbol=said.symbol, detail=detail)
