"""The exchange under the load that OANDA allows: 20 streams and 100 requests a second, against a real process.

`.venv/bin/python benchmarks/simulator_streams.py`, ten minutes; `--seconds 60` for less. Every message of every stream is
checked: transactions against the account's own history, prices against the market itself. Ends with 1 when one was lost,
reordered or altered, or a request was not answered as it should be. Needs no service. Latencies count from when a
request was due.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from mbats.market import MAJORS
from mbats.platform.ports import is_free
from mbats.simulator.sample import SampleMarket

SEED = 20050103
START = "2024-05-14T10:00:00Z"  # an ordinary Tuesday: the clock begins there and goes as fast as any other
ACCOUNT = "101-004-1435156-001"
RATE = 100  # requests a second
STOOD = 2.0  # seconds; a price that was the last one for so long, and was not sent, is lost
PAUSE = 0.55  # seconds between two new streams: two a second are allowed


@dataclass
class Found:
    """What came over one stream, in the order in which it came."""

    kind: str
    lines: list[tuple[int, bytes]] = field(default_factory=list)  # of transactions: id and digest
    prices: dict[str, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))  # time, bid, ask in points
    opened: float = 0.0
    beats: int = 0
    ended: str = ""


@dataclass
class Load:
    """What was sent, how it was answered, and how long that took."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: Counter[str] = field(default_factory=Counter)
    due_at: dict[int, float] = field(default_factory=dict)  # of an order by its transaction: when it was due
    told_at: dict[int, float] = field(default_factory=dict)  # of a transaction: when the last stream had it
    pending: list[str] = field(default_factory=list)


