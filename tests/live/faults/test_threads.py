"""Nothing hangs and nothing ends in silence: calls have time-outs, threads survive errors, and what is gone is said (R32)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from live.faults.whole import Whole
from live.trading import Trader

from mbats.errors import PlatformError
from mbats.live.deployment import State
from mbats.live.gate import Command, CommandKind
from mbats.live.hosting.notices import Level
from mbats.live.wire import Form, Status

# Every call that an owner makes, by the request that it is.
ENDPOINTS = {
    "account": ("GET", "*/accounts/101-004-1435156-001"),
    "instruments": ("GET", "*/instruments"),
    "transactions since": ("GET", "*/transactions/sinceid"),
    "an order by its name": ("GET", "*/orders/@*"),
    "new order": ("POST", "*/orders"),
    "cancel an order": ("PUT", "*/orders/*/cancel"),
    "close a trade": ("PUT", "*/trades/*/close"),
    "the orders of a trade": ("PUT", "*/trades/*/orders"),
    "stream of transactions": ("GET", "*/transactions/stream"),
    "stream of prices": ("GET", "*/pricing/stream"),
}


@pytest.mark.proves("R32")
@pytest.mark.parametrize(
    ("which", "how"),
    [*((name, "hang") for name in ENDPOINTS), ("account", "drip"), ("new order", "drip"), ("close a trade", "drip")],
)
def test_whatever_hangs_the_owner_goes_round_obeys_and_comes_back_by_itself(
    trader: Trader, monkeypatch: pytest.MonkeyPatch, which: str, how: str
) -> None:
    monkeypatch.setattr("mbats.live.owner.owner.INSTRUMENTS_EVERY", 0.5)
    monkeypatch.setattr("mbats.oanda.sessions.LONGEST_ANSWER", 0.7)
    trader.client.sessions._timeout = (3.05, 0.7)
    method, path = ENDPOINTS[which]
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.settle()
    trader.minute()
    action = {"do": "hang", "when": "before"} if how == "hang" else {"do": "drip", "bytes": 1, "seconds": 0.2}
    hangs = trader.simulator.fault(action, method=method, path=path)
    if "stream" in path:
        trader.simulator.deed("disconnect")

    waits = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08100"))
    out = trader.submit(-500)
    if which == "transactions since":
        trader.ended(out, Status.COMPLETED)
        order = {"type": "MARKET", "instrument": "GBP_USD", "units": "7"}
        trader.simulator.fault("drop", message="MARKET_ORDER")  # then the stream shows that something is missing
        trader.simulator.deed("external_order", account=trader.owner.id, order=order)
    if which == "the orders of a trade":
        trader.withdraw(2)  # the stop is given up: its order is cancelled by the trade
    if which == "an order by its name":
        lost = trader.simulator.fault({"do": "reset", "when": "before"}, method="POST", path="*/orders", times=1)
        trader.submit(100, bar=trader.bar().replace(minute=1))
        trader.wait_for(lambda: trader.simulator.hits(lost))
    if which == "cancel an order":
        trader.wait_for(lambda: "accepted" in trader.words(waits))
        trader.withdraw(waits)
    trader.wait_for(lambda: trader.simulator.hits(hangs))
    for _ in range(10):
        trader.owner._ask(lambda: None, 1.0)  # a round within a second, each time
        assert trader.owner.since_beat() < 1.0
        time.sleep(0.05)
    command = Command(CommandKind.HALT, "ann", trader.owner._clock.now(), "enough")
    assert trader.owner.command(command, timeout=1.0)["everything"] == "HALTED"
    assert trader.owner.is_alive

    trader.simulator.admin("DELETE", "/faults")

    trader.settle()
    trader.wait_for(lambda: trader.events(out)[-1].status in (Status.COMPLETED, Status.REJECTED))
    if trader.events(out)[-1].status is Status.REJECTED:  # it was held while a stream was down, and the halt came first
        assert "stream" in which and trader.events(out)[-1].reason == "halted"
    trader.wait_for(lambda: not [each for each in trader.pending() if "tradeID" not in each])
    trader.wait_for(lambda: {str(row.state) for row in trader.journal.intents()} <= {"filled", "cancelled", "absent", "rejected"})
    trader.wait_for(lambda: trader.owner._account.books.check() == [] and trader.owner._account.known)
    assert trader.owner._figures.crashes == 0


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("nobody foresaw this")


def figure(whole: Whole, name: str, label: str) -> float:
    """A figure of the trader's metrics; -1 when it is not there."""
    assert whole.trader is not None
    found = re.findall(rf'mbats_trader_{name}{{\w+="{label}"}} (\S+)', whole.trader.metrics().decode())
    return float(found[0]) if found else -1.0


@pytest.fixture
def served(whole: Whole) -> Whole:
    """A whole trader in this process, with a position that it looks after."""
    whole.serve()
    whole.deploy()
    whole.minute()
    whole.wait_for(lambda: whole.trades() == ["2000"])
    return whole


def wake(whole: Whole) -> None:
    """The mirror waits up to a minute for a PostgreSQL that is away."""
    with whole.trader.mirror._wake:
        whole.trader.mirror._wake.notify_all()


def look(whole: Whole) -> None:
    """The bar desk sleeps until a bar should be there."""
    venue = whole.trader._venues["paper"]
    venue.desk._changed = True
    venue.clock.wake()


