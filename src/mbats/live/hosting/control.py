"""The door through which people and programs command the trader: HTTP on an address of this machine, JSON both ways.

It runs in a thread of its own and asks a `Desk`. Whoever knocks needs the trader's token, but for the question whether the trader
is well, and for its figures. Halting has threads of its own, so that it waits for no other request.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from mbats import __version__
from mbats.errors import MbatsError, PlatformError, UnknownName
from mbats.live.deployment import Deployment
from mbats.live.gate import Command, CommandKind, TradingState, read_limits
from mbats.live.hosting.desk import DeploymentStatus, Desk, UnknownDeployment
from mbats.live.ids import check_name
from mbats.market import Granularity

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")

OPEN = ("/healthz", "/metrics")  # what is told without a token: no names, no money
START_TIMEOUT, STOP_TIMEOUT = 10.0, 5.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST = 4 * 2**20  # bytes of a request; a strategy's file is part of one

_STATUSES = TypeAdapter(list[DeploymentStatus])
_DEPLOYMENT = TypeAdapter(Deployment)


class Word(BaseModel):
    """The body of a command; a key that it does not know is a mistake. `to` is for `resume` alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str
    why: str
    deployment: str | None = None
    to: TradingState | None = None


class Control:
    """The HTTP server. `now` is the trader's clock, UTC; a port of 0 is any that is free.

    Where other machines reach it (`exposed`, by default when the host is no name of this machine), it has more names.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        host: str,
        port: int,
        token: SecretStr,
        exposed: bool | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not token.get_secret_value():
            raise PlatformError("The trader's token is empty: it takes no commands then, and was not started.")
        self._desk, self._host, self._port, self._token, self._now = desk, host, port, token, now
        self._exposed = host not in LOOPBACK if exposed is None else exposed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._runner: web.AppRunner | None = None
        self._plain = ThreadPoolExecutor(4, "control")
        self._urgent = ThreadPoolExecutor(4, "control-urgent")

    def start(self) -> None:
        """Listen. Raises PlatformError when the port is taken."""
        self._thread.start()
        self._ready.wait(START_TIMEOUT)
        if self._failure is not None:
            raise PlatformError(
                f"The trader cannot take commands on {self._host}:{self._port}: {self._failure.strerror or self._failure}. It "
                "was not started; stop what uses the port, or set MBATS_TRADER_PORT."
            )

    def stop(self) -> None:
        """Take no more commands; those under way are answered, within a few seconds."""
        if self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(STOP_TIMEOUT + 2)
        for pool in (self._plain, self._urgent):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def port(self) -> int:
        """Where it listens; the one that was found when it was to be 0."""
        addresses = self._runner.addresses if self._runner is not None else []
        return int(addresses[0][1]) if addresses else self._port

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        try:
            await self._listen()
            self._ready.set()
            await self._end.wait()
        finally:
            if self._runner is not None:
                await self._runner.cleanup()

    async def _listen(self) -> None:
        # A command is carried out although its client hung up: nobody knows how far it had come.
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=STOP_TIMEOUT, handler_cancellation=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, reuse_address=True).start()

    # --- What it answers ---------------------------------------------------------------------------------------------------

    def app(self) -> web.Application:
        """The routes, behind the guard."""
        app = web.Application(middlewares=[self._errors, self._guard], client_max_size=LARGEST)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/state", self._state)
        app.router.add_get("/deployments", self._list)
        app.router.add_post("/deployments", self._deploy)
        app.router.add_get("/deployments/{name}", self._show)
        app.router.add_post("/deployments/{name}/{verb:start|stop}", self._start_or_stop)
        app.router.add_post("/{kind:halt|reduce|flatten|resume}", self._command)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        well, _ = await self._ask(self._desk.healthy, urgent=True)
        return answer({"status": "ok" if well else "not well", "version": __version__}, 200 if well else 503)

    async def _state(self, request: web.Request) -> web.Response:
        well, values = await self._ask(self._desk.healthy, urgent=True)
        return answer({"healthy": well, "version": __version__, "time": self._now().isoformat(), **values})

    async def _metrics(self, request: web.Request) -> web.Response:
        body = await self._ask(self._desk.metrics, urgent=True)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _list(self, request: web.Request) -> web.Response:
        return answer({"deployments": _STATUSES.dump_python(await self._ask(self._desk.deployments), mode="json")})

    async def _show(self, request: web.Request) -> web.Response:
        found = await self._ask(self._desk.deployments)
        return answer(_STATUSES.dump_python([_named(found, request.match_info["name"])], mode="json")[0])

    async def _deploy(self, request: web.Request) -> web.Response:
        deployment = _valid(_DEPLOYMENT.validate_json, await request.read())
        check_deployment(deployment)
        await self._ask(lambda: self._desk.deploy(deployment))
        return answer({"name": deployment.name}, 201)

    async def _start_or_stop(self, request: web.Request) -> web.Response:
        name, act = request.match_info["name"], getattr(self._desk, request.match_info["verb"])
        await self._ask(lambda: act(name), urgent=request.match_info["verb"] == "stop")
        return answer({"name": name})

    async def _command(self, request: web.Request) -> web.Response:
        word = _valid(Word.model_validate_json, await request.read())
        kind = CommandKind(request.match_info["kind"])
        command = Command(kind, word.by, self._now(), word.why, word.deployment, word.to or TradingState.ACTIVE)
        return answer(await self._ask(lambda: self._desk.command(command), urgent=kind is not CommandKind.RESUME))

    async def _ask(self, act: Callable[[], T], *, urgent: bool = False) -> T:
        pool = self._urgent if urgent else self._plain
        return await asyncio.get_running_loop().run_in_executor(pool, act)

    # --- Who may ask -------------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A stranger's page in a visitor's browser can reach 127.0.0.1: its host, its origin and its kind of body betray it."""
        if not is_ours(request.host, exposed=self._exposed):
            return _refusal(f"This host is not called {request.host}.", 403)
        if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
            return _refusal("Requests of other sites' pages are not answered.", 403)
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            return _refusal("Requests of other sites' pages are not answered.", 403)
        if request.path not in OPEN and not self._has_token(request):
            return _refusal("The trader's token is missing or wrong (Authorization: Bearer …). Nothing was done.", 401)
        if request.method == "POST" and request.can_read_body and request.content_type != "application/json":
            return _refusal(
                f"The body is declared as {request.content_type}; it must be application/json. Nothing was done.", 415
            )
        response = await handler(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _has_token(self, request: web.Request) -> bool:
        kind, _, said = request.headers.get("Authorization", "").partition(" ")
        return kind == "Bearer" and hmac.compare_digest(said.strip().encode(), self._token.get_secret_value().encode())

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except MbatsError as error:
            return _refusal(str(error), _status(error))
        except web.HTTPException as refused:
            return _refusal(refused.reason, refused.status)
        except Exception:
            log.exception("%s %s failed; its sender got a 500", request.method, request.path)
            return _refusal("Internal error of the trader; its log has the details. Look at its state before you try again.", 500)


def check_deployment(deployment: Deployment) -> None:
    """Raise UsageError or ConfigError unless this can be a deployment, as far as can be said without asking anybody."""
    check_name(deployment.name)
    read_limits(deployment.limits, where=f"deployment '{deployment.name}'")
    if not deployment.symbols or len(set(deployment.symbols)) != len(deployment.symbols):
        raise _Unusable(f"'{deployment.name}' needs symbols, each once (found {deployment.symbols}). Nothing was stored.")
    if deployment.granularity not in [each.value for each in Granularity]:
        raise _Unusable(
            f"'{deployment.name}' asks for bars of '{deployment.granularity}', which OANDA has not. Nothing was stored."
        )
    if deployment.warmup_bars is not None and deployment.warmup_bars < 0:
        raise _Unusable(f"'{deployment.name}' asks for {deployment.warmup_bars} bars of history. Nothing was stored.")


class _Unusable(MbatsError):
    """A request that cannot be carried out as it stands."""


def is_ours(host: str, *, exposed: bool) -> bool:
    """Whether a Host header names this machine. Addresses do, since no name is looked up for them; where containers call each
    other by names, those have no dot."""
    name = ""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return ipaddress.ip_address(name).is_loopback or exposed
    except ValueError:
        return name == "localhost" or (exposed and name != "" and "." not in name)


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer; decimals and times are texts."""
    return web.Response(body=orjson.dumps(body, default=str), status=status, content_type="application/json")


def _refusal(message: str, status: int) -> web.Response:
    return answer({"error": message}, status)


def _status(error: MbatsError) -> Literal[400, 404, 503]:
    if isinstance(error, UnknownDeployment):
        return 404
    return 503 if error.passing and not isinstance(error, UnknownName) else 400


def _named(found: list[DeploymentStatus], name: str) -> DeploymentStatus:
    by_name = {status.name: status for status in found}
    if name not in by_name:
        raise UnknownDeployment(name, by_name)
    return by_name[name]


def _valid(read: Callable[[bytes], T], body: bytes) -> T:
    try:
        return read(body)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the body'}: {each['msg']}" for each in error.errors())
        raise _Unusable(f"The request cannot be read: {problems}. Nothing was done.") from None


__all__ = ["Control", "DeploymentStatus", "Desk", "UnknownDeployment", "Word", "check_deployment", "is_ours"]
