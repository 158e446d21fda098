"""`mbats trader`: the service that trades, in the foreground."""

from __future__ import annotations

import click

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.option("--expose", is_flag=True, help="Allow an address that other machines can reach, as a container's network needs.")
def trader(expose: bool) -> None:
    """Trade: run every deployment that is to run, until it is stopped. `mbats deploy` adds one.

    It takes commands on MBATS_TRADER_HOST and MBATS_TRADER_PORT from whoever has MBATS_TRADER_TOKEN. What it sent and what it
    holds is in its journal; a start after a kill at any moment goes on from there.
    """
    from mbats.errors import ConfigError
    from mbats.live.trader import run
    from mbats.settings import get_settings

    settings = get_settings()
    if settings.trader_host not in LOOPBACK and not expose:
        raise ConfigError(
            f"MBATS_TRADER_HOST is {settings.trader_host}, which other machines can reach. The trader was not started; it takes "
            "commands there only with --expose."
        )
    write_log()
    run(settings)


def write_log() -> None:
    """What the trader has to say goes to standard error, with its time in UTC; of other packages, only what is wrong."""
    import logging
    import time

    lines = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(threadName)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(lines)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("mbats").setLevel(logging.INFO)
