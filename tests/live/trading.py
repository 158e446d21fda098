"""An owner of a real simulated account: the exchange is a process, the journal a file; only the strategy is played."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr
from simulator.running import ACCOUNT, TOKEN, Running

from mbats.live.deployment import Deployment
from mbats.live.gate import Command, CommandKind, Mode
from mbats.live.journal import Journal
from mbats.live.market.clock import BrokerTimeClock
from mbats.live.market.quotes import QuoteBoard
from mbats.live.owner import Owner, OwnerOptions
from mbats.live.wire import Adopt, Exit, Form, OrderEvent, Status, Submit, ToStrategy, Withdraw
from mbats.market import Bars, Granularity
from mbats.oanda.client import OandaClient

NOW = datetime(2024, 5, 14, 10, tzinfo=UTC)
FAST = OwnerOptions(
    tick=0.02,
    settle_after=0.4,
    catch_up_after=0.1,
    poll_while_down=0.3,
    reconcile_every=1.0,
    retry_after=0.2,
    signal_lives=timedelta(minutes=10),
)


@dataclass
class Said:
    """What went to people."""

    notices: list[tuple[str, str, str]] = field(default_factory=list)

    def send(self, level: str, title: str, text: str) -> None:
        self.notices.append((level, title, text))


@dataclass
class Trader:
    """An owner with one strategy on it, played by the test."""

    simulator: Running
    journal_path: Path
    journal: Journal
    owner: Owner
    client: OandaClient
    said: Said
    options: OwnerOptions
    heard: list[ToStrategy] = field(default_factory=list)
    ref: int = 0
    faults: list[str] = field(default_factory=list)

    def deploy(self, name: str = "alpha", symbols: tuple[str, ...] = ("EUR_USD",), session: str = "s1", **limits: Any) -> Adopt:
        wide = {"max_repeats": 1000, "order_burst": 40, "orders_per_second": 20}
        deployment = Deployment(name, "s", "", {}, symbols, "M1", "paper", Mode.PAPER, wide | limits, NOW, "test", "1", extra={})
        adopt = self.owner.open_session(deployment, session, self.heard.append)
        self.settle()
        return adopt

    def submit(self, units: int | str, name: str = "alpha", session: str = "s1", **more: Any) -> int:
        self.ref += 1
        ref = more.pop("ref", self.ref)
        values: dict[str, Any] = {
            "symbol": "EUR_USD",
            "units": Decimal(units),
            "form": Form.MARKET,
            "bar": self.bar(),
        } | more
        self.owner.request(name, session, Submit(ref, **values))
        return ref

    def bracket(self, units: int, stop: str, target: str, **more: Any) -> int:
        self.ref += 1
        ref = self.ref
        self.ref += 2
        exits = {"stop": Exit(ref + 1, Decimal(stop)), "target": Exit(ref + 2, Decimal(target))}
        return self.submit(units, ref=ref, **(exits | more))

    def withdraw(self, ref: int, name: str = "alpha", session: str = "s1") -> None:
        self.owner.request(name, session, Withdraw(ref))

    def bar(self) -> datetime:
        """The start of the bar that has just closed."""
        now = self.owner._clock.now()
        return now.replace(second=0, microsecond=0) - timedelta(minutes=1)

    def events(self, ref: int | None) -> list[OrderEvent]:
        return [each for each in self.heard if isinstance(each, OrderEvent) and each.ref == ref]

    def words(self, ref: int | None) -> list[str]:
        return [str(each.status) for each in self.events(ref)]

    def wait_for(self, what: Callable[[], Any], timeout: float = 15.0) -> Any:
        """What `what` returns as soon as it is true. Raises when it does not become so."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = what()
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"it did not come: {what}; heard {self.heard}; state {self.owner.state()}")

    def ended(self, ref: int, status: Status, timeout: float = 15.0) -> OrderEvent:
        """Wait for an order's end, which must be this one."""
        ends = (Status.COMPLETED, Status.CANCELED, Status.EXPIRED, Status.MARGIN, Status.REJECTED)
        self.wait_for(lambda: [each for each in self.events(ref) if each.status in ends], timeout)
        last = self.events(ref)[-1]
        assert last.status is status, last
        return last

    def settle(self) -> None:
        """Wait until the account is in step and nothing is under way."""

        def quiet() -> bool:
            return self.owner._account.live and not self.owner._calls.in_flight

        self.wait_for(quiet)

    def know(self, symbol: str, bid: float, spread: float) -> None:
        """The owner gets a past of a pair, by which prices are usual."""
        self.owner.quotes.observe_history(symbol, Granularity.M1, history(bid, spread))

    def in_step(self) -> None:
        """Wait until the books are known to be the broker's, whether or not anybody trades."""
        self.wait_for(lambda: self.owner.state().get("step") == "in step")

    def price(self, bid: str, ask: str, instrument: str = "EUR_USD") -> None:
        self.simulator.price(bid, ask, instrument)
        self.simulator.step(1)

    def show(self, bid: str, ask: str, instrument: str = "EUR_USD") -> None:
        """A price comes, and the owner has it: its time tells it from one with the same figures before."""
        now = datetime.fromisoformat(self.exchange_time()[:26] + "+00:00")
        self.price(bid, ask, instrument)
        self.wait_for(lambda: (quote := self.owner.quotes.quote(instrument)) is not None and quote.time >= now)

    def minute(self) -> None:
        """A minute passes, so that the next decision is on another bar."""
        self.simulator.step(60)
        self.show("1.08500", "1.08512")
        wanted = self.exchange_time()[:19]
        self.wait_for(lambda: self.owner._clock.now().isoformat()[:19] >= wanted)

    def exchange_time(self) -> str:
        found: str = self.simulator.admin("GET", "/clock")["time"]
        return found

    def command(self, kind: CommandKind, deployment: str | None = None) -> dict[str, Any]:
        now = self.owner._clock.now()
        return self.owner.command(Command(kind, "test", now, "because", deployment))

    def trades(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.simulator.account("GET", "/openTrades").json()["trades"]
        return found

    def pending(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.simulator.account("GET", "/pendingOrders").json()["orders"]
        return found

    def transactions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.simulator.account("GET", "/transactions/sinceid?id=1").json()["transactions"]
        return found

    def orders_sent(self) -> list[dict[str, Any]]:
        """The orders that the exchange's own journal saw."""
        return [entry for entry in self.simulator.journal(method="POST", path="*/orders") if entry["kind"] == "request"]

    def stop(self) -> None:
        assert self.owner.stop()
        self.journal.close()

    def again(self) -> None:
        """Another life over the same journal."""
        self.journal = Journal.open(self.journal_path)
        self.owner = make_owner(self.client, self.journal, self.said, self.options)
        self.begin()

    def begin(self) -> None:
        """The owner is there, and knows what prices are usual."""
        self.owner.start()
        assert self.owner.ready.wait(20)
        self.owner.quotes.observe_history("EUR_USD", Granularity.M1, history())
        self.owner.quotes.observe_history("GBP_USD", Granularity.M1, history(1.26, 0.00014))


def make_owner(client: OandaClient, journal: Journal, said: Said, options: OwnerOptions) -> Owner:
    return Owner(
        client=client,
        account_id=ACCOUNT,
        name="paper",
        vendor="simulator",
        mode=Mode.PAPER,
        journal=journal,
        quotes=QuoteBoard,
        clock=BrokerTimeClock(NOW),
        notify=said,
        options=options,
        silence=2.0,
    )


def history(bid: float = 1.085, spread: float = 0.00012) -> Bars:
    """Bars before the present: what the usual spread is judged by."""
    count = 60
    times = np.datetime64("2024-05-14T09:00", "us") + np.arange(count) * np.timedelta64(60, "s")
    low, high = np.full(count, bid), np.full(count, bid + spread)
    return Bars(times, low, low, low, low, high, high, high, high, np.full(count, 10))


def make_client(simulator: Running, **options: Any) -> OandaClient:
    """A client that lets nobody wait."""
    quick: dict[str, Any] = {"connections_per_second": 50, "first_pause": 0.05, "longest_pause": 0.2}
    return OandaClient(simulator.url, SecretStr(TOKEN), stream_url=simulator.stream_url, **quick | options)


def begin(simulator: Running) -> None:
    """The exchange as at its start, with a price of two pairs; no fault is left."""
    simulator.admin("DELETE", "/faults")
    simulator.admin("POST", "/reset")
    simulator.admin("DELETE", "/journal")
    simulator.price("1.08500", "1.08512")
    simulator.price("1.26000", "1.26014", "GBP_USD")
    simulator.step(1)


def make_trader(simulator: Running, folder: Path, *, options: OwnerOptions = FAST, client: OandaClient | None = None) -> Trader:
    """An owner that has begun, and knows what prices are usual."""
    client = client or make_client(simulator)
    said, path = Said(), folder / "account.sqlite"
    journal = Journal.open(path)
    trader = Trader(simulator, path, journal, make_owner(client, journal, said, options), client, said, options)
    trader.begin()
    return trader
