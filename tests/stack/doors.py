"""Every door of the platform that a secret opens, tried with any value: what a stranger can do with a guess."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import psycopg2
import requests
from botocore.exceptions import ClientError
from stack import clients
from stack.clients import PGADMIN_USER, TIMEOUT, USER, ask, get
from stack.substrate import Substrate

# A database that the login may enter.
HOMES = MappingProxyType(
    {
        "admin": "postgres",
        "owner": "secmaster",
        "ingest": "secmaster",
        "trading": "risk",
        "reader": "secmaster",
        "dashboard": "risk",
        "backup": "secmaster",
        "mlflow": "mlflow",
        "airflow": "airflow",
        "superset": "superset",
    }
)
BUCKETS = MappingProxyType({"admin_": "marketdata", "": "marketdata", "mlflow_": "mlflow", "backup_": "backups"})


def _postgres(role: str) -> Callable[[Substrate, str], bool]:
    def opens(stack: Substrate, value: str) -> bool:
        try:
            clients.postgres(stack, role, HOMES[role], password=value).close()
        except psycopg2.OperationalError as error:
            assert re.search("password authentication failed|no password supplied", str(error)), error
            return False
        return True

    return opens


def _s3(identity: str) -> Callable[[Substrate, str], bool]:
    def opens(stack: Substrate, value: str) -> bool:
        store = clients.s3(stack, identity=identity, secret=value or "-")
        try:
            store.list_objects_v2(Bucket=BUCKETS[identity])
        except ClientError as error:
            assert error.response["Error"]["Code"] == "SignatureDoesNotMatch", error
            return False
        return True

    return opens


def _simulator(stack: Substrate, value: str) -> bool:
    return _answered(get(f"{stack.url('simulator')}/v3/accounts", headers={"Authorization": f"Bearer {value}"}))


def _trader(stack: Substrate, value: str) -> bool:
    return _answered(get(f"{stack.url('trader')}/deployments", headers={"Authorization": f"Bearer {value}"}))


def _mlflow(stack: Substrate, value: str) -> bool:
    return _answered(get(f"{stack.url('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1", auth=(USER, value)))


def _airflow(stack: Substrate, value: str) -> bool:
    return _answered(ask("POST", f"{stack.url('airflow')}/auth/token", json={"username": USER, "password": value}))


def _superset(stack: Substrate, value: str) -> bool:
    login = {"username": USER, "password": value, "provider": "db", "refresh": True}
    return _answered(ask("POST", f"{stack.url('superset')}/api/v1/security/login", json=login))


def _jupyter(stack: Substrate, value: str) -> bool:
    return _answered(get(f"{stack.url('jupyter')}/api/contents", headers={"Authorization": f"token {value}"}))


def _pgadmin(stack: Substrate, value: str) -> bool:
    return enter_pgadmin(stack, PGADMIN_USER, value)


def enter_pgadmin(stack: Substrate, user: str, password: str) -> bool:
    """Whether the form of pgAdmin's login lets in this user with this password."""
    url = stack.url("pgadmin")
    with requests.Session() as visitor:
        visitor.trust_env = False
        page = html.unescape(visitor.get(f"{url}/login", timeout=TIMEOUT).text)
        token = re.search(r'"csrfToken"\s*:\s*"([^"]+)"', page)
        assert token, "the page of the login names no token"
        form = {"email": user, "password": password, "csrf_token": token[1], "internal_button": "Login"}
        visitor.post(f"{url}/authenticate/login", data=form, timeout=TIMEOUT, headers={"Referer": f"{url}/login"})
        page = visitor.get(f"{url}/browser/", timeout=TIMEOUT, allow_redirects=False)
    assert page.status_code in (200, 302, 401), page.status_code
    return page.status_code == 200


def _answered(answer: requests.Response) -> bool:
    """Whether a door opened. A refusal must be one, and not a failure of the service."""
    assert answer.ok or answer.status_code in (400, 401, 403, 422), f"{answer.url}: {answer.status_code} {answer.text}"
    return answer.ok


DOORS: Mapping[str, Callable[[Substrate, str], bool]] = MappingProxyType(
    {f"postgres_{role}_password": _postgres(role) for role in HOMES}
    | {f"s3_{identity}secret_key": _s3(identity) for identity in BUCKETS}
    | {
        "simulator_token": _simulator,
        "trader_token": _trader,
        "mlflow_password": _mlflow,
        "airflow_password": _airflow,
        "superset_password": _superset,
        "jupyter_token": _jupyter,
        "pgadmin_password": _pgadmin,
    }
)


def opens(stack: Substrate, name: str, value: str) -> bool:
    """Whether this value of the secret `name` lets anybody in."""
    return DOORS[name](stack, value)


__all__ = ["DOORS", "enter_pgadmin", "opens"]
