"""`judge`: the one question that the order path asks before it sends anything. First broken rule wins.

Cancels always pass. What only reduces the deployment's own position passes unless trading is halted, it is malformed, or it is
sent twice: a stop that cannot be sent costs more than any limit saves. All else passes every rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from mbats.live.gate import conduct_rules, price_rules, size_rules
from mbats.live.gate.case import Case, Finding, Rule
from mbats.live.gate.exposure import reaches, reduces
from mbats.live.gate.limits import Limits
from mbats.live.gate.orders import Cancel, Order
from mbats.live.gate.reasons import Reason
from mbats.live.gate.state import GateState, Latch
from mbats.live.gate.view import View

# For every order.
ALWAYS: tuple[Rule, ...] = (conduct_rules.well_formed, conduct_rules.not_twice, conduct_rules.not_halted)

# For what adds exposure, or might. Nothing after `values_known` meets a missing conversion. The two throttles come last, so that
# only orders that would else be sent can set their latch.
ADDING: tuple[Rule, ...] = (
    conduct_rules.not_reducing,
    conduct_rules.not_meant_to_reduce,
    conduct_rules.not_latched,
    conduct_rules.losses_bearable,
    size_rules.positions_known,
    price_rules.market_open,
    price_rules.price_tradeable,
    price_rules.price_fresh,
    price_rules.spread_bearable,
    price_rules.price_near_reference,
    price_rules.order_price_near,
    size_rules.values_known,
    size_rules.order_units,
    size_rules.order_notional,
    size_rules.position_units,
    size_rules.position_notional,
    size_rules.open_trades,
    size_rules.gross_exposure,
    size_rules.currency_exposure,
    size_rules.margin_after_fill,
    conduct_rules.not_repeated,
    conduct_rules.not_too_fast,
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be sent: the order as asked, with its `price_bound`, and `reduce_only` where it must not open anything."""

    order: Order | Cancel


@dataclass(frozen=True, slots=True)
class Refused:
    """What may not be sent, with the figure found against its limit; `sentence` is for a person.

    `until` (UTC) is when asking again may help, None when time alone does not. `latches` are to be put into the state.
    """

    order: Order
    reason: Reason
    sentence: str
    found: Decimal | None = None
    limit: Decimal | None = None
    until: datetime | None = None
    latches: tuple[Latch, ...] = ()


def judge(order: Order | Cancel, view: View, limits: Limits, state: GateState, now: datetime) -> Allowed | Refused:
    """Whether this may be sent now (UTC). The caller journals the answer, counts what it sends with `throttle.count`, adds its
    intent and its working order to the next view, and latches what a refusal carries, before it asks again."""
    if isinstance(order, Cancel):
        return Allowed(order)
    case = Case(order, view, limits, state, now)
    broken = _first_broken(ALWAYS, case)
    if broken:
        return _refused(order, broken)
    if reduces(view, order):
        return Allowed(replace(price_rules.bounded(case, reduces=True), reduce_only=True))
    case = replace(case, after=reaches(view, order))
    broken = _first_broken(ADDING, case)
    return _refused(order, broken) if broken else Allowed(price_rules.bounded(case, reduces=False))


def _first_broken(rules: tuple[Rule, ...], case: Case) -> Finding | None:
    return next((found for rule in rules if (found := rule(case)) is not None), None)


def _refused(order: Order, broken: Finding) -> Refused:
    side = "sell" if order.units.is_signed() else "buy"  # units may be no number at all here
    what = f"{order.deployment}: {side} {order.units.copy_abs():f} {order.symbol} ({order.purpose}) refused."
    return Refused(order, broken.reason, f"{what} {broken.in_words()}", broken.found, broken.limit, broken.until, broken.latches)
