"""What is due at a moment, and what a scheduler's three steps do with it on a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from fakes import fake_bars
from openpyxl import Workbook

from mbats.database import Database
from mbats.errors import ConfigError, UnknownGranularity, UsageError
from mbats.ingest import schedule
from mbats.ingest.plan import BarRequest
from mbats.ingest.schedule import (
    DownloadFailed,
    DownloadsFailed,
    Known,
    download_series,
    due_requests,
    is_due,
    newest_end,
    plan_downloads,
    report_downloads,
)
from mbats.ingest.tickers import Problem
from mbats.market import Granularity, parse_utc
from mbats.secmaster.bars import load_bars
from mbats.secmaster.record import asked_from, asked_until, last_download
from mbats.secmaster.series import StoredSeries
from mbats.settings import Settings, load_settings

D, M1 = Granularity.D, Granularity.M1
LONG_AGO = "2010-01-01"

# --- The calendar --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granularity", "now", "end"),
    [
        # 17:00 New York is 21:00 UTC in summer and 22:00 in winter.
        ("D", "2026-06-10T20:59", "2026-06-09T21:00"),
        ("D", "2026-06-10T21:00", "2026-06-10T21:00"),
        ("D", "2026-01-14T21:59", "2026-01-13T22:00"),
        ("D", "2026-01-14T22:00", "2026-01-14T22:00"),
        # A weekend has no day: until Monday's is over, the newest is Friday's.
        ("D", "2026-06-13T12:00", "2026-06-12T21:00"),
        ("D", "2026-06-15T20:59", "2026-06-12T21:00"),
        # The clocks go forward on 8 March 2026, in a weekend, and back on 1 November.
        ("D", "2026-03-06T22:00", "2026-03-06T22:00"),
        ("D", "2026-03-09T20:59", "2026-03-06T22:00"),
        ("D", "2026-03-09T21:00", "2026-03-09T21:00"),
        ("D", "2026-10-30T21:00", "2026-10-30T21:00"),
        ("D", "2026-11-02T21:59", "2026-10-30T21:00"),
        ("D", "2026-11-02T22:00", "2026-11-02T22:00"),
        # The market is shut on Christmas Day 2026, a Friday.
        ("D", "2026-12-26T12:00", "2026-12-24T22:00"),
        ("D", "2026-12-28T22:00", "2026-12-28T22:00"),
        ("M1", "2026-06-10T12:00:59", "2026-06-10T12:00"),
        ("M1", "2026-06-10T12:01", "2026-06-10T12:01"),
        ("M1", "2026-06-13T12:00", "2026-06-12T21:00"),
        ("M1", "2026-06-14T21:04", "2026-06-12T21:00"),
        ("M1", "2026-06-14T21:05", "2026-06-14T21:05"),
        ("M1", "2026-12-25T12:00", "2026-12-24T22:00"),
        ("H4", "2026-06-10T12:59", "2026-06-10T09:00"),
        ("W", "2026-06-15T12:00", "2026-06-12T21:00"),
        ("M", "2026-06-15T12:00", "2026-05-31T21:00"),
    ],
)
def test_the_newest_bar_that_is_over_follows_new_york_and_the_fx_calendar(granularity, now, end):
    assert newest_end(Granularity(granularity), parse_utc(LONG_AGO), parse_utc(now)) == parse_utc(end)


def test_before_the_first_bar_is_over_there_is_none():
    assert newest_end(D, parse_utc("2026-06-09T21:00"), parse_utc("2026-06-10T20:59")) is None
    assert newest_end(M1, parse_utc("2026-06-13T00:00"), parse_utc("2026-06-14T20:00")) is None


def stored(first: str, last: str, vendor: str = "oanda") -> StoredSeries:
    return StoredSeries(parse_utc(first), parse_utc(last), vendor)


def due(granularity: Granularity, now: str, known: Known, start: str = LONG_AGO) -> bool:
    return is_due(BarRequest("EUR_USD", granularity, parse_utc(start)), known, vendor="oanda", now=parse_utc(now))


@pytest.mark.parametrize(
    ("granularity", "last", "now", "expected"),
    [
        (D, "2026-06-08T21:00", "2026-06-10T20:59", False),
        (D, "2026-06-08T21:00", "2026-06-10T21:05", True),
        (D, "2026-06-11T21:00", "2026-06-14T12:00", False),  # Friday's bar, seen on Sunday
        (D, "2026-06-10T21:00", "2026-06-14T12:00", True),  # Friday's run has failed, Sunday's makes it good
        (D, "2026-03-05T22:00", "2026-03-09T20:59", False),  # over the change of the clocks
        (D, "2026-03-05T22:00", "2026-03-09T21:05", True),
        (D, "2026-10-29T21:00", "2026-11-02T21:05", False),
        (D, "2026-10-29T21:00", "2026-11-02T22:05", True),
        (D, "2026-12-23T22:00", "2026-12-27T12:00", False),  # Christmas Day is no day of trading
        (M1, "2026-06-10T11:59", "2026-06-10T12:00:30", False),
        (M1, "2026-06-10T11:59", "2026-06-10T12:01", True),
        (M1, "2026-06-12T20:59", "2026-06-14T21:03", False),  # the weekend
        (M1, "2026-06-12T20:59", "2026-06-14T21:06", True),
        (M1, "2026-06-12T20:50", "2026-06-13T12:00", True),  # the last minutes of the week are still missing
        (M1, "2020-06-12T20:50", "2026-06-13T12:00", True),  # after years of standing still
    ],
)
def test_newer_bars_are_due_when_the_calendar_has_some_that_are_over(granularity, last, now, expected):
    assert due(granularity, now, Known(stored(LONG_AGO, last))) is expected


def test_a_series_of_which_nothing_is_stored_is_due():
    assert due(D, "2026-06-10T12:00", Known())
    assert due(M1, "2026-06-13T12:00", Known())


def test_bars_of_another_vendor_make_room_and_so_the_series_is_due():
    assert due(D, "2026-06-10T20:59", Known(stored(LONG_AGO, "2026-06-08T21:00", "simulator")))


def test_older_bars_are_due_until_the_vendor_was_once_asked_for_them():
    up_to_date = stored("2020-01-01", "2026-06-08T21:00")

    assert due(D, "2026-06-10T12:00", Known(up_to_date))
    assert not due(D, "2026-06-10T12:00", Known(up_to_date, asked_before=True))
    assert not due(D, "2026-06-10T12:00", Known(up_to_date), start="2020-01-01")


@pytest.mark.parametrize(
    ("asked", "now", "expected"),
    [
        ("2026-06-09T21:05", "2026-06-10T21:05", True),
        ("2026-06-10T21:05", "2026-06-10T21:10", True),  # it may be a moment late
        ("2026-06-10T21:55", "2026-06-10T22:00", True),
        ("2026-06-10T22:00", "2026-06-10T22:05", False),  # an hour later it is not: this vendor has a holiday of its own
        ("2026-06-10T22:00", "2026-06-10T23:00", True),
    ],
)
def test_a_bar_that_the_vendor_does_not_have_is_asked_for_once_an_hour(asked, now, expected):
    known = Known(stored(LONG_AGO, "2026-06-08T21:00"), asked_until=parse_utc(asked))

    assert due(D, now, known) is expected


# --- The three steps on a real database ---------------------------------------------------------------------------


@pytest.fixture
def platform(settings: Settings, secmaster_db, oanda) -> Settings:
    """The platform with the fake broker in the simulator's place; its two pairs end a day and a minute ago."""
    oanda.token = settings.required_secret("simulator_token").get_secret_value()
    oanda.now = parse_utc("2024-02-01T12:00:30")
    oanda.bars = {("EUR_USD", "D"): fake_bars(D, "2023-12-01", 60), ("USD_JPY", "M1"): fake_bars(M1, "2024-01-30", 10_000)}
    return settings.model_copy(update={"simulator_port": oanda.port})


