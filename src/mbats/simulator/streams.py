"""The two streams: prices of an account, and its transactions. One JSON object a line, in chunks, never compressed.

Heartbeats and the pause between two prices of a pair are of this machine's time in every mode of the clock, because clients wait
by their own; what stands in a message is the exchange's time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Middleware

from mbats.simulator.channel import Channel
from mbats.simulator.core.times import write_time
from mbats.simulator.core.values import Transaction
from mbats.simulator.errors import Refusal
from mbats.simulator.faults.actions import Deed
from mbats.simulator.faults.deeds import Deeds
from mbats.simulator.faults.messages import HEARTBEAT, Message, Spoiler
from mbats.simulator.faults.rules import Facts, Rule
from mbats.simulator.limits import RateLimit
from mbats.simulator.queries import read_bool, read_instruments
from mbats.simulator.quotes import Quote, conversion
from mbats.simulator.rest.access import Access, guards, sign_responses
from mbats.simulator.rest.respond import time_format
from mbats.simulator.rest.view import account_id
from mbats.simulator.runtime import Runtime
from mbats.simulator.wire import TimeFormat, conversion_body, encode, price_body


class Streams:
    """All open streams of one exchange. `look` is to be called again and again: it sends what has become due."""

    def __init__(self, runtime: Runtime, deeds: Deeds, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        options = runtime.config.options
        self.runtime = runtime
        self.deeds = deeds
        self.monotonic = monotonic
        self.beat = options.heartbeat_seconds
        self.window = options.price_window_seconds
        self.most = options.max_streams
        self.rate = RateLimit(options.streams_per_second, monotonic)
        self.per_second = options.streams_per_second
        self.streams: list[Stream] = []
        self.by_client: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Send prices and heartbeats that are due, and end the streams of an exchange that was put back."""
        now = self.monotonic()
        for stream in list(self.streams):
            if stream.resets != self.runtime.resets:
                stream.channel.finish("reset")
            else:
                stream.look(now)

    def struck(self, rule: Rule, deed: Deed) -> None:
        """Do the deed of a rule that struck a message."""
        task = asyncio.get_running_loop().create_task(self.deeds.struck(rule, deed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def admit(self, client: str) -> None:
        """Let one more stream of this client in. Raises Refusal (429): how OANDA rejects one is not known."""
        if self.by_client[client] >= self.most:
            raise Refusal(429, f"Too many streams. At most {self.most} may be open at a time.")
        if not self.rate.allows(client):
            raise Refusal(429, f"Too many new streams. At most {self.per_second:g} a second may be opened.")

    def end_all(self, why: str) -> None:
        """End every stream as HTTP wants it."""
        for stream in list(self.streams):
            stream.channel.finish(why)


@dataclass(kw_only=True)
class Stream:
    """One open stream of one client."""

    kind: ClassVar[str]
    streams: Streams
    facts: Facts
    times: TimeFormat
    channel: Channel
    resets: int
    next_beat: float = 0.0
    spoiler: Spoiler = field(init=False)
    sent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.spoiler = Spoiler(self.channel, self._striking, self.streams.struck, asyncio.get_running_loop())
        self.next_beat = self.streams.monotonic() + self.streams.beat

    def begin(self) -> Callable[[], None]:
        """Start; the answer ends what was started."""
        return lambda: None

    def look(self, now: float) -> None:
        """Send what is due at `now`, in seconds that never go back."""
        if now >= self.next_beat:
            self.next_beat = max(self.next_beat + self.streams.beat, now)
            shown = write_time(self.streams.runtime.clock.now())
            self.send(HEARTBEAT, {"type": HEARTBEAT, **self.said_by_heartbeat(), "time": shown})

    def said_by_heartbeat(self) -> dict[str, str]:
        return {}

    def send(self, kind: str, body: Any, instrument: str | None = None) -> None:
        self.sent[kind] += 1
        self.streams.runtime.metrics.sent(self.kind, kind)
        self.spoiler.send(Message(kind, encode(self.times.rewrite(body)), instrument))

    def _striking(self, kind: str, instrument: str | None) -> list[Rule]:
        facts = self.facts
        of_message = Facts(facts.listener, facts.method, facts.path, facts.account, instrument, kind)
        return self.streams.runtime.faults.striking(of_message)


@dataclass(kw_only=True)
class PriceStream(Stream):
    """Prices of some pairs: the last one of each window, and one when the market closes."""

    kind: ClassVar[str] = "pricing"
    instruments: Sequence[str]
    snapshot: bool
    home: str | None  # the currency into which conversions are told, if they are
    last: dict[str, tuple[Quote, float]] = field(default_factory=dict)  # of each pair: what was sent, and when

    def begin(self) -> Callable[[], None]:
        for name in self.instruments:
            quote = self.streams.runtime.engine.quote(name)
            if quote is None:
                continue
            # Without a snapshot, the price of now is what the next one is compared with.
            self.last[name] = (quote, float("-inf"))
            if self.snapshot:
                self._send(name, quote, self.streams.monotonic())
        return lambda: None

    def look(self, now: float) -> None:
        quote_of = self.streams.runtime.engine.quote
        for name in self.instruments:
            before = self.last.get(name)
            if before is not None and now - before[1] < self.streams.window:
                continue
            quote = quote_of(name)
            if quote is not None and (before is None or (quote is not before[0] and quote != before[0])):
                self._send(name, quote, now)
        super().look(now)

    def _send(self, name: str, quote: Quote, now: float) -> None:
        self.last[name] = (quote, now)
        body = price_body(quote)
        if self.home is not None:
            body["homeConversions"] = self._conversions(quote, self.home)
        self.send("PRICE", body, name)

    def _conversions(self, quote: Quote, home: str) -> list[dict[str, str]]:
        found = []
        for currency in (quote.instrument.base, quote.instrument.quote):
            try:
                found.append(conversion_body(conversion(currency, home, self.streams.runtime.engine.quote)))
            except LookupError:
                continue  # the pair between them has had no price yet
        return found


@dataclass(kw_only=True)
class TransactionStream(Stream):
    """Every transaction of an account from now on; its heartbeats say which was the last."""

    kind: ClassVar[str] = "transactions"
    account: str

    def begin(self) -> Callable[[], None]:
        return self.streams.runtime.subscribe(self.account, self._tell)

    def said_by_heartbeat(self) -> dict[str, str]:
        return {"lastTransactionID": str(self.streams.runtime.engine.accounts[self.account].last_id)}

    def _tell(self, transactions: list[Transaction]) -> None:
        for transaction in transactions:
            self.send(transaction["type"], transaction, transaction.get("instrument"))


# --- The application -----------------------------------------------------------------------------------------------------

STREAMS = web.AppKey("streams", Streams)


def create_stream_app(streams: Streams, access: Access, *, middlewares: Sequence[Middleware] = ()) -> web.Application:
    """The host of the streams. `access` is that of the REST side: its limits count for both.

    Its handlers must be cancelled when their client goes (`handler_cancellation`).
    """
    app = web.Application(middlewares=[*middlewares, *guards(access)])
    app[STREAMS] = streams
    sign_responses(app, streams.runtime.clock.now)
    app.router.add_get("/v3/accounts/{account}/pricing/stream", stream_prices, allow_head=False)
    app.router.add_get("/v3/accounts/{account}/transactions/stream", stream_transactions, allow_head=False)
    return app


async def stream_prices(request: web.Request) -> web.StreamResponse:
    """GET …/pricing/stream."""
    streams, account, times = request.app[STREAMS], account_id(request), time_format(request)
    runtime = streams.runtime
    names = read_instruments(request.query, tuple(runtime.market.instruments), required=True)
    snapshot = read_bool(request.query, "snapshot", default=True)
    with_home = read_bool(request.query, "includeHomeConversions", default=False)
    home = runtime.engine.accounts[account].config.currency if with_home else None
    runtime.settle()

    def make(channel: Channel, facts: Facts) -> Stream:
        return PriceStream(
            streams=streams,
            facts=facts,
            times=times,
            channel=channel,
            resets=runtime.resets,
            instruments=names,
            snapshot=snapshot,
            home=home,
        )

    return await _serve(request, account, make)


async def stream_transactions(request: web.Request) -> web.StreamResponse:
    """GET …/transactions/stream."""
    streams, account, times = request.app[STREAMS], account_id(request), time_format(request)

    def make(channel: Channel, facts: Facts) -> Stream:
        resets = streams.runtime.resets
        return TransactionStream(streams=streams, facts=facts, times=times, channel=channel, resets=resets, account=account)

    return await _serve(request, account, make)


async def _serve(request: web.Request, account: str, make: Callable[[Channel, Facts], Stream]) -> web.StreamResponse:
    """Keep a stream open until one side ends it."""
    streams, client = request.app[STREAMS], request.remote or ""
    if request.version < HttpVersion11:
        raise Refusal(400, "A stream needs HTTP/1.1: it comes in chunks.")
    streams.admit(client)
    streams.by_client[client] += 1
    journal = streams.runtime.journal
    facts = Facts("stream", "GET", request.path, account)
    try:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        stream = make(Channel(request), facts)
        journal.add("stream", outcome="opened", client=client, query=dict(request.query), account=account, path=request.path)
        stop = stream.begin()
        streams.streams.append(stream)
        try:
            await stream.channel.wait()
        except asyncio.CancelledError:
            stream.channel.end("client")
            raise
        finally:
            stop()
            streams.streams.remove(stream)
            if stream.channel.why == "slow reader":
                streams.runtime.metrics.too_slow()
            journal.add(
                "stream",
                outcome="ended",
                why=stream.channel.why,
                client=client,
                sent=dict(stream.sent),
                account=account,
                path=request.path,
            )
        return response
    finally:
        streams.by_client[client] -= 1
