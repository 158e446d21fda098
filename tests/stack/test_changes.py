"""A change is one line: passwords and keys replaced, and a port moved, while the platform runs."""

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

# What people log in with. Rotated by themselves first: each must take effect though no key changes with it.
PASSWORDS = ("airflow_password", "superset_password", "mlflow_password", "jupyter_token", "pgadmin_password", "simulator_token")
UNUSED = ("redis_password", "oanda_token")  # of what does not run here


def rotate(stack, names, **settings: str) -> dict[str, str]:
    """Give these secrets new values and bring the platform up with them; returns the old values."""
    old = {name: stack.secret(name) for name in names}
    stack.mbats("secrets", "rotate", *names)
    stack.up(**settings)
    return old


def require_rotated(stack, name: str, old: str) -> None:
    new = stack.secret(name)
    assert new != old
    assert opens(stack, name, new)
    assert not opens(stack, name, old)


@pytest.fixture(scope="module")
def old_passwords(stack):
    return rotate(stack, PASSWORDS)


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_rotated_password_opens_its_door_and_the_old_one_does_not(stack, old_passwords, name):
    require_rotated(stack, name, old_passwords[name])


@dataclass(frozen=True)
class Old:
    """What was good before: the value of each other secret, a token of Airflow, and its address."""

    secrets: dict[str, str]
    token: str
    airflow: str


@pytest.fixture(scope="module")
def old(stack, old_passwords):
    """Every other secret is rotated, Airflow's port is another one, and one `up` has passed it all on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    others = [name for name in stack.secrets() if name not in (*PASSWORDS, *UNUSED)]
    airflow = Airflow(stack)
    return Old(rotate(stack, others, MBATS_AIRFLOW_PORT=str(port)), airflow.token, airflow.url)


@pytest.mark.parametrize("name", [name for name in DOORS if name not in PASSWORDS])
def test_a_rotated_key_opens_its_door_and_the_old_one_does_not(stack, old, name):
    require_rotated(stack, name, old.secrets[name])


def test_the_old_keys_of_the_s3_store_are_unknown_to_it(stack, old):
    for identity in ("", "admin_", "mlflow_", "backup_"):
        store = clients.s3(stack, access=old.secrets[f"s3_{identity}access_key"], secret=old.secrets[f"s3_{identity}secret_key"])
        with pytest.raises(ClientError) as refused:
            store.list_objects_v2(Bucket="marketdata")
        assert refused.value.response["Error"]["Code"] == "InvalidAccessKeyId"


def test_a_token_that_airflow_signed_with_the_old_key_is_refused(stack, old):
    assert get(f"{stack.url('airflow')}/api/v2/dags", headers={"Authorization": f"Bearer {old.token}"}).status_code in (401, 403)


def test_a_port_is_moved_by_one_line(stack, old):
    assert urlsplit(stack.url("airflow")).port != urlsplit(old.airflow).port
    assert stack.status()["airflow-apiserver"]["address"] == stack.url("airflow")
    assert Airflow(stack).dags()
    with pytest.raises(requests.ConnectionError):
        get(old.airflow)


def test_everything_is_well_and_works_with_the_new_secrets(stack, old):
    stack.wait_well(timeout=60)

    assert Superset(stack).dashboards()
    assert stack.mbats("runs", "--json").stdout.count('"strategy"') >= 3
    airflow = Airflow(stack)
    airflow.require_success("download_market_data", airflow.trigger("download_market_data"), timeout=300)
