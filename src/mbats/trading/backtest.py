"""From names to a recorded run: read the bars, run, record in one transaction. And the same again, to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from mbats.database import Database
from mbats.errors import ConfigError, NoBars
from mbats.market import Bars, Granularity, Instrument, bar_ends, to_datetime, to_us
from mbats.riskdb.record import load_run, record_run
from mbats.riskdb.records import RunResult, RunSpec
from mbats.secmaster.bars import load_bars, server_time
from mbats.secmaster.series import stored_series
from mbats.secmaster.symbols import load_instruments
from mbats.trading.costs import Slippage
from mbats.trading.model import ModelInfo, ModelSet
from mbats.trading.session import Progress, RunData, instruments_of, run_backtest
from mbats.trading.strategies import LoadedStrategy, strategy_from_source

OpenModels = Callable[[Sequence[str]], ModelSet]


@dataclass(frozen=True, slots=True)
class Costs:
    """How fills are to be priced. `spread`: `bars` deals on the stored bid and ask, `none` on mid."""

    spread: str = "bars"
    slippage: Slippage = Slippage()  # noqa: RUF009  frozen, so one instance serves all
    financing: bool = True
    margin: bool = True
    fills: str = "broker"


def specify(
    secmaster: Database,
    strategy: LoadedStrategy,
    *,
    symbols: Iterable[str],
    granularity: Granularity,
    start: datetime | None,
    end: datetime | None,
    cash: Decimal,
    currency: str,
    parameters: dict[str, Any],
    costs: Costs,
    seed: int,
) -> RunSpec:
    """Write down a run before it is run. Without `start` or `end` it is over all that is stored.

    Raises UnknownSymbol, and NoBars when a period is to be found and nothing is stored.
    """
    names = tuple(dict.fromkeys(symbols))
    instruments = load_instruments(secmaster, names)
    if start is None or end is None:
        first, last = _stored_period(secmaster, names, granularity)
        start, end = start or first, end or last
    return RunSpec(
        strategy=strategy.name,
        source=strategy.source,
        parameters=parameters,
        symbols=names,
        granularity=granularity.value,
        start=start,
        end=end,
        account_currency=currency,
        starting_cash=cash,
        costs={
            "spread": costs.spread,
            "slippage": str(costs.slippage),
            "financing": costs.financing,
            "margin": costs.margin,
            "instruments": {name: instruments[name].to_json() for name in names},
        },
        fills=costs.fills,
        seed=seed,
    )


def _stored_period(secmaster: Database, symbols: Iterable[str], granularity: Granularity) -> tuple[datetime, datetime]:
    """From the first stored bar of any of the symbols to the end of the last one."""
    found = [series for name in symbols if (series := stored_series(secmaster, name, granularity)) is not None]
    if not found:
        raise NoBars(
            f"No {granularity} bars of {', '.join(symbols)} are stored; nothing was done. `mbats coverage` shows what there is, "
            "`mbats ingest` downloads more."
        )
    last = np.array([to_us(max(series.last for series in found))])
    return min(series.first for series in found), to_datetime(bar_ends(granularity, last)[0])


def read_data(secmaster: Database, spec: RunSpec, *, as_of: datetime | None = None) -> RunData:
    """The bars that a run needs, as they stood at `as_of`: at this moment when none is given.

    A moment is named even for now, so that a download that goes on meanwhile shows in no symbol or in all.
    """
    moment = as_of or server_time(secmaster)
    granularity = Granularity(spec.granularity)

    def read(symbol: str) -> Bars:
        return load_bars(secmaster, symbol, granularity, start=spec.start, end=spec.end, as_of=moment)

    bars = {symbol: read(symbol) for symbol in spec.symbols}
    known = load_instruments(secmaster)
    links = {name: read(name) for name in _links(instruments_of(spec), spec.account_currency, known) if name not in bars}
    vendors = {series.vendor for name in bars if (series := stored_series(secmaster, name, granularity)) is not None}
    source = ", ".join(sorted(vendors)) or "none"
    return RunData(bars, {name: found for name, found in links.items() if len(found)}, source, moment)


def _links(instruments: dict[str, Instrument], currency: str, known: dict[str, Instrument]) -> set[str]:
    """The pairs, of those known, that turn profits into the account's currency."""
    wanted = {i.quote for i in instruments.values() if currency not in (i.base, i.quote)}
    return {name for quote in wanted for name in (f"{quote}_{currency}", f"{currency}_{quote}") if name in known}


