"""Bars that are missed, come late or are not complete: the strategy gets each complete one once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from live.trading import NOW, Trader, begin, make_trader
from simulator.running import ACCOUNT, Running, scripted_settings, start_process

from mbats.live.market.bars import BarDesk
from mbats.live.wire import Moment
from mbats.market import Granularity, to_datetime

MINUTE = timedelta(minutes=1)
LAG = 7


class Floor:
    """A trader whose bars come from a desk of its own, at an exchange whose candles stay incomplete for seven seconds."""

    def __init__(self, trader: Trader) -> None:
        self.trader = trader
        trader.deploy()
        owner = trader.owner
        self.desk = BarDesk(trader.client.sessions, ACCOUNT, owner._clock, currency="USD", offered=list(owner.instruments))
        self.desk.start()
        self.desk.subscribe(
            "alpha",
            ["EUR_USD"],
            Granularity.M1,
            {"EUR_USD": NOW - MINUTE},
            lambda at, bars: owner.bars("alpha", at, bars),
        )
        self.now = NOW + timedelta(seconds=1)
        self.points = 0

    def until(self, moment: datetime) -> None:
        """Time passes, with a price every twenty seconds or so."""
        while self.now < moment:
            step = min(19.0, (moment - self.now).total_seconds())
            self.trader.simulator.step(step)
            self.now += timedelta(seconds=step)
            self.points += 3
            self.trader.simulator.price(f"{1.085 + self.points / 1e5:.5f}", f"{1.08512 + self.points / 1e5:.5f}")
        self.trader.owner._clock.observe(self.now)

    def has_looked(self, times: int = 3) -> None:
        before = self.desk.health().requests
        self.trader.wait_for(lambda: self.desk.health().requests >= before + times, 30)

    def moments(self) -> list[Moment]:
        return [each for each in self.trader.heard if isinstance(each, Moment)]

    def starts(self) -> list[datetime]:
        return [each.bars["EUR_USD"].time for each in self.moments()]


@pytest.fixture(scope="module")
def late_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("late")
    running = start_process(home, **scripted_settings(home, candle_lag_seconds=LAG))
    yield running
    running.kill()


@pytest.fixture
def floor(late_exchange: Running, tmp_path: Path) -> Iterator[Floor]:
    begin(late_exchange)
    trader = make_trader(late_exchange, tmp_path)
    floor = Floor(trader)
    yield floor
    floor.desk.stop()
    trader.owner.stop()
    trader.journal.close()
    trader.client.close()


def downloaded(floor: Floor, count: int) -> list[tuple[Any, ...]]:
    """The bars as a download has them when all is over."""
    pages = list(floor.trader.client.candles("EUR_USD", Granularity.M1, start=NOW, end=NOW + count * MINUTE))
    (bars,) = pages
    sides = [[getattr(bars, f"{side}_{part}") for part in ("open", "high", "low", "close")] for side in ("bid", "ask")]
    return [
        (to_datetime(bars.time[n]), *(tuple(float(column[n]) for column in side) for side in sides), int(bars.volume[n]))
        for n in range(len(bars))
    ]


@pytest.mark.proves("R14")
def test_a_bar_that_is_over_is_not_taken_before_the_broker_calls_it_complete(floor: Floor) -> None:
    for number in (1, 2, 3):
        floor.until(NOW + number * MINUTE + timedelta(seconds=LAG - 1))
        floor.has_looked()
        assert floor.starts() == [NOW + n * MINUTE for n in range(number - 1)]
        floor.until(NOW + number * MINUTE + timedelta(seconds=LAG))
        floor.trader.wait_for(lambda number=number: len(floor.moments()) == number)
    assert floor.starts() == [NOW + n * MINUTE for n in range(3)]


@pytest.mark.proves("R13", "R14")
def test_over_a_gap_of_three_bars_each_complete_bar_comes_once_and_in_order_when_prices_are_back(floor: Floor) -> None:
    trader = floor.trader
    floor.until(NOW + 2 * MINUTE + timedelta(seconds=10))
    trader.wait_for(lambda: len(floor.moments()) == 2)

    simulator = trader.simulator
    rules = [
        simulator.fault({"do": "answer", "status": 503}, path="*/pricing/stream"),
        simulator.fault({"do": "end"}, message="*", path="*/pricing/stream", times=1),
        simulator.fault({"do": "answer", "status": 503}, path="*/candles/latest", times=2),
        simulator.fault({"do": "truncate"}, path="*/candles*", probability=0.2),
    ]
    trader.wait_for(lambda: trader.owner._link.downs["pricing"] >= 1)
    floor.until(NOW + 5 * MINUTE + timedelta(seconds=20))
    trader.wait_for(lambda: simulator.hits(rules[2]) == 2)
    trader.wait_for(lambda: floor.desk.health().moments >= 5, 30)
    assert len(floor.moments()) == 2  # bars are there by now, and wait: nothing could be decided on them
    trader.wait_for(lambda: all(simulator.hits(rule) for rule in rules[:3]), 30)
    assert len(floor.moments()) == 2
    simulator.admin("DELETE", f"/faults/{rules[0]}")
    trader.wait_for(lambda: len(floor.moments()) == 5, 30)
    floor.until(NOW + 6 * MINUTE + timedelta(seconds=10))
    trader.wait_for(lambda: len(floor.moments()) == 6, 30)

    simulator.admin("DELETE", "/faults")
    got = [bar for each in floor.moments() for bar in each.bars.values()]
    assert [(bar.time, bar.bid, bar.ask, bar.volume) for bar in got] == downloaded(floor, 6)
    assert [each.time for each in floor.moments()] == [NOW + n * MINUTE for n in range(1, 7)]
