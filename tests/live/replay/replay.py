"""A stretch of bars played through the exchange to a paper deployment: each bar is decided on before the next one begins.

The bars hold so many prices that each is a point from the last, so that a stop is met at its own price and not beyond it. What
is left to differ between such a replay and the backtest of the same bars is a fault.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from free_ports import free_ports
from simulator.running import ACCOUNT, TOKEN, Running, start_process

from mbats.live.deployment import Deployment, State
from mbats.live.gate import Mode
from mbats.live.owner import OwnerOptions
from mbats.live.trader import Trader
from mbats.market import Bars, Granularity, Instrument, bar_starts, to_datetime, to_us
from mbats.settings import PROJECT_ROOT, Settings, load_settings
from mbats.simulator.instruments import listing
from mbats.trading.strategies import load_strategy

LIMITS = {
    "max_order_units": 10_000_000,
    "max_order_notional": 50,
    "max_position_units": 10_000_000,
    "max_position_notional": 50,
    "max_open_trades": 1000,
    "max_gross_exposure": 50,
    "max_currency_exposure": 50,
    "max_margin": "0.9",
    "max_spread_multiple": 100,
    "max_repeats": 1000,
    "orders_per_second": 20,
    "order_burst": 40,
    "max_daily_loss": "0.5",
    "max_drawdown": "0.9",
    "max_loss_streak": 1000,
    "max_price_age_seconds": 600,
}
OPTIONS = OwnerOptions(tick=0.02, signal_lives=timedelta(hours=1), reconcile_every=5.0)


def generate(
    symbol: str, granularity: Granularity, start: datetime, end: datetime, *, seed: int, price: float, gap: int = 0
) -> Bars:
    """A random walk by bars in FX hours, in the instrument's digits. A bar opens at most `gap` points off the last close."""
    digits = 3 if symbol.endswith("JPY") else 5
    times = bar_starts(granularity, start, end)
    rng = np.random.default_rng(seed)
    count = len(times)
    opens, steps = rng.integers(-gap, gap + 1, count), rng.normal(0, 30, count).astype(int)
    walk = np.cumsum(opens + steps)
    close = int(price * 10**digits) + walk
    open_ = close - steps
    high = np.maximum(open_, close) + rng.integers(0, 25, count)
    low = np.minimum(open_, close) - rng.integers(0, 25, count)
    spread = rng.integers(8, 20, count) if gap else np.full(count, 12)
    volume = 3 * (high - low) + 200
    scale = 10.0**-digits
    sides = [np.round(each * scale, digits) for each in (open_, high, low, close)]
    asks = [np.round((each + spread) * scale, digits) for each in (open_, high, low, close)]
    return Bars(times, *sides, *asks, volume)


def write_csv(folder: Path, symbol: str, granularity: Granularity, bars: Bars) -> None:
    """The bars as the simulator reads them."""
    lines = ["time,bid_open,bid_high,bid_low,bid_close,ask_open,ask_high,ask_low,ask_close,volume"]
    columns = [getattr(bars, f"{side}_{part}") for side in ("bid", "ask") for part in ("open", "high", "low", "close")]
    for number, moment in enumerate(bars.time):
        values = ",".join(repr(float(column[number])) for column in columns)
        lines.append(f"{moment}Z,{values},{bars.volume[number]}")
    (folder / f"{symbol}_{granularity}.csv").write_text("\n".join(lines) + "\n")


