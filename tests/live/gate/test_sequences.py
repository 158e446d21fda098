"""Properties that hold for whatever a strategy asks: limits, REDUCING and HALTED cannot be gone round."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from gates import ACTIVE, BAR, HOME, MARGIN_RATE, NAV, NOW, SYMBOLS, holding, limits, order, quote, view
from hypothesis import example, given
from hypothesis import strategies as st

from mbats.live.gate import (
    Allowed,
    Cancel,
    Command,
    CommandKind,
    GateState,
    Kind,
    Latch,
    Limits,
    Losses,
    Order,
    Reason,
    Refused,
    Throttle,
    View,
    Working,
    apply,
    judge,
    latch,
    split_flip,
)

NARROW = limits(
    max_order_units=60_000,
    max_order_notional="0.5",
    max_position_units=100_000,
    max_position_notional="0.8",
    max_open_trades=4,
    max_gross_exposure="1.8",
    max_currency_exposure="1.2",
    max_margin="0.03",
)
OWNERS = ("alpha", "beta")


@dataclass
class Account:
    """An account whose broker fills, in any order, what was allowed; `trades` are the open ones of each owner and symbol."""

    trades: dict[tuple[str, str], list[Decimal]] = field(default_factory=lambda: {("", "GBP_USD"): [Decimal(-20_000)]})
    out: list[Working] = field(default_factory=list)
    sent: int = 0

    def seen_by(self, owner: str) -> View:
        """What the gate is told: all that is held and out."""
        held = {place: sum(trades, Decimal(0)) for place, trades in self.trades.items()}
        own = sum(len(trades) for (whose, _), trades in self.trades.items() if whose == owner)
        used = sum((abs(units) * worth(symbol) * MARGIN_RATE for (_, symbol), units in held.items()), Decimal(0))
        return view(positions=held, open_trades=own, working=tuple(self.out), margin_used=used)

    def ask(self, wanted: Order) -> None:
        """Send what the gate allows of it."""
        for part in split_flip(wanted, self.seen_by(wanted.deployment)):
            answer = judge(part, self.seen_by(part.deployment), NARROW, ACTIVE, NOW)
            if isinstance(answer, Allowed):
                assert isinstance(answer.order, Order)
                self.out = [other for other in self.out if other.id != part.replaces]
                self.sent += 1
                sent = answer.order
                self.out.append(Working(str(self.sent), sent.deployment, sent.symbol, sent.units, sent.kind, sent.reduce_only))

    def fill(self, number: int) -> None:
        """The broker fills one order that is out: it closes trades of the other side, and opens what is left if it may."""
        if not self.out:
            return
        filled = self.out.pop(number % len(self.out))
        trades, left = self.trades.setdefault((filled.owner, filled.symbol), []), filled.units
        while trades and left and trades[0] * left < 0:
            closed = min(abs(trades[0]), abs(left)).copy_sign(left)
            trades[0] += closed
            left -= closed
            if not trades[0]:
                trades.pop(0)
        if left and not filled.reduce_only:
            trades.append(left)

    def cancel(self, number: int) -> None:
        if self.out:
            self.out.pop(number % len(self.out))

    def check(self) -> None:
        """No limit is exceeded by what is held."""
        held = {place: sum(trades, Decimal(0)) for place, trades in self.trades.items()}
        for (owner, symbol), units in held.items():
            if owner:
                assert abs(units) <= NARROW.max_position_units
                assert abs(units) * worth(symbol) <= NARROW.max_position_notional * NAV
        for owner in OWNERS:
            assert sum(len(trades) for (whose, _), trades in self.trades.items() if whose == owner) <= NARROW.max_open_trades
        values = {place: units * worth(place[1]) for place, units in held.items()}
        assert sum(map(abs, values.values())) <= NARROW.max_gross_exposure * NAV
        assert sum(map(abs, values.values())) * MARGIN_RATE <= NARROW.max_margin * NAV
        for currency in HOME:
            net = sum(
                value * (1 if symbol.startswith(currency) else -1) for (_, symbol), value in values.items() if currency in symbol
            )
            assert abs(net) <= NARROW.max_currency_exposure * NAV


def worth(symbol: str) -> Decimal:
    return HOME[symbol.split("_")[0]]


SIZES = st.sampled_from([1, 7_000, 20_000, 40_000, 49_999, 50_000, 50_001, 60_000, 60_001, 100_000, 5_000_000])
WANTED = st.builds(
    lambda owner, symbol, size, sign, kind, reduce_only, replaces: order(
        size * sign,
        symbol,
        deployment=owner,
        kind=kind,
        price=None if kind is Kind.MARKET else Decimal(100 if symbol == "USD_JPY" else 1),
        reduce_only=reduce_only,
        replaces=replaces,
    ),
    st.sampled_from(OWNERS),
    st.sampled_from(SYMBOLS),
    SIZES,
    st.sampled_from([1, -1]),
    st.sampled_from(list(Kind)),
    st.booleans(),
    st.none() | st.integers(1, 9).map(str),
)
STEPS = st.lists(
    st.tuples(st.just("ask"), WANTED) | st.tuples(st.sampled_from(["fill", "fill", "cancel"]), st.integers(0, 20)),
    min_size=10,
    max_size=50,
)


@given(STEPS)
def test_no_sequence_of_allowed_orders_exceeds_a_limit_in_whatever_order_they_fill(steps: list[tuple[str, Any]]) -> None:
    account = Account()
    for what, argument in steps:
        getattr(account, what)(argument)
        account.check()


def test_a_greedy_strategy_gets_as_far_as_its_limits_and_no_further() -> None:
    account = Account()
    for _ in range(100):
        account.ask(order(7_000))
        account.fill(0)
        account.check()

    assert account.trades["alpha", "EUR_USD"] == [Decimal(7_000)] * 4

    for _ in range(100):
        account.ask(order(-20_000, "EUR_GBP", deployment="beta"))
        account.fill(0)
        account.check()

    assert account.trades["beta", "EUR_GBP"] == [Decimal(-20_000)] * 4


def test_a_flip_goes_as_a_close_and_an_opening_and_no_stop_can_make_it_larger() -> None:
    account = Account()
    account.ask(order(50_000))
    account.fill(0)
    account.ask(order(-50_000, kind=Kind.STOP, price=Decimal("0.99"), reduce_only=True))
    account.ask(order(-100_000))

    assert [(other.units, other.reduce_only) for other in account.out] == [(-50_000, True), (-50_000, True), (-50_000, False)]
    for number in (0, 1, 0):  # the stop is first, then the opening, and the close comes too late
        account.fill(number)
    assert account.trades["alpha", "EUR_USD"] == [Decimal(-50_000)]


# --- REDUCING and HALTED ---------------------------------------------------------------------------------------------

MONEY = st.decimals(-1_000_000, 1_000_000, places=2)
QUOTES = st.none() | st.builds(
    lambda age, bid, spread, tradeable, reference: quote(
        time=NOW - timedelta(seconds=age),
        bid=bid,
        ask=bid + spread,
        tradeable=tradeable,
        reference=reference,
        usual_spread=reference,
    ),
    st.integers(-3600, 86_400 * 3),
    st.decimals("0.5", 2, places=5),
    st.decimals("-0.1", "0.1", places=5),
    st.booleans(),
    st.none() | st.decimals("0.5", 2, places=5),
)
SPOILT = st.builds(
    lambda quote_, nav, used, known, peak, trades, home, instruments: {
        "quotes": {"EUR_USD": quote_} if quote_ else {},
        "nav": nav,
        "margin_used": abs(used),
        "known": known,
        "losses": replace(Losses.begin(nav, NOW), peak_nav=peak),
        "open_trades": trades,
        "throttle": Throttle(Decimal(0), NOW),
        "home": HOME if home else {},
        **({} if instruments else {"instruments": {}}),
    },
    QUOTES,
    MONEY,
    MONEY,
    st.booleans(),
    MONEY,
    st.integers(0, 500),
    st.booleans(),
    st.booleans(),
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
TINY = limits(max_order_units=1, max_position_units=1, max_margin="0.0001", max_gross_exposure="0.0001", max_open_trades=1)


def said(kind: CommandKind, deployment: str | None) -> GateState:
    locked = latch(ACTIVE, deployment, [Latch(Reason.DRAWDOWN, NOW, None, "10000.00 below the peak")])
    return apply(locked, Command(kind, "ann", NOW, "a drill", deployment))


@given(
    held=st.integers(-(10**8), 10**8).filter(bool),
    part=st.floats(0, 1),
    kind=st.sampled_from(list(Kind)),
    spoilt=SPOILT,
    deployment=st.sampled_from([None, "alpha"]),
    now=MOMENTS,
    flatten=st.booleans(),
    brackets=st.integers(0, 3),
)
@example(100, 1.0, Kind.MARKET, {"known": False, "quotes": {}}, None, datetime(2024, 6, 15, tzinfo=UTC), False, 2)
def test_an_order_that_only_reduces_exposure_is_never_refused_in_reducing(
    held: int,
    part: float,
    kind: Kind,
    spoilt: dict[str, Any],
    deployment: str | None,
    now: datetime,
    flatten: bool,
    brackets: int,
) -> None:
    units = -max(1, int(abs(held) * part)) * (1 if held > 0 else -1)
    stops = tuple(
        Working(str(number), "alpha", "EUR_USD", Decimal(-held), Kind.STOP, reduce_only=True) for number in range(brackets)
    )
    pending = kind is not Kind.MARKET
    wanted = order(units, kind=kind, price=Decimal(1) if pending else None, reduce_only=pending, flatten=flatten)

    answer = judge(
        wanted, view(positions=holding(held), working=stops, **spoilt), TINY, said(CommandKind.REDUCE, deployment), now
    )

    assert isinstance(answer, Allowed), answer
    assert isinstance(answer.order, Order)
    assert answer.order.units == units
    assert answer.order.reduce_only


@given(
    held=st.integers(-1000, 1000),
    units=st.integers(-3000, 3000).filter(bool),
    deployment=st.sampled_from([None, "alpha"]),
    now=MOMENTS,
)
def test_in_reducing_nothing_passes_that_makes_a_position_larger_or_turns_it_round(
    held: int, units: int, deployment: str | None, now: datetime
) -> None:
    fresh = view(positions=holding(held), quotes={"EUR_USD": quote(time=now)})

    answer = judge(order(units), fresh, Limits(), said(CommandKind.REDUCE, deployment), now)

    shrinks = abs(held + units) < abs(held) and (held + units) * held >= 0
    assert isinstance(answer, Allowed) == shrinks


@given(
    wanted=WANTED,
    held=st.integers(-60_000, 60_000),
    spoilt=SPOILT,
    kind=st.sampled_from([CommandKind.HALT, CommandKind.FLATTEN]),
    deployment=st.sampled_from([None, "alpha"]),
    now=MOMENTS,
)
def test_halted_lets_nothing_through_but_cancels(
    wanted: Order, held: int, spoilt: dict[str, Any], kind: CommandKind, deployment: str | None, now: datetime
) -> None:
    mine, seen, state = replace(wanted, deployment="alpha"), view(positions=holding(held), **spoilt), said(kind, deployment)

    refused = judge(mine, seen, Limits(), state, now)

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.HALTED
    assert judge(Cancel("alpha", "1"), seen, Limits(), state, now) == Allowed(Cancel("alpha", "1"))


@given(held=st.integers(-1000, 1000), units=st.integers(-3000, 3000).filter(bool), spoilt=SPOILT, now=MOMENTS)
def test_a_flatten_closes_whatever_is_wrong_and_opens_nothing(
    held: int, units: int, spoilt: dict[str, Any], now: datetime
) -> None:
    seen = view(positions=holding(held), **(spoilt | {"known": True}))

    answer = judge(order(units, flatten=True, reduce_only=True), seen, TINY, said(CommandKind.FLATTEN, None), now)

    assert isinstance(answer, Allowed) == (held * units < 0 and abs(units) <= abs(held))


def test_a_flatten_that_is_tried_again_waits_until_the_first_try_is_known_to_be_over() -> None:
    in_flight = Working("1", "alpha", "EUR_USD", Decimal(-1000), Kind.MARKET, reduce_only=True)
    again = order(-1000, flatten=True, reduce_only=True, bar=BAR + timedelta(seconds=5), purpose="flatten")
    state = said(CommandKind.FLATTEN, None)

    refused = judge(again, view(positions=holding(1000), working=(in_flight,)), Limits(), state, NOW)

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NOTHING_TO_REDUCE
    assert isinstance(judge(again, view(positions=holding(1000)), Limits(), state, NOW), Allowed)


@pytest.mark.parametrize("held", [1000, -1000])
def test_split_leaves_alone_what_is_no_flip(held: int) -> None:
    seen = view(positions=holding(held))

    assert split_flip(order(held), seen) == (order(held),)
    assert split_flip(order(-held), seen) == (order(-held, reduce_only=True),)
    assert [part.units for part in split_flip(order(-3 * held), seen)] == [-held, -2 * held]
    assert len({part.intent for part in split_flip(order(-3 * held), seen)}) == 2
