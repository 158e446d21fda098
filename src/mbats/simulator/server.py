"""The simulator as a process: three listeners, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from mbats.errors import ConfigError, PlatformError
from mbats.settings import Settings
from mbats.simulator.admin.api import Administration, create_admin_app
from mbats.simulator.faults import sockets
from mbats.simulator.faults.deeds import Deeds
from mbats.simulator.faults.requests import journal_and_faults, spoil_dates
from mbats.simulator.opening import open_exchange
from mbats.simulator.rest.access import Access
from mbats.simulator.rest.app import create_rest_app
from mbats.simulator.runtime import Runtime
from mbats.simulator.stepping import Stepping
from mbats.simulator.streams import Streams, create_stream_app

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE = 2.0  # seconds that running requests get when the process is told to stop
CLIENTS = ("rest", "stream")  # the listeners that clients use

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Door:
    """Where one listener is, and the variable that says so."""

    name: str
    port: int
    variable: str


def doors(settings: Settings) -> tuple[Door, ...]:
    """The three listeners; each has a port of its own."""
    return (
        Door("rest", settings.simulator_port, "MBATS_SIMULATOR_PORT"),
        Door("stream", settings.simulator_stream_port, "MBATS_SIMULATOR_STREAM_PORT"),
        Door("admin", settings.simulator_admin_port, "MBATS_SIMULATOR_ADMIN_PORT"),
    )


def serve(settings: Settings, *, announce: Announce, expose: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is given a line for each address as soon as requests are answered.

    Raises ConfigError when a setting, a file or the log cannot be used, or when the address is not this machine's own and
    `expose` is not set; PlatformError when a port is taken.
    """
    if settings.simulator_host not in LOOPBACK and not expose:
        raise ConfigError(
            f"MBATS_SIMULATOR_HOST is {settings.simulator_host}, which other machines can reach. The simulator was not started; "
            "it listens there, its admin port included, only with --expose."
        )
    runtime = open_exchange(settings)
    gc.collect()
    gc.freeze()  # what start-up made stays: a collection that walked it all would hold up an answer by 40 ms
    try:
        asyncio.run(Process(settings, runtime, announce, exposed=expose).run())
    finally:
        runtime.close()


class Process:
    """One exchange and its listeners."""

    def __init__(self, settings: Settings, runtime: Runtime, announce: Announce, *, exposed: bool) -> None:
        self._settings = settings
        self._runtime = runtime
        self._announce = announce
        self._exposed = exposed
        self._runners: dict[str, web.AppRunner] = {}
        self._sites: dict[str, web.TCPSite] = {}
        self._stop = asyncio.Event()
        self._stepping = Stepping(runtime)
        self._outage: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Listen, say where, and serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        streams = self._make_applications()
        try:
            self._runtime.settle()  # what has happened since the last time may take a while
            for runner in self._runners.values():
                await runner.setup()
            for door in doors(self._settings):
                await self._listen(door)
            self._say_where()
            self._stepping.go_on()
            await self._serve(streams)
        finally:
            streams.end_all("the simulator stops")
            for runner in self._runners.values():
                await runner.cleanup()

    def _make_applications(self) -> Streams:
        runtime, access = self._runtime, Access(self._runtime.config)
        deeds = Deeds(runtime, self._cut)
        streams = Streams(runtime, deeds)
        rest = create_rest_app(runtime, access, middlewares=[journal_and_faults(runtime, deeds, "rest")])
        stream = create_stream_app(streams, access, middlewares=[journal_and_faults(runtime, deeds, "stream")])
        for app in (rest, stream):
            spoil_dates(app, runtime.clock)
        administration = Administration(runtime, deeds, streams, self._stepping)
        admin = create_admin_app(administration, exposed=self._exposed)
        # A stream ends with its client. A request goes on: whoever hangs up before the answer may have traded all the same.
        for name, app, cancels in (("rest", rest, False), ("stream", stream, True), ("admin", admin, False)):
            self._runners[name] = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE, handler_cancellation=cancels)
        return streams

    async def _listen(self, door: Door) -> None:
        site = web.TCPSite(self._runners[door.name], self._settings.simulator_host, door.port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            raise PlatformError(
                f"The simulator cannot listen on {self._settings.simulator_host}:{door.port}: {error.strerror or error}. "
                f"It was not started; stop what uses the port, or set {door.variable}."
            ) from error
        self._sites[door.name] = site

    def _say_where(self) -> None:
        rest, stream, admin = (f"http://{self._settings.simulator_host}:{door.port}" for door in doors(self._settings))
        self._announce(f"OANDA v20 simulator on {rest}: {self._runtime.market.source.description}.")
        self._announce(f"Streams on {stream}, administration on {admin}, clock {self._runtime.clock.mode}.")

    async def _serve(self, streams: Streams) -> None:
        """Until told to stop, or until the exchange fails: then raise why."""
        running = asyncio.create_task(self._runtime.run(streams.look))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in (running, stopping):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    # --- The fault of no connection -----------------------------------------------------------------------------------------

    async def _cut(self, seconds: float) -> None:
        """Reset every connection of clients and, for so many seconds, refuse new ones."""
        if seconds and self._outage is None:
            for name in CLIENTS:
                await self._sites.pop(name).stop()
            self._outage = asyncio.create_task(self._come_back(seconds))
        for name in CLIENTS:
            server = self._runners[name].server
            for connection in list(server.connections) if server else ():
                sockets.reset(connection.transport)

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        for door in doors(self._settings):
            if door.name in CLIENTS:
                await self._listen(door)
        self._outage = None
