"""Moves the alias `champion`: forward through the gate, back by a rollback. Each move is recorded with who, when and why.

The alias is in MLflow and the record in the risk database, which no transaction spans. The record is tried second, and when it
fails the alias is put back, so that no champion is without its record. Deployments pin what they started with: a move shows at
the next `mbats start` of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mbats.database import Database
from mbats.errors import MbatsError, UsageError
from mbats.ml import registry
from mbats.ml.evidence import declared_now, results_of, try_loading
from mbats.ml.gate import Check, judge, passed
from mbats.ml.registry import Version
from mbats.ml.tracking import client, client_environment
from mbats.riskdb.live_record import write_records
from mbats.riskdb.live_records import RiskEventRecord
from mbats.riskdb.model_records import Promotion
from mbats.riskdb.models import promotions, record_promotion
from mbats.settings import Settings

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate says of a version: every check, against the champion of that moment (None: there was none)."""

    version: Version
    champion: Version | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return passed(self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that are not passed."""
        return tuple(check for check in self.checks if not check.passed)


class NotPromoted(MbatsError):
    """The gate refused; `judgement` says why. Nothing was changed."""

    exit_code = 1

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        reasons = " ".join(check.sentence for check in judgement.failed)
        champion = judgement.champion.info.reference if judgement.champion else "none, as before"
        super().__init__(
            f"{judgement.version.info.reference} was not promoted; the champion is {champion}. {reasons} "
            "A person may let it pass with --override and a reason, which is recorded."
        )


def evaluate(settings: Settings, name: str, version: int | None = None) -> Judgement:
    """Put a version before the gate, by default the challenger; nothing is changed.

    Raises UnknownModel, UsageError when it is the champion already, PlatformError when a service is away.
    """
    return _evaluate(settings, registry.versions(settings, name), name, version)


def promote(
    settings: Settings, name: str, version: int | None = None, *, by: str, why: str, override: bool = False
) -> tuple[Judgement, Promotion]:
    """Make a version the champion, by default the challenger, if the gate is passed or `override` is given.

    A refusal is recorded as well, as `model_refused` in `risk_event`.

    Raises NotPromoted with the checks, UsageError without a reason, and what `evaluate` raises.
    """
    _require_reason(why)
    with closing(Database(settings, "risk", "trading")) as risk:
        promotions(risk, name)  # the record must be possible, or nothing is begun
        judgement = evaluate(settings, name, version)
        if not judgement.passed and not override:
            refused = NotPromoted(judgement)
            record_judgement(settings, judgement, "refused", str(refused), by=by, why=why)
            raise refused
        return judgement, _move(
            settings,
            risk,
            Promotion(
                name=name,
                version=judgement.version.info.version,
                previous_version=judgement.champion.info.version if judgement.champion else None,
                by=by,
                why=why,
                action="promote",
                overridden=not judgement.passed,
                checks=[check.to_json() for check in judgement.checks],
            ),
        )


def record_judgement(settings: Settings, judgement: Judgement, action: str, sentence: str, *, by: str, why: str) -> None:
    """Add `model_<action>` with every check to `risk_event`, where people look things up; it concerns no account."""
    key, checks = judgement.version.info.reference, [check.to_json() for check in judgement.checks]
    record_event(settings, key, "lifecycle", "info", f"model_{action}", sentence, {"why": why, "checks": checks}, by=by)


def record_event(
    settings: Settings, key: str, kind: str, level: str, code: str, sentence: str, detail: dict[str, Any], *, by: str
) -> None:
    """Add one thing that happened to a model, now, to `risk_event`; `key` is the version, as in `rsi_stochastic/3`."""
    at = datetime.now(UTC)
    event = RiskEventRecord("", f"{code}:{key}:{at.isoformat()}", at, kind, level, code, sentence, by=by, detail=detail)
    with closing(Database(settings, "risk", "trading")) as risk, risk.begin() as connection:
        write_records(connection, [event])


def rollback(settings: Settings, name: str, *, by: str, why: str) -> Promotion:
    """Make the champion before the present one the champion again; once more goes one further back. No check is asked.

    Raises UnknownModel, UsageError when there is none to go back to or no reason was given, PlatformError.
    """
    _require_reason(why)
    present = registry.aliases(settings, name).get(CHAMPION)
    if present is None:
        raise UsageError(f"'{name}' has no champion, so there is nothing to take back. `mbats promote {name}` makes one.")
    with closing(Database(settings, "risk", "trading")) as risk:
        former = former_champion(promotions(risk, name), present)
        if former is None:
            raise UsageError(
                f"No champion of '{name}' before version {present} is recorded, so there is none to go back to; nothing was "
                f"changed. `mbats models {name}` lists the versions, `mbats promote {name} VERSION` chooses one."
            )
        registry.find(settings, f"{name}/{former}")  # it must still be there
        return _move(
            settings,
            risk,
            Promotion(name=name, version=former, previous_version=present, by=by, why=why, action="rollback"),
        )


def former_champion(recorded: Sequence[Promotion], present: int) -> int | None:
    """The version to go back to from `present`, by the recorded moves, newest first; None when there is none.

    A promotion puts a version on top of those before it, a rollback takes one off: two of them in a row do not undo each other.
    """
    stack: list[int] = []
    for move in reversed(recorded):
        if move.action == "rollback":
            while stack and stack[-1] != move.version:
                stack.pop()
            stack = stack or [move.version]
        else:
            if move.previous_version is not None and stack[-1:] != [move.previous_version]:
                stack.append(move.previous_version)  # somebody had set the alias in MLflow itself
            stack.append(move.version)
    if stack[-1:] == [present]:
        stack.pop()
    return next((version for version in reversed(stack) if version != present), None)


def trials_of(versions: Sequence[Version]) -> int:
    """How many things were tried under a name: every version ever registered, those deleted since too, and the trials of each."""
    registered = max((version.info.version for version in versions), default=0)
    return registered + sum(int(version.tags.get("trials", "0") or 0) for version in versions)


def _evaluate(settings: Settings, versions: Sequence[Version], name: str, number: int | None) -> Judgement:
    candidate = _candidate(versions, name, number)
    champion = next((version for version in versions if CHAMPION in version.aliases), None)
    if champion is not None and champion.info.version == candidate.info.version:
        raise UsageError(f"{candidate.info.reference} is the champion already; nothing was changed.")
    checks = judge(
        results_of(settings, candidate),
        results_of(settings, champion) if champion else None,
        trials=trials_of(versions),
        trained=candidate.info.features,
        declared=declared_now(settings, candidate),
        loading=try_loading(settings, candidate),
        latency_limit=settings.model_seconds,
    )
    return Judgement(candidate, champion, tuple(checks))


def _candidate(versions: Sequence[Version], name: str, number: int | None) -> Version:
    if number is not None:
        found = next((version for version in versions if version.info.version == number), None)
        if found is None:
            raise registry.UnknownModel(f"{name}/{number}", [version.info.reference for version in versions])
        return found
    found = next((version for version in versions if CHALLENGER in version.aliases), None)
    if found is None:
        raise UsageError(
            f"'{name}' has no challenger. Say which version, as in `mbats promote {name} 3`, or train one: `mbats train`. "
            f"Known: {', '.join(version.info.reference for version in versions) or 'none'}."
        )
    return found


def _move(settings: Settings, risk: Database, promotion: Promotion) -> Promotion:
    registry.set_alias(settings, promotion.name, CHAMPION, promotion.version)
    try:
        number = record_promotion(risk, promotion)
    except BaseException:
        if promotion.previous_version is not None:
            registry.set_alias(settings, promotion.name, CHAMPION, promotion.previous_version)
        else:
            with client_environment(settings):
                client(settings).delete_registered_model_alias(promotion.name, CHAMPION)
        raise
    return next(move for move in promotions(risk, promotion.name) if move.id == number)


def _require_reason(why: str) -> None:
    if not why.strip():
        raise UsageError("A change of champion needs a reason, which is recorded: --why '…'. Nothing was changed.")


__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Judgement",
    "NotPromoted",
    "evaluate",
    "former_champion",
    "promote",
    "record_event",
    "record_judgement",
    "rollback",
    "trials_of",
]