# --- The process -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def simulator(token: str) -> Iterator[tuple[list[str], int]]:
    """A simulator in a folder of its own: the addresses of its three ports, and its process id.

    Streams are limited as OANDA's are. Requests are not: what comes late after a pause of the machine would be refused.
    """
    ports = free_ports()
    with tempfile.TemporaryDirectory() as home:
        config = Path(home) / "config.yaml"
        owner = {"name": "owner", "tokens": [{"token_secret": "simulator_token"}], "accounts": [{"id": ACCOUNT}]}
        config.write_bytes(orjson.dumps({"users": [owner], "options": {"requests_per_second": 100_000}}))  # JSON is YAML
        variables = {
            "home": home,
            "simulator_config": config,
            "simulator_token": token,
            "simulator_port": ports[0],
            "simulator_stream_port": ports[1],
            "simulator_admin_port": ports[2],
            "simulator_seed": SEED,
            "simulator_clock": "accelerated",
            "simulator_speed": 1,
            "simulator_start": START,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MBATS_")}
        environment |= {f"MBATS_{key.upper()}": str(value) for key, value in variables.items()}
        command = [sys.executable, "-m", "mbats.cli", "simulator"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        try:
            banner = process.stdout.readline() + process.stdout.readline()
            urls = re.findall(r"http://\S+?:\d+", banner)
            if len(urls) != 3:
                raise SystemExit(f"The simulator did not start: {banner}")
            yield urls, process.pid
        finally:
            process.terminate()
            process.communicate(timeout=30)


def free_ports() -> list[int]:
    first = random.randrange(15_000, 19_000)
    return [port for port in range(first, first + 100) if is_free(port)][:3]


def memory(process: int) -> int:
    """What the process has in memory, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def work(process: int) -> float:
    """Seconds for which the process has had a processor."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Pauses:
    """How long this machine let nobody here run: a thread that wants to wake every 10 ms, and when it did."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Pauses:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.perf_counter()
        while not self._over.wait(0.01):
            now = time.perf_counter()
            self.longest, before = max(self.longest, now - before - 0.01), now


# --- Clients ---------------------------------------------------------------------------------------------------------------


async def read_stream(session: aiohttp.ClientSession, url: str, found: Found, load: Load, stop: asyncio.Event) -> None:
    """Keep what a stream brings until told to stop."""
    try:
        async with session.get(url) as response:
            if response.status != 200:
                found.ended = f"{response.status} {await response.text()}"
                return
            found.opened = time.perf_counter()
            async for line in lines_until(response, stop):
                take(orjson.loads(line), line, found, load)
    except aiohttp.ClientError as error:
        found.ended = repr(error)


async def lines_until(response: aiohttp.ClientResponse, stop: asyncio.Event) -> AsyncIterator[bytes]:
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        reading = asyncio.ensure_future(response.content.readline())
        await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            reading.cancel()
            return
        if not (line := reading.result()):
            raise aiohttp.ClientPayloadError("the stream ended")
        yield line.rstrip(b"\n")


def take(message: dict[str, Any], line: bytes, found: Found, load: Load) -> None:
    if message["type"] == "HEARTBEAT":
        found.beats += 1
    elif message["type"] == "PRICE":
        bid, ask = (int(message[side].replace(".", "")) for side in ("closeoutBid", "closeoutAsk"))
        moment = int(np.datetime64(message["time"][:26], "us").astype(np.int64))
        found.prices[message["instrument"]].append((moment, bid, ask))
    else:
        number = int(message["id"])
        found.lines.append((number, hashlib.sha256(line).digest()))
        load.told_at[number] = time.perf_counter()


async def send_requests(session: aiohttp.ClientSession, load: Load, seconds: float) -> None:
    """So many requests a second, each when it is due whether or not those before it are answered."""
    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()
    for number in range(round(seconds * RATE)):
        due = began + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(send(session, load, number, due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def send(session: aiohttp.ClientSession, load: Load, number: int, due: float) -> None:
    name, method, path, body, status = what(load, number)
    try:
        async with session.request(method, f"/v3/accounts/{ACCOUNT}{path}", json=body) as response:
            said = orjson.loads(await response.read())
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        load.wrong[f"{name}: {error!r}"] += 1
        return
    load.seconds[name].append(time.perf_counter() - due)
    if response.status != status:
        load.wrong[f"{name}: {response.status} {said.get('errorMessage', '')}"] += 1
    elif "orderCreateTransaction" in said:
        created = said["orderCreateTransaction"]["id"]
        load.due_at[int(created)] = due
        if name == "limit order":
            load.pending.append(created)


def what(load: Load, number: int) -> tuple[str, str, str, Any, int]:
    """The next request: name, method, path, body, and the status with which it should be answered."""
    kind = number % 10
    pair = MAJORS[number // 10 % len(MAJORS)]
    if kind in (0, 5):
        units = "100" if kind == 0 else "-100"
        order = {"type": "MARKET", "instrument": pair, "units": units}
        return "market order", "POST", "/orders", {"order": order}, 201
    if kind == 2:
        price = "50.000" if pair == "USD_JPY" else "0.20000"
        order = {"type": "LIMIT", "instrument": pair, "units": "100", "price": price, "timeInForce": "GTC"}
        return "limit order", "POST", "/orders", {"order": order}, 201
    if kind == 7 and load.pending:
        return "cancellation", "PUT", f"/orders/{load.pending.pop(0)}/cancel", None, 200
    reads = (
        ("prices", f"/pricing?instruments={','.join(MAJORS)}"),
        ("summary", "/summary"),
        ("candles", f"/instruments/{pair}/candles?granularity=M1&count=10&price=BA"),
        ("open trades", "/openTrades"),
        ("positions", "/openPositions"),
    )
    name, path = reads[number // 2 % len(reads)]
    return name, "GET", path, None, 200


# --- What should have come ---------------------------------------------------------------------------------------------------


async def history(session: aiohttp.ClientSession, last: int) -> dict[int, bytes]:
    """The digest of every transaction, by its id, as REST has them."""
    known: dict[int, bytes] = {}
    for first in range(1, last + 1, 500):
        path = f"/v3/accounts/{ACCOUNT}/transactions/idrange?from={first}&to={min(first + 499, last)}"
        async with session.get(path) as response:
            body = orjson.loads(await response.read())
        known |= {int(each["id"]): hashlib.sha256(orjson.dumps(each)).digest() for each in body["transactions"]}
        await asyncio.sleep(0.02)
    return known


def check_transactions(found: Found, known: dict[int, bytes]) -> list[str]:
    """What is wrong with the transactions of one stream, which began with the first of the load and ends with the last."""
    numbers = [number for number, _ in found.lines]
    if not numbers:
        return ["no transaction came"]
    wanted = list(range(numbers[0], max(known) + 1))
    wrong = []
    if lost := set(wanted) - set(numbers):
        wrong.append(f"{len(lost)} transactions lost, the first is {min(lost)}")
    if len(numbers) != len(set(numbers)):
        wrong.append(f"{len(numbers) - len(set(numbers))} transactions came twice")
    if numbers != sorted(numbers):
        wrong.append("transactions came in another order")
    if altered := [number for number, digest in found.lines if known.get(number) != digest]:
        wrong.append(f"{len(altered)} transactions differ from REST's, the first is {altered[0]}")
    return wrong


def check_prices(found: Found, market: SampleMarket, stood: float) -> list[str]:
    """What is wrong with the prices of one stream: each must be one of the market's, and none that stood may be missing."""
    wrong = []
    for name, prices in found.prices.items():
        times = np.array([time for time, _, _ in prices])
        if (np.diff(times) <= 0).any():
            wrong.append(f"prices of {name} came in another order")
            continue
        start, end = (np.datetime64(int(edge), "us") for edge in (times[0], times[-1] + 1))
        ticks = market.ticks(name, start, end)
        true = {
            row[0]: row for row in zip(ticks.time.astype(np.int64).tolist(), ticks.bid.tolist(), ticks.ask.tolist(), strict=True)
        }
        if any(true.get(price[0]) != price for price in prices):
            wrong.append(f"prices of {name} came that the market never had")
        all_times = np.array(sorted(true))
        if lost := np.setdiff1d(all_times[:-1][np.diff(all_times) > stood * 1e6], times).tolist():
            wrong.append(f"{len(lost)} prices of {name} lost")
    return wrong or ([] if found.prices else ["no price came"])


async def measure(token: str, urls: list[str], streams: int, seconds: float) -> tuple[list[Found], Load, dict[int, bytes]]:
    rest, stream, _ = urls
    headers = {"Authorization": f"Bearer {token}"}
    stop, load = asyncio.Event(), Load()
    found = [Found("pricing" if number % 2 else "transactions") for number in range(streams)]
    patient = aiohttp.ClientTimeout(total=None, sock_read=30)
    async with (
        aiohttp.ClientSession(stream, headers=headers, timeout=patient, connector=aiohttp.TCPConnector(limit=0)) as streaming,
        aiohttp.ClientSession(rest, headers=headers, timeout=aiohttp.ClientTimeout(total=30)) as asking,
    ):
        readers = []
        for each in found:
            query = f"?instruments={','.join(MAJORS)}" if each.kind == "pricing" else ""
            path = f"/v3/accounts/{ACCOUNT}/{each.kind}/stream{query}"
            readers.append(asyncio.create_task(read_stream(streaming, path, each, load, stop)))
            await asyncio.sleep(PAUSE)
        await send_requests(asking, load, seconds)
        await asyncio.sleep(1.0)  # for what is still on its way
        async with asking.get(f"/v3/accounts/{ACCOUNT}/summary") as response:
            last = int(orjson.loads(await response.read())["lastTransactionID"])
        stop.set()
        await asyncio.gather(*readers)
        known = await history(asking, last)
    return found, load, known


@dataclass
class Machine:
    """What the load cost: memory before and after (MB), seconds of a processor, and the longest pause of everything."""

    before: int
    after: int
    work: float
    pause: float


def report(found: list[Found], load: Load, known: dict[int, bytes], seconds: float, machine: Machine) -> bool:
    """Print what was measured; whether nothing was wrong."""
    market = SampleMarket(SEED)
    wrong = [f"{count} times {what}" for what, count in load.wrong.items()]
    for number, each in enumerate(found):
        problems = [each.ended] if each.ended else []
        problems += (
            check_prices(each, market, STOOD + machine.pause) if each.kind == "pricing" else check_transactions(each, known)
        )
        wrong += [f"stream {number} ({each.kind}): {problem}" for problem in problems]
    latencies = Table("request", "number", "p50 ms", "p99 ms", "longest ms")
    everything = [took for each in load.seconds.values() for took in each]
    told = [load.told_at[number] - due for number, due in load.due_at.items() if number in load.told_at]
    for name, took in [*sorted(load.seconds.items()), ("all", everything), ("order until on every stream", told)]:
        if took:
            p50, p99, longest = (1000 * float(each) for each in (*np.percentile(took, (50, 99)), max(took)))
            latencies.add_row(name, f"{len(took):,}", f"{p50:.1f}", f"{p99:.1f}", f"{longest:.1f}")
    console = Console(width=110)
    console.print(latencies)
    prices = sum(len(prices) for each in found for prices in each.prices.values())
    lines = sum(len(each.lines) for each in found)
    beats = sum(each.beats for each in found)
    console.print(
        f"{len(everything) / seconds:.1f} requests a second for {seconds:g} s over {len(found)} streams: {lines:,} transactions, "
        f"{prices:,} prices and {beats:,} heartbeats came. The simulator took {100 * machine.work / seconds:.0f} % of a "
        f"processor and {machine.before} MB, at the end {machine.after} MB; the machine's own longest pause was "
        f"{1000 * machine.pause:.0f} ms."
    )
    for each in wrong or ["Nothing was lost, reordered or altered."]:
        console.print(each)
    return not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to send requests")
    parser.add_argument("--streams", type=int, default=20, help="half of them of prices, half of transactions")
    asked = parser.parse_args()
    token = secrets.token_hex(16)
    with simulator(token) as (urls, process):
        before, worked = memory(process), work(process)
        with Pauses() as pauses:
            found, load, known = asyncio.run(measure(token, urls, asked.streams, asked.seconds))
        machine = Machine(before, memory(process), work(process) - worked, pauses.longest)
    return 0 if report(found, load, known, asked.seconds, machine) else 1


if __name__ == "__main__":
    sys.exit(main())
