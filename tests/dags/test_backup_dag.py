"""The DAG that makes a backup every night."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from mbats.market import NEW_YORK


def test_it_runs_once_a_day_an_hour_and_a_half_after_new_york_has_closed(described):
    dag = described["dags"]["backup"]

    for moments in dag["runs"].values():
        local = [datetime.fromisoformat(text).astimezone(NEW_YORK) for text in moments]
        assert {f"{moment:%H:%M}" for moment in local} == {"18:30"}
        assert {(later.date() - earlier.date()).days for earlier, later in pairwise(local)} == {1}


def test_it_is_one_task_that_is_tried_again(described):
    tasks = described["dags"]["backup"]["tasks"]

    assert list(tasks) == ["make"]
    assert tasks["make"]["retries"] > 0
