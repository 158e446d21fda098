"""Drift: how many rows a series with a memory is worth, and what of a market that has changed, or has not, is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mbats.errors import ConfigError
from mbats.ml.drift import effective_rows, measure, read_references
from mbats.ml.stability import reference
from mbats.trading.model import ModelInfo

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SINCE = NOW - timedelta(days=90)
INFO = ModelInfo("m", 3, "run", "d" * 64, ("x",), "regressor", "s", ("EUR_USD",), "H1", SINCE, NOW)


def remembering(count: int, memory: float, seed: int) -> np.ndarray:
    """A stationary series with the autocorrelations memory, memory², …; its deviation is 1."""
    generator = np.random.default_rng(seed)
    values = np.empty(count)
    values[0] = generator.normal()
    for place in range(1, count):
        values[place] = memory * values[place - 1] + np.sqrt(1 - memory**2) * generator.normal()
    return values


def found(training: np.ndarray, *now: np.ndarray):
    rows = measure(INFO, {"feature:x": reference(training)}, {"feature:x": now}, at=NOW, since=SINCE, until=NOW)
    return rows[0] if rows else None


def test_a_series_without_memory_is_worth_its_rows():
    assert effective_rows(np.random.default_rng(1).normal(size=4000)) == pytest.approx(4000, rel=0.1)


@pytest.mark.parametrize("memory", [0.5, 0.9, 0.97])
def test_a_series_with_memory_is_worth_what_theory_says(memory):
    worth = np.mean([effective_rows(remembering(20_000, memory, seed)) for seed in range(5)])

    assert worth == pytest.approx(20_000 * (1 - memory) / (1 + memory), rel=0.2)


@pytest.mark.parametrize(("values", "rows"), [([], 0), ([1.0], 1), ([1.0, 2.0], 1), ([3.0] * 50, 1)])
def test_what_is_short_or_does_not_vary_is_worth_one_row_at_most(values, rows):
    assert effective_rows(np.array(values)) == rows


def test_a_market_that_has_not_changed_raises_no_alarm_though_its_bars_resemble_their_neighbours():
    training = remembering(20_000, 0.95, 99)

    quarters = [found(training, remembering(500, 0.95, seed)) for seed in range(40)]

    assert sum(row.level == "alarm" for row in quarters) == 0
    assert sum(row.psi > 0.25 for row in quarters) > 5, "counted as rows of their own they would have been alarms"


def test_a_market_that_has_changed_raises_one():
    row = found(remembering(20_000, 0.5, 1), remembering(1500, 0.5, 2) + 1.5, remembering(1500, 0.5, 3) + 1.5)

    assert (row.level, row.rows, row.what, row.version) == ("alarm", 3000, "feature:x", 3)
    assert (row.since, row.until) == (SINCE, NOW)


def test_a_few_rows_say_nothing():
    assert found(remembering(5000, 0.5, 1), np.full(49, 9.0)) is None
    assert measure(INFO, {"prediction": reference(np.arange(99.0))}, {}, at=NOW, since=SINCE, until=NOW) == []


@pytest.mark.parametrize("text", ["", "[]", '{"features": {}}', '{"features": {"x": {}}, "prediction": {}}'])
def test_a_reference_that_cannot_be_read_is_said(tmp_path, text):
    path = tmp_path / "reference.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"reference\.json cannot be read"):
        read_references(path)
