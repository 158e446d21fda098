"""What a backup holds, which ones are kept, and how one fails."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from mbats import __version__
from mbats.errors import ConfigError, DataError, PlatformError, UsageError
from mbats.objectstore import ObjectStore
from mbats.platform.backup import delete_old, make_backup
from mbats.platform.dumps import Measured, dump, require_tools
from mbats.platform.manifest import Backup, find_backup, list_backups, manifest

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def test_a_backup_holds_every_database_and_the_users_files_and_says_what_they_must_be(platform):
    said: list[str] = []

    made = make_backup(platform.settings, said.append, now=NOW)

    assert made == find_backup(platform.settings, None) == find_backup(platform.settings, "2026-11-23T02-00-00Z")
    assert [item.name for item in made.databases] == ["risk", "secmaster", "mlflow", "mlflow_auth"]
    assert (made.mbats, made.made_at, made.finished) == (__version__, NOW, True)
    heads = {item.name: item.heads for item in made.databases}
    assert all(heads[name] for name in ("risk", "secmaster"))
    assert heads["mlflow"] == ()
    assert [file.name for file in made.files] == ["interested_tickers.xlsx"]
    keys = platform.store.list("backups")
    assert keys == sorted([*(piece.key for piece in made.pieces), "2026-11-23T02-00-00Z/manifest.json"])
    for piece in made.pieces:
        with platform.store.open("backups", piece.key) as stream:
            measured = Measured(stream)
            measured.read()
        assert (measured.size, measured.sha256) == (piece.size, piece.sha256)
    assert said[-1] == f"Backup 2026-11-23T02-00-00Z: finished, {made.size:,} bytes."


def test_a_database_larger_than_one_part_of_an_upload_is_whole_in_the_store(platform, monkeypatch):
    monkeypatch.setattr("mbats.objectstore.PART", 5 * 2**20)
    # Hashes do not compress, so that the dump is larger than two parts.
    platform.sql("mlflow", "CREATE TABLE big AS SELECT sha512(n::text::bytea) AS noise FROM generate_series(1, 200000) n")
    try:
        made = make_backup(platform.settings, now=NOW)
    finally:
        platform.sql("mlflow", "DROP TABLE big")

    piece = next(item.piece for item in made.databases if item.name == "mlflow")
    assert piece.size > 10 * 2**20
    with platform.store.open("backups", piece.key) as stream:
        measured = Measured(stream)
        while measured.read(2**20):
            pass
    assert (measured.size, measured.sha256) == (piece.size, piece.sha256)


def test_while_a_database_is_dumped_no_password_is_in_a_command_line_or_an_environment(platform):
    settings = platform.settings
    tools = require_tools(settings, "18")
    password = settings.postgres_password("backup").get_secret_value()

    with dump(settings, tools, settings.postgres_secmaster_database) as stream:
        stream.read(1)
        (child,) = (child for child in psutil.Process().children() if "pg_dump" in " ".join(child.cmdline()))
        shown = [*child.cmdline(), *(f"{name}={value}" for name, value in child.environ().items())]
        file = Path(child.environ()["PGPASSFILE"])

    assert shown
    assert not [text for text in shown if password in text]
    assert password in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


# --- What is kept --------------------------------------------------------------------------------------------------


def put(platform, made_at: datetime, *, finished: bool = True) -> str:
    """A backup of that time, with nothing in it."""
    name = f"{made_at:%Y-%m-%dT%H-%M-%SZ}"
    platform.store.put("backups", f"{name}/risk.dump", b"x")
    if finished:
        platform.store.put("backups", f"{name}/manifest.json", manifest(Backup(name, True)))
    return name


def test_backups_go_when_they_are_older_than_the_setting_and_what_was_never_finished_after_a_day(platform):
    settings = platform.settings.model_copy(update={"backup_keep_days": 7})
    days = timedelta(days=1)
    kept = [put(platform, NOW - 7 * days), put(platform, NOW), put(platform, NOW - days, finished=False)]
    old = [put(platform, NOW - 8 * days), put(platform, NOW - days - timedelta(seconds=1), finished=False)]
    platform.store.put("backups", "notes/manifest.json", b"the user's own")

    assert sorted(delete_old(settings, platform.store, NOW)) == sorted(old)

    assert {backup.name for backup in list_backups(settings)} == set(kept)
    assert platform.store.exists("backups", "notes/manifest.json")
    assert not [key for key in platform.store.list("backups") if key.startswith(tuple(old))]


def test_the_newest_finished_backup_is_kept_however_old_it_is(platform):
    newest = put(platform, NOW - timedelta(days=900))
    put(platform, NOW - timedelta(days=901))
    put(platform, NOW - timedelta(days=800), finished=False)

    delete_old(platform.settings, platform.store, NOW)

    assert [backup.name for backup in list_backups(platform.settings)] == [newest]


def test_making_one_deletes_the_old_ones_and_says_so(platform):
    old = put(platform, NOW - timedelta(days=60))
    said: list[str] = []

    made = make_backup(platform.settings, said.append, now=NOW)

    assert said[-1] == f"Backup {old}: deleted."
    assert [backup.name for backup in list_backups(platform.settings)] == [made.name]


def test_a_manifest_of_another_format_is_named_and_nothing_is_deleted(platform):
    name = put(platform, NOW - timedelta(days=60))
    platform.store.put("backups", f"{name}/manifest.json", b'{"format": 2}')

    with pytest.raises(DataError, match=rf"The manifest '{name}/manifest\.json' .*its format is 2, expected 1"):
        delete_old(platform.settings, platform.store, NOW)
    assert platform.store.exists("backups", f"{name}/risk.dump")


# --- How it fails --------------------------------------------------------------------------------------------------


def test_of_two_at_once_the_second_is_refused(platform, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def say(line: str) -> None:
        begun.set()
        assert go_on.wait(60)

    first = threading.Thread(target=make_backup, args=(platform.settings, say))
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(PlatformError, match="Another backup is being made"):
            make_backup(platform.settings)
    finally:
        go_on.set()
        first.join()
    assert [backup.finished for backup in list_backups(platform.settings)] == [True]


def test_a_dump_that_breaks_off_makes_no_backup_and_says_why(platform, tmp_path):
    false = tmp_path / "bin"
    false.mkdir()
    real = require_tools(platform.settings, "18")
    (false / "pg_restore").symlink_to(real / "pg_restore")
    (false / "pg_dump").write_text(
        '#!/bin/sh\ncase "$1" in --version) echo "pg_dump (PostgreSQL) 18.6";;\n'
        "*) head -c 100000 /dev/zero; echo 'pg_dump: error: the disk is on fire' >&2; exit 1;; esac\n"
    )
    (false / "pg_dump").chmod(0o755)
    broken = platform.settings.model_copy(update={"postgres_bin": false})

    with pytest.raises(PlatformError, match=r"database 'risk_\d+' failed \(exit code 1\): pg_dump: error: the disk is on fire"):
        make_backup(broken, now=NOW)

    assert platform.store.list("backups") == []
    with pytest.raises(UsageError, match="No finished backup in the bucket 'backups'"):
        find_backup(platform.settings, None)


def test_tools_of_another_major_version_are_refused(platform):
    with pytest.raises(PlatformError, match=r"The server is PostgreSQL 17\.2, and .* says 'pg_dump \(PostgreSQL\) 18"):
        require_tools(platform.settings, "17.2")


def test_a_store_that_is_away_is_named_and_exit_code_2(platform):
    done = platform.mbats("backup", MBATS_S3_PORT="1")

    assert done.returncode == 2
    assert "No S3 store at http://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_key_of_backups_opens_no_other_bucket_and_that_of_the_application_not_this_one(platform):
    with pytest.raises(ConfigError, match="MBATS_S3_BACKUP_ACCESS_KEY"):
        platform.store.list("marketdata")
    with pytest.raises(ConfigError, match="MBATS_S3_ACCESS_KEY"):
        ObjectStore(platform.settings).list("backups")


def test_a_store_of_somebody_else_may_have_one_key_for_all(platform):
    elsewhere = platform.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"})
    alone = elsewhere.model_copy(update={"s3_backup_access_key": None, "s3_backup_secret_key": None})

    assert ObjectStore(alone, "backup")._variables == ["MBATS_S3_ACCESS_KEY", "MBATS_S3_SECRET_KEY"]
    assert ObjectStore(elsewhere, "backup")._variables == ["MBATS_S3_BACKUP_ACCESS_KEY", "MBATS_S3_BACKUP_SECRET_KEY"]


# --- The list ------------------------------------------------------------------------------------------------------


def test_the_list_is_a_table_for_people_and_json_for_programs(platform):
    assert "There is no backup yet." in platform.mbats("backups").stdout
    made = make_backup(platform.settings, now=NOW)

    table = platform.mbats("backups").stdout
    (listed,) = json.loads(platform.mbats("backups", "--json").stdout)

    assert f"{made.name}" in table
    assert "risk, secmaster, mlflow, mlflow_auth" in table
    assert (listed["name"], listed["finished"], listed["size"]) == (made.name, True, made.size)
    assert listed["made_at"] == "2026-11-23T02:00:00+00:00"
