"""`mbats retrain`: challengers, as mlflow/retrain.toml says."""

from __future__ import annotations

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--due", is_flag=True, help="Only those that are due by their schedule, as the DAG retrain_models does.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects for programs.")
def retrain(names: tuple[str, ...], due: bool, as_json: bool) -> None:
    """Train a challenger for each model NAME of mlflow/retrain.toml, or for all, and put it before the gate.

    A model whose rule is `promote` becomes the champion if it passes; the others are proposed. One that fails does not stop the
    others; then the exit code is 1.
    """
    import json
    from dataclasses import asdict

    from mbats.errors import MbatsError
    from mbats.ml.jobs import choose_jobs
    from mbats.ml.retraining import due_models
    from mbats.ml.retraining import retrain as train_challenger
    from mbats.platform.retraining import telling
    from mbats.settings import get_settings

    settings = get_settings()
    jobs = choose_jobs(settings.root, names)
    if due:
        wanted = due_models(settings)
        jobs = {name: job for name, job in jobs.items() if name in wanted}
        if not jobs and not as_json:
            click.echo("No model is due. Without --due they are trained all the same.")
    outcomes, failures = [], []
    with telling(settings) as tell:
        for name, job in jobs.items():
            try:
                outcome = train_challenger(settings, name, job, say=tell)
            except MbatsError as error:
                failures.append(name)
                click.echo(f"mbats: {name}: {error}", err=True)
                continue
            outcomes.append(asdict(outcome))
            if not as_json:
                click.echo(f"{outcome.action}: {outcome.sentence}")
    if as_json:
        click.echo(json.dumps(outcomes, indent=2))
    if failures:
        raise click.exceptions.Exit(1)
