"""Assembles a run. Backtest, paper and live differ by the feed and the broker alone; all else is decided here."""

from __future__ import annotations

import hashlib
import platform
import random
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import mbats
from mbats.errors import MbatsError, NoBars
from mbats.market import Bars, Granularity, Instrument, to_datetime
from mbats.riskdb.records import Equity, RunResult, RunSpec
from mbats.settings import PROJECT_ROOT
from mbats.trading.account import AccountRules
from mbats.trading.analyzers.performance import summarise
from mbats.trading.analyzers.round_trips import with_excursions
from mbats.trading.broker import FxBroker
from mbats.trading.costs import RolloverClock, Slippage, exact
from mbats.trading.engine import RunCerebro
from mbats.trading.feeds import BarFeed, conversion_columns, count_moments
from mbats.trading.ledger import Mark
from mbats.trading.model import ModelSet
from mbats.trading.models_used import decisions_at_orders, used_models
from mbats.trading.strategies import LoadedStrategy, where_raised

Progress = Callable[[int, int], None]


class StrategyFailed(MbatsError):
    """The strategy's own code raised; the message shows where in its file."""


@dataclass(frozen=True, slots=True)
class RunData:
    """The bars of a run: each symbol's, and those that only convert currencies.

    `source` names the vendors whose bars they are. `as_of` is the database's clock when they were read: asking again as
    of then gives the same bars.
    """

    bars: dict[str, Bars]
    links: dict[str, Bars]
    source: str
    as_of: datetime

    def fingerprint(self) -> str:
        """One name for all the bars of the run; equal names, equal bars."""
        digest = hashlib.sha256()
        for kind, group in (("bars", self.bars), ("links", self.links)):
            for symbol in sorted(group):
                digest.update(f"{kind} {symbol} {group[symbol].fingerprint()}\n".encode())
        return digest.hexdigest()