def backtest(
    secmaster: Database,
    risk: Database,
    strategy: LoadedStrategy,
    spec: RunSpec,
    *,
    models: ModelSet | None = None,
    progress: Progress | None = None,
) -> tuple[int, RunResult]:
    """Run and record; returns the run's number. A run that is killed before its end leaves nothing behind."""
    result = run_backtest(spec, strategy, read_data(secmaster, spec), models=models, progress=progress)
    return record_run(risk, result), result


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run, done again. `differences` says in words what is not the same; none means that the run was reproduced."""

    run_id: int
    recorded: RunResult
    repeated: RunResult
    differences: tuple[str, ...]


def reproduce(
    secmaster: Database,
    risk: Database,
    run_id: int,
    strategies_dir: Path,
    *,
    open_models: OpenModels | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Run a recorded run again: from its own text, on the bars as they stood then, with the versions of models that it used.

    `open_models` opens models by `name/version`; it is asked only when the run used any. Nothing is recorded. Raises UnknownRun,
    ConfigError when a model is needed and cannot be opened, or NoBars when the bars are gone.
    """
    recorded = load_run(risk, run_id)
    spec = recorded.spec
    strategy = strategy_from_source(spec.strategy, spec.source, strategies_dir / f"{spec.strategy}.py")
    data = read_data(secmaster, spec, as_of=recorded.data_as_of)
    if not any(len(found) for found in data.bars.values()):
        raise NoBars(f"Run {run_id} cannot be repeated: the bars it read are no longer in the securities master.")
    models = _pinned_models(run_id, recorded, open_models)
    repeated = run_backtest(spec, strategy, data, models=models, progress=progress)
    return Reproduction(run_id, recorded, repeated, tuple(_differences(recorded, repeated)))


def _pinned_models(run_id: int, recorded: RunResult, open_models: OpenModels | None) -> ModelSet:
    """The models of a recorded run, each in the version that it was then, whatever an alias means today."""
    if recorded.model_version is None:
        return ModelSet()
    pinned = {reference: ModelInfo.from_json(figures).reference for reference, figures in recorded.models.items()}
    if open_models is None or not pinned:
        raise ConfigError(
            f"Run {run_id} used the model {recorded.model_version}, which cannot be opened here; nothing was repeated. "
            + ("It was never registered." if open_models else "`mbats reproduce` asks the registry for it.")
        )
    opened = open_models(sorted(set(pinned.values())))
    return ModelSet({reference: opened.models[version] for reference, version in pinned.items()})


def _differences(recorded: RunResult, repeated: RunResult) -> Iterable[str]:
    if recorded.data_fingerprint != repeated.data_fingerprint:
        yield (
            f"the bars differ: fingerprint {repeated.data_fingerprint[:12]} now, {recorded.data_fingerprint[:12]} recorded; "
            "rows of the securities master were changed by hand, or a download was under way when the run read them"
        )
    for reference, before in recorded.models.items():
        now = repeated.models.get(reference, {})
        if now.get("digest") != before["digest"]:
            yield (
                f"model {before['name']}/{before['version']} has other files: SHA-256 {str(now.get('digest'))[:12]} now, "
                f"{before['digest'][:12]} recorded"
            )
    yield from _first_difference("decision", recorded.decisions, repeated.decisions)
    yield from _first_difference("fill", recorded.fills, repeated.fills)
    yield from _first_difference("trade", recorded.trades, repeated.trades)
    if recorded.performance.ending_nav != repeated.performance.ending_nav:
        yield f"ending NAV is {repeated.performance.ending_nav}, recorded {recorded.performance.ending_nav}"


def _first_difference(kind: str, old: Sequence[Any], new: Sequence[Any]) -> Iterable[str]:
    for number, (before, now) in enumerate(zip_longest(old, new), start=1):
        if before != now:
            yield f"{kind} {number} is {now or 'absent'}, recorded {before or 'absent'} ({len(new)} {kind}s, recorded {len(old)})"
            return
