"""`mbats up`, `stop`, `status` and the steps of a start by themselves: the services of the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.platform.health import ServiceStatus
    from mbats.settings import Role, Settings

PEOPLE: tuple[Role, ...] = ("reader", "trading", "owner", "admin")  # the logins that a person may want


@click.command()
def up() -> None:
    """Start every service and prepare it: databases, tables, buckets. Safe to repeat; says what it skipped."""
    from mbats.platform import bootstrap

    bootstrap.up(click.echo)


@click.command()
@click.argument("name", required=False)
@click.option(
    "--why", default="asked for on the command line", help="Why the deployment is stopped; it is kept with the command."
)
def stop(name: str | None, why: str) -> None:
    """Stop every service and wait until they are gone; all data is kept. With NAME, stop that deployment alone."""
    from mbats.platform import bootstrap

    if name is not None:
        from mbats.cli.trading_state import stop_deployment

        stop_deployment(name, why)
        return
    bootstrap.stop(click.echo)


@click.command()
def prepare() -> None:
    """Prepare the stores that run: logins, databases, tables, buckets. What `up` does between two starts; safe to repeat."""
    from mbats.platform.buckets import prepare_store
    from mbats.platform.databases import prepare_databases
    from mbats.settings import get_settings

    prepare_databases(get_settings(), click.echo)
    prepare_store(get_settings(), click.echo)


@click.command("prepare-service")
@click.argument("name")
def prepare_service(name: str) -> None:
    """Do what must be done before the service NAME may start: migrate what it keeps, make its user. Safe to repeat."""
    from mbats.platform.service import find_service
    from mbats.platform.services import services
    from mbats.settings import get_settings

    service = find_service(services(get_settings()), name)
    if service.prepare is None:
        click.echo(f"{service.title}: there is nothing to prepare.")
        return
    service.prepare(click.echo)


@click.command("run-service")
@click.argument("name")
def run_service(name: str) -> None:
    """Become the service NAME: write its configuration and execute it. What a container does; `up` does it for a machine."""
    from mbats.platform.become import become_service
    from mbats.settings import get_settings

    become_service(get_settings(), name)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one list for programs.")
def status(as_json: bool) -> None:
    """Show each service with its version, health and address. Exit code 0 when all are well, 1 otherwise."""
    from mbats.platform import bootstrap

    found = bootstrap.status()
    print_statuses(found, as_json=as_json)
    if not all(service.healthy for service in found):
        raise click.exceptions.Exit(1)


def print_statuses(found: list[ServiceStatus], *, as_json: bool) -> None:
    """The services as a table, or as a JSON list with uptime in seconds."""
    import json
    from dataclasses import asdict

    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table

    if as_json:
        click.echo(json.dumps([asdict(service) for service in found], indent=2))
        return
    # Narrow enough for a terminal of 80 columns; an address that is cut short helps nobody.
    table = Table("service", "version", "health", "up for", Column("address", no_wrap=True), box=SIMPLE, pad_edge=False)
    for service in found:
        word = service.state if service.state in ("stopped", "backoff", "fatal", "exited") else "not well"
        health = "[green]well[/]" if service.healthy else f"[red]{word}[/]"
        table.add_row(service.title, service.version or "-", health, _duration(service.uptime), service.address)
    Console().print(table)
    for service in found:
        if not service.healthy:
            click.echo(f"{service.title}: {service.detail}")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0 s"


def print_logins(settings: Settings) -> None:
    """Where each service answers, as whom to speak to it, and in which file the password is."""
    from mbats.platform.services import services

    logins = {
        "postgres": [(settings.postgres_user(role), f"postgres_{role}_password") for role in PEOPLE],
        "s3": [("access key", "s3_access_key"), ("secret key", "s3_secret_key")],
        "simulator": [("bearer token", "simulator_token")],
        "trader": [("bearer token", "trader_token")],
        "mlflow": [(settings.admin_user, "mlflow_password")],
        "airflow-apiserver": [(settings.admin_user, "airflow_password")],
        "superset": [(settings.admin_user, "superset_password")],
        "jupyter": [("token", "jupyter_token")],
        "pgadmin": [(settings.pgadmin_user, "pgadmin_password")],
    }
    click.echo(f"Addresses, and the files in {settings.secrets_dir} that hold the passwords")
    for service in services(settings):
        for user, secret in logins.get(service.name, []):
            click.echo(f"  {service.title:<15} {service.address:<22} {user:<17} mbats_{secret}")
