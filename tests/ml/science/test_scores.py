"""Figures of predictions, each against one worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mbats.ml import scores

UP_AND_DOWN = np.array([1.0, -1.0, 1.0, 0.0])


def test_r2_is_the_squared_error_saved():
    value = np.array([1.0, 3.0])

    assert scores.r2(value, np.array([1.0, 3.0])) == 1
    assert scores.r2(value, np.zeros(2)) == 0
    assert scores.r2(value, np.array([1.0, 2.0])) == pytest.approx(1 - 1 / 10)
    assert scores.r2(value, np.array([1.0, 2.0]), 2.0) == pytest.approx(1 - 1 / 2)
    assert math.isnan(scores.r2(np.zeros(2), value))


def test_the_accuracy_edge_is_over_the_guess_that_training_suggested():
    said = np.array([0.2, -0.1, -0.3, 0.9])  # right, right, wrong; what did not move is of no account

    assert scores.accuracy_edge(UP_AND_DOWN, said, 1.0) == pytest.approx(2 / 3 - 2 / 3)
    assert scores.accuracy_edge(UP_AND_DOWN, said, -1.0) == pytest.approx(2 / 3 - 1 / 3)
    assert scores.accuracy_edge(UP_AND_DOWN, np.zeros(4), -1.0) == 0  # silence counts as the constant guess
    assert scores.accuracy_edge(UP_AND_DOWN, said, np.array([1.0, -1.0, -1.0, 1.0])) == 0
    assert math.isnan(scores.accuracy_edge(np.zeros(2), said[:2], 1.0))


def test_the_hit_rate_is_of_sides_that_were_taken():
    assert scores.hit_rate(UP_AND_DOWN, np.array([0.2, 0.1, 0.0, 0.9])) == 1 / 2
    assert math.isnan(scores.hit_rate(UP_AND_DOWN, np.zeros(4)))


def test_the_information_coefficient_is_of_ranks():
    value = np.array([1.0, 2.0, 3.0, 100.0])

    assert scores.information_coefficient(value, value**3) == pytest.approx(1)
    assert scores.information_coefficient(value, -value) == pytest.approx(-1)
    assert scores.information_coefficient(value, np.array([1.0, 1.0, 2.0, 2.0])) == pytest.approx(2 / math.sqrt(5))
    assert math.isnan(scores.information_coefficient(value, np.ones(4)))
    assert math.isnan(scores.information_coefficient(value[:1], value[:1]))


def test_alignment_squared_is_r2_at_the_best_scale():
    generator = np.random.default_rng(1)
    said = generator.normal(size=100)
    value = 0.3 * said + generator.normal(size=100)
    best = float(np.sum(said * value) / np.sum(said**2))

    assert scores.alignment(value, 7 * said) ** 2 == pytest.approx(scores.r2(value, best * said))
    assert scores.alignment(value, np.zeros(100)) == 0


def test_probabilities_are_scored_over_down_neither_and_up():
    value = np.array([1.0, -1.0])
    probability = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])

    assert scores.brier(value, probability) == pytest.approx(((0.01 + 0.04 + 0.09) + (0.25 + 0.25)) / 2)
    assert scores.log_loss(value, probability) == pytest.approx(-(math.log(0.7) + math.log(0.5)) / 2)
    assert math.isfinite(scores.log_loss(value, probability[::-1]))


def test_the_mean_after_costs_is_of_the_sides_taken():
    found = scores.mean_after_costs(np.array([0.03, -0.02, 0.5]), np.array([0.1, -0.1, 0.0]), np.array([0.01, 0.01, 0.01]))

    assert found == pytest.approx((0.02 + 0.01) / 2)


def test_calibration_groups_like_predictions():
    said = np.array([0.3, 0.1, 0.2, 0.4])
    value = np.array([3.0, 1.0, 2.0, 4.0])

    assert [(row.count, row.predicted, row.observed) for row in scores.calibration_table(value, said, bins=2)] == [
        (2, pytest.approx(0.15), 1.5),
        (2, pytest.approx(0.35), 3.5),
    ]
    assert [row.count for row in scores.calibration_table(value, np.zeros(4))] == [4]
    assert scores.calibration_table(np.empty(0), np.empty(0)) == []


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_figures_that_are_not_defined_are_left_out(kind):
    nothing = np.empty(0)
    silent = scores.score(
        kind, UP_AND_DOWN, np.zeros(4), edge=np.zeros(4), cost=np.zeros(4), mean=np.full(4, 0.1), constant=np.ones(4)
    )

    assert silent == {
        "rows": 4,
        "r2": 0,
        "r2_against_training_mean": pytest.approx(1 - 3 / np.sum((UP_AND_DOWN - 0.1) ** 2)),
        "accuracy_edge": 0,
        "sides_taken": 0,
    }
    assert scores.score(kind, nothing, nothing, edge=nothing, cost=nothing, mean=nothing, constant=nothing) == {"rows": 0}
