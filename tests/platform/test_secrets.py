"""Changing a secret, and handing each container its own."""

from __future__ import annotations

import os
import stat

import psycopg2
import pytest

from mbats.database import admin_connection, wait_for_server
from mbats.errors import ConfigError
from mbats.platform.rotation import finish_rotation, rotate_secret
from mbats.platform.secret_files import (
    MADE,
    SECRETS_OF,
    TOOLS,
    TOOLS_USER,
    USERS,
    UnknownSecret,
    ensure_secrets,
    services_that_read,
    share_secrets,
)
from mbats.settings import load_settings


def test_a_rotated_secret_has_a_new_value_and_the_message_names_its_readers_and_not_the_value(tmp_path):
    ensure_secrets(load_settings(home=tmp_path))
    file = tmp_path / "secrets" / "mbats_mlflow_password"
    before = file.read_text()
    said: list[str] = []

    rotate_secret(load_settings(home=tmp_path), "MBATS_MLFLOW_PASSWORD", said.append)

    assert file.read_text() != before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "read by trader, mlflow, airflow, jupyter" in said[0] and file.read_text() not in said[0]


def test_an_unknown_secret_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UnknownSecret, match="Did you mean 'mlflow_password'"):
        rotate_secret(load_settings(home=tmp_path), "mlflow_passwrd", print)


def test_a_secret_that_the_user_set_is_not_changed_behind_their_back(tmp_path, monkeypatch):
    monkeypatch.setenv("MBATS_AIRFLOW_PASSWORD", "chosen by hand")
    ensure_secrets(load_settings(home=tmp_path))

    with pytest.raises(ConfigError, match="Change it there"):
        rotate_secret(load_settings(home=tmp_path), "airflow_password", print)

    assert (tmp_path / "secrets" / "mbats_airflow_password").read_text() == "chosen by hand"


@pytest.fixture
def admin_file(postgres_server, tmp_path):
    """Settings of a state folder of the test's own, on the session's server, whose admin gets the old password back."""
    ensure_secrets(
        load_settings(
            home=tmp_path,
            postgres_port=postgres_server.postgres_port,
            postgres_admin_password=postgres_server.postgres_admin_password,
        )
    )
    yield lambda: load_settings(home=tmp_path, postgres_port=postgres_server.postgres_port)
    for path in (tmp_path / "secrets").glob("mbats_postgres_admin_password*"):
        tried = postgres_server.model_copy(
            update={"postgres_admin_password": type(postgres_server.postgres_admin_password)(path.read_text())}
        )
        try:
            connection = admin_connection(tried)
        except Exception:  # the one of the two that the server does not know
            continue
        old = postgres_server.postgres_admin_password.get_secret_value()
        connection.cursor().execute("ALTER ROLE postgres PASSWORD %s", (old,))
        connection.close()
    wait_for_server(postgres_server, timeout=5)


def test_the_password_of_postgresqls_admin_changes_in_the_server_and_in_the_file(admin_file):
    before = admin_file()

    rotate_secret(before, "postgres_admin_password", print)

    admin_connection(admin_file()).close()
    with pytest.raises(Exception, match="password authentication failed"):
        admin_connection(before)


@pytest.mark.parametrize("killed", ["before the server changed", "after the server changed"])
def test_a_change_of_the_admins_password_that_was_killed_is_ended_at_the_next_start(admin_file, killed):
    before = admin_file()
    waiting = before.secrets_dir / "mbats_postgres_admin_password.new"
    waiting.write_text("a new value")
    if killed == "after the server changed":
        with psycopg2.connect(
            host="127.0.0.1",
            port=before.postgres_port,
            user="postgres",
            dbname="postgres",
            password=before.postgres_password("admin").get_secret_value(),
        ) as connection:
            connection.cursor().execute("ALTER ROLE postgres PASSWORD 'a new value'")
        connection.close()
    said: list[str] = []

    finish_rotation(before, said.append, timeout=10)

    admin_connection(admin_file()).close()
    assert not waiting.exists()
    assert said == [f"PostgreSQL: the change of its admin's password was {'finished' if 'after' in killed else 'taken back'}."]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users, as the first container does")
def test_each_service_gets_its_own_secrets_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("MBATS_SECRETS_DIR", str(tmp_path / TOOLS))
    ensure_secrets(load_settings(home=tmp_path / "home"))

    assert sorted(share_secrets(load_settings(), tmp_path)) == sorted(SECRETS_OF)
    assert share_secrets(load_settings(), tmp_path) == []
    rotate_secret(load_settings(), "superset_secret_key", lambda line: None)
    assert share_secrets(load_settings(), tmp_path) == ["superset"]

    for service, names in SECRETS_OF.items():
        folder = tmp_path / service
        files = {file.name: file for file in folder.iterdir()}
        assert set(files) == {f"mbats_{name}" for name in names if name in MADE}
        assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (USERS[service], 0o700)
        for name, file in files.items():
            assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (USERS[service], 0o400)
            assert file.read_text() == (tmp_path / TOOLS / name).read_text()
    for file in (tmp_path / TOOLS).iterdir():
        assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (TOOLS_USER, 0o600)


def test_every_secret_has_a_reader_and_no_two_services_share_a_user():
    unread = [name for name in MADE if not services_that_read(name)]

    assert unread == ["postgres_owner_password"], "the tables' owner is for migrations alone"
    assert len({TOOLS_USER, *USERS.values()}) - 1 == len(USERS) == len(SECRETS_OF)
