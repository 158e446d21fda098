"""The path drawn inside a bar: as many prices as its volume says, which make exactly that bar again, on every side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.errors import BadBar
from mbats.market import Granularity, new_york
from mbats.simulator.alignment import OANDA, candle_ends, starts_between
from mbats.simulator.intrabar import MOST_IN_BAR, Intrabar, PathStyle, draw, drawable
from mbats.simulator.prices import ASK, BID, Candles, Ticks
from mbats.simulator.series import BarSeries
from mbats.simulator.sessions import open_mask

START = {  # of a bar in an ordinary week
    Granularity.S5: "2024-05-15T10:00:05",
    Granularity.M1: "2024-05-15T10:01",
    Granularity.M15: "2024-05-15T20:45",
    Granularity.H1: "2024-05-15T20:00",
    Granularity.H4: "2024-05-15T17:00",
    Granularity.D: "2024-05-15T21:00",
    Granularity.W: "2024-05-10T21:00",
}
RISING, FALLING = [(100, 130, 90, 110)], [(110, 130, 90, 100)]


def bars(granularity: Granularity, prices: list[tuple[int, int, int, int]], volume: int, spread: int = 10) -> Candles:
    """Bars one after the other, with bids of these open, high, low and close."""
    first = np.datetime64(START[granularity], "us")
    times = starts_between(granularity, first, first + len(prices) * np.timedelta64(granularity.length), OANDA)
    bid = np.array(prices, np.int32).T
    return Candles(times[: len(prices)], np.stack([bid, bid + spread, 2 * bid + spread]), np.full(len(prices), volume))


def one(prices: list[tuple[int, int, int, int]], volume: int, **path: object) -> Ticks:
    chosen = Intrabar(**path)
    return draw(
        "EUR_USD", Granularity.M1, drawable("EUR_USD", Granularity.M1, bars(Granularity.M1, prices, volume), chosen), chosen
    )


@st.composite
def two_sided(draw_: st.DrawFn) -> tuple[Granularity, Candles]:
    """Some bars of one length whose sides have paths of their own, as real ones do."""
    granularity = draw_(st.sampled_from(list(START)))
    price = st.integers(1000, 1060)
    columns = []
    for _ in range(draw_(st.integers(1, 4))):
        open_, close = draw_(price), draw_(price)
        high, low = max(open_, close) + draw_(st.integers(0, 9)), min(open_, close) - draw_(st.integers(0, 9))
        spreads = [draw_(st.integers(0, 6)) for _ in range(4)]
        ask_open, ask_close = open_ + spreads[0], close + spreads[1]
        ask_high, ask_low = max(ask_open, ask_close, high) + spreads[2], max(low, min(ask_open, ask_close) - spreads[3])
        columns.append(([open_, high, low, close], [ask_open, ask_high, ask_low, ask_close]))
    bid, ask = np.array(columns, np.int32).transpose(1, 2, 0)
    made = bars(granularity, [(1, 1, 1, 1)] * len(columns), 1)
    volume = np.array([draw_(st.integers(0, 60)) for _ in columns])
    return granularity, Candles(made.time, np.stack([bid, ask, bid + ask]), volume)


@given(two_sided(), st.sampled_from(PathStyle), st.integers(0, 99), st.none() | st.integers(1, 30))
def test_the_prices_inside_a_bar_make_exactly_that_bar_again(some, style, seed, ticks):
    granularity, given_bars = some
    path = Intrabar(style, seed, ticks)
    served = drawable("EUR_USD", granularity, given_bars, path)

    prices = draw("EUR_USD", granularity, served, path)

    again = Candles.of_ticks(prices).aggregate(served.time)
    np.testing.assert_array_equal(again.time, served.time)
    np.testing.assert_array_equal(again.prices, given_bars.prices)
    np.testing.assert_array_equal(again.volume, served.volume)
    assert (np.diff(prices.time) >= np.timedelta64(0)).all()
    assert (prices.time < candle_ends(granularity, served.time)[-1:]).all()
    assert (prices.ask >= prices.bid).all()


@given(two_sided(), st.sampled_from(PathStyle))
def test_a_volume_is_kept_unless_it_is_too_small_to_draw_the_bar(some, style):
    granularity, given_bars = some

    served = drawable("EUR_USD", granularity, given_bars, Intrabar(style))

    enough = given_bars.volume >= 4
    np.testing.assert_array_equal(served.volume[enough], given_bars.volume[enough])
    assert (served.volume[~enough] >= np.maximum(given_bars.volume[~enough], 1)).all()
    assert (served.volume[~enough] <= 4).all()


@pytest.mark.parametrize(
    ("prices", "volume"),
    [((5, 5, 5, 5), 1), ((5, 7, 5, 7), 2), ((5, 7, 5, 5), 3), ((5, 5, 3, 3), 2), ((5, 6, 4, 5), 4), ((5, 9, 4, 7), 4)],
)
def test_a_bar_without_volume_has_the_fewest_prices_that_draw_it(prices, volume):
    assert len(one([tuple(price + 100 for price in prices)], 0)) == volume


@pytest.mark.parametrize(
    ("style", "rising", "falling"),
    [
        (PathStyle.OHLC, [100, 90, 130, 110], [110, 130, 90, 100]),
        (PathStyle.PESSIMISTIC, [100, 90, 130, 110], [110, 90, 130, 100]),
        (PathStyle.PESSIMISTIC_SHORT, [100, 130, 90, 110], [110, 130, 90, 100]),
    ],
)
def test_the_extremes_come_in_the_order_of_the_style(style, rising, falling):
    assert one(RISING, 4, style=style).bid.tolist() == rising
    assert one(FALLING, 4, style=style).bid.tolist() == falling


def test_between_its_corners_the_path_is_straight_or_a_bridge():
    straight, bridge = (np.diff(one(RISING, 40, style=style).bid) for style in (PathStyle.OHLC, PathStyle.BRIDGE))

    assert (straight[:13] <= 0).all()
    assert (straight[13:26] > 0).all()
    assert (straight[26:] < 0).all()
    assert (np.sign(bridge[1:]) != np.sign(bridge[:-1])).sum() > 8
    assert not np.array_equal(bridge, np.diff(one(RISING, 40, style=PathStyle.BRIDGE, seed=1).bid))


def test_a_bridge_goes_over_the_low_first_in_most_bars_that_rise():
    rising = one([(100, 130, 90, 110)] * 400, 50, style=PathStyle.BRIDGE).bid.reshape(400, 50)

    low_first = rising.argmin(axis=1) < rising.argmax(axis=1)

    assert 260 < low_first.sum() < 340


def test_bars_can_be_drawn_with_one_number_of_prices_for_all():
    assert len(one(RISING * 3, 1000, ticks=7)) == 21
    assert len(one(RISING, 1000, ticks=1)) == 4


@pytest.mark.parametrize(
    ("granularity", "first", "last"),
    [(Granularity.H1, "16:00", "16:57"), (Granularity.H4, "13:00", "16:57"), (Granularity.D, "17:04", "16:57")],
)
def test_prices_of_a_longer_bar_come_while_the_market_is_open(granularity, first, last):
    prices = draw("EUR_USD", granularity, bars(granularity, RISING, 5000), Intrabar())

    assert open_mask(prices.time.astype(np.int64)).all()
    assert [f"{time:%H:%M}" for time in new_york(prices.time[[0, -1]])] == [first, last]


def test_the_last_of_many_prices_still_lies_in_its_bar():
    prices = one(RISING, 50_000)

    assert prices.time[-1] < np.datetime64("2024-05-15T10:02", "us")
    assert prices.time[-1] >= np.datetime64("2024-05-15T10:01:59.998", "us")


def test_a_week_has_no_price_at_the_weekend_that_it_begins_with():
    prices = draw("EUR_USD", Granularity.W, bars(Granularity.W, RISING, 500), Intrabar())

    assert str(prices.time[0])[:13] == "2024-05-12T21"
    assert str(prices.time[-1])[:13] == "2024-05-17T20"


def test_a_bar_at_a_time_at_which_the_market_is_shut_has_its_prices_all_the_same():
    saturday = Candles(np.array(["2024-05-18T10:00"], "datetime64[us]"), bars(Granularity.M1, RISING, 9).prices, np.array([9]))

    prices = draw("EUR_USD", Granularity.M1, saturday, Intrabar())

    assert Candles.of_ticks(prices).aggregate(saturday.time).prices.tolist() == saturday.prices.tolist()


@given(two_sided(), st.sampled_from(PathStyle), st.floats(0, 1), st.floats(0, 1))
def test_a_window_has_the_same_prices_whichever_window_it_is(some, style, one_end, other_end):
    granularity, given_bars = some
    path = Intrabar(style)
    served = drawable("EUR_USD", granularity, given_bars, path)
    series = BarSeries("EUR_USD", granularity, served.time[0], served.between, path)
    begin, stop = served.time[0], candle_ends(granularity, served.time)[-1]
    start, end = (begin + (stop - begin) * part for part in sorted((one_end, other_end)))

    found, wanted = series.ticks(start, end), series.ticks(begin, stop).between(start, end)

    for column in ("time", "bid", "ask"):
        np.testing.assert_array_equal(getattr(found, column), getattr(wanted, column))


def test_a_volume_that_counts_units_is_refused():
    with pytest.raises(BadBar, match="counts the prices that came, not units traded"):
        drawable("EUR_USD", Granularity.M1, bars(Granularity.M1, RISING, MOST_IN_BAR + 1), Intrabar())


def test_an_ask_whose_high_is_below_the_bids_is_refused():
    crossed = bars(Granularity.M1, RISING, 9)
    crossed.prices[ASK, 1] = crossed.prices[BID, 1] - 1

    with pytest.raises(BadBar, match="the ask's high or low is below the bid's"):
        drawable("EUR_USD", Granularity.M1, crossed, Intrabar())
