"""`mbats ingest`: download bars into the securities master, and say what became of each series."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from mbats.cli.moment import read_moment

if TYPE_CHECKING:
    from rich.console import Console

    from mbats.ingest.update import UpdateOutcome


@click.command()
@click.option("--source", "source_name", default="oanda", show_default=True, help="Where the bars come from.")
@click.option("--granularity", help="Only bars of this length. Default: all of the workbook; with --symbols, D.")
@click.option("--symbols", help="Comma-separated, such as EUR_USD,USD_JPY. Default: those of interested_tickers.xlsx.")
@click.option("--from", "start", callback=read_moment, help="First moment, UTC, included. Default: as the workbook says.")
@click.option("--to", "end", callback=read_moment, help="Last moment, UTC, excluded. Default: now.")
@click.option("--workers", type=click.IntRange(1, 8), default=4, show_default=True, help="Series downloaded at once.")
@click.option("--reread", is_flag=True, help="Ask for all of the period again, to mend holes and find old revisions.")
@click.option("--wait", is_flag=True, help="Wait for another process that downloads the same series, instead of skipping it.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as one object for programs.")
def ingest(
    source_name: str,
    granularity: str | None,
    symbols: str | None,
    start: datetime | None,
    end: datetime | None,
    workers: int,
    reread: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Download bars through the OANDA API into the securities master.

    Only what is missing is downloaded, so it may be run as often as one likes; after a kill it goes on where it was.
    Without --symbols it follows interested_tickers.xlsx in the S3 store. Ends with 1 when a symbol or a row of the workbook
    failed and the others went on.
    """
    from rich.console import Console

    from mbats.cli.granularity import read_granularity
    from mbats.cli.ingest_progress import show_progress
    from mbats.database import Database
    from mbats.ingest import open_source, update_bars
    from mbats.ingest.wanted import wanted
    from mbats.settings import get_settings

    settings = get_settings()
    names = None if symbols is None else symbols.split(",")
    length = read_granularity(granularity) if granularity else None
    requests, problems = wanted(settings, symbols=names, granularity=length, start=start, end=end)
    console = Console(stderr=as_json)
    with (
        closing(Database(settings, "secmaster", "ingest")) as db,
        closing(open_source(source_name, settings)) as source,
        show_progress(console) as progress,
    ):
        outcomes = update_bars(db, source, requests, workers=workers, progress=progress, reread=reread, wait=wait)
    if as_json:
        click.echo(json.dumps({"outcomes": [_plain(outcome) for outcome in outcomes], "problems": [str(p) for p in problems]}))
    else:
        _print_summary(console, outcomes)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for line in [*map(str, problems), *(f"{o.request.symbol} {o.request.granularity}: {o.message}" for o in failed)]:
        click.echo(f"mbats: {line}", err=True)
    if problems or failed:
        sys.exit(1)


def _plain(outcome: UpdateOutcome) -> dict[str, Any]:
    """The outcome as values that JSON has."""
    values = asdict(outcome)
    request = values.pop("request")
    period = {name: request[name].isoformat() if request[name] else None for name in ("start", "end")}
    return {"symbol": request["symbol"], "granularity": str(request["granularity"]), **period, **values}


def _print_summary(console: Console, outcomes: list[UpdateOutcome]) -> None:
    from rich.table import Table

    table = Table("symbol", "granularity", title="Bars stored")
    for title in ("new", "revised", "seconds"):
        table.add_column(title, justify="right")
    table.add_column("result")
    for outcome in outcomes:
        request = outcome.request
        numbers = (f"{outcome.inserted:,}", f"{outcome.revised:,}", f"{outcome.seconds:.1f}")
        result = f"skipped: {outcome.message}" if outcome.status == "skipped" else outcome.status
        table.add_row(request.symbol, str(request.granularity), *numbers, result)
    console.print(table)
