"""Doors that must stay shut: to a wrong password, to none, to the usual ones, and to a login that has business elsewhere."""

from __future__ import annotations

import base64
from contextlib import closing

import boto3
import psycopg2
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from stack import clients
from stack.clients import USER, ask, get
from stack.doors import DOORS, enter_pgadmin, opens

# Who may enter which database; everybody else is a stranger there.
MAY_ENTER = {
    "owner": {"secmaster", "risk"},
    "ingest": {"secmaster"},
    "trading": {"secmaster", "risk"},
    "reader": {"secmaster", "risk"},
    "dashboard": {"secmaster", "risk"},
    "backup": {"secmaster", "risk", "mlflow", "mlflow_auth", "airflow", "superset"},
    "mlflow": {"mlflow", "mlflow_auth"},
    "airflow": {"airflow"},
    "superset": {"superset"},
}
DATABASES = ("secmaster", "risk", "mlflow", "mlflow_auth", "airflow", "superset")
MAY_USE = {"": {"marketdata", "artifacts"}, "mlflow_": {"mlflow"}, "backup_": {"backups"}}
BUCKETS = ("marketdata", "artifacts", "mlflow", "backups")
USUAL = [("admin", "admin"), ("airflow", "airflow"), ("postgres", "postgres"), ("admin", "password1234")]


@pytest.mark.parametrize("name", DOORS)
def test_a_door_opens_to_its_own_secret_and_to_no_guess(stack, name):
    assert opens(stack, name, stack.secret(name))
    for guess in ("", "wrong", USER, "postgres", "minioadmin", stack.secret(name)[:-1]):
        assert not opens(stack, name, guess), f"{guess!r} lets anybody in"


@pytest.mark.parametrize(("user", "password"), USUAL)
def test_no_service_knows_the_users_that_such_services_usually_have(stack, user, password):
    token = ask("POST", f"{stack.url('airflow')}/auth/token", json={"username": user, "password": password})
    login = {"username": user, "password": password, "provider": "db", "refresh": True}

    assert token.status_code in (400, 401, 422)
    assert ask("POST", f"{stack.url('superset')}/api/v1/security/login", json=login).status_code in (400, 401)
    assert get(f"{stack.url('mlflow')}/", auth=(user, password)).status_code == 401
    assert not enter_pgadmin(stack, f"{user}@example.com", password)


def test_nobody_gets_anything_without_a_password(stack):
    closed = {
        "simulator": ("/v3/accounts",),
        "trader": ("/deployments", "/state"),
        "mlflow": ("/", "/api/2.0/mlflow/experiments/search?max_results=1", "/api/2.0/mlflow-artifacts/artifacts"),
        "airflow": ("/api/v2/dags", "/api/v2/connections", "/api/v2/variables", "/api/v2/config", "/execution/variables/any"),
        "jupyter": ("/api/contents", "/api/kernels", "/api/sessions", "/api/terminals", "/lab?token=wrong"),
        "superset": ("/superset/welcome/", "/api/v1/me/", "/api/v1/log/", "/swagger/v1", "/users/list/"),
        "pgadmin": ("/browser/", "/sqleditor/status", "/settings/get_tree_state/"),
    }

    for service, paths in closed.items():
        for path in paths:
            answer = get(stack.url(service) + path)
            assert answer.status_code in (401, 403, 404) or "/login" in answer.headers.get("Location", ""), (service, path)
    for path in ("/api/v1/dashboard/", "/api/v1/chart/", "/api/v1/dataset/", "/api/v1/database/"):
        answer = get(stack.url("superset") + path)
        assert answer.status_code in (401, 403) or answer.json()["count"] == 0, path
    assert ask("POST", f"{stack.url('jupyter')}/api/kernels", json={}).status_code == 403


def test_airflow_believes_no_token_that_it_did_not_sign(stack):
    parts = (b'{"alg":"none","typ":"JWT"}', b'{"sub":"1","exp":4102444800}', b"")
    unsigned = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    for token in ("wrong", unsigned):
        header = {"Authorization": f"Bearer {token}"}
        assert get(f"{stack.url('airflow')}/api/v2/dags", headers=header).status_code in (401, 403)
        assert get(f"{stack.url('airflow')}/execution/variables/any", headers=header).status_code in (401, 403)


