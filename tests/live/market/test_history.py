"""The bars before the present: stored ones where they are the broker's, the broker's where they are not."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from samples import sample_instrument

from mbats.database import Database
from mbats.errors import NoBars, OandaUnavailable
from mbats.live.market.history import read_history, read_with_conversions
from mbats.market import Bars, Granularity, parse_utc, to_datetime
from mbats.oanda.client import OandaClient
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import load_settings
from mbats.trading.feeds import conversion_columns

M5 = Granularity.M5
NOW = "2024-05-14T10:03:00Z"
SINCE = parse_utc("2024-05-13T10:00:00Z")


@pytest.fixture
def floor(start_floor: Any) -> Any:
    floor = start_floor("2024-05-14T10:00:00Z")
    floor.until(NOW)
    return floor


@pytest.fixture
def db(secmaster_db: Database) -> Database:
    upsert_instruments(secmaster_db, [sample_instrument("EUR_USD"), sample_instrument("GBP_USD")])
    return secmaster_db


def downloaded(client: OandaClient, symbol: str = "EUR_USD", since: datetime = SINCE, granularity: Granularity = M5) -> Bars:
    return Bars.concatenate(list(client.candles(symbol, granularity, start=since)))


def read(floor: Any, db: Database | None, *, vendor: str = "simulator", symbol: str = "EUR_USD") -> Bars:
    floor.simulator.admin("DELETE", "/journal")
    return read_history(symbol, M5, SINCE, db, floor.client, vendor=vendor)


@pytest.mark.parametrize("stored", [slice(None, 200), slice(40, 200), slice(0, None), slice(100, 101)])
def test_stored_bars_and_the_brokers_make_one_unbroken_history(stored, floor, db):
    whole = downloaded(floor.client)
    upsert_bars(db, "EUR_USD", M5, whole[stored], vendor="simulator")

    found = read(floor, db)

    assert found.fingerprint() == whole.fingerprint()
    assert len(found) == 24 * 12


def test_only_what_is_not_stored_is_asked_for_and_the_last_stored_bar_again(floor, db):
    whole = downloaded(floor.client)
    upsert_bars(db, "EUR_USD", M5, whole[:200], vendor="simulator")

    read(floor, db)

    requests = [entry for entry in floor.simulator.journal() if entry["path"].endswith("/candles")]
    assert str(whole.time[199])[:16] in str(requests[0])
    assert all(str(whole.time[0])[:16] not in str(entry) for entry in requests)


def test_when_the_last_stored_bar_differs_the_broker_is_believed_for_all_of_them(floor, db, caplog):
    whole = downloaded(floor.client)
    stored = whole[:200]
    upsert_bars(db, "EUR_USD", M5, replace(stored, bid_low=stored.bid_low - 1e-5), vendor="simulator")

    with caplog.at_level(logging.WARNING):
        found = read(floor, db)

    assert found.fingerprint() == whole.fingerprint()
    assert "left out: the broker has other values" in caplog.text


def test_stored_bars_of_the_brokers_future_are_left_out(floor, db, caplog):
    whole = downloaded(floor.client)
    later = replace(whole, time=whole.time + np.timedelta64(7, "D"))
    upsert_bars(db, "EUR_USD", M5, later, vendor="simulator")

    assert read(floor, db).fingerprint() == whole.fingerprint()
    assert "left out" in caplog.text


def test_bars_of_another_vendor_are_not_mixed_in(floor, db):
    whole = downloaded(floor.client)
    wrong = replace(whole[:200], bid_low=whole[:200].bid_low - 1e-5)
    wrong = Bars.concatenate([wrong[:199], whole[199:200]])  # even though the last one is the same
    upsert_bars(db, "EUR_USD", M5, wrong, vendor="oanda")

    assert read(floor, db, vendor="simulator").fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("symbol", ["EUR_USD", "USD_CHF"])
def test_a_symbol_that_is_not_stored_is_asked_of_the_broker(symbol, floor, db):
    assert read(floor, db, symbol=symbol).fingerprint() == downloaded(floor.client, symbol).fingerprint()


def test_without_a_database_all_is_asked_of_the_broker(floor, tmp_path, caplog):
    away = Database(load_settings(home=tmp_path, postgres_port=1, postgres_trading_password="x"), "secmaster", "trading")

    for database in (None, away):
        assert read(floor, database).fingerprint() == downloaded(floor.client).fingerprint()

    assert "No connection to PostgreSQL" in caplog.text
    away.close()


def test_a_broker_that_is_away_is_an_error_and_not_a_short_history(floor, db):
    upsert_bars(db, "EUR_USD", M5, downloaded(floor.client)[:200], vendor="simulator")
    floor.simulator.kill()
    impatient = OandaClient(floor.simulator.url, floor.sessions._token, attempts=1)

    with impatient, pytest.raises(OandaUnavailable):
        read_history("EUR_USD", M5, SINCE, db, impatient, vendor="simulator")


def test_conversions_are_those_of_a_backtest_from_the_first_bar_after_a_weekend_on(floor, db):
    sunday = parse_utc("2024-05-12T21:00:00Z")
    instruments = [sample_instrument(name) for name in ("GBP_USD", "EUR_USD", "USD_CHF")]

    found = read_with_conversions(
        instruments[:2], M5, sunday, db, floor.client, vendor="simulator", currency="EUR", offered=["EUR_USD", "GBP_USD"]
    )

    links = {"EUR_USD": downloaded(floor.client, since=parse_utc("2024-05-10T10:00:00Z"))}
    for instrument in instruments[:2]:
        history = found[instrument.name]
        assert history.bars.fingerprint() == downloaded(floor.client, instrument.name, since=sunday).fingerprint()
        at_open, at_close = conversion_columns(instrument, history.bars, "EUR", links)
        np.testing.assert_array_equal(history.conversion_open, at_open)
        np.testing.assert_array_equal(history.conversion_close, at_close)


def test_the_first_bar_is_converted_by_one_of_before_where_the_converting_pair_has_none_of_its_time(floor):
    euro, pound = (downloaded(floor.client, name, granularity=Granularity.S5) for name in ("EUR_USD", "GBP_USD"))
    alone = pound.time[~np.isin(pound.time, euro.time) & (pound.time > euro.time[0])][0]

    found = read_with_conversions(
        [sample_instrument("GBP_USD")],
        Granularity.S5,
        to_datetime(alone),
        None,
        floor.client,
        vendor="simulator",
        currency="EUR",
        offered=["EUR_USD", "GBP_USD"],
    )["GBP_USD"]

    assert found.bars.time[0] == alone
    assert found.conversion_close[0] == 1 / euro.mid_close[np.searchsorted(euro.time, alone) - 1]


def test_what_nothing_converts_is_named_and_so_is_what_has_no_bar(floor):
    gbp = [sample_instrument("GBP_USD")]
    with pytest.raises(NoBars, match="GBP_USD earns USD"):
        read_with_conversions(gbp, M5, SINCE, None, floor.client, vendor="simulator", currency="EUR", offered=["GBP_USD"])
    with pytest.raises(NoBars, match="no M5 bars of GBP_USD"):
        read_with_conversions(
            gbp, M5, parse_utc(NOW), None, floor.client, vendor="simulator", currency="USD", offered=["GBP_USD"]
        )
