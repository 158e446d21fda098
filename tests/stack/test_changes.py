"""A change is one line: every secret replaced, and a port moved, while the platform runs."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import requests
from botocore.exceptions import ClientError
from stack import clients
from stack.clients import Airflow, Superset, get
from stack.doors import DOORS, opens

KEPT = ("redis_password", "oanda_token")  # of what does not run here


@dataclass(frozen=True)
class Old:
    """What was good before: the value of each secret, and a token of Airflow."""

    secrets: dict[str, str]
    token: str


@pytest.fixture(scope="module")
def old(stack):
    """Every secret is rotated, and the platform runs with the new ones."""
    before = Old({name: value for name, value in stack.secrets().items() if name not in KEPT}, Airflow(stack).token)
    stack.mbats("secrets", "rotate", *before.secrets)
    stack.up()
    return before


@pytest.mark.parametrize("name", DOORS)
def test_a_rotated_secret_opens_its_door_and_the_old_one_does_not(stack, old, name):
    new = stack.secret(name)

    assert new != old.secrets[name]
    assert opens(stack, name, new)
    assert not opens(stack, name, old.secrets[name])


def test_the_old_keys_of_the_s3_store_are_unknown_to_it(stack, old):
    for identity in ("", "admin_", "mlflow_", "backup_"):
        store = clients.s3(stack, access=old.secrets[f"s3_{identity}access_key"], secret=old.secrets[f"s3_{identity}secret_key"])
        with pytest.raises(ClientError) as refused:
            store.list_objects_v2(Bucket="marketdata")
        assert refused.value.response["Error"]["Code"] == "InvalidAccessKeyId"


def test_a_token_that_airflow_signed_with_the_old_key_is_refused(stack, old):
    assert get(f"{stack.url('airflow')}/api/v2/dags", headers={"Authorization": f"Bearer {old.token}"}).status_code in (401, 403)


def test_everything_is_well_and_works_with_the_new_secrets(stack, old):
    stack.wait_well(timeout=60)

    assert Airflow(stack).dags()
    assert Superset(stack).dashboards()
    assert stack.mbats("runs", "--json").stdout.count('"strategy"') >= 3


def test_a_port_is_moved_by_one_line(stack):
    before = stack.url("airflow")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    stack.up(MBATS_AIRFLOW_PORT=str(port))

    assert urlsplit(stack.url("airflow")).port == port
    assert stack.status()["airflow-apiserver"]["address"] == f"http://127.0.0.1:{port}"
    assert Airflow(stack).dags()
    with pytest.raises(requests.ConnectionError):
        get(before)
