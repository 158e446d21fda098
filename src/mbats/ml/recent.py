"""What a model would see now: the features of its strategy, as its file declares them today, on the newest stored bars."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from mbats.database import Database
from mbats.market import Granularity, Times, to_us
from mbats.ml.features import Collected, collect_features
from mbats.ml.registry import Version
from mbats.settings import Settings
from mbats.trading.backtest import Costs, read_data, specify
from mbats.trading.model import Floats2D, is_reference
from mbats.trading.strategies import load_strategy

WARM_BARS = 1000  # before the first that counts: an average that remembers all bars has forgotten its first value by then
BARS_A_WEEK = 5 / 7  # of those that a calendar would have


@dataclass(frozen=True, slots=True)
class Recent:
    """Rows of all symbols together, oldest first within each: `symbol` (n,), `time` (n,) starts of bars, UTC, `matrix` (n, k)."""

    names: tuple[str, ...]
    symbol: np.ndarray[tuple[int], np.dtype[np.str_]]
    time: Times
    matrix: Floats2D


def recent_features(settings: Settings, version: Version, since: datetime, until: datetime | None = None) -> Recent:
    """The formed features of the bars that start in [since, until), UTC, of every symbol that the model was trained on.

    Raises UsageError when the strategy declares none, UnknownStrategy, NoBars when a symbol has no bar in reach, PlatformError.
    """
    info, until = version.info, until or datetime.now(UTC)
    strategy = load_strategy(info.strategy, settings.strategies_dir)
    given = json.loads(version.tags.get("parameters", "{}"))
    known = strategy.defaults()
    # A parameter that the file no longer has cannot be set; the features say whether it mattered.
    parameters = known | {name: value for name, value in given.items() if name in known and not is_reference(name)}
    granularity = Granularity(info.granularity)
    with closing(Database(settings, "secmaster", "trading")) as secmaster:
        spec = specify(
            secmaster,
            strategy,
            symbols=info.symbols,
            granularity=granularity,
            start=since - _length(granularity, WARM_BARS),
            end=until,
            cash=Decimal(100_000),
            currency="USD",
            parameters=parameters,
            costs=Costs(),
            seed=1,
        )
        found = collect_features(strategy, spec, read_data(secmaster, spec))
    return _together(found, since)


def span(granularity: Granularity, bars: int, at_least: timedelta = timedelta(0)) -> timedelta:
    """How far back one must look to see so many bars of a symbol, weekends allowed for; at least this long."""
    return max(_length(granularity, bars), at_least)


def _length(granularity: Granularity, bars: int) -> timedelta:
    return granularity.length * bars / BARS_A_WEEK


def _together(found: dict[str, Collected], since: datetime) -> Recent:
    symbols, times, rows = [], [], []
    for symbol, collected in found.items():
        counts = (collected.times >= to_us(since)) & np.isfinite(collected.matrix).all(axis=1)
        symbols.append(np.full(int(counts.sum()), symbol))
        times.append(collected.times[counts])
        rows.append(collected.matrix[counts])
    names = next(iter(found.values())).names
    return Recent(names, np.concatenate(symbols), np.concatenate(times), np.concatenate(rows))


__all__ = ["Recent", "recent_features", "span"]
