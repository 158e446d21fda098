"""What every request of a client passes through first: the journal, and the faults that strike it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal, TypeVar

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware

from mbats.simulator.clock import Clock
from mbats.simulator.errors import forbidden, too_often, unauthorized
from mbats.simulator.faults import sockets
from mbats.simulator.faults.actions import (
    DEEDS,
    Answer,
    Close,
    Delay,
    Drip,
    Duplicate,
    Garble,
    Hang,
    Kill,
    RateLimit,
    Reset,
    Stale,
    Timed,
    Truncate,
    WrongDate,
)
from mbats.simulator.faults.deeds import Deeds
from mbats.simulator.faults.rules import Facts, Rule
from mbats.simulator.rest.view import BEHIND
from mbats.simulator.runtime import Runtime

Found = TypeVar("Found")
Listener = Literal["rest", "stream"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WRONG_DATE = web.RequestKey("wrong_date", float)

HTML = (
    "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center><h1>{status} {reason}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
REASONS = {
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Time-out",
}
AS_HTML = (502, 503)  # which OANDA's proxies have been seen to answer in HTML
TOLD = ("answered", "replaced", "garbled", "dripped")  # outcomes in which the client gets a whole answer
WORDS = {500: "Unable to forward request.", 504: "Timeout waiting for response."}  # seen in the wild


def journal_and_faults(runtime: Runtime, deeds: Deeds, listener: Listener) -> Middleware:
    """The outermost middleware of the REST side (`rest`) and of the streams (`stream`)."""

    @web.middleware
    async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await _Passage(runtime, deeds, listener, request, handler).run()

    return pass_through


@dataclass(slots=True)
class _Passage:
    """One request on its way through."""

    runtime: Runtime
    deeds: Deeds
    listener: Listener
    request: web.Request
    handler: Handler
    outcome: str = "answered"
    rules: list[Rule] = field(default_factory=list)
    applied: web.StreamResponse | None = None  # what came of the request, whatever the client is told

    async def run(self) -> web.StreamResponse:
        began = time.perf_counter()
        content = await self._content()
        self.rules = self.runtime.faults.striking(self._facts(content))
        if wrong := self._has(WrongDate):
            self.request[WRONG_DATE] = wrong.seconds
        try:
            answer = await self._answer()
        finally:
            for rule in self.rules:
                if isinstance(rule.action, Kill) and rule.action.point:
                    self.runtime.faults.disarm(rule.action.point)
        took = time.perf_counter() - began
        if isinstance(answer, web.Response) or self.outcome != "answered":  # else a stream, which keeps the journal itself
            self._note(content, answer, took)
        return answer

    def _note(self, content: bytes, answer: web.StreamResponse, took: float) -> None:
        if self.outcome == "answered" and sockets.transport_of(self.request) is None:
            self.outcome = "abandoned"
        told = answer.status if self.outcome in TOLD else None
        shown = self.applied or answer
        body = shown.body if isinstance(shown, web.Response) else None
        self.runtime.metrics.answered(self.listener, self.request.method, told or 0, took)
        self.runtime.journal.add(
            "request",
            listener=self.listener,
            method=self.request.method,
            path=self.request.path,
            query=dict(self.request.query),
            account=self.request.match_info.get("account"),
            client=self.request.remote,
            outcome=self.outcome,
            status=None if self.applied is None else self.applied.status,
            told=told,
            milliseconds=round(took * 1000, 3),
            faults=[str(rule.number) for rule in self.rules],
            requestID=shown.headers.get("RequestID"),
            request=content,
            response=body if isinstance(body, bytes) else b"",
        )

    async def _content(self) -> bytes:
        try:
            return await self.request.read()
        except web.HTTPException:
            return b""  # too large: the handler meets the same, and answers it

    def _facts(self, content: bytes) -> Facts:
        account = self.request.match_info.get("account")
        return Facts(self.listener, self.request.method, self.request.path, account, _instrument(self.request, content))

    # --- The faults -------------------------------------------------------------------------------------------------------

    async def _answer(self) -> web.StreamResponse:
        spoiled = await self._strike("before")
        if spoiled is not None:
            return spoiled
        self.applied = answer = await self._apply()
        spoiled = await self._strike("after")
        if spoiled is not None:
            return spoiled
        return await self._delivered(answer)

    async def _strike(self, when: str) -> web.StreamResponse | None:
        """Do what is to be done before or after the request is applied; what ends it, if anything does."""
        for rule in self.rules:
            action = rule.action
            if isinstance(action, RateLimit) and when == "before":
                self.outcome = "replaced"
                return self._said(too_often(action.per_second).status, too_often(action.per_second).body())
            if not isinstance(action, Timed) or action.when != when:
                continue
            if isinstance(action, DEEDS):
                await self.deeds.struck(rule, action)
            elif isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif isinstance(action, Answer):
                self.outcome = "replaced"
                return self._spoken(action)
            elif isinstance(action, Hang):
                self.outcome = "hung"
                await sockets.hold(self.request)
                return web.Response()
            elif isinstance(action, Reset | Close):
                return self._gone(action)
        return None

    def _gone(self, action: Reset | Close) -> web.StreamResponse:
        transport = sockets.transport_of(self.request)
        if isinstance(action, Reset):
            self.outcome = "reset"
            sockets.reset(transport)
        else:
            self.outcome = "closed"
            sockets.close(transport)
        return web.Response()  # which finds no connection any more

    async def _apply(self) -> web.StreamResponse:
        if self.request.method == "GET" and self._has(Stale) is not None:
            self.request[BEHIND] = 1
        answer = await self.handler(self.request)
        if twice := self._has(Duplicate):
            second = await self.handler(self.request)
            answer = second if twice.answer == "second" else answer
        return answer

    async def _delivered(self, answer: web.StreamResponse) -> web.StreamResponse:
        """The answer on its way, as far as it comes."""
        if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        body = answer.body
        if self._has(Garble):
            self.outcome = "garbled"
            body = body[: max(1, len(body) // 2)] + b"\x00"
            answer = web.Response(body=body, status=answer.status, headers=_without_length(answer))
        if cut := self._has(Truncate):
            self.outcome = "truncated"
            await self._in_part(answer, body, len(body) // 2 if cut.bytes is None else cut.bytes)
            sockets.close(sockets.transport_of(self.request))
            return web.Response()
        if self.runtime.faults.is_armed("during_answer"):
            await self._in_part(answer, body, len(body) // 2)
            self.runtime.faults.passing("during_answer")
        if drip := self._has(Drip):
            self.outcome = "dripped"
            return await self._dripped(answer, body, drip)
        return answer

    async def _in_part(self, answer: web.Response, body: bytes, most: int) -> None:
        """Announce the whole, send a part."""
        stream = await self._announced(answer, len(body))
        with contextlib.suppress(ConnectionError):
            await stream.write(body[:most])

    async def _dripped(self, answer: web.Response, body: bytes, drip: Drip) -> web.StreamResponse:
        stream = await self._announced(answer, len(body))
        for at in range(0, len(body), drip.bytes):
            if at:
                await asyncio.sleep(drip.seconds)
            try:
                await stream.write(body[at : at + drip.bytes])
            except ConnectionError:
                break  # the client has lost patience
        return stream

    async def _announced(self, answer: web.Response, length: int) -> web.StreamResponse:
        stream = web.StreamResponse(status=answer.status, headers=_without_length(answer))
        stream.content_length = length
        await stream.prepare(self.request)
        return stream

    def _has(self, kind: type[Found]) -> Found | None:
        return next((rule.action for rule in self.rules if isinstance(rule.action, kind)), None)

    def _spoken(self, action: Answer) -> web.Response:
        status = action.status
        if action.html or (action.body is None and status in AS_HTML):
            text = HTML.format(status=status, reason=REASONS.get(status, "Error")) if action.body is None else str(action.body)
            return web.Response(text=text, status=status, content_type="text/html")
        if action.body is not None:
            return self._said(status, action.body)
        refusals = {401: unauthorized(), 403: forbidden(), 429: too_often(120)}
        words = (
            refusals[status].body() if status in refusals else {"errorMessage": WORDS.get(status, REASONS.get(status, "Error"))}
        )
        return self._said(status, words)

    def _said(self, status: int, body: Any) -> web.Response:
        return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def spoil_dates(app: web.Application, clock: Clock) -> None:
    """Let a fault falsify the Date header, after whoever else sets it."""

    async def spoil(request: web.Request, response: web.StreamResponse) -> None:
        wrong = request.get(WRONG_DATE)
        if wrong is not None:
            shown = clock.now().astype("datetime64[s]").astype(int).item()
            response.headers["Date"] = formatdate(shown + wrong, usegmt=True)

    app.on_response_prepare.append(spoil)


def _without_length(answer: web.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}


def _instrument(request: web.Request, content: bytes) -> str | None:
    """The pair that the request is about, as far as its path or its order says."""
    if found := request.match_info.get("instrument"):
        return found
    try:
        order = orjson.loads(content).get("order") if content else None
        return str(order["instrument"]) if order else None
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return None  # the handler will say what is wrong with it


__all__ = ["journal_and_faults", "spoil_dates"]
