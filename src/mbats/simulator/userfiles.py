"""The user's files, CSV or Parquet, as columns. Whatever is wrong with one is said with its name, row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet

from mbats.errors import ConfigError
from mbats.market import Floats, Times

PRICES = ("open", "high", "low", "close")
SHORT_NAMES = {f"{side}_{price[0]}": f"{side}_{price}" for side in ("bid", "ask") for price in PRICES} | {"ts": "time"}

Table = dict[str, "pd.Series[Any]"]


def unusable(file: Path, why: str) -> ConfigError:
    """The refusal to serve a file, and what can be done."""
    return ConfigError(
        f"{file} cannot be served: {why}. The simulator was not started; correct it, or unset MBATS_SIMULATOR_BARS to serve "
        "the sample market."
    )


def data_files(path: Path) -> list[Path]:
    """The data files of a folder by name, or the one that `path` is. Raises ConfigError when there is none."""
    if not path.exists():
        raise unusable(path, "there is nothing of that name")
    found = [path] if path.is_file() else sorted(file for kind in ("csv", "parquet") for file in path.glob(f"*.{kind}"))
    if not found:
        raise unusable(path, "it holds no .csv and no .parquet file; expected names like EUR_USD_M1.csv")
    return found


def read_table(file: Path) -> Table:
    """The columns of a file by their long names, at least one row."""
    try:
        table = csv.read_csv(file) if file.suffix == ".csv" else parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise unusable(file, f"it cannot be read as {file.suffix[1:]} ({error})") from error
    if not table.num_rows:
        raise unusable(file, "it holds no row")
    frame = table.to_pandas()
    return {SHORT_NAMES.get(str(name).lower(), str(name).lower()): frame[name] for name in frame}


def read_times(file: Path, table: Table) -> Times:
    """The column of times, in UTC; one that names no zone is taken to be."""
    if "time" not in table:
        raise unusable(file, f"it has the columns {', '.join(table)}; expected one called time, or ts")
    if pd.api.types.is_numeric_dtype(table["time"]):
        raise unusable(file, "its column of times holds numbers; expected times like 2024-03-01T09:30:00Z")
    read = pd.to_datetime(table["time"], utc=True, errors="coerce", format="ISO8601")
    if read.isna().any():
        row = int(read.isna().to_numpy().argmax())
        raise unusable(file, f"row {row + 1} has the time {table['time'].iloc[row]!r}; expected one like 2024-03-01T09:30:00Z")
    return np.asarray(read.dt.tz_localize(None).to_numpy(), "datetime64[us]")


def read_column(file: Path, table: Table, name: str) -> Floats:
    """A column of numbers."""
    numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise unusable(file, f"row {row + 1} has {table[name].iloc[row]!r} as {name}; expected a number")
    return numbers
