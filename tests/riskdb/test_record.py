"""Runs in the risk database: whole or not at all, and equal to what was recorded."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa

from mbats.database import Database, admin_connection
from mbats.errors import DataError, PlatformError, UnknownRun
from mbats.riskdb.copy import copy_rows
from mbats.riskdb.record import list_runs, load_run, record_run
from mbats.riskdb.records import RunResult
from mbats.riskdb.tables import metadata
from mbats.settings import Settings

MakeRun = Callable[..., RunResult]


def assert_equal(found: RunResult, expected: RunResult) -> None:
    for field in fields(RunResult):
        if field.name == "equity":
            for column in fields(expected.equity):
                np.testing.assert_array_equal(getattr(found.equity, column.name), getattr(expected.equity, column.name))
                assert getattr(found.equity, column.name).dtype == getattr(expected.equity, column.name).dtype
        else:
            assert getattr(found, field.name) == getattr(expected, field.name), field.name


def rows(db: Database) -> dict[str, int]:
    with db.begin() as connection:
        return {name: connection.scalar(sa.select(sa.func.count()).select_from(table)) for name, table in metadata.tables.items()}


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_run_comes_back_equal_to_the_last_digit(risk_db: Database, make_run: MakeRun, seed: int) -> None:
    result = make_run(seed)

    run_id = record_run(risk_db, result)

    assert_equal(load_run(risk_db, run_id), result)


@pytest.mark.parametrize(
    "size",
    [
        {"fills": 0, "trades": 0},
        {"bars": 1, "fills": 0, "trades": 0},
        {"bars": 0, "fills": 0, "trades": 0},
        {"bars": 1, "fills": 1},
    ],
)
def test_a_run_with_no_trades_or_one_bar_is_a_record_like_any_other(
    risk_db: Database, make_run: MakeRun, size: dict[str, int]
) -> None:
    result = make_run(2, **size)

    found = load_run(risk_db, record_run(risk_db, result))

    assert_equal(found, result)
    if not result.trades:
        assert found.performance.sharpe is None
        assert found.performance.expectancy is None


def test_figures_of_numpy_are_recorded_as_numbers(risk_db: Database, make_run: MakeRun) -> None:
    result = make_run(3)
    odd = replace(result.performance, sharpe=np.float64(1.25), exposure=np.float64(0.1), bars=np.int64(500))

    found = load_run(risk_db, record_run(risk_db, replace(result, performance=odd)))

    assert (found.performance.sharpe, found.performance.exposure, found.performance.bars) == (1.25, 0.1, 500)


def test_runs_do_not_mix(risk_db: Database, make_run: MakeRun) -> None:
    results = [make_run(seed, bars=seed * 10, fills=seed, trades=seed) for seed in range(1, 5)]

    numbers = [record_run(risk_db, result) for result in results]

    assert len(set(numbers)) == 4
    for number, result in zip(numbers, results, strict=True):
        assert_equal(load_run(risk_db, number), result)


def test_a_long_run_is_recorded_and_read_in_seconds(risk_db: Database, make_run: MakeRun) -> None:
    result = make_run(4, bars=200_000, fills=5_000, trades=2_500)

    began = time.perf_counter()
    found = load_run(risk_db, record_run(risk_db, result))
    seconds = time.perf_counter() - began

    assert_equal(found, result)
    assert seconds < 10


# --- Books that do not add up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", ["ending_nav", "starting_cash", "gross_pnl", "spread_cost", "slippage_cost", "financing"])
def test_a_run_whose_sums_are_off_by_a_hundredth_of_a_cent_is_refused_whole(
    risk_db: Database, make_run: MakeRun, figure: str
) -> None:
    result = make_run(5)
    wrong = replace(result.performance, **{figure: getattr(result.performance, figure) + Decimal("0.0001")})

    with pytest.raises(
        DataError, match=r"run of 'sma_cross' contradicts itself and was not recorded: .*(performance_adds_up|foreign key)"
    ):
        record_run(risk_db, replace(result, performance=wrong))

    assert set(rows(risk_db).values()) == {0}


@pytest.mark.parametrize("figure", ["gross_pnl", "spread_cost", "slippage_cost", "financing", "net_pnl"])
def test_a_trade_whose_sums_are_off_is_refused(risk_db: Database, make_run: MakeRun, figure: str) -> None:
    result = make_run(6)
    wrong = replace(result.trades[7], **{figure: getattr(result.trades[7], figure) + Decimal("0.0001")})

    with pytest.raises(DataError, match="trade_adds_up"):
        record_run(risk_db, replace(result, trades=(*result.trades[:7], wrong, *result.trades[8:])))

    assert set(rows(risk_db).values()) == {0}


def test_the_cash_of_the_figures_is_the_cash_of_the_run(risk_db: Database, make_run: MakeRun) -> None:
    result = make_run(7)
    shifted = replace(result.performance, starting_cash=Decimal(1), ending_nav=1 + result.performance.net_pnl)

    with pytest.raises(DataError, match="foreign key"):
        record_run(risk_db, replace(result, performance=shifted))


# --- Lists -----------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(risk_db: Database, make_run: MakeRun) -> None:
    numbers = [record_run(risk_db, make_run(seed, strategy=name)) for seed, name in enumerate(["a", "b", "a"], start=1)]

    assert [run.run_id for run in list_runs(risk_db, limit=10)] == numbers[::-1]
    assert [run.run_id for run in list_runs(risk_db, limit=1)] == numbers[-1:]
    assert [run.run_id for run in list_runs(risk_db, limit=10, strategy="a")] == [numbers[2], numbers[0]]
    assert list_runs(risk_db, limit=10, strategy="c") == []


def test_a_listed_run_carries_what_a_table_of_runs_shows(risk_db: Database, make_run: MakeRun) -> None:
    result = make_run(8)
    run_id = record_run(risk_db, result)

    (listed,) = list_runs(risk_db, limit=10)

    assert (listed.run_id, listed.mode, listed.strategy, listed.granularity) == (run_id, "backtest", "sma_cross", "M1")
    assert (listed.symbols, listed.parameters) == (result.spec.symbols, result.spec.parameters)
    assert (listed.start, listed.end) == (result.spec.start, result.spec.end)
    for name in ("trades", "net_pnl", "total_return", "sharpe", "max_drawdown"):
        assert getattr(listed, name) == getattr(result.performance, name)
    assert listed.in_sample == result.in_sample
    assert abs((listed.recorded_at - result.started_at).days) < 3650


def test_an_unknown_run_is_refused_with_the_newest_that_is_known(risk_db: Database, make_run: MakeRun) -> None:
    with pytest.raises(UnknownRun, match=r"No run 7 .* None is recorded yet"):
        load_run(risk_db, 7)
    run_id = record_run(risk_db, make_run(1, bars=1, fills=0, trades=0))

    with pytest.raises(UnknownRun, match=rf"No run {run_id + 1} .* The newest is {run_id}; `mbats runs`"):
        load_run(risk_db, run_id + 1)


# --- The end of a process ------------------------------------------------------------------------------------------------


def test_a_server_that_goes_away_while_rows_are_copied_is_one_plain_error(settings: Settings, risk_db: Database) -> None:
    with pytest.raises(PlatformError, match="went away in the middle"), risk_db.begin() as connection:
        with closing(admin_connection(settings)) as admin, admin.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mbats_trading'")
        copy_rows(connection, metadata.tables["position"], ["run_id", "seq"], [(1, 1)])

    assert set(rows(risk_db).values()) == {0}


RECORDER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("samples_of_runs", sys.argv[2]); module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from mbats.database import Database
from mbats.riskdb.record import record_run
from mbats.settings import load_settings
db = Database(load_settings(home=sys.argv[1]), "risk", "trading")
result = module.make_result(1, bars=20_000, fills=500, trades=250)
with db.begin(): pass
print("started", flush=True)
while True: record_run(db, result)
"""


def test_a_process_killed_while_it_records_leaves_no_half_run(settings: Settings, risk_db: Database) -> None:
    samples = settings.root / "tests" / "riskdb" / "conftest.py"
    random = np.random.default_rng()
    for _ in range(4):
        recorder = subprocess.Popen(
            [sys.executable, "-c", RECORDER, str(settings.home), str(samples)], stdout=subprocess.PIPE, text=True
        )
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "started\n"
        time.sleep(random.uniform(0.05, 0.6))

        recorder.kill()
        recorder.wait()
        recorder.stdout.close()

        found = rows(risk_db)
        runs = found.pop("run")
        assert found == dict.fromkeys(found, 0) | {
            "fill": 500 * runs,
            "trade": 250 * runs,
            "position": 500 * runs,
            "model_decision": 250 * runs,
            "equity": 20_000 * runs,
            "equity_curve": 250 * runs,
            "performance": runs,
        }
