"""The sample market is the real one's likeness: ECB rates at the fixing, the measured facts in between."""

from __future__ import annotations

import numpy as np
import pytest

from mbats.market import MAJORS, Granularity, bar_starts, is_holiday, new_york, to_datetime
from mbats.simulator.alignment import OANDA, candle_starts, starts_between
from mbats.simulator.anchors import local_level
from mbats.simulator.ecb import reference_rates
from mbats.simulator.params import market_params
from mbats.simulator.prices import ASK, BID, CLOSE, HIGH, LOW, MID, OPEN, Candles
from mbats.simulator.sample import SampleMarket

START, END = np.datetime64("2022-06-01", "us"), np.datetime64("2023-06-01", "us")
HOURS = range(24)


def mids(candles: Candles, pair: str, price: int = CLOSE) -> np.ndarray:
    return candles.prices[MID, price] / 2 / 10 ** market_params().pairs[pair].decimals


def daily(market: SampleMarket, pair: str, start: str, end: str) -> Candles:
    """Days made a year at a time, so that the minutes of decades are never held at once."""
    parts = []
    for year in np.arange(np.datetime64(start, "Y"), np.datetime64(end, "Y")):
        first, last = year.astype("datetime64[us]"), (year + 1).astype("datetime64[us]")
        days = starts_between(Granularity.D, first, last, OANDA)
        parts.append(market.bars(pair, days[0], days[-1] + np.timedelta64(1, "D")).aggregate(days))
    return Candles.concatenate(parts)


@pytest.fixture(scope="module")
def year(market) -> dict[str, Candles]:
    """A year of minutes of three pairs."""
    return {pair: market.bars(pair, START, END) for pair in ("EUR_USD", "USD_JPY", "NZD_USD")}


@pytest.fixture(scope="module")
def days(market) -> dict[str, Candles]:
    """Seven years of days of all pairs."""
    return {pair: daily(market, pair, "2014", "2021") for pair in MAJORS}


def minute_returns(candles: Candles, pair: str) -> tuple[np.ndarray, np.ndarray]:
    """Log returns between minutes that follow each other, and their New York hours."""
    follows = np.diff(candles.time) == np.timedelta64(60, "s")
    returns = np.diff(np.log(mids(candles, pair)))[follows]
    return returns, new_york(candles.time[1:][follows]).hour.to_numpy()


@pytest.mark.parametrize("pair", MAJORS)
def test_mid_equals_the_ecb_rate_at_fourteen_ten_frankfurt_within_a_pip(market, pair):
    rates = reference_rates()
    pip = 10.0 ** (1 - market_params().pairs[pair].decimals)
    checked = 0
    for first in ("2005-01-03", "2015-01-01", "2024-01-01"):
        start = np.datetime64(first, "us")
        end = start + np.timedelta64(730, "D")
        candles = market.bars(pair, start, end)
        wanted = (rates.times >= start) & (rates.times < end)
        wanted &= [not is_holiday(day.item()) for day in rates.days]
        at = np.searchsorted(candles.time, rates.times[wanted])
        fixing = rates.mids[wanted, MAJORS.index(pair)]
        np.testing.assert_array_equal(candles.time[at], rates.times[wanted])
        assert np.abs(mids(candles, pair, OPEN)[at] - fixing).max() < pip / 10
        assert np.abs(mids(candles, pair, CLOSE)[at - 1] - fixing).max() < pip / 10
        checked += int(wanted.sum())
    assert checked > 1500


def test_the_fixing_follows_summer_time_of_frankfurt_not_of_new_york():
    rates = reference_rates()
    by_day = dict(zip(rates.days.astype(str), rates.times.astype(str), strict=True))

    assert by_day["2024-03-20"][11:16] == "13:10"  # New York has changed, Frankfurt has not
    assert by_day["2024-04-02"][11:16] == "12:10"


@pytest.mark.parametrize("pair", ["EUR_USD", "USD_JPY", "NZD_USD"])
def test_volatility_by_hour_is_the_measured_one(year, pair):
    returns, hours = minute_returns(year[pair], pair)
    measured = market_params().pairs[pair].relative_volatility
    made = np.array([returns[hours == hour].std() for hour in HOURS])

    ratio = made / np.sqrt((made**2).mean()) / (measured / np.sqrt((measured**2).mean()))

    assert np.corrcoef(made.argsort().argsort(), measured.argsort().argsort())[0, 1] > 0.97
    assert np.abs(ratio - 1).max() < 0.12


def test_minutes_have_the_measured_size_in_the_long_run(market):
    for pair in ("EUR_USD", "AUD_USD"):
        samples = [minute_returns(market.bars(pair, y, y + np.timedelta64(20, "D")), pair)[0] for y in YEARS]
        assert np.concatenate(samples).std() == pytest.approx(market_params().pairs[pair].minute_sd, rel=0.25)


