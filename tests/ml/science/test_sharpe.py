"""Sharpe statistics against the worked examples of their authors, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mbats.ml.sharpe import deflated_sharpe, expected_maximum, probabilistic_sharpe, probability_above, sharpe_ratio


@pytest.mark.parametrize(("trials", "confidence"), [(100, 0.9004), (46, 0.9505)])
def test_the_worked_example_of_the_deflated_ratio(trials, confidence):
    # Bailey and López de Prado, 2014: an annual ratio of 2.5 over 1,250 days, skewness −3, kurtosis 10, and a variance of 1/2
    # between the annual ratios of the trials.
    benchmark = math.sqrt(1 / (2 * 250)) * expected_maximum(trials)

    found = probability_above(2.5 / math.sqrt(250), benchmark, count=1250, skewness=-3, kurtosis=10)

    assert found == pytest.approx(confidence, abs=1e-4)


def test_the_expected_maximum_is_that_of_so_many_normal_numbers():
    drawn = np.random.default_rng(1).normal(size=(20_000, 50))
    for trials in (5, 50):
        assert expected_maximum(trials) == pytest.approx(drawn[:, :trials].max(axis=1).mean(), abs=0.06)
    assert expected_maximum(1) == 0
    with pytest.raises(ValueError, match="0 trials"):
        expected_maximum(0)


def test_without_skill_the_probability_is_spread_evenly():
    generator = np.random.default_rng(2)
    found = [probabilistic_sharpe(generator.normal(0, 0.01, 250)) for _ in range(2000)]

    assert np.mean(np.array(found) > 0.95) == pytest.approx(0.05, abs=0.015)


def test_the_best_of_many_without_skill_rarely_passes_the_deflated_ratio():
    generator = np.random.default_rng(3)
    plain, deflated = [], []
    for _ in range(300):
        tried = generator.normal(0, 0.01, (20, 250))
        best = max(tried, key=sharpe_ratio)
        plain.append(probabilistic_sharpe(best) > 0.95)
        deflated.append(deflated_sharpe(best, 20) > 0.95)

    assert np.mean(plain) > 0.5
    assert np.mean(deflated) < 0.05


def test_a_ratio_is_mean_over_deviation():
    returns = np.array([0.01, -0.01, 0.02])

    assert sharpe_ratio(returns) == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert deflated_sharpe(returns, 1) == probabilistic_sharpe(returns)
    assert deflated_sharpe(returns, 10, deviation=0.0) == probabilistic_sharpe(returns)


@pytest.mark.parametrize("returns", [[], [0.01], [0.5, 0.5, 0.5]])
def test_too_few_returns_or_equal_ones_have_no_ratio(returns):
    values = np.array(returns)

    assert math.isnan(sharpe_ratio(values))
    assert math.isnan(probabilistic_sharpe(values))
    assert math.isnan(deflated_sharpe(values, 5))


def test_moments_that_contradict_each_other_have_no_probability():
    assert math.isnan(probability_above(1.0, 0.0, count=100, skewness=4, kurtosis=3))