REQUESTS = [BarRequest("EUR_USD", D, parse_utc("2023-12-01")), BarRequest("USD_JPY", M1, parse_utc("2024-01-30"))]
NOW = datetime(2024, 2, 1, 12, 0, 30, tzinfo=UTC)


def names(requests: list[BarRequest]) -> list[str]:
    return [request.symbol for request in requests]


def as_plan(requests: list[BarRequest]) -> list[dict]:
    return [schedule._plain(request) for request in requests]


def test_what_is_downloaded_is_due_no_more_until_the_next_bar_is_over(platform):
    assert names(due_requests(platform, REQUESTS, NOW)) == ["EUR_USD", "USD_JPY"]

    for request in as_plan(REQUESTS):
        download_series(request, settings=platform)

    assert due_requests(platform, REQUESTS, NOW) == []
    assert names(due_requests(platform, REQUESTS, NOW + timedelta(minutes=2))) == ["USD_JPY"]
    assert names(due_requests(platform, REQUESTS, NOW + timedelta(hours=11))) == ["EUR_USD", "USD_JPY"]


def test_an_earlier_start_in_the_workbook_is_due_once_and_not_for_ever(platform, secmaster_db):
    download_series(as_plan(REQUESTS)[0], settings=platform)
    earlier = [BarRequest("EUR_USD", D, parse_utc("2010-01-01"))]  # this broker's history begins in 2023

    assert due_requests(platform, earlier, NOW) == earlier
    download_series(as_plan(earlier)[0], settings=platform)

    assert due_requests(platform, earlier, NOW) == []


