"""Features and labels of several symbols in one table, in order of time: what an estimator is fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mbats.errors import DataError
from mbats.market import Floats, Times
from mbats.ml.labels import Labels

Floats2D = NDArray[np.float64]


class Table(Protocol):
    """Features of one symbol: `times` (n,) starts of bars, UTC, oldest first; `matrix` (n, k)."""

    @property
    def times(self) -> Times: ...

    @property
    def matrix(self) -> Floats2D: ...


@dataclass(frozen=True, slots=True)
class Samples:
    """One row for each symbol and bar, sorted by (time, symbol).

    `symbol` (n,) texts; `time` (n,) starts of bars, UTC; `features` (n, k) without NaN, their `names` in order. `value`, `end`
    and `cost` (n,) are those of `Labels`.
    """

    symbol: NDArray[np.str_]
    time: Times
    features: Floats2D
    names: tuple[str, ...]
    value: Floats
    end: Times
    cost: Floats

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: Any) -> Samples:
        """The rows that a slice, a mask or an array of ascending positions selects."""
        columns = (self.symbol, self.time, self.features, self.value, self.end, self.cost)
        symbol, time, features, value, end, cost = (column[rows] for column in columns)
        return Samples(symbol, time, features, self.names, value, end, cost)


def pool(features: Mapping[str, Table], labels: Mapping[str, Labels], names: tuple[str, ...]) -> Samples:
    """Join features and labels of each symbol by time, and put the symbols together.

    Rows with a feature that is not a number, or without a label, are left out. Raises DataError when nothing is left, when a
    table has another number of columns than there are names, or when it holds a time that no bar has.
    """
    parts = [_joined(symbol, table, labels[symbol], names) for symbol, table in sorted(features.items())]
    if not sum(len(part) for part in parts):
        found = ", ".join(f"{symbol} {len(table.times)}" for symbol, table in sorted(features.items())) or "no symbol"
        raise DataError(
            f"No bar has both features and a label (bars: {found}). Nothing was trained. "
            "Give a longer period: indicators need bars before, and labels need bars after."
        )
    whole = Samples(
        symbol=np.concatenate([part.symbol for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        features=np.concatenate([part.features for part in parts]),
        names=names,
        value=np.concatenate([part.value for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        cost=np.concatenate([part.cost for part in parts]),
    )
    return whole[np.lexsort((whole.symbol, whole.time))]


def _joined(symbol: str, table: Table, labels: Labels, names: tuple[str, ...]) -> Samples:
    if table.matrix.shape != (len(table.times), len(names)):
        raise DataError(
            f"{symbol}: the features have the shape {table.matrix.shape}, expected {(len(table.times), len(names))} "
            f"for {', '.join(names)}. Nothing was trained."
        )
    at = np.searchsorted(labels.time, table.times)
    known = at < len(labels)
    known[known] = labels.time[at[known]] == table.times[known]
    if not known.all():
        raise DataError(
            f"{symbol}: there are features at {table.times[~known][0]}Z, and no bar. Nothing was trained. "
            "Features and labels must come from the same bars."
        )
    keep = np.isfinite(table.matrix).all(axis=1) & np.isfinite(labels.value[at])
    at = at[keep]
    return Samples(
        np.full(len(at), symbol),
        table.times[keep],
        np.ascontiguousarray(table.matrix[keep]),
        names,
        labels.value[at],
        labels.end[at],
        labels.cost[at],
    )
