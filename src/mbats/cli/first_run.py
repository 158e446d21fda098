"""`mbats first-run`: the main job on a new platform, from the download to a table of results. Safe to repeat."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.database import Database
    from mbats.riskdb.record import RunSummary
    from mbats.settings import Settings

SYMBOLS = ("EUR_USD", "GBP_USD", "USD_JPY", "AUD_USD", "NZD_USD", "USD_CAD", "USD_CHF")  # the daily ones of the sample workbook


@dataclass(frozen=True, slots=True)
class Example:
    """A strategy of the project and what it is first run on, with its own defaults and all the bars there are."""

    strategy: str
    symbols: tuple[str, ...]
    granularity: str = "D"

    def is_that_of(self, run: RunSummary) -> bool:
        """Whether this run is the example's."""
        return (run.strategy, run.symbols, run.granularity) == (self.strategy, self.symbols, self.granularity)


EXAMPLES = (
    Example("rsi_stochastic", SYMBOLS[:3]),
    Example("sma_cross", SYMBOLS[:4]),
    Example("momentum_rotation", SYMBOLS),
)


@click.command("first-run")
def first_run() -> None:
    """Download what interested_tickers.xlsx asks for, backtest the example strategies, and write a report of each run.

    What is there already is skipped. Ends with 1 when a symbol could not be downloaded and the others went on.
    """
    from mbats.database import Database
    from mbats.settings import get_settings

    settings = get_settings()
    _heading("Bars")
    all_downloaded = _download()
    with closing(Database(settings, "secmaster", "trading")) as secmaster, closing(Database(settings, "risk", "trading")) as risk:
        _heading("Backtests")
        numbers = [_backtest(settings, secmaster, risk, example) for example in EXAMPLES]
        _heading("Reports")
        reports = {number: _report(settings, number) for number in numbers}
        _print_results(risk, reports)
    _print_next_steps(settings, reports)
    if not all_downloaded:
        raise click.exceptions.Exit(1)


def _download() -> bool:
    """Run `mbats ingest`, which shows its own progress. False when something failed and the rest went on."""
    from mbats.cli.ingest import ingest

    try:
        ingest.main(args=["--wait"], prog_name="mbats ingest", standalone_mode=False)
    except SystemExit as leave:
        return not leave.code
    return True


def _backtest(settings: Settings, secmaster: Database, risk: Database, example: Example) -> int:
    """The number of the example's newest run, made now if there is none."""
    from decimal import Decimal

    from mbats.cli.backtest import bar_progress
    from mbats.market import Granularity
    from mbats.riskdb.record import list_runs
    from mbats.trading.backtest import Costs, backtest, specify
    from mbats.trading.strategies import load_strategy

    name = f"{example.strategy} on {', '.join(example.symbols)} {example.granularity}"
    for run in list_runs(risk, limit=1000, strategy=example.strategy):
        if example.is_that_of(run):
            click.echo(f"{name}: run {run.run_id} exists, skipped.")
            return run.run_id
    strategy = load_strategy(example.strategy, settings.strategies_dir)
    spec = specify(
        secmaster,
        strategy,
        symbols=example.symbols,
        granularity=Granularity(example.granularity),
        start=None,
        end=None,
        cash=Decimal(100_000),
        currency="USD",
        parameters=strategy.parameters({}),
        costs=Costs(),
        seed=1,
    )
    with bar_progress(example.strategy, quiet=False) as progress:
        number, result = backtest(secmaster, risk, strategy, spec, progress=progress)
    click.echo(f"{name}: run {number}, {result.performance.bars:,} bars, {result.performance.trades:,} trades.")
    return number


def _report(settings: Settings, number: int) -> Path:
    from mbats.cli.report import publish_report

    path = settings.home / "reports" / f"run-{number}.html"
    if path.is_file():
        click.echo(f"Run {number}: {path} exists, skipped.")
        return path
    published = publish_report(settings, number)
    click.echo(f"Run {number}: {published.path}")
    if published.address is None:
        click.echo(f"No copy in the S3 store: {published.problem}", err=True)
    return published.path


def _print_results(risk: Database, reports: dict[int, Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mbats.riskdb.record import list_runs

    table = Table(title="Results after spread and financing, from 100,000 USD", title_justify="left", box=None)
    for title in ("run", "strategy", "symbols"):
        table.add_column(title, no_wrap=True)
    for title in ("trades", "net, USD", "return", "Sharpe", "drawdown"):
        table.add_column(title, justify="right")
    for run in sorted(list_runs(risk, limit=1000), key=lambda run: run.run_id):
        if run.run_id in reports:
            sharpe = "none" if run.sharpe is None else f"{run.sharpe:.2f}"
            table.add_row(
                *(str(run.run_id), run.strategy, f"{len(run.symbols)}, {run.granularity}", f"{run.trades:,}"),
                *(f"{run.net_pnl:,.0f}", f"{run.total_return:.1%}", sharpe, f"{run.max_drawdown:.1%}"),
            )
    console = Console()
    console.print()
    console.print(table)


def _print_next_steps(settings: Settings, reports: dict[int, Path]) -> None:
    from mbats.cli.platform import print_logins

    # What is at a path of a container is at none of the machine's.
    contained = bool(settings.public_addresses)
    program = "docker compose run --rm tools mbats" if contained else Path(sys.executable).parent / "mbats"
    if settings.oanda_environment == "simulator":
        click.echo("The prices are the simulator's: ECB rates with simulated intraday, and no one's quotes.")
    click.echo("\nLook next")
    if not contained:
        click.echo(f"  file://{min(reports.values())}\n      the first report, in a browser")
    for line, purpose in (
        (f"{program} runs", "all runs"),
        (f"{program} coverage", "the bars that are stored, and their gaps"),
        (f"{program} backtest sma_cross --symbols EUR_USD --param fast=10", "another run"),
        ("strategies/_template.py", "copy it to write a strategy"),
    ):
        click.echo(f"  {line}\n      {purpose}")
    click.echo("")
    print_logins(settings)


def _heading(text: str) -> None:
    click.secho(f"\n{text}", bold=True)
