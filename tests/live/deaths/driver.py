"""A trader that may be killed at any line: a process with a real owner and a real journal, and strategies that play a script.

    python driver.py 5          the number of a socket that it inherits

This process has everything imported and forks one trader for each life that it is told of, so that a life takes a tenth of a
second and not two. It has one thread and one trader at a time. Each message to it is the JSON of a `Life`, with a socket by
which that trader is spoken to, or "reap": then it waits until the last trader is gone.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
if str(HERE.parents[1]) not in sys.path:
    sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402
from live.deaths.player import Player  # noqa: E402
from live.deaths.script import PAIRS, Death, Script, make_script  # noqa: E402
from pydantic import SecretStr  # noqa: E402

import mbats  # noqa: E402
from mbats.live.deployment import Deployment  # noqa: E402
from mbats.live.gate import Mode  # noqa: E402
from mbats.live.journal import IntentState, Journal  # noqa: E402
from mbats.live.market.clock import BrokerTimeClock  # noqa: E402
from mbats.live.market.quotes import QuoteBoard  # noqa: E402
from mbats.live.owner import Owner, OwnerOptions, guard  # noqa: E402
from mbats.market import Bars, Granularity  # noqa: E402
from mbats.oanda import account_client, streams  # noqa: E402
from mbats.oanda.backoff import Backoff  # noqa: E402
from mbats.oanda.client import OandaClient  # noqa: E402
from mbats.oanda.reads import Reads  # noqa: E402

START = datetime(2024, 5, 14, 10, tzinfo=UTC)
LIMITS = {
    "max_repeats": 1000,
    "order_burst": 40,
    "orders_per_second": 20,
    "max_open_trades": 1000,
    "price_collar": "0.2",
    "pending_collar": "0.5",
    "entry_bound": "0.05",
    "exit_bound": "0.2",
    "max_daily_loss": "0.5",
    "max_drawdown": "0.9",
    "max_loss_streak": 1000,
    "max_margin": "0.9",
}


@dataclass(frozen=True, slots=True)
class Life:
    """One start of the trader. `death` is the number of the step whose death it carries in itself, if it does."""

    seed: int
    number: int
    journal: str
    log: str
    url: str
    stream_url: str
    token: str
    account: str
    death: int | None = None


class Nobody:
    """Where people would be told."""

    def send(self, level: str, title: str, text: str) -> None:
        logging.getLogger("notices").warning("%s: %s: %s", level, title, text)


class Killer:
    """Ends this process as `kill -9` does when it has come to a line or a point of our code."""

    def __init__(self, death: Death) -> None:
        self.armed = death.starting
        self._left = death.count
        self._lines = death.how == "line"
        self._name, self._leaving = death.point[:-1], death.point.endswith("<")
        self._ours = str(Path(mbats.__file__).parent)

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        """For `threading.settrace`: as a function is entered."""
        code = frame.f_code
        if not code.co_filename.startswith(self._ours) or not ("/live/" in code.co_filename or "/oanda/" in code.co_filename):
            return None
        if self._lines:
            return self._line
        if code.co_name != self._name:
            return None
        if not self._leaving:
            self._passed()
            return None
        return self._left_function

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self._passed()
        return self._line

    def _left_function(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "return":
            self._passed()
        return self._left_function

    def _passed(self) -> None:
        if self.armed:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Trader:
    """A trader with its strategies, in a process of its own."""

    def __init__(self, life: Life, channel: socket.socket) -> None:
        self.life = life
        self.script: Script = make_script(life.seed)
        self.channel = channel
        death = None if life.death is None else self.script.steps[life.death].death
        self.killer = Killer(death) if death is not None and death.how in ("line", "point") else None
        self.journal = Journal.open(Path(life.journal))
        client = OandaClient(
            life.url,
            SecretStr(life.token),
            stream_url=life.stream_url,
            requests_per_second=1000,
            connections_per_second=100,
            timeout=(1.0, 1.0),
            first_pause=0.03,
            longest_pause=0.2,
        )
        self.clock = BrokerTimeClock(START)
        self.owner = Owner(
            client=client,
            account_id=life.account,
            name="paper",
            vendor="simulator",
            mode=Mode.PAPER,
            journal=self.journal,
            quotes=QuoteBoard,
            clock=self.clock,
            notify=Nobody(),
            options=OwnerOptions(
                tick=0.02,
                settle_after=0.5,
                catch_up_after=0.08,
                poll_while_down=0.2,
                reconcile_every=0.7,
                retry_after=0.1,
                signal_lives=timedelta(seconds=self.script.signal_lives),
            ),
            silence=1.0,
        )
        self.players: dict[str, Player] = {}

    def begin(self) -> None:
        """Start to trade, as after a restart of the machine."""
        if self.killer is not None:
            threading.settrace(self.killer.trace)
        self.owner.start()
        if not self.owner.ready.wait(30) or self.owner.failed is not None:
            raise RuntimeError(f"The owner did not become ready: {self.owner.failed or self.owner.state()}")
        for symbol in self.script.symbols:
            self.owner.quotes.observe_history(symbol, Granularity.M1, _history(symbol))
        for name in self.script.deployments:
            session = f"{self.life.number}-{name}"
            player = self.players[name] = Player(name, session, self.owner)
            deployment = Deployment(
                name, "deaths", "", {}, self.script.symbols, "M1", "paper", Mode.PAPER, LIMITS, START, "test", "1"
            )
            player.begin(self.owner.open_session(deployment, session, player.hear, timeout=30))

    def serve(self) -> None:
        """Do as told until killed."""
        self.tell({"ready": self.life.number})
        for line in self.channel.makefile("r"):
            command = json.loads(line)
            match command["do"]:
                case "bar":
                    self.bar(command["step"], datetime.fromisoformat(command["at"]), again=command["again"])
                    self.tell({"bar": command["step"]})
                case "look":
                    self.tell(self.look())
                case "stop":
                    stopped = self.owner.stop()
                    self.journal.close()
                    self.tell({"stopped": stopped})
                    return

    def bar(self, number: int, at: datetime, *, again: bool) -> None:
        """A bar has closed at this time: every strategy decides on it."""
        deadline = time.monotonic() + 0.4
        while self.clock.now() < at and time.monotonic() < deadline:
            time.sleep(0.005)
        if self.killer is not None and number == self.life.death and not again:
            self.killer.armed = True
        for wish in self.script.steps[number].wishes:
            if wish.do == "release":
                with Path(self.life.journal).with_name("released").open("a") as file:
                    file.write(f"{wish.deployment}\n")
            self.players[wish.deployment].want(wish, at - timedelta(minutes=1))

    def look(self) -> dict[str, Any]:
        """Whether anything is left to do, asked in the owner's own thread; and what went wrong in this life."""
        return dict(self.owner._ask(partial(_look, self.owner), 20.0)) | {
            "complaints": [each for player in self.players.values() for each in player.complaints],
            "held": {
                f"{name} {symbol}": str(units)
                for name, player in self.players.items()
                for symbol, units in player.held.items()
                if units
            },
        }

    def tell(self, message: dict[str, Any]) -> None:
        self.channel.sendall(json.dumps(message).encode() + b"\n")


