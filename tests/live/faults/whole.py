"""The whole trader at a scripted exchange: in the test's own process, or as `mbats trader` in another.

python whole.py HOME PORT REST STREAM ADMIN      serves until it is told to end
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from free_ports import free_ports
from live.trading import FAST
from simulator.running import TOKEN, Running

from mbats.live import trader as whole_trader
from mbats.live.deployment import Deployment, State
from mbats.live.gate import Mode
from mbats.live.hosting.client import TraderClient
from mbats.live.hosting.desk import DeploymentStatus
from mbats.live.journal import Journal
from mbats.live.mirror import Mirror
from mbats.live.trader import Trader
from mbats.settings import PROJECT_ROOT, Settings, load_settings

OPTIONS = replace(FAST, signal_lives=timedelta(hours=1))
SECRET = "the-word-that-opens-the-trader"
WIDE = {"max_repeats": 1000, "order_burst": 40, "orders_per_second": 20}

# Does what it is told, once for each bar that it gets after the history.
SOURCE = """
import backtrader as bt


class Told(bt.Strategy):
    params = dict(code="")

    def __init__(self):
        self.bars = 0

    def next(self):
        self.bars += 1
        exec(self.p.code)

    def bracket(self, size, stop, target):
        self.buy_bracket(size=size, exectype=bt.Order.Market, stopprice=stop, limitprice=target)

    def wait(self, size, price):
        self.buy(size=size, exectype=bt.Order.Limit, price=price)
"""

HOLD_AND_WAIT = "self.position or self.bars > 1 or (self.bracket(2000, 1.08, 1.09), self.wait(1000, 1.081))"


def settings_of(exchange: Running, home: Path, port: int, **more: Any) -> Settings:
    ports = [urlsplit(url).port for url in (exchange.url, exchange.stream_url, exchange.admin_url)]
    names = ("simulator_port", "simulator_stream_port", "simulator_admin_port")
    secrets = {"simulator_token": TOKEN, "trader_token": SECRET}
    values = dict(zip(names, ports, strict=True)) | secrets | {"trader_clock": "broker", "trader_port": port}
    return load_settings(home=home, **values | more)


def deployment(name: str = "alpha", code: str = HOLD_AND_WAIT, **more: Any) -> Deployment:
    values: dict[str, Any] = {"granularity": "M1", "symbols": ("EUR_USD",), "warmup_bars": 1} | more
    limits = WIDE | values.pop("limits", {})
    return Deployment(
        name,
        "told",
        SOURCE,
        {"code": code},
        values.pop("symbols"),
        values.pop("granularity"),
        "paper",
        Mode.PAPER,
        limits,
        datetime.now(UTC),
        "ann",
        "version 7",
        **values,
    )


@dataclass
class Whole:
    """A trader, and its exchange. `process` is that of the trader when it is not in this one."""

    exchange: Running
    home: Path
    settings: Settings
    process: subprocess.Popen[bytes] | None = None
    trader: Trader | None = None
    serving: threading.Thread | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    # --- Time -------------------------------------------------------------------------------------------------------------

    def history(self) -> None:
        """A few minutes of prices, so that there are bars, and it is known what prices are usual."""
        for number in range(5):
            self.minute(number)

    def minute(self, number: int = 0) -> None:
        """A minute passes, and a new one begins with a price."""
        self.exchange.step(59.5)
        self.exchange.price("1.08500", f"1.0851{2 + number % 2}")
        self.exchange.step(0.5)

    def wait_for(self, what: Callable[[], Any], timeout: float = 30.0) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            found = what()
            if found:
                return found
            assert time.monotonic() < deadline, f"it did not come: {self.status() if self.is_up else 'no trader'}"
            time.sleep(0.05)

    # --- The trader -------------------------------------------------------------------------------------------------------

    @property
    def client(self) -> TraderClient:
        return TraderClient(self.settings)

    @property
    def is_up(self) -> bool:
        return self.trader is not None or (self.process is not None and self.process.poll() is None)

    def status(self, name: str = "alpha") -> DeploymentStatus:
        found = self.trader.deployments() if self.trader is not None else self.client.deployments()
        return next(each for each in found if each.name == name)

    def deploy(self, *, live: bool = True, **more: Any) -> None:
        (self.trader or self.client).deploy(deployment(**more))  # type: ignore[union-attr]
        if live:
            self.wait_for(lambda: self.status(more.get("name", "alpha")).state is State.LIVE, 60)

    def start(self) -> None:
        """The process of a trader; it answers when this returns."""
        urls = (self.exchange.url, self.exchange.stream_url, self.exchange.admin_url)
        argv = [sys.executable, __file__, str(self.home), str(self.settings.trader_port), *urls]
        environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT / "tests")}
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        self.wait_for(self._answers, 60)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.home / "log").read_text()
        try:
            self.client.state()
        except Exception:
            return False
        return True

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self, timeout: float = 40.0) -> int:
        """As a supervisor would; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def mbats(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, in a process of its own."""
        ports = {"SIMULATOR_PORT": self.settings.simulator_port, "TRADER_PORT": self.settings.trader_port}
        values = ports | {"HOME": self.home, "TRADER_TOKEN": SECRET, "SIMULATOR_TOKEN": TOKEN}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MBATS_")}
        environment |= {f"MBATS_{key}": str(value) for key, value in values.items()}
        argv = [sys.executable, "-m", "mbats.cli", *words]
        return subprocess.run(argv, env=environment, cwd=self.home, capture_output=True, text=True, timeout=60, check=False)

    # --- In this process --------------------------------------------------------------------------------------------------

    def serve(self, **more: Any) -> Trader:
        """A trader in this process, which serves."""
        self.trader = Trader(self.settings, **{"options": OPTIONS, "lease": False} | more)
        self.serving = threading.Thread(target=self.trader.serve, args=(self.stopping,), daemon=True)
        self.serving.start()
        return self.trader

    def close(self) -> None:
        self.stopping.set()
        if self.serving is not None:
            self.serving.join(30)
        if self.trader is not None:
            self.trader.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # --- The exchange -----------------------------------------------------------------------------------------------------

    def trades(self) -> list[str]:
        return [each["currentUnits"] for each in self.exchange.account("GET", "/openTrades").json()["trades"]]

    def pending(self) -> list[str]:
        return sorted(each["type"] for each in self.exchange.account("GET", "/pendingOrders").json()["orders"])

    def fills(self) -> list[str]:
        found = self.exchange.account("GET", "/transactions/sinceid?id=1").json()["transactions"]
        return [each["units"] for each in found if each["type"] == "ORDER_FILL"]

    def account_journal(self) -> Journal:
        """The journal of the account, once the trader's process is gone."""
        (path,) = (self.home / "trader").glob("simulator-*.sqlite")
        return Journal.open(path)


def begin_whole(exchange: Running, home: Path, **more: Any) -> Whole:
    whole = Whole(exchange, home, settings_of(exchange, home, next(free_ports()), **more))
    whole.history()
    return whole


def do_not_wait_for_postgresql() -> None:
    """There is none in these tests, and a trader that ends would give it ten seconds."""
    Mirror.stop.__defaults__ = (0.2,)


def main(home: str, port: str, *urls: str) -> None:
    do_not_wait_for_postgresql()
    whole_trader.Trader = partial(Trader, options=OPTIONS, lease=False)  # type: ignore[assignment, misc]
    whole_trader.run(settings_of(Running(*urls, "", None), Path(home), int(port)))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
