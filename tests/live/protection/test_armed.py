"""Orders that the trader watches: when they fire, what they then ask for, and that they outlive a restart."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from gates import NOW, quote
from hypothesis import given
from hypothesis import strategies as st

from mbats.live.gate import Quote, read_json, to_json
from mbats.live.protection import Armed, ArmedTarget, Fire, Levels, arm, is_over, is_reached, observe
from mbats.live.wire import Exit, Form, Submit

D = Decimal
SIDES = [1, -1]


def at(bid: str | Decimal, ask: str | Decimal | None = None, seconds: int = 1, **more: Any) -> Quote:
    return quote(bid=D(bid), ask=D(ask if ask is not None else bid), time=NOW + timedelta(seconds=seconds), **more)


def submit(form: Form, units: int, **more: Any) -> Submit:
    return Submit(7, "EUR_USD", D(units), form, NOW, **more)


def run(armed: Armed, *quotes: Quote) -> tuple[Armed, list[Fire]]:
    fires = []
    for each in quotes:
        armed, fire = observe(armed, each)
        if fire is not None:
            fires.append(fire)
    return armed, fires


def test_a_stop_limit_buy_becomes_a_limit_order_when_the_ask_reaches_its_stop() -> None:
    order = submit(Form.STOP_LIMIT, 100, price=D("1.1"), limit=D("1.101"), stop=Exit(8, price=D("1.09")), oco=3)
    armed = arm(order, at("1.0"))

    armed, fires = run(armed, at("1.0990", "1.0999"), at("1.0991", "1.1"))

    assert fires == [Fire(replace(order, form=Form.LIMIT, price=D("1.101"), limit=None), D("1.1"), NOW + timedelta(seconds=1))]
    assert armed.fired


def test_a_stop_limit_sale_looks_at_the_bid() -> None:
    armed = arm(submit(Form.STOP_LIMIT, -100, price=D("1.1"), limit=D("1.099")), at("1.2"))

    armed, fires = run(armed, at("1.1001", "1.1002"))
    assert fires == []
    armed, fires = run(armed, at("1.1", "1.2"))
    assert [fire.order.price for fire in fires] == [D("1.099")]


def test_a_trailing_stop_follows_the_best_price_and_becomes_a_market_order() -> None:
    armed = arm(submit(Form.STOP_TRAIL, -100, trail=D("0.01")), at("1.1", "1.2"))
    assert armed.level == D("1.09")

    armed, fires = run(armed, at("1.12", "1.2"), at("1.1101", "1.2"))
    assert (armed.level, fires) == (D("1.11"), [])

    armed, fires = run(armed, at("1.11", "1.2", 5))
    assert fires == [Fire(submit(Form.MARKET, -100), D("1.11"), NOW + timedelta(seconds=5))]
    assert is_over(armed, NOW)


def test_a_trailing_buy_follows_the_ask_down() -> None:
    armed = arm(submit(Form.STOP_TRAIL, 100, trail=D("0.01")), at("1.0", "1.1"))
    assert armed.level == D("1.11")

    armed, fires = run(armed, at("1.0", "1.05"), at("1.0", "1.0599"))
    assert (armed.level, fires) == (D("1.06"), [])
    assert len(run(armed, at("1.0", "1.06"))[1]) == 1


def test_the_price_of_a_trailing_stop_is_where_it_starts_until_the_market_is_better() -> None:
    armed = arm(submit(Form.STOP_TRAIL, -100, price=D("1.07"), trail=D("0.01")), at("1.075"))
    assert armed.level == D("1.07")
    assert run(armed, at("1.0750"))[0].level == D("1.07")
    assert run(armed, at("1.0805"))[0].level == D("1.0705")


def test_the_limit_of_a_trailing_stop_limit_keeps_its_distance_from_the_stop() -> None:
    order = submit(Form.STOP_TRAIL_LIMIT, -100, price=D("1.09"), limit=D("1.088"), trail=D("0.01"))

    armed, fires = run(arm(order, at("1.1")), at("1.12"), at("1.11"))

    assert (armed.level, armed.limit) == (D("1.11"), D("1.108"))
    assert [(fire.order.form, fire.order.price, fire.order.trail) for fire in fires] == [(Form.LIMIT, D("1.108"), None)]


def test_an_order_whose_price_has_passed_already_fires_at_once() -> None:
    armed = arm(submit(Form.STOP_LIMIT, 100, price=D("1.1"), limit=D("1.2")), at("1.15"))

    assert len(run(armed, at("1.15"))[1]) == 1


def test_a_quote_that_nobody_could_deal_on_neither_fires_nor_trails() -> None:
    armed = arm(submit(Form.STOP_TRAIL, -100, trail=D("0.01")), at("1.1"))

    assert run(armed, at("1.0", tradeable=False), at("1.2", "1.1"), at("1.2", tradeable=False)) == (armed, [])


def test_a_quote_from_before_the_last_one_changes_nothing() -> None:
    armed = arm(submit(Form.STOP_TRAIL, -100, trail=D("0.01")), at("1.1", seconds=10))

    assert run(armed, at("1.0", seconds=9)) == (armed, [])
    armed, _ = observe(armed, at("1.1", seconds=20))
    assert run(armed, at("1.0", seconds=19)) == (armed, [])


def test_an_order_never_fires_at_or_after_its_end() -> None:
    end = NOW + timedelta(seconds=5)
    armed = arm(submit(Form.STOP_LIMIT, 100, price=D("1.1"), limit=D("1.2"), valid_until=end), at("1.0"))

    assert run(armed, at("1.15", seconds=5)) == (armed, [])
    assert (is_over(armed, end - timedelta(microseconds=1)), is_over(armed, end)) == (False, True)
    assert len(run(armed, at("1.15", seconds=4))[1]) == 1


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (datetime(2024, 3, 8, 21, 59, tzinfo=UTC), datetime(2024, 3, 8, 22, tzinfo=UTC)),
        (datetime(2024, 3, 8, 22, 1, tzinfo=UTC), datetime(2024, 3, 9, 22, tzinfo=UTC)),
        (datetime(2024, 3, 11, 12, 0, tzinfo=UTC), datetime(2024, 3, 11, 21, tzinfo=UTC)),  # New York's summer has begun
    ],
)
def test_an_order_for_the_day_ends_at_17_new_york(now: datetime, end: datetime) -> None:
    order = submit(Form.STOP_LIMIT, 100, price=D("1.1"), limit=D("1.2"), day=True)

    assert arm(order, replace(quote(), time=now)).until == end
    assert arm(replace(order, valid_until=now), replace(quote(), time=now)).until == now


@pytest.mark.parametrize(
    "wrong",
    [
        submit(Form.MARKET, 100),
        submit(Form.STOP, 100, price=D("1.1")),
        submit(Form.STOP_LIMIT, 100, price=D("1.1")),
        submit(Form.STOP_LIMIT, 100, limit=D("1.1")),
        submit(Form.STOP_LIMIT, 100, price=D("1.1"), limit=D("1.1"), trail=D("0.1")),
        submit(Form.STOP_TRAIL, 100, price=D("1.1")),
        submit(Form.STOP_TRAIL, 100, trail=D(0)),
        submit(Form.STOP_TRAIL, 100, trail=D("0.1"), limit=D("1.1")),
        submit(Form.STOP_TRAIL_LIMIT, 100, trail=D("0.1"), limit=D("1.1")),
        submit(Form.STOP_TRAIL_LIMIT, 100, trail=D("0.1"), price=D("1.1")),
    ],
)
def test_an_order_without_what_its_form_needs_is_not_armed(wrong: Submit) -> None:
    with pytest.raises(ValueError, match=rf"order 7 is a {wrong.form} order .*not armed|broker keeps itself"):
        arm(wrong, quote())


cents = st.integers(9_000, 11_000).map(lambda points: D(points) / 10_000)
markets = st.lists(st.tuples(cents, st.integers(0, 20)), min_size=1, max_size=30)


@st.composite
def submits(draw: st.DrawFn) -> Submit:
    form, units = draw(st.sampled_from([Form.STOP_LIMIT, Form.STOP_TRAIL, Form.STOP_TRAIL_LIMIT])), draw(st.sampled_from(SIDES))
    limited = form is not Form.STOP_TRAIL
    return submit(
        form,
        100 * units,
        price=draw(cents) if limited else draw(st.one_of(st.none(), cents)),
        limit=draw(cents) if limited else None,
        trail=None if form is Form.STOP_LIMIT else draw(st.integers(1, 300)) / D(10_000),
        oco=draw(st.one_of(st.none(), st.integers(1, 9))),
        stop=draw(st.sampled_from([None, Exit(8, trail=D("0.1")), Exit(8, price=D("0.5"))])),
    )


@given(submits(), markets, st.integers(0, 30))
def test_an_order_fires_once_at_the_first_price_that_is_as_far_from_the_best_and_a_restart_changes_nothing(
    order: Submit, market: list[tuple[Decimal, int]], restart: int
) -> None:
    side = 1 if order.units > 0 else -1
    quotes = [at(bid, bid + D(spread) / 10_000, seconds=place) for place, (bid, spread) in enumerate(market)]
    dealing = [each.ask if side > 0 else each.bid for each in quotes]
    start = order.price if order.price is not None else dealing[0] + side * (order.trail or D(0))

    armed, fires = arm(order, quotes[0]), []
    for place, each in enumerate(quotes):
        if place == restart:
            armed = read_json(Armed, to_json(armed))
        armed, fire = observe(armed, each)
        fires += [(place, fire)] if fire else []

    levels, level = [], start
    for price in dealing:
        if order.trail is not None:
            level = min(level, price + order.trail) if side > 0 else max(level, price - order.trail)
        levels.append(level)
    met = [place for place, price in enumerate(dealing) if (price - levels[place]) * side >= 0]
    assert [place for place, _ in fires] == met[:1]
    for place, fire in fires:
        limit = None if order.limit is None or order.price is None else order.limit + levels[place] - order.price
        form = Form.MARKET if limit is None else Form.LIMIT
        assert fire.order == replace(order, form=form, price=limit, limit=None, trail=None)
        assert fire.level == levels[place]


def test_targets_are_reached_on_the_side_on_which_they_deal() -> None:
    sale, buy = ArmedTarget("x", D(-1), D("1.1")), ArmedTarget("x", D(1), D("1.1"))

    assert [is_reached(sale, at(*each)) for each in (("1.0999", "1.11"), ("1.1", "1.11"))] == [False, True]
    assert [is_reached(buy, at(*each)) for each in (("1.09", "1.1001"), ("1.09", "1.1"))] == [False, True]
    assert not is_reached(sale, at("1.2", tradeable=False))
    assert not is_reached(sale, at("1.2", "1.1"))


def test_the_levels_of_trailing_stops_outlive_a_restart() -> None:
    levels = Levels({"mbats:alpha:EUR_USD:20240305T120000Z:open-long": D("1.23450")})

    assert read_json(Levels, to_json(levels)) == levels
