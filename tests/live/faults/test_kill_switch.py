"""One word halts an account or takes it flat, whatever else goes wrong meanwhile, and it holds until a person resumes (R27)."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
from live.faults.records import risk_events, until
from live.trading import Trader

from mbats.live.gate import Command, CommandKind
from mbats.live.wire import Exit, Form, Status

AT_ONCE = 1.0  # seconds


def say(trader: Trader, kind: CommandKind, deployment: str | None = None) -> dict[str, Any]:
    """A command that must be obeyed within a second."""
    command = Command(kind, "ann", trader.owner._clock.now(), "the market is mad", deployment)
    return trader.owner.command(command, timeout=AT_ONCE)


def begin(trader: Trader) -> int:
    """A position with its stop and target, and an entry that waits; the number of the latter."""
    trader.deploy()
    trader.ended(trader.bracket(2000, "1.08000", "1.09000"), Status.COMPLETED)
    waits = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08100"))
    trader.wait_for(lambda: "accepted" in trader.words(waits))
    trader.settle()
    trader.minute()
    return waits


def entries(trader: Trader) -> list[str]:
    """Pending orders that could open something."""
    return [each["type"] for each in trader.pending() if "tradeID" not in each]


def flat(trader: Trader, whom: str = "everything") -> bool:
    return any(event.code == "flattened" and whom in event.key for event in risk_events(trader, "command"))


def state_of(trader: Trader, name: str | None = None) -> str:
    return str(trader.owner._account.gate.state.control(name).state)


OUTAGES: dict[str, dict[str, Any]] = {
    "both streams are cut": {"action": {"do": "reset", "when": "before"}, "path": "*/stream"},
    "both streams are silent": {"action": "silence", "path": "*/stream", "message": "*"},
    "the broker is away": {"deed": "outage", "seconds": 3.0},
    "nothing is answered": {"action": {"do": "hang", "when": "before"}, "path": "*"},
}


@pytest.mark.proves("R27")
@pytest.mark.parametrize("kind", [CommandKind.HALT, CommandKind.FLATTEN])
@pytest.mark.parametrize("outage", OUTAGES)
def test_a_command_is_obeyed_at_once_during_an_outage_and_carried_out_as_soon_as_that_is_over(
    trader: Trader, kind: CommandKind, outage: str
) -> None:
    trader.client.sessions._timeout = (3.05, 1.0)
    waits = begin(trader)
    fault = dict(OUTAGES[outage])
    if "deed" in fault:
        trader.simulator.deed(fault.pop("deed"), **fault)
        number = None
    else:
        number = trader.simulator.fault(fault.pop("action"), **fault)
        trader.simulator.deed("disconnect")
    trader.wait_for(lambda: not trader.owner.state().get("live"))

    said = say(trader, kind)
    late = trader.submit(1000)

    assert said["everything"] == "HALTED"
    if number is not None:
        trader.wait_for(lambda: trader.simulator.hits(number))
        trader.simulator.admin("DELETE", "/faults")
    trader.ended(waits, Status.CANCELED, 30)
    trader.settle()
    assert entries(trader) == []
    over = trader.wait_for(lambda: [event for event in trader.events(late) if event.status in (Status.REJECTED, Status.CANCELED)])
    assert over[0].reason in ("halted", "CLIENT_REQUEST")
    assert trader.ended(trader.submit(1000, bar=trader.bar().replace(minute=0)), Status.REJECTED).reason == "halted"
    if kind is CommandKind.FLATTEN:
        trader.wait_for(lambda: flat(trader), 30)
        assert (trader.trades(), trader.pending()) == ([], [])
    else:
        assert [trade["currentUnits"] for trade in trader.trades()] == ["2000"]
        assert sorted(each["type"] for each in trader.pending()) == ["STOP_LOSS", "TAKE_PROFIT"]
    (command,) = [event for event in risk_events(trader, "command") if event.code == str(kind)]
    assert (command.by, "the market is mad" in command.sentence) == ("ann", True)


@pytest.mark.proves("R27")
@pytest.mark.parametrize(
    "fault",
    [
        {"do": "delay", "when": "before", "seconds": 1.5},
        {"do": "delay", "when": "after", "seconds": 1.5},
        {"do": "reset", "when": "after"},
        {"do": "reset", "when": "before"},
    ],
    ids=lambda fault: f"{fault['do']} {fault['when']}",
)
@pytest.mark.parametrize("kind", [CommandKind.HALT, CommandKind.FLATTEN])
def test_an_order_that_is_under_way_when_the_command_comes_is_accounted_for(
    trader: Trader, fault: dict[str, Any], kind: CommandKind
) -> None:
    trader.deploy()
    struck = trader.simulator.fault(fault, method="POST", path="*/orders", times=1)
    trader.submit(1000)
    trader.wait_for(lambda: trader.simulator.hits(struck))

    say(trader, kind)

    trader.wait_for(lambda: not any(row.state.open for row in trader.journal.intents()))
    lost = fault == {"do": "reset", "when": "before"}
    trader.wait_for(trader.orders_sent)  # the exchange's journal has it when it is answered
    trader.settle()
    assert len(trader.orders_sent()) == 1  # what was lost is not sent again while trading is halted
    if kind is CommandKind.FLATTEN:
        trader.wait_for(lambda: flat(trader))
        assert trader.trades() == []
        dealt = [Decimal(each["units"]) for each in trader.transactions() if each["type"] == "ORDER_FILL"]
        assert sum(dealt) == 0 and len(dealt) == (0 if lost else 2)
    else:
        assert [trade["currentUnits"] for trade in trader.trades()] == ([] if lost else ["1000"])
    assert state_of(trader) == "HALTED"


@pytest.mark.proves("R27")
def test_a_flatten_in_a_halted_market_is_tried_until_fills_confirm_that_nothing_is_left(trader: Trader) -> None:
    begin(trader)
    trader.simulator.admin("POST", "/halt", {})
    trader.simulator.step(1)

    say(trader, CommandKind.FLATTEN)

    def refused() -> int:
        return sum(each.get("reason") == "MARKET_HALTED" for each in trader.transactions() if each["type"] == "ORDER_CANCEL")

    trader.wait_for(lambda: refused() >= 2)
    assert not flat(trader)
    assert [trade["currentUnits"] for trade in trader.trades()] == ["2000"]
    assert sorted(each["type"] for each in trader.pending()) == ["STOP_LOSS", "TAKE_PROFIT"]
    trader.simulator.admin("POST", "/resume", {})
    trader.simulator.step(1)
    trader.show("1.08501", "1.08513")
    trader.wait_for(lambda: flat(trader))
    assert (trader.trades(), trader.pending()) == ([], [])
    assert sum(Decimal(each["units"]) for each in trader.transactions() if each["type"] == "ORDER_FILL") == 0


@pytest.mark.proves("R27")
def test_a_flatten_at_the_weekend_is_done_when_fx_opens(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    until(trader, "2024-05-18T12:00:00Z")

    say(trader, CommandKind.FLATTEN)

    time.sleep(1.5)
    assert not flat(trader)
    until(trader, "2024-05-19T21:05:00Z")
    trader.show("1.08501", "1.08513")
    trader.wait_for(lambda: flat(trader), 20)
    assert trader.trades() == []


@pytest.mark.proves("R27")
@pytest.mark.parametrize("kind", list(CommandKind)[:3])
@pytest.mark.parametrize("whose", [None, "alpha"])
@pytest.mark.parametrize("back", ["with its strategy", "alone"])
def test_what_was_said_holds_after_a_restart_and_a_flatten_goes_on(
    trader: Trader, kind: CommandKind, whose: str | None, back: str
) -> None:
    begin(trader)
    gone = trader.simulator.fault({"do": "reset", "when": "before"}, path="*")
    trader.simulator.deed("disconnect")
    say(trader, kind, whose)
    assert trader.wait_for(lambda: trader.simulator.hits(gone))
    trader.stop()
    trader.simulator.admin("DELETE", "/faults")

    trader.again()

    expected = "REDUCING" if kind is CommandKind.REDUCE else "HALTED"
    assert state_of(trader, whose) == expected
    if back == "with its strategy":
        trader.deploy(session="s2")
        refused = trader.ended(trader.submit(1000, session="s2", bar=trader.bar().replace(minute=0)), Status.REJECTED)
        assert refused.reason == ("reducing" if kind is CommandKind.REDUCE else "halted")
    trader.wait_for(lambda: entries(trader) == [])
    if kind is CommandKind.FLATTEN:
        trader.wait_for(lambda: flat(trader, whose or "everything"))
        assert (trader.trades(), trader.pending()) == ([], [])
    else:
        assert [trade["currentUnits"] for trade in trader.trades()] == ["2000"]
        assert sorted(each["type"] for each in trader.pending()) == ["STOP_LOSS", "TAKE_PROFIT"]
    assert state_of(trader, whose) == expected
    assert trader.owner.state()["crashes"] == 0


@pytest.mark.proves("R27")
def test_one_deployment_is_taken_flat_and_another_on_the_same_pair_keeps_what_is_its_own(trader: Trader) -> None:
    begin(trader)
    trader.deploy("beta", session="s2")
    trader.ended(trader.submit(-500, "beta", "s2"), Status.COMPLETED)
    order = {"type": "MARKET", "instrument": "GBP_USD", "units": "7"}
    trader.simulator.deed("external_order", account=trader.owner.id, order=order)
    trader.settle()

    say(trader, CommandKind.FLATTEN, "alpha")

    trader.wait_for(lambda: flat(trader, "alpha"))
    books = trader.owner._account.books
    assert (books.position("alpha", "EUR_USD"), books.position("beta", "EUR_USD")) == (0, -500)
    assert {trade["instrument"]: trade["currentUnits"] for trade in trader.trades()} == {"EUR_USD": "-500", "GBP_USD": "7"}
    trader.minute()
    trader.ended(trader.submit(-100, "beta", "s2"), Status.COMPLETED)
    assert trader.ended(trader.submit(100), Status.REJECTED).reason == "halted"


@pytest.mark.proves("R27")
def test_a_command_that_comes_while_the_owner_itself_has_broken_off_is_durable_at_once(trader: Trader) -> None:
    begin(trader)
    hangs = trader.simulator.fault({"do": "hang", "when": "before"}, path="*")
    trader.owner._tell(lambda: 1 / 0)  # what was half done is read again, from a broker that does not answer
    trader.wait_for(lambda: trader.simulator.hits(hangs) and trader.owner._figures.crashes)

    said = say(trader, CommandKind.HALT)

    assert said["everything"] == "HALTED"
    trader.simulator.admin("DELETE", "/faults")
    trader.wait_for(lambda: entries(trader) == [], 30)
    assert state_of(trader) == "HALTED"


@pytest.mark.proves("R27", "R28")
@pytest.mark.parametrize("kind", [CommandKind.HALT, CommandKind.REDUCE])
def test_a_strategys_own_stop_outlives_the_halt_and_protects_its_position(trader: Trader, kind: CommandKind) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    stop = trader.submit(-1000, form=Form.STOP, price=Decimal("1.08000"))
    entry = trader.submit(-500, form=Form.LIMIT, price=Decimal("1.09500"), stop=Exit(77, Decimal("1.10000")))
    trader.wait_for(lambda: "accepted" in trader.words(stop) and "accepted" in trader.words(entry))

    say(trader, kind)
    trader.ended(entry, Status.CANCELED)
    time.sleep(1.2)  # the orders that wait are looked at again

    assert [each["type"] for each in trader.pending()] == ["STOP"]
    trader.price("1.07990", "1.08002")
    trader.ended(stop, Status.COMPLETED)
    assert trader.trades() == []


@pytest.mark.proves("R27")
@pytest.mark.parametrize("kind", [None, CommandKind.HALT])
def test_an_entry_that_the_trader_watches_for_does_nothing_for_a_strategy_that_is_not_there(
    trader: Trader, kind: CommandKind | None
) -> None:
    trader.deploy()
    watched = trader.submit(1000, form=Form.STOP_TRAIL, trail=Decimal("0.00100"))
    trader.wait_for(lambda: "accepted" in trader.words(watched))
    trader.settle()
    if kind is not None:
        trader.simulator.fault({"do": "hang"}, path="*")
        trader.owner._stopping.set()  # as good as killed: nothing of the command is carried out
        trader.owner._thread.join(20)
        say(trader, kind)
    trader.stop()
    trader.simulator.admin("DELETE", "/faults")
    trader.again()
    trader.in_step()
    trader.owner.watch(frozenset({"EUR_USD"}))
    trader.wait_for(lambda: trader.owner._link.prices_up)

    trader.show("1.08700", "1.08712")
    time.sleep(0.3)

    assert trader.owner.state()["crashes"] == trader.owner._figures.crashes == 0
    if kind is not None:
        assert trader.orders_sent() == []


@pytest.mark.proves("R27")
def test_a_deployment_is_not_resumed_by_anything_but_a_person(trader: Trader) -> None:
    begin(trader)
    say(trader, CommandKind.FLATTEN)
    trader.wait_for(lambda: flat(trader))
    until(trader, "2024-05-16T10:00:00Z")
    trader.show("1.08501", "1.08513")
    assert trader.ended(trader.submit(1000), Status.REJECTED).reason == "halted"

    say(trader, CommandKind.RESUME)
    trader.minute()

    trader.ended(trader.submit(1000), Status.COMPLETED)
