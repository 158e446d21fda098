"""Whatever is killed comes back by itself, what leans on it recovers by itself, and nothing that was kept is lost."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from platforms import eventually
from stack import clients
from stack.clients import USER, Airflow, Superset, ask, get
from stack.substrate import SERVICES, Substrate

AIRFLOW = tuple(name for name in SERVICES if name.startswith("airflow"))
# What may be unwell for a while when this one is down. Everything else must not even notice.
LEAN_ON = {
    "postgres": {"mlflow", "superset", *AIRFLOW},
    "airflow-apiserver": set(AIRFLOW),
    "airflow-scheduler": set(AIRFLOW),
    "airflow-dag-processor": set(AIRFLOW),
    "airflow-triggerer": set(AIRFLOW),
}
# Those on which nothing leans: without Docker each is killed by itself, in containers, which take their time, all at once.
LEAVES = ("simulator", "trader", "mlflow", "superset", "jupyter", "pgadmin")
TOGETHER = [LEAVES] if os.environ.get("MBATS_STACK") == "docker" else [(leaf,) for leaf in LEAVES]
TURNS = [*((name,) for name in SERVICES if name not in LEAVES), *TOGETHER]
# What tasks live on. While it is killed, one downloads the minutes of this symbol, which nobody has asked for before.
TASK_OF = {"postgres": "AUD_USD", "airflow-apiserver": "GBP_USD", "airflow-scheduler": "NZD_USD"}
START, END = "2026-01-05", "2026-07-01"
LONGEST_DAG = 300.0
DOWN_FOR = 180.0  # seconds at most, on a machine with two cores that are busy
ACCOUNT = "101-004-1435156-001"
FAR_AWAY = {"type": "LIMIT", "instrument": "EUR_USD", "units": "1", "price": "0.50000"}  # taken at weekends too, and never filled
# Of backtests: what is deployed goes on trading meanwhile.
FILLS = "SELECT count(*), sum(pnl) FROM fill JOIN run ON run.id = run_id WHERE mode = 'backtest'"
OBJECT, ARTIFACT, MODEL = "tests/kept.txt", "tests/kept.txt", "tests_kept"
CONTENT = b"what must not be lost"


def put_what_must_be_kept(stack: Substrate) -> None:
    """A file in the store, a model and an artifact in MLflow, an order on the simulator; bars and runs are there."""
    clients.s3(stack).put_object(Bucket="artifacts", Key=OBJECT, Body=CONTENT)
    url, login = f"{stack.url('mlflow')}/api/2.0", (USER, stack.secret("mlflow_password"))
    made = ask("POST", f"{url}/mlflow/registered-models/create", auth=login, json={"name": MODEL})
    assert made.ok or made.json()["error_code"] == "RESOURCE_ALREADY_EXISTS", made.text
    assert ask("PUT", f"{url}/mlflow-artifacts/artifacts/{ARTIFACT}", auth=login, data=CONTENT).ok
    url, headers = simulated_account(stack)
    assert ask("POST", f"{url}/orders", headers=headers, json={"order": FAR_AWAY}).status_code == 201


def simulated_account(stack: Substrate) -> tuple[str, dict[str, str]]:
    """Where the account of the simulator is, and what opens it."""
    return f"{stack.url('simulator')}/v3/accounts/{ACCOUNT}", {"Authorization": f"Bearer {stack.secret('simulator_token')}"}


def what_is_kept(stack: Substrate) -> dict[str, Any]:
    """Everything that the platform keeps, as the services themselves tell it."""
    login = (USER, stack.secret("mlflow_password"))
    models = get(f"{stack.url('mlflow')}/api/2.0/mlflow/registered-models/search", auth=login)
    artifact = get(f"{stack.url('mlflow')}/api/2.0/mlflow-artifacts/artifacts/{ARTIFACT}", auth=login)
    airflow = Airflow(stack)
    account, headers = simulated_account(stack)
    orders = get(f"{account}/pendingOrders", headers=headers).json()["orders"]
    bars = "SELECT symbol_id, granularity, min(time), count(*) FROM bar GROUP BY 1, 2"
    return {
        "bars": {
            (symbol, length, first): count for symbol, length, first, count in clients.rows(stack, "reader", "secmaster", bars)
        },
        "runs": set(clients.rows(stack, "reader", "risk", "SELECT id, strategy, data_fingerprint FROM run")),
        "fills": clients.rows(stack, "reader", "risk", FILLS),
        "object": clients.s3(stack).get_object(Bucket="artifacts", Key=OBJECT)["Body"].read(),
        "models": {model["name"] for model in models.json()["registered_models"]},
        "artifact": artifact.content,
        "orders": {order["id"] for order in orders},
        "tasks": {(dag, run) for dag in airflow.dags() for run in airflow.runs(dag)},
        "dashboards": set(Superset(stack).dashboards()),
    }


def require_all(now: dict[str, Any], before: dict[str, Any]) -> None:
    """What there was is there; there may be more, for the platform goes on working."""
    for what, kept in before.items():
        if what == "bars":
            assert all(now["bars"].get(series, 0) >= count for series, count in kept.items()), "bars were lost"
        elif isinstance(kept, set):
            assert kept <= now[what], f"{what} were lost"
        else:
            assert now[what] == kept, f"{what} changed"


def a_download_under_way(stack: Substrate, symbol: str) -> str:
    """A run of the DAG that downloads half a year of minutes, at the moment at which its task has begun."""
    airflow = Airflow(stack)
    wish = {"symbols": [symbol], "granularity": "M1", "start": START, "end": END}
    run = airflow.trigger("download_market_data", wish)
    stored = (
        f"SELECT count(*) FROM bar JOIN symbol ON symbol.id = symbol_id WHERE symbol.name = '{symbol}' AND granularity = 'M1'"
    )
    assert eventually(lambda: clients.rows(stack, "reader", "secmaster", stored) > [(0,)], within=LONGEST_DAG)
    assert airflow.state("download_market_data", run) == "running", "it is too short for this test"
    return run


def require_every_minute(stack: Substrate, symbol: str) -> None:
    """Nothing of what was asked for is missing, and the series has no gap."""
    (series,) = json.loads(stack.mbats("coverage", "--symbols", symbol, "--granularity", "M1", "--json").stdout)
    assert series["first"] < f"{START}T01" and series["last"] > "2026-06-30T23:50" and series["gaps"] == [], series


@pytest.fixture(scope="module")
def before(stack):
    """What the platform keeps before anything is hurt."""
    put_what_must_be_kept(stack)
    kept = what_is_kept(stack)
    assert kept["bars"] and len(kept["runs"]) >= 3 and kept["object"] == kept["artifact"] == CONTENT and MODEL in kept["models"]
    return kept


@pytest.mark.parametrize("killed", TURNS, ids=" ".join)
def test_what_is_killed_comes_back_while_the_others_work(stack, before, killed):
    others = set(SERVICES) - {*killed, *(name for service in killed for name in LEAN_ON.get(service, ()))}
    symbol = TASK_OF.get(killed[0])
    started = stack.started()
    run = a_download_under_way(stack, symbol) if symbol else None

    for service in killed:
        stack.kill(service)

    stack.wait_well(*others, timeout=60)
    stack.wait_well(timeout=DOWN_FOR)
    again = stack.started()
    assert [name for name in killed if again[name] == started[name]] == []
    assert {name for name in others if again[name] != started[name]} == set(), "only what was killed is started anew"
    require_all(what_is_kept(stack), before)
    if symbol and run:
        Airflow(stack).require_success("download_market_data", run, timeout=LONGEST_DAG)
        require_every_minute(stack, symbol)


def test_a_restart_of_everything_keeps_all_data(stack, before):
    before = what_is_kept(stack)

    stack.restart_all()

    require_all(what_is_kept(stack), before)
    assert all(service["healthy"] for service in json.loads(stack.mbats("status", "--json").stdout))
