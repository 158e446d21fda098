"""The whole way in processes of their own: simulator, command line, securities master."""

from __future__ import annotations

import json

from mbats.database import Database
from mbats.market import Granularity, bar_starts, parse_utc
from mbats.secmaster.bars import load_bars
from mbats.secmaster.coverage import coverage
from mbats.secmaster.series import stored_series

START, END = parse_utc("2024-02-20"), parse_utc("2024-03-22")
PERIOD = ("--from", "2024-02-20", "--to", "2024-03-22")


def test_a_month_over_the_change_to_daylight_saving_comes_whole_and_once(simulated, secmaster_db: Database):
    arguments = ("ingest", "--symbols", "EUR_USD,USD_JPY", *PERIOD, "--json")

    minutes, again = (simulated(*arguments, "--granularity", "M1") for _ in range(2))
    days = simulated(*arguments, "--granularity", "D")

    assert [done.returncode for done in (minutes, again, days)] == [0, 0, 0], minutes.stderr + days.stderr
    first, second = (json.loads(done.stdout)["outcomes"] for done in (minutes, again))
    assert [outcome["inserted"] for outcome in second] == [0, 0]
    assert [outcome["revised"] for outcome in second] == [0, 0]
    for outcome in first:
        bars = load_bars(secmaster_db, outcome["symbol"], Granularity.M1, start=START, end=END)
        assert len(bars) == outcome["inserted"] > 25_000
    due = bar_starts(Granularity.D, START, END)
    stored = load_bars(secmaster_db, "EUR_USD", Granularity.D, start=START, end=END)
    assert stored.time.tolist() == due.tolist()
    assert {moment.hour for moment in stored.time.tolist()} == {21, 22}
    assert [series.gaps for series in coverage(secmaster_db)] == [()] * 4
    assert stored_series(secmaster_db, "EUR_USD", Granularity.D).vendor == "simulator"
