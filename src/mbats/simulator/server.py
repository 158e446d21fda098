"""The simulator as a process: listens until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable

from aiohttp import web

from mbats.errors import ConfigError, PlatformError
from mbats.settings import Settings
from mbats.simulator.api import Service, create_app
from mbats.simulator.exchange import Exchange
from mbats.simulator.prices import PriceSource
from mbats.simulator.sample import SampleMarket
from mbats.simulator.userbars import UserBars

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE = 2.0  # seconds that running requests get when the process is told to stop


def price_source(settings: Settings) -> PriceSource:
    """The user's own bars when the settings name any, else the sample market. Raises ConfigError about a bad file."""
    return UserBars(settings.simulator_bars) if settings.simulator_bars else SampleMarket(settings.simulator_seed)


def serve(settings: Settings, *, announce: Callable[[str], None], expose: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is given one line as soon as requests are answered.

    Raises ConfigError without a token, or when the address is not this machine's own and `expose` is not set; PlatformError
    when the port is taken.
    """
    token = settings.required_secret("simulator_token")
    if settings.simulator_host not in LOOPBACK and not expose:
        raise ConfigError(
            f"MBATS_SIMULATOR_HOST is {settings.simulator_host}, which other machines can reach. The simulator was not started; "
            "it listens there only with --expose."
        )
    exchange = Exchange(price_source(settings))
    gc.freeze()  # what start-up made stays: a collection that walked it all would hold up an answer by 40 ms
    asyncio.run(_serve(Service(exchange, token), settings, announce))


async def _serve(service: Service, settings: Settings, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(create_app(service), access_log=None, shutdown_timeout=GRACE)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.simulator_host, settings.simulator_port).start()
    except OSError as error:
        await runner.cleanup()
        raise PlatformError(
            f"The simulator cannot listen on {settings.simulator_host}:{settings.simulator_port}: {error.strerror or error}. "
            "It was not started; stop what uses the port, or set MBATS_SIMULATOR_PORT."
        ) from error
    announce(f"OANDA v20 simulator on {settings.simulator_url}: {service.exchange.source.description}.")
    await stop.wait()
    await runner.cleanup()
