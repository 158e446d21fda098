"""A trader that is told to end loses no order; a strategy that dies again and again stays down until a person starts it (R35)."""

from __future__ import annotations

from typing import Any

import pytest
from live.faults.records import records
from live.faults.whole import HOLD_AND_WAIT, Whole
from live.trading import Trader

from mbats.live.deployment import State
from mbats.live.journal import IntentState
from mbats.live.wire import Status
from mbats.riskdb.live_records import RiskEventRecord

BUY_ONCE = "self.position or self.bars > 1 or self.buy(size=1000)"


def intents(whole: Whole) -> list[tuple[str, int]]:
    journal = whole.account_journal()
    try:
        return [(str(row.state), row.attempts) for row in journal.intents()]
    finally:
        journal.close()


@pytest.mark.proves("R35")
def test_a_trader_that_is_told_to_end_with_an_order_under_way_knows_what_became_of_it(whole: Whole) -> None:
    whole.start()
    whole.deploy(code=BUY_ONCE)
    late = whole.exchange.fault({"do": "delay", "when": "before", "seconds": 2.0}, method="POST", path="*/orders", times=1)
    whole.minute()
    whole.wait_for(lambda: whole.exchange.hits(late))

    assert whole.end() == 0

    assert intents(whole) == [("filled", 1)]
    whole.start()
    whole.wait_for(lambda: whole.status().positions.get("EUR_USD") == 1000)
    whole.wait_for(lambda: whole.status().state is State.LIVE, 60)
    whole.minute()
    assert whole.end() == 0
    assert intents(whole) == [("filled", 1)]
    assert whole.fills() == ["1000"]


@pytest.mark.proves("R35")
@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ({"do": "delay", "when": "before", "seconds": 0.7}, {"filled"}),
        ({"do": "delay", "when": "after", "seconds": 0.7}, {"filled"}),
        ({"do": "reset", "when": "after"}, {"filled", "unknown"}),
        ({"do": "reset", "when": "before"}, {"unknown"}),
        ({"do": "hang", "when": "after"}, {"filled", "unknown"}),
    ],
    ids=["late", "answered late", "cut", "lost", "never answered"],
)
def test_an_owner_that_ends_with_an_order_under_way_or_in_doubt_has_dealt_it_once_after_the_next_start(
    trader: Trader, fault: dict[str, Any], left: set[str]
) -> None:
    trader.client.sessions._timeout = (3.05, 1.0)
    trader.deploy()
    trader.settle()
    struck = trader.simulator.fault(fault, method="POST", path="*/orders", times=1)
    trader.submit(1000)
    trader.wait_for(lambda: trader.simulator.hits(struck))

    assert trader.owner.stop()

    (row,) = trader.journal.intents()
    assert str(row.state) in left
    trader.journal.close()
    trader.again()
    trader.deploy(session="s2")
    trader.wait_for(lambda: [str(row.state) for row in trader.journal.intents()] == ["filled"])
    assert [trade["currentUnits"] for trade in trader.trades()] == ["1000"]
    trader.wait_for(lambda: trader.owner._account.books.position("alpha", "EUR_USD") == 1000)


@pytest.mark.proves("R35")
def test_what_waits_in_the_queue_is_decided_before_the_owner_ends(trader: Trader) -> None:
    trader.deploy()
    trader.settle()
    late = trader.simulator.fault({"do": "delay", "when": "before", "seconds": 0.5}, method="POST", path="*/orders")
    trader.owner._tell(lambda: trader.owner._stopping.set())  # the end comes in the same breath as the orders
    refs = [trader.submit(1000), trader.submit(1000, symbol="EUR_USD", bar=trader.bar().replace(second=30))]

    trader.stop()

    assert trader.simulator.hits(late) == 2
    assert [trader.words(ref) for ref in refs] == [["submitted", "accepted", "completed"]] * 2
    trader.again()
    assert {str(row.state) for row in trader.journal.intents()} == {"filled"}


@pytest.mark.proves("R35")
def test_an_order_that_could_not_be_decided_before_the_end_is_said_and_recorded(trader: Trader) -> None:
    trader.deploy()
    cut = trader.simulator.fault({"do": "reset", "when": "before"}, path="*")
    trader.simulator.deed("disconnect")
    trader.wait_for(lambda: trader.simulator.hits(cut) and not trader.owner.state()["live"])
    ref = trader.submit(1000)
    trader.wait_for(lambda: trader.words(ref))

    assert trader.owner.stop()

    over = trader.events(ref)[-1]
    assert (over.status, over.reason) == (Status.CANCELED, "TRADER_STOPS")
    (event,) = [each for each in records(trader, RiskEventRecord) if each.code == "TRADER_STOPS"]
    assert (event.deployment, event.symbol, event.detail["units"]) == ("alpha", "EUR_USD", "1000")


DIE = "raise RuntimeError('I cannot go on')"


@pytest.mark.proves("R35")
def test_five_deaths_within_a_minute_and_a_strategy_stays_down_also_over_a_restart_until_somebody_starts_it(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbats.live.hosting.restarts.FIRST_PAUSE", 0.01)
    trader = whole.serve()
    whole.deploy(name="beta", code=HOLD_AND_WAIT)
    whole.deploy(name="alpha", code="len(self.data) > 2 and 1 / 0", live=False, warmup_bars=3)
    deaths = 0
    while whole.status().state is not State.FAILED:
        whole.wait_for(lambda: whole.status().state in (State.LIVE, State.FAILED), 60)
        if whole.status().state is State.LIVE:
            before = whole.status().restarts
            whole.minute()
            deaths += 1
            whole.wait_for(lambda before=before: whole.status().restarts > before or whole.status().state is State.FAILED)

    failed = whole.status()
    assert deaths == 5
    assert "5 times within a minute" in failed.reason and "ZeroDivisionError" in failed.reason
    assert b'mbats_trader_deaths_total{deployment="alpha"} 5.0' in trader.metrics()
    whole.minute()
    assert whole.status().state is State.FAILED
    assert whole.status("beta").state is State.LIVE
    whole.close()

    whole.stopping.clear()
    again = whole.serve()
    whole.wait_for(lambda: whole.status("beta").state is State.LIVE, 60)
    assert whole.status().state is State.FAILED
    assert "5 times within a minute" in whole.status().reason
    again.start("alpha")
    whole.wait_for(lambda: whole.status().state is State.LIVE, 60)


@pytest.mark.proves("R35")
def test_a_stopped_owner_leaves_no_thread_and_no_open_question(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.settle()
    streams = list(trader.owner._link._streams.values())
    assert trader.owner.stop()

    trader.wait_for(lambda: not any(stream.is_alive for stream in streams))
    assert [row.state for row in trader.journal.intents()] == [IntentState.FILLED]
