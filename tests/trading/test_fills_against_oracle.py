"""Our broker against a reference that shares no line with it: trade for trade, on random bars and random wishes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import PointBar, Wish, play
from runs import run, strategy

from mbats.market import Bars, to_us

EPOCH = datetime(2024, 3, 4, 0, 0, tzinfo=UTC)
POINT = 0.00001
BASE = 100_000  # 1.00000
UNITS = 1000

SCRIPTED = strategy(
    '''
import datetime
import backtrader as bt

KINDS = {"market": bt.Order.Market, "limit": bt.Order.Limit, "stop": bt.Order.Stop}


class Scripted(bt.Strategy):
    """Does at each moment what the script says."""

    params = dict(script=None, epoch=None, units=1000, oanda=True)

    def __init__(self):
        self.orders = {data._name: [] for data in self.datas}
        self.closing = {data._name: None for data in self.datas}

    def next(self):
        now = self.datetime.datetime(0)
        minute = round((now - self.p.epoch).total_seconds() / 60)
        for data in self.datas:
            wish = self.p.script.get(data._name, {}).get(minute)
            if wish is None:
                continue
            if wish.kind == "close":
                self.leave(data)
            elif not self.getposition(data) and not any(order.alive() for order in self.orders[data._name]):
                self.enter(data, wish)

    def leave(self, data):
        closing = self.closing[data._name]
        if not self.getposition(data) or (closing is not None and closing.alive()):
            return
        if not self.p.oanda:
            for order in self.orders[data._name][1:]:
                if order.alive():
                    self.cancel(order)
        self.closing[data._name] = self.close(data=data)

    def enter(self, data, wish):
        side = 1 if wish.buy else -1
        away = {"market": 0, "limit": -side * wish.distance, "stop": side * wish.distance}[wish.kind]
        price = data.close[0] + away * 0.00001
        bracket = self.buy_bracket if wish.buy else self.sell_bracket
        self.orders[data._name] = bracket(
            data=data,
            size=self.p.units,
            exectype=KINDS[wish.kind],
            price=round(price, 5),
            valid=None if wish.life is None else data.datetime.datetime(0) + datetime.timedelta(minutes=wish.life),
            stopprice=round(price - side * wish.stop * 0.00001, 5),
            limitprice=round(price + side * wish.target * 0.00001, 5),
            stopargs={} if self.p.oanda else {"valid": None},
            limitargs={} if self.p.oanda else {"valid": None},
        )
''',
    name="scripted",
)

wishes = st.one_of(
    st.builds(
        Wish,
        kind=st.sampled_from(["market", "limit", "stop"]),
        buy=st.booleans(),
        distance=st.integers(1, 60),
        stop=st.integers(3, 90),
        target=st.integers(3, 120),
        life=st.none() | st.integers(1, 5),
    ),
    st.just(Wish("close")),
)

# Gap from the last close, body, upper wick, lower wick, half spread, and whether the bar is there at all.
shapes = st.tuples(
    st.integers(-20, 20), st.integers(-60, 60), st.integers(0, 40), st.integers(0, 40), st.integers(0, 8), st.integers(0, 3)
)


def point_bars(drawn: list[tuple[int, ...]], holes: bool) -> list[PointBar]:
    """Bars at moments 0, 1, …, a quarter of them missing where there are holes; the first is always there."""
    bars, close = [], BASE
    for time, (gap, body, upper, lower, half, there) in enumerate(drawn):
        open_ = close + gap
        close = open_ + body
        if time == 0 or not holes or there:
            bars.append(PointBar(time, open_, max(open_, close) + upper, min(open_, close) - lower, close, half))
    return bars


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, list[PointBar]], dict[str, dict[int, Wish]]]:
    count = draw(st.integers(3, 16))
    names = ["EUR_USD", "GBP_USD", "AUD_USD"][: draw(st.integers(1, 3))]
    holes = draw(st.booleans())
    bars = {name: point_bars(draw(st.lists(shapes, min_size=count, max_size=count)), holes) for name in names}
    script = {name: draw(st.dictionaries(st.integers(0, count - 1), wishes, max_size=8)) for name in names}
    return bars, script


def seeded_case(seed: int, count: int) -> tuple[dict[str, list[PointBar]], dict[str, dict[int, Wish]]]:
    """A longer case than hypothesis likes to draw."""
    rng = np.random.default_rng(seed)
    bars, script = {}, {}
    for name in ["EUR_USD", "GBP_USD", "AUD_USD"][: 1 + seed % 3]:
        drawn = rng.integers([-20, -60, 0, 0, 0, 0], [21, 61, 41, 41, 9, 4], (count, 6))
        bars[name] = point_bars([tuple(int(x) for x in row) for row in drawn], holes=bool(seed % 2))
        kinds = rng.choice(["market", "limit", "stop", "close"], count, p=[0.3, 0.3, 0.3, 0.1])
        numbers = rng.integers([0, 1, 3, 3, 0], [2, 61, 91, 121, 6], (count, 5))
        script[name] = {
            time: Wish(str(kind), bool(buy), int(far), int(stop), int(target), int(life) or None)
            for time, (kind, (buy, far, stop, target, life)) in enumerate(zip(kinds, numbers, strict=True))
            if rng.random() < 0.5
        }
    return bars, script


def as_bars(bars: list[PointBar]) -> Bars:
    times = [to_us(EPOCH + timedelta(minutes=bar.time)) for bar in bars]
    sides = [[np.round(np.array([bar.side(buy)[k] for bar in bars]) * POINT, 5) for k in range(4)] for buy in (False, True)]
    return Bars(np.array(times, "datetime64[us]"), *sides[0], *sides[1], np.ones(len(bars), np.int64))


def ours(bars: dict[str, list[PointBar]], script: dict[str, dict[int, Wish]], fills: str) -> dict[str, list[tuple[object, ...]]]:
    result = run(
        SCRIPTED,
        {name: as_bars(found) for name, found in bars.items()},
        granularity="M1",
        fills=fills,
        script=script,
        epoch=EPOCH.replace(tzinfo=None),
        units=UNITS,
        oanda=fills == "broker",
    )
    found: dict[str, list[tuple[object, ...]]] = {name: [] for name in bars}
    for fill in result.fills:
        minute = round((fill.time - EPOCH).total_seconds() / 60)
        found[fill.symbol].append((minute, int(fill.units), round(float(fill.price) / POINT), fill.purpose))
    return found


def assert_equal_to_oracle(bars: dict[str, list[PointBar]], script: dict[str, dict[int, Wish]], fills: str) -> set[object]:
    moments = sorted({bar.time for found in bars.values() for bar in found})
    found = ours(bars, script, fills)
    for name in bars:
        assert found[name] == play(bars[name], moments, script[name], UNITS, like_oanda=fills == "broker").fills, name
    return {fill[3] for each in found.values() for fill in each}


@pytest.mark.parametrize("fills", ["broker", "backtrader"])
@given(case=cases())
@settings(max_examples=250, deadline=None)
def test_every_fill_of_brackets_gaps_and_several_symbols_equals_the_oracle(fills, case):
    bars, script = case

    assert_equal_to_oracle(bars, script, fills)


@pytest.mark.parametrize("fills", ["broker", "backtrader"])
def test_long_runs_equal_the_oracle_and_leave_trades_in_every_way(fills):
    ways = set().union(*(assert_equal_to_oracle(*seeded_case(seed, 200), fills) for seed in range(40)))

    assert ways == {"entry", "stop", "take_profit", "exit"}
