"""Every reason for a refusal: met by one order and, just inside the limit, not met by another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from gates import ACTIVE, BAR, HOME, NAV, NOW, WIDE, holding, limits, order, quote, view, working

from mbats.live.gate import (
    Allowed,
    Cancel,
    Command,
    CommandKind,
    GateState,
    Intent,
    Kind,
    Latch,
    Limits,
    Losses,
    Order,
    Reason,
    Refused,
    Throttle,
    View,
    apply,
    judge,
    latch,
)
from mbats.live.gate.throttle import Sent

ENTRY = order()
QUIET = view()


@dataclass(frozen=True)
class Asked:
    order: Order = ENTRY
    view: View = QUIET
    limits: Limits = WIDE
    state: GateState = ACTIVE
    now: datetime = NOW

    def judged(self) -> Allowed | Refused:
        return judge(self.order, self.view, self.limits, self.state, self.now)


def at_quote(**changes: object) -> View:
    return view(quotes={"EUR_USD": quote(**changes)})


def said(kind: CommandKind, deployment: str | None = None) -> GateState:
    return apply(ACTIVE, Command(kind, "ann", NOW, "a drill", deployment))


def locked(until: datetime | None) -> GateState:
    return latch(ACTIVE, "alpha", [Latch(Reason.DAILY_LOSS, NOW - timedelta(hours=1), until, "2000.00 lost")])


def sent(count: int, ago: float = 1) -> Throttle:
    return Throttle(Decimal(10), NOW, (Sent(NOW - timedelta(seconds=ago), "EUR_USD"),) * count)


LONG = holding(1000)
SAY_HALT = Command(CommandKind.HALT, "ann", NOW, "a drill")
SAY_FLATTEN_BETA = Command(CommandKind.FLATTEN, "ann", NOW, "a drill", "beta")
ORDER_1K = order(1000)
FRIDAY_CLOSE = datetime(2024, 6, 14, 20, 58, tzinfo=UTC)
OTHERS = holding(90_000, "GBP_USD", "") | holding(-60_000, "EUR_GBP", "beta")

# Each reason: what meets it, and the nearest thing that does not.
CASES: list[tuple[Reason, Asked, Asked]] = [
    (Reason.MALFORMED, Asked(order("0.5")), Asked(order("1"))),
    (Reason.MALFORMED, Asked(order(0)), Asked(order(-1))),
    (Reason.MALFORMED, Asked(order("NaN")), Asked(order(5))),
    (Reason.MALFORMED, Asked(order("100000001")), Asked(order(1000))),
    (Reason.MALFORMED, Asked(order(kind=Kind.LIMIT)), Asked(order(kind=Kind.LIMIT, price=Decimal("0.99")))),
    (Reason.MALFORMED, Asked(order(price=Decimal(1))), Asked(order())),
    (
        Reason.MALFORMED,
        Asked(order(kind=Kind.STOP, price=Decimal("1.012345"))),
        Asked(order(kind=Kind.STOP, price=Decimal("1.01234"))),
    ),
    (Reason.MALFORMED, Asked(order(price_bound=Decimal(-1))), Asked(order(price_bound=Decimal(1)))),
    (
        Reason.DUPLICATE,
        Asked(view=view(intents=frozenset({ORDER_1K.intent}))),
        Asked(order(purpose="exit"), view(intents=frozenset({ORDER_1K.intent}))),
    ),
    (
        Reason.DUPLICATE,
        Asked(order(-500), view(intents=frozenset({ORDER_1K.intent}))),
        Asked(order(bar=BAR + timedelta(hours=1)), view(intents=frozenset({ORDER_1K.intent}))),
    ),
    (
        Reason.NOTHING_TO_REDUCE,
        Asked(order(-1001, reduce_only=True), view(positions=LONG)),
        Asked(order(-1000, reduce_only=True), view(positions=LONG)),
    ),
    (
        Reason.NOTHING_TO_REDUCE,
        Asked(order(1000, reduce_only=True), view(positions=LONG)),
        Asked(order(1000), view(positions=LONG)),
    ),
    (
        Reason.NOTHING_TO_REDUCE,
        Asked(order(-1000, reduce_only=True), view(positions=LONG, working=(working(-1, reduce_only=True),))),
        Asked(order(-999, reduce_only=True), view(positions=LONG, working=(working(-1, reduce_only=True),))),
    ),
    (
        # A flatten that finds the position gone, or the wrong way round, opens none.
        Reason.NOTHING_TO_REDUCE,
        Asked(order(1000, flatten=True), view(positions=LONG), state=said(CommandKind.FLATTEN)),
        Asked(order(-1000, flatten=True), view(positions=LONG), state=said(CommandKind.FLATTEN, "alpha")),
    ),
    (
        Reason.HALTED,
        Asked(order(-1000, flatten=True), view(positions=LONG), state=apply(said(CommandKind.HALT), SAY_FLATTEN_BETA)),
        Asked(order(-1000, flatten=True), view(positions=LONG), state=apply(said(CommandKind.FLATTEN, "alpha"), SAY_HALT)),
    ),
    (Reason.HALTED, Asked(state=said(CommandKind.HALT)), Asked(state=said(CommandKind.HALT, "beta"))),
    (
        Reason.HALTED,
        Asked(order(-1000), view(positions=LONG), state=said(CommandKind.HALT, "alpha")),
        Asked(order(-1000), view(positions=LONG)),
    ),
    (
        Reason.HALTED,
        Asked(order(-1000, flatten=True), view(positions=LONG), state=said(CommandKind.HALT)),
        Asked(order(-1000, flatten=True), view(positions=LONG), state=said(CommandKind.FLATTEN)),
    ),
    (
        Reason.REDUCING,
        Asked(order(-1001), view(positions=LONG), state=said(CommandKind.REDUCE)),
        Asked(order(-1000), view(positions=LONG), state=said(CommandKind.REDUCE)),
    ),
    (
        Reason.REDUCING,
        Asked(order(-1000, kind=Kind.STOP, price=Decimal("0.99")), view(positions=LONG), state=said(CommandKind.REDUCE, "alpha")),
        Asked(
            order(-1000, kind=Kind.STOP, price=Decimal("0.99"), reduce_only=True),
            view(positions=LONG),
            state=said(CommandKind.REDUCE, "alpha"),
        ),
    ),
    (Reason.DAILY_LOSS, Asked(state=locked(NOW + timedelta(seconds=1))), Asked(state=locked(NOW))),
    (Reason.DAILY_LOSS, Asked(state=locked(None)), Asked(order(-1000), view(positions=LONG), state=locked(None))),
    (
        Reason.DAILY_LOSS,
        Asked(view=view(nav=NAV - 2000), limits=limits(max_daily_loss="0.02")),
        Asked(view=view(nav=NAV - 1999), limits=limits(max_daily_loss="0.02")),
    ),
    (
        Reason.DRAWDOWN,
        Asked(view=view(losses=replace(Losses.begin(NAV, NOW), peak_nav=Decimal(125_000))), limits=limits(max_drawdown="0.2")),
        Asked(view=view(losses=replace(Losses.begin(NAV, NOW), peak_nav=Decimal(124_999))), limits=limits(max_drawdown="0.2")),
    ),
    (
        Reason.LOSS_STREAK,
        Asked(
            state=latch(ACTIVE, None, [Latch(Reason.LOSS_STREAK, NOW, NOW + timedelta(hours=4), "5 in a row")]),
            now=NOW + timedelta(seconds=1),
        ),
        Asked(state=latch(ACTIVE, "beta", [Latch(Reason.LOSS_STREAK, NOW, None, "5 in a row")])),
    ),
    (Reason.REPEATED_EXECUTIONS, Asked(view=view(throttle=sent(10))), Asked(view=view(throttle=sent(9)))),
    (Reason.REPEATED_EXECUTIONS, Asked(view=view(throttle=sent(10, ago=59.9))), Asked(view=view(throttle=sent(10, ago=60)))),
    (
        Reason.ORDER_RATE,
        Asked(view=view(throttle=Throttle(Decimal("0.999"), NOW))),
        Asked(view=view(throttle=Throttle(Decimal(1), NOW))),
    ),
    (Reason.POSITION_UNKNOWN, Asked(view=view(known=False)), Asked(order(-1000), view(known=False, positions=LONG))),
    (Reason.NO_PRICE, Asked(view=view(quotes={})), Asked(order(-1000), view(positions=LONG, quotes={}))),
    (Reason.NO_REFERENCE, Asked(view=at_quote(reference=None)), Asked(view=at_quote(reference=Decimal("1.001")))),
    (Reason.NO_REFERENCE, Asked(view=at_quote(usual_spread=None)), Asked(view=at_quote(usual_spread=Decimal("0.00002")))),
    (
        Reason.NO_CONVERSION,
        Asked(view=view(home={name: rate for name, rate in HOME.items() if name != "EUR"})),
        Asked(view=view(home={name: rate for name, rate in HOME.items() if name != "GBP"})),
    ),
    (
        Reason.NO_CONVERSION,
        Asked(view=view(positions=holding(1, "XAU_USD", ""))),
        Asked(order(-1000), view(positions=LONG | holding(1, "XAU_USD", ""))),
    ),
    (
        Reason.MARKET_CLOSED,
        Asked(view=at_quote(time=FRIDAY_CLOSE), now=FRIDAY_CLOSE),
        Asked(view=at_quote(time=FRIDAY_CLOSE), now=FRIDAY_CLOSE - timedelta(seconds=1)),
    ),
    (Reason.NOT_TRADEABLE, Asked(view=at_quote(tradeable=False)), Asked(view=at_quote(tradeable=True))),
    (
        Reason.PRICE_STALE,
        Asked(view=at_quote(time=NOW - timedelta(seconds=60, microseconds=1))),
        Asked(view=at_quote(time=NOW - timedelta(seconds=60))),
    ),
    (
        Reason.PRICE_FROM_FUTURE,
        Asked(view=at_quote(time=NOW + timedelta(seconds=5, microseconds=1))),
        Asked(view=at_quote(time=NOW + timedelta(seconds=5))),
    ),
    (Reason.PRICE_BROKEN, Asked(view=at_quote(ask=Decimal("0.9"))), Asked(view=at_quote(ask=Decimal("0.99995")))),
    (Reason.PRICE_BROKEN, Asked(view=at_quote(bid=Decimal(0))), Asked()),
    (
        Reason.PRICE_JUMP,
        Asked(view=at_quote(bid=Decimal("1.0099"), ask=Decimal("1.01001"))),
        Asked(view=at_quote(bid=Decimal("1.0099"), ask=Decimal("1.01"))),
    ),
    (Reason.SPREAD, Asked(view=at_quote(ask=Decimal("1.00046"))), Asked(view=at_quote(ask=Decimal("1.00045")))),
    (
        Reason.ORDER_PRICE,
        Asked(order(kind=Kind.LIMIT, price=Decimal("0.94999"))),
        Asked(order(kind=Kind.LIMIT, price=Decimal("0.95"))),
    ),
    (
        Reason.ORDER_UNITS,
        Asked(order(5001), limits=limits(max_order_units=5000)),
        Asked(order(-5000), limits=limits(max_order_units=5000)),
    ),
    (
        Reason.ORDER_NOTIONAL,
        Asked(order(-50_001), limits=limits(max_order_notional="0.5")),
        Asked(order(50_000), limits=limits(max_order_notional="0.5")),
    ),
    (
        Reason.POSITION_UNITS,
        Asked(order(4001), view(positions=LONG), limits(max_position_units=5000)),
        Asked(order(4000), view(positions=LONG), limits(max_position_units=5000)),
    ),
    (
        Reason.POSITION_UNITS,
        Asked(order(-3001), view(working=(working(-2000, kind=Kind.LIMIT),)), limits(max_position_units=5000)),
        Asked(
            order(-3000),
            view(working=(working(-2000, kind=Kind.LIMIT), working(9000, owner="beta"))),
            limits(max_position_units=5000),
        ),
    ),
    (
        Reason.POSITION_UNITS,
        Asked(order(-5001), view(positions=LONG), limits(max_position_units=5000)),
        Asked(
            order(-5000, kind=Kind.STOP, price=Decimal("0.99"), replaces="old"),
            view(working=(working(-4000, id="old", kind=Kind.STOP),)),
            limits(max_position_units=5000),
        ),
    ),
    (
        Reason.POSITION_NOTIONAL,
        Asked(order(24_001, "USD_JPY"), view(positions=holding(1000, "USD_JPY")), limits(max_position_notional="0.25")),
        Asked(order(24_000, "USD_JPY"), view(positions=holding(1000, "USD_JPY")), limits(max_position_notional="0.25")),
    ),
    (
        Reason.OPEN_TRADES,
        Asked(view=view(open_trades=2, working=(working(1, "GBP_USD"),)), limits=limits(max_open_trades=3)),
        Asked(
            view=view(open_trades=2, working=(working(1, "GBP_USD", "beta"), working(-1, reduce_only=True))),
            limits=limits(max_open_trades=3),
        ),
    ),
    (
        Reason.GROSS_EXPOSURE,
        Asked(order(50_001), view(positions=OTHERS), limits(max_gross_exposure=2)),
        Asked(order(50_000), view(positions=OTHERS), limits(max_gross_exposure=2)),
    ),
    (
        # Long 90,000 GBP against USD and 60,000 against EUR: another sale of EUR_GBP may add 50,000 to the pounds.
        Reason.CURRENCY_EXPOSURE,
        Asked(order(-50_001, "EUR_GBP"), view(positions=OTHERS), limits(max_currency_exposure=2)),
        Asked(order(-50_000, "EUR_GBP"), view(positions=OTHERS), limits(max_currency_exposure=2)),
    ),
    (
        # A position that is short of the currency relieves nothing, because it may be closed first.
        Reason.CURRENCY_EXPOSURE,
        Asked(order(100_001), view(positions=holding(-80_000, "EUR_USD", "beta")), limits(max_currency_exposure=1)),
        Asked(order(100_000), view(positions=holding(-80_000, "EUR_USD", "beta")), limits(max_currency_exposure=1)),
    ),
    (
        # Two per cent of 1,000,000 and of 500,000 is 30,000.
        Reason.MARGIN,
        Asked(order(500_001), view(positions=holding(-1_000_000, "USD_JPY", "")), limits(max_margin="0.3")),
        Asked(order(500_000), view(positions=holding(-1_000_000, "USD_JPY", "")), limits(max_margin="0.3")),
    ),
    (
        # The broker has raised its rate: what it says it uses counts, though our own count is a tenth of that.
        Reason.MARGIN,
        Asked(
            order(100_001), view(positions=holding(140_000, "USD_JPY", ""), margin_used=Decimal(28_000)), limits(max_margin="0.3")
        ),
        Asked(
            order(100_000), view(positions=holding(140_000, "USD_JPY", ""), margin_used=Decimal(28_000)), limits(max_margin="0.3")
        ),
    ),
]


@pytest.mark.parametrize(("reason", "beyond", "inside"), CASES, ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)])
def test_each_rule_refuses_beyond_its_limit_and_allows_just_inside(reason: Reason, beyond: Asked, inside: Asked) -> None:
    refused, allowed = beyond.judged(), inside.judged()

    assert isinstance(refused, Refused)
    assert refused.reason is reason
    assert reason.sentence in refused.sentence
    assert isinstance(allowed, Allowed), allowed


def test_no_reason_is_without_a_rule_that_gives_it() -> None:
    assert {reason for reason, _, _ in CASES} == set(Reason)


def test_a_refusal_says_who_wanted_what_and_the_figure_against_its_limit() -> None:
    refused = judge(order(-250_001), view(), limits(max_order_notional="2.5"), ACTIVE, NOW)

    assert isinstance(refused, Refused)
    assert refused.sentence == (
        "alpha: sell 250001 EUR_USD (entry) refused. The order is worth more than one order may be, as a multiple of NAV. "
        "Found 2.50001, limit 2.5 times NAV. 250001.00 at a NAV of 100000.00."
    )
    assert (refused.found, refused.limit) == (Decimal("2.50001"), Decimal("2.5"))


def test_a_halt_says_who_said_it_when_and_why() -> None:
    refused = Asked(state=said(CommandKind.HALT)).judged()

    assert isinstance(refused, Refused)
    assert "HALTED by ann at 2024-06-12 14:00:30 UTC: a drill." in refused.sentence


def test_a_refusal_that_time_will_cure_says_from_when() -> None:
    def until(asked: Asked) -> datetime | None:
        answer = asked.judged()
        assert isinstance(answer, Refused)
        return answer.until

    assert until(Asked(view=at_quote(time=FRIDAY_CLOSE), now=FRIDAY_CLOSE)) == datetime(2024, 6, 16, 21, 3, tzinfo=UTC)
    assert until(Asked(view=view(throttle=Throttle(Decimal(0), NOW)))) == NOW + timedelta(seconds=0.5)
    assert until(Asked(state=locked(NOW + timedelta(hours=3)))) == NOW + timedelta(hours=3)
    assert until(Asked(state=locked(None))) is None


def test_an_order_too_many_latches_until_a_person_resumes() -> None:
    refused = Asked(view=view(throttle=sent(10))).judged()
    assert isinstance(refused, Refused)
    state = latch(ACTIVE, "alpha", refused.latches)
    much_later = NOW + timedelta(days=2)
    then = view(quotes={"EUR_USD": quote(time=much_later)})

    assert isinstance(judge(order(), then, WIDE, state, much_later), Refused)
    assert isinstance(judge(order(-1000), replace(then, positions=LONG), WIDE, state, much_later), Allowed)

    resumed = apply(state, Command(CommandKind.RESUME, "ann", NOW, "the loop is mended", "alpha"))
    assert isinstance(judge(order(), then, WIDE, resumed, much_later), Allowed)
    assert isinstance(judge(order(), view(throttle=sent(10)), WIDE, resumed, NOW), Allowed), (
        "orders before the resume count no more"
    )


@pytest.mark.parametrize("asked", [Asked(order(sign * size * 100)) for sign in (1, -1) for size in (100_000, 20_000)])
def test_a_strategy_that_asks_for_a_hundred_times_as_much_is_refused_by_default(asked: Asked) -> None:
    assert isinstance(
        replace(asked, limits=Limits(), order=replace(asked.order, units=asked.order.units / 100)).judged(), Allowed
    )
    assert isinstance(replace(asked, limits=Limits()).judged(), Refused)


# Trades are counted by the view and streaks by the fold, so one order alone cannot be too many of either.
ONE_ORDER_CANNOT = {"max_open_trades", "max_loss_streak"}


@pytest.mark.parametrize(
    "name", [name for name in Limits.model_fields if name.startswith("max_") and name not in ONE_ORDER_CANNOT]
)
def test_each_default_is_safe_without_the_others(name: str) -> None:
    """An order of 100 times NAV, a loss or a price in keeping with it: each limit alone at its default refuses."""
    wrong = {
        "max_spread_multiple": Asked(view=at_quote(ask=Decimal("1.005"))),
        "max_price_age_seconds": Asked(view=at_quote(time=NOW - timedelta(minutes=10))),
        "max_repeats": Asked(view=view(throttle=sent(100))),
        "max_daily_loss": Asked(view=view(nav=NAV / 2)),
        "max_drawdown": Asked(view=view(losses=replace(Losses.begin(NAV, NOW), peak_nav=NAV * 3))),
    }.get(name, Asked(order(4_900_000)))
    lone = limits(**{name: Limits.model_fields[name].default})

    assert isinstance(replace(wrong, limits=lone).judged(), Refused)


def test_cancels_pass_everywhere() -> None:
    locked_up = said(CommandKind.HALT)
    nothing_known = view(known=False, quotes={}, nav=Decimal(0), throttle=Throttle(Decimal(0), NOW))

    assert judge(Cancel("alpha", "7"), nothing_known, Limits(), locked_up, NOW) == Allowed(Cancel("alpha", "7"))


@pytest.mark.proves("R24")
def test_an_intent_is_its_deployment_symbol_bar_and_purpose() -> None:
    assert order().intent == Intent("alpha", "EUR_USD", BAR, "entry")
    assert order(5).intent == order(-7).intent
