"""From a real HTTP server into a real PostgreSQL: what is stored, whatever goes wrong on the way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from fakes import FakeOanda, fake_bars

from mbats.database import Database
from mbats.errors import OandaRejected, OandaUnavailable, PlatformError
from mbats.ingest import BarRequest, UpdateOutcome, update_bars
from mbats.ingest.plan import CHUNK
from mbats.market import Bars, Granularity, parse_utc, to_datetime
from mbats.oanda.source import OandaSource
from mbats.secmaster.bars import load_bars, server_time
from mbats.secmaster.record import start_ingest_run
from mbats.secmaster.series import download_lock
from mbats.secmaster.symbols import load_instruments
from mbats.secmaster.tables import bar_revision, ingest_run

D, M1 = Granularity.D, Granularity.M1
DAYS = fake_bars(D, "2020-01-01", 800)
MINUTES = fake_bars(M1, "2024-01-02", 7_000, drop=0.02)
FROM_2020, FROM_2024, EVER = parse_utc("2020-01-01"), parse_utc("2024-01-02"), parse_utc("2100-01-01")


def days(symbol: str = "EUR_USD", start: datetime = FROM_2020, end: datetime | None = None) -> BarRequest:
    return BarRequest(symbol, D, start, end)


def minutes(start: datetime = FROM_2024, end: datetime | None = None) -> BarRequest:
    return BarRequest("EUR_USD", M1, start, end)


def stored(db: Database, request: BarRequest) -> Bars:
    return load_bars(db, request.symbol, request.granularity, start=parse_utc("1990-01-01"), end=EVER)


def runs(db: Database) -> list[sa.Row]:
    with db.begin() as connection:
        return list(connection.execute(sa.select(ingest_run).order_by(ingest_run.c.id)))


def copy(bars: Bars) -> Bars:
    return bars[np.arange(len(bars))]


def counts(outcome: UpdateOutcome) -> tuple[str, int, int, int]:
    return outcome.status, outcome.inserted, outcome.revised, outcome.unchanged


@pytest.fixture
def oanda(oanda: FakeOanda) -> FakeOanda:
    oanda.bars["EUR_USD", "D"] = copy(DAYS)
    oanda.bars["EUR_USD", "M1"] = copy(MINUTES)
    return oanda


# --- What is stored ----------------------------------------------------------------------------------------------


def test_the_bars_of_the_source_are_stored_as_they_are_and_the_run_is_recorded(secmaster_db, source):
    [outcome] = update_bars(secmaster_db, source, [minutes()])

    assert counts(outcome) == ("ok", 7_000, 0, 0)
    assert stored(secmaster_db, minutes()).fingerprint() == MINUTES.fingerprint()
    [run] = runs(secmaster_db)
    assert (run.source, run.symbol, run.granularity, run.status) == ("oanda", "EUR_USD", "M1", "ok")
    assert (run.inserted, run.revised, run.unchanged, run.error) == (7_000, 0, 0, None)
    assert run.finished_at >= run.started_at


def test_the_same_ingest_twice_doubles_nothing(secmaster_db, source):
    update_bars(secmaster_db, source, [days(), minutes()])

    again = update_bars(secmaster_db, source, [days(), minutes()])

    assert [(outcome.status, outcome.inserted, outcome.revised) for outcome in again] == [("ok", 0, 0)] * 2
    assert stored(secmaster_db, days()).fingerprint() == DAYS.fingerprint()
    assert stored(secmaster_db, minutes()).fingerprint() == MINUTES.fingerprint()


def test_a_second_ingest_asks_only_for_what_is_new(secmaster_db, source, oanda):
    oanda.bars["EUR_USD", "M1"] = MINUTES[:6_000]
    update_bars(secmaster_db, source, [minutes()])
    oanda.seen.clear()
    oanda.bars["EUR_USD", "M1"] = copy(MINUTES)

    [outcome] = update_bars(secmaster_db, source, [minutes()])

    assert outcome.inserted == 1_000
    assert stored(secmaster_db, minutes()).fingerprint() == MINUTES.fingerprint()
    asked = [parse_utc(seen.params["from"][:26]) for seen in oanda.seen if "from" in seen.params]
    assert min(asked) > to_datetime(MINUTES.time[5_800])


def test_a_bar_still_forming_is_stored_only_when_it_is_over(secmaster_db, source, oanda):
    oanda.now = to_datetime(DAYS.time[-1]) + timedelta(hours=12)
    [first] = update_bars(secmaster_db, source, [days()])
    oanda.now += timedelta(hours=24)

    [second] = update_bars(secmaster_db, source, [days()])

    assert (first.inserted, second.inserted) == (799, 1)
    assert stored(secmaster_db, days()).fingerprint() == DAYS.fingerprint()


def test_a_bar_that_the_vendor_revised_is_updated_and_the_old_one_kept(secmaster_db, source, oanda):
    update_bars(secmaster_db, source, [days()])
    before = server_time(secmaster_db)
    oanda.revise("EUR_USD", "D", 790, pips=5)

    [outcome] = update_bars(secmaster_db, source, [days()])

    assert (outcome.inserted, outcome.revised) == (0, 1)
    now = stored(secmaster_db, days())
    assert now.bid_close[790] == pytest.approx(DAYS.bid_close[790] + 0.0005)
    assert np.delete(now.bid_close, 790).tolist() == np.delete(DAYS.bid_close, 790).tolist()
    then = load_bars(secmaster_db, "EUR_USD", D, start=FROM_2020, end=EVER, as_of=before)
    assert then.fingerprint() == DAYS.fingerprint()


def test_only_reread_finds_an_old_revision_and_mends_a_hole(secmaster_db, source, oanda):
    hole = np.delete(np.arange(800), slice(300, 310))
    oanda.bars["EUR_USD", "D"] = DAYS[hole]
    update_bars(secmaster_db, source, [days()])
    oanda.bars["EUR_USD", "D"] = copy(DAYS)
    oanda.revise("EUR_USD", "D", 5, pips=5)

    [usual] = update_bars(secmaster_db, source, [days()])
    [reread] = update_bars(secmaster_db, source, [days()], reread=True)

    assert (usual.inserted, usual.revised) == (0, 0)
    assert (reread.inserted, reread.revised, reread.unchanged) == (10, 1, 789)
    assert len(stored(secmaster_db, days())) == 800


def test_an_earlier_start_brings_the_older_bars(secmaster_db, source):
    later = to_datetime(MINUTES.time[6_500])
    update_bars(secmaster_db, source, [minutes(start=later)])

    [outcome] = update_bars(secmaster_db, source, [minutes()])

    assert outcome.inserted == 6_500
    assert stored(secmaster_db, minutes()).fingerprint() == MINUTES.fingerprint()


def test_a_start_before_all_history_costs_one_request_and_not_one_for_each_chunk(secmaster_db, source, oanda):
    update_bars(secmaster_db, source, [minutes()])
    oanda.seen.clear()

    [outcome] = update_bars(secmaster_db, source, [minutes(start=parse_utc("1995-01-01"))])

    assert outcome.inserted == 0
    assert len([seen for seen in oanda.seen if "from" in seen.params]) == 3  # the newest bars, nothing newer, the opening


@pytest.mark.parametrize("apart", [(100, 200), (500, 600)])
def test_a_period_apart_from_what_is_stored_brings_what_lies_between(secmaster_db, source, apart):
    update_bars(secmaster_db, source, [days(start=to_datetime(DAYS.time[300]), end=to_datetime(DAYS.time[400]))])
    start, end = (to_datetime(DAYS.time[i]) for i in apart)

    update_bars(secmaster_db, source, [days(start=start, end=end)])

    first, last = min(apart[0], 300), max(apart[1], 400)
    assert stored(secmaster_db, days()).fingerprint() == DAYS[first:last].fingerprint()


def test_an_interrupted_download_of_older_bars_leaves_no_hole(secmaster_db, source, oanda):
    long = fake_bars(M1, "2024-01-02", 30_000)
    oanda.bars["EUR_USD", "M1"] = long
    source.client._timeout = (0.3, 5.0)
    update_bars(secmaster_db, source, [minutes(start=to_datetime(long.time[29_000]))])

    class DiesAfterOnePage:
        def stored(self, request, count, until):
            if count.inserted:
                raise RuntimeError("killed")

        def finished(self, outcome):
            pass

    with pytest.raises(RuntimeError, match="killed"):
        update_bars(secmaster_db, source, [minutes()], progress=DiesAfterOnePage())

    half = stored(secmaster_db, minutes())
    assert 1_000 < len(half) <= 1_000 + CHUNK
    assert half.fingerprint() == long[-len(half) :].fingerprint()
    update_bars(secmaster_db, source, [minutes()])
    assert stored(secmaster_db, minutes()).fingerprint() == long.fingerprint()


def test_weekend_stubs_are_not_stored_as_daily_bars(secmaster_db, source, oanda):
    """Fault 9 of 2020: a day of a few stray prices distorts every indicator after it."""
    saturday, sunday = np.datetime64("2021-05-07T21:00"), np.datetime64("2021-05-08T21:00")
    times = np.sort(np.concatenate([DAYS.time, np.array([saturday, sunday], "datetime64[us]")]))
    place = np.clip(np.searchsorted(DAYS.time, times), 0, 799)
    with_stubs = DAYS[place]
    oanda.bars["EUR_USD", "D"] = Bars(times, *(getattr(with_stubs, name) for name in Bars.__slots__[1:]))

    update_bars(secmaster_db, source, [days()])

    assert stored(secmaster_db, days()).fingerprint() == DAYS.fingerprint()


def test_no_bars_in_the_period_is_no_failure(secmaster_db, source):
    [outcome] = update_bars(secmaster_db, source, [BarRequest("USD_JPY", D, FROM_2020)])

    assert counts(outcome) == ("ok", 0, 0, 0)


def test_what_the_broker_says_of_a_symbol_is_kept_and_refreshed(secmaster_db, source, oanda):
    update_bars(secmaster_db, source, [days()])
    before = load_instruments(secmaster_db)["EUR_USD"]
    oanda.changes = {"marginRate": "0.05"}

    update_bars(secmaster_db, source, [days()])

    assert str(before.margin_rate) == "0.0333"
    assert str(load_instruments(secmaster_db)["EUR_USD"].margin_rate) == "0.05"


# --- What goes wrong ---------------------------------------------------------------------------------------------


def test_an_unknown_ticker_is_named_with_the_nearest_one_and_the_others_go_on(secmaster_db, source):
    outcomes = update_bars(secmaster_db, source, [days("EUR_USDD"), days()])

    assert [outcome.status for outcome in outcomes] == ["failed", "ok"]
    assert "No symbol 'EUR_USDD' in the instruments of 'oanda'. Did you mean 'EUR_USD'?" in outcomes[0].message
    assert len(stored(secmaster_db, days())) == 800
    assert sorted((run.symbol, run.status, run.error is None) for run in runs(secmaster_db)) == [
        ("EUR_USD", "ok", True),
        ("EUR_USDD", "failed", False),
    ]


def test_a_symbol_that_fails_does_not_stop_the_others_and_keeps_what_it_had(secmaster_db, source, oanda):
    """Fault 15 of 2020: errors swallowed, and the run green when every symbol had failed."""
    bad = copy(MINUTES)
    bad.bid_high[5_500] = 0.5
    oanda.bars["EUR_USD", "M1"] = bad

    outcomes = update_bars(secmaster_db, source, [minutes(), days()])

    assert [outcome.status for outcome in outcomes] == ["failed", "ok"]
    assert f"EUR_USD M1 {MINUTES.time[5_500]}Z: bid high is below bid low, open or close" in outcomes[0].message
    assert outcomes[0].inserted == 5_000
    assert stored(secmaster_db, minutes()).fingerprint() == MINUTES[:5_000].fingerprint()
    failed = next(run for run in runs(secmaster_db) if run.status == "failed")
    assert (failed.inserted, failed.error) == (5_000, outcomes[0].message)


def test_a_source_that_fails_in_the_middle_is_gone_on_with_next_time(secmaster_db, source, oanda):
    candles = iter(["", "503 html", "503 html"])

    answer = oanda.answer

    def second_page_fails(path, params):
        if path.endswith("candles") and (fault := next(candles, "")):
            oanda.fail(fault)
        return answer(path, params)

    oanda.answer = second_page_fails
    [failed] = update_bars(secmaster_db, source, [minutes()])
    [ok] = update_bars(secmaster_db, source, [minutes()])

    assert (failed.status, failed.inserted) == ("failed", 5_000)
    assert "HTTP 503" in failed.message
    assert (ok.status, ok.inserted) == ("ok", 2_000)
    assert stored(secmaster_db, minutes()).fingerprint() == MINUTES.fingerprint()


def test_pages_sent_twice_are_stored_once(secmaster_db, source, oanda):
    oanda.fail("twice", "twice", on="candles")

    update_bars(secmaster_db, source, [minutes()])

    assert stored(secmaster_db, minutes()).fingerprint() == MINUTES.fingerprint()


def test_a_source_that_does_not_answer_at_all_is_an_error_before_anything_begins(secmaster_db, source, oanda):
    oanda.fail(*["503 html"] * 10)

    with pytest.raises(OandaUnavailable, match="HTTP 503"):
        update_bars(secmaster_db, source, [days()])

    assert runs(secmaster_db) == []


def test_a_wrong_token_is_an_error_before_anything_begins(secmaster_db, source, oanda):
    oanda.token = "another"

    with pytest.raises(OandaRejected, match="401"):
        update_bars(secmaster_db, source, [days()])


def test_a_database_that_is_away_is_an_error_in_words(settings, source):
    nowhere = Database(settings.model_copy(update={"postgres_port": 1}), "secmaster", "ingest")

    with pytest.raises(PlatformError, match=r"No connection to PostgreSQL at 127\.0\.0\.1:1"):
        update_bars(nowhere, source, [days()])


def test_two_downloads_of_one_series_at_once_are_one(secmaster_db, source):
    with download_lock(secmaster_db, "EUR_USD", M1) as free:
        outcomes = update_bars(secmaster_db, source, [minutes(), days()])

    assert free
    assert [outcome.status for outcome in outcomes] == ["skipped", "ok"]
    assert outcomes[0].message == "It is being downloaded already."
    assert [run.granularity for run in runs(secmaster_db)] == ["D"]


def test_told_to_wait_it_takes_up_a_series_where_another_download_ends(secmaster_db, source):
    with ThreadPoolExecutor(1) as other:
        with download_lock(secmaster_db, "EUR_USD", M1):
            waiting = other.submit(update_bars, secmaster_db, source, [minutes()], wait=True)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
        (outcome,) = waiting.result(timeout=60)

    assert outcome.status == "ok"
    assert outcome.inserted > 0
    [outcome] = update_bars(secmaster_db, source, [minutes()])
    assert outcome.status == "ok"


def test_a_run_whose_process_was_killed_is_marked_by_the_next_one(secmaster_db, source):
    start_ingest_run(secmaster_db, source="oanda", symbol="EUR_USD", granularity=D, start=FROM_2020, end=EVER)

    update_bars(secmaster_db, source, [days()])

    assert [run.status for run in runs(secmaster_db)] == ["interrupted", "ok"]


def test_symbols_are_downloaded_in_parallel(secmaster_db, oanda, source):
    for name in ("EUR_USD", "USD_JPY"):
        oanda.bars[name, "D"] = copy(DAYS)
    meeting = threading.Barrier(2)
    answer = oanda.answer

    def together(path, params):
        if path.endswith("candles") and params["from"].startswith("2020-01-01"):
            meeting.wait(timeout=5)
        return answer(path, params)

    oanda.answer = together
    source.client._timeout = (0.3, 5.0)

    outcomes = update_bars(secmaster_db, source, [days("EUR_USD"), days("USD_JPY")], workers=2)

    assert [outcome.inserted for outcome in outcomes] == [800, 800]


# --- Whose bars they are -----------------------------------------------------------------------------------------


def test_simulated_bars_make_room_for_a_brokers_and_can_still_be_found(secmaster_db, oanda, source):
    simulated = fake_bars(D, "2019-06-03", 1_000, seed=99)
    oanda.bars["EUR_USD", "D"] = simulated
    update_bars(secmaster_db, OandaSource(source.client, vendor="simulator"), [days(start=parse_utc("2019-06-01"))])
    before = server_time(secmaster_db)
    oanda.bars["EUR_USD", "D"] = copy(DAYS)
    oanda.forget()

    [outcome] = update_bars(secmaster_db, source, [days()])

    assert counts(outcome) == ("ok", 800, 0, 0)
    assert stored(secmaster_db, days()).fingerprint() == DAYS.fingerprint()
    then = load_bars(secmaster_db, "EUR_USD", D, start=parse_utc("2019-06-01"), end=EVER, as_of=before)
    assert then.fingerprint() == simulated.fingerprint()


def test_simulated_bars_stay_until_the_first_of_the_brokers_has_come(secmaster_db, oanda, source):
    update_bars(secmaster_db, OandaSource(source.client, vendor="simulator"), [days()])
    oanda.fail("503 html", "503 html", on="candles")

    [outcome] = update_bars(secmaster_db, source, [days()])

    assert outcome.status == "failed"
    assert stored(secmaster_db, days()).fingerprint() == DAYS.fingerprint()


def test_simulated_bars_are_never_put_among_a_brokers(secmaster_db, source):
    update_bars(secmaster_db, source, [days()])

    [outcome] = update_bars(secmaster_db, OandaSource(source.client, vendor="simulator"), [days()])

    assert outcome.status == "failed"
    assert "holds bars of 'oanda'; bars of 'simulator' are not put among them. Nothing was changed." in outcome.message
    assert stored(secmaster_db, days()).fingerprint() == DAYS.fingerprint()


def test_who_downloads_cannot_delete_a_bar(secmaster_db, source):
    update_bars(secmaster_db, source, [days()])

    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), secmaster_db.begin() as connection:
        connection.execute(sa.text("DELETE FROM bar"))
    with secmaster_db.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(bar_revision)) == 0
