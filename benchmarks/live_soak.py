"""Hours of trading on an accelerated market that breaks down all the time: nothing may leak, end, or be a cent off.

`.venv/bin/python benchmarks/live_soak.py --hours 2`. The trader as it is in earnest, with three strategies on two pairs, and the
simulator's sample market at 240 times the speed of a clock, so that two hours are three weeks. Streams are cut, connections reset
before and after a request is carried out, answers refused, messages lost, doubled and late, processes of strategies killed, all
drawn from a seed. Every few minutes the market is stopped, and the ledger compared with the broker. Ends with 1 when memory grows
by more than 16 MB in the second half, a thread is gone, or a cent is missing. Needs no service.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import requests
from rich.console import Console
from rich.table import Table

from mbats.live.deployment import Deployment, State
from mbats.live.gate import Mode
from mbats.live.owner import OwnerOptions
from mbats.live.trader import Trader, ready_process
from mbats.platform.ports import is_free
from mbats.settings import PROJECT_ROOT, load_settings
from mbats.trading.strategies import load_strategy

START = "2024-02-13T08:00:00Z"
ACCOUNT = "101-004-1435156-001"
SYMBOLS = ("EUR_USD", "GBP_USD")
STRATEGIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cross": ("sma_cross", "M5", {"fast": 3, "slow": 8, "atr_period": 5, "risk": 0.0003}),
    "rsi": ("rsi_stochastic", "M5", {"low": 45.0, "high": 55.0, "stop_atr": 1.0, "target_atr": 1.5, "risk": 0.0005}),
    "rotation": ("momentum_rotation", "M15", {"lookback": 20, "rebalance": 2, "top": 1, "risk": 0.0003}),
}
LIMITS = {
    **{"max_order_units": 10_000_000, "max_order_notional": 50, "max_position_units": 10_000_000, "max_position_notional": 50},
    **{"max_open_trades": 1000, "max_gross_exposure": 50, "max_currency_exposure": 50, "max_margin": "0.9"},
    **{"max_spread_multiple": 100, "max_repeats": 1000, "orders_per_second": 20, "order_burst": 40},
    **{"max_daily_loss": "0.5", "max_drawdown": "0.9", "max_loss_streak": 1000, "max_price_age_seconds": 600},
}
MOST_GROWTH = 16.0  # MB of the trader, and of all its children, over the second half
CENT = Decimal("0.01")
LOOK_EVERY = 10.0  # seconds between two looks at memory
FAULT_EVERY, KILL_EVERY = (2.0, 8.0), (90.0, 240.0)  # seconds


@dataclass
class Soak:
    """A trader, an exchange, and what was seen of both."""

    trader: Trader
    admin: str
    rest: str
    token: str
    draw: random.Random
    console: Console
    faults: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float, float]] = field(default_factory=list)  # seconds, MB of the trader, MB of its children
    wrong: list[str] = field(default_factory=list)
    compared: int = 0

    def run(self, seconds: float, report_every: float) -> None:
        """Trade for so long."""
        began = time.monotonic()
        next_fault, next_kill, next_report, next_look = began + 20, began + 60, began + report_every, began
        while (now := time.monotonic()) - began < seconds:
            if now >= next_look:
                next_look = now + LOOK_EVERY
                self.look(now - began)
            if now >= next_fault:
                next_fault = now + self.draw.uniform(*FAULT_EVERY)
                self.fault()
            if now >= next_kill:
                next_kill = now + self.draw.uniform(*KILL_EVERY)
                self.kill()
            if now >= next_report:
                next_report = now + report_every
                self.compare()
                self.report(now - began)
            time.sleep(0.2)
        self.compare()
        self.report(seconds)

    # --- Faults -----------------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        """One more of the broker's, for the next request or message that it fits."""
        draw = self.draw
        requests_ = [
            {"do": "reset", "when": "before"},
            {"do": "reset", "when": "after"},
            {"do": "close", "when": "after"},
            {"do": "answer", "when": "before", "status": 429},
            {"do": "answer", "when": "before", "status": 503, "html": True},
            {"do": "answer", "when": "after", "status": 502},
            {"do": "delay", "when": draw.choice(("before", "after")), "seconds": round(draw.uniform(0.2, 2.0), 2)},
            {"do": "truncate"},
            {"do": "garble"},
        ]
        messages = [
            {"do": "drop"},
            {"do": "duplicate"},
            {"do": "reorder"},
            {"do": "delay", "seconds": round(draw.uniform(0.2, 2.0), 2)},
            {"do": "cut", "then": draw.choice(("end", "close", "reset"))},
            {"do": "reset", "when": draw.choice(("before", "after"))},
            {"do": "silence", "seconds": 5.0},
        ]
        if draw.random() < 0.6:
            action = draw.choice(requests_)
            where = draw.choice(({"method": "POST"}, {"method": "PUT"}, {"path": "*/candles*"}, {"path": "*/transactions/*"}, {}))
        else:
            action = draw.choice(messages)
            where = draw.choice(({"message": "ORDER_FILL"}, {"message": "*_ORDER"}, {"message": "PRICE"}, {"message": "*"}))
        body = {"match": where | {"times": 1, "ttl": 60.0}, "action": action}
        self.faults.append(self._post("/faults", body)["fault"]["id"])
        self._count(self.faults[:-200])

    def kill(self) -> None:
        """End the process of a strategy, as the kernel would."""
        name = self.draw.choice(sorted(STRATEGIES))
        session = self.trader.host.session(name)
        if session is not None and session.alive:
            os.kill(session.pid, signal.SIGKILL)
            self.killed[name] += 1

    def _count(self, ids: list[str]) -> None:
        """See which of these have struck, and take them away."""
        for each in ids:
            fault = requests.delete(f"{self.admin}/faults/{each}", timeout=10).json().get("fault", {})
            if fault.get("hits"):
                self.struck[str(fault["action"]["do"])] += int(fault["hits"])
            self.faults.remove(each)

    # --- Looking ----------------------------------------------------------------------------------------------------------

    def look(self, at: float) -> None:
        """Memory and threads."""
        children = [
            session.pid for name in STRATEGIES if (session := self.trader.host.session(name)) is not None and session.alive
        ]
        self.memory.append((at, _megabytes(os.getpid()), sum(_megabytes(pid) for pid in children)))
        well, state = self.trader.healthy()
        if not well:
            self._wrong(f"not well: {state['reason']}")
        for name in STRATEGIES:
            if self.trader.host.hosted(name).state is State.FAILED:
                self._wrong(f"{name} has failed: {self.trader.host.hosted(name).reason}")

    def compare(self) -> None:
        """Stop the market, let everything settle, and lay the ledger beside what the broker says."""
        self._count(list(self.faults))
        self._post("/clock", {"mode": "step"})
        try:
            found = self._compared()
            deadline = time.monotonic() + 60
            while found and time.monotonic() < deadline:
                time.sleep(0.5)
                found = self._compared()
            for each in found:
                self._wrong(each)
            self.compared += 1
        finally:
            self._post("/clock", {"mode": "accelerated"})

    def _compared(self) -> list[str]:
        owner: Any = self.trader._venues["paper"].owner
        account = self._get("")["account"]

        def ask() -> tuple[Any, ...]:
            books = owner._account.books
            trades = {str(each.id): each.units for each in books.trades.values()}
            parts = sum((sum(of.values(), Decimal(0)) for of in (books.realised, books.financing, books.costs)), books.start)
            known = parts + books.transferred + books.unexplained
            return owner._account.live, books.last_id, books.balance, known, trades, dict(books.positions()), books.check()

        live, last, balance, parts, trades, positions, complaints = owner._ask(ask, 20)
        if not live or last != int(account["lastTransactionID"]):
            return [f"not in step: {last} of {account['lastTransactionID']} transactions, {owner.state().get('step')}"]
        found = list(complaints)
        said = Decimal(account["balance"])
        if abs(said - balance) >= CENT or abs(said - parts) >= CENT:
            found.append(f"the broker's balance is {said}, the ledger's {balance}, that of its parts {parts}")
        theirs = {each["id"]: Decimal(each["currentUnits"]) for each in account["trades"]}
        if theirs != trades:
            found.append(f"the broker's trades are {theirs}, the ledger's {trades}")
        for symbol in SYMBOLS:
            own = sum((units for (_, name), units in positions.items() if name == symbol), Decimal(0))
            held = sum((Decimal(each["currentUnits"]) for each in account["trades"] if each["instrument"] == symbol), Decimal(0))
            if own != held:
                found.append(f"the deployments hold {own} {symbol}, the broker {held}")
        return found

    def _wrong(self, what: str) -> None:
        self.wrong.append(f"{datetime.now(UTC):%H:%M:%S} {what}")
        self.console.print(f"[red]{self.wrong[-1]}")

    def growth(self) -> tuple[float, float]:
        """By how many MB trader and children grew over the second half, by a straight line through what was seen."""
        if len(self.memory) < 6:
            return 0.0, 0.0
        half = np.array([each for each in self.memory if each[0] >= self.memory[-1][0] / 2])
        span = half[-1, 0] - half[0, 0]
        own, children = (float(np.polyfit(half[:, 0], half[:, column], 1)[0] * span) for column in (1, 2))
        return own, children

    def report(self, at: float) -> None:
        """Print how it stands."""
        clock = datetime.fromisoformat(requests.get(f"{self.admin}/clock", timeout=10).json()["time"][:19] + "+00:00")
        passed = clock - datetime.fromisoformat(START)
        transactions = int(self._get("/summary")["account"]["lastTransactionID"])
        state = self.trader.healthy()[1]["accounts"]["paper"]
        own, children = self.growth()
        threads = [thread.name for thread in threading.enumerate()]
        table = Table(title=f"after {at / 60:.0f} minutes", show_header=False)
        rows = {
            "market time": f"{passed.days} days {passed.seconds // 3600} hours",
            "transactions": f"{transactions:,}, {self.fills(transactions):,} of them fills",
            "faults that struck": f"{self.struck.total():,}: " + ", ".join(f"{n} {do}" for do, n in self.struck.most_common()),
            "streams": f"up {state.get('stream_ups')}, down {state.get('stream_downs')}",
            "processes killed": f"{self.killed.total()}, restarts "
            + ", ".join(f"{name} {self.trader.host.hosted(name).restarts}" for name in STRATEGIES),
            "positions": json.dumps(state.get("positions", {})),
            "memory": f"trader {self.memory[-1][1]:.0f} MB, children {self.memory[-1][2]:.0f} MB",
            "growth in the second half": f"trader {own:+.1f} MB, children {children:+.1f} MB, at most {MOST_GROWTH:g}",
            "threads": f"{len(threads)}",
            "owner's crashes": f"{state.get('crashes')}",
            "ledger compared with broker": f"{self.compared} times; {len(self.wrong)} complaints",
        }
        for name, value in rows.items():
            table.add_row(name, value)
        self.console.print(table)

    def fills(self, last: int) -> int:
        """How many orders were dealt."""
        total = 0
        for first in range(1, last + 1, 1000):
            page = self._get(f"/transactions/idrange?from={first}&to={min(first + 999, last)}&type=ORDER_FILL")
            total += len(page["transactions"])
        return total

    def _get(self, path: str) -> Any:
        for _ in range(20):  # a fault may be for us
            try:
                answer = requests.get(
                    f"{self.rest}/v3/accounts/{ACCOUNT}{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=10
                )
                if answer.status_code == 200:
                    return answer.json()
            except (requests.RequestException, ValueError) as error:
                logging.debug("asked again: %s", error)
            time.sleep(0.2)
        raise SystemExit(f"The simulator does not answer {path}.")

    def _post(self, path: str, body: Any) -> Any:
        answer = requests.post(f"{self.admin}{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()


def main() -> int:
    """Trade and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=float, default=2.0)
    options.add_argument("--speed", type=float, default=240.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--report-minutes", type=float, default=5.0)
    given = options.parse_args()
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        logging.basicConfig(level=logging.WARNING, filename=os.environ.get("SOAK_LOG") or place / "trader.log")
        soak, end = begin(place, given.speed, given.seed, console)
        try:
            soak.run(given.hours * 3600, given.report_minutes * 60)
        finally:
            end()
    return tell(soak, console)


def begin(folder: Path, speed: float, seed: int, console: Console) -> tuple[Soak, Any]:
    """An exchange and a trader that has begun, and how to end both."""
    token, ports = secrets.token_hex(16), _free_ports()
    own = {
        "simulator_token": token,
        "simulator_port": next(ports),
        "simulator_stream_port": next(ports),
        "simulator_admin_port": next(ports),
        "simulator_seed": seed,
    }
    clock = {"simulator_clock": "accelerated", "simulator_speed": speed, "simulator_start": START}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MBATS_")}
    environment |= {f"MBATS_{key.upper()}": str(value) for key, value in (own | clock).items()} | {"MBATS_HOME": str(folder)}
    simulator = subprocess.Popen(
        [sys.executable, "-m", "mbats.cli", "simulator"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert simulator.stdout is not None
    simulator.stdout.readline()
    threading.Thread(target=simulator.stdout.read, daemon=True).start()
    # PostgreSQL is away: no deployment of this machine's is touched, and the trader has to do without for hours.
    settings = load_settings(home=folder, **own, trader_clock="broker", postgres_port=next(ports))
    ready_process()
    market = timedelta(seconds=speed)  # that passes in a second: waits that are of the broker's time are as long as on any day
    trader = Trader(settings, options=OwnerOptions(signal_lives=10 * market, hold_after_open=30 * market), lease=False)
    stopping = threading.Event()
    serving = threading.Thread(target=trader.serve, args=(stopping,), name="trader", daemon=True)
    serving.start()
    for name, (strategy, granularity, parameters) in STRATEGIES.items():
        loaded = load_strategy(strategy, PROJECT_ROOT / "strategies")
        values = loaded.defaults() | parameters
        trader.deploy(
            Deployment(
                *(name, strategy, loaded.source, values, SYMBOLS, granularity, "paper", Mode.PAPER, LIMITS),
                *(datetime.now(UTC), "soak", "1"),
                warmup_bars=100,
            )
        )
    admin, rest = (f"http://127.0.0.1:{own[name]}" for name in ("simulator_admin_port", "simulator_port"))
    soak = Soak(trader, admin, rest, token, random.Random(seed), console)
    _wait_until_live(trader)

    def end() -> None:
        if not serving.is_alive():
            soak._wrong("the trader's own thread is gone")
        stopping.set()
        serving.join(10)
        trader.close()
        simulator.kill()

    return soak, end


def _wait_until_live(trader: Trader) -> None:
    deadline = time.monotonic() + 120
    while not all(trader.host.hosted(name).state is State.LIVE for name in STRATEGIES):
        if time.monotonic() > deadline:
            raise SystemExit(f"The strategies did not begin: {trader.healthy()}")
        time.sleep(0.2)


def _free_ports() -> Iterator[int]:
    return (port for port in count(27090, 7) if is_free(port))


def _megabytes(pid: int) -> float:
    """What a process holds of the machine's memory."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0  # it has just ended
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def tell(soak: Soak, console: Console) -> int:
    """The verdict: 1 when anything was wrong."""
    own, children = soak.growth()
    wrong = list(soak.wrong)
    wrong += [
        f"the {what} grew by {grown:.1f} MB" for what, grown in (("trader", own), ("children", children)) if grown > MOST_GROWTH
    ]
    for each in wrong:
        console.print(f"[red]{each}")
    console.print("[red]NOT WELL" if wrong else "[green]well: nothing leaked, ended, or was a cent off")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
