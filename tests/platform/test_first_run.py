"""The main job on a platform with a small workbook: download, backtests, reports, a strategy on paper, and the same again."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from free_ports import first_of_many
from openpyxl import Workbook
from platforms import SERVICES, Platform, eventually

from mbats.cli.first_run import PAPER_PARAMETERS
from mbats.database import Database
from mbats.live.gate import Limits
from mbats.objectstore import ObjectStore
from mbats.riskdb.record import list_runs

SYMBOLS = ("EUR_USD", "GBP_USD", "USD_JPY", "AUD_USD", "NZD_USD", "USD_CAD", "USD_CHF")


def workbook(*rows: tuple[str, str]) -> bytes:
    book = Workbook()
    book.active.title = "daily"
    for row in (("symbol", "start"), *rows):
        book.active.append(row)
    book.create_sheet("minute").append(("symbol",))
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def follow(platform: Platform, *rows: tuple[str, str]) -> None:
    ObjectStore(platform.settings()).put("marketdata", "interested_tickers.xlsx", workbook(*rows))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a trader that is up, shared by the tests of this module."""
    platform = Platform(tmp_path_factory.mktemp("platform") / "state of one", services=",".join((*SERVICES, "trader")))
    platform.prefer_ports(first_of_many())
    done = platform.mbats("up")
    assert done.returncode == 0, done.stdout
    yield platform
    platform.kill()


@pytest.fixture(scope="module")
def first(platform: Platform) -> str:
    follow(platform, *((symbol, "2023-01-02") for symbol in SYMBOLS))
    done = platform.mbats("first-run")
    assert done.returncode == 0, done.stdout
    return done.stdout


def deployed(platform: Platform) -> dict[str, Any]:
    """The only deployment that there is."""
    (found,) = json.loads(platform.mbats("deployments", "--json").stdout)
    return dict(found)


def recorded_runs(platform: Platform) -> list[int]:
    risk = Database(platform.settings(), "risk", "trading")
    try:
        return [run.run_id for run in list_runs(risk, limit=100)]
    finally:
        risk.close()


def test_the_first_run_ends_with_results_reports_next_steps_and_where_the_passwords_are(platform, first):
    for strategy in ("rsi_stochastic", "sma_cross", "momentum_rotation"):
        assert re.search(rf"{strategy} +\d, D +\d+", first), f"no line of results for {strategy}"
    assert "ECB rates with simulated intraday" in first
    assert f"the files in {platform.home}/secrets that hold the passwords" in first
    assert f"127.0.0.1:{platform.settings().postgres_port}" in first


def test_every_run_of_it_is_recorded_and_has_a_report_with_a_copy_in_the_store(platform, first):
    numbers = recorded_runs(platform)

    assert len(numbers) == 3
    for number in numbers:
        page = platform.home / "reports" / f"run-{number}.html"
        assert str(page) in first
        assert page.read_bytes() == ObjectStore(platform.settings()).get("artifacts", f"reports/run-{number}.html")


def test_a_strategy_trades_on_paper_at_the_end_of_it(platform, first):
    assert "'first' is deployed on account 'paper', paper money (simulator): rsi_stochastic on EUR_USD, bars of M5." in first
    assert "mbats deployments\n" in first
    wanted = {"mode": "paper", "state": "live", "trading": "ACTIVE", "reason": ""}
    assert eventually(lambda: wanted.items() <= deployed(platform).items()), deployed(platform)


def test_its_order_passes_the_limits_of_the_gate_in_the_calmest_hour(platform, first):
    """The smallest ATR that the sample market has, of 14 bars of five minutes of EUR_USD since September 2026, is 0.000059."""
    nav, risk, atr, price, limits = 100_000, 0.0002, 0.000059, 1.15, Limits()

    units = nav * risk / (2 * atr)

    assert f"risk={risk}" in PAPER_PARAMETERS
    assert units < limits.max_order_units
    assert units * price < limits.max_order_notional * nav


def test_a_second_one_does_nothing_again_and_says_so(platform, first):
    before = recorded_runs(platform)

    done = platform.mbats("first-run")

    assert done.returncode == 0
    assert done.stdout.count("exists, skipped") == 6, "three runs and three reports"
    assert "'first' is deployed already, skipped." in done.stdout
    assert recorded_runs(platform) == before
    assert deployed(platform)["name"] == "first"


def test_what_a_user_stopped_is_not_started_again(platform, first):
    platform.mbats("stop", "first")

    done = platform.mbats("first-run")

    assert "'first' is deployed already, skipped." in done.stdout
    assert deployed(platform)["desired"] == "stopped"
    platform.mbats("start", "first")


@pytest.mark.parametrize(
    "setting", [{"MBATS_SERVICES": ",".join(SERVICES)}, {"MBATS_ACCOUNTS": "mine=simulator"}], ids=["no trader", "no account"]
)
def test_nothing_is_put_on_paper_where_there_is_no_trader_or_no_such_account(platform, first, setting):
    done = platform.mbats("first-run", **setting)

    assert done.returncode == 0
    assert "deployed" not in done.stdout and "mbats deployments" not in done.stdout


def test_a_trader_that_does_not_answer_is_named_and_the_rest_is_done(platform, first):
    done = platform.mbats("first-run", MBATS_TRADER_PORT="1")

    assert done.returncode == 1
    assert "The trader at http://127.0.0.1:1 does not answer" in done.stdout
    assert "Results after spread and financing" in done.stdout
    assert "Look next" in done.stdout


def test_a_symbol_that_cannot_be_downloaded_is_named_and_the_rest_goes_on_to_the_results(platform, first):
    follow(platform, ("EUR_USD", "2023-01-02"), ("EUR_XXX", "2023-01-02"))

    done = platform.mbats("first-run")

    assert done.returncode == 1
    assert "EUR_XXX" in done.stdout
    assert "Results after spread and financing" in done.stdout
