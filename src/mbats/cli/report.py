"""`mbats report`: one run as one HTML file with pictures."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.settings import Settings


@click.command()
@click.argument("run", type=click.IntRange(min=1, max=2**63 - 1))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it. Default: reports/run-<RUN>.html in the state folder.",
)
@click.option("--open/--no-open", "show", default=False, show_default=True, help="Show it in the browser.")
def report(run: int, output: Path | None, show: bool) -> None:
    """Write run number RUN as one HTML file that opens anywhere, and put a copy in the S3 store.

    A store that does not answer is no failure: the file is there, and the command says that the copy is not.
    """
    from mbats.settings import get_settings

    published = publish_report(get_settings(), run, output)
    click.echo(f"Report of run {run}: {published.path}")
    if published.address:
        click.echo(f"Copy: {published.address}")
    else:
        click.echo(f"No copy in the S3 store: {published.problem}", err=True)
    if show:
        click.launch(published.path.as_uri())


@dataclass(frozen=True, slots=True)
class Published:
    """Where a report is: its file, and the S3 address of the copy or what kept it from being made."""

    path: Path
    address: str | None
    problem: str | None


def publish_report(settings: Settings, run_id: int, output: Path | None = None) -> Published:
    """Write the report of a recorded run, whole or not at all, and copy it to the store of artifacts.

    Raises UnknownRun, PlatformError without a database, ConfigError when the file cannot be written.
    """
    from mbats.errors import ConfigError, PlatformError
    from mbats.objectstore import ObjectStore

    content = _render(settings, run_id).encode()
    name = f"reports/run-{run_id}.html"
    path = (output or settings.home / name).absolute()
    _write_whole(path, content)
    try:
        ObjectStore(settings).put(settings.s3_bucket_artifacts, name, content, content_type="text/html; charset=utf-8")
    except (ConfigError, PlatformError) as error:
        return Published(path, None, str(error))
    return Published(path, f"s3://{settings.s3_bucket_artifacts}/{name}", None)


def _render(settings: Settings, run_id: int) -> str:
    from mbats.database import Database
    from mbats.market import Granularity
    from mbats.riskdb.record import load_run
    from mbats.secmaster.bars import load_bars
    from mbats.trading.report import render_report

    with closing(Database(settings, "risk", "trading")) as risk:
        result = load_run(risk, run_id)
    spec, length = result.spec, Granularity(result.spec.granularity)
    with closing(Database(settings, "secmaster", "trading")) as secmaster:
        bars = {
            symbol: load_bars(secmaster, symbol, length, start=spec.start, end=spec.end, as_of=result.data_as_of)
            for symbol in spec.symbols
        }
    return render_report(result, run_id, bars)


def _write_whole(path: Path, content: bytes) -> None:
    from mbats.errors import ConfigError

    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The report cannot be written to {path}: {error.strerror}. Nothing changed there; name another with --output."
        ) from None
