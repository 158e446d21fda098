"""The restore drill: what was backed up is destroyed and comes back to the last row and right, also after kill -9."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from mbats.objectstore import ObjectStore
from mbats.platform.manifest import list_backups
from mbats.platform.restore import replaced_databases

KILLED_AFTER = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3)  # lines that the restore has said: it loads two databases, then swaps


@pytest.fixture
def names(platform) -> tuple[str, str]:
    return platform.settings.postgres_secmaster_database, platform.settings.postgres_risk_database


def test_everything_that_was_destroyed_comes_back_with_its_owners_and_grants(platform, names):
    secmaster, risk = names
    platform.sql("mlflow", "CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
    sample = platform_workbook(platform)
    before = {name: platform.contents(name) for name in (secmaster, risk, "mlflow")}
    made = platform.mbats("backup")
    assert (made.returncode, made.stderr) == (0, ""), made.stderr

    platform.sql(secmaster, "DROP TABLE bar CASCADE")
    platform.sql("postgres", f'DROP DATABASE "{risk}"')
    platform.sql("mlflow", "DROP TABLE kept")
    overwrite_workbook(platform)
    back = platform.mbats("restore", "--yes")

    assert (back.returncode, back.stderr) == (0, ""), back.stderr
    assert {name: platform.contents(name) for name in before} == before
    assert platform_workbook(platform) == sample
    platform.add_bars("USD_JPY", "2020-01-01", "2020-02-01")  # as the login that ingests
    platform.add_run()
    kept = replaced_databases(platform.settings)
    assert len(kept) == 4  # MLflow has two
    assert all(name in back.stdout for name in kept)
    assert platform.mbats("restore", "--clean", "--yes").returncode == 0
    assert replaced_databases(platform.settings) == []
    platform.sql("mlflow", "DROP TABLE kept")


def counts(platform, names) -> tuple[int, ...]:
    return tuple(len(platform.sql(name, f"SELECT 1 FROM {table}")) for name, table in zip(names, ("bar", "run"), strict=True))


def test_killed_at_any_moment_a_restore_leaves_the_old_or_the_new_and_the_next_one_works(platform, names):
    restore = ("restore", "--yes", "--drop-old", "--database", "secmaster", "--database", "risk")
    listed = ", ".join(f"'{name}_restoring'" for name in names)  # another test may have been killed with one of its own
    unfinished = f"SELECT datname FROM pg_database WHERE datname IN ({listed})"
    saved = {name: platform.contents(name) for name in names}
    new = counts(platform, names)
    assert platform.mbats("backup").returncode == 0
    platform.add_bars("EUR_USD", "2021-01-01", "2022-01-01")
    platform.add_run()
    old = counts(platform, names)
    assert old != new
    moments = random.Random(20_261_123)
    in_the_middle = 0

    for lines in KILLED_AFTER:
        process = platform.start(*restore)
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(moments.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        in_the_middle += bool(platform.sql("postgres", unfinished))
        assert counts(platform, names) in (old, new), lines

    assert in_the_middle
    again = platform.mbats(*restore)
    assert (again.returncode, again.stderr) == (0, "")
    assert {name: platform.contents(name) for name in names} == saved
    assert platform.sql("postgres", unfinished) == []


def test_a_backup_that_was_killed_is_no_backup(platform, names):
    assert platform.mbats("backup").returncode == 0
    (whole,) = list_backups(platform.settings)
    before = counts(platform, names)

    process = platform.start("backup")
    for line in process.stdout:
        if line.startswith("Database"):
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate()

    half, finished = list_backups(platform.settings)
    assert (half.finished, finished) == (False, whole)
    assert "never finished" in platform.mbats("backups").stdout
    refused = platform.mbats("restore", half.name, "--yes")
    assert refused.returncode == 2
    assert f"No backup '{half.name}' in the S3 store" in refused.stderr
    platform.sql(names[0], "DROP TABLE bar CASCADE")
    back = platform.mbats("restore", "--yes", "--database", "secmaster")
    assert back.returncode == 0, back.stderr
    assert f"Backup {whole.name}" in back.stdout
    assert counts(platform, names) == before


def platform_workbook(platform) -> bytes:
    return ObjectStore(platform.settings).get("marketdata", "interested_tickers.xlsx")


def overwrite_workbook(platform) -> None:
    ObjectStore(platform.settings).put("marketdata", "interested_tickers.xlsx", b"no workbook")