def break_owner(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    whole.trader._venues["paper"].owner._tell(fail)


def break_sender(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.trader._venues["paper"].owner._account.trading, "cancel_order", fail)
    whole.trader._venues["paper"].owner.retire("alpha")


def break_reader(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.trader._venues["paper"].owner._link.account.reads, "details", fail)


def break_stream(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in whole.trader._venues["paper"].owner._link._streams.values():
        monkeypatch.setattr(stream, "_parse", fail)


def break_desk(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.trader._venues["paper"].desk, "_ask", fail)
    look(whole)


def break_home(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    home = whole.trader._venues["paper"].home
    monkeypatch.setattr(home, "refresh", fail)
    home.refresh_soon()


def break_mirror(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.trader.mirror, "copy_once", fail)
    wake(whole)


def break_host(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.trader.host, "_wish_start", fail)
    whole.trader.host.start("alpha")


def break_main(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole.trader, "_heartbeat", fail)


Break = Callable[[Whole, pytest.MonkeyPatch], None]
BREAKS: dict[str, tuple[Break, str]] = {
    "senders of paper": (break_sender, "survived_errors"),
    "readers of paper": (break_reader, "survived_errors"),
    "streams of paper": (break_stream, "survived_errors"),
    "bar desk of paper": (break_desk, "survived_errors"),
    "home rates of paper": (break_home, "survived_errors"),
    "mirror": (break_mirror, "survived_errors"),
    "host": (break_host, "survived_errors"),
    "trader": (break_main, "errors_total"),
    "owner of paper": (break_owner, "survived_errors"),
}


@pytest.mark.proves("R32")
def test_an_error_in_any_thread_is_counted_and_survived(served: Whole) -> None:
    trader = served.trader
    assert trader is not None
    served.wait_for(lambda: figure(served, "account_live", "paper") == 1)
    for part, (break_it, name) in BREAKS.items():
        label = "senders of paper" if part == "readers of paper" else part
        before = max(0.0, figure(served, name, label))
        with pytest.MonkeyPatch.context() as patch:
            break_it(served, patch)
            served.wait_for(lambda name=name, label=label, before=before: figure(served, name, label) > before)
        well, state = trader.healthy()
        assert well and all(state["threads"].values()), (part, state)
        served.wait_for(lambda: trader.healthy()[1]["accounts"]["paper"].get("live"), 40)

    served.minute()
    served.wait_for(lambda: served.status().state is State.LIVE)
    clock = served.trader._venues["paper"].clock
    served.wait_for(lambda: served.status().last_bar == clock.now().replace(second=0, microsecond=0))
    assert served.trades() == ["2000"]


class Dies(SystemExit):
    """Ends a thread without a word."""


def die(*_: Any, **__: Any) -> Any:
    raise Dies


DEATHS: dict[str, Callable[[Whole], None]] = {
    "bar desk of paper": lambda whole: (setattr(whole.trader._venues["paper"].desk, "_round", die), look(whole)),
    "home rates of paper": lambda whole: (
        setattr(whole.trader._venues["paper"].home, "refresh", die),
        whole.trader._venues["paper"].home.refresh_soon(),
    ),
    "mirror": lambda whole: (setattr(whole.trader.mirror, "copy_once", die), wake(whole)),
    "host": lambda whole: (setattr(whole.trader.host, "_wish_start", die), whole.trader.host.start("alpha")),
    "notices": lambda whole: (setattr(whole.trader.notices, "_send", die), whole.trader.notices.tell(Level.WARNING, "one more")),
    "streams of paper": lambda whole: setattr(whole.trader._venues["paper"].owner._link._streams["transactions"], "_parse", die),
}


@pytest.mark.proves("R32")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_gone_makes_the_trader_ill_by_name(served: Whole) -> None:
    trader = served.trader
    assert trader is not None
    assert trader.healthy()[0]
    for part, kill in DEATHS.items():
        kill(served)
        served.wait_for(lambda part=part: part in trader.healthy()[1]["reason"], 60)
        well, state = trader.healthy()
        assert not well and state["threads"][part] is False
        assert figure(served, "thread_alive", part) == 0


@pytest.mark.proves("R32")
def test_an_owner_that_gives_up_is_replaced_and_its_strategies_trade_with_the_new_one(served: Whole) -> None:
    trader = served.trader
    assert trader is not None
    venue = trader._venues["paper"]
    first, pid = venue.owner, trader.host.session("alpha").pid
    assert first is not None

    def give_up() -> None:
        raise PlatformError("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "_tick", give_up)
        served.wait_for(lambda: not first.is_alive)
    served.wait_for(lambda: venue.owner is not first and venue.owner is not None and venue.owner.state().get("live"))
    served.wait_for(lambda: (session := trader.host.session("alpha")) is not None and session.pid != pid)
    served.wait_for(lambda: served.status().state is State.LIVE, 60)

    assert served.status().positions == {"EUR_USD": 2000}
    assert venue.home is not None and venue.home._board is venue.owner.quotes
    served.minute()
    served.wait_for(lambda: served.status().last_bar == venue.clock.now().replace(second=0, microsecond=0))


@pytest.mark.proves("R32")
def test_an_owner_that_hangs_makes_the_trader_ill(served: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    trader = served.trader
    assert trader is not None
    monkeypatch.setattr("mbats.live.venue.HUNG_AFTER", 1.0)
    go_on = threading.Event()
    trader._venues["paper"].owner._tell(lambda: go_on.wait(30))

    served.wait_for(lambda: "the owner of paper is gone or hangs" in trader.healthy()[1]["reason"])

    assert not trader.healthy()[0]
    go_on.set()
    served.wait_for(lambda: trader.healthy()[0])