def run_backtest(
    spec: RunSpec,
    strategy: LoadedStrategy,
    data: RunData,
    *,
    models: ModelSet | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run one strategy over the bars and return all that is recorded of it; nothing is stored here.

    Raises NoBars when a symbol has none, ConfigError when the strategy asks for a model that is not among `models` or does not
    fit, ModelFailed when one fails, StrategyFailed when the strategy's code raises.
    """
    started = datetime.now(UTC)
    run = prepare(spec, strategy, data, models=models, progress=progress)
    random.seed(spec.seed)
    np.random.seed(spec.seed % 2**32)
    run.go(strategy)
    return _result(spec, data, run, started)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that waits for its start: the engine with its broker and its feeds, in the order of the symbols."""

    cerebro: Any
    broker: FxBroker
    feeds: list[BarFeed]

    def go(self, strategy: LoadedStrategy) -> None:
        """Run to the end. Raises StrategyFailed for what is not an error of ours."""
        try:
            self.cerebro.run()
        except MbatsError:
            raise
        except Exception as error:
            place = where_raised(error, strategy.name)
            raise StrategyFailed(
                f"Strategy '{strategy.name}' failed at {place}: {type(error).__name__}: {error}. Nothing was recorded."
            ) from error


def prepare(
    spec: RunSpec,
    strategy: LoadedStrategy,
    data: RunData,
    *,
    models: ModelSet | None = None,
    engine: type[RunCerebro] = RunCerebro,
    progress: Progress | None = None,
) -> Prepared:
    """Put a run together, on `engine`. Raises NoBars when a symbol has none."""
    empty = [symbol for symbol in spec.symbols if not len(data.bars.get(symbol, Bars.empty()))]
    if empty:
        raise NoBars(
            f"No {spec.granularity} bars of {', '.join(empty)} from {spec.start:%Y-%m-%d} to {spec.end:%Y-%m-%d}; "
            "nothing was done. `mbats coverage` shows what is stored, `mbats ingest` downloads more."
        )
    instruments = instruments_of(spec)
    feeds = [_feed(instruments[symbol], spec, data) for symbol in spec.symbols]
    total = count_moments(feeds)
    first = min(to_datetime(feed.bars.time[0]) for feed in feeds)
    last = max(to_datetime(feed.bars.time[-1]) for feed in feeds)
    broker = FxBroker(
        rules=account_rules(spec),
        clock=RolloverClock(first, last),
        progress=(lambda done: progress(done, total)) if progress else None,
    )
    cerebro = engine(stdstats=False, quicknotify=True)
    cerebro.models = models or ModelSet()
    cerebro.setbroker(broker)
    for feed in feeds:
        cerebro.adddata(feed, name=feed.p.name)
        broker.attach(feed)
    cerebro.addstrategy(strategy.cls, **spec.parameters)
    return Prepared(cerebro, broker, feeds)


def account_rules(spec: RunSpec) -> AccountRules:
    """The account that a specification asks for."""
    return AccountRules(
        cash=spec.starting_cash,
        currency=spec.account_currency,
        slippage=Slippage.parse(spec.costs["slippage"]),
        financing=spec.costs["financing"],
        margin=spec.costs["margin"],
        fills=spec.fills,
    )


def instruments_of(spec: RunSpec) -> dict[str, Instrument]:
    """The instruments as they were when the run was specified: rates and margins are part of what a run is."""
    return {name: Instrument.from_json(figures) for name, figures in spec.costs["instruments"].items()}


def _feed(instrument: Instrument, spec: RunSpec, data: RunData) -> BarFeed:
    stored = data.bars[instrument.name]
    bars = stored if spec.costs["spread"] == "bars" else stored.without_spread()
    at_open, at_close = conversion_columns(instrument, bars, spec.account_currency, {**data.bars, **data.links})
    return BarFeed(
        name=instrument.name,
        bars=bars,
        instrument=instrument,
        granularity=Granularity(spec.granularity),
        conversion_open=at_open,
        conversion_close=at_close,
    )


def _result(spec: RunSpec, data: RunData, run: Prepared, started: datetime) -> RunResult:
    broker = run.broker
    equity = Equity(
        time=np.array(broker.times, np.int64).astype("datetime64[us]"),
        balance=np.array(broker.equity["balance"]),
        nav=np.array(broker.equity["nav"]),
        margin_used=np.array(broker.equity["margin_used"]),
    )
    by_symbol = {feed.p.name: feed for feed in run.feeds}
    trips = broker.ledger.round_trips({symbol: _mark(feed) for symbol, feed in by_symbol.items()})
    trades = tuple(
        with_excursions(trip, by_symbol[trip.trade.symbol].bars, by_symbol[trip.trade.symbol].p.conversion_close)
        for trip in trips
    )
    used = used_models(spec, run.cerebro, run.feeds)
    return RunResult(
        spec=spec,
        code_version=code_version(PROJECT_ROOT),
        versions={"python": platform.python_version()} | {name: version(name) for name in ("backtrader", "numpy", "pandas")},
        data_source=data.source,
        data_fingerprint=data.fingerprint(),
        data_as_of=data.as_of,
        started_at=started,
        finished_at=datetime.now(UTC),
        model_version=", ".join(used.names) or None,
        in_sample=bool(used.had_seen) if used.infos else None,
        warnings=(*used.warnings(), *_warnings(spec, run.feeds, broker)),
        fills=tuple(broker.ledger.fills),
        trades=trades,
        positions=tuple(broker.ledger.positions),
        equity=equity,
        performance=summarise(
            equity,
            trades,
            starting_cash=spec.starting_cash,
            ending_balance=broker.ledger.balance,
            refused_orders=sum(broker.refusals.values()),
        ),
        models={reference: info.to_json() for reference, info in used.infos.items()},
        decisions=decisions_at_orders(run.cerebro, broker.ordered),
    )


def _mark(feed: BarFeed) -> Mark:
    bars, last = feed.bars, len(feed.bars) - 1
    return Mark(
        time=to_datetime(bars.time[last]),
        bar=last,
        bid=exact(float(bars.bid_close[last])),
        ask=exact(float(bars.ask_close[last])),
        conversion=exact(float(feed.p.conversion_close[last])),
    )


def _warnings(spec: RunSpec, feeds: list[BarFeed], broker: FxBroker) -> Iterable[str]:
    """What a reader of the result must know; the report shows it at its top."""
    for reason, count in broker.refusals.most_common():
        yield f"{count} order{'s' if count > 1 else ''} refused: {reason}"
    slack = max(timedelta(days=5), 2 * Granularity(spec.granularity).length)
    for feed in feeds:
        first, last = to_datetime(feed.bars.time[0]), to_datetime(feed.bars.time[-1])
        if first - spec.start > slack or spec.end - last > slack:
            yield f"{feed.p.name} has bars only from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    if any(fill.purpose == "margin_closeout" for fill in broker.ledger.fills):
        yield "The account was closed out: half the margin used reached the NAV"


def code_version(root: Path) -> str:
    """The package's version, with the commit when this is a checkout and `dirty` when files differ from it."""
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return mbats.__version__  # installed without its repository, or without git
    return f"{mbats.__version__}+{commit}"
