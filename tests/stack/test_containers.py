"""What containers alone can be: workers of a queue, a model that is served, and SeaweedFS in the place of MinIO."""

from __future__ import annotations

import os

import pytest
from botocore.exceptions import ClientError
from stack import clients
from stack.clients import Airflow, ask, get
from stack.leaks import leaks

pytestmark = pytest.mark.skipif(os.environ.get("MBATS_STACK") != "docker", reason="of containers alone")

WORKERS = ("airflow-worker", "airflow-worker-2")
LONGEST_DAG = 300.0
PREPARE_STORE = """
from mbats.platform.buckets import prepare_store
from mbats.settings import get_settings
prepare_store(get_settings(), print)
"""
SEAWEEDFS = "docker-compose.yml:minio/seaweedfs.compose.yml"


@pytest.fixture(scope="module")
def profiles(stack, tmp_path_factory):
    """Two workers do Airflow's tasks, and a model is served; later everything is as it was."""
    model = clients.log_model(stack, tmp_path_factory.mktemp("model"))
    stack.up_with_profiles("--scale", "airflow-worker=2", MBATS_AIRFLOW_EXECUTOR="CeleryExecutor", MBATS_SERVED_MODEL=model)
    yield stack
    stack.compose("--profile", "*", "rm", "--stop", "--force", "airflow-worker", "redis", "serving")
    stack.up(MBATS_AIRFLOW_EXECUTOR="LocalExecutor")


def test_a_task_runs_on_a_worker_when_there_are_workers(profiles):
    airflow = Airflow(profiles)
    run = airflow.trigger("download_market_data", {"symbols": ["EUR_USD", "USD_JPY"], "granularity": "D"})

    airflow.require_success("download_market_data", run, timeout=LONGEST_DAG)

    hosts = {profiles.hostname(name) for name in WORKERS}
    assert len(hosts) == 2 and airflow.places("download_market_data", run) <= hosts


def test_the_queue_answers_nobody_without_its_password(profiles):
    said = profiles.compose("--profile", "scale", "exec", "-T", "redis", "redis-cli", "ping", check=False).stdout

    assert "NOAUTH" in said


def test_a_model_of_the_registry_answers_over_http(profiles):
    answer = ask("POST", f"{profiles.url('serving')}/invocations", json={"inputs": [[3.0], [15.0]]})

    assert answer.json() == {"predictions": [False, True]}
    assert ask("POST", f"{profiles.url('serving')}/invocations", json={"inputs": "no numbers"}).status_code == 400


def test_no_secret_stands_in_what_workers_queue_and_endpoint_show(profiles):
    assert {*WORKERS, "redis", "serving"} <= set(profiles.logs())
    assert leaks(profiles) == set()


def test_seaweedfs_takes_the_place_of_minio(stack):
    """The store alone, beside the platform and with secrets of its own: all else is the same with both."""
    other = stack.beside("seaweedfs", COMPOSE_FILE=SEAWEEDFS, MBATS_S3_PORT="0")
    try:
        other.compose("build", "secrets")
        other.compose("up", "-d", "--wait", "minio")
        other.tools("python", "-c", PREPARE_STORE)

        store = clients.s3(other)
        store.put_object(Bucket="artifacts", Key="kept.txt", Body=b"kept")
        assert store.get_object(Bucket="artifacts", Key="kept.txt")["Body"].read() == b"kept"
        assert store.head_object(Bucket="marketdata", Key="interested_tickers.xlsx")["ContentLength"] > 0
        with pytest.raises(ClientError, match="AccessDenied"):
            store.list_objects_v2(Bucket="backups")
        assert get(f"{other.url('s3')}/artifacts/kept.txt").status_code == 403
    finally:
        other.compose("--profile", "*", "down", "--volumes")
        other.docker("rmi", "mbats-test-seaweedfs/mbats:local", check=False)  # a name of the other's image
