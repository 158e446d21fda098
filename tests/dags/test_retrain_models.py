"""The DAG that trains challengers: when it looks, what it lets pass, and a run of which one model cannot be trained."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise

import pytest

from mbats.market import NEW_YORK


@pytest.fixture
def dag(described):
    return described["dags"]["retrain_models"]


def test_it_looks_every_evening_in_new_york_whatever_the_clocks_do(dag):
    for moments in dag["runs"].values():
        local = [datetime.fromisoformat(text).astimezone(NEW_YORK) for text in moments]
        assert {f"{moment:%H:%M}" for moment in local} == {"20:00"}
        assert {(later.date() - earlier.date()).days for earlier, later in pairwise(local)} == {1}


def test_it_takes_a_list_of_models_and_nothing_else(dag):
    assert [json.loads(text) for text in dag["refused"]] == [{"models": "rsi_stochastic"}, {"models": ["../rsi"]}]


def test_a_training_is_a_task_of_its_own_and_drift_is_looked_at_whatever_became_of_it(dag):
    plan, retrain, watch = (dag["tasks"][name] for name in ("plan", "retrain", "watch"))

    assert (plan["upstream"], retrain["upstream"], watch["upstream"]) == ([], ["plan"], ["retrain"])
    assert retrain["mapped"] and "model" in retrain["label"]
    assert watch["trigger_rule"].lower().endswith("all_done")
