"""`mbats halt`, `reduce`, `flatten` and `resume`, and the stop of one deployment: the words that must reach the trader.

One that does not answer finds the command as a file, and obeys it before it does anything else.
"""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.live.gate import CommandKind, TradingState
    from mbats.live.hosting.commands import Word
    from mbats.settings import Settings

NAME = click.argument("name", required=False)
WHY = click.option("--why", default="asked for on the command line", show_default=True, help="Why; it is kept with the command.")


@click.command()
@NAME
@WHY
def halt(name: str | None, why: str) -> None:
    """Stop trading: cancel every pending order and send no more but cancels. All deployments, or the one called NAME."""
    from mbats.live.gate import CommandKind

    _say(CommandKind.HALT, name, why)


@click.command()
@NAME
@WHY
def reduce(name: str | None, why: str) -> None:
    """Take no new risk: only what makes positions smaller is sent. All deployments, or the one called NAME."""
    from mbats.live.gate import CommandKind

    _say(CommandKind.REDUCE, name, why)


@click.command()
@NAME
@WHY
@click.option("--yes", is_flag=True, help="Close positions of real money too.")
@click.option("--now", is_flag=True, help="Do it from here, when the trader does not run.")
def flatten(name: str | None, why: str, yes: bool, now: bool) -> None:
    """Halt, and close what MBATS holds. All deployments, or the one called NAME. Nothing is asked for paper accounts."""
    from mbats.live.gate import CommandKind
    from mbats.settings import get_settings

    settings = get_settings()
    if not yes:
        _require_paper(settings, name)
    if not now:
        _say(CommandKind.FLATTEN, name, why)
        return
    from mbats.live.trader import flatten_now

    flatten_now(settings, name, by=who(), why=why, say=click.echo)


@click.command()
@NAME
@WHY
@click.option("--to", type=click.Choice(["active", "reducing"]), default="active", show_default=True, help="How far to loosen.")
def resume(name: str | None, why: str, to: str) -> None:
    """Trade again after a halt, a reduce, a flatten or a loss limit. All deployments, or the one called NAME."""
    from mbats.live.gate import CommandKind, TradingState

    _say(CommandKind.RESUME, name, why, to=TradingState(to.upper()))


def stop_deployment(name: str, why: str) -> None:
    """End the process of one deployment; what it holds stays as it is."""
    from datetime import UTC, datetime

    from mbats.live.hosting.client import TraderAway, TraderClient
    from mbats.live.hosting.commands import StopDeployment
    from mbats.live.ids import check_name
    from mbats.settings import get_settings

    settings = get_settings()
    check_name(name)
    try:
        TraderClient(settings).stop(name)
    except TraderAway as away:
        _leave(settings, StopDeployment(name, who(), datetime.now(UTC), why), away)
        return
    click.echo(f"'{name}' is stopped. Its positions and orders stay as they are; `mbats flatten {name}` closes them.")


def who() -> str:
    """Who gives a command: the user and the machine, as far as they have names."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _say(kind: CommandKind, name: str | None, why: str, *, to: TradingState | None = None) -> None:
    from datetime import UTC, datetime

    from mbats.live.gate import Command, TradingState
    from mbats.live.hosting.client import TraderAway, TraderClient
    from mbats.live.ids import check_name
    from mbats.settings import get_settings

    settings = get_settings()
    if name is not None:
        check_name(name)
    command = Command(kind, who(), datetime.now(UTC), why, name, to or TradingState.ACTIVE)
    try:
        said = TraderClient(settings).command(command)
    except TraderAway as away:
        _leave(settings, command, away)
        return
    click.echo(said.get("message") or f"'{kind}' was obeyed for {_whom(name)}.")


def _leave(settings: Settings, word: Word, away: Exception) -> None:
    """Leave the command as a file, and say plainly that nobody has obeyed it yet."""
    from mbats.live.gate import Command, CommandKind
    from mbats.live.hosting.commands import leave

    path = leave(settings.home, word)
    click.echo(f"mbats: {away}", err=True)
    click.echo(f"NOT OBEYED YET: '{word.kind}' waits in {path}. The trader obeys it before anything else when it runs again.")
    if isinstance(word, Command) and word.kind in (CommandKind.HALT, CommandKind.FLATTEN):
        click.echo(
            "Orders and positions stand at the broker meanwhile, with their stops. To close them from here, now: "
            f"mbats flatten {f'{word.deployment} ' if word.deployment else ''}--now"
        )
    raise click.exceptions.Exit(1)


def _require_paper(settings: Settings, name: str | None) -> None:
    from mbats.errors import UsageError
    from mbats.live.accounts import account_names, mode_of
    from mbats.live.gate import Mode
    from mbats.live.hosting.client import TraderAway, TraderClient

    try:
        found = [status for status in TraderClient(settings).deployments() if name in (None, status.name)]
        real = [f"{status.name} on account '{status.account}'" for status in found if status.mode is Mode.LIVE]
    except TraderAway:
        # Nobody says on which account a deployment is: that of real money may be meant.
        real = [f"account '{account}'" for account in account_names(settings) if mode_of(settings, account) is Mode.LIVE]
    if real:
        raise UsageError(
            f"Positions of real money would be closed at the market ({', '.join(real)}); nothing was done. Say it with --yes, or "
            "`mbats halt`, which closes nothing."
        )


def _whom(name: str | None) -> str:
    return f"'{name}'" if name else "all deployments"


__all__ = ["flatten", "halt", "reduce", "resume", "stop_deployment", "who"]