def test_a_download_says_what_it_brought_and_again_that_there_is_nothing_new(platform, secmaster_db):
    request = as_plan(REQUESTS)[0]

    first, second = (download_series(request, settings=platform) for _ in range(2))

    assert (first["name"], first["status"], first["inserted"]) == ("EUR_USD D", "ok", second["inserted"] + first["inserted"])
    assert len(load_bars(secmaster_db, "EUR_USD", D, start=parse_utc("2020-01-01"), end=NOW)) == first["inserted"] > 40


def test_a_symbol_that_the_broker_does_not_have_fails_for_good_and_the_report_names_it(platform):
    good, bad = as_plan([REQUESTS[0], BarRequest("EUR_USDD", D, parse_utc("2023-12-01"))])
    outcome = download_series(good, settings=platform)

    with pytest.raises(DownloadFailed, match=r"^EUR_USDD D: No symbol 'EUR_USDD' .* Did you mean 'EUR_USD'\?") as failure:
        download_series(bad, settings=platform)

    assert failure.value.passing is False
    problem = str(Problem("daily", 4, "found 'EURUSD' as symbol, expected a pair like EUR_USD. The row is left out."))
    with pytest.raises(DownloadsFailed) as report:
        report_downloads([good, bad], [outcome], problems=[problem], settings=platform)
    told = str(report.value)
    assert told.startswith("1 of 2 series failed and the others went on; to be put right: EUR_USDD D: No symbol 'EUR_USDD'")
    assert "; interested_tickers.xlsx, tab 'daily', row 4: found 'EURUSD' as symbol" in told


def test_a_broker_that_does_not_answer_is_a_failure_that_passes_and_is_on_record(platform, oanda, secmaster_db):
    oanda.token = "another"
    request = as_plan(REQUESTS)[0]

    with pytest.raises(DownloadFailed, match=r"EUR_USD D: .*HTTP 401") as refused:
        download_series(request, settings=platform)
    assert refused.value.passing is False  # a wrong token stays wrong
    assert last_download(secmaster_db, source="simulator", symbol="EUR_USD", granularity=D).status == "failed"
    with pytest.raises(DownloadsFailed, match=r"1 of 1 series failed .* EUR_USD D: .*HTTP 401"):
        report_downloads([request], [], settings=platform)


def test_a_database_that_is_away_is_a_failure_that_passes(platform):
    away = platform.model_copy(update={"postgres_port": 1})

    with pytest.raises(DownloadFailed, match="EUR_USD D: No connection to PostgreSQL") as failure:
        download_series(as_plan(REQUESTS)[0], settings=away)
    assert failure.value.passing
    with pytest.raises(DownloadsFailed, match="EUR_USD D, USD_JPY M1: No connection to PostgreSQL"):
        report_downloads(as_plan(REQUESTS), [], settings=away)


def test_a_download_that_was_killed_is_named_as_such(platform, secmaster_db):
    request = as_plan(REQUESTS)[0]

    with pytest.raises(DownloadsFailed, match="EUR_USD D: It ended before it was begun"):
        report_downloads([request], [], settings=platform)
    schedule.start_ingest_run(secmaster_db, source="simulator", symbol="EUR_USD", granularity=D, start=NOW, end=NOW)
    with pytest.raises(DownloadsFailed, match="EUR_USD D: It was ended in the middle"):
        report_downloads([request], [], settings=platform)


