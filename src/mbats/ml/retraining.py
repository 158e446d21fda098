"""Trains challengers as `mlflow/retrain.toml` says, puts each before the gate, and says what came of it.

Deployments that were started with `--shadow NAME@challenger` shadow it: its decisions are recorded and never traded. Only where
the file says `rule = "promote"` does a version that passes the gate become champion without a person; nothing here ever
overrides a check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mbats.errors import MbatsError
from mbats.ml import registry
from mbats.ml.drift import Watched, champions, watch
from mbats.ml.jobs import Job, choose_jobs, is_due
from mbats.ml.promotion import Judgement, NotPromoted, evaluate, promote, record_event, record_judgement
from mbats.ml.stability import ALARM
from mbats.ml.training import Told, TrainingSpec, train
from mbats.settings import Settings

BY = "retrain_models"
WHY = "It is due by retrain.toml, which says what becomes of it when it passes the gate."
Say = Callable[[str, str], None]  # level (`info` or `warning`) and sentence, to whom it may concern
Action = Literal["promoted", "proposed", "refused"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one challenger. `sentence` is for people, `checks` are the gate's."""

    model: str
    version: int
    action: Action
    sentence: str
    checks: tuple[dict[str, Any], ...]


class WatchFailed(MbatsError):
    """Some champions could not be looked at; the others were."""


def due_models(settings: Settings, *, now: datetime | None = None) -> list[str]:
    """The models of retrain.toml of which a new version is due. Raises ConfigError, PlatformError."""
    moment = now or datetime.now(UTC)
    return [name for name, job in choose_jobs(settings.root).items() if is_due(job, _newest(settings, name), moment)]


def retrain(settings: Settings, name: str, job: Job, *, say: Say, told: Told | None = None) -> Outcome:
    """Train a version of the model and put it before the gate; promote it if that is the rule and all checks are passed.

    Raises what `train` and `evaluate` raise; a version that was trained by then stays the challenger.
    """
    spec = TrainingSpec(
        name=name,
        strategy=job.strategy,
        granularity=job.granularity,
        symbols=job.symbols,
        start=job.start,
        recipe=job.recipe,
        parameters=job.parameters,
        trials=job.trials,
    )
    version = train(settings, spec, told=told).info.version
    action, judgement = _judged(settings, name, version, job)
    outcome = Outcome(name, version, action, _sentence(judgement, action), tuple(check.to_json() for check in judgement.checks))
    if (action, job.rule) != ("refused", "promote"):  # that refusal is recorded where it was made
        record_judgement(settings, judgement, action, outcome.sentence, by=BY, why=WHY)
    say("info", outcome.sentence)
    return outcome


def watch_champions(settings: Settings, names: Sequence[str] = (), *, say: Say, now: datetime | None = None) -> list[Watched]:
    """Measure the drift of each champion, or of those named, and tell of alarms.

    Raises UnknownModel for a name without a champion, and WatchFailed after all were tried when some could not be looked at.
    """
    found = {version.info.name: version for version in champions(settings)}
    for name in names:
        if name not in found:
            raise registry.UnknownModel(f"{name}@champion", [f"{known}@champion" for known in found])
    watched, failures = [], []
    for name in names or found:
        try:
            seen = watch(settings, found[name], now=now)
        except MbatsError as error:
            failures.append(f"{found[name].info.reference}: {error}")
            continue
        watched.append(seen)
        if seen.alarms:
            sentence = alarm(seen)
            record_event(settings, seen.info.reference, "alarm", "warning", "model_drift", sentence, {}, by=BY)
            say("warning", sentence)
    if failures:
        raise WatchFailed(
            f"{len(failures)} of {len(names or found)} champions could not be looked at, the others were: {' '.join(failures)}"
        )
    return watched


def alarm(watched: Watched) -> str:
    """What has drifted, in a sentence."""
    worst: dict[str, float] = {}
    for row in watched.alarms:
        worst[row.what] = max(row.psi, worst.get(row.what, 0.0))
    what = ", ".join(f"{name.removeprefix('feature:')} ({index:.2f})" for name, index in worst.items())
    return (
        f"Model {watched.info.reference} sees another market than it was trained on: {what}; from {ALARM:g} on it is an alarm. "
        f"It trades on. See `mbats drift {watched.info.name}`; `mbats retrain {watched.info.name}` trains a challenger."
    )


def _judged(settings: Settings, name: str, version: int, job: Job) -> tuple[Action, Judgement]:
    """What the rule makes of what the gate says; the gate is asked once, since a latency is never measured twice the same."""
    if job.rule == "propose":
        judgement = evaluate(settings, name, version)
        return ("proposed" if judgement.passed else "refused"), judgement
    try:
        judgement, _ = promote(settings, name, version, by=BY, why=WHY)
    except NotPromoted as refused:
        return "refused", refused.judgement
    return "promoted", judgement


def _newest(settings: Settings, name: str) -> datetime | None:
    """When the newest version was registered, UTC; None when there is none."""
    try:
        found = registry.versions(settings, name)
    except registry.UnknownModel:
        return None
    return max((version.registered for version in found), default=None)


def _sentence(judgement: Judgement, action: Action) -> str:
    info, champion = judgement.version.info, judgement.champion
    trained = f"Model {info.reference} was trained on bars up to {info.trained_to:%Y-%m-%d}"
    against = f"the champion is {champion.info.reference}" if champion else "there is no champion"
    if action == "promoted":
        before = f", in the place of {champion.info.reference}" if champion else ""
        return f"{trained}, passed the gate, and is the champion now{before}. Deployments take it when they are started again."
    if action == "proposed":
        return (
            f"{trained} and passed the gate; {against}. To make it the champion: mbats promote {info.name} {info.version} --why …"
        )
    reasons = " ".join(check.sentence for check in judgement.failed)
    return f"{trained} and does not pass the gate; {against}. {reasons}"


__all__ = ["BY", "Outcome", "Say", "WatchFailed", "alarm", "due_models", "retrain", "watch_champions"]
