"""The whole platform as a user meets it: up, status, stop, and what a kill, a taken port or a lost file does to it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from platforms import SERVICES, Platform, alive, eventually, family

from mbats.database import admin_connection
from mbats.objectstore import ObjectStore
from mbats.platform.ports import is_free
from mbats.platform.secret_files import MADE
from mbats.platform.services import services
from mbats.platform.supervisor import Supervisor
from mbats.settings import PROJECT_ROOT


@pytest.fixture
def other(platform: Platform, tmp_path: Path) -> Iterator[Platform]:
    """A second platform, not started yet, beside the first one, which would like to have the same ports."""
    other = Platform(tmp_path / "state of another")
    other.home.mkdir()
    shutil.copy(platform.home / "platform.env", other.home)
    yield other
    other.kill()


def test_a_first_start_makes_everything_and_says_so(platform):
    said = (platform.home / "first start").read_text()

    for line in (
        f"Secrets: {len(MADE)} written",
        "data folder made",
        "started",
        "Tables of risk: migrated",
        "Bucket artifacts: made",
    ):
        assert line in said
    assert "skipped" not in said


def test_every_service_is_well_and_status_says_so_with_exit_code_0(platform):
    done = platform.mbats("status")
    listed = json.loads(platform.mbats("status", "--json").stdout)

    assert done.returncode == 0
    assert done.stdout.count("well") == len(SERVICES) and "not well" not in done.stdout
    assert [service["name"] for service in listed] == list(SERVICES)
    assert all(service["healthy"] and service["pid"] and service["uptime"] >= 0 for service in listed)


def test_a_second_start_changes_nothing_and_says_what_it_skipped(platform):
    before = platform.status()

    done = platform.mbats("up")

    assert done.returncode == 0, done.stdout
    # Others on this machine may be choosing their ports just now.
    lines = [line for line in done.stdout.splitlines() if ": ready at" not in line and "Another platform" not in line]
    assert [line for line in lines if "skipped" not in line] == []
    assert "Bucket marketdata exists, skipped." in lines
    assert {name: service.pid for name, service in platform.status().items()} == {
        name: service.pid for name, service in before.items()
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_is_killed_comes_back(platform, name):
    before = platform.status()[name].pid

    os.kill(before, signal.SIGKILL)

    assert eventually(lambda: platform.status()[name].pid not in (None, before))
    assert eventually(platform.is_well)


def test_what_was_stored_is_there_after_a_kill_of_its_server(platform):
    settings = platform.settings()
    ObjectStore(settings).put(settings.s3_bucket_artifacts, "kept/after a kill", b"kept")
    admin = admin_connection(settings)
    admin.cursor().execute("CREATE TABLE kept AS SELECT 42 AS answer")
    admin.close()

    for name in ("postgres", "s3"):
        os.kill(platform.status()[name].pid, signal.SIGKILL)

    assert eventually(platform.is_well)
    assert ObjectStore(settings).get(settings.s3_bucket_artifacts, "kept/after a kill") == b"kept"
    admin = admin_connection(settings)
    cursor = admin.cursor()
    cursor.execute("SELECT answer FROM kept")
    assert cursor.fetchall() == [(42,)]
    admin.close()


def test_a_kill_of_the_supervisor_takes_every_service_with_it_and_the_next_start_is_the_usual_one(platform):
    processes = family(platform.supervisor_pid())
    assert len(processes) > len(SERVICES)

    platform.kill()

    assert alive(processes) == []
    assert platform.mbats("status").returncode == 1
    ports = (platform.home / "platform.env").read_text()
    done = platform.mbats("up")
    assert done.returncode == 0, done.stdout
    assert "not stopped cleanly" in done.stdout
    assert (platform.home / "platform.env").read_text() == ports
    assert platform.is_well()


def test_a_start_right_after_a_kill_of_the_supervisor_waits_for_the_ports_of_its_services(platform):
    ports = (platform.home / "platform.env").read_text()

    os.kill(platform.supervisor_pid(), signal.SIGKILL)
    done = platform.mbats("up")

    assert done.returncode == 0, done.stdout
    assert (platform.home / "platform.env").read_text() == ports


def test_a_supervisor_whose_socket_was_removed_is_replaced_by_the_next_start(platform):
    before = platform.supervisor_pid()
    Supervisor(platform.home).socket.unlink()

    done = platform.mbats("up")

    assert done.returncode == 0, done.stdout
    assert "supervisord does not answer" in done.stdout
    assert platform.supervisor_pid() != before
    assert platform.is_well()


def test_a_service_that_runs_and_does_not_answer_is_started_anew_by_the_next_start(platform):
    before = platform.status()["simulator"].pid
    hung_after = next(service.hung_after for service in services(platform.settings()) if service.name == "simulator")
    assert eventually(lambda: (platform.status()["simulator"].uptime or 0) > hung_after)
    os.kill(before, signal.SIGSTOP)
    assert not platform.status()["simulator"].healthy

    done = platform.mbats("up")

    assert done.returncode == 0, done.stdout
    assert "OANDA simulator runs and does not answer; it is started anew." in done.stdout
    assert platform.status()["simulator"].pid != before
    assert platform.is_well()


def test_only_one_start_at_a_time_works_on_a_state_folder(platform):
    with (platform.home / "run" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        up, stop = platform.mbats("up"), platform.mbats("stop")

    assert (up.returncode, stop.returncode) == (2, 2)
    assert "Another start or stop of the platform" in up.stdout
    assert platform.is_well()


def test_no_secret_stands_on_a_command_line_in_an_environment_in_a_log_or_in_the_supervisors_configuration(platform):
    values = [(platform.settings().secrets_dir / f"mbats_{name}").read_text() for name in MADE]
    keys = (platform.home / "s3" / "security.toml").read_text().split('"')[1::2]
    shown = []
    for process in family(platform.supervisor_pid()):
        try:
            shown += [" ".join(process.cmdline()), json.dumps(process.environ())]
        except psutil.NoSuchProcess:
            continue  # a backend of PostgreSQL that has just ended
    shown += [file.read_text(errors="replace") for file in (platform.home / "logs").iterdir()]
    shown += [(platform.home / "run" / "supervisord.conf").read_text(), (platform.home / "platform.env").read_text()]

    assert len(values) == len(MADE) and len(keys) == 4 and all(len(value) >= 20 for value in [*values, *keys])
    assert len(shown) > 10
    assert [value for value in [*values, *keys] if any(value in text for text in shown)] == []


def test_folders_with_secrets_logs_and_sockets_are_for_their_owner_alone(platform):
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert {name: mode(platform.home / name) for name in ("secrets", "run", "logs", "s3", "postgres")} == dict.fromkeys(
        ("secrets", "run", "logs", "s3", "postgres"), 0o700
    )
    files = [*(platform.home / "secrets").iterdir(), *(platform.home / "s3").glob("*.*"), *(platform.home / "run").glob("*.conf")]
    assert {file.name: mode(file) for file in files} == {file.name: 0o600 for file in files}
    assert len(files) == len(MADE) + 3


def test_a_second_platform_runs_beside_the_first_on_ports_of_its_own(platform, other):
    done = other.mbats("up")

    assert done.returncode == 0, done.stdout
    assert "is held by 'postgres'" in done.stdout and "is held by 'weed'" in done.stdout
    assert other.is_well() and platform.is_well()
    addresses = [service.address for each in (platform, other) for service in each.status().values()]
    assert len(set(addresses)) == 2 * len(SERVICES)
    stopped = other.mbats("stop")
    assert stopped.returncode == 0 and "PostgreSQL, S3 store, OANDA simulator" in stopped.stdout
    assert platform.is_well(), "stopping one platform must not touch the other"


def test_two_platforms_started_at_the_same_moment_choose_different_ports(platform, other, tmp_path):
    third = Platform(tmp_path / "state of a third")
    shutil.copytree(other.home, third.home)
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda each: each.mbats("up"), (other, third)))

    try:
        assert [each.returncode for each in done] == [0, 0], done[0].stdout + done[1].stdout
        assert all(each.is_well() for each in (platform, other, third))
    finally:
        third.kill()


def test_services_that_run_elsewhere_are_used_there_and_not_started(platform, other):
    settings = platform.settings()
    told = {
        "MBATS_POSTGRES_MANAGED": "false",
        "MBATS_POSTGRES_PORT": str(settings.postgres_port),
        "MBATS_POSTGRES_SECMASTER_DATABASE": "secmaster_of_another",
        "MBATS_POSTGRES_RISK_DATABASE": "risk_of_another",
        "MBATS_S3_ENDPOINT": settings.s3_url,
    }
    secrets = {f"MBATS_{name.upper()}": getattr(settings, name).get_secret_value() for name in MADE if name != "simulator_token"}

    done = other.mbats("up", **told, **secrets)

    assert done.returncode == 0, done.stdout
    assert "OANDA simulator: started" in done.stdout
    listed = json.loads(other.mbats("status", "--json", **told, **secrets).stdout)
    assert {service["name"]: service["state"] for service in listed}["postgres"] == "external"
    assert all(service["healthy"] for service in listed)
    assert not (other.home / "postgres").exists() and not (other.home / "s3").exists()


def test_a_server_elsewhere_whose_password_is_not_told_is_asked_for(platform, other):
    done = other.mbats("up", MBATS_POSTGRES_MANAGED="false", MBATS_POSTGRES_PORT=str(platform.settings().postgres_port))

    assert done.returncode == 2
    assert "No secret 'postgres_admin_password'" in done.stdout


def test_a_start_that_was_killed_at_any_moment_is_finished_by_the_next(other):
    killed = 0
    for seconds in (0.7, 1.3, 1.9, 2.5, 3.5):
        try:
            other.mbats("up", timeout=seconds)
        except subprocess.TimeoutExpired:  # and was killed
            killed += 1
    assert killed

    done = other.mbats("up")

    assert done.returncode == 0, done.stdout
    assert other.is_well()


def test_a_taken_port_that_the_user_set_is_refused_by_name_before_anything_starts(platform, other):
    taken = platform.settings().postgres_port

    done = other.mbats("up", MBATS_POSTGRES_PORT=str(taken))

    assert done.returncode == 2
    assert f"MBATS_POSTGRES_PORT={taken}" in done.stdout
    assert f"'postgres' (process {platform.status()['postgres'].pid})" in done.stdout
    assert not (other.home / "postgres").exists() and not (other.home / "run" / "supervisord.pid").exists()


@pytest.mark.parametrize(("variable", "word"), [("MBATS_MIN_FREE_DISK_GB", "disk"), ("MBATS_MIN_FREE_MEMORY_GB", "memory")])
def test_a_machine_with_too_little_room_is_refused_before_anything_starts(other, variable, word):
    done = other.mbats("up", **{variable: "1000000"})

    assert done.returncode == 2
    assert f"Too little {word}" in done.stdout and variable in done.stdout
    assert not (other.home / "secrets").exists()


def test_a_service_that_does_not_come_up_is_named_with_the_end_of_its_log(platform, tmp_path):
    done = platform.mbats("up", MBATS_SIMULATOR_BARS=str(tmp_path / "missing"), MBATS_START_TIMEOUT_SECONDS="4")

    assert done.returncode == 2
    assert "OANDA simulator at" in done.stdout and "is not well after 4 s" in done.stdout
    assert str(tmp_path / "missing") in done.stdout.split("The end of")[1]
    assert platform.mbats("up").returncode == 0
    assert platform.is_well()


def test_a_lost_token_is_made_anew_and_the_service_that_reads_it_is_started_again(platform):
    file = platform.settings().secrets_dir / "mbats_simulator_token"
    before, processes = file.read_text(), platform.status()
    file.unlink()

    done = platform.mbats("up")

    assert done.returncode == 0, done.stdout
    assert "Secrets: 1 written" in done.stdout and "OANDA simulator: started with the new configuration" in done.stdout
    assert file.read_text() != before
    changed = {name for name, service in platform.status().items() if service.pid != processes[name].pid}
    assert changed == {"simulator"}


def test_lost_keys_and_passwords_are_made_anew_everywhere_they_are_used(platform):
    for name in ("s3_secret_key", "postgres_reader_password"):
        (platform.settings().secrets_dir / f"mbats_{name}").unlink()

    done = platform.mbats("up")

    assert done.returncode == 0, done.stdout
    settings = platform.settings()
    assert ObjectStore(settings).exists(settings.s3_bucket_marketdata, "interested_tickers.xlsx")
    assert "password of mbats_reader" in done.stdout


def test_a_lost_admin_password_is_named_and_nothing_is_changed(platform):
    file = platform.settings().secrets_dir / "mbats_postgres_admin_password"
    kept = file.read_text()
    file.unlink()
    try:
        done = platform.mbats("up")
    finally:
        file.write_text(kept)
        file.chmod(0o600)

    assert done.returncode == 2
    assert f"{file} is gone" in done.stdout
    assert platform.is_well()


def connections_of(process: psutil.Process) -> list[Any]:
    """None of a process that has just ended: PostgreSQL's workers come and go."""
    try:
        return list(process.net_connections("inet"))
    except psutil.NoSuchProcess:
        return []


