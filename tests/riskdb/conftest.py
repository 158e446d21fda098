"""Finished runs made up from a seed, with books that add up."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from mbats.riskdb.model_records import ModelDecision
from mbats.riskdb.records import Equity, Fill, Performance, PositionChange, RunResult, RunSpec, Trade

START = datetime(2020, 1, 5, 22, tzinfo=UTC)
CASH = Decimal("100000")
MakeRun = Callable[..., RunResult]


def money(generator: random.Random, low: int = -10_000_000, high: int = 10_000_000) -> Decimal:
    return Decimal(generator.randint(low, high)).scaleb(-4)


def price(generator: random.Random) -> Decimal:
    return Decimal(generator.randint(90_000, 130_000)).scaleb(-5)


def make_fill(generator: random.Random, seq: int) -> Fill:
    return Fill(
        seq=seq,
        time=START + timedelta(minutes=seq),
        symbol=generator.choice(["EUR_USD", "USD_JPY"]),
        units=Decimal(generator.choice([-1, 1]) * generator.randint(1, 10**6)),
        price=price(generator),
        mid=price(generator) + Decimal("0.0000005"),
        order_ref=generator.randint(1, 10**6),
        order_type=generator.choice(["Market", "Stop", "Limit"]),
        purpose=generator.choice(["entry", "exit", "stop", "take_profit", "margin_closeout"]),
        conversion=Decimal(1) / Decimal(generator.randint(1, 150)),  # 28 digits, none of which may be lost
        pnl=money(generator),
        spread_cost=money(generator, 0),
        slippage_cost=money(generator, 0),
        position_after=Decimal(generator.randint(-5, 5)),
    )


def make_trade(generator: random.Random, seq: int) -> Trade:
    gross, spread, slippage, financing = money(generator), money(generator, 0), money(generator, 0), money(generator)
    return Trade(
        seq=seq,
        symbol=generator.choice(["EUR_USD", "USD_JPY"]),
        units=Decimal(generator.choice([-1, 1]) * generator.randint(1, 10**6)),
        opened_at=START + timedelta(minutes=seq),
        closed_at=generator.choice([None, START + timedelta(minutes=seq + 1)]),
        open_price=price(generator),
        close_price=price(generator),
        bars=generator.randint(0, 50),
        gross_pnl=gross,
        spread_cost=spread,
        slippage_cost=slippage,
        financing=financing,
        net_pnl=gross - spread - slippage + financing,
        mfe=money(generator, 0),
        mae=-money(generator, 0),
    )


def make_performance(generator: random.Random, bars: int, trades: int) -> Performance:
    gross, spread, slippage, financing = money(generator), money(generator, 0), money(generator, 0), money(generator)
    net = gross - spread - slippage + financing
    ratios = ["annual_return", "annual_volatility", "sharpe", "sortino", "profit_factor"]
    return Performance(
        bars=bars,
        trades=trades,
        won=trades // 2,
        lost=trades - trades // 2,
        open_trades=generator.randint(0, 3),
        refused_orders=generator.randint(0, 3),
        starting_cash=CASH,
        ending_balance=CASH + net + 1,
        ending_nav=CASH + net,
        gross_pnl=gross,
        spread_cost=spread,
        slippage_cost=slippage,
        financing=financing,
        net_pnl=net,
        total_return=float(net / CASH),
        **{name: generator.uniform(-3, 3) if trades else None for name in ratios},
        max_drawdown=generator.random(),
        max_drawdown_days=generator.uniform(0, 900),
        expectancy=money(generator) if trades else None,
        exposure=generator.random(),
    )


def make_decision(generator: random.Random, seq: int) -> ModelDecision:
    failed = generator.random() < 0.2
    return ModelDecision(
        symbol="EUR_USD",
        time=START + timedelta(minutes=seq),
        role="model",
        model="rsi/3",
        features=tuple(generator.choice([generator.gauss(0, 1), 1 / 3, 5e-324, -0.0, 1e300]) for _ in range(3)),
        prediction=None if failed else generator.gauss(0, 1e-3),
        latency_ms=generator.choice([None, generator.random()]),
        error='ValueError: "no", such\ttree' if failed else None,
    )


def make_result(seed: int = 1, *, bars: int = 500, fills: int = 60, trades: int = 30, strategy: str = "sma_cross") -> RunResult:
    generator = random.Random(seed)
    walk = np.random.default_rng(seed)
    started = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    return RunResult(
        spec=RunSpec(
            strategy=strategy,
            source='"""A file, "quoted", with\ttabs, ünïcode and a \\ in it."""\n',
            parameters={"period": 20, "risk": 0.01, "tiny": 1e-7, "long": True, "name": "a,b", "nothing": None},
            symbols=("EUR_USD", "USD_JPY"),
            granularity="M1",
            start=START,
            end=START + timedelta(days=30),
            account_currency="USD",
            starting_cash=CASH,
            costs={"spread": "bars", "slippage": {"name": "fixed", "pips": 0.2}, "margin": True},
            fills="broker",
            seed=2**40 + seed,
        ),
        code_version="1.0.0+gabc",
        versions={"python": "3.11.7", "backtrader": "1.9.78.123"},
        data_source="simulator",
        data_fingerprint="f" * 64,
        data_as_of=started - timedelta(seconds=1),
        started_at=started,
        finished_at=started + timedelta(seconds=2.5),
        model_version=generator.choice([None, "rsi/3"]),
        in_sample=generator.choice([None, True, False]),
        warnings=("One, with a comma.", 'Two, "quoted".')[: seed % 3],
        fills=tuple(make_fill(generator, seq) for seq in range(fills)),
        trades=tuple(make_trade(generator, seq) for seq in range(trades)),
        positions=tuple(
            PositionChange(
                START + timedelta(minutes=i // 2), "EUR_USD", *((Decimal(5), price(generator)) if i % 2 else (Decimal(0),) * 2)
            )
            for i in range(fills)
        ),
        equity=Equity(
            np.datetime64("2020-01-05T22:00", "us") + np.arange(bars) * np.timedelta64(60_000_000, "us"),
            *(walk.normal(1e5, 1e3, bars) for _ in range(3)),
        ),
        performance=make_performance(generator, bars, trades),
        models={"rsi@champion": {"name": "rsi", "version": 3, "features": ["a", "b", "c"]}} if seed % 2 else {},
        decisions=tuple(make_decision(generator, seq) for seq in range(fills // 2)),
    )


@pytest.fixture
def make_run() -> MakeRun:
    """Makes a finished run; `bars`, `fills`, `trades` say how much is in it."""
    return make_result
