"""The services as a program speaks to them: each by its own API, with the login that people have, and with nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg2
import requests
from botocore.config import Config
from stack.substrate import Substrate

USER = "mbats"
PGADMIN_USER = "mbats@example.com"
TIMEOUT = 120.0  # of one answer; the machine may be busy with other services
TOO_MANY, LONGEST_PENALTY = 429, 90.0
DONE = ("success", "failed")


def s3(stack: Substrate, *, access: str | None = None, secret: str | None = None, identity: str = "") -> Any:
    """A client of the store: with the keys of the application, of another identity (`mlflow_`, `backup_`, `admin_`), or these."""
    return boto3.client(
        "s3",
        endpoint_url=stack.url("s3"),
        aws_access_key_id=access or stack.secret(f"s3_{identity}access_key"),
        aws_secret_access_key=secret or stack.secret(f"s3_{identity}secret_key"),
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}, proxies={}),
    )


def postgres(stack: Substrate, role: str, database: str, *, password: str | None = None) -> Any:
    """A connection as the login of a role; with its own password, or with this one. It commits each statement by itself."""
    address = urlsplit(stack.url("postgres"))
    connection = psycopg2.connect(
        host=address.hostname,
        port=address.port,
        dbname=database,
        user="postgres" if role == "admin" else f"mbats_{role}",
        password=stack.secret(f"postgres_{role}_password") if password is None else password,
        connect_timeout=10,
        passfile="/dev/null",
    )
    connection.autocommit = True
    return connection


def rows(stack: Substrate, role: str, database: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(postgres(stack, role, database)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def ask(method: str, url: str, **options: Any) -> requests.Response:
    """The answer, without proxy and without following. Who counts attempts and has had enough is asked again later."""
    deadline = time.monotonic() + LONGEST_PENALTY
    while True:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, url, timeout=TIMEOUT, allow_redirects=False, **options)
        if answer.status_code != TOO_MANY or time.monotonic() > deadline:
            return answer
        time.sleep(2)


def get(url: str, **options: Any) -> requests.Response:
    return ask("GET", url, **options)


MODEL_SCRIPT = """
import mlflow, numpy
from sklearn.linear_model import LogisticRegression

inputs = numpy.arange(20.0).reshape(-1, 1)
model = LogisticRegression().fit(inputs, inputs[:, 0] > 9)
mlflow.set_experiment("tests")
with mlflow.start_run():
    mlflow.log_metric("rows", 20)
    made = mlflow.sklearn.log_model(model, name="model", registered_model_name="tests_direction")
    mlflow.log_text("kept", "note.txt")
