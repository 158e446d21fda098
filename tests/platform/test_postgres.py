"""The data folder and the server command of the native platform, with the real binaries."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from mbats.database import admin_connection, wait_for_server
from mbats.errors import PlatformError
from mbats.platform.launch import launch_command
from mbats.platform.postgres import STOP_SIGNAL, binary_dir, init_cluster, server_command
from mbats.settings import Settings, load_settings

PASSWORD = SecretStr("correct horse battery staple")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a choice of whom to run as")


@pytest.fixture
def own(tmp_path: Path, free_port: int) -> Settings:
    """Settings of a server that this test makes for itself."""
    return load_settings(home=tmp_path, postgres_port=free_port, postgres_admin_password=PASSWORD)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="mbats-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def running(settings: Settings, data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server of this data folder, ready to be asked, and stopped afterwards."""
    with (data_dir.parent / "postgres.log").open("ab") as log:
        server = subprocess.Popen(server_command(settings, data_dir, settings.postgres_port), stdout=log, stderr=log)
    try:
        wait_for_server(settings, timeout=30)
        yield server
    finally:
        server.send_signal(STOP_SIGNAL)
        server.wait(timeout=20)


def ask(settings: Settings, query: str) -> object:
    connection = admin_connection(settings)
    with connection.cursor() as cursor:
        cursor.execute(query)
        answer = cursor.fetchone()[0]
    connection.close()
    return answer


