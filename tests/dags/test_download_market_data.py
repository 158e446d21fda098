"""The DAG that keeps bars up to date: when it runs, what it lets pass, and one run of it from start to end."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from io import BytesIO
from itertools import pairwise

import pytest
from fakes import fake_bars
from openpyxl import Workbook

from mbats.market import NEW_YORK, Bars, Granularity, parse_utc
from mbats.secmaster.bars import load_bars

FIVE = timedelta(minutes=5)


@pytest.fixture
def dag(described):
    return described["dags"]["download_market_data"]


@pytest.fixture
def runs(dag) -> dict[str, list[datetime]]:
    """The moments of its runs in three periods, by the first day, on New York's clock."""
    return {
        first: [datetime.fromisoformat(text).astimezone(NEW_YORK) for text in moments] for first, moments in dag["runs"].items()
    }


def weekend(moments: list[datetime]) -> tuple[str, str]:
    """The last run before the pause of more than a day, and the first one after it."""
    pauses = [(a, b) for a, b in pairwise(moments) if b.timestamp() - a.timestamp() > 86_400]
    ((before, after),) = pauses
    return f"{before:%a %d %H:%M}", f"{after:%a %d %H:%M}"


def test_it_rests_from_friday_evening_to_sunday_evening_whatever_the_clocks_do(runs):
    assert weekend(runs["2026-03-05"]) == ("Fri 06 17:50", "Sun 08 17:00")
    assert weekend(runs["2026-10-29"]) == ("Fri 30 17:50", "Sun 01 17:00")
    assert weekend(runs["2026-06-08"]) == ("Fri 12 17:50", "Sun 14 17:00")


def test_it_runs_every_five_minutes_while_the_market_is_open(runs):
    for moments in runs.values():
        for earlier, later in pairwise(moments):
            apart = timedelta(seconds=later.timestamp() - earlier.timestamp())
            assert apart == FIVE or (earlier.weekday() == 4 and (earlier.hour, earlier.minute) >= (16, 55)), earlier


def test_five_minutes_after_each_close_of_new_york_a_run_can_fetch_the_day(runs):
    for moments in runs.values():
        closes = {moment.date() for moment in moments if (moment.hour, moment.minute) == (17, 5)}
        assert {day for day in closes if day.weekday() < 5} == {
            moment.date() for moment in moments if moment.weekday() < 5 and moment.hour == 16
        }


def test_the_close_is_at_another_hour_of_utc_after_the_clocks_have_changed(dag):
    closes = {first: {text for text in moments if text[11:16] in ("21:05", "22:05")} for first, moments in dag["runs"].items()}

    assert {"2026-03-06T22:05:00+00:00", "2026-03-09T21:05:00+00:00"} <= closes["2026-03-05"]
    assert "2026-03-06T21:05:00+00:00" in closes["2026-03-05"]  # 16:05: the market is open
    assert {"2026-10-30T21:05:00+00:00", "2026-11-02T22:05:00+00:00"} <= closes["2026-10-29"]


def test_its_parameters_let_pass_what_mbats_can_use_and_refuse_the_rest(dag):
    refused = [json.loads(text) for text in dag["refused"]]

    assert refused == [
        {"symbols": "EUR_USD"},
        {"symbols": ["EURUSD"]},
        {"symbols": ["EUR_USD; DROP TABLE bar"]},
        {"granularity": "M3"},
        {"start": "yesterday"},
        {"end": 20240101},
    ]
    assert dag["params"]["granularity"]["enum"] == [None, *(length.value for length in Granularity)]


def test_a_task_a_series_that_is_tried_again_only_when_the_failure_may_pass(dag):
    plan, download, report = (dag["tasks"][name] for name in ("plan", "download", "report"))

    assert (plan["upstream"], download["upstream"], report["upstream"]) == ([], ["plan"], ["download", "plan"])
    assert download["mapped"]
    assert download["retries"] > 0
    assert download["tries_again"] == {"passing": True, "lasting": False, "unknown": True}
    assert report["trigger_rule"].lower().endswith("all_done")


def test_a_run_stores_the_good_series_and_names_the_bad_ones_and_one_by_hand_its_period(
    airflow, settings, secmaster_db, oanda, store
):
    oanda.token = settings.required_secret("simulator_token").get_secret_value()
    daily = fake_bars(Granularity.D, "2024-01-01", 300)
    oanda.bars = {("EUR_USD", "D"): daily, ("USD_JPY", "D"): daily}
    store.put("marketdata", "interested_tickers.xlsx", workbook(daily=["EUR_USD", "EUR_USDD", "EURUSD"], minute=[]))
    by_hand = json.dumps({"symbols": ["USD/JPY"], "start": "2024-03-01", "end": "2024-04-01"})
    environment = {"MBATS_HOME": str(settings.home), "MBATS_SIMULATOR_PORT": str(oanda.port)}

    done = airflow.run("run_dag.py", "download_market_data", "{}", by_hand, environment=environment)

    of_workbook, chosen = done["runs"]
    assert of_workbook["state"] == "failed"
    assert [(task["task"], task["label"], task["state"], task["tries"]) for task in of_workbook["tasks"]] == [
        ("download", "EUR_USD D", "success", 1),
        ("download", "EUR_USDD D", "failed", 1),
        ("plan", None, "success", 1),
        ("report", None, "failed", 1),
    ]
    assert "1 of 2 series failed and the others went on; to be put right: EUR_USDD D: No symbol 'EUR_USDD'" in done["log"]
    assert "tab 'daily', row 4: found 'EURUSD' as symbol, expected a pair like EUR_USD" in done["log"]
    assert len(stored(secmaster_db, "EUR_USD")) == 300
    assert chosen["state"] == "success"
    bars = stored(secmaster_db, "USD_JPY")
    assert (str(bars.time[0])[:10], str(bars.time[-1])[:10], len(bars)) == ("2024-03-03", "2024-03-31", 21)


def stored(db, symbol: str) -> Bars:
    return load_bars(db, symbol, Granularity.D, start=parse_utc("2000-01-01"), end=parse_utc("2100-01-01"))


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