YEARS = [np.datetime64(f"{year}-{month:02}-03", "us") for year in range(2006, 2026, 2) for month in (2, 9)]


def test_days_swing_as_much_as_the_ecb_rates_do(days):
    """Neither about the anchors nor from one to the next: a day that ends at 17:00 New York is like one that ends at 14:10."""
    rates = reference_rates()
    within = (rates.days >= np.datetime64("2014")) & (rates.days < np.datetime64("2021"))
    for pair in MAJORS:
        returns = np.diff(np.log(mids(days[pair], pair)))
        fixings = np.diff(np.log(rates.mids[within, MAJORS.index(pair)]))
        assert np.abs(returns).mean() == pytest.approx(np.abs(fixings).mean(), rel=0.08), pair
        ranks = returns.argsort().argsort()  # the franc's day of January 2015 would drown all others
        assert abs(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) < 0.06, pair


def test_daily_standard_deviation_is_near_the_measured_one(days):
    for pair in MAJORS:
        returns = np.diff(np.log(mids(days[pair], pair)))
        assert returns.std() == pytest.approx(market_params().pairs[pair].day_sd, rel=0.30), pair


def test_pairs_move_together_as_measured(days):
    returns = [np.diff(np.log(mids(days[pair], pair))) for pair in MAJORS]
    made = np.corrcoef(returns)

    assert np.abs(made - market_params().correlation).max() < 0.2
    assert np.abs(made - market_params().correlation).mean() < 0.07


def test_minutes_of_different_pairs_are_correlated_too(market):
    month = (np.datetime64("2026-11-02", "us"), np.datetime64("2026-11-20", "us"))  # no rate to follow: free paths
    closes = {pair: market.bars(pair, *month) for pair in ("EUR_USD", "USD_CHF")}
    common, left, right = np.intersect1d(*(candles.time for candles in closes.values()), return_indices=True)
    made = np.corrcoef(
        np.diff(np.log(mids(closes["EUR_USD"], "EUR_USD")[left])), np.diff(np.log(mids(closes["USD_CHF"], "USD_CHF")[right]))
    )[0, 1]

    assert len(common) > 15_000
    assert -0.9 < made < -0.6  # -0.79 by day


