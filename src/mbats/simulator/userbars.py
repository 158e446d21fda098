"""Bars of the user's own, from CSV or Parquet files, served in place of the sample market.

One file a pair, named like `EUR_USD_M1.csv`: the bars of that length, from which longer candles are made. Columns are
`time` (or `ts`), the bar's start, in UTC when it names no zone; `bid_open … bid_close` and `ask_open … ask_close`
(or `bid_o`, `ask_o`, …), or `open high low close` of mids, which get the measured spread of their hour; and
`volume`, 1 when it is absent. Every file is read and checked before the simulator starts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet

from mbats.errors import BadBar, ConfigError
from mbats.market import MAJORS, Bars, Floats, Granularity, Times, new_york
from mbats.simulator.alignment import candle_ends, candle_starts
from mbats.simulator.params import PairParams, market_params
from mbats.simulator.prices import CLOSE, Candles, Ticks

FILE_NAME = re.compile(r"(?P<pair>[A-Z]{3}_[A-Z]{3})_(?P<granularity>[A-Z][0-9]*)\.(csv|parquet)")
PRICES = ("open", "high", "low", "close")
SHORT_NAMES = {f"{side}_{price[0]}": f"{side}_{price}" for side in ("bid", "ask") for price in PRICES} | {"ts": "time"}
HIGHEST = 2**29  # points; a doubled mid must fit into 32 bits

Table = dict[str, "pd.Series[Any]"]


class UserBars:
    """The user's bars as a source of prices. They know no path inside a bar: one price a bar, as it closes."""

    refines = False

    def __init__(self, path: Path) -> None:
        """Read every file of `path`, a folder or one file. Raises ConfigError that names the file and what is wrong."""
        self.description = f"your own bars from {path.name}"
        self._bars: dict[str, tuple[Granularity, Candles]] = {}
        for file in _files(path):
            pair, granularity = _read_name(file)
            if pair in self._bars:
                raise _unusable(file, f"it is a second file of {pair}, and one file a pair can be served")
            self._bars[pair] = granularity, read_bars(file, market_params().pairs[pair], granularity)
        self.instruments = tuple(self._bars)

    def base(self, instrument: str) -> Granularity:
        return self._bars[instrument][0]

    def first(self, instrument: str) -> np.datetime64:
        first: np.datetime64 = self._bars[instrument][1].time[0]
        return first

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        """The user's bars that start in [start, end)."""
        return self._bars[instrument][1].between(start, end)

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The closes of the bars that ended in (start, end], each a microsecond before its bar's end."""
        granularity, bars = self._bars[instrument]
        times = candle_ends(granularity, bars.time) - np.timedelta64(1, "us")
        bid, ask, _ = bars.prices[:, CLOSE]
        return Ticks(times, bid, ask).between(start, end)


def read_bars(file: Path, pair: PairParams, granularity: Granularity) -> Candles:
    """The bars of one file. Raises ConfigError that says which row or column is wrong, and what was expected."""
    table = _read_table(file)
    times = _times(file, table, granularity)
    volume = _column(file, table, "volume") if "volume" in table else np.ones(len(times))
    bid, ask, mid = (_side(file, table, prefix, 10.0**pair.decimals) for prefix in ("bid_", "ask_", ""))
    if bid is None or ask is None:
        if mid is None:
            raise _unusable(
                file, f"it has the columns {', '.join(table)}; expected bid_open … ask_close, or open, high, low, close"
            )
        spread = _measured_spread(pair, granularity, times)
        bid = mid - spread / 2
        ask = bid + spread
    bid, ask, counts = np.rint(bid), np.rint(ask), volume.astype(np.int64)
    columns: list[Any] = [times, *(bid / 10**pair.decimals), *(ask / 10**pair.decimals), counts]
    _check(file, Bars(*columns), pair, granularity)
    return Candles(times, np.stack([bid, ask, bid + ask]).astype(np.int32), counts)


