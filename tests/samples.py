"""Bars and instruments made up for tests, and the real candles as bars."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from mbats.market import Bars, Instrument, Times


def sample_instrument(name: str = "EUR_USD") -> Instrument:
    """An instrument with OANDA's usual figures."""
    yen = name.endswith("JPY")
    return Instrument(
        name=name,
        display_name=name.replace("_", "/"),
        type="CURRENCY",
        pip_location=-2 if yen else -4,
        display_precision=3 if yen else 5,
        units_precision=0,
        minimum_units=Decimal("1"),
        maximum_units=Decimal("100000000"),
        margin_rate=Decimal("0.0333"),
        long_rate=Decimal("-0.0213"),
        short_rate=Decimal("0.0021"),
        financing_days=(1, 1, 3, 1, 1, 0, 0),
    )


def random_bars(times: Times, seed: int = 1) -> Bars:
    """A random walk with these starts: prices in tenths of a pip, so that they are what a broker would send."""
    generator = np.random.default_rng(seed)
    count = len(times)
    close = 110_000 + np.cumsum(generator.integers(-50, 51, count))
    open_ = close + generator.integers(-30, 31, count)
    high = np.maximum(open_, close) + generator.integers(0, 20, count)
    low = np.minimum(open_, close) - generator.integers(0, 20, count)
    spread = generator.integers(5, 20, count)
    bid = [column / 100_000 for column in (open_, high, low, close)]
    ask = [(column + spread) / 100_000 for column in (open_, high, low, close)]
    return Bars(np.asarray(times, "datetime64[us]"), *bid, *ask, generator.integers(1, 5000, count))


def real_times(file: Path) -> Times:
    """The starts of the real candles in a file of `shared_data`."""
    return np.asarray(pd.read_parquet(file, columns=["ts"])["ts"].dt.tz_convert(None).to_numpy(), "datetime64[us]")


def real_bars(file: Path) -> Bars:
    """The real candles in a file of `shared_data`; where it holds mid prices alone, the spread is zero."""
    candles = pd.read_parquet(file)
    times = candles["ts"].dt.tz_convert(None)
    if "bid_o" not in candles:
        return Bars.from_mid(times, *(candles[name] for name in ("open", "high", "low", "close", "volume")))
    prices = (candles[f"{side}_{price}"].to_numpy(np.float64) for side in ("bid", "ask") for price in "ohlc")
    return Bars(np.asarray(times, "datetime64[us]"), *prices, candles["volume"].to_numpy(np.int64))
