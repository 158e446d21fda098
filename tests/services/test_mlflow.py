"""MLflow as the platform runs it: behind its login, with artifacts in S3 through its proxy."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import boto3
import pytest
from mlflow.utils.server_info import SERVER_INFO_MULTIPART_DOWNLOADS_ENABLED, SERVER_INFO_MULTIPART_UPLOADS_ENABLED
from programs import RunningProgram, new_platform, running, running_postgres, visible_text

from mbats.platform.buckets import prepare_store
from mbats.platform.mlflow import mlflow
from mbats.platform.ports import is_free
from mbats.platform.services import services
from mbats.settings import Settings, load_settings

pytestmark = pytest.mark.server

SECRETS = ("postgres_mlflow_password", "s3_mlflow_access_key", "s3_mlflow_secret_key", "mlflow_password", "mlflow_secret_key")
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"

# A client as a strategy or a notebook is one: it knows the server, a user and a password, and nothing of S3.
CLIENT = """
import sys
import mlflow

class Doubles(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[float]) -> list[float]:
        return [2 * value for value in model_input]

mlflow.set_experiment("proof")
with mlflow.start_run() as run:
    mlflow.log_metric("sharpe", 1.5)
    mlflow.pyfunc.log_model(name="model", python_model=Doubles(), registered_model_name="doubles", pip_requirements=[])
mlflow.MlflowClient().set_registered_model_alias("doubles", "champion", 1)
print(mlflow.pyfunc.load_model("models:/doubles@champion").predict([1.0, 4.0]))
print(run.info.artifact_uri)
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return new_platform(tmp_path_factory.mktemp("platform") / "home", mlflow_allowed_hosts="models.example.com")


@pytest.fixture(scope="module")
def postgres(settings: Settings) -> Iterator[RunningProgram]:
    with running_postgres(settings) as server:
        yield server


@pytest.fixture(scope="module")
def server(settings: Settings, postgres: RunningProgram) -> Iterator[RunningProgram]:
    with running([service for service in services(settings) if service.name == "s3"], settings.home) as [store]:
        store.wait_until_well()
        prepare_store(settings, lambda line: None)
        with running([mlflow(settings)], settings.home) as [server]:
            server.wait_until_well()
            yield server


def status(settings: Settings, path: str, *, password: str | None = None, body: object = None, **headers: str) -> int:
    """The status with which the server answers a GET or, with a body, a POST."""
    request = urllib.request.Request(f"{settings.mlflow_url}{path}", headers=headers)
    if password is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{settings.admin_user}:{password}".encode()).decode())
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def password(settings: Settings) -> str:
    return settings.required_secret("mlflow_password").get_secret_value()


def test_it_says_its_version(server: RunningProgram) -> None:
    assert server.service.check() == "3.17.2"


def test_nobody_enters_without_the_password(settings: Settings, server: RunningProgram) -> None:
    assert status(settings, SEARCH) == 401
    assert status(settings, SEARCH, password="password1234") == 401
    assert status(settings, "/api/2.0/mlflow-artifacts/artifacts") == 401
    assert status(settings, SEARCH, password=password(settings)) == 200


def test_nobody_is_offered_an_assistant_that_runs_commands_here(settings: Settings, server: RunningProgram) -> None:
    for path in ("config", "sessions", "message"):
        assert status(settings, f"/ajax-api/3.0/mlflow/assistant/{path}", password=password(settings)) == 404


def test_a_page_of_a_stranger_can_use_neither_its_name_nor_its_origin(settings: Settings, server: RunningProgram) -> None:
    known = password(settings)

    assert status(settings, SEARCH, password=known, Host="evil.example.com") == 403
    assert status(settings, SEARCH, password=known, Host=f"mlflow:{settings.mlflow_port}") == 200
    assert status(settings, SEARCH, password=known, Host="models.example.com") == 200
    body = {"name": "from another page"}
    create = "/api/2.0/mlflow/experiments/create"
    assert status(settings, create, password=known, body=body, Origin="https://evil.example.com") == 403
    assert status(settings, create, password=known, body=body, Origin="https://models.example.com") == 200


def test_a_client_without_keys_of_the_store_logs_a_model_and_loads_it_again(settings: Settings, server: RunningProgram) -> None:
    environment = {
        "PATH": os.defpath,
        "HOME": str(settings.home),
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_TRACKING_USERNAME": settings.admin_user,
        "MLFLOW_TRACKING_PASSWORD": password(settings),
    }

    done = subprocess.run(
        [sys.executable, "-P", "-c", CLIENT], env=environment, cwd=settings.home, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    predicted, address = done.stdout.splitlines()[-2:]
    assert predicted == "[2.0, 8.0]"
    assert address.startswith("mlflow-artifacts:/")
    store = boto3.client(
        "s3",
        endpoint_url=settings.s3_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.required_secret("s3_mlflow_access_key").get_secret_value(),
        aws_secret_access_key=settings.required_secret("s3_mlflow_secret_key").get_secret_value(),
    )
    keys = [item["Key"] for item in store.list_objects_v2(Bucket=settings.s3_bucket_mlflow)["Contents"]]
    assert any(key.endswith("python_model.pkl") for key in keys)


def test_clients_are_not_sent_to_the_store_whose_name_they_may_not_know(settings: Settings, server: RunningProgram) -> None:
    with urllib.request.urlopen(f"{settings.mlflow_url}/api/3.0/mlflow/server-info", timeout=30) as answer:
        told = json.load(answer)

    assert {name: value for name, value in told.items() if "multipart" in name} == {
        SERVER_INFO_MULTIPART_UPLOADS_ENABLED: False,
        SERVER_INFO_MULTIPART_DOWNLOADS_ENABLED: False,
    }


def test_no_secret_can_be_read_from_its_process_or_log(settings: Settings, server: RunningProgram) -> None:
    processes = server.family()
    seen = visible_text(processes) + server.log

    assert len(processes) == 1
    for name in SECRETS:
        assert settings.required_secret(name).get_secret_value() not in seen, name
    assert str(settings.home) in seen
    folder = settings.home / "mlflow"
    assert [file for file in (folder, *folder.glob("*")) if file.stat().st_mode & 0o077] == []


def test_a_kill_leaves_nothing_on_its_port_and_a_start_finds_everything(settings: Settings, server: RunningProgram) -> None:
    assert status(settings, "/api/2.0/mlflow/experiments/create", password=password(settings), body={"name": "kept"}) == 200

    server.kill()

    assert is_free(settings.mlflow_port)
    server.start()
    server.wait_until_well()
    assert status(settings, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept", password=password(settings)) == 200


def test_it_is_unwell_while_its_database_is_away_and_well_again_by_itself(
    settings: Settings, server: RunningProgram, postgres: RunningProgram
) -> None:
    process = server.process

    postgres.stop()

    assert not server.is_well()
    postgres.start()
    server.wait_until_well()
    assert server.process is process
    assert process.poll() is None


def test_a_changed_password_is_the_only_one_from_the_next_start_on(settings: Settings, server: RunningProgram) -> None:
    old = password(settings)
    before = server.program.environment["MBATS_CONFIG_FILES"]
    (settings.secrets_dir / "mbats_mlflow_password").write_text("a new one, 100% better: yes")
    changed = load_settings(home=settings.home)
    service = mlflow(changed)
    assert service.program().environment["MBATS_CONFIG_FILES"] != before  # so the supervisor starts it anew

    server.stop()
    server.service = service
    server.start()
    server.wait_until_well()

    assert status(settings, SEARCH, password=old) == 401
    assert status(settings, SEARCH, password=password(changed)) == 200
