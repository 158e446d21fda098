"""`mbats train`: make a model from a strategy's own features, see what it is worth, and register it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from mbats.cli.backtest import _cash, read_pairs
from mbats.cli.moment import read_moment

if TYPE_CHECKING:
    from mbats.ml.training import Trained


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return read_pairs(ctx, param, tuple(value for value in values if value))  # an MLproject cannot leave an option out


@click.command()
@click.argument("strategy")
@click.option("--symbols", help="Comma-separated, such as EUR_USD,USD_JPY. Default: all that are stored at the granularity.")
@click.option("--granularity", default="H1", show_default=True, help="Length of a bar: M1, M5, H1, H4, D, …")
@click.option("--from", "start", callback=read_moment, help="First moment, UTC, included. Default: the first stored bar.")
@click.option("--to", "end", callback=read_moment, help="Last moment, UTC, excluded. Default: now.")
@click.option("--recipe", default="forest", show_default=True, help="A name in mlflow/recipes, or a path to a .toml file.")
@click.option(
    "--param",
    "given",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="A parameter of the strategy; may be repeated.",
)
@click.option("--trials", type=click.IntRange(min=0), help="How many sets of parameters to try. Default: as the recipe says.")
@click.option("--name", help="Name of the model. Default: the strategy's.")
@click.option("--cash", default="100000", show_default=True, callback=_cash, help="Starting cash of the run out of sample.")
@click.option("--currency", default="USD", show_default=True, help="The account's currency.")
@click.option("--slippage", default="none", show_default=True, help="none, pips:0.2, spread:0.5 or range:0.05.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one object for programs.")
def train(
    strategy: str,
    symbols: str | None,
    granularity: str,
    start: datetime | None,
    end: datetime | None,
    recipe: str,
    given: dict[str, str],
    trials: int | None,
    name: str | None,
    cash: Decimal,
    currency: str,
    slippage: str,
    as_json: bool,
) -> None:
    """Train a model for STRATEGY on the features that it declares, judge it out of sample, and register it as `challenger`."""
    from mbats.cli.granularity import read_granularity
    from mbats.errors import UsageError
    from mbats.ml.training import TrainingSpec
    from mbats.ml.training import train as run
    from mbats.settings import get_settings
    from mbats.trading.backtest import Costs
    from mbats.trading.costs import Slippage

    if start and end and end <= start:
        raise UsageError(f"--from {start:%Y-%m-%d %H:%M} is not before --to {end:%Y-%m-%d %H:%M}; nothing was trained.")
    spec = TrainingSpec(
        strategy=strategy,
        granularity=read_granularity(granularity),
        symbols=tuple(part.strip() for part in symbols.split(",") if part.strip()) if symbols else None,
        start=start,
        end=end,
        recipe=recipe,
        parameters=given,
        trials=trials,
        name=name or None,
        cash=cash,
        currency=currency,
        costs=Costs(slippage=Slippage.parse(slippage)),
    )
    with step_progress(quiet=as_json) as told:
        trained = run(get_settings(), spec, told=told)
    print_trained(trained, as_json=as_json)


@contextmanager
def step_progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """Live progress on a terminal, one line for each step of the training. None where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            if done % 500 == 0 or done == total or total < 500:
                bar.update(tasks[step], completed=done, total=total)

        yield show


def print_trained(trained: Trained, *, as_json: bool) -> None:
    """What was registered and what it is worth, for a person or as one JSON object."""
    import json

    from rich.console import Console
    from rich.table import Table

    info, evaluation = trained.info, trained.evaluation
    if as_json:
        values = {"model": info.to_json(), "out_of_sample": evaluation.to_json(), "scores": trained.scores}
        more = {"parameters": trained.parameters, "samples": trained.samples, "trials": trained.trials, "run": trained.address}
        click.echo(json.dumps(values | more, indent=2))
        return
    table = Table(title=f"Model {info.reference}, out of sample after costs", title_justify="left")
    table.add_column(f"{evaluation.since} to {evaluation.until}")
    for heading in ("with the model", "without"):
        table.add_column(heading, justify="right")
    for title, name, form in (
        ("trades", "trades", ",d"),
        ("net profit", "net_pnl", ",.2f"),
        ("of that, spread and slippage", "", ",.2f"),
        ("return", "total_return", ".2%"),
        ("Sharpe ratio", "sharpe", ".2f"),
        ("worst drawdown", "max_drawdown", ".2%"),
    ):
        row = []
        for figures in (evaluation.model, evaluation.baseline):
            value = getattr(figures, name) if name else 0.0 - figures.spread_cost - figures.slippage_cost
            row.append("none" if value is None else format(value, form))
        table.add_row(title, *row)
    console = Console()
    console.print(table)
    console.print(f"{trained.samples:,} samples of {', '.join(info.symbols)}; features {', '.join(info.features)}.")
    console.print(f"Its predictions out of sample: {scores_in_words(trained.scores)}.")
    console.print(f"Run: {trained.address}", soft_wrap=True)
    console.print(f"It is the challenger. Try it: --param model={info.name}@challenger", soft_wrap=True)
    console.print(f'Make it the champion, if it passes the gate: mbats promote {info.name} --why "…"', soft_wrap=True)


def scores_in_words(scores: Mapping[str, float]) -> str:
    """How good predictions were: the figures that the rows define, or that they took no side."""
    if not scores.get("sides_taken") and not scores.get("r2"):
        return "none; it found nothing and takes no side"
    words = [f"R² {scores['r2']:+.4f} against a forecast of zero"] if "r2" in scores else []
    if "accuracy_edge" in scores:
        words.append(f"the right side {scores['accuracy_edge']:+.2%} oftener than the constant guess")
    if "information_coefficient" in scores:
        words.append(f"rank correlation {scores['information_coefficient']:+.3f}")
    return ", ".join(words)
