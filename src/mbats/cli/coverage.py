"""`mbats coverage`: what the securities master holds, and what it should hold but does not."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mbats.secmaster.coverage import Coverage


@click.command()
@click.option("--symbols", help="Comma-separated, such as EUR_USD,USD_JPY. Default: all that are stored.")
@click.option("--granularity", help="Only bars of this length.")
@click.option("--gaps", "show_gaps", is_flag=True, help="List each gap.")
@click.option("--json", "as_json", is_flag=True, help="Print the series and their gaps as one list for programs.")
def coverage(symbols: str | None, granularity: str | None, show_gaps: bool, as_json: bool) -> None:
    """Show the first and last bar of each series, how many there are, and its real gaps.

    A gap is an hour of open market or longer without bars that are due; weekends, holidays, and single minutes without
    a price are none. `mbats ingest --reread` asks the source for what is missing.
    """
    from mbats.cli.granularity import read_granularity
    from mbats.database import Database
    from mbats.secmaster.coverage import coverage as measure
    from mbats.secmaster.series import stored_series
    from mbats.settings import get_settings

    names = [name.strip().upper() for name in symbols.split(",") if name.strip()] if symbols else None
    length = read_granularity(granularity) if granularity else None
    with closing(Database(get_settings(), "secmaster", "ingest")) as db:
        found = measure(db, symbols=names, granularity=length)
        vendors = [stored.vendor if (stored := stored_series(db, s.symbol, s.granularity)) else None for s in found]
    if as_json:
        click.echo(json.dumps([{**_plain(series), "vendor": vendor} for series, vendor in zip(found, vendors, strict=True)]))
    elif not found:
        click.echo("The securities master holds no bars of these yet. `mbats ingest` downloads some.")
    else:
        _print_series(found, vendors)
        if show_gaps:
            _print_gaps(found)


def _plain(series: Coverage) -> dict[str, Any]:
    """The series as values that JSON has; times are UTC."""
    return {
        "symbol": series.symbol,
        "granularity": str(series.granularity),
        "first": series.first and series.first.isoformat(),
        "last": series.last and series.last.isoformat(),
        "bars": series.bars,
        "gaps": [{"start": gap.start.isoformat(), "end": gap.end.isoformat(), "missing": gap.missing} for gap in series.gaps],
    }


def _print_series(found: list[Coverage], vendors: list[str | None]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("symbol", "granularity", "first bar (UTC)", "last bar (UTC)", title="Bars in the securities master")
    for title in ("bars", "gaps", "missing"):
        table.add_column(title, justify="right")
    table.add_column("vendor")
    for series, vendor in zip(found, vendors, strict=True):
        ends = (f"{moment:%F %R}" if moment else "none" for moment in (series.first, series.last))
        missing = sum(gap.missing for gap in series.gaps)
        counts = (f"{number:,}" for number in (series.bars, len(series.gaps), missing))
        table.add_row(series.symbol, str(series.granularity), *ends, *counts, vendor or "none")
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def _print_gaps(found: list[Coverage]) -> None:
    for series in found:
        for gap in series.gaps:
            period = f"{gap.start:%F %R} to {gap.end:%F %R}"
            click.echo(f"{series.symbol} {series.granularity}: {period} UTC, {gap.missing:,} bars missing")
