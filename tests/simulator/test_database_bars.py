"""Stored bars as a source of prices: what the securities master held at one moment, read by who can only read."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest
from pydantic import SecretStr
from samples import sample_instrument

import mbats.database
from mbats.database import Database
from mbats.errors import ConfigError
from mbats.market import Bars, Granularity
from mbats.secmaster.bars import server_time, upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings
from mbats.simulator import databasebars
from mbats.simulator.alignment import OANDA, starts_between
from mbats.simulator.databasebars import DatabaseBars
from mbats.simulator.intrabar import Intrabar, PathStyle
from mbats.simulator.market import Market
from mbats.simulator.opening import open_exchange
from mbats.simulator.prices import Candles
from mbats.simulator.sample import SampleMarket

START, END = np.datetime64("2024-02-26", "us"), np.datetime64("2024-03-16", "us")  # over a month's end and a change of clocks


def assert_same(left: Candles, right: Candles) -> None:
    np.testing.assert_array_equal(left.time, right.time)
    np.testing.assert_array_equal(left.prices, right.prices)
    np.testing.assert_array_equal(left.volume, right.volume)


def to_bars(candles: Candles, decimals: int) -> Bars:
    return Bars(candles.time, *(candles.prices[0] / 10**decimals), *(candles.prices[1] / 10**decimals), candles.volume)


@pytest.fixture
def db(secmaster_db: Database) -> Database:
    instruments = [sample_instrument("EUR_USD"), sample_instrument("USD_JPY")]
    upsert_instruments(secmaster_db, instruments)
    return secmaster_db


@pytest.fixture
def reader(db: Database, settings: Settings) -> Iterator[Database]:
    database = Database(settings, "secmaster", "reader")
    yield database
    database.close()


def test_stored_minutes_are_served_as_they_are_with_the_symbols_own_terms(db, reader, market: SampleMarket):
    minutes = market.bars("EUR_USD", START, END)
    upsert_bars(db, "EUR_USD", Granularity.M1, to_bars(minutes, 5), vendor="sample")

    source = DatabaseBars(reader)

    assert source.instruments == ("EUR_USD",)
    assert source.listed["EUR_USD"].margin_rate == Decimal("0.0333")
    assert (source.base("EUR_USD"), source.first("EUR_USD")) == (Granularity.M1, minutes.time[0])
    assert_same(source.bars("EUR_USD", START, END), minutes)
    middle = (np.datetime64("2024-02-29T23:00", "us"), np.datetime64("2024-03-01T02:00", "us"))
    assert_same(source.bars("EUR_USD", *middle), minutes.between(*middle))
    assert not len(source.bars("EUR_USD", END, END + np.timedelta64(9, "D")))


def test_by_the_setting_one_trades_on_stored_bars(db, reader, settings: Settings, market: SampleMarket, tmp_path, monkeypatch):
    monkeypatch.setattr(mbats.database, "Database", lambda *_: reader)  # the same, and closed at the end
    upsert_bars(db, "EUR_USD", Granularity.M1, to_bars(market.bars("EUR_USD", START, END), 5), vendor="sample")
    chosen = {"simulator_source": "database", "simulator_clock": "step", "simulator_data": tmp_path}
    runtime = open_exchange(settings.model_copy(update=chosen | {"simulator_token": SecretStr("a-token")}))
    moment = np.datetime64("2024-03-05T12:00", "us")
    runtime.clock.move_to(moment)
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": "100"}

    reply = runtime.execute(lambda engine: engine.create_order("101-004-1435156-001", {"order": order}))

    before = market.bars("EUR_USD", moment - np.timedelta64(10, "m"), moment)
    assert reply.body["orderFillTransaction"]["price"] == f"{before.prices[1, 3, -1] / 10**5:.5f}"


@pytest.mark.parametrize("base", [Granularity.M1, Granularity.M15, Granularity.H4, Granularity.D])
def test_the_path_inside_stored_bars_makes_them_again(db, reader, market, base):
    starts = starts_between(base, START, END, OANDA)
    bars = market.bars("USD_JPY", starts[0], END).aggregate(starts)
    upsert_bars(db, "USD_JPY", base, to_bars(bars, 3), vendor="sample")

    source = DatabaseBars(reader, granularity=base, intrabar=Intrabar(PathStyle.BRIDGE, seed=3))
    ticks = source.ticks("USD_JPY", starts[0], END + np.timedelta64(1, "D"))

    served = source.bars("USD_JPY", starts[0], END)
    assert_same(Candles.of_ticks(ticks).aggregate(starts), served)
    np.testing.assert_array_equal(served.volume, bars.volume)
    assert Market(source).quote("USD_JPY", END).time == ticks.between(START, END).time[-1]


def test_what_is_revised_or_added_later_changes_nothing(db, reader, market):
    minutes = market.bars("EUR_USD", START, END)
    upsert_bars(db, "EUR_USD", Granularity.M1, to_bars(minutes[:5000], 5), vendor="sample")
    source = DatabaseBars(reader)

    upsert_bars(db, "EUR_USD", Granularity.M1, to_bars(market.bars("EUR_USD", START, END)[4000:], 4), vendor="sample")

    assert_same(source.bars("EUR_USD", START, END), minutes[:5000])
    later = DatabaseBars(reader)
    assert len(later.bars("EUR_USD", START, END)) == len(minutes)
    assert_same(DatabaseBars(reader, as_of=source.as_of).bars("EUR_USD", START, END), minutes[:5000])


def test_the_shortest_bars_of_each_symbol_are_served_unless_a_length_is_asked_for(db, reader, market):
    minutes = market.bars("EUR_USD", START, END)
    hours = minutes.aggregate(starts_between(Granularity.H1, START, END, OANDA))
    upsert_bars(db, "EUR_USD", Granularity.M1, to_bars(minutes, 5), vendor="sample")
    upsert_bars(db, "EUR_USD", Granularity.H1, to_bars(hours, 5), vendor="sample")
    upsert_bars(db, "USD_JPY", Granularity.H1, to_bars(hours, 5), vendor="sample")

    shortest, named = DatabaseBars(reader), DatabaseBars(reader, symbols=["USD_JPY"], granularity=Granularity.H1)

    assert [shortest.base(name) for name in shortest.instruments] == [Granularity.M1, Granularity.H1]
    assert named.instruments == ("USD_JPY",)
    assert "as of" in named.description


def test_without_bars_the_simulator_does_not_start(db, reader):
    with pytest.raises(ConfigError, match=r"holds no bars of any symbol.*store bars with `mbats ingest`"):
        DatabaseBars(reader)
    with pytest.raises(ConfigError, match="holds no M5 of EUR_USD"):
        DatabaseBars(reader, symbols=["EUR_USD"], granularity=Granularity.M5)


def test_bars_are_read_in_blocks_and_kept(db, reader, market, monkeypatch):
    minutes = market.bars("EUR_USD", START, END)
    upsert_bars(db, "EUR_USD", Granularity.M1, to_bars(minutes, 5), vendor="sample")
    source = DatabaseBars(reader, as_of=server_time(reader))
    asked = []
    read = databasebars.load_bars
    monkeypatch.setattr(databasebars, "load_bars", lambda *args, **more: (asked.append(more["start"]), read(*args, **more))[1])

    for hour in range(0, 24 * 18, 5):
        start = START + np.timedelta64(hour, "h")
        source.ticks("EUR_USD", start, start + np.timedelta64(1, "h"))

    assert [f"{start:%Y-%m}" for start in asked] == ["2024-02", "2024-03"]
