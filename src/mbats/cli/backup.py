"""`mbats backup`, `mbats backups`, `mbats restore`: all databases to the S3 store and back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.platform.manifest import Backup


@click.command()
def backup() -> None:
    """Dump every database to the S3 store, with a copy of interested_tickers.xlsx and what else lies beside it.

    Then backups older than MBATS_BACKUP_KEEP_DAYS are deleted, but never the newest one. It disturbs nobody at work.
    """
    from mbats.platform.backup import make_backup

    make_backup(say=click.echo)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one list for programs.")
def backups(as_json: bool) -> None:
    """List the backups in the S3 store, newest first."""
    import json

    from mbats.platform.manifest import list_backups, plain
    from mbats.settings import get_settings

    found = list_backups(get_settings())
    if as_json:
        click.echo(json.dumps([plain(backup) for backup in found], indent=2))
    elif found:
        _print_backups(found)
    else:
        click.echo("There is no backup yet. `mbats backup` makes one; the DAG `backup` makes one every night.")


def _print_backups(found: list[Backup]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("backup", no_wrap=True), Column("bytes", justify="right"), box=SIMPLE, pad_edge=False)
    for heading in ("databases", "MBATS", "PostgreSQL"):
        table.add_column(heading)
    for item in found:
        names = ", ".join(dump.name for dump in item.databases) if item.finished else "never finished"
        table.add_row(item.name, f"{item.size:,}" if item.finished else "-", names, item.mbats or "-", item.server or "-")
    Console().print(table)


@click.command()
@click.argument("name", metavar="[BACKUP]", required=False)
@click.option("--database", "databases", multiple=True, metavar="NAME", help="Only this database; may be given more than once.")
@click.option("--force", is_flag=True, help="End the connections to the databases. Services come back by themselves.")
@click.option("--drop-old", is_flag=True, help="Do not keep the databases that are replaced.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--clean", is_flag=True, help="Restore nothing; drop the databases that earlier restores have replaced.")
def restore(name: str | None, databases: tuple[str, ...], force: bool, drop_old: bool, yes: bool, clean: bool) -> None:
    """Bring all databases back as they are in a backup, the newest one unless another is named.

    The backup is checked and loaded beside the databases in use, and takes their place at one moment. What is replaced is
    kept under another name. Without --database, interested_tickers.xlsx and what lies beside it is put back as well.
    """
    from mbats.platform.manifest import find_backup
    from mbats.platform.restore import drop_replaced, replaced_databases
    from mbats.platform.restore import restore as bring_back
    from mbats.settings import get_settings

    settings = get_settings()
    if clean:
        names = replaced_databases(settings)
        if names:
            _confirm(f"Drop {', '.join(names)} for good?", yes)
        drop_replaced(settings)
        click.echo(f"Dropped: {', '.join(names)}." if names else "No restore has left a database, skipped.")
        return
    found = find_backup(settings, name)
    what = ", ".join(databases) or "every database"
    _confirm(f"Replace {what} by the backup {found.name}? What came in since then is not in it.", yes)
    kept = bring_back(settings, found, databases, force=force, drop_old=drop_old, say=click.echo)
    if kept:
        click.echo(f"The databases as they were before: {', '.join(kept)}. `mbats restore --clean` drops them.")
    click.echo("Run ./starter_script.sh now: services of a newer version than the backup migrate their databases at a start.")


def _confirm(question: str, yes: bool) -> None:
    from mbats.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked here, so nothing was changed. Add --yes.")
    click.confirm(question, abort=True)
