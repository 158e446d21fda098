"""Secrets and the files that hold them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from mbats.errors import ConfigError, PlatformError
from mbats.platform.files import only_one, remove_socket_folder, socket_folder, write_private
from mbats.platform.preflight import available_memory
from mbats.platform.secret_files import MADE, ensure_secrets
from mbats.settings import Settings, load_settings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_differ_from_each_other_and_from_those_of_another_platform(tmp_path):
    for home in ("one", "two"):
        assert sorted(ensure_secrets(load_settings(home=tmp_path / home))) == sorted(MADE)

    values = [file.read_text() for file in tmp_path.glob("*/secrets/*")]
    assert len(set(values)) == 2 * len(MADE)
    assert min(map(len, values)) >= 20
    assert ensure_secrets(load_settings(home=tmp_path / "one")) == []


def test_every_secret_of_the_platform_is_one_that_the_settings_read(tmp_path):
    ensure_secrets(load_settings(home=tmp_path))
    settings = load_settings(home=tmp_path)

    assert {name: getattr(settings, name).get_secret_value() for name in MADE} == {
        name: (tmp_path / "secrets" / f"mbats_{name}").read_text() for name in MADE
    }


def test_a_secret_that_the_user_set_is_written_to_its_file(tmp_path):
    ensure_secrets(load_settings(home=tmp_path))

    changed = ensure_secrets(load_settings(home=tmp_path, simulator_token=SecretStr("mine")))

    assert changed == ["simulator_token"]
    assert (tmp_path / "secrets" / "mbats_simulator_token").read_text() == "mine"


def test_an_empty_secret_is_made_anew(tmp_path):
    ensure_secrets(load_settings(home=tmp_path))
    (tmp_path / "secrets" / "mbats_s3_secret_key").write_text("\n")

    assert ensure_secrets(load_settings(home=tmp_path)) == ["s3_secret_key"]


def test_open_modes_of_secrets_are_narrowed(tmp_path):
    ensure_secrets(load_settings(home=tmp_path))
    file = tmp_path / "secrets" / "mbats_simulator_token"
    file.chmod(0o644)
    file.parent.chmod(0o755)

    assert ensure_secrets(load_settings(home=tmp_path)) == []

    assert (mode(file), mode(file.parent)) == (0o600, 0o700)


def test_the_admins_password_is_never_replaced_while_there_is_data_that_it_opens(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n")

    with pytest.raises(ConfigError, match="mbats_postgres_admin_password is gone"):
        ensure_secrets(load_settings(home=tmp_path))


def test_no_secret_has_a_default():
    fields = Settings.model_fields

    assert [name for name, field in fields.items() if "SecretStr" in str(field.annotation) and field.default is not None] == []
    assert all("SecretStr" in str(fields[name].annotation) for name in MADE)


def test_a_private_file_is_private_from_its_first_moment_and_written_only_when_it_changes(tmp_path):
    file = tmp_path / "file"
    before = os.umask(0)
    try:
        assert write_private(file, "one") is True
    finally:
        os.umask(before)
    first = file.stat()

    assert mode(file) == 0o600
    assert write_private(file, "one") is False
    assert file.stat().st_mtime_ns == first.st_mtime_ns
    assert write_private(file, "two") is True
    assert file.read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_lock_of_a_state_folder_goes_with_the_process_that_holds_it(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from mbats.platform.files import only_one\n"
        "with only_one(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(PlatformError, match=f"under way .process {holder.pid}."), only_one(tmp_path):
        pass

    holder.kill()
    holder.communicate()

    with only_one(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_short_socket_folder_that_somebody_else_made_is_refused(tmp_path):
    deep = tmp_path / ("deep" * 30)
    short = socket_folder(deep)
    try:
        os.chown(short, 65534, 65534)
        with pytest.raises(PlatformError, match="is not a private folder of this user"):
            socket_folder(deep)
    finally:
        os.chown(short, 0, 0)
        remove_socket_folder(deep)
    assert not short.exists()


def test_memory_is_what_the_limit_of_a_container_leaves_when_that_is_less(tmp_path):
    for name, text in (
        ("memory.max", "1000000000\n"),
        ("memory.current", "700000000\n"),
        ("memory.stat", "anon 5\ninactive_file 200000000\n"),
    ):
        (tmp_path / name).write_text(text)

    assert available_memory(tmp_path) == 500_000_000


def test_memory_is_the_machines_where_no_limit_is_set(tmp_path):
    machine = available_memory(tmp_path / "no such folder")
    for name, text in (("memory.max", "max\n"), ("memory.current", "7\n"), ("memory.stat", "")):
        (tmp_path / name).write_text(text)

    assert machine > 100_000_000
    assert available_memory(tmp_path) > 100_000_000
