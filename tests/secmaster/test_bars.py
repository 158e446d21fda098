"""Bars: stored once, revised with the old values kept, read back as they are or as they were."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from samples import random_bars, sample_instrument

from mbats.database import Database
from mbats.errors import BadBar, UnknownSymbol
from mbats.market import Bars, Granularity, to_datetime
from mbats.secmaster.bars import UPLOADS, UpsertCount, load_bars, server_time, upsert_bars
from mbats.secmaster.series import StoredSeries, stored_series
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings

EVER = {"start": datetime(1970, 1, 1, tzinfo=UTC), "end": datetime(2100, 1, 1, tzinfo=UTC)}
NUMBERS = count(1)
M1 = Granularity.M1


def minutes(number: int, start: str = "2024-03-04T00:00") -> np.ndarray:
    return np.datetime64(start, "us") + np.arange(number) * np.timedelta64(60_000_000, "us")


def load(db: Database, symbol: str = "EUR_USD", granularity: Granularity = M1, **period: datetime) -> Bars:
    return load_bars(db, symbol, granularity, **(EVER | period))


def with_volume(bars: Bars, volume: int) -> Bars:
    return replace(bars, volume=np.full(len(bars), volume))


def assert_equal(found: Bars, expected: Bars) -> None:
    assert len(found) == len(expected)
    assert found.fingerprint() == expected.fingerprint()


# --- What goes in comes out -------------------------------------------------------------------------------------------


def test_bars_come_back_bit_for_bit(db: Database) -> None:
    bars = random_bars(minutes(5000))

    counted = upsert_bars(db, "EUR_USD", M1, bars, vendor="test")

    assert counted == UpsertCount(inserted=5000, revised=0, unchanged=0)
    assert_equal(load(db), bars)


def test_no_bars_are_stored_and_loaded_without_an_error(db: Database) -> None:
    assert upsert_bars(db, "EUR_USD", M1, Bars.empty(), vendor="test") == UpsertCount(0, 0, 0)
    assert_equal(load(db), Bars.empty())
    assert stored_series(db, "EUR_USD", M1) is None


def test_one_bar_is_stored(db: Database) -> None:
    bars = random_bars(minutes(1))

    upsert_bars(db, "EUR_USD", M1, bars, vendor="test")

    assert_equal(load(db), bars)
    start = to_datetime(bars.time[0])
    assert stored_series(db, "EUR_USD", M1) == StoredSeries(start, start, "test")


def test_a_period_is_half_open(db: Database) -> None:
    bars = random_bars(minutes(10))
    upsert_bars(db, "EUR_USD", M1, bars, vendor="test")

    found = load(db, start=to_datetime(bars.time[2]), end=to_datetime(bars.time[7]))

    assert_equal(found, bars[2:7])


def test_a_series_crosses_years_and_reaches_beyond_those_that_have_a_partition(db: Database) -> None:
    times = np.array(["1971-01-04T22", "1999-12-31T22", "2023-12-31T22", "2024-01-01T22", "2051-01-02T22"], "datetime64[us]")
    bars = random_bars(times)

    upsert_bars(db, "EUR_USD", Granularity.D, bars, vendor="test")

    assert_equal(load(db, granularity=Granularity.D), bars)


def test_symbols_and_granularities_do_not_mix(db: Database) -> None:
    series = {
        (symbol, length): random_bars(minutes(50), seed)
        for seed, (symbol, length) in enumerate(
            (symbol, length) for symbol in ("EUR_USD", "USD_JPY") for length in (M1, Granularity.M, Granularity.H1)
        )
    }

    for (symbol, length), bars in series.items():
        assert upsert_bars(db, symbol, length, bars, vendor="test").inserted == 50

    for (symbol, length), bars in series.items():
        assert_equal(load(db, symbol, length), bars)


def test_a_symbol_that_is_not_stored_is_named(db: Database) -> None:
    for call in (
        lambda: upsert_bars(db, "EUR_SEK", M1, random_bars(minutes(1)), vendor="test"),
        lambda: load(db, "EUR_SEK"),
    ):
        with pytest.raises(UnknownSymbol, match="No symbol 'EUR_SEK'"):
            call()


def test_one_bad_bar_keeps_the_whole_batch_out(db: Database) -> None:
    bars = random_bars(minutes(100))
    bars.ask_high[50] = bars.ask_low[50] - 0.001

    with pytest.raises(BadBar, match="EUR_USD M1 2024-03-04T00:50") as refusal:
        upsert_bars(db, "EUR_USD", M1, bars, vendor="test")

    assert refusal.value.symbol == "EUR_USD"
    assert_equal(load(db), Bars.empty())


@pytest.mark.parametrize(
    "wrong",
    [
        "bid_high = bid_low / 2",
        "ask_low = ask_high * 2",
        "bid_low = 'nan'",
        "ask_high = 'infinity'",
        "bid_open = 0",
        "volume = -1",
        "ask_close = bid_close - 0.00001",
    ],
)
def test_the_database_itself_refuses_a_bar_that_contradicts_itself(db: Database, wrong: str) -> None:
    upsert_bars(db, "EUR_USD", M1, random_bars(minutes(1)), vendor="test")

    with pytest.raises(sa.exc.IntegrityError, match="violates check constraint"), db.begin() as connection:
        connection.execute(sa.text(f"UPDATE bar SET {wrong}"))


# --- Twice is once; revisions ------------------------------------------------------------------------------------------


def test_the_same_bars_again_change_nothing(db: Database) -> None:
    bars = random_bars(minutes(3000))
    upsert_bars(db, "EUR_USD", M1, bars, vendor="test")

    again = upsert_bars(db, "EUR_USD", M1, bars, vendor="test")

    assert again == UpsertCount(inserted=0, revised=0, unchanged=3000)
    assert_equal(load(db), bars)
    assert revisions(db) == []


def test_a_revised_bar_is_updated_and_its_old_values_are_kept(db: Database) -> None:
    first = random_bars(minutes(5))
    upsert_bars(db, "EUR_USD", M1, first, vendor="first")
    second = replace(first, bid_close=first.bid_close.copy())
    second.bid_close[3] = first.bid_low[3]

    counted = upsert_bars(db, "EUR_USD", M1, second, vendor="second")

    assert counted == UpsertCount(inserted=0, revised=1, unchanged=4)
    assert_equal(load(db), second)
    (old,) = revisions(db)
    assert (old.time, old.bid_close, old.name) == (to_datetime(first.time[3]), first.bid_close[3], "first")
    assert old.loaded_at < old.replaced_at


def test_an_upload_that_overlaps_counts_each_bar_once(db: Database) -> None:
    bars = random_bars(minutes(30))
    upsert_bars(db, "EUR_USD", M1, bars[:20], vendor="test")
    changed = replace(bars, volume=bars.volume + (np.arange(30) % 10 == 0))

    assert upsert_bars(db, "EUR_USD", M1, changed[10:], vendor="test") == UpsertCount(inserted=10, revised=1, unchanged=9)


def revisions(db: Database) -> list[sa.Row]:
    query = "SELECT r.*, v.name FROM bar_revision r JOIN data_vendor v ON v.id = r.data_vendor_id ORDER BY r.time, r.replaced_at"
    with db.begin() as connection:
        return list(connection.execute(sa.text(query)).all())


# --- As of -------------------------------------------------------------------------------------------------------------


def test_as_of_leaves_out_what_came_later_and_brings_back_what_was_replaced(db: Database) -> None:
    before_all = server_time(db)
    first = random_bars(minutes(10))
    upsert_bars(db, "EUR_USD", M1, first[:8], vendor="test")
    after_first = server_time(db)
    second = with_volume(first, 7)
    upsert_bars(db, "EUR_USD", M1, second[6:], vendor="test")
    after_second = server_time(db)

    assert_equal(load(db, as_of=before_all), Bars.empty())
    assert_equal(load(db, as_of=after_first), first[:8])
    assert_equal(load(db, as_of=after_second), Bars.concatenate([first[:6], second[6:]]))
    assert_equal(load(db), Bars.concatenate([first[:6], second[6:]]))


def test_as_of_keeps_to_the_period(db: Database) -> None:
    bars = random_bars(minutes(10))
    upsert_bars(db, "EUR_USD", M1, bars, vendor="test")
    moment = server_time(db)
    upsert_bars(db, "EUR_USD", M1, with_volume(bars, 7), vendor="test")

    found = load(db, start=to_datetime(bars.time[2]), end=to_datetime(bars.time[5]), as_of=moment)

    assert_equal(found, bars[2:5])


# Few times and few values, so that uploads meet each other's bars and repeat each other's values.
UPLOAD = st.dictionaries(st.integers(0, 7), st.integers(1, 3), max_size=8)


@given(uploads=st.lists(UPLOAD, max_size=7))
@hypothesis(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_past_moment_can_be_read_again_whatever_was_uploaded_since(db: Database, uploads: list[dict[int, int]]) -> None:
    symbol = f"S{next(NUMBERS)}_USD"
    upsert_instruments(db, [sample_instrument(symbol)])
    every = random_bars(minutes(8))
    state: dict[int, int] = {}
    moments = [(server_time(db), dict(state))]

    for upload in uploads:
        there = [minute for minute in upload if minute in state]
        expected = UpsertCount(
            inserted=len(upload) - len(there),
            revised=sum(state[minute] != upload[minute] for minute in there),
            unchanged=sum(state[minute] == upload[minute] for minute in there),
        )
        for _ in range(2):
            assert upsert_bars(db, symbol, M1, bars_of(every, upload), vendor="test") == expected
            expected = UpsertCount(0, 0, len(upload))  # the same upload again changes nothing
        state |= upload
        moments.append((server_time(db), dict(state)))

    for moment, then in moments:
        assert_equal(load(db, symbol, as_of=moment), bars_of(every, then))
    assert_equal(load(db, symbol), bars_of(every, state))


def bars_of(every: Bars, volumes: dict[int, int]) -> Bars:
    chosen = sorted(volumes)
    return replace(every[chosen], volume=np.array([volumes[minute] for minute in chosen], np.int64))


def test_the_database_clock_waits_for_uploads_in_flight(db: Database) -> None:
    told: list[datetime] = []
    asking = threading.Thread(target=lambda: told.append(server_time(db)))
    with db.begin() as upload:
        upload.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(UPLOADS)))
        loaded_at = upload.execute(sa.select(sa.func.clock_timestamp())).scalar_one()

        asking.start()
        asking.join(timeout=0.3)

        assert told == [], "a moment was named while an upload could still become visible in its past"
    asking.join(timeout=10)
    assert told[0] > loaded_at


# --- Several processes, and the end of one ----------------------------------------------------------------------------------

UPLOADER = """
import sys, time
from datetime import UTC, datetime
import numpy as np
from samples import random_bars
from mbats.database import Database
from mbats.market import Granularity
from mbats.secmaster.series import StoredSeries, stored_series
from mbats.secmaster.bars import upsert_bars
from mbats.settings import load_settings