@dataclass
class Replay:
    """A trader and an exchange, moved bar by bar."""

    simulator: Running
    trader: Trader
    settings: Settings

    def deploy(
        self,
        strategy: str,
        symbols: tuple[str, ...],
        granularity: Granularity,
        *,
        name: str = "alpha",
        warmup: int,
        folder: Path = PROJECT_ROOT / "strategies",
        extra: dict[str, Any] | None = None,
        **parameters: Any,
    ) -> None:
        loaded = load_strategy(strategy, folder)
        values = loaded.defaults() | parameters
        deployment = Deployment(
            name,
            strategy,
            loaded.source,
            values,
            symbols,
            granularity.value,
            "paper",
            Mode.PAPER,
            LIMITS,
            datetime.now(UTC),
            "test",
            "1",
            warmup_bars=warmup,
            extra=extra or {},
        )
        self.trader.deploy(deployment)
        self.wait_for(lambda: self.trader.host.hosted(name).state is State.LIVE, 60)
        self.quiet()

    def wait_for(self, what: Callable[[], Any], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError(f"it did not come; {self.trader.healthy()}; {self.trader.deployments()}")
            time.sleep(0.002)

    @property
    def owner(self) -> Any:
        return self.trader._venues["paper"].owner

    def last_transaction(self) -> int:
        summary = self.simulator.account("GET", "/summary", hooks={})
        return int(summary.json()["lastTransactionID"])

    def quiet(self) -> None:
        """Everything that has happened is booked, and nothing is under way."""

        def done() -> bool:
            owner = self.owner
            owner._ask(lambda: None, 10)  # whatever was said before this has been heard
            account, orders = owner._account, owner._orders
            on_their_way = owner._calls.in_flight or orders.deferred or orders.turning or orders.exits.netted
            return bool(account.live and not on_their_way and account.continuity.last >= self.last_transaction())

        self.wait_for(done)

    def to(self, moment: datetime) -> None:
        self.simulator.admin("POST", "/clock/step", {"until": moment.isoformat().replace("+00:00", "Z")})

    def play(self, ends: list[datetime], names: tuple[str, ...] = ("alpha",)) -> None:
        """Bar by bar: all that happens inside is known before it is decided on, and the first price of the next is there."""
        for end in ends:
            self.to(end - timedelta(microseconds=1))
            self.quiet()
            self.simulator.admin("POST", "/clock/step", {"ticks": 1})
            self.wait_for(lambda end=end: all(self._has_decided(name, end) for name in names))  # type: ignore[misc]
            self.quiet()

    def _has_decided(self, name: str, end: datetime) -> bool:
        life = self.trader._lives.get(name)
        return life is not None and life.last_bar is not None and life.last_bar >= end

    def fills(self, symbol: str | None = None) -> list[tuple[datetime, str, Decimal, Decimal]]:
        """What the exchange says was dealt."""
        found = self.simulator.account("GET", "/transactions/sinceid?id=1", hooks={}).json()["transactions"]
        return [
            (
                datetime.fromisoformat(each["time"][:26] + "+00:00"),
                each["instrument"],
                Decimal(each["units"]),
                Decimal(each["price"]),
            )
            for each in found
            if each["type"] == "ORDER_FILL" and symbol in (None, each["instrument"])
        ]


@contextmanager
def replay(folder: Path, series: dict[str, Bars], granularity: Granularity, start: datetime) -> Iterator[Replay]:
    """An exchange of these bars that stands at `start`, and a trader that has nothing to do yet."""
    bars_folder = folder / "bars"
    bars_folder.mkdir()
    for symbol, bars in series.items():
        write_csv(bars_folder, symbol, granularity, bars)
    rest, stream, admin = islice(free_ports(), 3)
    config = folder / "config.yaml"
    owner = {"name": "owner", "tokens": [{"token_secret": "simulator_token"}], "accounts": [{"id": ACCOUNT}]}
    limits = {"requests_per_second": 100_000, "streams_per_second": 1000, "heartbeat_seconds": 0.1, "price_window_seconds": 0.005}
    config.write_text(json.dumps({"users": [owner], "options": limits}))
    simulator = start_process(
        folder,
        simulator_port=rest,
        simulator_stream_port=stream,
        simulator_admin_port=admin,
        simulator_config=config,
        simulator_source="files",
        simulator_bars=bars_folder,
        simulator_clock="step",
        simulator_start=start.isoformat().replace("+00:00", "Z"),
    )
    settings = load_settings(
        home=folder,
        simulator_port=rest,
        simulator_stream_port=stream,
        simulator_admin_port=admin,
        simulator_token=TOKEN,
        trader_clock="broker",
    )
    trader = Trader(settings, options=OPTIONS, lease=False)
    it = Replay(simulator, trader, settings)
    try:
        yield it
    finally:
        it.trader.close()
        simulator.kill()


def instruments(symbols: tuple[str, ...]) -> dict[str, Instrument]:
    """The instruments as the simulator lists them."""
    found = listing()
    return {symbol: found[symbol] for symbol in symbols}


def bar_of(moment: datetime, granularity: Granularity, starts: Any) -> datetime:
    """The start of the bar in which a moment lies."""
    number = int(np.searchsorted(starts, to_us(moment), side="right")) - 1
    return to_datetime(starts[number])
