"""`mbats promote` and `mbats rollback`: which version of a model is the champion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.ml.gate import Check
    from mbats.riskdb.model_records import Promotion


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--why", required=True, help="Why; it is recorded with the promotion.")
@click.option("--override", is_flag=True, help="Promote though checks failed; recorded as such, with your reason.")
def promote(name: str, version: int | None, why: str, override: bool) -> None:
    """Make VERSION of the model NAME the champion if it passes the gate; without VERSION, the challenger.

    A version that is refused leaves everything as it was, and the exit code is 1.
    """
    from mbats.cli.trading_state import who
    from mbats.ml.promotion import NotPromoted
    from mbats.ml.promotion import promote as make_champion
    from mbats.settings import get_settings

    try:
        judgement, promotion = make_champion(get_settings(), name, version, by=who(), why=why, override=override)
    except NotPromoted as refused:
        print_checks(refused.judgement.checks)
        raise
    print_checks(judgement.checks)
    if promotion.overridden:
        failed = ", ".join(check.name for check in judgement.failed)
        click.echo(f"Promoted over {len(judgement.failed)} failed check(s) ({failed}), as recorded with your reason.")
    _say(promotion)


@click.command()
@click.argument("name")
@click.option("--why", required=True, help="Why; it is recorded with the rollback.")
def rollback(name: str, why: str) -> None:
    """Make the former champion of the model NAME the champion again; once more goes one further back."""
    from mbats.cli.trading_state import who
    from mbats.ml.promotion import rollback as take_back
    from mbats.settings import get_settings

    _say(take_back(get_settings(), name, by=who(), why=why))


def print_checks(checks: Sequence[Check]) -> None:
    """Each check of the gate in its sentence."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="The gate", title_justify="left", box=SIMPLE, pad_edge=False)
    for heading in ("check", "passed", "what was found"):
        table.add_column(heading)
    for check in checks:
        table.add_row(check.name, "yes" if check.passed else "NO", Text(check.sentence))
    Console().print(table)


def _say(promotion: Promotion) -> None:
    before = f"; before: version {promotion.previous_version}" if promotion.previous_version else ""
    click.echo(
        f"{promotion.name}/{promotion.version} is the champion of '{promotion.name}'{before}. A deployment that runs keeps what "
        "it began with, and takes this version when it is started again: mbats stop DEPLOYMENT, mbats start DEPLOYMENT."
    )


__all__ = ["print_checks", "promote", "rollback"]