def owner_of(pid: int) -> int:
    """The user that the kernel sees, whatever a namespace calls it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])


def wait_until(condition, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_new_data_folder_serves_its_login_and_making_it_again_changes_nothing(own: Settings, tmp_path: Path) -> None:
    data_dir = tmp_path / "postgres"

    made = init_cluster(own, data_dir, PASSWORD)
    again = init_cluster(own, data_dir, SecretStr("another"))

    assert (made, again) == (True, False)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".postgres.lock", "postgres"]
    assert data_dir.stat().st_mode & 0o777 == 0o700
    with running(own, data_dir):
        assert ask(own, "SHOW password_encryption") == "scram-sha-256"
        assert ask(own, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(own, "SHOW unix_socket_directories") == ""
        assert ask(own, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0


def test_a_wrong_password_is_refused(own: Settings, tmp_path: Path) -> None:
    init_cluster(own, tmp_path / "postgres", PASSWORD)
    wrong = load_settings(home=tmp_path, postgres_port=own.postgres_port, postgres_admin_password="wrong")

    with running(own, tmp_path / "postgres"), pytest.raises(PlatformError, match="password authentication failed") as refusal:
        wait_for_server(wrong, timeout=3600)  # which it does not do: the password would not become right

    assert f"127.0.0.1:{own.postgres_port}" in str(refusal.value)
    assert f"{tmp_path}/secrets/mbats_postgres_admin_password" in str(refusal.value)


def test_two_servers_run_side_by_side(postgres_server: Settings, own: Settings, tmp_path: Path) -> None:
    init_cluster(own, tmp_path / "postgres", PASSWORD)

    with running(own, tmp_path / "postgres"):
        assert ask(own, "SELECT system_identifier FROM pg_control_system()") != ask(
            postgres_server, "SELECT system_identifier FROM pg_control_system()"
        )


@pytest.mark.parametrize("milliseconds", [20, 100, 180, 240, 300])
def test_an_init_that_is_killed_leaves_nothing_half_made(own: Settings, tmp_path: Path, milliseconds: int) -> None:
    data_dir = tmp_path / "postgres"
    code = (
        "import sys; from pathlib import Path; from pydantic import SecretStr; from mbats.settings import load_settings\n"
        "from mbats.platform.postgres import init_cluster\n"
        "print('ready', flush=True); init_cluster(load_settings(home=sys.argv[1]), Path(sys.argv[2]), SecretStr('x'))"
    )
    attempt = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(data_dir)], stdout=subprocess.PIPE)
    assert attempt.stdout is not None
    attempt.stdout.readline()
    time.sleep(milliseconds / 1000)

    attempt.kill()
    attempt.wait()
    attempt.stdout.close()

    assert not data_dir.exists() or (data_dir / "global" / "pg_control").is_file()
    init_cluster(own, data_dir, PASSWORD)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".postgres.lock", "postgres"]


def test_the_password_is_on_no_command_line_and_a_failed_init_says_why_and_leaves_nothing(own: Settings, tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name in ("initdb", "postgres"):
        (binaries / name).write_text('#!/bin/sh\necho "called with: $0 $*; read: $(cat)"; exit 3\n')
        (binaries / name).chmod(0o755)
    settings = own.model_copy(update={"postgres_bin": binaries})

    with pytest.raises(PlatformError, match="exit code 3") as failure:
        init_cluster(settings, tmp_path / "state" / "postgres", PASSWORD)

    called, read = str(failure.value).split("; read: ")
    assert "--pwfile=/dev/stdin" in called
    assert PASSWORD.get_secret_value() not in called
    assert PASSWORD.get_secret_value() == read
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == [".postgres.lock"]


def test_the_server_stops_when_its_parent_is_killed_and_starts_again_on_the_same_data(own: Settings, tmp_path: Path) -> None:
    data_dir = tmp_path / "postgres"
    init_cluster(own, data_dir, PASSWORD)
    code = (
        "import subprocess, sys, time\n"
        "server = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    argv = server_command(own, data_dir, own.postgres_port)
    supervisor = subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    server = int(supervisor.stdout.readline())
    wait_for_server(own, timeout=30)
    ask(own, "SELECT 1")

    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()

    assert wait_until(lambda: not is_running(server), seconds=10), "PostgreSQL outlived the process that started it"
    with running(own, data_dir):
        assert ask(own, "SELECT 1") == 1


def test_a_folder_with_other_things_in_it_is_left_alone(own: Settings, tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.doc").touch()

    with pytest.raises(PlatformError, match="not a PostgreSQL data folder"):
        init_cluster(own, tmp_path / "postgres", PASSWORD)

    assert [entry.name for entry in (tmp_path / "postgres").iterdir()] == ["thesis.doc"]


def test_data_of_another_major_version_is_not_started(own: Settings, tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("15\n")

    with pytest.raises(PlatformError, match=r"made by PostgreSQL 15, and .* says 'postgres \(PostgreSQL\) 18"):
        server_command(own, tmp_path / "postgres", own.postgres_port)


def test_a_bin_folder_without_postgresql_is_named(own: Settings, tmp_path: Path) -> None:
    settings = own.model_copy(update={"postgres_bin": tmp_path})

    with pytest.raises(PlatformError, match=rf"MBATS_POSTGRES_BIN names {tmp_path}, which holds no executable 'postgres'"):
        binary_dir(settings)


@AS_ROOT
def test_root_in_a_namespace_changes_the_owner_of_nothing(own: Settings, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-U", "--map-user=1", "true"], capture_output=True).returncode != 0:
        pytest.skip("user namespaces are forbidden here")

    init_cluster(own, tmp_path / "postgres", PASSWORD)

    assert (tmp_path / "postgres").stat().st_uid == 0
    with running(own, tmp_path / "postgres") as server:
        assert owner_of(server.pid) == 0


@AS_ROOT
def test_root_without_namespaces_becomes_an_unprivileged_account(
    own: Settings, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_where_the_binaries_are_closed(own)
    monkeypatch.setenv("PATH", "/nonexistent")

    init_cluster(own, open_folder / "postgres", PASSWORD)

    owner = (open_folder / "postgres").stat().st_uid
    assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
    monkeypatch.undo()  # from here on the owner of the folder decides, namespaces or not
    with running(own, open_folder / "postgres") as server:
        assert owner_of(server.pid) == owner


@AS_ROOT
def test_root_without_namespaces_is_told_which_folder_is_closed(
    own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with pytest.raises(PlatformError, match=r"may not enter .*MBATS_HOME"):
        init_cluster(own, closed / "postgres", PASSWORD)

    assert not (closed / "postgres").exists()


@AS_ROOT
def test_an_ordinary_user_needs_neither_namespace_nor_change_of_user(own: Settings, open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    # In a namespace of its own the process is nobody and knows no root, wherever this Python is installed.
    as_nobody = ["unshare", "-U", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}"]
    code = (
        "import json, os, sys; from pathlib import Path; from pydantic import SecretStr\n"
        "from mbats.settings import load_settings\n"
        "from mbats.platform.postgres import init_cluster, server_command\n"
        "data_dir = Path(sys.argv[1]); settings = load_settings(home=data_dir.parent)\n"
        "init_cluster(settings, data_dir, SecretStr(sys.argv[2]))\n"
        "print(json.dumps([os.geteuid(), server_command(settings, data_dir, int(sys.argv[3]))]))"
    )
    data_dir = open_folder / "postgres"
    arguments = [str(data_dir), PASSWORD.get_secret_value(), str(own.postgres_port)]

    made = subprocess.run([*as_nobody, sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, check=True, text=True)

    user, command = json.loads(made.stdout)
    assert user == nobody.pw_uid
    assert command[0] == sys.executable
    assert not {"--user", "unshare"} & set(command)
    server = subprocess.Popen([*as_nobody, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_server(own, timeout=30)
    finally:
        server.send_signal(STOP_SIGNAL)
        server.wait(timeout=20)


@AS_ROOT
def test_another_users_data_folder_is_not_touched(own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_cluster(own, tmp_path / "postgres", PASSWORD)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)

    with pytest.raises(PlatformError, match=r"belongs to user 0, and this is user 4242"):
        server_command(own, tmp_path / "postgres", own.postgres_port)


def skip_where_the_binaries_are_closed(settings: Settings) -> None:
    nobody = pwd.getpwnam("nobody")
    binary = binary_dir(settings) / "postgres"
    tried = subprocess.run([binary, "--version"], user=nobody.pw_uid, group=nobody.pw_gid, capture_output=True, cwd="/")
    if tried.returncode != 0:
        pytest.skip(f"{binary} is not open to {nobody.pw_name}")


def test_a_launched_command_keeps_its_arguments_and_its_exit_code() -> None:
    done = subprocess.run(launch_command(["sh", "-c", 'echo "$1"; exit 7', "--", "two words"]), capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (7, "two words\n")


def test_a_command_that_does_not_exist_is_named() -> None:
    done = subprocess.run(launch_command(["no-such-command"]), capture_output=True, text=True)

    assert done.returncode == 127
    assert "no-such-command cannot be executed" in done.stderr


def test_a_launched_command_gets_the_signal_that_was_asked_for_when_its_parent_dies(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f"trap 'echo usr1 > {said}; exit' USR1; echo ready > {said}; while :; do sleep 0.05; done"
    command = launch_command(["sh", "-c", script], die_with_parent=signal.SIGUSR1)
    code = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code, *command])
    assert wait_until(lambda: said.exists() and said.read_text() == "ready\n", seconds=10)

    parent.kill()
    parent.wait()

    assert wait_until(lambda: said.read_text() == "usr1\n", seconds=10)
