"""Leaving the market without a trader: what `mbats flatten --now` does from the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from live.replay.replay import OPTIONS, generate, replay

from mbats.live.deployment import State
from mbats.live.gate import TradingState
from mbats.live.trader import Trader, flatten_now
from mbats.market import Granularity, bar_ends, to_datetime

START, END = datetime(2024, 5, 14, tzinfo=UTC), datetime(2024, 5, 14, 4, tzinfo=UTC)


@pytest.mark.proves("R27")
def test_everything_is_closed_without_a_trader_and_the_next_one_is_halted(tmp_path: Path) -> None:
    series = {"EUR_USD": generate("EUR_USD", Granularity.M5, START, END, seed=1, price=1.085)}
    ends = [to_datetime(each) for each in bar_ends(Granularity.M5, series["EUR_USD"].time)]
    with replay(tmp_path, series, Granularity.M5, ends[20]) as it:
        it.deploy("_template", ("EUR_USD",), Granularity.M5, warmup=20, period=2)
        it.play(ends[21:30])
        assert it.simulator.account("GET", "/openTrades").json()["trades"]
        it.trader.close()
        said: list[str] = []
        flatten_now(it.settings, None, by="a person", why="the trader is gone", say=said.append)
        assert said[-1] == "paper: flat"
        assert it.simulator.account("GET", "/openTrades").json()["trades"] == []
        assert it.simulator.account("GET", "/pendingOrders").json()["orders"] == []
        it.trader = Trader(it.settings, options=OPTIONS, lease=False)
        it.trader.begin_all()
        it.wait_for(lambda: it.trader.host.hosted("alpha").state is State.LIVE, 60)
        it.wait_for(lambda: it.trader.deployments()[0].trading is TradingState.HALTED)
