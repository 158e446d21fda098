"""What is trained anew and when: the file `mlflow/retrain.toml`, one section for each model of the registry.

Whether a model is due is read off its newest version and the calendar, not off the hour of the question: what was missed, or
failed, is made good by whoever asks next.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mbats.errors import ConfigError, UnknownName
from mbats.market import NEW_YORK, Granularity

FILE = Path("mlflow", "retrain.toml")
FRIDAY = 4
CLOSE = time(17)  # New York, when a trading day ends


class UnknownJob(UnknownName):
    """No section of this name in retrain.toml."""

    kind = "model"
    where = "mlflow/retrain.toml"


class Job(BaseModel):
    """One section. `start` is UTC; without it, and without `symbols`, all that is stored is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str = Field(min_length=1)
    granularity: Granularity
    recipe: str = Field(min_length=1)
    symbols: tuple[str, ...] | None = None
    start: datetime | None = None
    parameters: dict[str, str] = {}
    trials: int | None = Field(None, ge=0)
    schedule: Literal["daily", "weekly", "monthly", "never"]
    rule: Literal["propose", "promote"]

    @field_validator("start", mode="before")
    @classmethod
    def _in_utc(cls, value: Any) -> Any:
        if isinstance(value, str | datetime) or value is None:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        else:
            moment = datetime.combine(value, time())  # TOML has dates without a time
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment

    @field_validator("parameters", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """As `--param` would give them, whichever type TOML has for them."""
        if not isinstance(value, dict):
            return value
        return {name: str(given).lower() if isinstance(given, bool) else str(given) for name, given in value.items()}


def load_jobs(root: Path) -> dict[str, Job]:
    """The jobs of the project in `root`, by the name of their model. Raises ConfigError that names each wrong line's field."""
    path = root / FILE
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Nothing was trained.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}. Nothing was trained. Correct the file.") from None
    return {name: _job(path, name, section) for name, section in sections.items()}


def choose_jobs(root: Path, names: tuple[str, ...] = ()) -> dict[str, Job]:
    """The jobs of these names, or all. Raises UnknownJob, ConfigError."""
    jobs = load_jobs(root)
    for name in names:
        if name not in jobs:
            raise UnknownJob(name, jobs)
    return {name: jobs[name] for name in names or jobs}


def is_due(job: Job, last: datetime | None, now: datetime) -> bool:
    """Whether a new version is due at `now`, when the newest one was made at `last` (None: there is none). Both UTC."""
    if job.schedule == "never":
        return False
    return last is None or last < _period_began(job.schedule, now)


def _period_began(schedule: str, now: datetime) -> datetime:
    """The newest moment, not after `now`, at which versions made before it became old; by New York's clock, given in UTC."""
    local = now.astimezone(NEW_YORK)
    day = local.date() if local.time() >= CLOSE else local.date() - timedelta(days=1)
    if schedule == "daily":
        day -= timedelta(days=max(0, day.weekday() - FRIDAY))  # nothing new closes at a weekend
    elif schedule == "weekly":
        day -= timedelta(days=(day.weekday() - FRIDAY) % 7)
    else:
        day = day.replace(day=1)
    return datetime.combine(day, CLOSE, NEW_YORK).astimezone(UTC)


def _job(path: Path, name: str, section: Any) -> Job:
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: '{name}' stands outside of any section. Each section is the name of a model, as in [{name}].")
    try:
        return Job(**section)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']} (found {problem['input']!r})"
            if problem["type"] != "missing"
            else f"{'.'.join(map(str, problem['loc']))} is missing"
            for problem in error.errors()
        )
        raise ConfigError(f"{path}, section [{name}]: {problems}. Nothing was trained. Correct the file.") from None


__all__ = ["FILE", "Job", "UnknownJob", "choose_jobs", "is_due", "load_jobs"]