home, seed, number, page, at = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
db = Database(load_settings(home=home), "secmaster", "ingest")
times = np.datetime64("2023-12-20", "us") + np.arange(number) * np.timedelta64(60_000_000, "us")
bars = random_bars(times, seed)
with db.begin(): pass
time.sleep(max(0.0, at - time.time()))
print("started", flush=True)
for first in range(0, number, page):
    counted = upsert_bars(db, "EUR_USD", Granularity.M1, bars[first:first + page], vendor="test")
    print(counted.inserted, counted.revised, counted.unchanged, flush=True)
"""


def start_uploader(settings: Settings, *, seed: int, number: int, page: int, at: float = 0.0) -> subprocess.Popen[str]:
    tests = str(settings.root / "tests")
    code = f"import sys; sys.path.insert(0, {tests!r})\n{UPLOADER}"
    argv = [sys.executable, "-c", code, str(settings.home), str(seed), str(number), str(page), str(at)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("seeds", "revised"), [((1, 1), 0), ((1, 2), 10_000)])
def test_two_processes_that_upload_the_same_bars_take_turns(
    settings: Settings, db: Database, seeds: tuple[int, int], revised: int
) -> None:
    soon = time.time() + 2.5

    both = [start_uploader(settings, seed=seed, number=10_000, page=1_000, at=soon) for seed in seeds]
    counts = [np.loadtxt(process.communicate(timeout=60)[0].splitlines()[1:], dtype=int).sum(axis=0) for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert tuple(np.sum(counts, axis=0)) == (10_000, revised, 10_000 - revised)
    assert len(load(db)) == 10_000
    assert len(revisions(db)) == revised


def test_an_upload_that_is_killed_leaves_whole_pages_and_the_next_one_completes_it(settings: Settings, db: Database) -> None:
    page, number = 2_000, 30_000
    random = np.random.default_rng()
    for seed in range(1, 5):
        upload = start_uploader(settings, seed=seed, number=number, page=page)
        assert upload.stdout is not None
        assert upload.stdout.readline() == "started\n"
        time.sleep(random.uniform(0, 0.5))

        upload.kill()
        upload.wait()
        upload.stdout.close()

        server_time(db)  # the server ends the killed upload's transaction in its own time
        expected = [random_bars(minutes(number, "2023-12-20"), older) for older in range(1, seed + 1)]
        stored = load(db)
        assert len(stored) % page == 0
        for first in range(0, len(stored), page):
            part = stored[first : first + page].fingerprint()
            assert part in [version[first : first + page].fingerprint() for version in expected]
    for line in start_uploader(settings, seed=4, number=number, page=page).communicate(timeout=60)[0].splitlines()[1:]:
        assert sum(map(int, line.split())) == page
    assert_equal(load(db), expected[-1])


def test_hundreds_of_thousands_of_bars_are_read_as_they_were_stored(db: Database) -> None:
    bars = random_bars(minutes(200_000, "2023-01-01"))
    upsert_bars(db, "EUR_USD", M1, bars, vendor="test")

    assert_equal(load(db), bars)


# --- The views of 2020 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "granularity"), [("daily_data", Granularity.D), ("minute_data", M1)])
def test_the_views_of_2020_show_mid_prices_under_the_old_names(
    settings: Settings, db: Database, view: str, granularity: Granularity
) -> None:
    bars = random_bars(minutes(3))
    upsert_bars(db, "USD_JPY", granularity, bars, vendor="test")
    upsert_bars(db, "USD_JPY", Granularity.H1, random_bars(minutes(9)), vendor="test")
    upsert_bars(db, "USD_JPY", granularity, with_volume(bars, 7)[1:2], vendor="test")
    reader = Database(settings, "secmaster", "reader")

    with reader.begin() as connection:
        rows = connection.execute(sa.text(f"SELECT * FROM {view} ORDER BY date_price")).mappings().all()
    reader.close()

    assert list(rows[0]) == [
        *("data_vendor_id", "stock_id", "created_date", "last_updated_date", "date_price"),
        *("open_price", "high_price", "low_price", "close_price", "volume"),
    ]
    assert [row["date_price"] for row in rows] == list(bars.time.astype(datetime))
    for name in ("open", "high", "low", "close"):
        assert [row[f"{name}_price"] for row in rows] == list(getattr(bars, f"mid_{name}"))
    assert [row["created_date"] < row["last_updated_date"] for row in rows] == [False, True, False]
    assert datetime.now(UTC).replace(tzinfo=None) - rows[0]["created_date"] < timedelta(minutes=5)
