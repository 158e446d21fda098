"""`mbats simulator`: the exchange in the foreground."""

from __future__ import annotations

import click


@click.command()
@click.option("--expose", is_flag=True, help="Allow an address that other machines can reach.")
def simulator(expose: bool) -> None:
    """Serve the OANDA v20 exchange simulator until it is stopped.

    It answers on MBATS_SIMULATOR_HOST and MBATS_SIMULATOR_PORT whoever has MBATS_SIMULATOR_TOKEN; streams and
    administration have ports of their own, which it prints. Its prices are ECB rates with simulated intraday, your own
    when MBATS_SIMULATOR_BARS names some, or those of MBATS_SIMULATOR_SOURCE. What is traded is kept in
    MBATS_SIMULATOR_DATA, and it goes on from there the next time.
    """
    from mbats.settings import get_settings
    from mbats.simulator.server import serve

    serve(get_settings(), announce=lambda line: click.echo(line), expose=expose)
