"""A real simulator process: start it, talk to its three ports, stop it or kill it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from free_ports import free_ports
from simulator.spec import judge

TOKEN = "a-token-that-must-stay-out-of-the-log"
ACCOUNT = "101-004-1435156-001"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TIMEOUT = (3.05, 30)
PORTS = ("simulator_port", "simulator_stream_port", "simulator_admin_port")


@dataclass(frozen=True)
class Running:
    """A simulator process: where it listens, what it has printed so far, and the process itself."""

    url: str
    stream_url: str
    admin_url: str
    banner: str
    process: subprocess.Popen[str]

    def stop(self) -> tuple[int, str]:
        """End it as a supervisor would; the exit code, and all that it printed after the banner."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output

    def kill(self) -> None:
        """End it without a word, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for_end(self) -> int:
        """Wait for it to end by itself; the exit code."""
        self.process.communicate(timeout=30)
        return self.process.returncode

    # --- As a client -----------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """A request to the REST side; `path` begins after /v3. An answer that is not as published raises Wrong."""
        sent = {"headers": HEADERS, "timeout": TIMEOUT, "hooks": {"response": judge}} | options
        return requests.request(method, f"{self.url}/v3{path}", json=body, **sent)

    def account(self, method: str, path: str = "", body: Any = None, **options: Any) -> requests.Response:
        """A request about the account."""
        return self.ask(method, f"/accounts/{ACCOUNT}{path}", body, **options)

    def buy(self, units: int = 100, instrument: str = "EUR_USD", **more: Any) -> requests.Response:
        """A market order."""
        order = {"type": "MARKET", "instrument": instrument, "units": str(units)} | more.pop("order", {})
        return self.account("POST", "/orders", {"order": order}, **more)

    @contextmanager
    def stream(self, what: str = "transactions", **query: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """The messages of a stream. For prices, `instruments` says which."""
        headers = HEADERS | query.pop("headers", {})
        url = f"{self.stream_url}/v3/accounts/{ACCOUNT}/{what}/stream"
        with requests.get(url, query, headers=headers, timeout=TIMEOUT, stream=True) as response:
            assert response.status_code == 200, response.text
            yield (json.loads(line) for line in response.iter_lines(chunk_size=1))

    # --- As its administrator --------------------------------------------------------------------------------------------

    def admin(self, method: str, path: str, body: Any = None, *, status: int | None = None, **options: Any) -> Any:
        """A request to the admin port; the JSON of its answer."""
        if method == "POST" and body is None:
            body = {}
        response = requests.request(method, f"{self.admin_url}{path}", json=body, timeout=(3.05, 120), **options)
        assert response.status_code == (status or (201 if response.status_code == 201 else 200)), response.text
        return response.json()

    def fault(self, action: dict[str, Any] | str, **match: Any) -> str:
        """Set a fault, for all requests unless `match` says which; its number."""
        action = {"do": action} if isinstance(action, str) else action
        return str(self.admin("POST", "/faults", {"match": match, "action": action})["fault"]["id"])

    def deed(self, do: str, **more: Any) -> Any:
        """A deed that is done at once."""
        return self.admin("POST", "/faults", {"action": {"do": do, **more}})

    def hits(self, fault: str) -> int:
        return int(self.admin("GET", f"/faults/{fault}")["fault"]["hits"])

    def price(self, bid: str, ask: str, instrument: str = "EUR_USD") -> None:
        """A scripted price."""
        self.admin("POST", "/price", {"instrument": instrument, "bid": bid, "ask": ask})

    def step(self, seconds: float) -> None:
        self.admin("POST", "/clock/step", {"seconds": seconds})

    def journal(self, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin("GET", "/journal", params=query)["entries"]
        return found


def scripted_settings(folder: Path, **options: object) -> dict[str, object]:
    """Settings of a simulator that moves only when it is told to, and lets nobody wait: no limits, and quick heartbeats."""
    config = folder / "config.yaml"
    limits = {"requests_per_second": 100_000, "streams_per_second": 1000, "heartbeat_seconds": 0.2, "price_window_seconds": 0.02}
    owner = {"name": "owner", "tokens": [{"token_secret": "simulator_token"}], "accounts": [{"id": ACCOUNT}]}
    config.write_text(json.dumps({"users": [owner], "options": limits | options}))
    clock = {"simulator_source": "scripted", "simulator_clock": "step", "simulator_start": "2024-05-14T10:00:00Z"}
    return {"simulator_config": config, **clock}


def start_process(home: Path, **variables: object) -> Running:
    """`mbats simulator` with this home; keyword arguments are MBATS_ variables in lower case, None is left out."""
    settings: dict[str, object] = {"simulator_token": TOKEN, **dict(zip(PORTS, free_ports(), strict=False))} | variables
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MBATS_")}
    environment |= {f"MBATS_{key.upper()}": str(value) for key, value in settings.items() if value is not None}
    environment["MBATS_HOME"] = str(home)
    command = [sys.executable, "-m", "mbats.cli", "simulator"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    banner = _banner(process)
    urls = re.findall(r"http://\S+?:\d+", banner)
    return Running(*(urls if len(urls) == 3 else ["", "", ""]), banner, process)


def _banner(process: subprocess.Popen[str], timeout: float = 60.0) -> str:
    """What it prints until it serves: two lines; or until it ends."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], timeout)[0]:
        raise TimeoutError("the simulator printed nothing")
    return process.stdout.readline() + process.stdout.readline()
