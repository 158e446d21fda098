"""The other end of the pipe, in tests: a trader that says what the test wants and keeps what the process says."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from runs import instrument

from mbats.live.deployment import Deployment
from mbats.live.gate import Mode
from mbats.live.process import Past, Pipe, child_command, traders_end
from mbats.live.process.session import run_session
from mbats.live.wire import (
    Adopt,
    Begin,
    Broken,
    Done,
    History,
    Holding,
    LiveBar,
    Moment,
    Money,
    OrderEvent,
    Quit,
    Ready,
    Standing,
    Status,
    Submit,
    encode,
    read_from_strategy,
    read_to_strategy,
)
from mbats.market import Bars, to_datetime
from mbats.trading.strategies import strategy_from_source

START = datetime(2024, 3, 5, 12, 0, tzinfo=UTC)
CASH = Decimal(100_000)


def money(balance: Decimal | int = CASH, **more: Any) -> Money:
    return Money(Decimal(balance), more.pop("nav", Decimal(balance)), more.pop("margin_used", Decimal(0)), **more)


def begin(
    source: str,
    symbols: Iterable[str] = ("EUR_USD",),
    granularity: str = "M1",
    *,
    name: str = "in_test",
    seed: int = 1,
    **parameters: Any,
) -> Begin:
    """The first message for a strategy written in the test; its other parameters keep their defaults."""
    deployment = Deployment(
        name="a-deployment",
        strategy=name,
        source=source,
        parameters=strategy_from_source(name, source, Path(f"{name}.py")).defaults() | parameters,
        symbols=tuple(symbols),
        granularity=granularity,
        account="paper",
        mode=Mode.PAPER,
        limits={},
        created_at=START,
        created_by="a test",
        code_version="1",
        seed=seed,
    )
    described = TypeAdapter(Deployment).dump_python(deployment, mode="json")
    return Begin(described, {symbol: instrument(symbol).to_json() for symbol in symbols}, "USD")


def minutes(first: int, count: int, price: float = 1.1, step: float = 0.0001) -> Bars:
    """Bars of a minute from minute `first` after START on, each `step` higher, with a spread of one pip."""
    times = np.datetime64(START.replace(tzinfo=None), "us") + (first + np.arange(count)) * np.timedelta64(1, "m")
    close = price + step * np.arange(first, first + count)
    return Bars.from_mid(times, close - step, close + 0.0002, close - step - 0.0002, close, np.full(count, 9), spread=0.0001)


def live_bar(bars: Bars, i: int, conversion: float = 1.0) -> LiveBar:
    sides = [
        tuple(float(getattr(bars, f"{side}_{part}")[i]) for part in ("open", "high", "low", "close")) for side in ("bid", "ask")
    ]
    return LiveBar(to_datetime(bars.time[i]), sides[0], sides[1], int(bars.volume[i]), conversion)  # type: ignore[arg-type]


def one_bar(n: int, symbol: str = "EUR_USD", account: Money | None = None) -> Moment:
    """The bar of minute `n` of one symbol, and the account."""
    bar = live_bar(minutes(n, 1), 0)
    return Moment(bar.time + timedelta(minutes=1), {symbol: bar}, account or money())


def news(ref: int | None, status: Status, units: int | str | None = None, price: str | None = None, **more: Any) -> OrderEvent:
    fill = None if units is None else Decimal(units)
    at = None if price is None else Decimal(price)
    return OrderEvent(ref, more.pop("symbol", "EUR_USD"), status, START, units=fill, price=at, **more)


def adopt(holdings: Iterable[Holding] = (), orders: Iterable[Standing] = (), account: Money | None = None) -> Adopt:
    return Adopt(tuple(holdings), tuple(orders), account or money())


class InProcess:
    """A run in the test's own process; each message goes through its JSON."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def play(self, first: Begin, pasts: Iterable[Past], taken: Adopt, script: Iterable[Any]) -> Any:
        """Run to the end of the script, a list or a generator that looks at `said`; the strategy as it is then."""
        messages = chain([first, *pasts, taken], script)

        def receive() -> Any:
            message = next(messages, Quit())
            return message if isinstance(message, Past) else read_to_strategy(encode(message))

        def send(message: Any) -> None:
            self.said.append(read_from_strategy(encode(message)))

        return run_session(receive, send)

    @property
    def submitted(self) -> list[Submit]:
        return [message for message in self.said if isinstance(message, Submit)]


def past(symbol: str, bars: Bars, conversions: Any = None) -> Past:
    return Past(symbol, bars, np.ones(len(bars)) if conversions is None else conversions)


class Child:
    """A real process with the test as its trader."""

    def __init__(self, pipe: Pipe, process: subprocess.Popen[bytes]) -> None:
        self.pipe, self.process = pipe, process
        self.said: list[Any] = []

    def start(self, first: Begin, pasts: Iterable[Past], taken: Adopt) -> Any:
        """Say all that a process is told before its first bar, and return its answer."""
        self.pipe.send(first)
        for each in pasts:
            self.pipe.send_bars(History(each.symbol, len(each.bars)), each.bars, each.conversions)
        self.pipe.send(taken)
        return self.until(Ready)

    def until(self, kind: type[Any]) -> Any:
        """The next message of a kind; what came before it is kept in `said`. Broken, or the end, is an answer to everything."""
        while True:
            message = self.pipe.receive()
            self.said.append(message)
            if message is None or isinstance(message, kind | Broken):
                return message

    def moment(self, moment: Moment) -> list[Any]:
        """Send the bars of a moment; what the process said up to its `Done`."""
        before = len(self.said)
        self.pipe.send(moment)
        assert self.until(Done) == Done(moment.time), self.said[-1]
        return self.said[before:-1]


@contextmanager
def child() -> Iterator[Child]:
    """A process that waits for its first message."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(child_command(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    pipe = traders_end(ours.detach())
    try:
        yield Child(pipe, process)
    finally:
        pipe.close()
        process.wait(timeout=60)
