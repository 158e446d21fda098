"""A trader that is killed at a line: `python killed.py URL STREAM_URL FOLDER POINT`. It sends one order, and dies on the way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from live.trading import make_trader
from simulator.running import Running

from mbats.live.journal import Journal
from mbats.live.owner.audit import Audit
from mbats.live.owner.owner import Owner
from mbats.oanda.trading import TradingClient


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Any, **more: Any) -> None:
        function(*values, **more)
        die()

    return call


def die_at_a_fill(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, transaction: Any, events: Any) -> None:
        function(self, transaction, events)
        if transaction.type == "ORDER_FILL":
            die()

    return call


def die_with_the_answer(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, transactions: Any) -> Any:
        return die() if transactions else function(self, transactions)

    return call


POINTS: dict[str, tuple[type, str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "before the intent is written": (Journal, "add_intent", lambda _: die),
    "before the intent is committed": (Journal, "add_intent", then_die),
    "before the request leaves": (TradingClient, "submit_order", lambda _: die),
    "before the answer is read": (TradingClient, "submit_order", then_die),
    "before anything is booked": (Owner, "_apply", die_with_the_answer),
    "before the fill is committed": (Audit, "note", die_at_a_fill),
}


def main(url: str, stream_url: str, folder: str, point: str) -> None:
    trader = make_trader(Running(url, stream_url, "", "", None), Path(folder))  # type: ignore[arg-type]
    trader.deploy()
    kind, name, change = POINTS[point]
    setattr(kind, name, change(getattr(kind, name)))
    trader.submit(1000)
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
