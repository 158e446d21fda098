"""What a lot must have, which orders stand, and what was said of each: from the broker's transactions alone."""

from __future__ import annotations

from decimal import Decimal

import pytest
from live.books.watched import Watched, found, only, our_id
from simulated import ACCOUNT

from mbats.live.books import Cancelled, Created, Filled, Noted, Rejected, Transferred

D = Decimal
BRACKET = {
    "stopLossOnFill": {"price": "1.09000"},
    "takeProfitOnFill": {"price": "1.12000"},
    "trailingStopLossOnFill": {"distance": "0.00500"},
}


@pytest.fixture
def desk() -> Watched:
    desk = Watched()
    desk.at("1.10000")
    return desk


def required(desk: Watched, lot_id: str) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    lot = desk.books.find_lot(lot_id)
    assert lot is not None
    return lot.stop, lot.trail, lot.target


def test_a_bracket_says_what_its_lot_must_have_and_stands_on_the_trade(desk: Watched) -> None:
    name = desk.enter("alpha", 100, **BRACKET)

    assert required(desk, name) == (D("1.09"), D("0.005"), D("1.12"))
    (trade,) = desk.books.trades.values()
    assert trade.stop and trade.target and trade.trailing
    assert (trade.stop.client_id, trade.target.client_id) == (f"{name}.sl", f"{name}.tp")
    created = found(desk.events, Created)
    assert [(each.type, each.trade_id, each.symbol) for each in created] == [
        ("MARKET", None, "EUR_USD"),
        ("TAKE_PROFIT", trade.id, "EUR_USD"),
        ("STOP_LOSS", trade.id, "EUR_USD"),
        ("TRAILING_STOP_LOSS", trade.id, "EUR_USD"),
    ]


def test_a_netted_lot_must_have_its_stop_though_no_trade_carries_it(desk: Watched) -> None:
    desk.enter("alpha", 100)
    short = desk.enter("beta", -60, stopLossOnFill={"distance": "0.00200"}, takeProfitOnFill={"price": "1.08000"})

    assert required(desk, short) == (D("1.102"), None, D("1.08"))
    assert [trade.stop for trade in desk.books.trades.values()] == [None]


def test_stops_that_the_broker_lost_are_required_still(desk: Watched) -> None:
    desk.engine.strip_on_fill = True
    name = desk.enter("alpha", 100, **BRACKET)

    assert required(desk, name) == (D("1.09"), D("0.005"), D("1.12"))
    assert desk.books.trades[max(desk.books.trades)].stop is None


def test_an_entry_that_waits_brings_its_bracket_when_it_fills(desk: Watched) -> None:
    name = desk.enter("alpha", 100, type="LIMIT", price="1.09900", stopLossOnFill={"price": "1.09000"})
    (order,) = desk.books.pending.values()
    assert (order.type, order.price, order.client_id, order.reduce_only) == ("LIMIT", D("1.099"), name, False)

    fill = only(desk.at("1.09890"), Filled)

    assert (fill.role, fill.lot_id, desk.books.pending) == ("entry", name, {})
    assert required(desk, name) == (D("1.09"), None, None)


def test_a_stop_that_was_moved_is_what_the_lot_must_have_whoever_moved_it(desk: Watched) -> None:
    name = desk.enter("alpha", 100, **BRACKET)
    (trade,) = desk.books.trades.values()
    assert trade.stop is not None

    gone, created = desk.attach(trade.id, stopLoss={"price": "1.09500"})

    assert isinstance(gone, Cancelled) and isinstance(created, Created)
    assert (gone.reason, gone.symbol, gone.trade_id) == ("CLIENT_REQUEST_REPLACED", "EUR_USD", trade.id)
    assert (gone.order_id, gone.replaced_by, gone.client_id) == (trade.stop.order_id, created.order_id, f"{name}.sl")
    assert created.replaces == trade.stop.order_id
    assert required(desk, name) == (D("1.095"), D("0.005"), D("1.12"))
    desk.attach(trade.id, takeProfit={"price": "1.13000"}, trailingStopLoss={"distance": "0.00600"})
    assert required(desk, name) == (D("1.095"), D("0.006"), D("1.13"))


def test_a_stop_that_a_person_took_away_is_required_still_until_the_strategy_gives_it_up(desk: Watched) -> None:
    name = desk.enter("alpha", 100, **BRACKET)
    (trade,) = desk.books.trades.values()
    desk.attach(trade.id, stopLoss=None, takeProfit=None, trailingStopLoss=None)

    assert desk.books.trades[trade.id].stop is None
    assert required(desk, name) == (D("1.09"), D("0.005"), D("1.12"))
    desk.books.set_protection(name, stop=None, trail=None, target=D("1.14"))
    assert required(desk, name) == (None, None, D("1.14"))
    desk.books.set_protection("no such lot", stop=D(1), trail=None, target=None)


