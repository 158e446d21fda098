"""Every source of prices alike: the weeks in which the clocks change, and candles that are made of the single prices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mbats.market import Granularity
from mbats.simulator.alignment import OANDA, Alignment, starts_between
from mbats.simulator.candles import CandleBook
from mbats.simulator.errors import Refusal
from mbats.simulator.market import Market
from mbats.simulator.prices import Candles, PriceSource
from mbats.simulator.queries import CandleQuery
from mbats.simulator.scripted import ScriptedSource
from mbats.simulator.sessions import open_mask
from mbats.simulator.shift import ShiftedSource
from mbats.simulator.userbars import UserBars

KINDS = ["sample", "M1 file", "M30 file", "H4 file", "D file", "ticks file", "scripted", "changed", "shifted"]
SPRING, AUTUMN = np.datetime64("2024-03-06", "us"), np.datetime64("2024-10-30", "us")  # Wednesdays before the changes
SPAN = np.timedelta64(8, "D")
NOW = np.datetime64("2024-12-31", "us")


def bid_ask(candles: Candles) -> dict[str, Any]:
    names = ["open", "high", "low", "close"]
    prices = {
        f"{side}_{name}": candles.prices[i, j] / 1e5 for i, side in enumerate(("bid", "ask")) for j, name in enumerate(names)
    }
    return {"time": candles.time, "volume": candles.volume} | prices


def user_file(market: PriceSource, base: str, folder: Path) -> UserBars:
    """The sample market's fortnights as a file of the user's."""
    windows = [(begin - np.timedelta64(7, "D"), begin + SPAN) for begin in (SPRING, AUTUMN)]
    file = folder / f"EUR_USD_{base}.parquet"
    if base == "ticks":
        ticks = [market.ticks("EUR_USD", *window)[::20] for window in windows]
        pd.concat([pd.DataFrame({"time": t.time, "bid": t.bid / 1e5, "ask": t.ask / 1e5}) for t in ticks]).to_parquet(file)
        return UserBars(folder)
    parts = []
    for window in windows:
        starts = starts_between(Granularity(base), *window, OANDA)
        bars = market.bars("EUR_USD", starts[0], window[1]).aggregate(starts)
        parts.append(Candles(bars.time, bars.prices, bars.volume // 20))
    pd.DataFrame(bid_ask(Candles.concatenate(parts))).to_parquet(file)
    return UserBars(folder)


@pytest.fixture(scope="module", params=KINDS)
def source(request, market, tmp_path_factory) -> PriceSource:
    kind = request.param
    if kind == "sample":
        return market
    if kind == "shifted":
        return ShiftedSource(market, 522)
    if kind.endswith("file"):
        return user_file(market, kind.split()[0], tmp_path_factory.mktemp("bars"))
    changed = Market(ScriptedSource(["EUR_USD"]) if kind == "scripted" else market)
    for begin in (SPRING, AUTUMN):
        # On weekdays: what is scripted at a weekend has a day of its own.
        for minute in [minute for minute in range(0, 8 * 1440, 35) if not 3 * 1440 - 180 < minute < 4 * 1440 + 1330]:
            time = begin + np.timedelta64(minute, "m")
            changed.apply({"change": "tick", "instrument": "EUR_USD", "time": f"{time}Z", "bid": 1 + minute / 1e5, "ask": 1.3})
    if kind == "changed":
        changed.apply({"change": "spread", "time": "2024-03-07T12:00:00Z", "until": "2024-03-12T15:30:30Z", "factor": 3})
        changed.apply({"change": "halt", "time": "2024-11-04T12:00:00Z"})
        changed.apply({"change": "resume", "time": "2024-11-04T16:00:30Z"})
    return changed.source


def candles(source: PriceSource, granularity: str, begin: np.datetime64, alignment: Alignment = OANDA) -> Candles:
    query = CandleQuery("EUR_USD", Granularity(granularity), ("B",), begin, begin + SPAN, None, alignment, False, True)
    return CandleBook(source).select(query, NOW)[0]


def assert_same(left: Candles, right: Candles) -> None:
    for column in left.__slots__:
        np.testing.assert_array_equal(getattr(left, column), getattr(right, column))


@pytest.mark.parametrize(("begin", "before", "after"), [(SPRING, 22, 21), (AUTUMN, 21, 22)])
def test_days_begin_at_five_in_new_york_on_both_sides_of_the_change(source, begin, before, after):
    days = candles(source, "D", begin)

    moments = [(time.weekday(), time.hour) for time in days.time.tolist() if time.weekday() in (6, 0, 1, 2, 3)]
    assert moments == [(1, before), (2, before), (3, before), (6, after), (0, after), (1, after), (2, after)]


@pytest.mark.parametrize(("begin", "sunday", "hours"), [(SPRING, "2024-03-10T05", 23), (AUTUMN, "2024-11-03T04", 25)])
def test_the_sunday_of_the_change_has_23_or_25_hours(source, begin, sunday, hours):
    if source.base("EUR_USD").day_aligned:
        with pytest.raises(Refusal, match="aligned as by default"):
            candles(source, "D", begin, Alignment(0))
        return
    days = candles(source, "D", begin, Alignment(0))

    (row,) = np.flatnonzero(days.time == np.datetime64(sunday, "us"))
    ticks = source.ticks("EUR_USD", days.time[row], days.time[row] + np.timedelta64(hours, "h"))
    assert days.time[row + 1] - days.time[row] == np.timedelta64(hours, "h")
    assert days.volume[row] == len(ticks) > 0


@pytest.mark.parametrize("begin", [SPRING, AUTUMN])
@pytest.mark.parametrize("granularity", ["M30", "H4", "D"])
def test_candles_are_made_of_the_single_prices_on_every_side(source, begin, granularity):
    starts = starts_between(Granularity(granularity), begin, begin + SPAN, OANDA)
    made = Candles.of_ticks(source.ticks("EUR_USD", starts[0], begin + SPAN)).aggregate(starts)

    found = candles(source, granularity, begin)

    inside = (found.time >= starts[0]) & (found.time < starts[-1])
    assert inside.sum() > 4
    assert_same(found[inside], made[made.time < starts[-1]])


def test_seconds_make_the_minutes_again(source):
    begin = np.datetime64("2024-03-11T09:00", "us")
    starts = starts_between(Granularity.M1, begin, begin + np.timedelta64(6, "h"), OANDA)

    ticks = Candles.of_ticks(source.ticks("EUR_USD", begin, starts[-1]))
    seconds = ticks.aggregate(starts_between(Granularity.S5, begin, starts[-1], OANDA))

    book = CandleBook(source)
    query = CandleQuery("EUR_USD", Granularity.M1, ("B",), begin, starts[-1], None, OANDA, False, True)
    assert_same(seconds.aggregate(starts), book.select(query, NOW)[0])


@pytest.mark.parametrize("begin", [SPRING, AUTUMN])
def test_what_can_be_traded_comes_in_sessions_and_in_order(source, begin):
    times = np.concatenate([batch.time for batch in Market(source).ticks(["EUR_USD"], begin, begin + SPAN)])

    assert len(times) > 100
    assert open_mask(times.astype(np.int64)).all()
    assert (np.diff(times) >= np.timedelta64(0)).all()
    every = source.ticks("EUR_USD", begin, begin + SPAN).time
    assert len(times) == open_mask(every.astype(np.int64)).sum()
