"""Single prices of the user's own, as they were recorded."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mbats.errors import ConfigError
from mbats.market import Granularity
from mbats.simulator import series
from mbats.simulator.alignment import OANDA
from mbats.simulator.candles import CandleBook
from mbats.simulator.market import Market
from mbats.simulator.prices import ASK, BID, Candles
from mbats.simulator.queries import CandleQuery
from mbats.simulator.userbars import UserBars

TICKS = """time,bid,ask
2024-05-16T10:00:00.100Z,1.08500,1.08512
2024-05-16T10:00:00.350Z,1.08502,1.08513
2024-05-16T10:00:00.350Z,1.08499,1.08511
2024-05-16T10:01:59.999999Z,1.08510,1.08520
2024-05-16T10:03:07Z,1.08515,1.08525
"""
NOW = np.datetime64("2024-05-16T10:03:30", "us")


def source(folder, text: str = TICKS, name: str = "EUR_USD_ticks.csv") -> UserBars:
    (folder / name).write_text(text)
    return UserBars(folder)


def test_ticks_are_served_as_they_came(tmp_path):
    market = Market(source(tmp_path))

    (batch,) = market.ticks(["EUR_USD"], NOW - np.timedelta64(10, "m"), NOW)

    assert batch.bid.tolist() == [108500, 108502, 108499, 108510, 108515]
    assert str(batch.time[1]) == "2024-05-16T10:00:00.350000"
    assert str(market.quote("EUR_USD", NOW).ask) == "1.08525"
    assert "own prices" in market.source.description


def test_candles_of_any_length_are_made_of_them(tmp_path):
    book = CandleBook(source(tmp_path))

    def candles(granularity: str) -> Candles:
        query = CandleQuery("EUR_USD", Granularity(granularity), ("B",), None, None, 9, OANDA, False, True)
        return book.select(query, NOW)[0]

    assert candles("M1").volume.tolist() == [3, 1, 1]
    assert candles("M1").prices[BID, :, 0].tolist() == [108500, 108502, 108499, 108499]
    assert candles("M1").prices[ASK, :, 0].tolist() == [108512, 108513, 108511, 108511]
    assert [str(time)[14:19] for time in candles("S5").time] == ["00:00", "01:55", "03:05"]
    assert candles("D").volume.tolist() == [5]


def test_parquet_is_read_as_well(tmp_path):
    times = pd.date_range("2024-05-16T10:00", periods=3, freq="s", tz="UTC")
    pd.DataFrame({"time": times, "bid": [155.0, 155.001, 155.002], "ask": 155.01}).to_parquet(tmp_path / "USD_JPY_ticks.parquet")

    ticks = UserBars(tmp_path).ticks("USD_JPY", NOW - np.timedelta64(1, "h"), NOW)

    assert ticks.bid.tolist() == [155_000, 155_001, 155_002]


def test_minutes_of_many_ticks_are_the_same_as_of_all_at_once(tmp_path, monkeypatch):
    count = 5000
    rng = np.random.default_rng(1)
    times = np.datetime64("2024-05-16T10:00", "us") + np.sort(rng.integers(0, 9 * 3600 * 10**6, count))
    bid = 108500 + rng.integers(-50, 50, count).cumsum()
    table = pd.DataFrame({"time": times, "bid": bid / 1e5, "ask": (bid + rng.integers(0, 30, count)) / 1e5})
    table.to_parquet(tmp_path / "EUR_USD_ticks.parquet")
    monkeypatch.setattr(series, "TICKS_AT_ONCE", 333)

    served = UserBars(tmp_path)

    start, end = times[0] - np.timedelta64(1, "D"), times[-1] + np.timedelta64(1, "D")
    ticks = served.ticks("EUR_USD", start, end)
    wanted = Candles.of_ticks(ticks).aggregate(np.unique(ticks.time.astype("datetime64[m]")).astype("datetime64[us]"))
    found = served.bars("EUR_USD", start, end)
    assert len(ticks) == count
    np.testing.assert_array_equal(found.time, wanted.time)
    np.testing.assert_array_equal(found.prices, wanted.prices)
    np.testing.assert_array_equal(found.volume, wanted.volume)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            TICKS.replace("10:01:59.999999", "09:59:00"),
            "row 4 (2024-05-16T09:59:00.000000Z, bid 1.0851, ask 1.0852) comes before",
        ),
        (
            TICKS.replace("1.08520", "1.08400"),
            "row 4 (2024-05-16T10:01:59.999999Z, bid 1.0851, ask 1.084) has an ask below its bid",
        ),
        (TICKS.replace("1.08500", "-1"), "row 1 (2024-05-16T10:00:00.100000Z, bid -1.0, ask 1.08512) has a bid of 0 or below"),
        (
            TICKS.replace("1.08512", "1e9"),
            "row 1 (2024-05-16T10:00:00.100000Z, bid 1.085, ask 1000000000.0) has a price that is too",
        ),
        (TICKS.replace("bid", "price"), "it has the columns time, price, ask; expected time, bid and ask"),
        (TICKS.replace("1.08512", "dear"), "row 1 has 'dear' as ask; expected a number"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_its_fault(tmp_path, text, words):
    with pytest.raises(ConfigError) as refusal:
        source(tmp_path, text)

    assert "EUR_USD_ticks.csv" in str(refusal.value)
    assert words in str(refusal.value)


def test_ticks_and_bars_of_one_pair_are_one_too_many(tmp_path):
    (tmp_path / "EUR_USD_M1.csv").write_text("time,open,high,low,close\n2024-05-16T10:00:00Z,1.1,1.1,1.1,1.1\n")

    with pytest.raises(ConfigError, match="a second file of EUR_USD"):
        source(tmp_path)
