"""`mbats up`, `mbats stop`, `mbats status`: the services of the platform on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mbats.platform.health import ServiceStatus
    from mbats.settings import Settings


@click.command()
def up() -> None:
    """Start every service and prepare it: databases, tables, buckets. Safe to repeat; says what it skipped."""
    from mbats.platform import bootstrap

    bootstrap.up(click.echo)


@click.command()
def stop() -> None:
    """Stop every service and wait until they are gone. All data is kept."""
    from mbats.platform import bootstrap

    bootstrap.stop(click.echo)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one list for programs.")
def status(as_json: bool) -> None:
    """Show each service with its health and address. Exit code 0 when all are well, 1 otherwise."""
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
    table = Table("service", "state", "health", "pid", "up for", Column("address", no_wrap=True), box=SIMPLE, pad_edge=False)
    for service in found:
        health = "[green]well[/]" if service.healthy else "[red]not well[/]"
        pid = str(service.pid) if service.pid else "-"
        table.add_row(service.title, service.state, health, pid, _duration(service.uptime), service.address)
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
    from typing import get_args

    from mbats.settings import Role

    postgres = f"{settings.postgres_host}:{settings.postgres_port}"
    rows = [
        *((postgres, settings.postgres_user(role), f"mbats_postgres_{role}_password") for role in get_args(Role)),
        (settings.s3_url, "access key", "mbats_s3_access_key"),
        (settings.s3_url, "secret key", "mbats_s3_secret_key"),
        (settings.simulator_url, "bearer token", "mbats_simulator_token"),
    ]
    click.echo(f"Passwords are files in {settings.secrets_dir}")
    for address, user, file in rows:
        click.echo(f"  {address:<22} {user:<14} {file}")
