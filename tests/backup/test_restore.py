"""What a restore refuses, and that it then has changed nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from contextlib import closing

import psycopg2
import pytest

from mbats.database import login
from mbats.errors import PlatformError
from mbats.platform.backup import make_backup
from mbats.platform.restore import UnknownDatabase, replaced_databases, restore


def silent(line: str) -> None: ...


def unfinished(platform) -> list:
    own = (platform.settings.postgres_secmaster_database, platform.settings.postgres_risk_database)
    listed = ", ".join(f"'{name}_restoring'" for name in own)
    return platform.sql("postgres", f"SELECT datname FROM pg_database WHERE datname IN ({listed})")


def test_a_dump_that_is_not_what_was_written_is_refused_before_anything_is_changed(platform):
    made = make_backup(platform.settings)
    key = next(item.piece.key for item in made.databases if item.name == "secmaster")
    content = bytearray(platform.store.get("backups", key))
    content[len(content) // 2] ^= 1
    platform.store.put("backups", key, bytes(content))

    done = platform.mbats("restore", "--yes")

    assert done.returncode == 2
    assert f"'{key}' in the bucket 'backups' is not what was backed up" in done.stderr
    assert "Nothing was changed" in done.stderr
    assert (replaced_databases(platform.settings), unfinished(platform)) == ([], [])
    assert not (platform.settings.home / "backup" / "restore").exists()


def test_a_dump_that_is_gone_is_refused(platform):
    made = make_backup(platform.settings)
    platform.store.delete("backups", [made.databases[0].piece.key])

    done = platform.mbats("restore", "--yes")

    assert done.returncode == 2
    assert f"No object '{made.databases[0].piece.key}'" in done.stderr


def test_only_the_named_database_is_replaced(platform):
    make_backup(platform.settings)
    platform.add_bars("USD_JPY", "2020-01-01", "2020-03-01")
    platform.add_run()

    done = platform.mbats("restore", "--yes", "--database", "risk")

    assert done.returncode == 0, done.stderr
    assert len(platform.sql(platform.settings.postgres_risk_database, "SELECT 1 FROM run")) == 1
    assert len(platform.sql(platform.settings.postgres_secmaster_database, "SELECT 1 FROM symbol")) == 2
    assert [name.partition("_before_restore_")[0] for name in replaced_databases(platform.settings)] == [
        platform.settings.postgres_risk_database
    ]
    assert "interested_tickers" not in done.stdout


def test_a_database_that_the_backup_does_not_hold_is_refused_with_the_nearest_name(platform):
    made = make_backup(platform.settings)

    with pytest.raises(UnknownDatabase, match=f"No database 'secmastr' in the backup {made.name}. Did you mean 'secmaster'"):
        restore(platform.settings, made, ["secmastr"], say=silent)


def test_a_service_that_the_platform_has_no_more_is_skipped(platform):
    made = make_backup(platform.settings)
    fewer = platform.settings.model_copy(update={"services": "postgres,s3"})
    said: list[str] = []

    kept = restore(fewer, made, say=said.append)

    assert len(kept) == 2
    assert "Database mlflow: this platform does not have its service, skipped." in said


def test_databases_in_use_are_refused_with_who_uses_them(platform):
    make_backup(platform.settings)
    risk = platform.settings.postgres_risk_database

    with closing(login(platform.settings, "trading", risk)):
        done = platform.mbats("restore", "--yes", "--database", "risk")

    assert done.returncode == 2
    assert f"The databases are in use: mbats_trading in {risk} (1) connection. Nothing was changed." in done.stderr
    assert "--force" in done.stderr


def test_with_force_it_takes_its_place_under_clients_that_come_back_at_once(platform):
    made = make_backup(platform.settings)
    platform.add_run()
    risk = platform.settings.postgres_risk_database
    over = threading.Event()
    seen: set[int] = set()

    def come_back() -> None:
        while not over.is_set():
            try:
                with closing(login(platform.settings, "trading", risk)) as connection, connection.cursor() as cursor:
                    while not over.wait(0.01):
                        cursor.execute("SELECT count(*) FROM run")
                        seen.add(cursor.fetchone()[0])
            except (PlatformError, psycopg2.Error):
                continue

    clients = [threading.Thread(target=come_back) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        kept = restore(platform.settings, made, ["risk"], force=True, drop_old=True, say=silent)
        while 1 not in seen:
            over.wait(0.05)
    finally:
        over.set()
        for client in clients:
            client.join()

    assert kept == []
    assert seen == {1, 2}  # the two runs of before, then the one of the backup


def test_a_backup_of_a_newer_schema_is_refused_and_the_old_database_stays(platform):
    risk = platform.settings.postgres_risk_database
    head = platform.sql(risk, "SELECT version_num FROM alembic_version")[0][0]
    platform.sql(risk, "UPDATE alembic_version SET version_num = '9999'")
    made = make_backup(platform.settings)
    platform.sql(risk, f"UPDATE alembic_version SET version_num = '{head}'")

    with pytest.raises(PlatformError, match="The tables of 'risk' in the backup are of another MBATS than this one"):
        restore(platform.settings, made, ["risk"], say=silent)
    assert platform.sql(risk, "SELECT version_num FROM alembic_version") == [(head,)]
    assert replaced_databases(platform.settings) == []


def test_of_two_at_once_the_second_is_refused(platform):
    made = make_backup(platform.settings)
    refused: list[str] = []

    def say(line: str) -> None:
        with pytest.raises(PlatformError, match="Another restore is under way") as refusal:
            restore(platform.settings, made, ["risk"], say=silent)
        refused.append(str(refusal.value))

    restore(platform.settings, made, ["risk"], drop_old=True, say=say)

    assert refused


def test_where_nobody_can_be_asked_it_does_nothing_without_yes(platform):
    make_backup(platform.settings)

    done = platform.mbats("restore")

    assert done.returncode == 2
    assert "Nobody can be asked here, so nothing was changed. Add --yes." in done.stderr


def test_on_a_terminal_it_asks_and_takes_no_for_an_answer(platform):
    make_backup(platform.settings)
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    try:
        done = subprocess.run(**platform.how("restore") | {"stdin": theirs}, capture_output=True, text=True, timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)

    assert done.returncode == 130
    assert "Replace every database by the backup" in done.stdout
    assert replaced_databases(platform.settings) == []


def test_without_any_backup_it_says_so(platform):
    done = platform.mbats("restore", "--yes")

    assert done.returncode == 2
    assert "No finished backup in the bucket 'backups'. `mbats backup` makes one." in done.stderr
