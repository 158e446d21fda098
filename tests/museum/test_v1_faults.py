"""The fault museum: each fault of the 2020 version that what is built can meet, by its number, so that nobody brings it back.

Faults 2, 3 (labels, splits), 11 and 12 (live trading) stand with the parts that they belong to.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa
import yaml
from fakes import TOKEN, FakeOanda, candle, fake_bars
from pydantic import SecretStr
from runs import instrument, run, strategy

from mbats.cli import COMMANDS, mbats
from mbats.ingest import update_bars
from mbats.ingest.plan import BarRequest
from mbats.market import Bars, Granularity, bar_starts, to_us
from mbats.oanda import OandaClient
from mbats.oanda.parse import parse_candles
from mbats.oanda.source import OandaSource
from mbats.secmaster.bars import load_bars, upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import PROJECT_ROOT, Settings
from mbats.trading.strategies import load_strategy

STRATEGIES = PROJECT_ROOT / "strategies"
START, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)


def walk(count: int, *, base: float = 1.1, digits: int = 5, daily: float = 0.006, seed: int = 0) -> Bars:
    rng = np.random.default_rng(seed)
    times = bar_starts(Granularity.D, datetime(2016, 1, 1, tzinfo=UTC), END)[:count]
    close = base * np.exp(np.cumsum(rng.normal(0, daily, count)))
    open_ = np.r_[base, close[:-1]] * (1 + rng.normal(0, daily / 10, count))
    high, low = np.maximum(open_, close) * (1 + daily / 3), np.minimum(open_, close) * (1 - daily / 3)
    spread = 2 * 10.0 ** (1 - digits)
    return Bars.from_mid(times, *(np.round(x, digits) for x in (open_, high, low, close)), np.full(count, 9), spread=spread)


def stored(secmaster_db, **bars: Bars) -> None:
    upsert_instruments(secmaster_db, [instrument(name) for name in bars])
    for name, found in bars.items():
        upsert_bars(secmaster_db, name, Granularity.D, found, vendor="test")


def command(settings: Settings, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MBATS_HOME": str(settings.home), **changes}
    line = [sys.executable, "-m", "mbats.cli", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_fault_01_the_open_a_strategy_sees_is_the_open_and_the_close_is_the_close(secmaster_db):
    watcher = strategy(
        "import backtrader as bt\n\n\nclass Watcher(bt.Strategy):\n    seen = []\n\n    def next(self):\n"
        "        d = self.data\n        type(self).seen.append((d.open[0], d.high[0], d.low[0], d.close[0]))\n"
    )
    bars = walk(30)
    stored(secmaster_db, EUR_USD=bars)

    run(watcher, {"EUR_USD": load_bars(secmaster_db, "EUR_USD", Granularity.D, start=START, end=END)})

    expected = np.stack([bars.mid_open, bars.mid_high, bars.mid_low, bars.mid_close], axis=1)
    assert len({tuple(row) for row in expected.T}) == 4, "the four columns must differ, or the test sees nothing"
    np.testing.assert_array_equal(watcher.cls.seen, expected)


def test_fault_04_the_stop_of_every_symbol_is_its_own_atr_away():
    bars = {"EUR_USD": walk(2500), "USD_JPY": walk(2500, base=150.0, digits=3, seed=1)}

    result = run(load_strategy("rsi_stochastic", STRATEGIES), bars, stop_atr=2.0)

    stops = {name: [] for name in bars}
    for trade in result.trades:
        last = (
            next(f for f in result.fills if f.symbol == trade.symbol and f.time == trade.closed_at) if trade.closed_at else None
        )
        if last is not None and last.purpose == "stop":
            stops[trade.symbol].append(abs(float(trade.open_price - trade.close_price)))
    assert len(stops["EUR_USD"]) > 5
    assert len(stops["USD_JPY"]) > 5
    # Both move alike in percent, so a yen stop is about 150 / 1.1 as far in price; the 2020 one was a hundredth of that.
    assert 50 < np.median(stops["USD_JPY"]) / np.median(stops["EUR_USD"]) < 400


def test_fault_05_a_run_trades_bars_of_the_length_it_says_and_no_other(secmaster_db, risk_db, settings):
    stored(secmaster_db, EUR_USD=walk(200))
    hours = bar_starts(Granularity.H1, datetime(2016, 1, 4, tzinfo=UTC), datetime(2016, 2, 1, tzinfo=UTC))
    level = np.linspace(1.1, 1.2, len(hours))
    flat = Bars.from_mid(hours, level, level, level, level, np.ones(len(hours)), spread=0.0002)
    upsert_bars(secmaster_db, "EUR_USD", Granularity.H1, flat, vendor="test")

    done = command(settings, "backtest", "_template", "--symbols", "EUR_USD", "--granularity", "H1", "--json")

    figures = json.loads(done.stdout)
    assert (figures["granularity"], figures["bars"]) == ("H1", len(hours))
    with risk_db.begin() as connection:
        times = set(connection.scalars(sa.text("SELECT time FROM fill")))
    assert times
    assert {to_us(time) for time in times} <= set(hours)


def test_fault_06_a_parameter_given_to_a_run_reaches_the_strategy_and_the_record(secmaster_db, risk_db, settings):
    stored(secmaster_db, EUR_USD=walk(200))

    runs = [
        json.loads(command(settings, "backtest", "_template", "--symbols", "EUR_USD", "--param", f"period={n}", "--json").stdout)
        for n in (5, 50)
    ]

    with risk_db.begin() as connection:
        kept = connection.scalars(sa.text("SELECT parameters FROM run ORDER BY id")).all()
    assert [parameters["period"] for parameters in kept] == [5, 50]
    assert runs[0]["trades"] != runs[1]["trades"]


def test_fault_07_costs_are_charged_unless_someone_says_otherwise(secmaster_db, risk_db, settings):
    stored(secmaster_db, EUR_USD=walk(300))

    usual = json.loads(command(settings, "backtest", "sma_cross", "--symbols", "EUR_USD", "--param", "slow=30", "--json").stdout)

    assert Decimal(usual["spread_cost"]) > 0
    assert Decimal(usual["financing"]) < 0


def test_fault_08_a_bar_that_still_forms_is_not_stored_and_the_same_bars_twice_are_stored_once(secmaster_db):
    bars = fake_bars(Granularity.D, "2024-03-03", 5)
    payload = {"candles": [candle(bars, i, complete=i < 4) for i in range(5)]}
    upsert_instruments(secmaster_db, [instrument("EUR_USD")])

    for _ in range(2):
        upsert_bars(secmaster_db, "EUR_USD", Granularity.D, parse_candles(payload), vendor="test")

    kept = load_bars(secmaster_db, "EUR_USD", Granularity.D, start=START, end=END)
    np.testing.assert_array_equal(kept.time, bars.time[:4])


def test_fault_09_a_stray_day_of_the_weekend_is_not_stored_as_a_bar(secmaster_db):
    week = fake_bars(Granularity.D, "2024-03-03", 5)
    friday_evening = week.time[-1:] + np.timedelta64(1, "D")
    stub = Bars(
        friday_evening,
        *(getattr(week[-1:], f"{s}_{p}") for s in ("bid", "ask") for p in ("open", "high", "low", "close")),
        np.array([3]),
    )
    oanda = FakeOanda({("EUR_USD", "D"): Bars.concatenate([week, stub])}, now="2024-04-01")
    source = OandaSource(OandaClient(oanda.url, SecretStr(TOKEN)), vendor="oanda")

    try:
        (outcome,) = update_bars(secmaster_db, source, [BarRequest("EUR_USD", Granularity.D, START)])
    finally:
        source.close()
        oanda.close()

    assert outcome.status == "ok", outcome.message
    kept = load_bars(secmaster_db, "EUR_USD", Granularity.D, start=START, end=END)
    np.testing.assert_array_equal(kept.time, week.time)


def test_fault_10_a_parameter_that_is_false_is_false(secmaster_db):
    switch = strategy(
        "import backtrader as bt\n\n\nclass Switch(bt.Strategy):\n    params = dict(ml_serving=True)\n\n    def next(self):\n"
        "        if self.p.ml_serving:\n            raise RuntimeError('served')\n"
    )

    result = run(switch, {"EUR_USD": walk(5)}, **switch.parameters({"ml_serving": "False"}))

    assert result.performance.bars == 5


def test_fault_13_a_run_without_trades_is_recorded_with_no_ratio_of_them(secmaster_db, risk_db, settings):
    stored(secmaster_db, EUR_USD=walk(3))

    done = command(settings, "backtest", "sma_cross", "--symbols", "EUR_USD", "--json")

    assert done.returncode == 0, done.stderr
    with risk_db.begin() as connection:
        row = connection.execute(sa.text("SELECT trades, profit_factor, expectancy, sharpe FROM performance")).one()
    assert tuple(row) == (0, None, None, None)


@pytest.mark.parametrize("name", COMMANDS)
def test_fault_14_no_command_takes_a_secret_as_an_argument(name):
    import click

    found = mbats.get_command(click.Context(mbats), name)

    assert found is not None
    words = {word for parameter in found.params for option in parameter.opts for word in option.strip("-").split("-")}
    assert not words & {"token", "password", "secret", "key"}


def test_fault_14_there_is_no_default_password_and_settings_print_none(settings):
    secrets = {name: field for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}

    assert len(secrets) >= 8
    assert all(field.default is None for field in secrets.values())
    printed = repr(settings) + str(settings)
    assert all(getattr(settings, name).get_secret_value() not in printed for name in secrets if getattr(settings, name))


def test_fault_14_a_symbol_is_never_read_as_sql(secmaster_db, settings):
    stored(secmaster_db, EUR_USD=walk(3))

    done = command(settings, "backtest", "_template", "--symbols", "EUR_USD'; DROP TABLE bar; --")

    assert done.returncode == 2
    assert len(load_bars(secmaster_db, "EUR_USD", Granularity.D, start=START, end=END)) == 3


def test_fault_15_a_symbol_that_fails_is_named_while_the_others_go_on(secmaster_db):
    oanda = FakeOanda({("EUR_USD", "D"): fake_bars(Granularity.D, "2024-03-03", 50)}, now="2024-06-01")
    source = OandaSource(OandaClient(oanda.url, SecretStr(TOKEN)), vendor="oanda")

    try:
        outcomes = update_bars(secmaster_db, source, [BarRequest(n, Granularity.D, START) for n in ("EUR_UDS", "EUR_USD")])
    finally:
        source.close()
        oanda.close()

    assert [outcome.status for outcome in outcomes] == ["failed", "ok"]
    assert "EUR_UDS" in (outcomes[0].message or "")
    assert outcomes[1].inserted == 50


def test_fault_15_the_command_ends_with_failure_when_a_symbol_has_failed(secmaster_db, settings):
    oanda = FakeOanda({("EUR_USD", "D"): fake_bars(Granularity.D, "2024-03-03", 50)}, now="2024-06-01")
    (settings.home / "secrets" / "mbats_simulator_token").write_text(TOKEN)
    day = f"{datetime.now(UTC) - timedelta(days=4000):%Y-%m-%d}"

    try:
        done = command(settings, "ingest", "--symbols", "EUR_USD,EUR_UDS", "--from", day, MBATS_SIMULATOR_PORT=str(oanda.port))
    finally:
        oanda.close()

    assert done.returncode == 1
    assert "EUR_UDS" in done.stderr
    assert len(load_bars(secmaster_db, "EUR_USD", Granularity.D, start=START, end=END)) == 50


@pytest.mark.parametrize("file", sorted((PROJECT_ROOT / "airflow" / "dags").glob("*.py")), ids=lambda file: file.stem)
def test_fault_16_a_dag_file_speaks_to_no_store_while_it_is_parsed(file):
    imported = set()
    for line in ast.parse(file.read_text()).body:  # what stands in a task is imported when the task runs
        imported |= {name.name for name in line.names} if isinstance(line, ast.Import) else set()
        imported |= {str(line.module)} if isinstance(line, ast.ImportFrom) else set()

    assert not [name for name in imported if name.split(".")[0] not in ("__future__", "airflow", "datetime", "typing")]


COMPOSE = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("name", COMPOSE)
def test_fault_17_every_image_is_pinned_or_built_here_and_none_is_abandoned(name):
    image = COMPOSE[name]["image"]
    default = image.partition(":-")[2].removesuffix("}") if image.startswith("${MBATS_") else image

    assert default.endswith(":local") or re.search(r":[^:/]*\d+\.\d+|:RELEASE\.", default), default
    assert not default.startswith("minio/minio"), "it was deleted from its registry"


@pytest.mark.parametrize("name", [name for name, service in COMPOSE.items() if service.get("ports")])
def test_fault_17_what_is_published_is_looked_after_and_for_this_machine_alone(name):
    service = COMPOSE[name]

    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])
