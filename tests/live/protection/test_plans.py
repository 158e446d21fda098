"""Every lot has exactly the stop that it must have, on a real exchange's trades and orders."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from gates import quote
from live.protection.guarded import EURUSD, SYMBOL, Guarded, covered, ours, positions

from mbats.live.books import Pending
from mbats.live.protection import (
    ArmedTarget,
    Attach,
    CancelOrder,
    Levels,
    MoveStop,
    Naked,
    PlaceStop,
    follow,
    naked,
    net_stop_name,
    plan,
    protector_name,
)
from mbats.oanda.trading import KEEP

D = Decimal


@pytest.fixture
def desk() -> Guarded:
    desk = Guarded()
    desk.see("1.10000")
    return desk


def long(desk: Guarded, units: int = 1000, stop: str = "1.09000", owner: str = "alpha", **more: object) -> str:
    return desk.enter(owner, units, stopLossOnFill={"price": stop}, **more)


def short(desk: Guarded, units: int = -600, stop: str = "1.11000", owner: str = "beta", **more: object) -> str:
    return desk.enter(owner, units, stopLossOnFill={"price": stop}, **more)


def test_a_bracket_that_the_broker_made_needs_nothing(desk: Guarded) -> None:
    long(desk, takeProfitOnFill={"price": "1.12000"})

    found = desk.plan()

    assert (found.actions, found.armed, found.naked) == ((), (), ())


def test_units_that_were_netted_away_get_stops_of_their_own_and_targets_that_are_watched(desk: Guarded) -> None:
    one = long(desk, takeProfitOnFill={"price": "1.12000"})
    other = short(desk, takeProfitOnFill={"price": "1.08000"})

    found = desk.protect()

    assert found.actions == (PlaceStop(one, D(-600), D("1.09")), PlaceStop(other, D(600), D("1.11")))
    assert found.armed == (ArmedTarget(one, D(-600), D("1.12")), ArmedTarget(other, D(600), D("1.08")))
    assert found.naked == (Naked(one, D(600)), Naked(other, D(-600)))
    after = desk.plan()
    assert (after.actions, after.armed, after.naked) == ((), found.armed, ())


def test_a_gap_through_all_stops_leaves_everybody_flat_though_no_trader_lives(desk: Guarded) -> None:
    long(desk)
    other = short(desk)
    desk.protect()

    desk.see("1.07000")
    assert positions(desk.books) == {"beta": D(-600)}
    assert desk.books.broker_position(SYMBOL) == -600

    desk.see("1.13000")
    assert positions(desk.books) == {}
    assert desk.books.broker_position(SYMBOL) == 0
    assert other not in [lot.id for lot in desk.books.lots]


def test_a_stop_that_the_broker_lost_is_put_on_the_trade(desk: Guarded) -> None:
    desk.engine.strip_on_fill = True
    one = long(desk, takeProfitOnFill={"price": "1.12000"}, trailingStopLossOnFill={"distance": "0.01000"})

    found = desk.protect()

    assert found.naked == (Naked(one, D(1000)),)
    assert found.actions == (Attach(desk.own_trade(one), one, D("1.09"), D("0.01"), D("1.12")),)
    assert desk.plan().actions == ()


def test_a_stop_that_a_person_took_away_comes_back_and_one_that_a_person_moved_stays(desk: Guarded) -> None:
    one = long(desk)
    trade = desk.own_trade(one)

    desk.attach(trade, stopLoss={"price": "1.09500"})
    assert desk.plan().actions == ()

    desk.cancel_by_hand(trade, "stopLoss")
    assert desk.protect().actions == (Attach(trade, one, stop=D("1.095")),)


def test_a_trade_that_a_stop_opened_for_others_carries_the_stop_of_one_of_them_before_the_stop_order_goes(desk: Guarded) -> None:
    long(desk)
    other = short(desk, takeProfitOnFill={"price": "1.07000"})
    desk.protect()
    desk.see("1.08000")  # the longs' stops open what the shorts hold
    (trade,) = desk.books.trades.values()
    (stop,) = desk.books.pending.values()

    found = desk.protect()

    assert found.actions == (
        Attach(trade.id, other, stop=D("1.11")),
        CancelOrder(stop.id, "its lot needs no stop of its own any more"),
    )
    assert desk.plan().actions == ()
    assert desk.plan().armed == (
        ArmedTarget(other, D(600), D("1.07")),
    )  # at the trade's price it might be a loss, which is refused
    desk.see("1.12000")
    assert (positions(desk.books), desk.books.broker_position(SYMBOL)) == ({}, 0)


def test_a_trade_larger_than_its_lot_loses_its_stop_after_the_lot_has_another(desk: Guarded) -> None:
    """Alpha sells at the market, and the broker ends the oldest trade, which is beta's: alpha's own is left, too large for it."""
    old = long(desk, 500, "1.08000", "beta")
    one = long(desk)
    desk.leave("alpha", -300)

    found = desk.protect()

    assert [type(action) for action in found.actions] == [PlaceStop, PlaceStop, Attach]
    assert set(found.actions[:2]) == {PlaceStop(old, D(-300), D("1.08")), PlaceStop(one, D(-700), D("1.09"))}
    assert found.actions[2] == Attach(desk.own_trade(one), None, stop=None)
    assert {lot.id: covered(desk.books, lot) for lot in ours(desk.books)} == {old: D(500), one: D(700)}


def test_a_trade_too_large_for_its_lot_is_given_to_one_that_has_need_of_it_after_its_own_has_another_stop(desk: Guarded) -> None:
    one = long(desk, 1000)
    other = long(desk, 500, "1.08000", "beta")
    gamma = short(desk, -100, "1.12000", "gamma")
    desk.protect()
    desk.leave("beta", -450)  # the broker ends 450 of alpha's trade, which is the oldest, and leaves beta's as it is
    trade = desk.own_trade(other)
    (stop,) = [order.id for order in desk.books.pending.values() if (order.client_id or "").startswith(one)]

    assert desk.protect().actions == (
        PlaceStop(other, D(-50), D("1.08")),
        Attach(trade, one, stop=D("1.09")),
        MoveStop(stop, one, D(-50), D("1.09")),
    )
    assert desk.plan().actions == ()
    assert {lot.id: covered(desk.books, lot) for lot in ours(desk.books)} == {one: 1000, other: 50, gamma: 100}
    desk.see("1.07000")
    assert positions(desk.books) == {"gamma": D(-100)}


def test_what_is_not_ours_is_left_alone(desk: Guarded) -> None:
    desk.foreign(500, stopLossOnFill={"price": "1.09500"})
    desk.foreign(-300, type="STOP", price="1.05000", clientExtensions={"id": "somebody"})
    desk.foreign(200, type="LIMIT", price="1.05000")

    assert desk.plan().actions == ()


def test_a_strategys_own_stop_and_limit_orders_are_left_alone(desk: Guarded) -> None:
    long(desk)
    desk.enter("alpha", -500, type="STOP", price="1.05000", purpose="open-short-stop@1.05")
    desk.enter("alpha", 500, type="LIMIT", price="1.06000", purpose="open-long-limit@1.06")

    assert desk.plan().actions == ()


def test_a_person_who_sells_against_a_lot_leaves_it_covered_by_a_stop_order(desk: Guarded) -> None:
    one = long(desk)
    desk.foreign(-1600)

    assert desk.protect().actions == (PlaceStop(one, D(-1000), D("1.09")),)
    desk.see("1.08000")
    assert (positions(desk.books), desk.books.broker_position(SYMBOL)) == ({}, -1600)


def test_the_stop_order_follows_the_size_of_what_is_netted_in_one_request(desk: Guarded) -> None:
    one = long(desk)
    short(desk, -300)
    desk.protect()
    short(desk, -200, owner="gamma")
    first = [order.id for order in desk.books.pending.values() if (order.client_id or "").startswith(one)]

    assert MoveStop(first[0], one, D(-500), D("1.09")) in desk.protect().actions

    desk.leave("alpha", -900)  # ends the 500 that its trade still has, and opens 400 of what beta and gamma hold
    (action,) = [action for action in desk.plan().actions if isinstance(action, MoveStop)]
    assert (action.lot_id, action.units) == (one, D(-100))


def test_a_stop_is_made_larger_before_another_is_made_smaller(desk: Guarded) -> None:
    one, other = long(desk, 1000), long(desk, 1000, "1.08000", "gamma")
    short(desk, -2000)
    desk.protect()
    desk.books.put_lot(replace(desk.lot(one), units=D(400)))
    desk.books.put_lot(replace(desk.lot(other), units=D(1600)))

    assert [action.units for action in desk.plan().actions if isinstance(action, MoveStop)] == [D(-1600), D(-400)]


def test_what_a_strategy_changes_or_cancels_is_changed_or_cancelled_at_the_broker(desk: Guarded) -> None:
    one = long(desk, takeProfitOnFill={"price": "1.12000"})
    short(desk)
    desk.protect()
    trade = desk.own_trade(one)
    (stop,) = [order.id for order in desk.books.pending.values() if (order.client_id or "").startswith(one)]

    desk.books.set_protection(one, stop=D("1.095"), trail=None, target=D("1.13"))
    found = desk.protect()
    assert found.actions == (MoveStop(stop, one, D(-600), D("1.095")), Attach(trade, one, D("1.095"), KEEP, D("1.13")))
    assert ArmedTarget(one, D(-600), D("1.13")) in found.armed

    desk.books.set_protection(one, stop=None, trail=None, target=None)
    found = desk.protect()
    assert found.actions[0] == Attach(trade, one, None, KEEP, None)
    assert isinstance(found.actions[1], CancelOrder)
    assert one not in [target.lot_id for target in desk.plan().armed]
    assert one not in [each.lot_id for each in desk.plan().naked]


def test_of_two_stop_orders_for_the_same_units_the_right_one_stays(desk: Guarded) -> None:
    one = long(desk)
    short(desk, -1000)
    desk.protect()
    (right,) = [order for order in desk.books.pending.values() if (order.client_id or "").startswith(one)]
    desk.do(PlaceStop(one, D(-1200), D("1.085")))
    desk.do(PlaceStop(one, D(1000), D("1.15")))
    second, wrong = list(desk.books.pending)[-2:]

    found = desk.protect()

    assert {action.order_id for action in found.actions if isinstance(action, CancelOrder)} == {second, wrong}
    assert len(found.actions) == 2
    assert right.id in desk.books.pending


def test_stop_orders_of_a_lot_that_is_gone_are_cancelled(desk: Guarded) -> None:
    long(desk)
    other = short(desk)
    desk.protect()
    desk.leave("beta", 600)
    (stop,) = [order.id for order in desk.books.pending.values() if (order.client_id or "").startswith(other)]

    assert CancelOrder(stop, "its lot is gone") in desk.plan().actions
    desk.protect()
    assert [lot.deployment for lot in desk.books.lots] == ["alpha"]
    assert desk.plan().actions == ()


def test_prices_are_cut_to_the_digits_of_the_instrument(desk: Guarded) -> None:
    one = long(desk)
    short(desk)
    desk.protect()
    desk.books.set_protection(one, stop=D("1.0912345678"), trail=None, target=D("1.1212345678"))

    found = desk.protect()

    assert found.armed[0].price == D("1.12123")
    assert {action.price for action in found.actions if isinstance(action, MoveStop)} == {D("1.09123")}
    assert desk.plan().actions == ()


def test_units_that_are_too_few_for_an_order_stay_naked_and_are_said_to_be(desk: Guarded) -> None:
    one = long(desk)
    short(desk, -5)
    coarse = replace(EURUSD, minimum_units=D(10))

    found = plan(desk.books, SYMBOL, coarse)

    assert found.actions == ()
    assert Naked(one, D(5)) in found.naked


def test_a_lot_that_no_order_can_be_named_after_stays_naked_and_is_said_to_be(desk: Guarded) -> None:
    one = long(desk)
    short(desk, -1000)
    desk.protect()
    desk.books.lots = [replace(lot, id="trade:5") if lot.id == one else lot for lot in desk.books.lots]

    found = desk.plan()

    assert [type(action) for action in found.actions] == [CancelOrder]
    assert found.naked == (Naked("trade:5", D(1000)),)


def test_one_symbol_is_planned_without_the_others(desk: Guarded) -> None:
    desk.at("150.000", "150.010", "USD_JPY")
    one = desk.enter("alpha", 1000, "USD_JPY", stopLossOnFill={"price": "149.000"})
    other = desk.enter("beta", -600, "USD_JPY", stopLossOnFill={"price": "151.000"})
    long(desk)
    desk.books.pending[99] = Pending(99, "STOP", "USD_JPY", D(-600), D("149"), net_stop_name(one, 1), False)

    assert desk.plan().actions == ()
    assert naked(desk.books, SYMBOL) == ()
    yen = replace(EURUSD, name="USD_JPY", display_precision=3)
    assert plan(desk.books, "USD_JPY", yen).actions == (PlaceStop(other, D(600), D("151")),)


def test_a_lot_of_nobodys_gets_nothing_even_if_it_says_that_it_must_have_a_stop(desk: Guarded) -> None:
    desk.foreign(500)
    desk.books.put_lot(replace(desk.books.lots[0], stop=D("1.05"), target=D("1.2")))

    found = desk.plan()

    assert (found.actions, found.armed, found.naked) == ((), (), ())


def test_a_stop_order_on_the_wrong_side_covers_nothing_and_is_turned_round(desk: Guarded) -> None:
    one = long(desk)
    short(desk, -1000)
    desk.do(PlaceStop(one, D(1400), D("1.15")))
    (wrong,) = desk.books.pending

    found = desk.plan()

    assert found.naked[0] == Naked(one, D(1000))
    assert found.actions[0] == MoveStop(wrong, one, D(-1000), D("1.09"))


def test_a_stop_of_another_lot_at_the_same_price_is_not_the_right_one(desk: Guarded) -> None:
    """Else its fill would be booked for the other."""
    one = long(desk)
    other = short(desk, -1000, owner="gamma")
    desk.protect()
    held = desk.enter("beta", 500, stopLossOnFill={"price": "1.09000"})
    trade = desk.own_trade(held)
    desk.attach(trade, stopLoss={"price": "1.09000", "clientExtensions": {"id": f"{other}.sl-{trade}"}})

    found = desk.plan()

    assert Attach(trade, held, stop=D("1.09")) in found.actions
    assert Naked(held, D(500)) in found.naked
    assert one not in [each.lot_id for each in found.naked]


# --- Trailing stops -----------------------------------------------------------------------------------------------------------


def test_a_trailing_stop_of_netted_units_starts_where_it_had_trailed_to_and_moves_in_steps(desk: Guarded) -> None:
    one = desk.enter("alpha", 1000, trailingStopLossOnFill={"distance": "0.01000"})
    desk.see("1.10500")
    short(desk, -1000, "1.15000")

    assert desk.protect().actions[0] == PlaceStop(one, D(-1000), D("1.095"))
    (stop,) = [order.id for order in desk.books.pending.values() if (order.client_id or "").startswith(one)]

    desk.see("1.10590")
    assert desk.plan().actions == ()
    desk.see("1.10600")
    assert desk.protect().actions == (MoveStop(stop, one, D(-1000), D("1.096")),)
    desk.see("1.10000")
    assert desk.plan().actions == ()
    desk.see("1.09600")
    assert positions(desk.books) == {"beta": D(-1000)}


def test_a_trailing_stop_of_which_no_level_is_known_stays_where_it_stands_or_begins_where_its_lot_did(desk: Guarded) -> None:
    one = desk.enter("alpha", -1000, trailingStopLossOnFill={"distance": "0.01000"})
    long(desk, 1000, "1.05000", "beta")
    assert plan(desk.books, SYMBOL, EURUSD).actions[0] == PlaceStop(one, D(1000), D("1.11"))

    desk.see("1.09000")
    desk.protect()
    (stop,) = [order for order in desk.books.pending.values() if (order.client_id or "").startswith(one)]
    assert stop.price == D("1.10")
    assert plan(desk.books, SYMBOL, EURUSD).actions == ()


def test_the_nearer_of_a_stop_and_a_trailing_stop_counts(desk: Guarded) -> None:
    one = long(desk, 1000, "1.09500", trailingStopLossOnFill={"distance": "0.01000"})
    short(desk, -1000)
    desk.protect()
    assert {order.price for order in desk.books.pending.values() if order.units < 0} == {D("1.095")}

    desk.see("1.10550")
    desk.protect()
    assert {order.price for order in desk.books.pending.values() if order.units < 0} == {D("1.095")}

    desk.see("1.10700")
    desk.protect()
    assert {order.price for order in desk.books.pending.values() if order.units < 0} == {D("1.097")}

    desk.books.set_protection(one, stop=D("1.0971"), trail=D("0.01"), target=None)
    assert desk.plan().actions[0].price == D("1.0971")  # a stop at a price is exact, however small the step


def test_of_two_stop_orders_of_a_trailing_stop_the_nearer_stays(desk: Guarded) -> None:
    one = desk.enter("alpha", 1000, trailingStopLossOnFill={"distance": "0.01000"})
    short(desk, -1000, "1.15000")
    for price in ("1.09000", "1.09500", "1.09200"):
        desk.do(PlaceStop(one, D(-1000), D(price)))

    desk.protect()

    assert [order.price for order in desk.books.pending.values() if order.units < 0] == [D("1.095")]


def test_a_trailing_lot_keeps_its_stop_order_rather_than_begin_anew_on_anothers_trade(desk: Guarded) -> None:
    long(desk, 600)
    one = desk.enter("beta", -600, trailingStopLossOnFill={"distance": "0.01000"})
    desk.see("1.09500")
    desk.protect()
    desk.see("1.08900")

    assert desk.books.broker_position(SYMBOL) == -600
    assert [type(action) for action in desk.protect().actions] == [MoveStop]
    assert desk.lot(one).units == -600


def test_levels_follow_our_trailing_lots_of_the_symbol_on_quotes_that_can_be_dealt_on(desk: Guarded) -> None:
    one = desk.enter("alpha", 1000, trailingStopLossOnFill={"distance": "0.01000"})
    desk.at("150.000", "150.000", "USD_JPY")
    other = desk.enter("alpha", -1000, "USD_JPY", trailingStopLossOnFill={"distance": "1.000"})
    desk.foreign(100)
    desk.books.put_lot(replace(desk.books.lots[-1], trail=D("0.01")))
    first = Levels({other: D("150.5"), "gone": D(1)})

    def after(**more: object) -> dict[str, Decimal]:
        return dict(follow(first, desk.books, SYMBOL, quote(bid=D("1.2"), ask=D("1.3"), **more)).prices)

    assert after() == {one: D("1.19"), other: D("150.5")}
    assert after(tradeable=False) == {other: D("150.5")}
    yen = follow(first, desk.books, "USD_JPY", quote("USD_JPY", bid=D("149"), ask=D("149.2")))
    assert yen.prices == {other: D("150.2")}
    assert follow(yen, desk.books, "USD_JPY", quote("USD_JPY", bid=D("149"), ask=D("149.3"))) == yen


# --- Names --------------------------------------------------------------------------------------------------------------------


def test_names_of_protecting_orders_lead_back_to_their_lot_and_differ_from_trade_to_trade(desk: Guarded) -> None:
    one = long(desk)

    names = [
        protector_name(one, "sl", 7, own=True),
        protector_name(one, "sl", 7, own=False),
        protector_name(one, "tp", 8, own=False),
    ]

    assert names == [f"{one}.sl", f"{one}.sl-7", f"{one}.tp-8"]
    assert net_stop_name(one, 3) == f"{one}.net3"
    desk.books.pending[99] = Pending(99, "STOP", SYMBOL, D(-1), D(1), net_stop_name(one, 3), False)
    assert isinstance(desk.plan().actions[0], CancelOrder)
