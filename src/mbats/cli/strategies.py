"""`mbats strategies`: what can be run, with its parameters."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects for programs.")
def strategies(as_json: bool) -> None:
    """List the strategies with their parameters and defaults.

    One that cannot be loaded is named with the reason, the others are listed, and the exit code is 1.
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from mbats.errors import ConfigError
    from mbats.settings import get_settings
    from mbats.trading.strategies import load_strategy, strategy_names

    folder = get_settings().strategies_dir
    loaded, broken = [], []
    for name in strategy_names(folder):
        try:
            loaded.append(load_strategy(name, folder))
        except ConfigError as error:
            broken.append(str(error))
    if as_json:
        click.echo(json.dumps([{"name": s.name, "summary": s.summary, "parameters": s.defaults()} for s in loaded], indent=2))
    else:
        table = Table(title=f"Strategies in {folder}", title_justify="left")
        for heading in ("strategy", "what it does", "parameters (default)"):
            table.add_column(heading, overflow="fold")
        for strategy in loaded:
            defaults = ", ".join(f"{name}={value}" for name, value in strategy.defaults().items())
            table.add_row(strategy.name, strategy.summary, defaults)
        Console().print(table)
    for message in broken:
        click.echo(f"mbats: {message}", err=True)
    sys.exit(1 if broken else 0)
