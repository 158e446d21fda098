"""Airflow's four components as the platform runs them, on a PostgreSQL that restarts, with each of them killed in turn."""

from __future__ import annotations

import json
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.fernet import Fernet
from platforms import alive, eventually
from programs import RunningProgram, new_platform, running, running_postgres, visible_text

from mbats.database import login
from mbats.platform.airflow import airflow
from mbats.platform.service import Service
from mbats.settings import PROJECT_ROOT, Settings

pytestmark = pytest.mark.server

COMPONENTS = ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
SECRETS = (
    "postgres_airflow_password",
    "airflow_password",
    "airflow_jwt_secret",
    "airflow_fernet_key",
    "airflow_secret_key",
)

# A task that leaves a file when it begins and one when it ends, and ends when it is let.
PATIENT = """
from airflow.sdk import DAG, task

with DAG("patient", schedule=None, is_paused_upon_creation=False):

    @task
    def wait() -> None:
        import os, time
        from pathlib import Path
        from airflow.sdk import get_current_context

        proof = Path(os.environ["MBATS_HOME"]) / "proof" / get_current_context()["run_id"]
        (proof / f"{os.getpid()}.begun").touch()
        while not (proof / "go").exists():
            time.sleep(0.1)
        (proof / f"{os.getpid()}.done").touch()

    wait()
"""


@dataclass
class Airflow:
    """The four components, and Airflow's REST API as its admin."""

    settings: Settings
    postgres: RunningProgram
    programs: dict[str, RunningProgram]
    runs: int = 0
    token: str = field(default="", repr=False)

    def ask(self, method: str, path: str, body: object = None, *, token: str | None = None) -> Any:
        """The answer as JSON. Raises HTTPError for one that is none."""
        request = urllib.request.Request(f"{self.settings.airflow_url}{path}", method=method)
        request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=30) as answer:
            return json.load(answer)

    def log_in(self, password: str) -> str:
        """The token for this password of the admin's."""
        body = {"username": self.settings.admin_user, "password": password}
        return str(self.ask("POST", "/auth/token", body)["access_token"])

    def api(self, method: str, path: str, body: object = None) -> Any:
        if not self.token:
            self.token = self.log_in(self.settings.required_secret("airflow_password").get_secret_value())
        return self.ask(method, f"/api/v2{path}", body, token=self.token)

    def start_patient_run(self) -> Run:
        """A run whose one task has begun, and waits to be let go."""
        self.runs += 1
        name = f"run_{self.runs}"
        proof = self.settings.home / "proof" / name
        proof.mkdir(parents=True)
        self.api("POST", "/dags/patient/dagRuns", {"logical_date": None, "dag_run_id": name})
        run = Run(self, name, proof)
        assert eventually(lambda: run.begun() == 1, within=60), self.programs["airflow-scheduler"].log[-4000:]
        return run

    def restart_what_ended(self) -> None:
        """What the supervisor does."""
        for program in self.programs.values():
            if program.process.poll() is not None:
                program.start()

    def is_well(self) -> bool:
        self.restart_what_ended()
        return all(program.is_well() for program in self.programs.values())


@dataclass
class Run:
    """One run of the DAG `patient`; `proof` is the folder that its task writes to."""

    airflow: Airflow
    name: str
    proof: Path

    def begun(self) -> int:
        return len(list(self.proof.glob("*.begun")))

    def task(self) -> psutil.Process:
        """The process of the task that began last."""
        latest = max(self.proof.glob("*.begun"), key=lambda file: file.stat().st_mtime)
        return psutil.Process(int(latest.stem))

    def let_go(self) -> None:
        (self.proof / "go").touch()

    def state(self) -> str:
        return str(self.airflow.api("GET", f"/dags/patient/dagRuns/{self.name}")["state"])

    def ends(self, state: str, within: float = 60) -> bool:
        return eventually(lambda: self.state() == state, within=within)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has this one's Airflow and, instead of its DAGs, the test's."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT_ROOT / "airflow", root / "airflow", ignore=shutil.ignore_patterns("dags"))
    (root / "airflow" / "dags").mkdir()
    (root / "airflow" / "dags" / "patient.py").write_text(PATIENT)
    return root


