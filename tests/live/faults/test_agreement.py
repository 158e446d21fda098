"""What we believe to hold against what the broker says: a difference stops openings, the broker is believed, people are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from live.faults.records import risk_events
from live.trading import FAST, Trader
from simulator.running import ACCOUNT

from mbats.live.owner import OwnerOptions
from mbats.live.wire import Form, OrderEvent, Status

DETAILS = f"*/accounts/{ACCOUNT}"
MINUTE = timedelta(minutes=1)
QUICK = replace(FAST, reconcile_every=0.3)
SELDOM = replace(FAST, reconcile_every=600.0)


def positions(trader: Trader) -> dict[str, str]:
    books = trader.owner._account.books
    return {f"{owner} {symbol}": f"{units:f}" for (owner, symbol), units in books.positions().items() if units}


def held(trader: Trader) -> int:
    trader.deploy()
    ref = trader.bracket(1000, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    trader.settle()
    return ref


def lose_the_trade(trader: Trader) -> None:
    books = trader.owner._account.books
    books.trades.clear()
    books.lots.clear()


def invent_a_trade(trader: Trader) -> None:
    books = trader.owner._account.books
    number = min(books.trades)
    books.trades[999] = replace(books.trades[number], id=999)


def miscount(trader: Trader) -> None:
    books = trader.owner._account.books
    number = min(books.trades)
    books.trades[number] = replace(books.trades[number], units=Decimal(900))


def miss_an_order(trader: Trader) -> None:
    trader.owner._account.books.pending.clear()


def miss_money(trader: Trader) -> None:
    trader.owner._account.books.balance += 1


@pytest.mark.proves("R15")
@pytest.mark.parametrize("spoil", [lose_the_trade, invent_a_trade, miscount, miss_an_order, miss_money])
def test_books_that_differ_from_the_broker_stop_new_exposure_are_replaced_and_reported(
    start_trader: Callable[..., Trader], spoil: Callable[[Trader], None]
) -> None:
    trader = start_trader(options=SELDOM)
    held(trader)
    waits = trader.submit(500, form=Form.LIMIT, price=Decimal("1.07000"))
    trader.wait_for(lambda: "accepted" in trader.words(waits))
    trader.simulator.buy(300, "GBP_USD")
    trader.wait_for(lambda: positions(trader).get(" GBP_USD") == "300")
    trader.simulator.account("PUT", "/positions/GBP_USD/close", {"longUnits": "ALL"})
    trader.wait_for(lambda: " GBP_USD" not in positions(trader))
    trader.settle()
    trader.owner._ask(lambda: spoil(trader), 5.0)
    trader.owner._ask(trader.owner._link.ask_for_snapshot, 5.0)

    trader.wait_for(lambda: risk_events(trader, "mismatch"))
    refused = trader.ended(trader.submit(100, bar=trader.bar() - MINUTE), Status.REJECTED)
    assert refused.reason == "position_unknown"
    assert [each for each in trader.said.notices if each[0] == "critical" and "books differ" in each[1]]
    (mismatch,) = risk_events(trader, "mismatch")
    assert "The books differ from the broker's" in mismatch.sentence
    assert positions(trader) == {"alpha EUR_USD": "1000"}  # the broker's truth, by the names of its trades
    assert sorted(trader.owner._account.books.trades) == [int(each["id"]) for each in trader.trades()]
    assert len(trader.owner._account.books.pending) == 1

    trader.owner._ask(trader.owner._link.ask_for_snapshot, 5.0)
    trader.wait_for(lambda: trader.owner._account.known)
    trader.ended(trader.submit(100, bar=trader.bar() - MINUTE), Status.COMPLETED)
    assert len(risk_events(trader, "mismatch")) == 1


@pytest.mark.proves("R15")
def test_a_difference_in_money_alone_takes_nobody_s_netted_units_away(start_trader: Callable[..., Trader]) -> None:
    trader = start_trader(options=SELDOM)
    trader.deploy("alpha")
    trader.deploy("beta", session="s2")
    trader.ended(trader.bracket(1000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.ended(trader.bracket(-400, "1.09200", "1.08100", name="beta", session="s2"), Status.COMPLETED)
    trader.settle()
    held = {"alpha EUR_USD": "1000", "beta EUR_USD": "-400"}
    trader.owner._ask(lambda: miss_money(trader), 5.0)
    trader.owner._ask(trader.owner._link.ask_for_snapshot, 5.0)
    trader.wait_for(lambda: risk_events(trader, "mismatch"))
    assert positions(trader) == held
    trader.owner._ask(trader.owner._link.ask_for_snapshot, 5.0)
    trader.wait_for(lambda: trader.owner._account.known)
    assert trader.owner._account.books.check() == []


@pytest.mark.proves("R15")
def test_a_trade_of_somebody_else_is_booked_as_theirs_and_reported_and_ours_is_left_as_it_is(trader: Trader) -> None:
    held(trader)
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": "300"}
    trader.simulator.admin("POST", f"/accounts/{ACCOUNT}/orders", {"order": order})
    trader.wait_for(lambda: positions(trader) == {"alpha EUR_USD": "1000", " EUR_USD": "300"})
    trader.wait_for(lambda: [each for each in risk_events(trader, "alarm") if each.code == "foreign_fill"])
    assert [each for each in trader.said.notices if "foreign fill" in each[1]]
    trader.settle()
    assert sorted(each["currentUnits"] for each in trader.trades()) == ["1000", "300"]


@pytest.mark.proves("R15")
def test_a_position_that_the_broker_closes_out_is_gone_here_too_and_told_to_the_strategy_and_to_people(trader: Trader) -> None:
    ref = held(trader)
    trader.simulator.admin("POST", f"/accounts/{ACCOUNT}/closeout")
    trader.wait_for(lambda: positions(trader) == {})
    trader.wait_for(lambda: trader.words(ref + 1)[-1:] == ["canceled"])
    fills = [each for each in trader.heard if isinstance(each, OrderEvent) and each.units == -1000]
    assert [(each.ref, each.position, each.reason) for each in fills] == [(None, Decimal(0), "closeout")]
    assert [each for each in trader.said.notices if each[0] == "critical"]
    trader.in_step()
    trader.settle()
    assert trader.trades() == trader.pending() == []


@pytest.mark.proves("R15")
def test_the_broker_is_asked_for_all_positions_orders_and_money_every_half_minute() -> None:
    assert 5 <= OwnerOptions().reconcile_every <= 60


@pytest.mark.proves("R16")
@pytest.mark.parametrize("answer", [{"status": 500, "html": True}, {"status": 200, "body": {}}])
def test_positions_that_cannot_be_asked_for_are_unknown_and_not_flat(
    start_trader: Callable[..., Trader], answer: dict[str, Any]
) -> None:
    trader = start_trader(options=QUICK)
    ref = held(trader)
    away = [
        trader.simulator.fault({"do": "answer", **answer}, method="GET", path=path)
        for path in (DETAILS, "*/openPositions", "*/openTrades", "*/positions*", "*/summary")
    ]
    trader.wait_for(lambda: not trader.owner._account.known, 30)
    trader.simulator.step(120)
    trader.show("1.08500", "1.08512")
    assert trader.simulator.hits(away[0]) >= 3
    assert positions(trader) == {"alpha EUR_USD": "1000"}
    assert not [each for each in trader.heard if isinstance(each, OrderEvent) and each.position == 0]
    refused = trader.ended(trader.submit(500), Status.REJECTED)
    assert refused.reason == "position_unknown"
    left = trader.ended(trader.submit(-1000), Status.COMPLETED)  # what only reduces may always go
    assert left.position == 0
    assert trader.words(ref + 1)[-1] == "canceled"
    for fault in away:
        trader.simulator.admin("DELETE", f"/faults/{fault}")
    trader.wait_for(lambda: trader.owner._account.known, 30)
    trader.ended(trader.submit(500), Status.COMPLETED)


def foreign(trader: Trader) -> tuple[str, str]:
    """A trade with a stop and an order that waits, of somebody else: their numbers."""
    stop = {"stopLossOnFill": {"price": "1.05000"}, "clientExtensions": {"id": "by-hand", "tag": "mine"}}
    opened = trader.simulator.buy(300, order=stop).json()
    trade = opened["orderFillTransaction"]["tradeOpened"]["tradeID"]
    limit = {"type": "LIMIT", "instrument": "EUR_USD", "units": "50", "price": "1.07000"}
    order = trader.simulator.account("POST", "/orders", {"order": limit}).json()["orderCreateTransaction"]["id"]
    return trade, order


@pytest.mark.proves("R17")
@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_a_restart_takes_up_its_own_bracket_and_reports_what_is_not_its_own_and_leaves_it_alone(
    trader: Trader, journal: str
) -> None:
    held(trader)
    trade, order = foreign(trader)
    trader.settle()
    before = {"trades": trader.trades(), "orders": trader.pending()}
    trader.stop()
    if journal == "lost":
        trader.journal_path = trader.journal_path.with_name("another.sqlite")
    trader.said.notices.clear()
    trader.again()
    adopt = trader.deploy(session="s2")

    assert [(each.symbol, each.units) for each in adopt.holdings] == [("EUR_USD", 1000)]
    assert [(each.role, each.units, each.price) for each in adopt.orders] == [
        ("stop", -1000, Decimal("1.08")),
        ("target", -1000, Decimal("1.09")),
    ]
    trader.in_step()
    assert positions(trader) == {"alpha EUR_USD": "1000", " EUR_USD": "300"}
    assert {"trades": trader.trades(), "orders": trader.pending()} == before
    reported = [text for _, title, text in trader.said.notices if "not ours" in title]
    assert len(reported) == 1 and trade in reported[0] and order in reported[0], trader.said.notices
    trader.price("1.07990", "1.08002")
    trader.ended(adopt.orders[0].ref, Status.COMPLETED)
    trader.ended(adopt.orders[1].ref, Status.CANCELED)
    trader.settle()
    assert [each["id"] for each in trader.trades()] == [trade]
    assert order in [each["id"] for each in trader.pending()]
