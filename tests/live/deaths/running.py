"""Plays scripts: one exchange process and one process that forks traders, for one run after another.

    with Theatre(folder) as theatre:
        result = theatre.play(7)

A trader that is killed is started again over the same journal. When the script is over the faults are taken away, everything is
given time to settle, the trader is killed once more, and its journal is held to the exchange.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
from free_ports import free_ports
from live.deaths.checking import Findings, check
from live.deaths.driver import Life
from live.deaths.script import PAIRS, Script, Step, make_script
from simulator.running import ACCOUNT, HEADERS, PORTS, TOKEN, Running, scripted_settings, start_process

DRIVER = Path(__file__).with_name("driver.py")
SETTLED_WITHIN = 30.0
DYING = 0.5  # seconds until a death that its trader carries in itself, and that has not come, comes from outside


@dataclass
class Result:
    """What came of one run. `faults` are those that struck, by what they do."""

    seed: int
    kills: int = 0
    lives: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    fills: int = 0
    stopped_out: int = 0
    findings: Findings = field(default_factory=Findings)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Remains:
    """What a run was judged by."""

    journal: Path
    details: dict[str, Any]
    log: list[dict[str, Any]]
    released: frozenset[str]


class Gone(Exception):
    """The trader's process has ended."""


class Trader:
    """One life of a trader, from outside."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._kept = b""
        self._ready = False

    def say(self, **command: Any) -> None:
        """Tell it something; nothing happens when it is dead."""
        with suppress(OSError):  # whoever waits for its answer finds that it is gone
            self._channel.sendall(json.dumps(command).encode() + b"\n")

    def hear(self, timeout: float) -> dict[str, Any] | None:
        """What it says next, None when it says nothing for so long. Raises Gone when it is dead."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._kept:
            rest = deadline - time.monotonic()
            if rest <= 0:
                return None
            self._channel.settimeout(rest)
            try:
                data = self._channel.recv(65536)
            except TimeoutError:
                return None
            except OSError as error:
                raise Gone from error
            if not data:
                raise Gone
            self._kept += data
        line, self._kept = self._kept.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "broken" in message:
            raise RuntimeError(message["broken"])
        self._ready = self._ready or "ready" in message
        return message

    def hear_of(self, key: str, timeout: float) -> dict[str, Any] | None:
        """The next message that has this key; others are passed over."""
        deadline = time.monotonic() + timeout
        while (message := self.hear(max(0.0, deadline - time.monotonic()))) is not None:
            if key in message:
                return message
        return None

    def is_ready(self, timeout: float) -> bool:
        """Whether it trades, now or within so many seconds. Raises Gone when it is dead."""
        return self._ready or self.hear_of("ready", timeout) is not None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)  # not reaped before somebody asks, so the number is nobody else's

    def close(self) -> None:
        self._channel.close()


