"""What holds for each DAG: it parses, does nothing while it is parsed, and holds no more than when which function is called."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mbats.settings import PROJECT_ROOT

DAGS = PROJECT_ROOT / "airflow" / "dags"
FILES = sorted(DAGS.glob("*.py"))


def test_airflow_takes_the_folder_without_an_error_or_a_warning(described):
    assert (described["errors"], described["warnings"]) == ({}, {})
    assert sorted(described["dags"]) == ["backup", "download_market_data", "repair_gaps", "retrain_models"]


def test_every_dag_runs_from_the_first_start_on_one_run_at_a_time_without_the_past(described):
    for dag in described["dags"].values():
        assert (dag["catchup"], dag["max_active_runs"], dag["paused"]) == (False, 1, False)
        assert dag["described"]


def test_parsing_neither_imports_mbats_nor_opens_a_file_or_a_connection(airflow):
    parsed = airflow.run("parse.py")

    assert parsed["parsed"] == [file.name for file in FILES]
    assert parsed["modules"] == []
    assert [path for path in parsed["touched"] if Path(path).parent not in (DAGS, DAGS / "__pycache__")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_task_imports_one_function_of_mbats_and_calls_it(file):
    tree = ast.parse(file.read_text())
    tasks = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and any(map(is_task, node.decorator_list))]

    assert tasks
    for task in tasks:
        imported = [node for node in ast.walk(task) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert [(type(node), len(node.names)) for node in imported] == [(ast.ImportFrom, 1)], task.name
        assert imported[0].module.startswith("mbats."), task.name
        assert len(task.body) <= 4, task.name


def is_task(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id == "task"
