"""The worst price that every market order carries (R22), and when a close goes without one."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from gates import ACTIVE, NOW, WIDE, holding, order, quote, view

from mbats.live.gate import Allowed, Kind, Order, View, judge

HELD = holding(1000) | holding(-1000, "USD_JPY")


def sent(asked: Order, seen: View | None = None) -> Order:
    answer = judge(asked, seen or view(positions=HELD), WIDE, ACTIVE, NOW)
    assert isinstance(answer, Allowed), answer
    assert isinstance(answer.order, Order)
    return answer.order


@pytest.mark.parametrize(
    ("asked", "bound"),
    [
        (order(1000), "1.00205"),  # 1.00005 × 1.002 = 1.0020501, down
        (order(-2000), "0.99796"),  # 0.99995 × 0.998 = 0.9979501, up
        (order(-1000), "0.97996"),  # a close: 0.99995 × 0.98 = 0.979951, up
        (order(500, "USD_JPY"), "102.005"),  # a close: 100.005 × 1.02 = 102.0051, down
    ],
)
def test_a_market_order_is_bound_to_its_own_side_of_the_quote_rounded_to_the_stricter_side(asked: Order, bound: str) -> None:
    assert sent(asked).price_bound == Decimal(bound)


def test_the_size_and_all_else_stay_as_asked() -> None:
    asked = order(1000, purpose="pyramid")
    answer = sent(asked)

    assert (answer.units, answer.symbol, answer.intent, answer.kind) == (asked.units, asked.symbol, asked.intent, asked.kind)


@pytest.mark.parametrize(
    ("units", "asked", "kept"), [(1000, "1.001", "1.001"), (1000, "1.5", "1.00205"), (-2000, "0.999", "0.999")]
)
def test_a_stricter_bound_that_was_asked_for_stays(units: int, asked: str, kept: str) -> None:
    assert sent(order(units, price_bound=Decimal(asked))).price_bound == Decimal(kept)


@pytest.mark.parametrize(
    ("kind", "price", "bound"),
    [(Kind.STOP, "1.01", "1.01202"), (Kind.MARKET_IF_TOUCHED, "0.99", "0.99198"), (Kind.LIMIT, "0.99", None)],
)
def test_a_stop_that_adds_is_bound_to_its_own_price_and_a_limit_by_itself(kind: Kind, price: str, bound: str | None) -> None:
    answer = sent(order(1000, kind=kind, price=Decimal(price)))

    assert answer.price_bound == (Decimal(bound) if bound else None)


def test_a_stop_that_protects_is_never_bound() -> None:
    stop = order(-1000, kind=Kind.STOP, price=Decimal("0.9"), reduce_only=True)

    assert sent(stop).price_bound is None


@pytest.mark.parametrize(
    "quotes",
    [
        {},
        {"EUR_USD": quote(time=NOW - timedelta(minutes=5))},
        {"EUR_USD": quote(tradeable=False)},
        {"EUR_USD": quote(bid=Decimal(2))},
    ],
    ids=["none", "stale", "not-tradeable", "broken"],
)
def test_a_close_goes_out_unbound_when_the_price_cannot_be_trusted(quotes: dict[str, Any]) -> None:
    answer = sent(order(-1000), view(positions=HELD, quotes=quotes))

    assert answer.price_bound is None
    assert answer.reduce_only, "the broker is to see to it that it opens nothing"


def test_what_was_judged_to_reduce_is_sent_so_that_it_cannot_open() -> None:
    assert sent(order(-1000)).reduce_only
    assert not sent(order(-1001)).reduce_only
    assert not sent(order(1)).reduce_only
