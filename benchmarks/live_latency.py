"""From a complete bar to the order at the exchange: the trader, a strategy's process and the simulator as they run in earnest.

`.venv/bin/python benchmarks/live_latency.py`, six minutes; `--seconds 60` for less. A strategy trades on every bar of five
seconds, first one symbol, then four which it orders at one moment. The simulator notes when each request came and when
it was answered. It makes a candle when it is asked for it after the end of the bar, so what lies between the end of a bar and
the coming of an order that was decided on it, less the time that the simulator took to answer with the candle, is all that we
take: to ask at the right moment, the strategy, the gate, the journal on the disk, and the way to the broker. Ends with 1 when a
limit is missed. Needs no service.
"""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mbats.live.deployment import Deployment
from mbats.live.gate import Mode
from mbats.live.market.clock import MachineClock
from mbats.live.trader import Trader, ready_process
from mbats.platform.ports import is_free
from mbats.settings import load_settings

START = "2024-05-14T10:00:00Z"  # an ordinary Tuesday: the clock begins there and goes as fast as any other
ACCOUNT = "101-004-1435156-001"
SYMBOLS = ("EUR_USD", "GBP_USD", "USD_JPY", "AUD_USD")
BAR, NO_BAR = 5.0, 0.1  # seconds
P50, P99 = 5.0, 25.0  # milliseconds, beyond the moment at which the broker has the candle
SOURCE = '''
import backtrader as bt


class EveryBar(bt.Strategy):
    """In on one bar, out on the next, in every symbol."""

    def next(self):
        for data in self.datas:
            if self.getposition(data):
                self.close(data=data)
            else:
                self.buy(data=data, size=1000)
'''
LIMITS = {"max_repeats": 1000, "orders_per_second": 20, "order_burst": 40, "max_open_trades": 100, "max_loss_streak": 1000}
LIMITS |= {"max_daily_loss": "0.5", "max_spread_multiple": 100}


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=180)
    seconds = options.parse_args().seconds
    logging.basicConfig(level=logging.ERROR)
    missed = 0
    for symbols in (SYMBOLS[:1], SYMBOLS):
        with tempfile.TemporaryDirectory() as folder:
            missed += tell(len(symbols), measure(Path(folder), symbols, seconds))
    return 1 if missed else 0


def measure(folder: Path, symbols: tuple[str, ...], seconds: int) -> NDArray[np.float64]:
    """A row for each order, in milliseconds: from the end of the bar that it was decided on until it came to the exchange, and
    how many of them the exchange took to answer with the candle."""
    token, ports = secrets.token_hex(16), [port for port in range(28090, 28990, 100) if is_free(port)][:3]
    variables: dict[str, Any] = {
        "simulator_token": token,
        "simulator_port": ports[0],
        "simulator_stream_port": ports[1],
        "simulator_admin_port": ports[2],
        "simulator_clock": "accelerated",
        "simulator_speed": 1.0,
        "simulator_start": START,
    }
    environment = {f"MBATS_{key.upper()}": str(value) for key, value in variables.items()} | {"MBATS_HOME": str(folder)}
    command = [sys.executable, "-m", "mbats.cli", "simulator"]
    simulator = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert simulator.stdout is not None
    simulator.stdout.readline()
    admin = f"http://127.0.0.1:{ports[2]}"
    threading.Thread(target=simulator.stdout.read, daemon=True).start()
    names = ("simulator_token", "simulator_port", "simulator_stream_port", "simulator_admin_port")
    ready_process()
    trader = Trader(load_settings(home=folder, **{name: variables[name] for name in names}), lease=False)
    try:
        trader._venue("paper").clock = MachineClock(machine=_as_the_exchange(admin))
        deployment = Deployment(
            *("bench", "every_bar", SOURCE, {}, symbols, "S5", "paper", Mode.PAPER, LIMITS, datetime.now(UTC), "benchmark", "1"),
            warmup_bars=60,
        )
        trader.deploy(deployment)
        _wait_until_live(trader)
        requests.delete(f"{admin}/journal", timeout=5)
        for _ in track(range(seconds), f"trading {', '.join(symbols)}", console=Console(stderr=True)):
            time.sleep(1.0)
        noted = requests.get(f"{admin}/journal?kind=request", timeout=60).json()["entries"]
    finally:
        trader.close()
        simulator.kill()
    return latencies([_Noted.read(entry) for entry in noted])


