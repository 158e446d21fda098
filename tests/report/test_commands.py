"""`mbats runs` and `mbats report` as a user calls them: real databases, a real S3 store, a process of their own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from runs import instrument
from samples import random_bars

from mbats.database import Database
from mbats.market import Granularity, bar_starts
from mbats.riskdb.record import record_run
from mbats.riskdb.records import RunResult
from mbats.secmaster.bars import server_time, upsert_bars
from mbats.secmaster.series import retire_series
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings

Mbats = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mbats(settings: Settings) -> Mbats:
    """The command on the platform of this test; nobody listens where its S3 store should be, unless there is one."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MBATS_")}

    def call(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        has_store = "MBATS_S3_PORT" in (settings.home / "platform.env").read_text()
        environment = ours | {"MBATS_HOME": str(settings.home), "COLUMNS": "150"} | ({} if has_store else {"MBATS_S3_PORT": "9"})
        command = [sys.executable, "-m", "mbats.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False, **options)

    return call


@pytest.fixture
def recorded(risk_db: Database, secmaster_db: Database, settings: Settings, make_run) -> list[int]:
    """Three runs in the risk database, with the bars that they read in the securities master."""
    upsert_instruments(secmaster_db, [instrument(name) for name in ("EUR_USD", "GBP_USD")])
    _, bars = make_run()
    for symbol, found in bars.items():
        upsert_bars(secmaster_db, symbol, Granularity.H1, found, vendor="simulator")
    seen = server_time(secmaster_db)
    results = [make_run(seed=1)[0], make_run(seed=2, odds=0)[0], make_run(seed=3)[0]]
    return [record_run(risk_db, as_recorded(result, seen)) for result in results]


def as_recorded(result: RunResult, seen: datetime) -> RunResult:
    # The engine takes the last bar's start for the end of these runs; a stored period is half-open.
    end = datetime(2022, 1, 1, tzinfo=UTC)
    return replace(result, data_source="simulator", data_as_of=seen, spec=replace(result.spec, end=end))


def test_without_a_run_the_list_says_what_to_do(mbats, risk_db):
    done = mbats("runs")

    assert done.returncode == 0, done.stderr
    assert "No run is recorded yet. `mbats backtest sma_cross` makes one" in done.stdout
    assert json.loads(mbats("runs", "--json").stdout) == []


def test_runs_are_listed_newest_first(mbats, recorded):
    done = mbats("runs")
    listed = json.loads(mbats("runs", "--json", "--limit", "2").stdout)

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if "at_random" in line] == [str(run) for run in recorded[::-1]]
    assert [run["run"] for run in listed] == recorded[:0:-1]
    assert listed[1]["trades"] == 0
    assert listed[1]["sharpe"] is None
    assert listed[0]["symbols"] == ["EUR_USD", "GBP_USD"]
    assert datetime.fromisoformat(listed[0]["recorded_at"]).tzinfo is not None
    assert mbats("runs", "--strategy", "nobody").stdout.startswith("No run of 'nobody' is recorded.")


def test_a_report_is_written_and_copied_to_the_store(mbats, recorded, store, settings):
    done = mbats("report", str(recorded[0]))

    file = settings.home / "reports" / f"run-{recorded[0]}.html"
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"Report of run {recorded[0]}: {file}",
        f"Copy: s3://artifacts/reports/run-{recorded[0]}.html",
    ]
    assert file.read_bytes() == store.get("artifacts", f"reports/run-{recorded[0]}.html")
    assert "ECB rates with simulated intraday" in file.read_text(encoding="utf-8")
    assert [name.name for name in file.parent.iterdir()] == [file.name]


def test_a_store_that_does_not_answer_is_said_and_the_file_is_there(mbats, recorded, tmp_path):
    wanted = tmp_path / "pictures" / "mine.html"

    done = mbats("report", str(recorded[0]), "--output", str(wanted))

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Report of run {recorded[0]}: {wanted}\n"
    assert "No copy in the S3 store: No S3 store at http://127.0.0.1:9" in done.stderr
    assert wanted.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_report_shows_the_bars_of_the_run_after_a_broker_has_replaced_the_simulator(mbats, recorded, secmaster_db, tmp_path):
    times = bar_starts(Granularity.H1, datetime(2021, 1, 4, tzinfo=UTC), datetime(2021, 1, 20, tzinfo=UTC))
    retire_series(secmaster_db, "EUR_USD", Granularity.H1)
    upsert_bars(secmaster_db, "EUR_USD", Granularity.H1, random_bars(times, seed=77), vendor="oanda")

    done = mbats("report", str(recorded[0]), "--output", str(tmp_path / "run.html"))

    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "ECB rates with simulated intraday" in page
    assert "400 H1 bars, none left out." in page


def test_an_unknown_run_and_a_place_that_cannot_be_written_are_named(mbats, recorded, tmp_path):
    (tmp_path / "file").write_text("")
    impossible = tmp_path / "file" / "run.html"

    unknown = mbats("report", "4711")
    unwritable = mbats("report", str(recorded[0]), "--output", str(impossible))

    assert (unknown.returncode, unwritable.returncode) == (2, 2)
    assert "No run 4711 in the risk database" in unknown.stderr
    assert f"The report cannot be written to {impossible}" in unwritable.stderr
    assert "Traceback" not in unknown.stderr + unwritable.stderr


def test_a_write_that_fails_half_way_leaves_the_old_report(mbats, recorded, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "run.html").write_text("old")

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = mbats("report", str(recorded[0]), "--output", str(folder / "run.html"), preexec_fn=no_large_files)

    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert [file.name for file in folder.iterdir()] == ["run.html"]
    assert (folder / "run.html").read_text() == "old"