def test_the_ports_of_a_platform_are_open_on_this_machine_alone(platform):
    listening = {
        connection.laddr
        for process in family(platform.supervisor_pid())
        for connection in connections_of(process)
        if connection.status == psutil.CONN_LISTEN
    }

    assert len(listening) >= 12
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_a_stop_ends_every_process_cleanly_and_leaves_nothing_but_data(platform):
    settings = platform.settings()
    processes = family(platform.supervisor_pid())
    needs = [need for service in services(settings) for need in service.ports]
    try:
        done = platform.mbats("stop")

        assert done.returncode == 0
        assert "Stopped in" in done.stdout and "All data is kept" in done.stdout
        assert alive(processes) == []
        assert all(is_free(number) for need in needs for number in need.numbers(getattr(settings, need.setting)))
        assert [file for need in needs if (file := need.socket_at(getattr(settings, need.setting))) and file.exists()] == []
        assert "database system is shut down" in (platform.home / "logs" / "postgres.log").read_text().splitlines()[-1]
        again, status = platform.mbats("stop"), platform.mbats("status")
        assert (again.returncode, status.returncode) == (0, 1)
        assert "Nothing runs in" in again.stdout
    finally:
        assert platform.mbats("up").returncode == 0
    assert "not properly shut down" not in _since_last_start(platform.home / "logs" / "postgres.log")