@dataclass(frozen=True, slots=True)
class _Noted:
    """A request as the exchange noted it, in seconds of its own clock since 1970."""

    path: str
    method: str
    came: float
    answered: float

    @classmethod
    def read(cls, entry: dict[str, Any]) -> _Noted:
        answered = datetime.fromisoformat(entry["time"][:26] + "+00:00").timestamp()
        return cls(entry["path"], entry["method"], answered - entry["milliseconds"] / 1000, answered)


def latencies(noted: list[_Noted]) -> NDArray[np.float64]:
    """See `measure`. Of the time that an answer with candles took, only what lies after the end of the bar counts.

    Left out is a moment at which a symbol had no bar, since nothing was dealt while it lasted: the exchange shows that only when
    a later bar begins, so there was a look for it `NO_BAR` seconds or more after the end, and another one.
    """
    found = []
    candles = [each for each in noted if each.path.endswith("/candles/latest")]
    for order in noted:
        if order.method in ("POST", "PUT") and order.path.endswith(("/orders", "/close")):
            end = order.came // BAR * BAR
            looks = [each for each in candles if end < each.answered < order.came]
            if looks and not (len(looks) > 1 and looks[-2].came > end + NO_BAR):
                last = looks[-1]
                found.append(((order.came - end) * 1000, (last.answered - max(end, last.came)) * 1000))
    return np.array(found, float).reshape(-1, 2)


def _wait_until_live(trader: Trader) -> None:
    """What waited for the account to be in step is no measure of how fast it is then."""
    deadline = time.monotonic() + 60
    while not trader.healthy()[1]["accounts"].get("paper", {}).get("live") or not trader.deployments()[0].last_bar:
        if time.monotonic() > deadline:
            raise SystemExit(f"The account did not get into step: {trader.healthy()}")
        time.sleep(0.1)


def _as_the_exchange(admin: str) -> Any:
    """This machine's clock moved to the exchange's time, which runs as fast. The smallest of several differences counts."""
    offsets = []
    for _ in range(20):
        said = requests.get(f"{admin}/clock", timeout=5).json()["time"]
        received = time.monotonic()
        offsets.append(datetime.fromisoformat(said[:26] + "+00:00").timestamp() - received)
    offset = max(offsets)
    return lambda: time.monotonic() + offset


def tell(count: int, found: NDArray[np.float64]) -> int:
    """Print the figures; how many limits are missed."""
    if not len(found):
        Console().print("No order arrived: nothing was measured.")
        return 1
    whole, exchange = found.T
    ours = whole - exchange
    what = "one symbol" if count == 1 else f"{count} symbols at once"
    table = Table(title=f"bar complete to order at the exchange, {what}, {len(found)} orders, milliseconds")
    for name in ("percentile", "all", "the exchange's answer", "beyond it", "at most", ""):
        table.add_column(name, justify="right")
    missed = 0
    for percent, most in ((50, P50), (90, None), (99, P99), (100, None)):
        value = float(np.percentile(ours, percent))
        well = most is None or value <= most
        missed += not well
        verdict = "" if most is None else "met" if well else "MISSED"
        others = [f"{np.percentile(each, percent):.1f}" for each in (whole, exchange)]
        table.add_row(f"p{percent}", *others, f"{value:.1f}", "" if most is None else f"{most:g}", verdict)
    Console().print(table)
    percentiles = {f"p{percent}_ms": round(float(np.percentile(ours, percent)), 2) for percent in (50, 90, 99)}
    Console().print_json(json.dumps({"symbols": count, "orders": len(found)} | percentiles), indent=None)
    return missed


if __name__ == "__main__":
    sys.exit(main())
