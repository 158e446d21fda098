"""`mbats runs`: what was run, newest first."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mbats.riskdb.record import RunSummary

WIDTH = 100  # columns, where nobody's terminal says how many there are


@click.command()
@click.option("--strategy", help="Only runs of this strategy.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1, max=100_000), help="How many, at most.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a list of objects for programs; money is text, so that it stays exact."
)
def runs(strategy: str | None, limit: int, as_json: bool) -> None:
    """List recorded runs, newest first."""
    import json

    from mbats.database import Database
    from mbats.riskdb.record import list_runs
    from mbats.settings import get_settings

    with closing(Database(get_settings(), "risk", "trading")) as db:
        found = list_runs(db, limit=limit, strategy=strategy)
    if as_json:
        click.echo(json.dumps([_plain(run) for run in found], indent=2))
    elif found:
        _print_runs(found)
    elif strategy:
        click.echo(f"No run of '{strategy}' is recorded. `mbats backtest {strategy}` makes one; `mbats runs` lists those of all.")
    else:
        click.echo("No run is recorded yet. `mbats backtest sma_cross` makes one; `mbats strategies` lists what can be run.")


def _plain(run: RunSummary) -> dict[str, Any]:
    """The run as values that JSON has; times are UTC, returns and drawdowns fractions."""
    from dataclasses import asdict

    values = asdict(run)
    times = {name: value.isoformat() for name, value in values.items() if isinstance(value, datetime)}
    return {"run": values.pop("run_id"), **values, **times, "net_pnl": str(run.net_pnl)}


def _print_runs(found: list[RunSummary]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Three lines a run and two figures a column, so that a terminal of 80 columns holds it.
    table = Table(title="Recorded runs, newest first", title_justify="left", box=SIMPLE, pad_edge=False, show_lines=True)
    table.add_column("run", justify="right", no_wrap=True)
    table.add_column("strategy\nsymbols", overflow="fold")
    table.add_column("recorded (UTC)\nbars and period", no_wrap=True)
    for heading in ("trades", "net P&L\nreturn", "Sharpe\nmax drawdown"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in found:
        table.add_row(
            str(run.run_id),
            # Not a plain string: the name of a file may hold what rich takes for markup.
            Text(f"{run.strategy}{_model(run)}\n{_some(run.symbols)}"),
            f"{run.recorded_at:%F %R}\n{run.granularity} from {run.start:%F}\nto {run.end:%F}",
            f"{run.trades:,}",
            f"{run.net_pnl:,.2f} {run.account_currency}\n{run.total_return:.2%}",
            f"{'none' if run.sharpe is None else format(run.sharpe, '.2f')}\n{run.max_drawdown:.2%}",
        )
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    console.print(f"Pictures of one: mbats report {found[0].run_id}    Repeat it: mbats reproduce {found[0].run_id}")


def _model(run: RunSummary) -> str:
    mark = " (in sample)" if run.in_sample else ""
    return f" with {run.model_version}{mark}" if run.model_version else mark


def _some(symbols: tuple[str, ...]) -> str:
    shown = ", ".join(symbols[:2])
    return shown if len(symbols) <= 2 else f"{shown} and {len(symbols) - 2} more"
