"""kill -9 in the middle of an ingest: nothing half, doubled or missing, then or after the next one."""

from __future__ import annotations

import multiprocessing
import random
import time

import numpy as np
import sqlalchemy as sa
from drivers import ingest_in_small_pages
from fakes import TOKEN, FakeOanda, fake_bars

from mbats.ingest import BarRequest, update_bars
from mbats.market import Bars, Granularity, parse_utc, to_datetime
from mbats.secmaster.bars import load_bars
from mbats.secmaster.symbols import load_instruments
from mbats.secmaster.tables import bar, ingest_run

KILLS = 50
PAGE = 100
M1 = Granularity.M1
SERIES = {"EUR_USD": fake_bars(M1, "2024-01-02", 40_000, drop=0.02), "USD_JPY": fake_bars(M1, "2024-01-02", 40_000, seed=8)}
REQUESTS = [BarRequest(name, M1, parse_utc("2024-01-02")) for name in SERIES]


def stored(db, symbol: str) -> Bars:
    if symbol not in load_instruments(db):  # killed before anything of it was stored
        return Bars.empty()
    return load_bars(db, symbol, M1, start=parse_utc("2000-01-01"), end=parse_utc("2100-01-01"))


def is_one_stretch_of(part: Bars, whole: Bars) -> bool:
    first = int(np.searchsorted(whole.time, part.time[0])) if len(part) else 0
    return part.fingerprint() == whole[first : first + len(part)].fingerprint()


def test_killed_at_50_random_moments_an_ingest_has_no_bar_doubled_or_missing(secmaster_db, settings, source, oanda: FakeOanda):
    oanda.bars = {(name, "M1"): bars for name, bars in SERIES.items()}
    # One series grows forward only, the other one backward as well, from the middle.
    middle = to_datetime(SERIES["USD_JPY"].time[20_000])
    update_bars(secmaster_db, source, [BarRequest("USD_JPY", M1, middle, to_datetime(SERIES["USD_JPY"].time[20_500]))])
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mbats.ingest", "psycopg2.extras"])  # so that a birth takes no second
    moments = random.Random(20_200_101)
    in_the_middle = 0

    for kill in range(KILLS):
        hears, says = processes.Pipe(duplex=False)
        arguments = (settings, oanda.url, TOKEN, REQUESTS, PAGE, says)
        process = processes.Process(target=ingest_in_small_pages, args=arguments, daemon=True)
        process.start()
        says.close()
        # Every fifth dies at any moment from its birth on, the others at one after their first page.
        if kill % 5 and hears.poll(10):
            in_the_middle += 1
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.join()
        hears.close()
        for name, bars in SERIES.items():
            assert is_one_stretch_of(stored(secmaster_db, name), bars), f"{name} after kill {kill}"

    assert in_the_middle == KILLS * 4 // 5
    half = {name: len(stored(secmaster_db, name)) for name in SERIES}
    assert all(500 < count < 40_000 for count in half.values()), half
    outcomes = update_bars(secmaster_db, source, REQUESTS)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    for name, bars in SERIES.items():
        assert stored(secmaster_db, name).fingerprint() == bars.fingerprint()
    with secmaster_db.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(bar)) == 80_000
        statuses = set(connection.scalars(sa.select(ingest_run.c.status)))
    assert statuses == {"interrupted", "ok"}
