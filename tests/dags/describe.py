"""Prints as JSON what Airflow makes of a folder of DAGs: errors, schedules, tasks, and which parameters it lets pass."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

# Days around both changes of the clocks in 2026, each with a weekend, and a week without any.
PERIODS = [("2026-03-05", "2026-03-11"), ("2026-10-29", "2026-11-04"), ("2026-06-08", "2026-06-16")]
PARAMETERS: list[dict[str, Any]] = [
    {},
    {"symbols": ["EUR_USD", "usd/jpy"], "granularity": "M1", "start": "2024-01-01", "end": "2024-01-31T12:00:00+02:00"},
    {"start": "2024-01-01T13:00"},
    {"symbols": "EUR_USD"},
    {"symbols": ["EURUSD"]},
    {"symbols": ["EUR_USD; DROP TABLE bar"]},
    {"granularity": "M3"},
    {"start": "yesterday"},
    {"end": 20240101},
    {"models": ["rsi_stochastic"]},
    {"models": "rsi_stochastic"},
    {"models": ["../rsi"]},
]


def main() -> None:
    bag = DagBag(sys.argv[1])
    print()
    print(
        json.dumps(
            {
                "errors": bag.import_errors,
                "warnings": {file: [str(warning) for warning in found] for file, found in bag.captured_warnings.items()},
                "dags": {dag.dag_id: describe(dag) for dag in bag.dags.values()},
            }
        )
    )


def describe(dag: Any) -> dict[str, Any]:
    served = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))  # as the scheduler sees it
    return {
        "catchup": served.catchup,
        "max_active_runs": served.max_active_runs,
        "paused": dag.is_paused_upon_creation,
        "described": bool(dag.doc_md),
        "tasks": {
            task.task_id: {
                "mapped": task.is_mapped,
                "label": getattr(task, "map_index_template", None),
                "trigger_rule": str(task.trigger_rule),
                "retries": task.retries,
                "upstream": sorted(task.upstream_task_ids),
                "tries_again": tries_again(task),
            }
            for task in dag.tasks
        },
        "runs": {start: runs(dag, start, end) for start, end in PERIODS},
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "refused": [json.dumps(chosen) for chosen in PARAMETERS if not accepts(dag, chosen)],
    }


def tries_again(task: Any) -> dict[str, bool] | None:
    """Whether the task is tried again after an error that may pass, one that will not, and one that says nothing."""
    policy = getattr(task, "partial_kwargs", {}).get("retry_policy") or getattr(task, "retry_policy", None)
    if policy is None:
        return None
    errors = {"passing": SaysSo("later", True), "lasting": SaysSo("never", False), "unknown": KeyError("x")}
    return {name: policy.evaluate(error, 1, 3).action.value != "fail" for name, error in errors.items()}


class SaysSo(Exception):
    def __init__(self, message: str, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def accepts(dag: Any, chosen: dict[str, Any]) -> bool:
    params = copy.deepcopy(dag.params)
    try:
        params.update(chosen)
        params.validate()
    except ParamValidationError:
        return False
    return True


def runs(dag: Any, start: str, end: str) -> list[str]:
    """The moments, UTC, at which Airflow would start a run in [start, end], UTC."""
    timetable = coerce_to_core_timetable(dag.timetable)
    restriction = TimeRestriction(pendulum.parse(start), pendulum.parse(end), catchup=True)
    found: list[str] = []
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    while info is not None:
        found.append(info.run_after.isoformat())
        info = timetable.next_dagrun_info(last_automated_data_interval=info.data_interval, restriction=restriction)
    return found


main()
