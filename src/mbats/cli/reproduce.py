"""`mbats reproduce`: repeat a recorded run and compare."""

from __future__ import annotations

import sys
from contextlib import closing

import click


@click.command()
@click.argument("run", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as one object for programs.")
def reproduce(run: int, as_json: bool) -> None:
    """Repeat run number RUN from its own text, on the bars as they stood then, and compare every fill and trade.

    A run with a model is repeated with the version that it used, whatever is champion today.
    Ends with 0 when all are the same, with 1 when anything differs.
    """
    import json

    from mbats.cli.backtest import bar_progress, open_models
    from mbats.database import Database
    from mbats.settings import get_settings
    from mbats.trading.backtest import reproduce

    settings = get_settings()
    with (
        closing(Database(settings, "secmaster", "trading")) as secmaster,
        closing(Database(settings, "risk", "trading")) as risk,
        bar_progress(f"run {run}", quiet=as_json) as progress,
    ):
        again = reproduce(
            secmaster,
            risk,
            run,
            settings.strategies_dir,
            open_models=lambda references: open_models(settings, references),
            progress=progress,
        )
    same = not again.differences
    if as_json:
        fills = {"recorded": len(again.recorded.fills), "repeated": len(again.repeated.fills)}
        click.echo(json.dumps({"run": run, "reproduced": same, "fills": fills, "differences": again.differences}, indent=2))
    elif same:
        click.echo(
            f"Run {run} reproduced: {len(again.repeated.fills)} fills and {len(again.repeated.trades)} trades, all the same; "
            f"ending NAV {again.repeated.performance.ending_nav:,.2f} {again.repeated.spec.account_currency}."
        )
    else:
        click.echo(f"Run {run} was NOT reproduced:")
        for difference in again.differences:
            click.echo(f"  {difference}")
        if again.recorded.code_version != again.repeated.code_version:
            click.echo(f"  recorded by {again.recorded.code_version}, repeated by {again.repeated.code_version}")
    sys.exit(0 if same else 1)
