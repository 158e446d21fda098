"""`mbats first-run`: the main job on a new platform, from the download to a strategy that trades on paper. Safe to repeat."""

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

# What trades on paper, within the gate's default limits: where the sample market is calmest, and the stop nearest, an account of
# 100,000 USD orders 170,000 units.
PAPER = Example("rsi_stochastic", SYMBOLS[:1], "M5")
PAPER_NAME, PAPER_ACCOUNT, PAPER_PARAMETERS = "first", "paper", ("risk=0.0002",)


@click.command("first-run")
def first_run() -> None:
    """Download what interested_tickers.xlsx asks for, backtest the example strategies, write a report of each run, and put one
    strategy on paper.

    What is there already is skipped. Ends with 1 when a symbol could not be downloaded, or when the trader does not answer, and
    the rest went on.
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
    all_deployed = True
    if trades_on_paper(settings):
        _heading("Paper trading")
        all_deployed = _deploy(settings)
    _print_next_steps(settings, reports)
    if not (all_downloaded and all_deployed):
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


def trades_on_paper(settings: Settings) -> bool:
    """Whether the platform has a trader, and a simulator for it to trade at: at a broker nothing is deployed unasked."""
    from mbats.live.accounts import account_names, resolve

    return (
        settings.has_service("trader")
        and settings.has_service("simulator")
        and PAPER_ACCOUNT in account_names(settings)
        and resolve(settings, PAPER_ACCOUNT).environment == "simulator"
    )


def _deploy(settings: Settings) -> bool:
    """Put the example on paper, if nobody ever has. False when the trader or its broker does not answer."""
    from mbats.cli.deploy import deploy
    from mbats.errors import OandaUnavailable
    from mbats.live.hosting.client import TraderAway, TraderClient

    try:
        if any(found.name == PAPER_NAME for found in TraderClient(settings).deployments()):
            click.echo(f"'{PAPER_NAME}' is deployed already, skipped.")
            return True
        arguments = [PAPER.strategy, "--symbols", ",".join(PAPER.symbols), "--granularity", PAPER.granularity]
        arguments += ["--account", PAPER_ACCOUNT, "--name", PAPER_NAME]
        deploy.main([*arguments, *(f"--param={each}" for each in PAPER_PARAMETERS)], "mbats deploy", standalone_mode=False)
    except (TraderAway, OandaUnavailable) as away:
        click.echo(f"{away} So nothing trades on paper; `mbats status` says what is not well.", err=True)
        return False
    return True


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
    paper = [
        (f"{program} deployments", "what trades on paper: whether it runs, what it holds, and why not"),
        (f"{program} flatten {PAPER_NAME}", "halt it, and close what it holds; `resume` lets it trade again, `stop` ends it"),
    ]
    click.echo("\nLook next")
    if not contained:
        click.echo(f"  file://{min(reports.values())}\n      the first report, in a browser")
    for line, purpose in (
        (f"{program} runs", "all runs"),
        *(paper if trades_on_paper(settings) else ()),
        (f"{program} coverage", "the bars that are stored, and their gaps"),
        (f"{program} backtest sma_cross --symbols EUR_USD --param fast=10", "another run"),
        ("strategies/_template.py", "copy it to write a strategy"),
    ):
        click.echo(f"  {line}\n      {purpose}")
    click.echo("")
    print_logins(settings)


def _heading(text: str) -> None:
    click.secho(f"\n{text}", bold=True)
