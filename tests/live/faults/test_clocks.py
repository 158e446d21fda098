"""When this machine's clock and the broker's differ, people are told from a second on, and from five on nothing opens (R31)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from live.faults.records import risk_events
from live.faults.whole import settings_of
from live.trading import FAST, Said, Trader, history
from simulator.running import Running

from mbats.errors import OandaRejected
from mbats.live import liveness
from mbats.live.accounts import resolve
from mbats.live.hosting.metrics import Metrics
from mbats.live.market.clock import MachineClock
from mbats.live.venue import Venue
from mbats.live.wire import Status
from mbats.market import Granularity


@dataclass
class Clocked:
    """An account whose machine's clock can be set wrong, by so many seconds."""

    trader: Trader
    venue: Venue
    shift: float
    wrong: list[float] = field(default_factory=lambda: [0.0])

    def skewed(self, seconds: float) -> None:
        """Wait until the owner has noticed that the broker's clock is so much ahead of ours, or behind."""
        self.trader.wait_for(lambda: abs(self.venue.skew() - seconds) < 1.5)


@pytest.fixture
def clocked(exchange: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocked]:
    monkeypatch.setenv("MBATS_ROOT", str(tmp_path / "no project"))
    exchange.admin("POST", "/clock", {"mode": "accelerated", "speed": 1})
    begun = datetime.fromisoformat(exchange.admin("GET", "/clock")["time"][:26] + "+00:00").timestamp()
    wrong, shift = [0.0], begun - time.time()

    def now() -> float:
        return time.time() + shift + wrong[0]

    settings = settings_of(exchange, tmp_path, 8095)
    said = Said()
    options = FAST
    venue = Venue(
        settings, resolve(settings, "paper"), notify=said, journaled=lambda name, journal: None, options=options, lease=False
    )
    venue.client.sessions.clock._now = now
    monkeypatch.setattr(venue, "_make_clock", lambda: MachineClock(venue.client.sessions.clock, machine=now))
    owner = venue.open()
    assert venue.journal is not None
    owner.quotes.observe_history("EUR_USD", Granularity.M1, history())
    trader = Trader(exchange, venue.journal.path, venue.journal, owner, venue.client, said, options)
    trader.deploy()
    yield Clocked(trader, venue, shift, wrong)
    venue.close()
    venue.journal.close()
    exchange.admin("DELETE", "/faults")
    exchange.admin("POST", "/clock", {"mode": "step"})


def go_wrong(clocked: Clocked, how: str, seconds: float) -> None:
    """The broker's clock is ahead of ours by so many seconds from now on."""
    if how == "ours":
        clocked.wrong[0] = -seconds
    elif how == "the broker's":
        clocked.trader.simulator.deed("clock_jump", seconds=seconds)
    else:
        fault = clocked.trader.simulator.fault({"do": "date", "seconds": seconds}, path="*")
        clocked.trader.wait_for(lambda: clocked.trader.simulator.hits(fault) > 2)


def mend(clocked: Clocked, how: str, seconds: float) -> None:
    if how == "ours":
        clocked.wrong[0] = 0.0
    elif how == "the broker's":
        clocked.trader.simulator.deed("clock_jump", seconds=-seconds)
    else:
        clocked.trader.simulator.admin("DELETE", "/faults")


def fresh(clocked: Clocked) -> None:
    """A price of this moment, at the exchange and here."""
    exchange = clocked.trader.simulator
    exchange.price("1.08500", "1.08512")


@pytest.mark.proves("R31")
@pytest.mark.parametrize(
    ("how", "seconds"),
    [("ours", 30.0), ("ours", -30.0), ("the broker's", 30.0), ("the broker's", -30.0), ("the Date header", 30.0)],
)
def test_half_a_minute_between_the_clocks_blocks_what_is_new_and_lets_out_what_is_held(
    clocked: Clocked, how: str, seconds: float
) -> None:
    trader = clocked.trader
    trader.ended(trader.submit(1000), Status.COMPLETED)

    go_wrong(clocked, how, seconds)
    fresh(clocked)
    trader.wait_for(lambda: trader.owner._account.fenced)

    refused = trader.ended(trader.submit(500, bar=trader.bar() - timedelta(minutes=1)), Status.REJECTED)
    assert refused.reason == "fenced"
    off = float(re.findall(r"differ by (-?[0-9.]+) seconds", refused.detail)[0])
    assert abs(off - seconds) < 3
    assert len(trader.orders_sent()) == 1
    trader.wait_for(lambda: any(level == "critical" and "clock" in title for level, title, _ in trader.said.notices))
    (event,) = risk_events(trader, "refusal")
    assert "set the clock" in event.sentence
    trader.ended(trader.submit(-1000, bar=trader.bar() - timedelta(minutes=2)), Status.COMPLETED)

    mend(clocked, how, seconds)
    fresh(clocked)
    trader.wait_for(lambda: not trader.owner._account.fenced)
    fresh(clocked)
    time.sleep(0.2)
    if how == "the broker's":
        return  # the exchange's own prices lie half a minute from each other now, in one direction or the other
    trader.ended(trader.submit(300, bar=trader.bar() - timedelta(minutes=3)), Status.COMPLETED)


@pytest.mark.proves("R31")
@pytest.mark.parametrize("seconds", [3.0, -3.0])
def test_three_seconds_between_the_clocks_are_a_warning_and_a_figure_and_trading_goes_on(
    clocked: Clocked, seconds: float
) -> None:
    trader, metrics = clocked.trader, Metrics()
    clocks: dict[str, Any] = {"paper": clocked.venue}
    metrics.watch_each("skew", "", ("account",), lambda: {(name,): venue.skew() for name, venue in clocks.items()})

    go_wrong(clocked, "ours", seconds)
    fresh(clocked)
    trader.wait_for(lambda: any("clock" in title for _, title, _ in trader.said.notices))

    assert {level for level, title, _ in trader.said.notices if "clock" in title} == {"warning"}
    figure = float(re.findall(rb'skew{account="paper"} (\S+)', metrics.text())[0])
    assert 1 < abs(figure) < 5 and (figure > 0) == (seconds > 0)
    trader.ended(trader.submit(1000), Status.COMPLETED)
    assert liveness.gone(clocked.venue.threads()) == []


@pytest.mark.proves("R31")
@pytest.mark.parametrize("seconds", [0.0, 30.0, -30.0])
def test_no_candles_are_asked_for_up_to_a_moment_that_the_broker_has_not_seen(clocked: Clocked, seconds: float) -> None:
    clocked.trader.simulator.admin("DELETE", "/journal")
    go_wrong(clocked, "ours", seconds)
    desk, got = clocked.venue.desk, []
    assert desk is not None
    start = clocked.trader.owner._clock.now() - timedelta(minutes=20)
    desk.subscribe("alpha", ["EUR_USD"], Granularity.S5, {"EUR_USD": start}, lambda at, bars: got.append(at))
    list(clocked.venue.client.candles("EUR_USD", Granularity.M1, start=start))  # as history is read
    with pytest.raises(OandaRejected, match="future"):  # the exchange does refuse it
        clocked.venue.client.candles_before("EUR_USD", Granularity.M1, start + timedelta(hours=1), 10)
    clocked.trader.simulator.admin("DELETE", "/journal")
    fresh(clocked)

    def asked() -> list[dict[str, Any]]:
        return clocked.trader.simulator.journal(path="*candles*")

    clocked.trader.wait_for(lambda: len(asked()) > 2)
    assert {entry["status"] for entry in asked()} == {200}
    assert all(entry["query"].get("to", "") <= entry["time"] for entry in asked())
