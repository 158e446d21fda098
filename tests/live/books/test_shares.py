"""Whose the units of a trade are: a rule over lots and trades, looked at one turn after the other."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from mbats.live.books import Held, Lot
from mbats.live.books.holdings import share_out

D = Decimal
MOMENT = datetime(2024, 3, 5, 12, tzinfo=UTC)


def lot(name: str, owner: str, units: int, symbol: str = "EUR_USD") -> Lot:
    return Lot(name, owner, symbol, D(units), D("1.1"), MOMENT)


def held(number: int, units: int, symbol: str = "EUR_USD") -> Held:
    return Held(number, symbol, D(units), D("1.1"), MOMENT, None)


def shares(lots: list[Lot], trades: list[Held], made: dict[int, str], units: int, **named: str) -> list[tuple[str | None, int]]:
    by_id = {trade.id: trade for trade in trades}
    return [(each.lot_id, int(each.units)) for each in share_out(lots, by_id, made, trades[0], D(units), **named)]


LOTS = [
    lot("a", "alpha", 100),
    lot("b", "beta", 60),
    lot("c", "alpha", 50),
    lot("short", "beta", -10),
    lot("yen", "beta", 9, "USD_JPY"),
]


def test_a_trade_is_its_own_lots_before_all_others() -> None:
    assert shares(LOTS, [held(1, 50), held(2, 100)], {1: "c", 2: "a"}, -50) == [("c", 50)]


def test_what_a_trade_has_beyond_its_lot_stands_for_lots_that_no_trade_covers() -> None:
    trades = [held(1, 80), held(2, 100)]

    assert shares(LOTS, trades, {1: "c", 2: "a"}, -80) == [("c", 50), ("b", 30)]


def test_a_lot_that_a_trade_covers_in_part_needs_the_rest() -> None:
    assert shares(LOTS, [held(1, 60), held(2, 70)], {2: "a"}, -60) == [("a", 30), ("b", 30)]


def test_the_lot_that_an_order_names_comes_first_and_then_its_owners_others() -> None:
    trades, made = [held(1, 200), held(2, 10)], {1: "b"}

    assert shares(LOTS, trades, made, -120, lot_id="c", owner="alpha") == [("c", 50), ("a", 70)]
    assert shares(LOTS, trades, made, -10, lot_id="short", owner="alpha") == [("a", 10)]
    assert shares(LOTS, trades, made, -10) == [("b", 10)]


def test_covered_lots_come_last_and_what_is_left_is_the_orders() -> None:
    trades = [held(1, 300), held(2, 60)]

    assert shares([lot("a", "alpha", 10), lot("b", "beta", 60)], trades, {2: "b"}, -65) == [("a", 10), ("b", 55)]
    assert shares([lot("short", "alpha", -10)], trades, {}, -65) == [(None, 65)]
    (share,) = share_out([], {1: trades[0]}, {}, trades[0], D(-5), owner="beta")
    assert (share.owner, share.units) == ("beta", 5)


UNITS = st.integers(-50, 50).filter(bool)


@given(
    units=st.lists(UNITS, min_size=1, max_size=6),
    size=st.integers(1, 300),
    others=st.dictionaries(st.integers(2, 6), UNITS, max_size=4),
    made=st.dictionaries(st.integers(1, 6), st.sampled_from("abcdef")),
    named=st.none() | st.sampled_from("abcdef"),
)
def test_all_units_are_shared_out_and_nobody_gives_more_than_it_has(
    units: list[int], size: int, others: dict[int, int], made: dict[int, str], named: str | None
) -> None:
    lots = [
        lot(name, name if place % 2 else "alpha", each) for place, (name, each) in enumerate(zip("abcdef", units, strict=False))
    ]
    trades = {1: held(1, 400), **{number: held(number, each) for number, each in others.items()}}
    by_id = {each.id: each for each in lots}

    found = share_out(lots, trades, made, trades[1], D(-size), lot_id=named, owner="alpha")

    assert sum(share.units for share in found) == size
    for share in found:
        if share.lot_id is not None:
            assert 0 < share.units <= by_id[share.lot_id].units
            assert share.owner == by_id[share.lot_id].deployment
    assert len({share.lot_id for share in found}) == len(found)