def _look(owner: Owner) -> dict[str, Any]:
    account, orders, keeper = owner._account, owner._orders, owner._guard
    states = [str(row.state) for row in account.rows.values() if row.state is not IntentState.WORKING]
    busy = {
        "not live": not owner._link.is_live,
        "not known": not account.known,
        "intents": states,
        "in flight": owner._calls.in_flight,
        "deferred": len(orders.deferred),
        "exits": len(orders.exits.netted) + len(orders.exits.again),
        "looked for": len(orders.requests.settle_at) + len(orders.requests.retry_at),
        "cancelling": len(orders.requests.cancelling),
        "dirty": sorted(keeper.dirty),
        "naked": sorted(keeper.naked_since),
    }
    return {
        "busy": {key: value for key, value in busy.items() if value},
        "last": account.books.last_id,
        "crashes": owner._figures.crashes,
        "gate": str(account.gate.state.everything.state),
        "positions": {f"{name} {symbol}": str(units) for (name, symbol), units in account.books.positions().items() if units},
    }


def _history(symbol: str) -> Bars:
    """Bars before the present: what spread is usual."""
    mid, pip, digits, spread = PAIRS[symbol]
    count = 60
    times = np.datetime64("2024-05-14T09:00", "us") + np.arange(count) * np.timedelta64(60, "s")
    bid = np.full(count, round(mid, digits))
    ask = np.full(count, round(mid + spread * pip, digits))
    return Bars(times, bid, bid, bid, bid, ask, ask, ask, ask, np.full(count, 10))


def quicken() -> None:
    """Shorten the waits that a run has no time for; nothing else of the trader is changed."""
    streams.Backoff = partial(Backoff, first=0.05, longest=0.2)  # type: ignore[misc, assignment]
    account_client.Reads = partial(Reads, first_pause=0.03, longest_pause=0.2)  # type: ignore[misc, assignment]
    guard.RETRY = 0.4
    guard.NAKED_FOR = 2.0


def run(life: Life, channel: socket.socket) -> None:
    """A trader's whole life; it ends with the process."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: none outlives who forked it
    logging.basicConfig(
        filename=life.log, level=logging.INFO, format=f"%(asctime)s {life.number} %(name)s %(message)s", force=True
    )
    trader = Trader(life, channel)
    try:
        trader.begin()
        trader.serve()
    except Exception:
        trader.tell({"broken": traceback.format_exc()})


def main() -> None:
    """Fork one trader after another."""
    quicken()
    nest = socket.socket(fileno=int(sys.argv[1]))
    child = 0
    while True:
        data, received, _, _ = socket.recv_fds(nest, 65536, 1)
        if not data:
            break
        message = json.loads(data)
        if message == "reap":
            nest.send(json.dumps(os.waitpid(child, 0)[1]).encode())
            continue
        child = os.fork()
        if child == 0:
            nest.close()
            try:
                run(Life(**message), socket.socket(fileno=received[0]))
            finally:
                os._exit(0)
        os.close(received[0])
        nest.send(json.dumps(child).encode())


if __name__ == "__main__":
    main()
