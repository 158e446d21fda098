"""A paper deployment does what the backtest of the same bars did: the same fills at the same prices, trade for trade."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from live.replay.comparing import backtest_fills, merged, shortest_history
from live.replay.replay import bar_of, generate, replay

from mbats.market import Granularity, bar_ends, to_datetime
from mbats.settings import PROJECT_ROOT
from mbats.trading.strategies import load_strategy

START, END = datetime(2024, 5, 14, tzinfo=UTC), datetime(2024, 5, 14, 12, tzinfo=UTC)


CASES = [
    ("rsi_stochastic", ("EUR_USD",), Granularity.M5, {"low": 40.0, "high": 60.0, "stop_atr": 1.0, "target_atr": 1.5}),
    ("sma_cross", ("EUR_USD", "GBP_USD"), Granularity.M5, {"fast": 3, "slow": 8, "atr_period": 5, "risk": 0.0005}),
]


@pytest.mark.proves("R14", "R19", "R36")
@pytest.mark.parametrize(("name", "symbols", "granularity", "parameters"), CASES, ids=[case[0] for case in CASES])
def test_a_replay_gives_the_fills_of_the_backtest(
    tmp_path: Path, name: str, symbols: tuple[str, ...], granularity: Granularity, parameters: dict[str, Any]
) -> None:
    prices = {"EUR_USD": 1.085, "GBP_USD": 1.26}
    series = {
        symbol: generate(symbol, granularity, START, END, seed=number, price=prices[symbol], gap=4 if len(symbols) == 1 else 0)
        for number, symbol in enumerate(symbols)
    }
    loaded = load_strategy(name, PROJECT_ROOT / "strategies")
    warmup = shortest_history(loaded, series, granularity, **parameters)
    starts = series[symbols[0]].time
    ends = [to_datetime(each) for each in bar_ends(granularity, starts)]
    with replay(tmp_path, series, granularity, ends[warmup - 1]) as it:
        it.deploy(name, symbols, granularity, warmup=warmup, **parameters)
        it.play(ends[warmup:-1])
        live = [(bar_of(time, granularity, starts), symbol, units, price) for time, symbol, units, price in it.fills()]
    wanted = backtest_fills(loaded, series, granularity, **parameters)
    assert len(live) > 10
    assert merged(live) == merged([each for each in wanted if each[0] < to_datetime(starts[-1])])
