"""Whether the market has moved away from what a champion was trained on: each feature and its prediction, against the training.

The index and its levels are those of `mbats.ml.stability`. Rows of neighbouring bars are alike, so they count as fewer: n rows of
a series with the autocorrelations ρ₁, ρ₂, … tell as much as n / (1 + 2·Σρ) independent ones (Geyer, Statistical Science 7(4),
1992; the sum ends before the first pair of lags whose sum is not positive). Without that every calm quarter would be an alarm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mbats.database import Database
from mbats.errors import ConfigError
from mbats.market import Floats, Granularity
from mbats.ml import registry
from mbats.ml.files import REFERENCE
from mbats.ml.promotion import CHAMPION
from mbats.ml.recent import Recent, recent_features, span
from mbats.ml.registry import Version
from mbats.ml.stability import Reference, level, psi
from mbats.riskdb.model_records import Drift
from mbats.riskdb.models import decisions, record_drift
from mbats.settings import Settings
from mbats.trading.model import ModelInfo

BARS = 250  # of each symbol that are looked at, at least
PERIOD = timedelta(days=90)  # at least: a shorter one shows a state of the market, and no drift
MIN_ROWS = 50  # fewer say nothing at all
PREDICTION = "prediction"

Columns = Mapping[str, Sequence[Floats]]  # of each thing that is watched, one series for each symbol, in order of time


@dataclass(frozen=True, slots=True)
class Watched:
    """What was found of one version: `bars` of what it would see on the stored bars, `live` of what it saw in deployments."""

    info: ModelInfo
    bars: tuple[Drift, ...]
    live: tuple[Drift, ...]

    @property
    def alarms(self) -> tuple[Drift, ...]:
        """What has drifted so far that the training says little about it."""
        return tuple(row for row in (*self.bars, *self.live) if row.level == "alarm")


def champions(settings: Settings) -> list[Version]:
    """The champion of every model that has one and that `mbats train` registered."""
    found = (version for name in registry.names(settings) for version in registry.versions(settings, name))
    return [version for version in found if CHAMPION in version.aliases]


def watch(settings: Settings, version: Version, *, now: datetime | None = None) -> Watched:
    """Measure one version on the newest bars and on what deployments asked it, and record it. Nobody is told here.

    Raises what reading bars, strategy or model raises; nothing is recorded then.
    """
    now = now or datetime.now(UTC)
    info = version.info
    since = now - span(Granularity(info.granularity), BARS, PERIOD)
    path = registry.fetch(settings, info, settings.home / "models")
    references = read_references(path / REFERENCE)
    _, model = registry.load(path)
    recent = recent_features(settings, version, since, now)
    edges = model.predict("", recent.time, recent.matrix) if len(recent.time) else np.empty(0)
    measured = measure(info, references, _of_bars(recent, edges), at=now, since=since, until=now)
    with closing(Database(settings, "risk", "trading")) as risk:
        seen = [row for row in decisions(risk, info.name, since, now) if row.model == info.reference]
        columns = _of_decisions(info, {(row.symbol, row.time): (row.features, row.prediction) for row in seen})
        # A moment later, which it is: two measurements of one thing are two rows.
        live = measure(info, references, columns, at=now + timedelta(microseconds=1), since=since, until=now)
        record_drift(risk, [*measured, *live])
    return Watched(info, tuple(measured), tuple(live))


def measure(
    info: ModelInfo, references: Mapping[str, Reference], columns: Columns, *, at: datetime, since: datetime, until: datetime
) -> list[Drift]:
    """The index of each thing that the training has a reference of, over [since, until); none where there are too few rows."""
    found = []
    for what, reference in references.items():
        series = columns.get(what, ())
        values = np.concatenate(series) if series else np.empty(0)
        if len(values) < MIN_ROWS:
            continue
        index = max(0.0, psi(reference, values))
        independent = max(1, int(sum(effective_rows(each) for each in series)))
        found.append(
            Drift(info.name, info.version, at, what, index, len(values), since, until, level(index, reference, independent))
        )
    return found


def effective_rows(values: Floats) -> float:
    """How many independent rows a series (n,) tells as much as; n itself when it has no memory, 1 when it does not vary."""
    count = len(values)
    away = values - values.mean() if count else values
    if count < 3 or not (power := float(np.sum(away**2))) > 0:
        return float(min(count, 1))
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(away, size)
    correlations = np.fft.irfft(np.abs(spectrum) ** 2, size)[:count] / power
    pairs = correlations[: count - count % 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    time = 2 * float(np.sum(pairs[: ends[0]] if len(ends) else pairs)) - 1
    return count / max(time, 1.0)


def read_references(path: Path) -> dict[str, Reference]:
    """What lies in `reference.json` beside a model, by what it is of: `feature:NAME`, and `prediction`. Raises ConfigError."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        given = {f"feature:{name}": values for name, values in kept["features"].items()} | {PREDICTION: kept[PREDICTION]}
        return {what: Reference.from_json(values) for what, values in given.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {type(error).__name__}: {error}. Delete its folder; the model is fetched again."
        ) from error


def _of_bars(recent: Recent, edges: Floats) -> Columns:
    of_symbol = [recent.symbol == symbol for symbol in dict.fromkeys(recent.symbol.tolist())]
    columns = {f"feature:{name}": recent.matrix[:, place] for place, name in enumerate(recent.names)} | {PREDICTION: edges}
    return {what: [values[rows] for rows in of_symbol] for what, values in columns.items()}


def _of_decisions(info: ModelInfo, rows: Mapping[tuple[str, datetime], tuple[tuple[float, ...], float | None]]) -> Columns:
    """By symbol and in order of time. What was asked by several deployments counts once; where it failed, the features count."""
    ordered = sorted(rows)
    symbols = list(dict.fromkeys(symbol for symbol, _ in ordered))
    of_symbol = [[rows[key] for key in ordered if key[0] == symbol] for symbol in symbols]
    columns: dict[str, list[Floats]] = {
        f"feature:{name}": [np.array([features[place] for features, _ in each]) for each in of_symbol]
        for place, name in enumerate(info.features)
    }
    said = [np.array([edge for _, edge in each if edge is not None], np.float64) for each in of_symbol]
    return columns | {PREDICTION: said}


__all__ = ["Watched", "champions", "effective_rows", "measure", "read_references", "watch"]
