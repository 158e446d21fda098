"""`mbats ingest` and `mbats coverage` as a user meets them: what they print, and what they end with."""

from __future__ import annotations

import json
import signal
import time
from io import BytesIO

import numpy as np
import pytest
import sqlalchemy as sa
from fakes import fake_bars
from openpyxl import Workbook

from mbats.cli import main
from mbats.ingest.tickers import WORKBOOK
from mbats.market import Granularity, parse_utc
from mbats.secmaster.bars import load_bars
from mbats.secmaster.tables import ingest_run
from mbats.settings import get_settings

D, M1 = Granularity.D, Granularity.M1
DAYS = fake_bars(D, "2020-01-01", 800)
MINUTES = fake_bars(M1, "2024-01-02", 12_000)


@pytest.fixture
def oanda(oanda):
    oanda.bars = {("EUR_USD", "D"): DAYS, ("USD_JPY", "D"): DAYS, ("EUR_USD", "M1"): MINUTES}
    return oanda


def workbook(**tabs: list[str]) -> bytes:
    book = Workbook()
    book.remove(book.worksheets[0])
    for tab, symbols in tabs.items():
        sheet = book.create_sheet(tab)
        for row in ["symbol", *symbols]:
            sheet.append((row,))
    content = BytesIO()
    book.save(content)
    return content.getvalue()


def test_ingest_downloads_the_symbols_that_are_named_and_says_so(mbats, secmaster_db):
    done = mbats("ingest", "--symbols", "EUR_USD,USD_JPY", "--granularity", "D", "--from", "2020-01-01")

    assert (done.returncode, done.stderr) == (0, "")
    assert "EUR_USD D: 800 new, 0 revised" in done.stdout
    assert "USD_JPY D: 800 new, 0 revised" in done.stdout
    assert len(load_bars(secmaster_db, "USD_JPY", D, start=parse_utc("2020-01-01"), end=parse_utc("2030-01-01"))) == 800


def test_a_bad_ticker_is_named_the_others_go_on_and_the_exit_code_says_so(mbats):
    done = mbats("ingest", "--symbols", "EUR_USDD,USD_JPY", "--from", "2020-01-01")

    assert done.returncode == 1
    assert "mbats: EUR_USDD D: No symbol 'EUR_USDD' in the instruments of 'simulator'. Did you mean 'EUR_USD'?" in done.stderr
    assert "USD_JPY D: 800 new" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_outcomes_as_json_stand_alone_on_stdout(mbats):
    done = mbats("ingest", "--symbols", "EUR_USD,XAU_USD", "--from", "2020-01-01", "--to", "2020-02-01", "--json")

    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["problems"] == []
    good, bad = found["outcomes"]
    assert good.pop("seconds") >= 0
    assert good == {
        "symbol": "EUR_USD",
        "granularity": "D",
        "start": "2020-01-01T00:00:00+00:00",
        "end": "2020-02-01T00:00:00+00:00",
        "status": "ok",
        "inserted": 22,
        "revised": 0,
        "unchanged": 0,
        "message": None,
        "passing": False,
    }
    assert (bad["symbol"], bad["status"]) == ("XAU_USD", "failed")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--symbols", "EUR_USD", "--granularity", "M3"], "M3"),
        (["--symbols", "EUR_USD", "--source", "onda"], "No source 'onda'. Did you mean 'oanda'?"),
        (["--symbols", ","], "Nothing to download"),
        (["--symbols", "EUR_USD", "--from", "soon"], "'soon' is no date"),
        (["--symbols", "EUR_USD", "--from", "2020-02-01", "--to", "2020-01-01"], "The start must be before the end"),
        (["--symbols", "EUR_USD", "--from", "2999-01-01"], "The start must be before the end and before now"),
        (["--symbols", "EUR_USD", "--workers", "0"], "0 is not in the range"),
    ],
)
def test_bad_input_ends_with_2_before_anything_begins(arguments, reason, settings, oanda, monkeypatch, capsys):
    monkeypatch.setenv("MBATS_HOME", str(settings.home))
    monkeypatch.setenv("MBATS_SIMULATOR_PORT", str(oanda.port))
    monkeypatch.setattr("sys.argv", ["mbats", "ingest", *arguments])
    get_settings.cache_clear()

    with pytest.raises(SystemExit) as ended:
        main()

    get_settings.cache_clear()
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
    assert oanda.seen == []


