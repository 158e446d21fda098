"""Prices of the user's own, from CSV or Parquet files, served in place of the sample market.

One file a pair. `EUR_USD_M1.csv` holds bars of that length, from which longer candles are made, and shorter ones by the path
that is drawn inside each (`intrabar`). Columns are `time` (or `ts`), the bar's start, in UTC when it names no zone;
`bid_open … bid_close` and `ask_open … ask_close` (or `bid_o`, `ask_o`, …), or `open high low close` of mids, which get the
measured spread of their hour; and `volume`, the number of prices, 1 when it is absent. `EUR_USD_ticks.csv` holds single prices in
the order in which they came: `time`, `bid` and `ask`.

Pairs other than the seven majors are listed on common terms. `instruments.json` beside the files can say otherwise for any of
them, and for any value of an instrument: `{"EUR_NOK": {"margin_rate": "0.1", "display_precision": 5}}`.
Every file is read and checked before the simulator starts.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mbats.errors import BadBar
from mbats.market import Bars, Floats, Granularity, Instrument, Times, new_york
from mbats.simulator.alignment import candle_starts
from mbats.simulator.instruments import terms
from mbats.simulator.intrabar import Intrabar, drawable
from mbats.simulator.params import market_params
from mbats.simulator.prices import HIGHEST, Candles, Ticks
from mbats.simulator.series import BarSeries, Series, TickSeries
from mbats.simulator.userfiles import PRICES, Table, data_files, read_column, read_table, read_times, unusable

FILE_NAME = re.compile(r"(?P<pair>[A-Z]{3}_[A-Z]{3})_(?P<kind>[A-Z][0-9]*|ticks)\.(csv|parquet)")
TERMS_FILE = "instruments.json"


class UserBars:
    """The user's files as a source of prices."""

    refines = True

    def __init__(self, path: Path, intrabar: Intrabar | None = None) -> None:
        """Read every file of `path`, a folder or one file. Raises ConfigError that names the file and what is wrong."""
        self.description = f"your own prices from {path.name}"
        files: dict[str, tuple[Path, Granularity | None]] = {}
        for file in data_files(path):
            pair, granularity = _read_name(file)
            if pair in files:
                raise unusable(file, f"it is a second file of {pair}, and one file a pair can be served")
            files[pair] = file, granularity
        self.listed = _terms(path if path.is_dir() else path.parent, list(files))
        self.instruments = tuple(files)
        self._series = {pair: _read_series(*files[pair], self.listed[pair], intrabar or Intrabar()) for pair in files}

    def base(self, instrument: str) -> Granularity:
        return self._series[instrument].base

    def first(self, instrument: str) -> np.datetime64:
        return self._series[instrument].first

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        """The bars that start in [start, end): the user's, or minutes made of the user's single prices."""
        return self._series[instrument].bars(start, end)

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The single prices that came in [start, end): the user's, or those drawn inside the user's bars."""
        return self._series[instrument].ticks(start, end)


def read_bars(file: Path, listed: Instrument, granularity: Granularity) -> Candles:
    """The bars of one file. Raises ConfigError that says which row or column is wrong, and what was expected."""
    table, point = read_table(file), 10.0**listed.display_precision
    times = _bar_times(file, table, granularity)
    volume = read_column(file, table, "volume") if "volume" in table else np.ones(len(times))
    bid, ask, mid = (_side(file, table, prefix, point) for prefix in ("bid_", "ask_", ""))
    if bid is None or ask is None:
        if mid is None:
            raise unusable(
                file, f"it has the columns {', '.join(table)}; expected bid_open … ask_close, or open, high, low, close"
            )
        spread = _measured_spread(file, listed.name, granularity, times)
        bid = mid - spread / 2
        ask = bid + spread
    bid, ask, counts = np.rint(bid), np.rint(ask), volume.astype(np.int64)
    columns: list[Any] = [times, *(bid / point), *(ask / point), counts]
    _check(file, Bars(*columns), listed, granularity)
    return Candles(times, np.stack([bid, ask, bid + ask]).astype(np.int32), counts)


def read_ticks(file: Path, listed: Instrument) -> Ticks:
    """The single prices of one file. Raises ConfigError that says which row or column is wrong, and what was expected."""
    table = read_table(file)
    times = read_times(file, table)
    if not {"bid", "ask"} <= table.keys():
        raise unusable(file, f"it has the columns {', '.join(table)}; expected time, bid and ask")
    bid, ask = (np.rint(read_column(file, table, side) * 10.0**listed.display_precision) for side in ("bid", "ask"))
    rules = (
        ("comes before the one above it", np.r_[False, np.diff(times) < np.timedelta64(0)]),
        ("has a bid of 0 or below", bid < 1),
        ("has an ask below its bid", ask < bid),
        ("has a price that is too high to be true", ask > HIGHEST),
    )
    for rule, broken in rules:
        if broken.any():
            row = int(broken.argmax())
            raise unusable(
                file, f"row {row + 1} ({times[row]}Z, bid {table['bid'].iloc[row]}, ask {table['ask'].iloc[row]}) {rule}"
            )
    return Ticks(times, bid.astype(np.int32), ask.astype(np.int32))


def _read_name(file: Path) -> tuple[str, Granularity | None]:
    parts = FILE_NAME.fullmatch(file.name)
    if not parts or parts["kind"] not in [*Granularity, "ticks"]:
        raise unusable(file, "its name is not pair and granularity, or ticks, like EUR_USD_M1.csv or USD_JPY_ticks.parquet")
    return parts["pair"], None if parts["kind"] == "ticks" else Granularity(parts["kind"])


def _read_series(file: Path, granularity: Granularity | None, listed: Instrument, intrabar: Intrabar) -> Series:
    if granularity is None:
        return TickSeries(read_ticks(file, listed))
    bars = read_bars(file, listed, granularity)
    try:
        bars = drawable(listed.name, granularity, bars, intrabar)
    except BadBar as error:
        raise unusable(file, str(error).rstrip(".")) from error
    return BarSeries(listed.name, granularity, bars.time[0], bars.between, intrabar)


def _terms(folder: Path, pairs: list[str]) -> dict[str, Instrument]:
    file = folder / TERMS_FILE
    try:
        given = json.loads(file.read_text("utf-8")) if file.exists() else {}
        return {pair: Instrument.from_json(terms(pair).to_json() | _known(given.get(pair, {}))) for pair in pairs}
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise unusable(file, f"it does not say what instruments are like ({error})") from error


def _known(values: dict[str, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(Instrument) if field.name != "name"]
    if unknown := sorted(values.keys() - set(names)):
        raise ValueError(f"it has {unknown[0]}; expected any of {', '.join(names)}")
    return values


def _bar_times(file: Path, table: Table, granularity: Granularity) -> Times:
    times = read_times(file, table)
    astray = candle_starts(granularity, times) != times
    if astray.any():
        row = int(astray.argmax())
        raise unusable(file, f"row {row + 1} starts at {times[row]}Z, where no {granularity} bar of OANDA's starts")
    return times


def _side(file: Path, table: Table, prefix: str, scale: float) -> Floats | None:
    """Open, high, low and close (4, n) of one side in points; None when a column is not there."""
    names = [prefix + price for price in PRICES]
    if not all(name in table for name in names):
        return None
    return np.stack([read_column(file, table, name) for name in names]) * scale


def _measured_spread(file: Path, name: str, granularity: Granularity, times: Times) -> Floats:
    """Whole points for each bar: the spread of its hour, or the typical one of a bar that is longer than an hour."""
    measured = market_params().pairs.get(name)
    if measured is None:
        raise unusable(file, f"the spread of {name} was not measured, so its mids are not enough; expected bid_open … ask_close")
    if granularity.day_aligned:
        return np.full(len(times), np.rint(measured.spread_points))
    return np.asarray(np.rint(measured.spread_points_by_hour[new_york(times).hour.to_numpy()]))


def _check(file: Path, bars: Bars, listed: Instrument, granularity: Granularity) -> None:
    if bars.ask_high.max() * 10**listed.display_precision > HIGHEST:
        row = int(bars.ask_high.argmax())
        raise unusable(file, f"row {row + 1} has a price of {bars.ask_high[row]:g}")
    try:
        bars.check(listed.name, granularity)
    except BadBar as error:
        raise unusable(file, str(error).rstrip(".")) from error
