"""From stored bars to a recorded run and back, on a real PostgreSQL: recorded once, whole, and repeatable."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa
from runs import instrument

from mbats.database import Database
from mbats.market import Bars, Granularity, bar_starts
from mbats.riskdb.record import list_runs, load_run
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import PROJECT_ROOT, Settings
from mbats.trading.backtest import Costs, backtest, reproduce, specify
from mbats.trading.strategies import load_strategy

STRATEGIES = PROJECT_ROOT / "strategies"


def walk(symbol: str, seed: int, count: int = 900) -> Bars:
    rng = np.random.default_rng(seed)
    base, digits, spread = (150.0, 3, 0.02) if symbol.endswith("JPY") else (1.1, 5, 0.0002)
    times = bar_starts(Granularity.D, datetime(2018, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))[:count]
    close = base * np.exp(np.cumsum(rng.normal(0, 0.006, count)))
    open_ = np.r_[base, close[:-1]]
    high = np.maximum(open_, close) * 1.002
    low = np.minimum(open_, close) * 0.998
    return Bars.from_mid(times, *(np.round(x, digits) for x in (open_, high, low, close)), np.full(count, 50), spread=spread)


@pytest.fixture
def stored(secmaster_db: Database, risk_db: Database, settings: Settings) -> Settings:
    """A platform whose securities master holds three pairs."""
    names = ["EUR_USD", "GBP_USD", "USD_JPY"]
    upsert_instruments(secmaster_db, [instrument(name) for name in names])
    for seed, name in enumerate(names):
        upsert_bars(secmaster_db, name, Granularity.D, walk(name, seed), vendor="test")
    return settings


@pytest.fixture
def reader(stored: Settings) -> Iterator[Database]:
    """The securities master, as the login that backtests."""
    with closing(Database(stored, "secmaster", "trading")) as database:
        yield database


def one_run(reader: Database, writer: Database, name: str = "sma_cross", **changes: object):
    strategy = load_strategy(name, STRATEGIES)
    asked = {
        "symbols": ["EUR_USD", "USD_JPY"],
        "granularity": Granularity.D,
        "start": None,
        "end": datetime(2022, 1, 1, tzinfo=UTC),
        "cash": Decimal(100_000),
        "currency": "USD",
        "parameters": strategy.defaults(),
        "costs": Costs(),
        "seed": 7,
    }
    spec = specify(reader, strategy, **{**asked, **changes})
    return backtest(reader, writer, strategy, spec)


def mbats(settings: Settings, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, in a process of its own."""
    environment = {**os.environ, "MBATS_HOME": str(settings.home)}
    command = [sys.executable, "-m", "mbats.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False, **options)


def test_a_recorded_run_is_read_back_as_it_was_and_can_be_repeated(reader, risk_db):
    run_id, result = one_run(reader, risk_db)

    again = reproduce(reader, risk_db, run_id, STRATEGIES)

    assert len(result.fills) > 10
    assert load_run(risk_db, run_id).fills == result.fills
    assert again.differences == ()


def test_a_run_is_repeated_on_the_bars_as_they_stood_after_the_vendor_revised_them(reader, risk_db, secmaster_db):
    run_id, result = one_run(reader, risk_db)
    revised = walk("EUR_USD", seed=99)

    counts = upsert_bars(secmaster_db, "EUR_USD", Granularity.D, revised, vendor="test")
    _, on_new_bars = one_run(reader, risk_db)

    assert counts.revised > 800
    assert on_new_bars.fills != result.fills
    assert reproduce(reader, risk_db, run_id, STRATEGIES).differences == ()


def test_a_run_is_repeated_from_its_own_text_after_the_file_was_edited(reader, risk_db, tmp_path):
    run_id, _ = one_run(reader, risk_db)
    (tmp_path / "sma_cross.py").write_text("raise RuntimeError('edited')\n")

    assert reproduce(reader, risk_db, run_id, tmp_path).differences == ()


def test_a_row_changed_behind_our_back_shows_as_a_difference(stored, reader, risk_db):
    run_id, _ = one_run(reader, risk_db)
    with closing(Database(stored, "secmaster", "owner")) as owner, owner.begin() as connection:
        connection.execute(sa.text("UPDATE bar SET ask_close = ask_close * 1.01, ask_high = ask_high * 1.02"))

    assert "the bars differ" in reproduce(reader, risk_db, run_id, STRATEGIES).differences[0]


def test_the_command_records_a_run_that_balances_to_the_cent(stored):
    done = mbats(stored, "backtest", "rsi_stochastic", "--symbols", "EUR_USD,GBP_USD,USD_JPY", "--slippage", "pips:0.3", "--json")

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    money = {
        key: Decimal(str(figures[key]))
        for key in ("starting_cash", "ending_nav", "gross_pnl", "spread_cost", "slippage_cost", "financing")
    }
    gained = money["gross_pnl"] - money["spread_cost"] - money["slippage_cost"] + money["financing"]
    assert money["ending_nav"] - money["starting_cash"] == gained
    assert figures["trades"] > 10
    assert money["spread_cost"] > 0
    assert money["slippage_cost"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backtest", "sma_corss"], "Did you mean 'sma_cross'?"),
        (["backtest", "sma_cross", "--param", "fats=3"], "Did you mean 'fast'?"),
        (["backtest", "sma_cross", "--param", "fast=x"], "takes a whole number (default 20), but got 'x'"),
        (["backtest", "sma_cross", "--param", "fast"], "is not of the form name=value"),
        (["backtest", "sma_cross", "--symbols", "EUR_UDS"], "Did you mean 'EUR_USD'?"),
        (["backtest", "sma_cross", "--granularity", "M3"], "No granularity 'M3'"),
        (["backtest", "sma_cross", "--from", "2035-01-01", "--to", "2035-02-01", "--symbols", "EUR_USD"], "No D bars of EUR_USD"),
        (["backtest", "sma_cross", "--from", "2020-02-01", "--to", "2020-01-01"], "is not before --to"),
        (["backtest", "sma_cross", "--from", "soon"], "'soon' is no date"),
        (["backtest", "sma_cross", "--cash", "0"], "must be more than zero"),
        (["backtest", "sma_cross", "--slippage", "lots"], "Known: none, pips:0.2"),
        (["reproduce", "4711"], "4711"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence_and_nothing_is_recorded(stored, risk_db, arguments, message):
    done = mbats(stored, *arguments)

    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list_runs(risk_db, limit=5) == []


def test_reproduce_says_so_and_ends_with_zero(stored, reader, risk_db):
    run_id, _ = one_run(reader, risk_db)

    done = mbats(stored, "reproduce", str(run_id))

    assert done.returncode == 0, done.stderr
    assert f"Run {run_id} reproduced" in done.stdout


FORKER = """
import os, sys
import mbats.cli.backtest, mbats.trading.backtest as backtest
from mbats.cli import main

record = backtest.record_run

def announced(*arguments):
    print("recording", flush=True)
    return record(*arguments)

backtest.record_run = announced
sys.argv = ["mbats", "backtest", "sma_cross", "--symbols", "EUR_USD,USD_JPY", "--json"]
for _ in sys.stdin:
    child = os.fork()
    if not child:
        main()
        os._exit(0)
    print(f"started {child}", flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_backtest_killed_at_any_moment_leaves_no_half_of_a_run(stored, risk_db):
    """Fifty times `kill -9`: one in five anywhere on the way, the others while the rows are written."""
    environment = {**os.environ, "MBATS_HOME": str(stored.home)}
    draw = random.Random(1)
    with subprocess.Popen(
        [sys.executable, "-c", FORKER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forker:
        assert forker.stdin is not None
        assert forker.stdout is not None
        for attempt in range(50):
            print(attempt, file=forker.stdin, flush=True)
            child = int(next(line for line in forker.stdout if line.startswith("started")).split()[1])
            if attempt % 5:
                next(line for line in forker.stdout if line.startswith(("recording", "ended")))
                time.sleep(draw.uniform(0, 0.12))
            else:
                time.sleep(draw.uniform(0, 1.0))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            next(line for line in forker.stdout if line.startswith("ended"))
        forker.stdin.close()

    with risk_db.begin() as connection:
        runs = set(connection.scalars(sa.text("SELECT id FROM run")))
        for table in ("fill", "trade", "position", "equity", "performance"):
            assert set(connection.scalars(sa.text(f"SELECT DISTINCT run_id FROM {table}"))) == runs, table
    whole = [load_run(risk_db, run_id) for run_id in runs]
    assert len({(len(r.fills), len(r.trades), len(r.equity.time), r.performance.ending_nav) for r in whole}) <= 1
    assert mbats(stored, "backtest", "sma_cross", "--symbols", "EUR_USD,USD_JPY").returncode == 0