class Theatre:
    """See the module. Not to be shared between threads; several may play at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._ports = dict(zip(PORTS, free_ports(), strict=False))
        settings = scripted_settings(folder, heartbeat_seconds=0.1)
        self._settings: dict[str, object] = {**settings, **self._ports}
        self.exchange: Running = start_process(folder, **self._settings)
        self._session = requests.Session()
        self._nest, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, str(DRIVER), str(theirs.fileno())]
        self._nursery = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self._alive: Trader | None = None
        self.exchanges_died = 0
        self.remains: Remains | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._alive is not None:
            self._alive.kill()
        self._nest.close()
        self._nursery.wait(10)
        self.exchange.kill()
        self._session.close()

    # --- The exchange -----------------------------------------------------------------------------------------------------

    def _admin(self, method: str, path: str, body: Any = None) -> Any:
        """A request to the exchange's administrator."""
        body = {} if body is None and method == "POST" else body
        return self._ask(lambda: self._session.request(method, f"{self.exchange.admin_url}{path}", json=body, timeout=(3, 60)))

    def _read(self, path: str) -> Any:
        """What the exchange says of the account, by a client of its own."""
        url = f"{self.exchange.url}/v3/accounts/{ACCOUNT}{path}"
        return self._ask(lambda: self._session.get(url, headers=HEADERS, timeout=(3, 60)))

    def _ask(self, ask: Callable[[], requests.Response]) -> Any:
        """The JSON of an answer, from an exchange that is started again when it is dead."""
        deadline = time.monotonic() + 20.0
        while True:
            try:
                response = ask()
                break
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if not self._revive(0.3) and time.monotonic() > deadline:  # it may only refuse connections for a while
                    raise
        assert response.status_code in (200, 201), f"{response.url}: {response.text}"
        return response.json()

    def _revive(self, wait: float) -> bool:
        """Start the exchange again if it has ended, or does within `wait` seconds; it keeps its log."""
        try:
            self.exchange.process.wait(wait)
        except subprocess.TimeoutExpired:
            return False
        self.exchange.kill()
        self._session.close()
        self.exchange = start_process(self.folder, **self._settings)
        self.exchanges_died += 1
        return True

    def _price(self, symbol: str, pips: int) -> None:
        mid, pip, digits, spread = PAIRS[symbol]
        bid = round(mid + pips * pip, digits)
        ask = round(bid + spread * pip, digits)
        body = {"instrument": symbol, "bid": f"{bid:.{digits}f}", "ask": f"{ask:.{digits}f}"}
        self._admin("POST", "/price", body)

    def _move(self, moves: dict[str, int], seconds: float) -> None:
        """Time passes, and prices are elsewhere then."""
        self._admin("POST", "/clock/step", {"seconds": seconds - 1})
        for symbol, pips in moves.items():
            self._price(symbol, pips)
        self._admin("POST", "/clock/step", {"seconds": 1})

    def _clear_faults(self, result: Result) -> None:
        for fault in self._admin("DELETE", "/faults")["faults"]:
            if fault["hits"]:
                result.faults[fault["action"]["do"]] += fault["hits"]

    # --- The trader -------------------------------------------------------------------------------------------------------

    def _start(self, script: Script, result: Result, home: Path, step: int, *, again: bool = False) -> Trader:
        """Another life, from this step on. If its death is one that it carries in itself, it knows so from the start."""
        result.lives += 1
        number = next((each for each in range(step, len(script.steps)) if script.steps[each].death is not None), None)
        death = None if number is None else script.steps[number].death
        inside = death is not None and death.how in ("line", "point") and (not death.starting or (number == step and not again))
        life = Life(
            script.seed,
            result.lives,
            str(home / "journal.sqlite"),
            str(home / "trader.log"),
            self.exchange.url,
            self.exchange.stream_url,
            TOKEN,
            ACCOUNT,
            number if inside else None,
        )
        ours, theirs = socket.socketpair()
        socket.send_fds(self._nest, [json.dumps(asdict(life)).encode()], [theirs.fileno()])
        theirs.close()
        self._alive = Trader(json.loads(self._nest.recv(100)), ours)
        return self._alive

    def _end(self, *, kill: bool = True) -> None:
        """The trader is no more: nothing of it runs, and its journal may be opened."""
        trader = self._alive
        if trader is None:
            return
        if kill:
            trader.kill()
        self._nest.send(b'"reap"')
        self._nest.recv(100)
        trader.close()
        self._alive = None

    # --- A run ------------------------------------------------------------------------------------------------------------

    def play(self, seed: int, *, keep: bool = False) -> Result:
        """One run. What is wrong at its end is in the result's findings; raises when it could not be played.

        Its files are kept when anything is wrong, or when that is asked for.
        """
        began = time.monotonic()
        script, result = make_script(seed), Result(seed)
        self.exchanges_died = 0
        home = self.folder / f"run{seed}"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        self._admin("DELETE", "/faults")
        self._admin("DELETE", "/journal")
        self._admin("POST", "/reset")
        self._move(dict.fromkeys(script.symbols, 0), 2)
        if script.strips:
            self._admin("POST", "/strip_on_fill", {"on": True})
        for number, step in enumerate(script.steps):
            self._step(script, number, step, result, home)
        self._clear_faults(result)
        self._admin("POST", "/strip_on_fill", {"on": False})
        result.faults["strip_on_fill"] += script.strips
        self._settle(script, result, home)
        result.faults["kill"] = self.exchanges_died
        result.seconds = time.monotonic() - began
        if not keep and not result.findings.all():
            shutil.rmtree(home, ignore_errors=True)
        return result

    def _step(self, script: Script, number: int, step: Step, result: Result, home: Path) -> None:
        for fault in step.faults:
            self._admin("POST", "/faults", fault)
        if script.exchange_dies is not None and script.exchange_dies[0] == number:
            self._admin("POST", "/faults", {"action": {"do": "kill", "point": script.exchange_dies[1]}})
        death = step.death
        if death is not None and death.starting:
            self._die(result, "time")  # another is started, which dies of this
        if self._alive is None:
            self._start(script, result, home, number)
        self._move(step.moves, 60)
        at = self._time()
        trader = self._alive
        assert trader is not None
        try:
            if death is None or not death.starting:
                self._wait_until_ready(trader)
                if step.live_first:
                    self._wait(trader, 1.0, "not live")
            trader.say(do="bar", step=number, at=at, again=False)
            if death is None:
                trader.hear_of("bar", 5.0)
                self._rest(step, trader)
                return
            how = self._await_death(step, trader)
            self._end(kill=how != "stop")
        except Gone:
            assert death is not None, f"a trader ended that nobody killed; see {home}"
            how = death.how
            self._end(kill=False)
        result.kills += how != "stop"
        result.deaths[how] += 1
        if step.while_dead is not None:
            self._move(step.while_dead, 5)
        if step.again:
            again = self._start(script, result, home, number + 1, again=True)
            self._wait_until_ready(again)
            again.say(do="bar", step=number, at=at, again=True)
            self._rest(step, again)

    def _wait_until_ready(self, trader: Trader) -> None:
        deadline = time.monotonic() + 20.0
        while not trader.is_ready(0.5):
            self._revive(0.0)
            if time.monotonic() > deadline:
                raise RuntimeError("a trader did not become ready within 20 s")

    def _await_death(self, step: Step, trader: Trader) -> str:
        """How it is to end, when the time for it has come. Raises Gone when it has ended."""
        death = step.death
        assert death is not None
        if death.how in ("line", "point"):
            deadline = time.monotonic() + DYING
            while (rest := deadline - time.monotonic()) > 0:
                trader.hear(rest)
            return "time"
        time.sleep(death.after)
        if death.how == "stop":
            trader.say(do="stop")
            if trader.hear_of("stopped", 20.0) != {"stopped": True}:
                raise RuntimeError("the trader was asked to stop, and did not")
        return death.how

    def _die(self, result: Result, how: str) -> None:
        if self._alive is not None:
            self._end()
            result.kills += 1
            result.deaths[how] += 1

    def _rest(self, step: Step, trader: Trader) -> None:
        """Between two bars."""
        if step.waits:
            self._wait(trader, 0.8)
        else:
            time.sleep(step.pause)

    def _wait(self, trader: Trader, timeout: float, what: str = "") -> None:
        """Until the trader is not busy any more, or not with `what`; at most so many seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            trader.say(do="look")
            said = trader.hear_of("busy", 5.0)
            if said is not None and not (said["busy"].get(what) if what else said["busy"]):
                return
            time.sleep(0.02)

    def _time(self) -> str:
        now = self._admin("GET", "/clock")["time"]
        return f"{now[:19]}+00:00"

    def _settle(self, script: Script, result: Result, home: Path) -> None:
        """Wait until nothing is under way, kill the trader, and compare."""
        trader = self._alive or self._start(script, result, home, len(script.steps))
        said: dict[str, Any] = {}
        quiet, deadline = 0, time.monotonic() + SETTLED_WITHIN
        try:
            while quiet < 2 and time.monotonic() < deadline:
                trader.say(do="look")
                said = trader.hear_of("busy", 30.0) or {"busy": "it does not answer"}
                last = int(self._read("/summary")["lastTransactionID"])
                quiet = quiet + 1 if not said["busy"] and said["last"] == last else 0
                time.sleep(0.03)
        except Gone:
            raise RuntimeError(f"the trader of run {script.seed} ended by itself; see {home}") from None
        self._end()
        log = self._read("/transactions/sinceid?id=1")["transactions"]
        released = frozenset((home / "released").read_text().split()) if (home / "released").exists() else frozenset()
        self.remains = Remains(home / "journal.sqlite", self._read("")["account"], log, released)
        result.findings = check(home / "journal.sqlite", self.remains.details, log, released)
        differences = result.findings.differences
        if quiet < 2:
            differences.append(f"not settled after {SETTLED_WITHIN:g} s: {said}")
        if said.get("crashes"):
            differences.append(f"the owner broke off {said['crashes']} times; see {home}")
        differences += said.get("complaints", ())
        if said.get("held") != said.get("positions"):
            differences.append(f"strategies believe {said.get('held')}, the ledgers {said.get('positions')}")
        result.sent = sum(each["type"] in ("MARKET_ORDER", "LIMIT_ORDER", "STOP_ORDER") for each in log)
        result.fills = sum(each["type"] == "ORDER_FILL" for each in log)
        result.stopped_out = sum(
            each.get("reason") in ("STOP_LOSS_ORDER", "STOP_ORDER", "TRAILING_STOP_LOSS_ORDER") for each in log
        )
