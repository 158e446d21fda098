"""Bars of the user's own: read, checked, and served in place of the sample market."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mbats.errors import ConfigError
from mbats.market import Granularity
from mbats.simulator.alignment import OANDA, Alignment
from mbats.simulator.candles import CandleBook
from mbats.simulator.errors import Refusal
from mbats.simulator.intrabar import Intrabar, PathStyle
from mbats.simulator.market import Market
from mbats.simulator.prices import ASK, BID, HIGH, LOW, OPEN, Candles
from mbats.simulator.queries import CandleQuery
from mbats.simulator.userbars import UserBars

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


def select(path: Path, granularity: str, instrument: str = "EUR_USD", *, alignment: Alignment = OANDA, count: int = 9) -> Candles:
    query = CandleQuery(instrument, Granularity(granularity), ("B", "A"), None, None, count, alignment, False, True)
    return CandleBook(UserBars(path)).select(query, NOW)[0]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_bid_and_ask_bars_are_served_as_they_are(tmp_path, kind):
    file = tmp_path / f"EUR_USD_M1.{kind}"
    bid_ask().to_csv(file, index=False) if kind == "csv" else bid_ask().to_parquet(file)

    found = select(file, "M1")

    assert [str(time)[11:16] for time in found.time] == [f"10:0{minute}" for minute in range(8)]
    assert found.prices[BID, :, 1].tolist() == [108510, 108540, 108490, 108520]
    assert found.prices[ASK, :, 1].tolist() == [108522, 108552, 108502, 108532]
    assert found.volume[:7].tolist() == [4, 4, 4, 4, 5, 6, 7]  # as in the file, but for bars that four prices draw


def test_longer_candles_are_made_of_them_and_the_last_one_forms(tmp_path):
    bid_ask().to_parquet(tmp_path / "EUR_USD_M1.parquet")

    found = select(tmp_path, "M5")
    forming = CandleBook(UserBars(tmp_path)).select(
        CandleQuery("EUR_USD", Granularity.M5, ("B",), None, None, 1, OANDA, False, True), NOW
    )

    assert found.volume[0] == 4 + 4 + 4 + 4 + 5
    assert found.prices[BID, :, 0].tolist() == [108500, 108570, 108480, 108550]
    assert forming[1].tolist() == [False]
    assert 6 + 7 < forming[0].volume[0] < 6 + 7 + 8  # of the eighth minute only the first half


def test_shorter_candles_are_made_of_the_path_inside_the_bars(tmp_path):
    bid_ask().to_parquet(tmp_path / "EUR_USD_M1.parquet")

    quarters = select(tmp_path, "S15", count=40)

    assert {str(time)[17:19] for time in quarters.time} == {"00", "15", "30", "45"}
    minutes = select(tmp_path, "M1")
    again = quarters.aggregate(minutes.time)
    np.testing.assert_array_equal(again.prices, minutes.prices)
    np.testing.assert_array_equal(again.volume, minutes.volume)


def test_hours_are_made_of_days_and_make_the_days_again(tmp_path):
    rows = (
        "time,open,high,low,close,volume",
        "2024-05-13T21:00:00Z,156,157,155,156.5,2000",
        "2024-05-14T21:00:00Z,156,157,155,155.5,90",
    )
    (tmp_path / "USD_JPY_D.csv").write_text("\n".join(rows))

    hours, days = select(tmp_path, "H1", "USD_JPY", count=48), select(tmp_path, "D", "USD_JPY")
    quarters = select(tmp_path, "H4", "USD_JPY", alignment=Alignment(0), count=20)

    assert len(hours) == 48
    np.testing.assert_array_equal(hours.aggregate(days.time).prices, days.prices)
    assert hours.aggregate(days.time).volume.tolist() == days.volume.tolist() == [2000, 90]
    assert quarters.volume.sum() == 2090
    assert {time.hour for time in quarters.time.tolist()} == {0, 4, 8, 12, 16, 20}


@pytest.mark.parametrize(
    ("now", "start"), [("2024-05-16T10:07:30", "2024-05-16T08:00"), ("2024-05-15T22:30", "2024-05-15T20:00")]
)
def test_an_hour_that_forms_inside_day_bars_has_its_prices_so_far(tmp_path, now, start):
    rows = (
        "time,open,high,low,close,volume",
        "2024-05-14T21:00:00Z,156,157,155,156.5,9000",
        "2024-05-15T21:00:00Z,156,157,155,156.5,9000",
    )
    (tmp_path / "USD_JPY_D.csv").write_text("\n".join(rows))
    query = CandleQuery("USD_JPY", Granularity.H4, ("B",), None, None, 1, Alignment(0), False, True)

    found, _ = CandleBook(UserBars(tmp_path)).select(query, np.datetime64(now, "us"))

    ticks = UserBars(tmp_path).ticks("USD_JPY", np.datetime64(start, "us"), np.datetime64(now, "us"))
    assert (found.time[0], found.volume[0]) == (np.datetime64(start), len(ticks))


def test_mid_bars_get_the_measured_spread_of_their_hour(tmp_path):
    (tmp_path / "EUR_USD_M1.csv").write_text(MID)

    first = select(tmp_path, "M1")[:1].prices[:, :, 0]

    assert (first[ASK] - first[BID]).tolist() == [14] * 4  # 6 in the morning in New York
    assert first[ASK, HIGH] + first[BID, HIGH] == pytest.approx(217040, abs=1)


def test_only_the_pairs_in_the_folder_are_listed(tmp_path):
    (tmp_path / "EUR_USD_M1.csv").write_text(MID)
    market = Market(UserBars(tmp_path))

    assert list(market.instruments) == ["EUR_USD"]
    assert market.quote("USD_JPY", NOW) is None
    assert market.quote("EUR_USD", NOW).time >= np.datetime64("2024-05-16T10:01")
    assert "own prices" in market.source.description
    assert "ECB" not in market.source.description


def test_a_pair_that_is_no_major_is_listed_on_common_terms_or_on_those_of_a_file(tmp_path):
    bid_ask().to_parquet(tmp_path / "EUR_GBP_M1.parquet")
    common = UserBars(tmp_path).listed["EUR_GBP"]
    (tmp_path / "instruments.json").write_text('{"EUR_GBP": {"margin_rate": "0.0333333", "display_precision": 4}}')

    own = UserBars(tmp_path)

    assert (common.margin_rate, common.display_precision) == (Decimal("0.05"), 5)
    assert (own.listed["EUR_GBP"].margin_rate, own.listed["EUR_GBP"].display_name) == (Decimal("0.0333333"), "EUR/GBP")
    assert own.bars("EUR_GBP", MINUTES[0].to_datetime64(), NOW).prices[BID, :, 1].tolist() == [10851, 10854, 10849, 10852]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it does not say what instruments are like (Expecting"),
        ('{"EUR_USD": {"margin": 1}}', "it has margin; expected any of display_name, type, pip_location"),
        ('{"EUR_USD": {"margin_rate": "much"}}', "it does not say what instruments are like"),
        ('{"EUR_USD": 7}', "it does not say what instruments are like"),
    ],
)
def test_terms_that_cannot_be_read_are_refused(tmp_path, text, words):
    (tmp_path / "EUR_USD_M1.csv").write_text(MID)
    (tmp_path / "instruments.json").write_text(text)

    with pytest.raises(ConfigError) as refusal:
        UserBars(tmp_path)

    assert "instruments.json" in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize(("file", "granularity"), [("M4", "M10"), ("H4", "H6"), ("W", "M")])
def test_candles_that_cannot_be_made_of_the_bars_are_refused(tmp_path, file, granularity):
    start = {"M4": "2024-05-16T10:00:00Z", "H4": "2024-05-16T09:00:00Z", "W": "2024-05-10T21:00:00Z"}[file]
    (tmp_path / f"EUR_USD_{file}.csv").write_text(f"time,open,high,low,close\n{start},1.1,1.1,1.1,1.1\n")

    with pytest.raises(Refusal, match=f"EUR_USD served here are {file}; no {granularity}"):
        select(tmp_path, granularity)


def test_day_bars_are_served_by_the_default_alignment_only(tmp_path):
    (tmp_path / "USD_JPY_D.csv").write_text("time,open,high,low,close\n2024-05-14T21:00:00Z,156,157,155,156.5\n")

    assert select(tmp_path, "D", "USD_JPY").prices[BID, OPEN, 0] == 155993
    with pytest.raises(Refusal, match="aligned as by default"):
        select(tmp_path, "D", "USD_JPY", alignment=Alignment(0))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("EURUSD_M1.csv", MID, "its name is not pair and granularity, or ticks"),
        ("EUR_USD_M3.csv", MID, "its name is not pair and granularity, or ticks"),
        ("XAU_USD_M1.csv", MID, "the spread of XAU_USD was not measured, so its mids are not enough"),
        ("EUR_USD_M1.csv", "time,open,high,low,close\n", "it holds no row"),
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
        ("EUR_USD_M1.csv", MID.replace(",10\n", ",9e9\n"), "counts the prices that came, not units traded"),
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

    query = CandleQuery("EUR_USD", Granularity.H1, ("B",), None, None, 300, OANDA, False, True)
    found, _ = CandleBook(UserBars(tmp_path)).select(query, np.datetime64("2025-01-01", "us"))

    assert [f"{price:.5f}" for price in found.prices[BID, HIGH] / 1e5] == [f"{price:.5f}" for price in wanted.bid_h]
    assert [f"{price:.5f}" for price in found.prices[ASK, LOW] / 1e5] == [f"{price:.5f}" for price in wanted.ask_l]
    assert found.volume.tolist() == wanted.volume.tolist()


def test_the_path_inside_real_bars_makes_them_again(tmp_path):
    source = Path(__file__).resolve().parents[3] / "shared" / "data" / "oanda" / "M5_bidask" / "EUR_USD_M5.parquet"
    if not source.exists():
        pytest.skip("the shared market data is not here")
    (tmp_path / "EUR_USD_M5.parquet").symlink_to(source)
    window = np.datetime64("2025-05-04", "us"), np.datetime64("2025-05-17", "us")

    for style in PathStyle:
        served = UserBars(tmp_path, Intrabar(style))
        bars = served.bars("EUR_USD", *window)
        again = Candles.of_ticks(served.ticks("EUR_USD", *window)).aggregate(bars.time)

        assert len(bars) > 2500
        np.testing.assert_array_equal(again.prices, bars.prices)
        np.testing.assert_array_equal(again.volume, bars.volume)
