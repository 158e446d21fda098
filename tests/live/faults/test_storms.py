"""A broker that fails at random, on every call: reads are asked again, orders are not, and each order deals once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatch
from itertools import pairwise
from typing import Any

import pytest
from live.trading import FAST, Trader, make_client
from simulator.running import ACCOUNT, Running

from mbats.live.owner import guard
from mbats.live.wire import Exit, Form, Status

ENDS = (Status.COMPLETED, Status.CANCELED, Status.EXPIRED, Status.MARGIN, Status.REJECTED)


def what(entry: dict[str, Any]) -> str:
    """What a request to the account was about, in a word."""
    path = entry["path"].rpartition(ACCOUNT)[2]
    return "since" if path.endswith("/sinceid") else "order" if path.startswith("/orders/@") else "other"


@pytest.mark.proves("R2", "R26")
def test_with_three_calls_in_ten_failing_every_order_is_told_one_end_and_deals_once_or_never(
    exchange: Running, start_trader: Callable[..., Trader]
) -> None:
    options = replace(FAST, settle_after=0.2, retry_after=0.1, most_attempts=4, reconcile_every=0.1)
    trader = start_trader(client=make_client(exchange, first_pause=0.01, longest_pause=0.05), options=options)
    trader.deploy()
    reads = [
        exchange.fault({"do": "answer", "status": 429}, method="GET", path="/v3/*", probability=0.15),
        exchange.fault({"do": "answer", "status": 503, "html": True}, method="GET", path="/v3/*", probability=0.15),
    ]
    writes = [  # three in ten of each, and the same ones in every run
        exchange.fault({"do": "answer", "status": 429}, method="POST", path="*/orders", nth=[2, 8, 14]),
        exchange.fault({"do": "answer", "status": 503, "html": True}, method="POST", path="*/orders", nth=[4, 9]),
        exchange.fault({"do": "answer", "status": 503, "when": "after"}, method="POST", path="*/orders", nth=[6, 11]),
    ]
    refs = []
    for number in range(10):
        refs.append(trader.submit(100 if number % 3 else -50))
        trader.wait_for(lambda: [each for each in trader.events(refs[-1]) if each.status in ENDS], 40)
        trader.minute()
    assert all(exchange.hits(rule) >= 2 for rule in writes)
    assert sum(exchange.hits(rule) for rule in reads) >= 5
    exchange.admin("DELETE", "/faults")
    trader.owner._ask(trader.owner._link.ask_for_snapshot, 5.0)
    trader.settle()

    for ref in refs:
        assert sum(each.status in ENDS for each in trader.events(ref)) == 1, trader.words(ref)
    told = sum((each.units or Decimal(0) for ref in refs for each in trader.events(ref)), Decimal(0))
    at_broker = sum(Decimal(each["currentUnits"]) for each in trader.trades())
    assert told == at_broker == trader.owner._account.books.position("alpha", "EUR_USD")
    orders = [each for each in trader.transactions() if each["type"] == "MARKET_ORDER"]
    names = [each["clientExtensions"]["id"] for each in orders if "clientExtensions" in each]
    dealt = {each["orderID"] for each in trader.transactions() if each["type"] == "ORDER_FILL"}
    assert len(names) == len(set(names)) and dealt
    assert not any(row.state.open for row in trader.journal.intents())
    assert trader.owner.state()["crashes"] == 0


@pytest.mark.proves("R26")
@pytest.mark.parametrize("status", [429, 503])
def test_a_read_is_asked_again_with_growing_pauses(trader: Trader, status: int) -> None:
    trader.deploy()
    away = trader.simulator.fault({"do": "answer", "status": status}, method="GET", path="*/transactions/sinceid", times=3)
    before = len(asked(trader))
    found = trader.owner._account.reads.transactions_since(1)
    assert trader.simulator.hits(away) == 3
    times = asked(trader)[before:]
    assert found and len(times) == 4
    pauses = [later - earlier for earlier, later in pairwise(times)]
    # 0.05, 0.1 and 0.2 seconds, each with up to 0.05 more; sleep never ends early
    assert all(pause >= least for pause, least in zip(pauses, (0.045, 0.095, 0.19), strict=True))


def asked(trader: Trader) -> list[float]:
    """When the log was asked for, in seconds of this machine."""
    found = [each for each in trader.simulator.journal(path="*/transactions/sinceid") if each["kind"] == "request"]
    return [datetime.fromisoformat(each["wallTime"][:26]).timestamp() for each in found]


def enter(trader: Trader) -> Callable[[], Any]:
    ref = trader.submit(1000)
    return lambda: trader.words(ref)[-1] == "completed"


def leave(trader: Trader) -> Callable[[], Any]:
    trader.ended(trader.submit(1000), Status.COMPLETED)
    ref = trader.submit(-1000)
    return lambda: trader.words(ref)[-1] == "completed"


def lose_the_stop(trader: Trader) -> Callable[[], Any]:
    trader.simulator.admin("POST", "/strip_on_fill", {"on": True})
    trader.submit(1000, stop=Exit(99, Decimal("1.08000")))
    return trader.pending


def withdraw(trader: Trader) -> Callable[[], Any]:
    ref = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"))
    trader.wait_for(lambda: "accepted" in trader.words(ref))
    trader.withdraw(ref)
    return lambda: trader.words(ref)[-1] == "canceled"


@pytest.mark.proves("R26")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("act", "method", "path"),
    [
        (enter, "POST", "*/orders"),
        (leave, "PUT", "*/trades/*/close"),
        (lose_the_stop, "PUT", "*/trades/*/orders"),
        (withdraw, "PUT", "*/orders/*/cancel"),
    ],
)
def test_a_write_that_failed_goes_out_again_only_when_the_log_was_read_and_does_not_show_it(
    trader: Trader, monkeypatch: pytest.MonkeyPatch, act: Callable[[Trader], Callable[[], Any]], method: str, path: str, when: str
) -> None:
    monkeypatch.setattr(guard, "RETRY", 0.5)
    trader.deploy()
    away = trader.simulator.fault({"do": "answer", "status": 503, "when": when}, method=method, path=path, times=1)
    done = act(trader)
    trader.wait_for(lambda: trader.simulator.hits(away) and done())
    trader.settle()
    answered = [each for each in trader.simulator.journal() if each["kind"] == "request"]
    sent = [at for at, each in enumerate(answered) if each["method"] == method and fnmatch(each["path"], path)]
    assert len(sent) == (2 if when == "before" else 1)
    if when == "before":
        assert any(what(each) == "since" and each["status"] == 200 for each in answered[sent[0] : sent[1]])