def test_a_stop_put_on_anothers_trade_is_for_the_lot_that_it_names(desk: Watched) -> None:
    long = desk.enter("alpha", 100)
    other = desk.enter("beta", 50)
    trade = desk.books.trade_of(other)
    assert trade is not None

    desk.attach(trade.id, stopLoss={"price": "1.09000", "clientExtensions": {"id": f"{long}.sl.2"}})

    assert required(desk, long) == (D("1.09"), None, None)
    assert required(desk, other) == (None, None, None)
    assert only(desk.at("1.08900"), Filled).owner == "alpha"


def test_the_orders_of_a_closed_trade_are_cancelled_under_their_names(desk: Watched) -> None:
    name = desk.enter("alpha", 100, **BRACKET)
    (trade,) = desk.books.trades

    events = desk.at("1.12050")

    assert only(events, Filled).role == "target"
    cancelled = found(events, Cancelled)
    assert [(each.client_id, each.reason, each.symbol, each.trade_id) for each in cancelled] == [
        (f"{name}.sl", "LINKED_TRADE_CLOSED", "EUR_USD", trade),
        (f"{name}.ts", "LINKED_TRADE_CLOSED", "EUR_USD", trade),
    ]
    assert (desk.books.lots, desk.books.trades, desk.books.orders) == ([], {}, {})


def test_an_order_that_the_broker_cancels_or_refuses_changes_nothing(desk: Watched) -> None:
    huge = {"clientExtensions": {"id": our_id("alpha")}}
    desk.order(9_000_000, **huge)
    created, cancelled = desk.catch_up()
    assert isinstance(created, Created) and isinstance(cancelled, Cancelled)
    assert (cancelled.order_id, cancelled.reason, cancelled.client_id) == (
        created.order_id,
        "INSUFFICIENT_MARGIN",
        our_id("alpha"),
    )

    assert desk.order("0.5", **huge).status == 400
    rejected = only(desk.catch_up(), Rejected)

    assert (rejected.reason, rejected.client_id) == ("UNITS_INVALID", our_id("alpha"))
    assert desk.books.positions() == {}


def test_an_entry_replaced_while_it_waits_keeps_its_name(desk: Watched) -> None:
    name = desk.enter("alpha", 100, type="LIMIT", price="1.09000")
    new = {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": "70", "price": "1.09500"}}
    desk.engine.replace_order(ACCOUNT, f"@{name}", new)
    gone, created = desk.catch_up()
    assert isinstance(gone, Cancelled) and isinstance(created, Created)
    assert (gone.replaced_by, created.replaces, created.client_id) == (created.order_id, gone.order_id, name)
    assert [order.units for order in desk.books.pending.values()] == [70]


def test_orders_and_trades_go_by_their_new_names(desk: Watched) -> None:
    desk.enter("alpha", 100, stopLossOnFill={"price": "1.09000"})
    (trade,) = desk.books.trades.values()
    assert trade.stop is not None
    desk.foreign(70, type="LIMIT", price="1.08000", clientExtensions={"id": "mine"})
    waiting = max(desk.books.pending)
    for number, name in ((trade.stop.order_id, "hand"), (waiting, our_id("beta"))):
        desk.engine.set_order_extensions(ACCOUNT, str(number), {"clientExtensions": {"id": name}})
    desk.engine.set_order_extensions(ACCOUNT, str(waiting), {"clientExtensions": {"comment": "no name"}})
    desk.engine.set_trade_extensions(ACCOUNT, str(trade.id), {"clientExtensions": {"id": "other"}})
    assert len(found(desk.catch_up(), Noted)) == 4

    assert [(fill.owner, fill.role) for fill in found(desk.at("1.07000"), Filled)] == [("alpha", "stop"), ("beta", "entry")]


def test_money_that_comes_and_goes_is_told_apart_from_profit(desk: Watched) -> None:
    desk.engine.transfer(ACCOUNT, D("250.5"))
    assert only(desk.catch_up(), Transferred).amount == D("250.5")
    assert desk.books.transferred == D("100250.5")
    assert desk.books.realised == {}


def test_a_loss_and_a_gain_are_converted_each_by_its_own_factor() -> None:
    desk = Watched(currency="GBP")
    desk.at("1.25000", "1.28000", "GBP_USD")
    desk.at("1.10000")
    desk.enter("alpha", 1000)
    desk.at("1.09000")
    loss = only(desk.leave("alpha", -500), Filled).pnl
    desk.at("1.11000")
    gain = only(desk.leave("alpha", -500, purpose="close-again"), Filled).pnl

    assert loss == D("-5") / D("1.25")
    assert gain == D("3.9063")  # 5 / 1.28
