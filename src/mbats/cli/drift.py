"""`mbats drift`: what the champions see now, beside what they were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.ml.drift import Watched


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects for programs.")
def drift(names: tuple[str, ...], as_json: bool) -> None:
    """Measure the drift of every champion, or of those of the models NAME, and record it.

    Each feature and the prediction get a population stability index: on the newest stored bars, and on what deployments asked the
    model. From 0.10 on something is to be watched, from 0.25 on it is an alarm, unless chance alone could be the reason.
    """
    import json
    from dataclasses import asdict

    from mbats.ml.retraining import watch_champions
    from mbats.platform.retraining import telling
    from mbats.settings import get_settings

    settings = get_settings()
    with telling(settings) as tell:
        found = watch_champions(settings, names, say=tell)
    if as_json:
        rows = [{"seen": seen} | asdict(row) for each in found for seen in ("bars", "live") for row in getattr(each, seen)]
        click.echo(json.dumps(rows, default=str, indent=2))
    elif found:
        for watched in found:
            _print(watched)
    else:
        click.echo("No model has a champion, so nothing can have drifted. `mbats promote NAME` makes one.")


def _print(watched: Watched) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    info, console = watched.info, Console()
    if not (watched.bars or watched.live):
        console.print(f"{info.reference}: too few bars since its training began to say anything. `mbats ingest` brings new ones.")
        return
    newest = (*watched.bars, *watched.live)[0]
    title = f"{info.reference} on {info.strategy}: bars from {newest.since:%F} to {newest.until:%F}, beside its training"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    for heading in ("what", "seen on"):
        table.add_column(heading)
    for heading in ("rows", "PSI"):
        table.add_column(heading, justify="right")
    table.add_column("level")
    for seen, rows in (("stored bars", watched.bars), ("deployments", watched.live)):
        for row in rows:
            table.add_row(row.what.removeprefix("feature:"), seen, f"{row.rows:,}", f"{row.psi:.3f}", row.level)
    console.print(table)
