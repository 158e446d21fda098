"""`mbats deployments` and `mbats start`: what trades, and starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.live.hosting.desk import DeploymentStatus


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects for programs.")
def deployments(as_json: bool) -> None:
    """Show what is deployed: whether it runs and trades, what it holds, and why not."""
    from pydantic import TypeAdapter

    from mbats.live.hosting.client import TraderClient
    from mbats.live.hosting.desk import DeploymentStatus
    from mbats.settings import get_settings

    found = TraderClient(get_settings()).deployments()
    if as_json:
        click.echo(TypeAdapter(list[DeploymentStatus]).dump_json(found, indent=2))
    elif not found:
        click.echo("Nothing is deployed; `mbats deploy` does it.")
    else:
        print_deployments(found)


@click.command()
@click.argument("name")
def start(name: str) -> None:
    """Start the deployment NAME again, after a stop or when it kept dying. (`mbats up` starts the platform.)"""
    from mbats.live.hosting.client import TraderClient
    from mbats.live.ids import check_name
    from mbats.settings import get_settings

    TraderClient(get_settings()).start(check_name(name))
    click.echo(f"'{name}' starts; `mbats deployments` shows how it goes on.")


def print_deployments(found: list[DeploymentStatus]) -> None:
    """A table, and below it a line for each that has something to say."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    from mbats.live.deployment import State
    from mbats.live.gate import Mode, TradingState

    colours = {State.LIVE: "green", State.FAILED: "red", State.WAITING: "yellow", State.STARTING: "yellow"}
    # Narrow enough for a terminal of 80 columns.
    table = Table(
        Column("name", no_wrap=True), "trades", "account", "state", "holds", "profit", "last bar", box=SIMPLE, pad_edge=False
    )
    for each in found:
        state = f"[{colours.get(each.state, 'default')}]{each.state}[/]"
        trading = "" if each.trading is TradingState.ACTIVE else f"\n[red]{each.trading}[/]"
        holds = [f"{units:+f} {symbol}" for symbol, units in sorted(each.positions.items()) if units]
        table.add_row(
            each.name,
            f"{each.strategy} {each.granularity}\n{' '.join(each.symbols)}",
            f"{each.account}\n[bold red]real money[/]" if each.mode is Mode.LIVE else each.account,
            state + trading,
            "\n".join([*holds, *([f"{each.orders} orders"] if each.orders else [])]) or "-",
            "-" if each.pnl is None else f"{each.pnl:,.2f} {each.currency}".strip(),
            f"{each.last_bar:%m-%d %H:%M:%S}" if each.last_bar else "-",
        )
    Console().print(table)
    for each in found:
        if each.model:
            click.echo(f"{each.name}: model {each.model}")
        if each.reason:
            click.echo(f"{each.name}: {each.reason}")


__all__ = ["deployments", "print_deployments", "start"]