def test_a_stop_where_there_never_was_a_platform_says_so_and_makes_nothing(tmp_path):
    nowhere = Platform(tmp_path / "nothing here")

    done = nowhere.mbats("stop")

    assert done.returncode == 0
    assert "Nothing runs in" in done.stdout
    assert not nowhere.home.exists()


def test_stale_files_of_a_platform_that_was_copied_do_not_block_its_start(platform, other):
    platform.kill()
    shutil.copytree(platform.home, other.home, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
    assert platform.mbats("up").returncode == 0
    (other.home / "run" / "supervisord.pid").write_text(str(platform.supervisor_pid()))

    done = other.mbats("up")

    assert done.returncode == 0, done.stdout
    assert other.is_well() and platform.is_well()


def _since_last_start(log: Path) -> str:
    return log.read_text().rpartition("starting PostgreSQL")[2]


def test_the_start_after_an_upgrade_migrates_and_starts_everything_anew(other, tmp_path):
    root = tmp_path / "checkout"
    for folder in ("db", "minio"):
        shutil.copytree(PROJECT_ROOT / folder, root / folder)
    shutil.copy(PROJECT_ROOT / "uv.lock", root)
    assert other.mbats("up", MBATS_ROOT=str(root)).returncode == 0
    before = other.status()
    newest = max(script.stem[:4] for script in (root / "db" / "risk" / "versions").glob("0*.py"))
    (root / "db" / "risk" / "versions" / "9999_next.py").write_text(
        f"from alembic import op\nrevision, down_revision = '9999', '{newest}'\n"
        "def upgrade():\n    op.execute('CREATE TABLE of_the_next_version (x int)')\n"
    )
    with (root / "uv.lock").open("a") as lock:
        lock.write("# other packages\n")

    done = other.mbats("up", MBATS_ROOT=str(root))

    assert done.returncode == 0, done.stdout
    assert "Tables of risk: migrated." in done.stdout and "Tables of secmaster: up to date, skipped." in done.stdout
    assert "with the new configuration" in done.stdout
    assert [name for name, service in other.status().items() if service.pid == before[name].pid] == []
