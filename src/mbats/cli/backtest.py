"""`mbats backtest`: run a strategy on stored bars and record the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from mbats.cli.moment import read_moment

if TYPE_CHECKING:
    from mbats.riskdb.records import RunResult
    from mbats.settings import Settings
    from mbats.trading.model import ModelSet


def _cash(ctx: click.Context, param: click.Parameter, value: str) -> Decimal:
    try:
        cash = Decimal(value)
    except InvalidOperation:
        raise click.BadParameter(f"'{value}' is no amount of money.") from None
    if not cash.is_finite() or cash <= 0:
        raise click.BadParameter(f"{value}: starting cash must be more than zero.")
    return cash


def read_pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Callback of an option that may be repeated, each NAME=VALUE."""
    given = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{value}' is not of the form name=value, such as period=20.")
        given[name] = text
    return given


@click.command()
@click.argument("strategy")
@click.option("--symbols", help="Comma-separated, such as EUR_USD,USD_JPY. Default: all that are stored at the granularity.")
@click.option("--granularity", default="D", show_default=True, help="Length of a bar: M1, M5, H1, H4, D, …")
@click.option("--from", "start", callback=read_moment, help="First moment, UTC, included. Default: the first stored bar.")
@click.option("--to", "end", callback=read_moment, help="Last moment, UTC, excluded. Default: now.")
@click.option("--cash", default="100000", show_default=True, callback=_cash, help="Starting cash in the account's currency.")
@click.option("--currency", default="USD", show_default=True, help="The account's currency.")
@click.option("--param", "given", multiple=True, callback=read_pairs, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option(
    "--spread", type=click.Choice(["bars", "none"]), default="bars", show_default=True, help="Deal on bid/ask, or on mid."
)
@click.option("--slippage", default="none", show_default=True, help="none, pips:0.2, spread:0.5 or range:0.05.")
@click.option("--financing/--no-financing", default=True, show_default=True, help="Charge financing at 17:00 New York.")
@click.option(
    "--margin/--no-margin", default=True, show_default=True, help="Refuse orders without margin, close out as OANDA does."
)
@click.option(
    "--fills",
    type=click.Choice(["broker", "backtrader"]),
    default="broker",
    show_default=True,
    help="When a bracket's stop and target begin to work: with the fill, or with the next bar as in stock Backtrader.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of random numbers that a strategy may draw.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one object for programs.")
def backtest(
    strategy: str,
    symbols: str | None,
    granularity: str,
    start: datetime | None,
    end: datetime | None,
    cash: Decimal,
    currency: str,
    given: dict[str, str],
    as_json: bool,
    seed: int,
    **costs: Any,
) -> None:
    """Run STRATEGY (a file in strategies/) on stored bars, record the run, and print what came of it."""
    from mbats.cli.granularity import read_granularity
    from mbats.database import Database
    from mbats.errors import UsageError
    from mbats.secmaster.coverage import stored_symbols
    from mbats.settings import get_settings
    from mbats.trading.backtest import Costs, backtest, specify
    from mbats.trading.costs import Slippage
    from mbats.trading.model import references
    from mbats.trading.strategies import load_strategy

    settings = get_settings()
    length = read_granularity(granularity)
    if start and end and end <= start:
        raise UsageError(f"--from {start:%Y-%m-%d %H:%M} is not before --to {end:%Y-%m-%d %H:%M}; nothing was run.")
    loaded = load_strategy(strategy, settings.strategies_dir)
    parameters = loaded.parameters(given)
    slippage = Slippage.parse(costs.pop("slippage"))
    models = open_models(settings, references(parameters))
    with closing(Database(settings, "secmaster", "trading")) as secmaster, closing(Database(settings, "risk", "trading")) as risk:
        chosen = [name.strip() for name in symbols.split(",") if name.strip()] if symbols else stored_symbols(secmaster, length)
        if not chosen:
            raise UsageError(f"No {length} bars are stored; `mbats ingest` downloads them, `mbats coverage` shows what there is.")
        spec = specify(
            secmaster,
            loaded,
            symbols=chosen,
            granularity=length,
            start=start,
            end=end,
            cash=cash,
            currency=currency,
            parameters=parameters,
            costs=Costs(slippage=slippage, **costs),
            seed=seed,
        )
        with bar_progress(f"{strategy} {length}", quiet=as_json) as progress:
            run_id, result = backtest(secmaster, risk, loaded, spec, models=models, progress=progress)
    print_result(run_id, result, as_json=as_json)


def open_models(settings: Settings, references: Sequence[str]) -> ModelSet:
    """The models of these references, from the registry; without any the registry is not asked."""
    from mbats.trading.model import ModelSet

    if not references:
        return ModelSet()
    from mbats.ml.registry import open_models as from_registry  # takes MLflow and its libraries along

    return from_registry(settings, references)


@contextmanager
def bar_progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Live progress on a terminal: bars done, speed and time to go. None where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("bars"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)

        def show(done: int, total: int) -> None:
            if done % 500 == 0 or done == total:
                bar.update(task, completed=done, total=total)

        yield show


def print_result(run_id: int, result: RunResult, *, as_json: bool) -> None:
    """One run for a person, or as one JSON object."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    figures = result.performance
    if as_json:
        spec: dict[str, Any] = {
            "strategy": result.spec.strategy,
            "symbols": result.spec.symbols,
            "granularity": result.spec.granularity,
        }
        spec |= {"model": result.model_version, "in_sample": result.in_sample}
        click.echo(json.dumps({"run": run_id, **spec, **asdict(figures), "warnings": result.warnings}, default=str, indent=2))
        return
    currency = result.spec.account_currency
    span = f"{result.equity.time[0]!s:.10} to {result.equity.time[-1]!s:.10}"
    table = Table(title=f"Run {run_id}: {result.spec.strategy} on {', '.join(result.spec.symbols)}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in (
        ("period", f"{span}, {figures.bars:,} {result.spec.granularity} bars"),
        ("trades (won / lost / open)", f"{figures.trades:,} ({figures.won:,} / {figures.lost:,} / {figures.open_trades})"),
        ("profit at mid prices", f"{figures.gross_pnl:,.2f} {currency}"),
        ("spread paid", f"{-figures.spread_cost:,.2f} {currency}"),
        ("slippage paid", f"{-figures.slippage_cost:,.2f} {currency}"),
        ("financing", f"{figures.financing:,.2f} {currency}"),
        ("net profit", f"{figures.net_pnl:,.2f} {currency} ({figures.total_return:.2%})"),
        ("Sharpe ratio", "none" if figures.sharpe is None else f"{figures.sharpe:.2f}"),
        ("worst drawdown", f"{figures.max_drawdown:.2%}, longest {figures.max_drawdown_days:,.0f} days"),
    ):
        table.add_row(name, value)
    if result.model_version:
        sample = {True: "IN SAMPLE: it had seen this period", False: "had not seen this period", None: "unknown what it had seen"}
        table.add_row("model", f"{result.model_version}, {sample[result.in_sample]}")
    console = Console()
    console.print(table)
    for warning in result.warnings:
        console.print(f"[yellow]Note:[/] {warning}")
    console.print(f"Report: mbats report {run_id}    Repeat: mbats reproduce {run_id}")