def test_a_wrong_token_ends_with_2_and_is_not_shown(mbats, oanda, settings):
    token = oanda.token
    oanda.token = "another"

    done = mbats("ingest", "--symbols", "EUR_USD")

    assert done.returncode == 2
    assert "HTTP 401" in done.stderr
    assert token not in done.stderr + done.stdout


def test_the_workbook_in_the_store_says_what_to_follow(mbats, store, settings):
    store.put(settings.s3_bucket_marketdata, WORKBOOK, workbook(daily=["EUR_USD", "EURUSD", "USD_JPY"], minute=["EUR_USD"]))

    done = mbats("ingest")
    only_minutes = mbats("ingest", "--granularity", "M1", "--json")

    assert done.returncode == 1
    assert f"mbats: {WORKBOOK}, tab 'daily', row 3: found 'EURUSD' as symbol, expected a pair like EUR_USD." in done.stderr
    assert [line for line in ("EUR_USD D: ", "USD_JPY D: ", "EUR_USD M1: ") if line not in done.stdout] == []
    assert [outcome["granularity"] for outcome in json.loads(only_minutes.stdout)["outcomes"]] == ["M1"]


def test_a_store_that_is_away_ends_with_2_and_says_what_to_do(mbats, free_port):
    mbats.environment["MBATS_S3_PORT"] = str(min(free_port, 55_535))

    done = mbats("ingest")

    assert done.returncode == 2
    assert "./starter_script.sh" in done.stderr


def test_practice_without_a_token_ends_with_2(mbats, oanda):
    mbats.environment["MBATS_OANDA_ENVIRONMENT"] = "practice"

    done = mbats("ingest", "--symbols", "EUR_USD")

    assert done.returncode == 2
    assert "MBATS_OANDA_TOKEN" in done.stderr
    assert oanda.seen == []


def test_ctrl_c_ends_with_130_and_keeps_what_was_stored(mbats, oanda, secmaster_db):
    oanda.delay = 0.3
    process = mbats.start("ingest", "--symbols", "EUR_USD", "--granularity", "M1", "--from", "2024-01-02")
    while not any("candles" in seen.path for seen in oanda.seen):
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130, (out, err)
    assert err.strip() == "mbats: interrupted; what was committed before stays."
    kept = load_bars(secmaster_db, "EUR_USD", M1, start=parse_utc("2024-01-01"), end=parse_utc("2025-01-01"))
    assert kept.fingerprint() == MINUTES[: len(kept)].fingerprint()
    assert len(kept) < 12_000
    with secmaster_db.begin() as connection:
        [run] = connection.execute(sa.select(ingest_run.c.status, ingest_run.c.error))
    assert run.status == "failed"
    assert run.error.startswith("The update was stopped.")


def test_coverage_shows_what_is_there_and_what_is_missing(mbats, oanda):
    oanda.bars["EUR_USD", "D"] = DAYS[np.delete(np.arange(800), slice(300, 303))]
    mbats("ingest", "--symbols", "EUR_USD,USD_JPY", "--from", "2020-01-01")

    table = mbats("coverage", "--gaps")
    found = json.loads(mbats("coverage", "--symbols", "EUR_USD", "--granularity", "D", "--json").stdout)

    assert table.returncode == 0
    assert "EUR_USD D: 2021-" in table.stdout
    assert "3 bars missing" in table.stdout
    assert (found[0]["bars"], found[0]["vendor"]) == (797, "simulator")
    assert [gap["missing"] for gap in found[0]["gaps"]] == [3]


def test_coverage_of_an_empty_master_says_what_to_do(mbats):
    done = mbats("coverage")

    assert (done.returncode, done.stdout) == (
        0,
        "The securities master holds no bars of these yet. `mbats ingest` downloads some.\n",
    )


def test_coverage_of_an_unknown_symbol_names_the_nearest(mbats):
    mbats("ingest", "--symbols", "EUR_USD", "--from", "2020-01-01")

    done = mbats("coverage", "--symbols", "EUR_USDD")

    assert done.returncode == 2
    assert "Did you mean 'EUR_USD'?" in done.stderr
