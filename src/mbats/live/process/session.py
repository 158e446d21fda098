"""Assembles a live run from the trader's first messages: what to trade, the bars before now, and what is there already."""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from mbats.errors import DataError
from mbats.live.deployment import Deployment
from mbats.live.models import pins_of
from mbats.live.process.broker import LiveBroker
from mbats.live.process.engine import LiveCerebro
from mbats.live.process.feed import LiveFeed
from mbats.live.process.model import open_models
from mbats.live.process.pipe import Past
from mbats.live.process.shadow import Shadowing
from mbats.live.wire import Adopt, Begin, FromStrategy
from mbats.market import Granularity, Instrument
from mbats.trading.account import AccountRules
from mbats.trading.strategies import LoadedStrategy, strategy_from_source

Message = TypeVar("Message")


def run_session(receive: Callable[[], Any], send: Callable[[FromStrategy], None]) -> Any:
    """Run a deployment until the trader says `Quit`, and return its strategy. `receive` waits for the next message.

    Raises MbatsError for what cannot be run or does not agree with the trader, and whatever the strategy raises.
    """
    begin = _expect(Begin, receive())
    deployment = TypeAdapter(Deployment).validate_python(begin.deployment)
    pasts = {past.symbol: past for past in (_expect(Past, receive()) for _ in deployment.symbols)}
    adopted = _expect(Adopt, receive())
    strategy, pins = load(deployment), pins_of(deployment)
    feeds = [_feed(deployment, begin, symbol, pasts) for symbol in deployment.symbols]
    broker = LiveBroker(
        rules=AccountRules(cash=adopted.money.balance, currency=begin.currency, financing=False),
        granularity=Granularity(deployment.granularity),
        adopted=adopted,
        send=send,
    )
    cerebro = LiveCerebro(stdstats=False, quicknotify=True, receive=receive, send=send)
    cerebro.setbroker(broker)
    for feed in feeds:
        cerebro.adddata(feed, name=feed.p.name)
        broker.attach(feed)
    cerebro.addstrategy(strategy.cls, **deployment.parameters)
    cerebro.models = open_models(pins, send)
    cerebro.shadowing = Shadowing(pins.shadow, send)
    random.seed(deployment.seed)
    np.random.seed(deployment.seed % 2**32)
    return cerebro.run()[0]


def load(deployment: Deployment) -> LoadedStrategy:
    """The strategy as it was deployed, wherever its file is by now; tracebacks show its lines."""
    path = Path("strategies") / f"{deployment.strategy}.py"
    lines = deployment.source.splitlines(keepends=True)
    linecache.cache[str(path)] = (len(deployment.source), None, lines, str(path))
    return strategy_from_source(deployment.strategy, deployment.source, path)


def _expect(kind: type[Message], message: Any) -> Message:
    if not isinstance(message, kind):
        raise DataError(f"Expected {kind.__name__}, but the trader said {type(message).__name__}; nothing was run.")
    return message


def _feed(deployment: Deployment, begin: Begin, symbol: str, pasts: dict[str, Past]) -> LiveFeed:
    if symbol not in pasts:
        raise DataError(f"No history of {symbol} came, but of {', '.join(pasts)}; nothing was run.")
    past = pasts[symbol]
    feed: LiveFeed = LiveFeed(
        name=symbol,
        bars=past.bars,
        instrument=Instrument.from_json(begin.instruments[symbol]),
        granularity=Granularity(deployment.granularity),
        conversion_open=past.conversions,
        conversion_close=past.conversions,
    )
    return feed