def test_mlflow_serves_no_page_of_somebody_else(stack):
    login = (USER, stack.secret("mlflow_password"))
    search = f"{stack.url('mlflow')}/api/2.0/mlflow/experiments/search"
    foreign = {"Origin": "http://stranger.example"}

    assert get(f"{search}?max_results=1", auth=login).status_code == 200
    assert get(f"{search}?max_results=1", auth=login, headers={"Host": "stranger.example"}).status_code == 403
    assert ask("POST", search, auth=login, json={"max_results": 1}, headers=foreign).status_code == 403


@pytest.mark.parametrize("role", MAY_ENTER)
def test_a_login_of_postgresql_enters_its_own_databases_and_no_other(stack, role):
    entered = set()
    for database in (*DATABASES, "postgres", "template1"):
        try:
            clients.postgres(stack, role, database).close()
        except psycopg2.OperationalError as error:
            assert "permission denied for database" in str(error)
        else:
            entered.add(database)

    assert entered == MAY_ENTER[role]


def test_postgresql_trusts_nobody_and_gives_nothing_to_everybody(stack):
    methods = {method for (method,) in clients.rows(stack, "admin", "postgres", "SELECT auth_method FROM pg_hba_file_rules")}
    open_to_all = clients.rows(
        stack,
        "admin",
        "postgres",
        "SELECT datname FROM pg_database WHERE datallowconn AND has_database_privilege('public', datname, 'CONNECT')",
    )

    assert methods == {"scram-sha-256"}
    assert open_to_all == []
    for database in DATABASES:
        granted = clients.rows(
            stack,
            "admin",
            database,
            "SELECT table_schema, table_name FROM information_schema.table_privileges "
            "WHERE grantee = 'PUBLIC' AND table_schema NOT IN ('pg_catalog', 'information_schema')",
        )
        assert granted == [], f"everybody may read in {database}"


def test_only_the_admin_of_postgresql_is_mighty_and_every_login_has_a_password(stack):
    found = clients.rows(
        stack,
        "admin",
        "postgres",
        "SELECT rolname, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls, rolpassword "
        "FROM pg_authid WHERE rolcanlogin",
    )

    assert [name for name, mighty, _ in found if mighty] == ["postgres"]
    assert [name for name, _, verifier in found if not str(verifier).startswith("SCRAM-SHA-256$")] == []


def test_the_login_of_the_dashboards_reads_the_views_made_for_them_and_nothing_else(stack):
    statement = (
        "SELECT relname, has_table_privilege(oid, 'SELECT') FROM pg_class "
        "WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace = 'public'::regnamespace"
    )

    for database in ("secmaster", "risk"):
        with closing(clients.postgres(stack, "dashboard", database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            readable = dict(cursor.fetchall())
        assert {name for name, may in readable.items() if may} == {name for name in readable if name.startswith("dash_")}
    assert readable["dash_runs"]


@pytest.mark.parametrize("access", ["nobody-that-is-known", "minioadmin", "admin"])
def test_an_unknown_key_is_refused_by_the_s3_store(stack, access):
    store = clients.s3(stack, access=access, secret=access)

    with pytest.raises(ClientError) as refused:
        store.list_objects_v2(Bucket="marketdata")

    assert refused.value.response["Error"]["Code"] == "InvalidAccessKeyId"


@pytest.mark.parametrize("bucket", BUCKETS)
def test_nobody_reads_the_s3_store_without_a_key(stack, bucket):
    nobody = Config(signature_version=UNSIGNED)
    unsigned = boto3.client("s3", endpoint_url=stack.url("s3"), region_name="us-east-1", config=nobody)

    with pytest.raises(ClientError) as refused:
        unsigned.list_objects_v2(Bucket=bucket)

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert get(f"{stack.url('s3')}/{bucket}/interested_tickers.xlsx").status_code == 403


@pytest.mark.parametrize("identity", MAY_USE)
def test_a_key_of_the_s3_store_opens_its_own_buckets_and_no_other(stack, identity):
    store = clients.s3(stack, identity=identity)
    door = "tests/door"

    listed = {bucket for bucket in BUCKETS if _allowed(store.list_objects_v2, Bucket=bucket)}
    written = {bucket for bucket in BUCKETS if _allowed(store.put_object, Bucket=bucket, Key=door, Body=b"open")}
    for bucket in written:
        store.delete_object(Bucket=bucket, Key=door)

    assert listed == written == MAY_USE[identity]


def _allowed(what, **arguments):
    try:
        what(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
        return False
    return True
