"""Plans for books in any state, sound or not: lots, trades and orders that need not even fit each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live.protection.guarded import ENDINGS, EURUSD, SYMBOL, covered, must_have_stops, ours

from mbats.live.books import Held, Lot, Pending, Protector
from mbats.live.gate import Intent
from mbats.live.ids import client_id, is_ours
from mbats.live.protection import Action, Attach, CancelOrder, Levels, MoveStop, PlaceStop, net_stop_name, plan, protector_name
from mbats.oanda.trading import KEEP

D = Decimal
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
OF_TRADE = {"stop": "stop", "trail": "trailing", "target": "target"}
NAMES = [client_id(Intent(owner, SYMBOL, NOON, f"open-{n}")) for owner in ("alpha", "beta") for n in (1, 2)]
units = st.integers(1, 9).map(lambda size: D(size * 100))
prices = st.integers(105_000, 115_000).map(lambda points: D(points) / 100_000)
maybe = st.one_of(st.none(), prices)


@dataclass
class Sheet:
    """What a plan looks at of the books."""

    lots: list[Lot]
    trades: dict[int, Held]
    pending: dict[int, Pending]

    def position(self) -> tuple[Any, ...]:
        return tuple(self.lots), tuple(trade.units for trade in self.trades.values())


@st.composite
def sheets(draw: st.DrawFn) -> Sheet:
    numbers = count(1)
    lots = [
        Lot(
            name,
            name.split(":")[1],
            SYMBOL,
            draw(units) * draw(st.sampled_from([1, -1])),
            D("1.1"),
            NOON + timedelta(seconds=place),
            draw(maybe),
            draw(st.one_of(st.none(), st.none(), st.just(D("0.01")))),
            draw(maybe),
        )
        for place, name in enumerate(draw(st.lists(st.sampled_from(NAMES), unique=True)))
    ]
    lots += [Lot("trade:77", "", SYMBOL, draw(units), D("1.1"), NOON)] if draw(st.booleans()) else []
    side = draw(st.sampled_from([1, -1]))
    trades = {}
    for name in draw(st.lists(st.one_of(st.sampled_from(NAMES), st.none(), st.just(f"{NAMES[0]}.net3")), max_size=4)):
        number = next(numbers)
        owner = draw(st.sampled_from([*NAMES, None])) if is_ours(name) else None
        orders = {
            key: Protector(next(numbers), None, D("0.01"), owner and f"{owner}.{ENDINGS[kind]}-{number}")
            if kind == "trail"
            else Protector(next(numbers), draw(prices), None, owner and f"{owner}.{ENDINGS[kind]}-{number}")
            for kind, key in OF_TRADE.items()
            if draw(st.booleans())
        }
        if name not in [trade.client_id for trade in trades.values()]:
            trades[number] = Held(number, SYMBOL, draw(units) * side, D("1.1"), NOON, name, **orders)
    pending = {}
    for name in draw(st.lists(st.one_of(st.sampled_from(NAMES), st.none()), max_size=4)):
        number, kind = next(numbers), draw(st.sampled_from(["STOP", "STOP", "LIMIT"]))
        named = name and (f"{name}.net{number}" if kind == "STOP" else client_id(Intent("alpha", SYMBOL, NOON, f"wait-{number}")))
        signed = draw(units) * draw(st.sampled_from([1, -1]))
        pending[number] = Pending(number, kind, SYMBOL, signed, draw(prices), named, False)
    return Sheet(lots, trades, pending)


def perform(sheet: Sheet, action: Action, number: int) -> Sheet:
    """What the broker would make of it, if no price is met."""
    trades, pending = dict(sheet.trades), dict(sheet.pending)
    match action:
        case Attach():
            trade = trades[action.trade_id]
            assert is_ours(trade.client_id)
            for kind, key in OF_TRADE.items():
                value = getattr(action, kind)
                if value is None:
                    assert getattr(trade, key) is not None, "nothing is there to be cancelled"
                    trade = replace(trade, **{key: None})
                elif value is not KEEP:
                    assert action.lot_id is not None
                    name = protector_name(action.lot_id, ENDINGS[kind], trade.id, own=trade.client_id == action.lot_id)
                    price, distance = (None, value) if kind == "trail" else (value, None)
                    trade = replace(trade, **{key: Protector(number, price, distance, name)})
            trades[trade.id] = trade
        case PlaceStop():
            pending[number] = Pending(
                number, "STOP", SYMBOL, action.units, action.price, net_stop_name(action.lot_id, number), False
            )
        case MoveStop():
            assert ".net" in (pending.pop(action.order_id).client_id or "")
            pending[number] = Pending(
                number, "STOP", SYMBOL, action.units, action.price, net_stop_name(action.lot_id, number), False
            )
        case CancelOrder():
            assert ".net" in (pending.pop(action.order_id).client_id or "")
    return Sheet(sheet.lots, trades, pending)


def foreign(sheet: Sheet) -> tuple[Any, ...]:
    return (
        [trade for trade in sheet.trades.values() if not is_ours(trade.client_id)],
        [order for order in sheet.pending.values() if ".net" not in (order.client_id or "")],
    )


def facing(sheet: Sheet, lot: Lot) -> Sheet:
    """Without what stands on the wrong side for a lot, and so protects nothing of it."""
    trades = {number: trade for number, trade in sheet.trades.items() if trade.units * lot.units > 0}
    return Sheet(sheet.lots, trades, {number: order for number, order in sheet.pending.items() if order.units * lot.units < 0})


@given(sheets(), st.sampled_from([Levels(), Levels({NAMES[0]: D("1.11"), NAMES[2]: D("1.09")})]))
@settings(max_examples=300, deadline=None)
def test_a_plan_covers_every_lot_exactly_is_never_a_step_back_and_leaves_nothing_to_do(start: Sheet, levels: Levels) -> None:
    found = plan(start, SYMBOL, EURUSD, levels)
    before = {lot.id: covered(facing(start, lot), lot) for lot in ours(start)}

    sheet = start
    for number, action in enumerate(found.actions, 1000):
        sheet = perform(sheet, action, number)
        for lot in must_have_stops(sheet):
            assert covered(facing(sheet, lot), lot) >= min(before[lot.id], abs(lot.units)), (action, lot)

    after = plan(sheet, SYMBOL, EURUSD, levels)
    assert (after.actions, after.naked) == ((), ())
    assert found.armed == after.armed
    assert foreign(sheet) == foreign(start)
    for lot in ours(sheet):
        assert covered(sheet, lot) == (abs(lot.units) if lot in must_have_stops(sheet) else 0)
    for trade in sheet.trades.values():
        if is_ours(trade.client_id) and (trade.stop or trade.trailing):
            (lot,) = [lot for lot in ours(sheet) if covered(Sheet([], {trade.id: trade}, {}), lot)]
            wanted = lot.stop, lot.trail, lot.target if trade.client_id == lot.id else None
            assert (trade.stop and trade.stop.price, trade.trailing and trade.trailing.distance) == wanted[:2]
            assert (trade.target and trade.target.price) == wanted[2]
    assert len(found.actions) <= len(start.trades) + len(start.pending) + len(start.lots)


@pytest.mark.parametrize("ids", list(permutations((1, 2, 3))))
def test_a_trade_is_given_to_another_lot_only_after_its_own_has_the_next(ids: tuple[int, int, int]) -> None:
    """Three trades, each too large for the lot that its stop is for: the smallest, which is for none, begins."""
    sizes = {NAMES[0]: 300, NAMES[1]: 500, NAMES[2]: 700}
    lots = [Lot(name, name.split(":")[1], SYMBOL, D(size), D("1.1"), NOON, stop=D("1.05")) for name, size in sizes.items()]
    trades = {}
    for number, size, guarded in zip(ids, (300, 500, 700), (None, NAMES[0], NAMES[1]), strict=True):
        stop = guarded and Protector(number + 10, D("1.05"), None, f"{guarded}.sl-{number}")
        trades[number] = Held(number, SYMBOL, D(size), D("1.1"), NOON, f"{NAMES[3]}.net{number}", stop=stop or None)

    found = plan(Sheet(lots, trades, {}), SYMBOL, EURUSD)

    assert found.actions == tuple(Attach(number, name, stop=D("1.05")) for number, name in zip(ids, NAMES, strict=False))


def lot(name: str, size: int, *, stop: str | None = "1.05", trail: str | None = None) -> Lot:
    required = stop and D(stop), trail and D(trail)
    return Lot(name, "alpha", SYMBOL, D(size), D("1.1"), NOON, stop=required[0] or None, trail=required[1] or None)


def trade(number: int, size: int, *, guards: str | None = None, name: str = f"{NAMES[3]}.net1") -> Held:
    stop = Protector(number + 10, D("1.05"), None, f"{guards}.sl-{number}") if guards else None
    return Held(number, SYMBOL, D(size), D("1.1"), NOON, name, stop=stop)


def planned(lots: list[Lot], *trades: Held) -> tuple[Action, ...]:
    return plan(Sheet(lots, {each.id: each for each in trades}, {}), SYMBOL, EURUSD).actions


def test_a_trade_without_a_lot_goes_to_one_that_must_have_a_stop_even_if_another_is_a_better_fit() -> None:
    lots = [lot(NAMES[0], 300, stop=None), lot(NAMES[1], 500)]

    assert planned(lots, trade(1, 300)) == (PlaceStop(NAMES[1], D(-200), D("1.05")), Attach(1, NAMES[1], stop=D("1.05")))


def test_a_lot_with_a_stop_that_trails_beside_another_is_given_no_trade_and_keeps_none() -> None:
    lots = [lot(NAMES[0], 300, trail="0.01")]
    stop = PlaceStop(NAMES[0], D(-300), D("1.09"))

    assert planned(lots, trade(1, 300)) == (stop,)
    assert planned(lots, trade(1, 300, guards=NAMES[0])) == (stop, Attach(1, None, stop=None))


def test_a_lot_that_no_order_can_be_named_after_is_given_no_trade() -> None:
    assert planned([lot("trade:5", 300)], trade(1, 300)) == ()


def test_a_lots_own_trade_comes_before_a_larger_one_that_was_given_to_it() -> None:
    own, larger = trade(1, 300, guards=NAMES[0], name=NAMES[0]), trade(2, 400, guards=NAMES[0])

    assert planned([lot(NAMES[0], 500)], own, larger) == (PlaceStop(NAMES[0], D(-200), D("1.05")), Attach(2, None, stop=None))


@given(sheets())
@settings(max_examples=200, deadline=None)
def test_what_is_said_to_be_naked_is_what_no_stop_covers(sheet: Sheet) -> None:
    said = {each.lot_id: each.units for each in plan(sheet, SYMBOL, EURUSD).naked}

    for lot in must_have_stops(sheet):
        missing = max(D(0), abs(lot.units) - covered(sheet, lot))
        if covered(sheet, lot) == covered(facing(sheet, lot), lot):
            assert said.get(lot.id, D(0)) == missing.copy_sign(lot.units) if missing else lot.id not in said
    assert set(said) <= {lot.id for lot in must_have_stops(sheet)}


@given(sheets())
@settings(max_examples=100, deadline=None)
def test_the_same_books_have_the_same_plan_in_whatever_order_they_list_things(sheet: Sheet) -> None:
    turned = Sheet(sheet.lots, dict(reversed(sheet.trades.items())), dict(reversed(sheet.pending.items())))

    assert plan(turned, SYMBOL, EURUSD) == plan(sheet, SYMBOL, EURUSD)
