"""Runs one DAG from start to end, once with each configuration and without a scheduler; prints what became of its tasks."""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb


def main() -> None:
    folder, dag_id, *configurations = sys.argv[1:]
    initdb()
    dag = DagBag(folder).dags[dag_id]
    runs = [describe(dag.test(run_conf=json.loads(configuration))) for configuration in configurations]
    print()
    print(json.dumps({"runs": runs}))


def describe(run: Any) -> dict[str, Any]:
    tasks = sorted(run.get_task_instances(), key=lambda task: (task.task_id, task.map_index))
    return {
        "state": run.state,
        "tasks": [
            {"task": task.task_id, "label": task.rendered_map_index, "state": task.state, "tries": task.try_number}
            for task in tasks
        ],
    }


main()
