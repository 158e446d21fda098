"""`mbats secrets`: the platform's own passwords and keys. Prints names and files, never a value."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def secrets() -> None:
    """The platform's own passwords and keys: make those that are missing, change one, hand them out to containers."""


@secrets.command("list")
def list_secrets() -> None:
    """Show each secret's name and file, and which services read it."""
    from mbats.platform.secret_files import GIVEN, MADE, services_that_read
    from mbats.settings import get_settings

    folder = get_settings().secrets_dir
    click.echo(f"Files in {folder}")
    for name in (*MADE, *GIVEN):
        file = folder / f"mbats_{name}"
        readers = ", ".join(services_that_read(name)) or "commands alone"
        click.echo(f"  {file.name:<34} {'' if file.is_file() else 'missing; '}read by {readers}")


@secrets.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def rotate(names: tuple[str, ...]) -> None:
    """Give each secret NAME a new random value. It takes effect at the next start, or at once where only files hold it."""
    from mbats.platform.rotation import rotate_secret
    from mbats.settings import get_settings

    for name in names:
        rotate_secret(get_settings(), name, click.echo)


@secrets.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def share(folder: Path) -> None:
    """Make missing secrets, and give each service's container its own in FOLDER. Done as root, by the first container."""
    from mbats.platform.secret_files import ensure_secrets, share_secrets
    from mbats.settings import load_settings

    made = ensure_secrets(load_settings())
    click.echo(f"Secrets: {len(made)} written." if made else "Secrets exist, skipped.")
    touched = share_secrets(load_settings(), folder)
    click.echo(f"Handed out to: {', '.join(touched)}." if touched else "Handed out already, skipped.")