def test_the_report_of_a_good_run_is_one_sentence_and_of_no_plan_a_failure(platform):
    outcomes = [{"name": "EUR_USD D", "inserted": 1}, {"name": "USD_JPY M1", "inserted": 1500}]

    assert report_downloads(as_plan(REQUESTS), outcomes, settings=platform) == "Up to date: 2 series, 1,501 new bars."
    assert report_downloads([], [], settings=platform) == "Up to date: 0 series, 0 new bars."
    with pytest.raises(DownloadsFailed, match="2 series went well; to be put right: tab"):
        report_downloads(as_plan(REQUESTS), outcomes, problems=["tab."], settings=platform)
    with pytest.raises(DownloadsFailed, match="could not be planned"):
        report_downloads(None, [], settings=platform)


def test_a_manual_run_downloads_what_it_names_for_its_period_due_or_not(platform):
    chosen = {"symbols": ["eur/usd", " USD_JPY "], "granularity": "H1", "start": "2024-01-02", "end": "2024-01-03T12:30+02:00"}

    planned = plan_downloads(**chosen, settings=platform)

    assert planned["problems"] == []
    assert [request["name"] for request in planned["requests"]] == ["EUR_USD H1", "USD_JPY H1"]
    first = planned["requests"][0]
    assert (first["start"], first["end"]) == ("2024-01-02T00:00:00+00:00", "2024-01-03T10:30:00+00:00")


@pytest.mark.parametrize(
    ("chosen", "error", "reason"),
    [
        ({"granularity": "M3"}, UnknownGranularity, "No granularity 'M3'"),
        ({"start": "soon"}, UsageError, "The start 'soon' is no date"),
        ({"end": "2024-13-01"}, UsageError, "The end '2024-13-01' is no date"),
        ({"symbols": ["EUR_USD"], "start": "2024-02-01", "end": "2024-01-01"}, UsageError, "The start must be before the end"),
        ({"symbols": [" "]}, UsageError, "Nothing to download"),
    ],
)
def test_choices_that_cannot_be_used_are_refused_in_words(platform, chosen, error, reason):
    with pytest.raises(error, match=reason):
        plan_downloads(**chosen, settings=platform)


def test_a_plan_without_choices_is_what_is_due_of_the_workbook_and_names_its_bad_rows(platform, store):
    chosen = load_settings(home=platform.home, simulator_port=platform.simulator_port)
    store.put("marketdata", "interested_tickers.xlsx", workbook(daily=["EUR_USD", "EURUSD"], minute=["USD_JPY"]))

    planned = plan_downloads(settings=chosen)

    assert [request["name"] for request in planned["requests"]] == ["EUR_USD D", "USD_JPY M1"]
    (problem,) = planned["problems"]
    assert problem.startswith("interested_tickers.xlsx, tab 'daily', row 3: found 'EURUSD' as symbol")


def test_a_plan_without_a_workbook_says_what_is_missing(platform, store):
    chosen = load_settings(home=platform.home, s3_bucket_marketdata="artifacts")

    with pytest.raises(ConfigError, match=r"No object 'interested_tickers\.xlsx' in the bucket 'artifacts'"):
        plan_downloads(settings=chosen)


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


def test_the_record_of_downloads_knows_what_was_asked_for(secmaster_db: Database):
    series = {"source": "oanda", "symbol": "EUR_USD", "granularity": D}
    begin, end = parse_utc("2020-01-01"), parse_utc("2021-01-01")
    assert (asked_until(secmaster_db, **series), last_download(secmaster_db, **series)) == (None, None)

    for status in ("ok", "failed"):
        run = schedule.start_ingest_run(secmaster_db, **series, start=begin, end=end)
        error = "why" if status == "failed" else None
        schedule.finish_ingest_run(secmaster_db, run, status=status, inserted=0, revised=0, unchanged=0, error=error)

    assert asked_until(secmaster_db, **series) == end
    assert asked_from(secmaster_db, **series, start=begin)
    assert not asked_from(secmaster_db, **series, start=begin - timedelta(seconds=1))
    assert not asked_from(secmaster_db, **(series | {"source": "simulator"}), start=begin)
    assert (last_download(secmaster_db, **series).status, last_download(secmaster_db, **series).error) == ("failed", "why")