def _unusable(file: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{file} cannot be served: {why}. The simulator was not started; correct it, or unset MBATS_SIMULATOR_BARS to serve "
        "the sample market."
    )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise _unusable(path, "there is nothing of that name")
    found = [path] if path.is_file() else sorted(file for kind in ("csv", "parquet") for file in path.glob(f"*.{kind}"))
    if not found:
        raise _unusable(path, "it holds no .csv and no .parquet file; expected names like EUR_USD_M1.csv")
    return found


def _read_name(file: Path) -> tuple[str, Granularity]:
    parts = FILE_NAME.fullmatch(file.name)
    if not parts or parts["granularity"] not in list(Granularity):
        raise _unusable(file, "its name is not pair and granularity, like EUR_USD_M1.csv or USD_JPY_H1.parquet")
    if parts["pair"] not in MAJORS:
        raise _unusable(file, f"{parts['pair']} is not among the pairs known here: {', '.join(MAJORS)}")
    return parts["pair"], Granularity(parts["granularity"])


def _read_table(file: Path) -> Table:
    try:
        table = csv.read_csv(file) if file.suffix == ".csv" else parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise _unusable(file, f"it cannot be read as {file.suffix[1:]} ({error})") from error
    if not table.num_rows:
        raise _unusable(file, "it holds no bar")
    frame = table.to_pandas()
    return {SHORT_NAMES.get(str(name).lower(), str(name).lower()): frame[name] for name in frame}


def _times(file: Path, table: Table, granularity: Granularity) -> Times:
    if "time" not in table:
        raise _unusable(file, f"it has the columns {', '.join(table)}; expected one called time, or ts")
    if pd.api.types.is_numeric_dtype(table["time"]):
        raise _unusable(file, "its column of times holds numbers; expected times like 2024-03-01T09:30:00Z")
    read = pd.to_datetime(table["time"], utc=True, errors="coerce", format="ISO8601")
    if read.isna().any():
        row = int(read.isna().to_numpy().argmax())
        raise _unusable(file, f"row {row + 1} has the time {table['time'].iloc[row]!r}; expected one like 2024-03-01T09:30:00Z")
    times = np.asarray(read.dt.tz_localize(None).to_numpy(), "datetime64[us]")
    astray = candle_starts(granularity, times) != times
    if astray.any():
        row = int(astray.argmax())
        raise _unusable(file, f"row {row + 1} starts at {times[row]}Z, where no {granularity} bar of OANDA's starts")
    return times


def _side(file: Path, table: Table, prefix: str, scale: float) -> Floats | None:
    """Open, high, low and close (4, n) of one side in points; None when a column is not there."""
    names = [prefix + price for price in PRICES]
    if not all(name in table for name in names):
        return None
    return np.stack([_column(file, table, name) for name in names]) * scale


def _column(file: Path, table: Table, name: str) -> Floats:
    numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise _unusable(file, f"row {row + 1} has {table[name].iloc[row]!r} as {name}; expected a number")
    return numbers


def _measured_spread(pair: PairParams, granularity: Granularity, times: Times) -> Floats:
    """Whole points for each bar: the spread of its hour, or the typical one of a bar that is longer than an hour."""
    if granularity.day_aligned:
        return np.full(len(times), np.rint(pair.spread_points))
    return np.asarray(np.rint(pair.spread_points_by_hour[new_york(times).hour.to_numpy()]))


def _check(file: Path, bars: Bars, pair: PairParams, granularity: Granularity) -> None:
    if bars.ask_high.max() * 10**pair.decimals > HIGHEST:
        row = int(bars.ask_high.argmax())
        raise _unusable(file, f"row {row + 1} has a price of {bars.ask_high[row]:g}")
    try:
        bars.check(pair.name, granularity)
    except BadBar as error:
        raise _unusable(file, str(error).rstrip(".")) from error
