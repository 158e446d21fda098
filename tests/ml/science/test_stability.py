"""The population stability index tells a shift, and is silent about chance."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mbats.ml.stability import Reference, level, psi, reference


def normal(count: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, count)


def test_the_index_is_the_sum_over_the_bins():
    of = Reference((0.0,), (50, 50, 0))
    now = np.r_[np.full(80, -1.0), np.full(20, 1.0)]

    then, came = np.array([0.5, 0.5]), np.array([80.5, 20.5]) / 101
    assert psi(of, now) == pytest.approx(float(np.sum((came - then) * np.log(came / then))))


@pytest.mark.parametrize(("mean", "said"), [(0.0, "ok"), (0.4, "watch"), (1.0, "alarm")])
def test_a_shift_is_told_by_its_size(mean, said):
    of = reference(normal(5000, 1))

    assert level(psi(of, normal(2000, 2, mean)), of, 2000) == said


def test_few_rows_of_the_same_market_raise_no_alarm():
    of = reference(normal(5000, 1))
    found = [psi(of, normal(30, seed)) for seed in range(300)]

    assert np.mean(np.array(found) >= 0.25) > 0.3  # what the rule of thumb alone would alarm of
    assert np.mean([level(each, of, 30) != "ok" for each in found]) < 0.02


def test_a_column_that_stops_coming_is_an_alarm():
    of = reference(normal(1000, 1))
    now = normal(1000, 2)
    now[:400] = np.nan

    assert level(psi(of, now), of, 1000) == "alarm"


def test_a_column_that_never_changes_is_stable_until_it_moves_below_or_above():
    of = reference(np.full(500, 3.0))

    assert psi(of, np.full(400, 3.0)) == 0
    assert level(psi(of, np.full(400, 4.0)), of, 400) == "alarm"


def test_equal_values_stay_in_one_bin():
    of = reference(np.r_[np.zeros(900), np.arange(1, 101)])

    assert of.counts[0] == 900
    assert sum(of.counts) == 1000
    assert psi(of, np.r_[np.zeros(90), np.arange(1, 101, 10)]) < 0.01


def test_nothing_has_no_index_and_no_level():
    of = reference(normal(100, 1))

    assert math.isnan(psi(of, np.empty(0)))
    assert math.isnan(psi(reference(np.empty(0)), normal(10, 1)))
    assert level(math.nan, of, 0) == "ok"


def test_a_reference_survives_json():
    of = reference(normal(1000, 1))

    assert Reference.from_json(json.loads(json.dumps(of.to_json()))) == of
