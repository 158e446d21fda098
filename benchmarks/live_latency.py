"""From the end of a bar to the order at the exchange: the trader, a strategy's process and the simulator as they run in earnest.

`.venv/bin/python benchmarks/live_latency.py`, five minutes; `--seconds 60` for less. A strategy trades each of four symbols on
every bar of five seconds. The simulator makes a candle when it is asked for it after the end of the bar, so the time that the
exchange gives each order, less the end of its bar and the time that it took to answer with the candle, is all that lies between:
to ask at the right moment, the strategy, the gate, the journal on the disk, and the way to the broker. Ends with 1 when a limit
is missed. Needs no service.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
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
BAR = 5.0  # seconds
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
    options.add_argument("--seconds", type=int, default=300)
    seconds = options.parse_args().seconds
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        latencies, answers = measure(Path(folder), seconds)
    return tell(latencies, answers)


def measure(folder: Path, seconds: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Milliseconds from the end of a bar to the exchange's time of each order that was decided on it, and how many of them the
    exchange took to answer with the candle."""
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
    answers = watch_candles()
    trader = Trader(load_settings(home=folder, **{name: variables[name] for name in names}), lease=False)
    try:
        trader._venue("paper").clock = MachineClock(machine=_as_the_exchange(admin))
        deployment = Deployment(
            *("bench", "every_bar", SOURCE, {}, SYMBOLS, "S5", "paper", Mode.PAPER, LIMITS, datetime.now(UTC), "benchmark", "1"),
            warmup_bars=60,
        )
        trader.deploy(deployment)
        _wait_until_live(trader)
        begin = trader._venue("paper").clock.now()  # type: ignore[union-attr]
        for _ in track(range(seconds), "trading", console=Console(stderr=True)):
            time.sleep(1.0)
        found = _orders(ports[0], token, begin)
        offset = trader._venue("paper").clock.now().timestamp() - time.time()  # type: ignore[union-attr]
    finally:
        trader.close()
        simulator.kill()
    late = np.array([(moment % BAR) * 1000 for moment in found])
    took = np.array([max((at, taken) for at, taken in answers if at + offset < moment)[1] * 1000 for moment in found])
    return late, took


def watch_candles() -> list[tuple[float, float]]:
    """From now on: when each answer with candles came, by this machine's clock, and how many seconds the exchange took for it."""
    answers: list[tuple[float, float]] = []
    send = requests.Session.send

    def watched(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = send(self, request, **options)
        if "/candles/latest" in str(request.url):
            answers.append((time.time(), response.elapsed.total_seconds()))
        return response

    requests.Session.send = watched  # type: ignore[method-assign]
    return answers


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
        received = time.time()
        offsets.append(datetime.fromisoformat(said[:26] + "+00:00").timestamp() - received)
    offset = max(offsets)
    return lambda: time.time() + offset


def _orders(port: int, token: str, begin: datetime) -> list[float]:
    """The exchange's time of each order since `begin`, in seconds since 1970."""
    url = f"http://127.0.0.1:{port}/v3/accounts/{ACCOUNT}/transactions/sinceid?id=1"
    found = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60).json()["transactions"]
    moments = [datetime.fromisoformat(each["time"][:26] + "+00:00") for each in found if each["type"] == "MARKET_ORDER"]
    return [moment.timestamp() for moment in moments if moment > begin]


def tell(latencies: np.ndarray[Any, Any], answers: np.ndarray[Any, Any]) -> int:
    """Print the figures; 1 when a limit is missed."""
    if not len(latencies):
        Console().print("No order arrived: nothing was measured.")
        return 1
    ours = latencies - answers
    table = Table(title=f"bar complete to order at the exchange, {len(latencies)} orders, milliseconds")
    for name in ("percentile", "all", "the exchange's answer", "beyond it", "at most", ""):
        table.add_column(name, justify="right")
    missed = 0
    for percent, most in ((50, P50), (90, None), (99, P99), (100, None)):
        value = float(np.percentile(ours, percent))
        well = most is None or value <= most
        missed += not well
        verdict = "" if most is None else "met" if well else "MISSED"
        others = [f"{np.percentile(each, percent):.1f}" for each in (latencies, answers)]
        table.add_row(f"p{percent}", *others, f"{value:.1f}", "" if most is None else f"{most:g}", verdict)
    Console().print(table)
    percentiles = {f"p{percent}_ms": round(float(np.percentile(ours, percent)), 2) for percent in (50, 90, 99)}
    Console().print_json(json.dumps({"orders": len(latencies)} | percentiles), indent=None)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