@pytest.fixture(scope="module")
def platform(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    settings = new_platform(tmp_path_factory.mktemp("platform") / "home", airflow_parallelism=2).model_copy(update={"root": root})
    with running_postgres(settings) as postgres:
        services = airflow(settings)
        said: list[str] = []
        prepare(services[0], said)
        assert said == ["Airflow's tables: made.", "Airflow's user 'mbats': made."]
        with running(services, settings.home) as programs:
            platform = Airflow(settings, postgres, {program.service.name: program for program in programs})
            for program in programs:
                program.wait_until_well()
            assert eventually(lambda: "patient" in dags(platform), within=60), platform.programs["airflow-dag-processor"].log
            yield platform


@pytest.fixture(autouse=True)
def every_component_is_well(platform: Airflow) -> None:
    """What an earlier test killed runs again."""
    assert eventually(platform.is_well, within=90)


def prepare(service: Service, said: list[str]) -> None:
    assert service.prepare is not None
    service.prepare(said.append)


def dags(platform: Airflow) -> list[str]:
    return [dag["dag_id"] for dag in platform.api("GET", "/dags")["dags"]]


def refusal(call: Callable[[], object]) -> int:
    """The status with which the call is refused."""
    with pytest.raises(urllib.error.HTTPError) as error:
        call()
    error.value.close()
    return error.value.code


def test_each_component_says_its_version(platform: Airflow) -> None:
    assert {name: program.service.check() for name, program in platform.programs.items()} == dict.fromkeys(COMPONENTS, "3.3.2")


def test_only_the_right_password_opens_it(platform: Airflow) -> None:
    assert refusal(lambda: platform.log_in("mbats")) == 401
    assert refusal(lambda: platform.ask("GET", "/api/v2/dags")) == 401
    assert refusal(lambda: platform.ask("GET", "/api/v2/dags", token="no-token")) in (401, 403)

    assert platform.api("GET", "/dags")["total_entries"] == 1


def test_it_comes_without_example_dags(platform: Airflow) -> None:
    assert dags(platform) == ["patient"]


def test_no_secret_can_be_read_from_its_processes_files_or_logs(platform: Airflow) -> None:
    run = platform.start_patient_run()
    processes = [process for program in platform.programs.values() for process in program.family()]
    assert run.task() in processes
    seen = visible_text(processes) + "".join(program.log for program in platform.programs.values())
    run.let_go()
    assert run.ends("success")

    logs = platform.settings.home / "airflow" / "logs"
    seen += "".join(file.read_text(errors="replace") for file in logs.rglob("*.log"))
    for name in SECRETS:
        assert platform.settings.required_secret(name).get_secret_value() not in seen, name
    assert str(platform.settings.home) in seen
    folder = platform.settings.home / "airflow"
    open_files = [file for file in (folder / "airflow.cfg", folder / "pgpass", folder) if file.stat().st_mode & 0o077]
    assert open_files == []


def test_a_restart_of_the_database_is_survived_by_the_scheduler_and_its_task(platform: Airflow) -> None:
    run = platform.start_patient_run()
    scheduler, task = platform.programs["airflow-scheduler"].process, run.task()

    platform.postgres.stop()
    until = time.monotonic() + 12
    while time.monotonic() < until:
        platform.restart_what_ended()
        time.sleep(0.5)
    platform.postgres.start()

    assert eventually(platform.is_well, within=120), {name: program.log[-1500:] for name, program in platform.programs.items()}
    assert platform.programs["airflow-scheduler"].process is scheduler
    assert task.is_running()
    run.let_go()
    assert run.ends("success")
    assert run.begun() == 1
    after = platform.start_patient_run()  # it schedules as before
    after.let_go()
    assert after.ends("success")


def test_the_kill_of_all_but_the_scheduler_leaves_nothing_behind_and_running_tasks_alone(platform: Airflow) -> None:
    run = platform.start_patient_run()
    others = [program for name, program in platform.programs.items() if name != "airflow-scheduler"]
    families = [process for program in others for process in program.family()]

    for program in others:
        program.kill()

    assert eventually(lambda: not alive(families), within=10)
    assert eventually(platform.is_well, within=120)
    run.let_go()
    assert run.ends("success")
    assert run.begun() == 1


def hang(program: RunningProgram) -> None:
    """What comes when the scheduler's loop does not come round: the kernel's alarm."""
    program.process.send_signal(signal.SIGALRM)
    assert program.process.wait(10) == -signal.SIGALRM


@pytest.mark.parametrize("end", [RunningProgram.kill, RunningProgram.stop, hang], ids=["killed", "stopped", "hung"])
def test_a_task_of_a_scheduler_that_ends_dies_with_it_and_is_run_again(
    platform: Airflow, end: Callable[[RunningProgram], None]
) -> None:
    run = platform.start_patient_run()
    scheduler, task = platform.programs["airflow-scheduler"], run.task()
    family = scheduler.family()

    end(scheduler)

    assert eventually(lambda: not alive([*family, task]), within=10)
    scheduler.start()
    assert eventually(lambda: run.begun() == 2, within=60)
    run.let_go()
    assert run.ends("success")
    assert run.begun() == 2


def test_preparing_again_changes_nothing_but_a_password_or_key_that_is_new(platform: Airflow) -> None:
    platform.api("POST", "/connections", {"connection_id": "broker", "conn_type": "http", "password": "kept"})
    secrets = platform.settings.secrets_dir
    fresh = new_platform(platform.settings.home / "fresh")
    for name in ("airflow_password", "airflow_fernet_key"):
        file = secrets / f"mbats_{name}"
        file.write_text(fresh.required_secret(name).get_secret_value())
    changed = {name: getattr(fresh, name) for name in ("airflow_password", "airflow_fernet_key")}
    settings = platform.settings.model_copy(update=changed)
    said: list[str] = []

    prepare(airflow(settings)[0], said)
    prepare(airflow(settings)[0], said)

    assert said == [
        "Airflow's tables are up to date, skipped.",
        "Airflow's stored connections and variables: encrypted with the new key.",
        "Airflow's user 'mbats': password set anew.",
        "Airflow's tables are up to date, skipped.",
        "Airflow's user 'mbats': exists, skipped.",
    ]
    assert refusal(lambda: platform.log_in(platform.settings.required_secret("airflow_password").get_secret_value())) == 401
    platform.log_in(settings.required_secret("airflow_password").get_secret_value())
    with closing(login(settings, "airflow", "airflow")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT password FROM connection WHERE conn_id = 'broker'")
        [stored] = cursor.fetchone()
    assert Fernet(settings.required_secret("airflow_fernet_key").get_secret_value()).decrypt(stored) == b"kept"