address = f"models:/tests_direction/{made.registered_model_version}"
assert (mlflow.pyfunc.load_model(address).predict(inputs) == model.predict(inputs)).all()
print(address)
"""


def log_model(stack: Substrate, folder: Path) -> str:
    """Log a model that says of a number whether it is above 9, and load it again, as a user does; its address in the registry."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MLFLOW_TRACKING_URI": stack.url("mlflow"),
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": stack.secret("mlflow_password"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    script = [sys.executable, "-c", MODEL_SCRIPT]
    done = subprocess.run(script, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


class Airflow:
    """Airflow's REST API, as the user of the web page. `token` is what it gave for the password."""

    def __init__(self, stack: Substrate) -> None:
        self.url = stack.url("airflow")
        answer = ask("POST", f"{self.url}/auth/token", json={"username": USER, "password": stack.secret("airflow_password")})
        assert answer.status_code == 201, answer.text
        self.token: str = answer.json()["access_token"]

    def ask(self, method: str, path: str, **options: Any) -> Any:
        answer = ask(method, f"{self.url}/api/v2{path}", headers={"Authorization": f"Bearer {self.token}"}, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def dags(self) -> dict[str, dict[str, Any]]:
        return {dag["dag_id"]: dag for dag in self.ask("GET", "/dags")["dags"]}

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run now; its id."""
        run = f"test-{uuid.uuid4()}"
        self.ask("POST", f"/dags/{dag}/dagRuns", json={"dag_run_id": run, "logical_date": None, "conf": conf or {}})
        return run

    def state(self, dag: str, run: str) -> str:
        return str(self.ask("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def tasks(self, dag: str, run: str) -> dict[str, str | None]:
        """The state of each task; of a mapped one, under its id and number."""
        found = self.ask("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {f"{task['task_id']}[{task['map_index']}]": task["state"] for task in found}

    def places(self, dag: str, run: str) -> set[str]:
        """The names of the machines on which its tasks ran."""
        return {task["hostname"] for task in self.ask("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]}

    def end(self, dag: str, run: str, *, timeout: float) -> str:
        """How the run ended. Raises AssertionError that shows its tasks when it has not."""
        deadline = time.monotonic() + timeout
        while (state := self.state(dag, run)) not in DONE:
            assert time.monotonic() < deadline, f"{dag} {run} is {state} after {timeout:g} s, with {self.tasks(dag, run)}"
            time.sleep(0.5)
        return state

    def require_success(self, dag: str, run: str, *, timeout: float) -> None:
        """Return when the run ended well. Raises AssertionError with the logs of its tasks."""
        state = self.end(dag, run, timeout=timeout)
        if state != "success":
            raise AssertionError(f"{dag} {run} is {state}: {self.tasks(dag, run)}")

    def log(self, dag: str, run: str, task: str) -> str:
        """What the first try of a task said."""
        return json.dumps(self.ask("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1?full_content=true"))

    def runs(self, dag: str) -> dict[str, str]:
        """The state of each run so far."""
        return {run["dag_run_id"]: run["state"] for run in self.ask("GET", f"/dags/{dag}/dagRuns?limit=100")["dag_runs"]}


class Trader:
    """The trader's control port, with its token."""

    def __init__(self, stack: Substrate) -> None:
        self.url = stack.url("trader")
        self._header = {"Authorization": f"Bearer {stack.secret('trader_token')}"}

    def deployments(self) -> dict[str, dict[str, Any]]:
        """What `mbats deployments --json` lists, by name; nothing while it does not answer."""
        try:
            answer = get(f"{self.url}/deployments", headers=self._header)
        except requests.ConnectionError:
            return {}
        return {found["name"]: found for found in answer.json()["deployments"]} if answer.ok else {}

    def tell(self, kind: str, deployment: str) -> dict[str, Any]:
        """What came of a command for one deployment."""
        word = {"by": "tests", "why": "a test", "deployment": deployment}
        answer = ask("POST", f"{self.url}/{kind}", headers=self._header, json=word)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


class Broker:
    """The account of the simulator, as its owner sees it at the broker's own API, past the trader."""

    def __init__(self, stack: Substrate, account: str) -> None:
        self._url = f"{stack.url('simulator')}/v3/accounts/{account}"
        self._header = {"Authorization": f"Bearer {stack.secret('simulator_token')}"}

    def get(self, path: str) -> Any:
        answer = get(f"{self._url}/{path}", headers=self._header)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json()

    def trades(self, deployment: str) -> dict[str, dict[str, Any]]:
        """The open trades that this deployment has opened, by their number."""
        return {trade["id"]: trade for trade in self.get("openTrades")["trades"] if is_of(deployment, trade)}

    def transactions(self, after: str = "0") -> list[dict[str, Any]]:
        """Everything that happened on the account after this number."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(f"transactions/sinceid?id={found[-1]['id'] if found else after}")
            found += page["transactions"]
            if not page["transactions"] or found[-1]["id"] == page["lastTransactionID"]:
                return found


def is_of(deployment: str, body: dict[str, Any]) -> bool:
    """Whether a trade or a transaction carries a name of this deployment's."""
    name = body.get("clientOrderID") or body.get("clientExtensions", {}).get("id", "")
    return str(name).startswith(f"mbats:{deployment}:")


class Superset:
    """Superset's REST API, as the user of the web page."""

    def __init__(self, stack: Substrate) -> None:
        self.url = stack.url("superset")
        login = {"username": USER, "password": stack.secret("superset_password"), "provider": "db", "refresh": True}
        answer = ask("POST", f"{self.url}/api/v1/security/login", json=login)
        assert answer.status_code == 200, answer.text
        self._header = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def get(self, path: str) -> Any:
        answer = get(f"{self.url}/api/v1{path}", headers=self._header)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def dashboards(self) -> dict[str, dict[str, Any]]:
        return {found["dashboard_title"]: found for found in self.get("/dashboard/")["result"]}

    def chart_rows(self, chart: int) -> list[dict[str, Any]]:
        """What the chart shows now, asked of the database and not of a cache."""
        data = self.get(f"/chart/{chart}/data/?force=true")["result"]
        return [row for part in data for row in part["data"]]


class Jupyter:
    """Jupyter's REST API and its kernels, with the token."""

    def __init__(self, stack: Substrate) -> None:
        self.url = stack.url("jupyter")
        self._header = {"Authorization": f"token {stack.secret('jupyter_token')}"}

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = ask(method, f"{self.url}/api{path}", headers=self._header, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def folder(self, path: str = "") -> list[str]:
        return [entry["name"] for entry in self.ask("GET", f"/contents/{path}").json()["content"]]

    def run(self, *cells: str, timeout: float = 120) -> str:
        """Run the cells, one after the other, in a kernel of their own; all that they printed. Fails with a cell's traceback."""
        kernel = self.ask("POST", "/kernels", json={}).json()["id"]
        try:
            return "".join(self._run(kernel, cell, timeout) for cell in cells)
        finally:
            self.ask("DELETE", f"/kernels/{kernel}")

    def _run(self, kernel: str, code: str, timeout: float) -> str:
        import websocket  # imported here: it comes with Jupyter, and these tests are collected where that is not installed

        address = f"{self.url.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels"
        header = [f"{name}: {value}" for name, value in self._header.items()]
        message = uuid.uuid4().hex
        request = {
            "channel": "shell",
            "header": {"msg_id": message, "msg_type": "execute_request", "username": "", "session": message, "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
            "buffers": [],
        }
        printed = []
        with closing(websocket.create_connection(address, timeout=timeout, header=header)) as channel:
            channel.send(json.dumps(request))
            while True:
                answer = json.loads(channel.recv())
                if answer["parent_header"].get("msg_id") != message:
                    continue
                kind, content = answer["msg_type"], answer["content"]
                if kind == "stream":
                    printed.append(content["text"])
                elif kind == "error":
                    raise AssertionError("\n".join(content["traceback"]))
                elif kind == "status" and content["execution_state"] == "idle":
                    return "".join(printed)


__all__ = [
    "PGADMIN_USER",
    "USER",
    "Airflow",
    "Broker",
    "Jupyter",
    "Superset",
    "Trader",
    "ask",
    "get",
    "is_of",
    "log_model",
    "postgres",
    "rows",
    "s3",
]
