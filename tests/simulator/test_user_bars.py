"""Bars of the user's own: read, checked, and served in place of the sample market."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mbats.errors import ConfigError
from mbats.simulator.errors import Refusal
from mbats.simulator.exchange import Exchange
from mbats.simulator.userbars import UserBars
from mbats.simulator.wire import TimeFormat

NOW = np.datetime64("2024-05-16T10:07:30", "us")
MINUTES = pd.date_range("2024-05-16T10:00", periods=8, freq="min", tz="UTC")
MID = """time,open,high,low,close,volume
2024-05-16T10:00:00Z,1.08500,1.08520,1.08490,1.08510,10
2024-05-16T10:01:00Z,1.08512,1.08530,1.08512,1.08525,7
"""


def bid_ask() -> pd.DataFrame:
    bid = 1.085 + np.arange(8) / 1e4
    columns = {"ts": MINUTES}
    for side, shift in (("bid", 0.0), ("ask", 0.00012)):
        columns |= {f"{side}_o": bid + shift, f"{side}_h": bid + 0.0003 + shift, f"{side}_l": bid - 0.0002 + shift}
        columns |= {f"{side}_c": bid + 0.0001 + shift}
    return pd.DataFrame(columns | {"volume": range(1, 9)})


def candles(path: Path, instrument: str = "EUR_USD", now: np.datetime64 = NOW, **query: str) -> list[dict]:
    exchange = Exchange(UserBars(path))
    return exchange.candles_body(instrument, {"price": "BA", **query}, TimeFormat.RFC3339, now)["candles"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_bid_and_ask_bars_are_served_as_they_are(tmp_path, kind):
    file = tmp_path / f"EUR_USD_M1.{kind}"
    bid_ask().to_csv(file, index=False) if kind == "csv" else bid_ask().to_parquet(file)

    found = candles(file, granularity="M1")

    assert [candle["time"][11:16] for candle in found] == [f"10:0{minute}" for minute in range(7)]  # the eighth is not over
    assert found[1]["bid"] == {"o": "1.08510", "h": "1.08540", "l": "1.08490", "c": "1.08520"}
    assert found[1]["ask"]["o"] == "1.08522"
    assert (found[1]["volume"], found[1]["complete"]) == (2, True)


def test_longer_candles_are_made_of_them_and_the_last_one_forms(tmp_path):
    bid_ask().to_parquet(tmp_path / "EUR_USD_M1.parquet")

    first, second = candles(tmp_path, granularity="M5")

    assert (first["volume"], first["complete"]) == (1 + 2 + 3 + 4 + 5, True)
    assert (first["bid"]["o"], first["bid"]["c"], first["bid"]["h"]) == ("1.08500", "1.08550", "1.08570")
    assert (second["volume"], second["complete"]) == (6 + 7, False)


def test_mid_bars_get_the_measured_spread_of_their_hour(tmp_path):
    (tmp_path / "EUR_USD_M1.csv").write_text(MID)

    first = candles(tmp_path, granularity="M1")[0]

    assert round((float(first["ask"]["o"]) - float(first["bid"]["o"])) * 1e5) == 14  # 6 in the morning in New York
    assert (float(first["ask"]["h"]) + float(first["bid"]["h"])) / 2 == pytest.approx(1.0852, abs=6e-6)


def test_only_the_pairs_in_the_folder_are_listed(tmp_path):
    (tmp_path / "EUR_USD_M1.csv").write_text(MID)
    exchange = Exchange(UserBars(tmp_path))

    assert list(exchange.instruments) == ["EUR_USD"]
    assert "own bars" in exchange.source.description
    assert "ECB" not in exchange.source.description
    price = exchange.prices_body("101-004-1435156-001", {"instruments": "EUR_USD"}, TimeFormat.RFC3339, NOW)["prices"][0]
    assert price["time"] == "2024-05-16T10:01:59.999999000Z"


@pytest.mark.parametrize(("file", "granularity"), [("M1", "S5"), ("M4", "M10"), ("H4", "H6"), ("W", "M")])
def test_candles_that_cannot_be_made_of_the_bars_are_refused(tmp_path, file, granularity):
    start = {
        "M1": "2024-05-16T10:00:00Z",
        "M4": "2024-05-16T10:00:00Z",
        "H4": "2024-05-16T09:00:00Z",
        "W": "2024-05-10T21:00:00Z",
    }[file]
    (tmp_path / f"EUR_USD_{file}.csv").write_text(f"time,open,high,low,close\n{start},1.1,1.1,1.1,1.1\n")

    with pytest.raises(Refusal, match=f"EUR_USD served here are {file}; no {granularity}"):
        candles(tmp_path, granularity=granularity)


def test_day_bars_are_served_by_the_default_alignment_only(tmp_path):
    (tmp_path / "USD_JPY_D.csv").write_text("time,open,high,low,close\n2024-05-14T21:00:00Z,156,157,155,156.5\n")

    assert candles(tmp_path, "USD_JPY", granularity="D")[0]["bid"]["o"] == "155.993"
    with pytest.raises(Refusal, match="aligned as by default"):
        candles(tmp_path, "USD_JPY", granularity="D", dailyAlignment="0")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("EURUSD_M1.csv", MID, "its name is not pair and granularity"),
        ("EUR_USD_M3.csv", MID, "its name is not pair and granularity"),
        ("XAU_USD_M1.csv", MID, "XAU_USD is not among the pairs known here"),
        ("EUR_USD_M1.csv", "time,open,high,low,close\n", "it holds no bar"),
        ("EUR_USD_M1.csv", "", "cannot be read as csv"),
        ("EUR_USD_M1.csv", "time,open\n2024-05-16T10:00:00Z,1\n", "expected bid_open … ask_close, or open, high, low, close"),
        ("EUR_USD_M1.csv", MID.replace("time", "when"), "expected one called time, or ts"),
        ("EUR_USD_M1.csv", MID.replace("2024-05-16T10:01:00Z", "noon"), "row 2 has the time 'noon'"),
        ("EUR_USD_M1.csv", MID.replace("2024-05-16T10:0", "171585180"), "expected one like"),
        ("EUR_USD_M1.csv", MID.replace("10:01:00", "10:01:30"), "row 2 starts at 2024-05-16T10:01:30.000000Z, where no M1 bar"),
        ("EUR_USD_D.csv", MID, "row 1 starts at 2024-05-16T10:00:00.000000Z, where no D bar"),
        ("EUR_USD_M1.csv", MID.replace("1.08512,1.08530", "dear,1.08530"), "row 2 has 'dear' as open; expected a number"),
        ("EUR_USD_M1.csv", MID.replace("1.08530", "1.08000"), "bid high is below bid low, open or close"),
        ("EUR_USD_M1.csv", MID.replace("10:01", "10:00"), "time is not after the bar before it"),
        ("EUR_USD_M1.csv", MID.replace("1.08520", "99999.0"), "row 1 has a price of 99999"),
        ("EUR_USD_M1.parquet", MID, "cannot be read as parquet"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_its_fault(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError) as refusal:
        UserBars(tmp_path)

    assert name in str(refusal.value)
    assert words in str(refusal.value)
    assert "The simulator was not started" in str(refusal.value)


def test_two_files_of_one_pair_and_no_file_at_all_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no \.csv and no \.parquet"):
        UserBars(tmp_path)
    with pytest.raises(ConfigError, match="nothing of that name"):
        UserBars(tmp_path / "absent")
    for name in ("EUR_USD_M1.csv", "EUR_USD_H1.csv"):
        (tmp_path / name).write_text(MID.replace("10:01", "11:00"))
    with pytest.raises(ConfigError, match="a second file of EUR_USD"):
        UserBars(tmp_path)


def test_real_bars_come_back_from_the_exchange_as_they_went_in(tmp_path):
    source = Path(__file__).resolve().parents[3] / "shared" / "data" / "oanda" / "H1_bidask" / "EUR_USD_H1.parquet"
    if not source.exists():
        pytest.skip("the shared market data is not here")
    (tmp_path / "EUR_USD_H1.parquet").symlink_to(source)
    wanted = pd.read_parquet(source).tail(300)

    found = candles(tmp_path, granularity="H1", count="300")

    assert [candle["bid"]["h"] for candle in found] == [f"{price:.5f}" for price in wanted.bid_h]
    assert [candle["ask"]["l"] for candle in found] == [f"{price:.5f}" for price in wanted.ask_l]
    assert [candle["volume"] for candle in found] == wanted.volume.tolist()
