"""Bars that are missing in the middle of a series are asked for once more, and not every night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fakes import fake_bars
from samples import sample_instrument

from mbats.database import Database
from mbats.ingest import schedule
from mbats.ingest.plan import BarRequest
from mbats.ingest.repair import plan_repairs, repair_series, report_repairs
from mbats.ingest.schedule import DownloadFailed, DownloadsFailed, download_series
from mbats.market import Granularity, parse_utc
from mbats.secmaster.bars import load_times, upsert_bars
from mbats.secmaster.coverage import coverage
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings

M1, D = Granularity.M1, Granularity.D
MINUTES = fake_bars(M1, "2024-01-30", 3000)
HOLES = (slice(300, 480), slice(1000, 1120))  # of three hours and of two
LATER = datetime.now(UTC) + timedelta(days=8)


@pytest.fixture
def platform(settings: Settings, secmaster_db: Database, oanda) -> Settings:
    """Minutes that the broker gave with two holes; by now it has all of them but a part of the second."""
    oanda.token = settings.required_secret("simulator_token").get_secret_value()
    oanda.now = parse_utc("2024-02-02T12:00:30")
    platform = settings.model_copy(update={"simulator_port": oanda.port})
    there = [row for row in range(len(MINUTES)) if not any(hole.start <= row < hole.stop for hole in HOLES)]
    oanda.bars = {("EUR_USD", "M1"): MINUTES[there], ("EUR_USD", "D"): fake_bars(D, "2023-12-01", 30)}
    for request in (BarRequest("EUR_USD", M1, parse_utc("2024-01-30")), BarRequest("EUR_USD", D, parse_utc("2023-12-01"))):
        download_series(schedule._plain(request), settings=platform)
    oanda.bars["EUR_USD", "M1"] = MINUTES[[row for row in range(len(MINUTES)) if not 1000 <= row < 1090]]
    return platform


def test_gaps_are_asked_about_alone_and_closed_as_far_as_the_vendor_has_bars(platform, oanda, secmaster_db):
    (planned,) = plan_repairs(settings=platform, now=LATER)
    asked = len(oanda.seen)

    outcome = repair_series(planned, settings=platform)

    assert planned["name"] == "EUR_USD M1" and len(planned["gaps"]) == 2
    assert outcome == {"name": "EUR_USD M1", "asked": 2, "closed": 1, "bars": 180 + 30}
    assert len(load_times(secmaster_db, "EUR_USD", M1)) == len(MINUTES) - 90
    (minutes,) = coverage(secmaster_db, symbols=["EUR_USD"], granularity=M1)
    assert [gap.missing for gap in minutes.gaps] == [90]
    assert len(oanda.seen) - asked <= 5  # the instruments, and a page or two for each gap
    said = report_repairs([planned], [outcome])
    assert said == "2 gaps of 1 series were asked about: 1 are closed by 210 bars, 1 stay."


def test_what_the_vendor_was_asked_about_this_week_is_not_asked_about_again(platform):
    assert plan_repairs(settings=platform) == []  # the first download has just asked for all of it
    for planned in plan_repairs(settings=platform, now=LATER):
        repair_series(planned, settings=platform)
    now = datetime.now(UTC)

    assert plan_repairs(settings=platform, now=now + timedelta(days=6)) == []
    (left,) = plan_repairs(settings=platform, now=now + timedelta(days=8))
    assert len(left["gaps"]) == 1
    assert report_repairs([], []) == "There is no gap to ask about."


def test_bars_of_another_vendor_are_left_alone(platform, secmaster_db):
    upsert_instruments(secmaster_db, [sample_instrument("USD_JPY")])
    upsert_bars(secmaster_db, "USD_JPY", M1, MINUTES[[*range(300), *range(480, 3000)]], vendor="test")

    assert [planned["symbol"] for planned in plan_repairs(settings=platform, now=LATER)] == ["EUR_USD"]


def test_a_broker_that_refuses_is_named_and_nothing_stored_is_lost(platform, oanda, secmaster_db):
    planned = plan_repairs(settings=platform, now=LATER)
    before = len(load_times(secmaster_db, "EUR_USD", M1))
    oanda.token = "another"

    with pytest.raises(DownloadFailed, match=r"EUR_USD M1: .*HTTP 401"):
        repair_series(planned[0], settings=platform)

    assert len(load_times(secmaster_db, "EUR_USD", M1)) == before
    with pytest.raises(DownloadsFailed, match=r"EUR_USD M1 could not be asked about; .* 0 gaps of 0 series"):
        report_repairs(planned, [])
    with pytest.raises(DownloadsFailed, match="none could be looked for"):
        report_repairs(None, [])