def test_returns_have_fat_tails_and_volatility_clusters(year):
    returns, hours = minute_returns(year["EUR_USD"], "EUR_USD")
    plain = returns / market_params().pairs["EUR_USD"].relative_volatility[hours]
    size = np.abs(plain)

    def autocorrelation(lag: int) -> float:
        return float(np.corrcoef(size[lag:], size[:-lag])[0, 1])

    assert ((plain - plain.mean()) ** 4).mean() / plain.var() ** 2 - 3 > 2
    found = [autocorrelation(lag) for lag in (1, 15, 240, 1436)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.12
    assert found[-1] > 0.01


def test_ticks_by_hour_are_the_measured_ones(year):
    for pair, candles in year.items():
        hours = new_york(candles.time).hour.to_numpy()
        open_days = len(np.unique(candle_starts(Granularity.D, candles.time[::30])))
        made = np.bincount(hours, candles.volume, 24) / open_days
        np.testing.assert_allclose(made, market_params().pairs[pair].ticks, rtol=0.1)


def test_spreads_by_hour_are_the_measured_ones(year):
    for pair, candles in year.items():
        spread = candles.prices[ASK, CLOSE] - candles.prices[BID, CLOSE]
        hours = new_york(candles.time).hour.to_numpy()
        made = np.array([np.median(spread[hours == hour]) for hour in HOURS])
        np.testing.assert_allclose(made, market_params().pairs[pair].spread_points_by_hour, rtol=0.08, atol=0.5)
        assert spread.min() >= 1


def test_spread_is_widest_around_the_rollover(year):
    candles = year["EUR_USD"]
    spread = candles.prices[ASK, CLOSE] - candles.prices[BID, CLOSE]
    wall = new_york(candles.time)
    minute = (wall.hour * 60 + wall.minute).to_numpy()

    assert spread[minute == 17 * 60 + 4].mean() > 1.3 * spread[minute == 17 * 60 + 40].mean()
    assert spread[minute == 16 * 60 + 59].mean() > 1.3 * spread[minute == 16 * 60 + 20].mean()


def test_ranges_and_gaps_of_minutes_are_like_real_ones(year):
    """Measured on real minutes of EUR_USD: range 1.82 times the move, a gap of 0.13 basis points to the next open."""
    candles = year["EUR_USD"]
    open_, high, low, close = (np.log(mids(candles, "EUR_USD", price)) for price in (OPEN, HIGH, LOW, CLOSE))
    follows = np.diff(candles.time) == np.timedelta64(60, "s")
    moves = np.abs(close - open_)

    assert (high - low).mean() / moves.mean() == pytest.approx(1.82, abs=0.12)
    assert (open_[1:] - close[:-1])[follows].std() / (close - open_).std() == pytest.approx(0.09, abs=0.04)
    assert (open_[1:] != close[:-1]).mean() > 0.7


def test_weekend_jumps_have_the_measured_size(market):
    for pair in ("EUR_USD", "USD_JPY"):
        jumps = []
        for year in range(2008, 2024):
            # Weeks around four Sundays of each year; the jump is from Friday's last price to Sunday's first.
            for month in (2, 5, 8, 11):
                sunday = np.datetime64(f"{year}-{month:02}-01", "D") + (
                    6 - (np.datetime64(f"{year}-{month:02}-01").astype(int) + 3) % 7
                )
                friday = market.bars(pair, (sunday - 2).astype("datetime64[us]"), (sunday - 1).astype("datetime64[us]"))
                opening = market.bars(pair, sunday.astype("datetime64[us]"), (sunday + 1).astype("datetime64[us]"))
                jumps.append(np.log(mids(opening, pair, OPEN)[0] / mids(friday, pair)[-1]))
        assert np.sqrt(np.mean(np.square(jumps))) == pytest.approx(market_params().pairs[pair].weekend_sd, rel=0.5)
        assert np.median(np.abs(jumps)) < 0.7 * market_params().pairs[pair].weekend_sd  # wilder than a normal one


def test_no_price_comes_while_the_market_is_shut(year):
    for candles in year.values():
        wall = new_york(candles.time)
        minute = (wall.hour * 60 + wall.minute).to_numpy()
        weekday = wall.day_of_week.to_numpy()
        assert not ((minute >= 17 * 60) & (minute < 17 * 60 + 4)).any()
        assert not (weekday == 5).any()
        assert not ((weekday == 4) & (minute >= 17 * 60)).any()
        assert not ((weekday == 6) & (minute < 17 * 60 + 4)).any()


def test_days_are_exactly_those_of_the_calendar_over_ten_years(market):
    expected = bar_starts(Granularity.D, to_datetime(np.datetime64("2008-01-01")), to_datetime(np.datetime64("2018-01-01")))

    np.testing.assert_array_equal(daily(market, "EUR_USD", "2008", "2018").time, expected)


def test_days_start_at_21_or_22_utc_through_the_changes_of_clocks(days):
    starts = {str(start)[:10]: str(start)[11:16] for start in days["EUR_USD"].time}

    assert starts["2019-03-07"] == "22:00"
    assert starts["2019-03-10"] == "21:00"  # the Sunday of the change
    assert starts["2019-10-31"] == "21:00"
    assert starts["2019-11-03"] == "22:00"
    assert set(starts.values()) == {"21:00", "22:00"}


def test_christmas_and_new_year_have_no_prices(market):
    closed = market.bars("EUR_USD", np.datetime64("2023-12-24T22:00", "us"), np.datetime64("2023-12-25T22:00", "us"))

    assert not len(closed)


def test_the_market_runs_on_after_the_last_known_rate(market):
    last = market.last_rate.astype("datetime64[us]")
    later = market.bars("GBP_USD", last + np.timedelta64(400, "D"), last + np.timedelta64(407, "D"))
    again = SampleMarket(20050103).bars("GBP_USD", last + np.timedelta64(400, "D"), last + np.timedelta64(407, "D"))

    assert len(later) > 6000
    np.testing.assert_array_equal(later.prices, again.prices)


def test_another_seed_is_another_path_between_the_same_fixings():
    moment = reference_rates().times[3000]
    window = (moment - np.timedelta64(2, "h"), moment + np.timedelta64(1, "m"))
    one, other = (SampleMarket(seed).bars("EUR_USD", *window) for seed in (1, -2))

    assert not np.array_equal(one.prices[MID, CLOSE, :100], other.prices[MID, CLOSE, :100])
    assert abs(int(one.prices[MID, OPEN, -1]) - int(other.prices[MID, OPEN, -1])) <= 2


def test_a_shock_lifts_its_own_day_and_fades():
    returns = np.full(200, 0.005)
    returns[100] = 0.15

    level = local_level(returns, np.full(200, 0.005**2))

    assert level[99] == pytest.approx(1, abs=0.05)
    assert level[100] > 5
    assert level[101] < 1.6
    assert level[180] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_every_seed_fills_a_year_with_minutes(seed):
    assert len(SampleMarket(seed).bars("USD_CHF", START, END)) > 360_000
