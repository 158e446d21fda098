"""Two deployments and a person trade one pair of one account: every fill is one owner's, and the sums are the broker's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from live.books.watched import Watched, found, only, our_id
from simulated import ACCOUNT

from mbats.live.books import Alarm, Filled, Financed
from mbats.live.ids import read_client_id

D = Decimal


@pytest.fixture
def desk() -> Watched:
    desk = Watched()
    desk.at("1.10000")
    return desk


def holdings(desk: Watched) -> dict[str, Decimal]:
    return {owner: units for (owner, symbol), units in desk.books.positions().items() if symbol == "EUR_USD"}


def fills(events: list[Any]) -> list[tuple[str, str, int]]:
    return [(fill.owner, fill.role, int(fill.units)) for fill in found(events, Filled)]


def test_opposite_deployments_hold_what_they_bought_though_the_broker_nets_it(desk: Watched) -> None:
    long = desk.enter("alpha", 100)
    short = desk.enter("beta", -160)

    assert holdings(desk) == {"alpha": 100, "beta": -160}
    assert [(lot.id, lot.units, lot.price) for lot in desk.books.lots] == [(long, 100, D("1.1")), (short, -160, D("1.1"))]
    assert desk.books.broker_position("EUR_USD") == -60
    (trade,) = desk.books.trades.values()
    lot = desk.books.lot_of(trade.id)
    assert (trade.client_id, trade.units, lot and lot.id) == (short, -60, short)
    assert desk.books.trade_of(long) is None
    assert desk.books.trade_of(short) == trade


def test_an_owner_realises_by_its_own_average_price_and_the_rest_of_the_brokers_sum_is_nobodys(desk: Watched) -> None:
    desk.enter("alpha", 100_000)
    desk.at("1.10200")
    desk.enter("beta", -100_000)  # the broker closes alpha's trade: it has realised 200
    assert (desk.books.realised["beta"], desk.books.realised[""]) == (0, 200)
    desk.at("1.10100")

    fill = only(desk.leave("beta", 100_000), Filled)  # for the broker this opens a trade of beta's

    assert (fill.pnl, fill.role, fill.position) == (100, "exit", 0)
    desk.at("1.10400")
    assert only(desk.leave("alpha", -100_000), Filled).pnl == 400
    assert desk.books.realised == {"alpha": 400, "beta": 100, "": 0}
    assert desk.balance == 100_000 + 500


def test_own_lots_are_reduced_oldest_first_and_the_average_price_stays(desk: Watched) -> None:
    first = desk.enter("alpha", 100, purpose="open-long")
    desk.at("1.20000")
    second = desk.enter("alpha", 300, purpose="open-long-again")
    assert desk.books.average_price("alpha", "EUR_USD") == D("1.175")

    fill = only(desk.leave("alpha", -150), Filled)

    assert (fill.pnl, fill.lot_id) == (D("3.75"), first)
    assert [(lot.id, lot.units) for lot in desk.books.lots] == [(second, 250)]
    assert desk.books.average_price("alpha", "EUR_USD") == D("1.175")
    assert desk.books.average_price("beta", "EUR_USD") is None


def test_an_order_larger_than_the_position_closes_it_and_opens_the_rest_as_a_lot_of_its_own(desk: Watched) -> None:
    desk.enter("alpha", 100)
    desk.at("1.10100")

    turn = desk.enter("alpha", -250, stopLossOnFill={"price": "1.20000"})

    (lot,) = desk.books.lots
    assert (lot.id, lot.units, lot.price, lot.stop) == (turn, -150, D("1.101"), D("1.2"))
    fill = found(desk.events, Filled)[-1]
    assert (fill.role, fill.pnl, fill.units, fill.position, fill.lot_id) == ("entry", D("0.1"), -250, -150, turn)
    assert fill.opened_trade_id in desk.books.trades


def test_the_stop_of_a_lot_ends_that_lot_and_no_older_one(desk: Watched) -> None:
    old = desk.enter("alpha", 100)
    new = desk.enter("alpha", 70, purpose="open-long-again", stopLossOnFill={"price": "1.09000"})

    fill = only(desk.at("1.08950"), Filled)

    assert (fill.owner, fill.role, fill.lot_id, fill.units, fill.price) == ("alpha", "stop", new, -70, D("1.0895"))
    assert fill.client_id == f"{new}.sl"
    assert [lot.id for lot in desk.books.lots] == [old]


def test_a_standalone_stop_of_netted_units_ends_its_lot_and_leaves_the_others_what_they_hold(desk: Watched) -> None:
    desk.enter("beta", -50, purpose="open-short-before")
    long = desk.enter("alpha", 100)
    short = desk.enter("beta", -100)
    stop = {"price": "1.12000", "clientExtensions": {"id": f"{short}.net.1"}}
    assert desk.order(100, type="STOP", **stop).status == 201
    desk.catch_up()

    fill = only(desk.at("1.12000"), Filled)

    assert (fill.owner, fill.role, fill.lot_id, fill.units, fill.position) == ("beta", "stop", short, 100, -50)
    assert [(lot.id, lot.units) for lot in desk.books.lots][-1] == (long, 100)


def test_a_target_that_the_trader_watched_is_told_by_its_name(desk: Watched) -> None:
    long = desk.enter("alpha", 100)
    purpose = long.rpartition(":")[2]

    assert fills(desk.leave("alpha", -40, purpose=f"{purpose}.tp")) == [("alpha", "target", -40)]


def test_a_close_of_a_trade_is_its_owners(desk: Watched) -> None:
    desk.enter("alpha", 100)
    second = desk.enter("beta", 70)
    trade = desk.books.trade_of(second)
    assert trade is not None

    assert fills(desk.close(trade.id, "30")) == [("beta", "exit", -30)]
    assert holdings(desk) == {"alpha": 100, "beta": 40}


def test_a_trade_that_outlived_its_lot_stands_for_those_that_no_trade_covers(desk: Watched) -> None:
    long = desk.enter("alpha", 100)
    desk.enter("beta", 50, stopLossOnFill={"price": "1.09000"})
    desk.leave("beta", -50)  # the broker takes it from alpha's trade, the older one
    assert holdings(desk) == {"alpha": 100}

    events = desk.at("1.09000")  # the stop that stood for beta

    assert fills(events) == [("alpha", "stop", -50)]
    assert [(lot.id, lot.units) for lot in desk.books.lots] == [(long, 50)]


def test_a_stop_whose_lot_is_gone_ends_another_of_its_deployment_first(desk: Watched) -> None:
    desk.enter("beta", 30)
    gone = desk.enter("alpha", 50)
    left = desk.enter("alpha", 40, purpose="open-long-again")
    trade = desk.books.trade_of(left)
    assert trade is not None
    desk.attach(trade.id, stopLoss={"price": "1.09000", "clientExtensions": {"id": f"{gone}.sl.2"}})
    desk.leave("alpha", -50)
    desk.leave("beta", -30)
    desk.foreign(100)

    fill = only(desk.at("1.09000"), Filled)

    assert (fill.owner, fill.lot_id, fill.units) == ("alpha", left, -40)
    assert holdings(desk) == {"": 100}


def test_a_trade_opened_by_an_exit_is_theirs_who_hold_the_units(desk: Watched) -> None:
    desk.enter("beta", -60)
    desk.enter("alpha", 100)
    desk.leave("beta", 60)  # opens a trade at the broker, though beta is flat
    exit_trade = max(desk.books.trades)
    assert desk.books.lot_of(exit_trade) is None

    assert fills(desk.close(exit_trade)) == [("alpha", "exit", -60)]
    assert holdings(desk) == {"alpha": 40}


def test_a_persons_order_is_nobodys_and_takes_nothing_from_a_deployment(desk: Watched) -> None:
    desk.enter("alpha", 100, stopLossOnFill={"price": "1.09000"})
    desk.foreign(-130, stopLossOnFill={"price": "1.20000"}, clientExtensions={"id": "mbats:what"})

    assert holdings(desk) == {"alpha": 100, "": -130}
    lot = desk.books.lots[-1]
    assert (lot.id, lot.deployment, lot.stop) == (f"trade:{desk.books.last_id - 2}", "", None)
    assert found(desk.events, Filled)[-1].role == "external"


def test_a_position_closed_by_a_person_is_closed_for_each_owner(desk: Watched) -> None:
    desk.enter("alpha", 100)
    desk.enter("beta", 50)
    desk.foreign(30)
    desk.engine.close_position(ACCOUNT, "EUR_USD", {"longUnits": "ALL"})

    assert fills(desk.catch_up()) == [("alpha", "external", -100), ("beta", "external", -50), ("", "external", -30)]
    assert holdings(desk) == {}


def test_a_margin_closeout_takes_what_the_broker_held_and_is_an_alarm(desk: Watched) -> None:
    desk.enter("alpha", 100)
    desk.enter("beta", -30)
    desk.engine.force_closeout(ACCOUNT)

    events = desk.catch_up()

    assert fills(events) == [("alpha", "closeout", -70)]
    assert holdings(desk) == {"alpha": 30, "beta": -30}
    assert "closed 70 EUR_USD" in only(events, Alarm).text


def test_interest_is_paid_by_those_for_whom_the_trades_stand(desk: Watched) -> None:
    desk.enter("alpha", 100_000)
    desk.enter("beta", 50_000)
    desk.enter("gamma", -50_000)
    desk.foreign(10_000)
    owners = {str(trade.id): read_client_id(trade.client_id) for trade in desk.books.trades.values()}
    desk.until("2024-03-05T22:00:01")

    (body,) = [each for each in desk.account.transactions if each["type"] == "DAILY_FINANCING"]
    event = only(desk.catch_up(), Financed)

    said = {each["tradeID"]: D(each["financing"]) for each in body["positionFinancings"][0]["openTradeFinancings"]}
    paid = {intent.deployment if (intent := owners[number]) else "": amount for number, amount in said.items()}
    assert len(paid) == 3
    assert all(paid.values())
    assert dict(event.amounts) == paid == desk.books.financing


def test_interest_of_a_trade_that_stands_for_two_is_split_by_units(desk: Watched) -> None:
    desk.enter("gamma", -60_000)
    desk.enter("alpha", 40_000)
    desk.enter("beta", 20_000)
    desk.leave("gamma", 60_000)
    assert len(desk.books.trades) == 1  # which gamma's exit opened
    desk.until("2024-03-05T22:00:01")

    event = only(desk.catch_up(), Financed)

    assert set(event.amounts) == {"alpha", "beta"}
    assert abs(event.amounts["alpha"] - 2 * event.amounts["beta"]) < D("0.001")
    assert sum(event.amounts.values()) == desk.balance - 100_000 - sum(desk.books.realised.values())


def test_our_id_is_read_back() -> None:
    assert our_id("alpha") == "mbats:alpha:EUR_USD:20240305T120000Z:open-long"
