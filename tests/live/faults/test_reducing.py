"""While a deployment may only reduce, nothing that it asks for can add exposure or turn its position round (R28)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from live.faults.records import risk_events
from live.trading import Trader

from mbats.live.gate import CommandKind
from mbats.live.wire import Exit, Form, Status


def held(trader: Trader, name: str = "alpha") -> Decimal:
    return trader.owner._account.books.position(name, "EUR_USD")


@pytest.mark.proves("R28")
@pytest.mark.parametrize("whose", ["alpha", None])
def test_a_flip_while_reducing_closes_and_opens_nothing(trader: Trader, whose: str | None) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.minute()
    trader.command(CommandKind.REDUCE, whose)

    ref = trader.submit(-3000)

    over = trader.ended(ref, Status.REJECTED)
    assert (over.reason, trader.words(ref)) == ("reducing", ["submitted", "accepted", "partial", "rejected"])
    trader.settle()
    assert (held(trader), trader.trades()) == (0, [])
    assert sum(Decimal(each["units"]) for each in trader.transactions() if each["type"] == "ORDER_FILL") == 0


@pytest.mark.proves("R28")
def test_a_flip_of_a_position_that_is_netted_away_at_the_broker_opens_nothing_either(trader: Trader) -> None:
    trader.deploy()
    trader.deploy("beta", session="s2")
    trader.ended(trader.bracket(3000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.settle()
    trader.ended(trader.submit(-2000, "beta", "s2"), Status.COMPLETED)
    trader.wait_for(lambda: len(trader.pending()) > 1)  # the stop of what was netted away
    trader.settle()
    trader.minute()
    trader.command(CommandKind.REDUCE, "alpha")

    assert trader.ended(trader.submit(-4000), Status.REJECTED).reason == "reducing"

    trader.settle()
    assert (held(trader), held(trader, "beta")) == (0, -2000)
    assert [trade["currentUnits"] for trade in trader.trades()] == ["-2000"]


@pytest.mark.proves("R28")
def test_entries_that_wait_are_taken_back_and_new_ones_refused_and_exits_pass(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.bracket(2000, "1.08000", "1.09000"), Status.COMPLETED)
    waits = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08100"))
    watched = trader.submit(1000, form=Form.STOP_TRAIL, trail=Decimal("0.00500"))
    trader.wait_for(lambda: "accepted" in trader.words(waits) and "accepted" in trader.words(watched))
    trader.minute()

    trader.command(CommandKind.REDUCE)

    trader.ended(waits, Status.CANCELED)
    trader.ended(watched, Status.CANCELED)
    asked = [
        trader.submit(1000),
        trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08100")),
        trader.submit(-1000, form=Form.STOP, price=Decimal("1.08100"), stop=Exit(99, Decimal("1.09"))),
        trader.submit(1000, form=Form.STOP_TRAIL, trail=Decimal("0.00500")),
    ]
    assert [trader.ended(each, Status.REJECTED).reason for each in asked] == ["reducing"] * 4
    assert [event.code for event in risk_events(trader, "refusal")] == ["reducing"] * 4
    assert [each["type"] for each in trader.pending()] == ["STOP_LOSS", "TAKE_PROFIT"] or len(trader.pending()) == 2
    trader.ended(trader.submit(-500), Status.COMPLETED)
    trader.minute()
    trader.ended(trader.submit(-1500), Status.COMPLETED)
    trader.wait_for(lambda: held(trader) == 0)
    trader.command(CommandKind.RESUME)
    trader.minute()
    trader.ended(trader.submit(1000), Status.COMPLETED)
