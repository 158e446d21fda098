"""The main job on a platform with a small workbook: download, backtests, reports, and the same again."""

from __future__ import annotations

import io
import re

import pytest
from openpyxl import Workbook
from platforms import Platform

from mbats.database import Database
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
def first(platform: Platform) -> str:
    follow(platform, *((symbol, "2023-01-02") for symbol in SYMBOLS))
    done = platform.mbats("first-run")
    assert done.returncode == 0, done.stdout
    return done.stdout


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


def test_a_second_one_does_nothing_again_and_says_so(platform, first):
    before = recorded_runs(platform)

    done = platform.mbats("first-run")

    assert done.returncode == 0
    assert done.stdout.count("exists, skipped") == 6, "three runs and three reports"
    assert recorded_runs(platform) == before


def test_a_symbol_that_cannot_be_downloaded_is_named_and_the_rest_goes_on_to_the_results(platform, first):
    follow(platform, ("EUR_USD", "2023-01-02"), ("EUR_XXX", "2023-01-02"))

    done = platform.mbats("first-run")

    assert done.returncode == 1
    assert "EUR_XXX" in done.stdout
    assert "Results after spread and financing" in done.stdout
