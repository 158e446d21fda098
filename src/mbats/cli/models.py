"""`mbats models`: what is registered, and what it is worth out of sample."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mbats.ml.registry import Version

WIDTH = 100  # columns, where nobody's terminal says how many there are


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects for programs.")
def models(name: str | None, as_json: bool) -> None:
    """List the versions of the model NAME, or of all models, newest first."""
    import json

    from mbats.ml.registry import names, versions
    from mbats.settings import get_settings

    settings = get_settings()
    found = [version for one in ([name] if name else names(settings)) for version in versions(settings, one)]
    if as_json:
        click.echo(json.dumps([_plain(version) for version in found], indent=2))
    elif found:
        _print_versions(found)
    else:
        click.echo("No model is registered yet. `mbats train rsi_stochastic` makes one; `mbats strategies` lists the strategies.")


def _plain(version: Version) -> dict[str, Any]:
    import json

    from mbats.ml.evaluation import Evaluation

    evaluation = Evaluation.of(version.tags)
    more = {"aliases": list(version.aliases), "registered": version.registered.isoformat()}
    scores = json.loads(version.tags.get("scores", "{}"))
    return version.info.to_json() | more | {"out_of_sample": evaluation.to_json() if evaluation else None, "scores": scores}


def _print_versions(found: list[Version]) -> None:
    import json

    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mbats.ml.evaluation import Evaluation

    table = Table(title="Registered models, newest first", title_justify="left", box=SIMPLE, pad_edge=False, show_lines=True)
    table.add_column("model\nalias", overflow="fold")
    table.add_column("made of", overflow="fold")
    table.add_column("trained on (UTC)\nregistered", no_wrap=True)
    table.add_column("out of sample, after costs", overflow="fold")
    for version in found:
        info = version.info
        table.add_row(
            Text(f"{info.reference}\n{', '.join(version.aliases) or 'no alias'}"),
            Text(
                f"{info.strategy} {info.granularity}\n{', '.join(info.symbols)}\nrecipe {version.tags.get('recipe', 'unknown')}"
            ),
            f"{info.trained_from:%F}\nto {info.trained_to:%F}\n{version.registered:%F %R}",
            Text(_in_words(Evaluation.of(version.tags), json.loads(version.tags.get("scores", "{}")))),
        )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _in_words(evaluation: Any, scores: dict[str, float]) -> str:
    from mbats.cli.train import scores_in_words

    if evaluation is None:
        return "nothing is recorded"
    model, baseline = evaluation.model, evaluation.baseline
    sharpe, other = ("none" if value is None else f"{value:.2f}" for value in (model.sharpe, baseline.sharpe))
    return (
        f"{evaluation.since} to {evaluation.until}: {model.trades:,} trades, {model.total_return:+.2%}, Sharpe ratio {sharpe}; "
        f"without the model {baseline.trades:,} trades, {baseline.total_return:+.2%}, {other}. "
        f"Predictions: {scores_in_words(scores)}"
    )
