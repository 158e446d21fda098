"""What somebody does to prices: nothing before it changes, and candles stay those of the single prices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.market import Granularity
from mbats.simulator.alignment import OANDA, candle_ends, starts_between
from mbats.simulator.intrabar import Intrabar, drawable
from mbats.simulator.market import Market
from mbats.simulator.prices import BID, CLOSE, HIGH, Candles, PriceSource, Ticks
from mbats.simulator.queries import CandleQuery
from mbats.simulator.scripted import ScriptedSource
from mbats.simulator.series import BarSeries

BEGIN = np.datetime64("2024-05-16T18:00", "us")  # Thursday; the daily break is at 20:58
SPAN = 6 * 3600
END = BEGIN + np.timedelta64(SPAN, "s")


def at(second: float) -> str:
    return f"{BEGIN + np.timedelta64(round(second * 1e6), 'us')}Z"


def assert_same(left: Any, right: Any) -> None:
    for column in left.__slots__:
        np.testing.assert_array_equal(getattr(left, column), getattr(right, column))


class OneSeries:
    """Bars of one length as a source."""

    description, instruments, refines = "bars", ("EUR_USD",), True
    listed = ScriptedSource(["EUR_USD"]).listed

    def __init__(self, base: Granularity, bars: Candles) -> None:
        bars = drawable("EUR_USD", base, bars, Intrabar())
        self._series = BarSeries("EUR_USD", base, bars.time[0], bars.between, Intrabar())

    def base(self, instrument: str) -> Granularity:
        return self._series.base

    def first(self, instrument: str) -> np.datetime64:
        return self._series.first

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        return self._series.bars(start, end)

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        return self._series.ticks(start, end)


@pytest.fixture(scope="module")
def sources(market) -> dict[str, PriceSource]:
    """The sample market, quarters of an hour and days made of it, and a market without prices."""
    made: dict[str, PriceSource] = {"sample": market, "scripted": ScriptedSource(["EUR_USD"])}
    minutes = market.bars("EUR_USD", BEGIN - np.timedelta64(10, "D"), END + np.timedelta64(10, "D"))
    for name, base in (("quarters", Granularity.M15), ("days", Granularity.D)):
        made[name] = OneSeries(base, minutes.aggregate(starts_between(base, minutes.time[0], minutes.time[-1], OANDA)))
    return made


@st.composite
def changes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Some changes in some order, within and a little outside of the six hours that are looked at."""
    found = []
    for _ in range(draw(st.integers(1, 7))):
        second = draw(st.one_of(st.integers(-60, SPAN + 60), st.integers(0, SPAN // 60).map(lambda minute: 60 * minute)))
        kind = draw(st.sampled_from(["tick", "tick", "halt", "resume", "gap", "spread", "freeze", "liquidity"]))
        change: dict[str, Any] = {"change": kind, "instrument": "EUR_USD", "time": at(second)}
        if kind == "tick":
            bid = draw(st.integers(100_000, 130_000))
            change |= {"bid": bid / 1e5, "ask": (bid + draw(st.integers(0, 500))) / 1e5}
        if kind == "gap":
            change["points"] = draw(st.integers(-120_000, 3000))
        if kind == "spread":
            change["factor"] = draw(st.sampled_from([0, 0.5, 1, 3, 20]))
        if kind == "liquidity":
            change["levels"] = []
        if kind in ("spread", "freeze", "liquidity") and draw(st.booleans()):
            change["until"] = at(second + draw(st.integers(0, 7200)))
        found.append(change)
    return found


@pytest.mark.parametrize("kind", ["sample", "quarters", "days", "scripted"])
@settings(max_examples=40)
@given(st.data())
def test_bars_are_made_of_the_changed_prices(sources, kind, data):
    market = Market(sources[kind])
    for change in data.draw(changes()):
        market.apply(change)
    base = market.source.base("EUR_USD")
    starts = starts_between(base, BEGIN, END, OANDA)
    if not len(starts):  # no day begins in so short a time, but one goes on in it
        starts = np.array(["2024-05-15T21:00"], "datetime64[us]")
    end = candle_ends(base, starts)[-1]

    bars = market.source.bars("EUR_USD", starts[0], end)

    assert_same(bars, Candles.of_ticks(market.source.ticks("EUR_USD", starts[0], end)).aggregate(starts))


@settings(max_examples=40)
@given(changes(), st.integers(0, SPAN), st.integers(0, SPAN))
def test_changed_prices_are_the_same_in_any_window(sources, made, one, other):
    market = Market(sources["sample"])
    for change in made:
        market.apply(change)
    start, end = (BEGIN + np.timedelta64(second, "s") for second in sorted((one, other)))

    assert_same(market.source.ticks("EUR_USD", start, end), market.source.ticks("EUR_USD", BEGIN, END).between(start, end))


@settings(max_examples=40)
@given(changes())
def test_nothing_before_a_change_is_touched(sources, made):
    plain = sources["sample"]
    market = Market(plain)
    for change in made:
        market.apply(change)
    since = min(np.datetime64(change["time"][:-1], "us") for change in made)
    past = max(BEGIN, since)

    assert_same(market.source.ticks("EUR_USD", BEGIN, past), plain.ticks("EUR_USD", BEGIN, past))
    whole = past.astype("datetime64[m]").astype("datetime64[us]")
    assert_same(market.source.bars("EUR_USD", BEGIN, whole), plain.bars("EUR_USD", BEGIN, whole))
    assert_same(market.source.ticks("USD_JPY", BEGIN, END), plain.ticks("USD_JPY", BEGIN, END))


def test_a_spread_is_widened_around_the_mid_while_it_lasts(market):
    changed = Market(market)
    changed.apply({"change": "spread", "time": at(600), "until": at(1200), "factor": 20})
    before, after = (source.ticks("EUR_USD", BEGIN, BEGIN + np.timedelta64(1800, "s")) for source in (market, changed.source))
    second = (before.time - BEGIN).astype(np.int64) / 1e6
    inside = (second >= 600) & (second < 1200)

    np.testing.assert_array_equal((after.ask - after.bid)[inside], (20 * (before.ask - before.bid))[inside])
    assert (np.abs((after.ask + after.bid) - (before.ask + before.bid)) <= 1).all()
    assert_same(after[~inside], before[~inside])


def test_a_frozen_market_has_no_new_prices_and_can_be_traded_on(market):
    changed = Market(market)
    changed.apply({"change": "freeze", "instrument": "EUR_USD", "time": at(600)})
    changed.apply({"change": "freeze", "instrument": "EUR_USD", "time": at(1200), "until": at(1200)})

    frozen, thawed = (changed.quote("EUR_USD", BEGIN + np.timedelta64(second, "s")) for second in (1100, 1300))

    assert frozen.time < BEGIN + np.timedelta64(600, "s")
    assert frozen.tradeable
    assert thawed.time > BEGIN + np.timedelta64(1200, "s")


def test_gaps_add_up_and_last(market):
    changed = Market(market)
    for _ in range(2):
        changed.apply({"change": "gap", "instrument": "EUR_USD", "time": at(60), "points": -500})
    later = BEGIN + np.timedelta64(33, "D")  # a Tuesday
    window = (later, later + np.timedelta64(7200, "s"))

    assert len(market.bars("EUR_USD", *window)) == 120
    np.testing.assert_array_equal(changed.source.ticks("EUR_USD", *window).bid, market.ticks("EUR_USD", *window).bid - 1000)
    np.testing.assert_array_equal(
        changed.source.bars("EUR_USD", *window).prices[2], market.bars("EUR_USD", *window).prices[2] - 2000
    )


def test_a_later_change_of_a_kind_takes_the_place_of_the_one_before_it(market):
    changed = Market(market)
    changed.apply({"change": "spread", "time": at(0), "factor": 2})
    changed.apply({"change": "spread", "time": at(600), "until": at(900), "factor": 5})
    spreads = []
    for second in (0, 600, 900):
        window = tuple(BEGIN + np.timedelta64(second + more, "s") for more in (0, 300))
        ticks, plain = changed.source.ticks("EUR_USD", *window), market.ticks("EUR_USD", *window)
        spreads.append(int((ticks.ask - ticks.bid)[0]) / int((plain.ask - plain.bid)[0]))

    assert spreads == [2, 5, 1]


@pytest.mark.parametrize("granularity", ["S5", "M1", "M5", "H1", "D", "W"])
def test_candles_that_were_asked_for_before_notice_a_change(market, granularity):
    changed, now = Market(market), END
    query = CandleQuery("EUR_USD", Granularity(granularity), ("B",), None, None, 3, OANDA, False, True)
    candles, _ = changed.candles.select(query, now)
    assert candles.prices[BID, HIGH, -1] < 200_000

    changed.apply({"change": "tick", "instrument": "EUR_USD", "time": at(SPAN - 1), "bid": 2, "ask": 2.1})

    crazy, _ = changed.candles.select(query, now)
    assert crazy.prices[BID, HIGH, -1] == 200_000
    assert crazy.volume[-1] == candles.volume[-1] + 1
    assert_same(crazy[:-1], candles[:-1])
    later, complete = changed.candles.select(query, now + np.timedelta64(40, "D"))
    assert complete[0]
    assert later.prices[BID, HIGH].max() < 200_000


def test_a_scripted_market_has_the_candles_of_its_prices(sources):
    market = Market(sources["scripted"])
    query = CandleQuery("EUR_USD", Granularity.H1, ("B",), None, None, 9, OANDA, False, True)
    assert not len(market.candles.select(query, END)[0])
    for second, bid in ((0, "1.1"), (1800, "1.3"), (3599, "1.2"), (3 * 3600, "1.4")):
        market.apply({"change": "tick", "instrument": "EUR_USD", "time": at(second), "bid": bid, "ask": bid})

    candles, complete = market.candles.select(query, END)

    assert [str(time)[11:16] for time in candles.time] == ["18:00", "21:00"]
    assert candles.prices[BID, :, 0].tolist() == [110_000, 130_000, 110_000, 120_000]
    assert candles.prices[BID, CLOSE, 1] == 140_000
    assert complete.tolist() == [True, True]
    assert candles.volume.tolist() == [3, 1]


def test_a_price_scripted_at_a_weekend_is_in_the_candles(market):
    changed = Market(market)
    saturday = "2024-05-18T12:00:01Z"
    changed.apply({"change": "tick", "instrument": "EUR_USD", "time": saturday, "bid": "1.1", "ask": "1.2"})

    query = CandleQuery("EUR_USD", Granularity.M1, ("B",), None, None, 1, OANDA, False, True)
    candles, _ = changed.candles.select(query, np.datetime64("2024-05-18T13:00", "us"))

    assert str(candles.time[0])[:16] == "2024-05-18T12:00"
    assert changed.quote("EUR_USD", np.datetime64("2024-05-18T13:00", "us")).tradeable is False
    assert not list(changed.ticks(["EUR_USD"], np.datetime64("2024-05-18", "us"), np.datetime64("2024-05-19", "us")))
