"""The platform does its work: files, models, downloads, backups, dashboards and notebooks, each through its own API."""

from __future__ import annotations

import json
import os
import re
from io import BytesIO

from stack import clients
from stack.clients import Airflow, Jupyter, Superset
from stack.substrate import SERVICES

from mbats.market import MAJORS
from mbats.settings import PROJECT_ROOT

LONGEST_DAG = 300.0  # seconds; a run that the clock made may go before, and the machine may be busy


def test_status_names_each_service_with_its_health_version_and_address(stack):
    listed = {service["name"]: service for service in json.loads(stack.mbats("status", "--json").stdout)}

    assert list(listed) == list(SERVICES)
    assert {name: service["detail"] for name, service in listed.items() if not service["healthy"]} == {}
    assert {name: service["version"] for name, service in listed.items() if not service["version"][:1].isdigit()} == {}
    for name, service in listed.items():
        place = stack.url("airflow" if name.startswith("airflow") else name)
        assert service["address"].removeprefix("http://") == place.removeprefix("http://")


def test_a_file_goes_to_the_s3_store_and_comes_back(stack):
    store = clients.s3(stack)
    content = os.urandom(12_000_000)  # more than one part of an upload

    store.upload_fileobj(BytesIO(content), "artifacts", "tests/there and back.bin")

    assert store.get_object(Bucket="artifacts", Key="tests/there and back.bin")["Body"].read() == content
    store.delete_object(Bucket="artifacts", Key="tests/there and back.bin")


def test_a_model_is_logged_and_loaded_with_an_address_a_user_and_a_password_alone(stack, tmp_path):
    assert clients.log_model(stack, tmp_path).startswith("models:/")

    keys = [entry["Key"] for entry in clients.s3(stack, identity="mlflow_").list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(key.endswith("/MLmodel") for key in keys) and any(key.endswith("/note.txt") for key in keys)


def test_a_run_of_the_download_dag_for_a_period_puts_its_bars_into_postgresql(stack):
    airflow = Airflow(stack)
    wish = {"symbols": ["USD_CAD"], "granularity": "H1", "start": "2026-03-02", "end": "2026-03-14"}

    airflow.require_success("download_market_data", airflow.trigger("download_market_data", wish), timeout=LONGEST_DAG)

    (series,) = json.loads(stack.mbats("coverage", "--symbols", "USD_CAD", "--granularity", "H1", "--json").stdout)
    assert series["first"].startswith("2026-03-02T00:00") and series["last"].startswith("2026-03-13T")
    assert (series["bars"], series["gaps"]) == (238, []), "two weeks of 24 hours a day, the second one with summer time"


def test_a_run_of_the_download_dag_that_fails_names_the_symbol(stack):
    airflow = Airflow(stack)
    run = airflow.trigger("download_market_data", {"symbols": ["EUR_XXX"]})

    assert airflow.end("download_market_data", run, timeout=LONGEST_DAG) == "failed"
    assert "EUR_XXX" in airflow.log("download_market_data", run, "report")


def test_a_run_of_the_backup_dag_leaves_a_backup_that_is_listed(stack):
    airflow = Airflow(stack)
    before = {backup["name"] for backup in json.loads(stack.mbats("backups", "--json").stdout)}

    airflow.require_success("backup", airflow.trigger("backup"), timeout=LONGEST_DAG)

    listed = {backup["name"]: backup for backup in json.loads(stack.mbats("backups", "--json").stdout)}
    (made,) = set(listed) - before
    assert {dump["name"] for dump in listed[made]["databases"]} == {
        "secmaster",
        "risk",
        "mlflow",
        "mlflow_auth",
        "airflow",
        "superset",
    }


def test_the_charts_of_the_dashboard_answer_with_the_runs_of_the_backtests(stack):
    runs = json.loads(stack.mbats("runs", "--json").stdout)
    superset = Superset(stack)
    dashboard = superset.dashboards()["Backtests"]["id"]

    charts = {chart["slice_name"]: chart["id"] for chart in superset.get(f"/dashboard/{dashboard}/charts")["result"]}
    shown = {row["run_id"]: row for row in superset.chart_rows(charts["All runs"])}
    equity = superset.chart_rows(charts["Equity"])

    assert {number: row["strategy"] for number, row in shown.items()} == {run["run"]: run["strategy"] for run in runs}
    assert all(abs(shown[run["run"]]["net_pnl"] - float(run["net_pnl"])) < 0.01 for run in runs)
    assert len(equity) > 100 and len(equity[-1]) == 1 + len(runs), "a curve for each run"


def test_the_first_notebook_runs_from_its_first_cell_to_its_last(stack):
    jupyter = Jupyter(stack)
    notebook = jupyter.ask("GET", "/contents/notebooks/first_look.ipynb").json()["content"]
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]

    printed = jupyter.run("import mbats; print(mbats.__version__)", *cells)

    assert printed.splitlines()[0][:1].isdigit()
    assert all(f"{symbol}  20" in printed for symbol in MAJORS), printed


def test_the_notebook_of_training_registers_a_version(stack):
    jupyter = Jupyter(stack)
    notebook = jupyter.ask("GET", "/contents/notebooks/features_and_training.ipynb").json()["content"]
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]

    printed = jupyter.run(*cells, timeout=300)

    assert re.search(r"[0-9,]{5,} samples of rsi, percK, percD, atr; \d+ bars ahead", printed), printed
    assert re.search(r"rsi_stochastic/\d+, out of sample from 20\d\d-\d\d-\d\d to 20", printed), printed


def test_the_notebooks_and_strategies_of_the_project_are_there_to_be_opened(stack):
    jupyter = Jupyter(stack)

    assert {"notebooks", "strategies"} <= set(jupyter.folder())
    for folder, kind in (("notebooks", "*.ipynb"), ("strategies", "*.py")):
        assert {file.name for file in (PROJECT_ROOT / folder).glob(kind)} <= set(jupyter.folder(folder))
