"""The DAG that asks for missing bars: when it looks, and what its tasks wait for."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from mbats.market import NEW_YORK


def test_it_looks_every_evening_in_new_york_whatever_the_clocks_do(described):
    for moments in described["dags"]["repair_gaps"]["runs"].values():
        local = [datetime.fromisoformat(text).astimezone(NEW_YORK) for text in moments]
        assert {f"{moment:%H:%M}" for moment in local} == {"19:00"}
        assert {(later.date() - earlier.date()).days for earlier, later in pairwise(local)} == {1}


def test_a_series_is_a_task_of_its_own_and_the_report_comes_whatever_became_of_it(described):
    plan, repair, report = (described["dags"]["repair_gaps"]["tasks"][name] for name in ("plan", "repair", "report"))

    assert (plan["upstream"], repair["upstream"], report["upstream"]) == ([], ["plan"], ["plan", "repair"])
    assert repair["mapped"] and "planned" in repair["label"]
    assert report["trigger_rule"].lower().endswith("all_done")
