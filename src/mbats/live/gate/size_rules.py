"""Rules on how much: the order, the position, the account's exposure and its margin, with all that is out filled (R16, R21)."""

from __future__ import annotations

from decimal import Decimal

from mbats.live.gate.case import Case, Finding
from mbats.live.gate.exposure import gross, margin, of_currency, still_working, worth
from mbats.live.gate.reasons import Reason


def positions_known(case: Case) -> Finding | None:
    """A position that could not be asked for is unknown and not flat."""
    return None if case.view.known else Finding(Reason.POSITION_UNKNOWN)


def values_known(case: Case) -> Finding | None:
    """Every position and order that is out can be valued; the rules after this one rely on it."""
    for _, symbol in case.after:
        if symbol not in case.view.instruments:
            return Finding(Reason.NO_CONVERSION, detail=f"{symbol}: no instrument")
        rate = case.view.home.get(symbol.split("_")[0])
        if rate is None or not (rate.is_finite() and rate > 0):
            return Finding(Reason.NO_CONVERSION, detail=f"{symbol}: one {symbol.split('_')[0]} is worth {rate}")
    return None


def order_units(case: Case) -> Finding | None:
    """One order, in units."""
    return _over(Reason.ORDER_UNITS, abs(case.order.units), case.limits.max_order_units, "units")


def order_notional(case: Case) -> Finding | None:
    """One order, by worth."""
    value = abs(case.order.units) * worth(case.view, case.order.symbol)
    return _over_nav(case, Reason.ORDER_NOTIONAL, value, case.limits.max_order_notional)


def position_units(case: Case) -> Finding | None:
    """The deployment's position in the symbol, in units."""
    reach = case.after[case.order.deployment, case.order.symbol]
    return _over(Reason.POSITION_UNITS, reach.most, case.limits.max_position_units, "units")


def position_notional(case: Case) -> Finding | None:
    """The deployment's position in the symbol, by worth."""
    reach = case.after[case.order.deployment, case.order.symbol]
    return _over_nav(
        case, Reason.POSITION_NOTIONAL, reach.most * worth(case.view, case.order.symbol), case.limits.max_position_notional
    )


def open_trades(case: Case) -> Finding | None:
    """Every order that adds opens a trade at OANDA, also in the direction of one that is open."""
    out = sum(
        1 for other in still_working(case.view, case.order) if other.owner == case.order.deployment and not other.reduce_only
    )
    after = case.view.open_trades + out + 1
    return _over(Reason.OPEN_TRADES, Decimal(after), Decimal(case.limits.max_open_trades), "trades")


def gross_exposure(case: Case) -> Finding | None:
    """All positions of the account, whoever owns them."""
    return _over_nav(case, Reason.GROSS_EXPOSURE, gross(case.view, case.after), case.limits.max_gross_exposure)


def currency_exposure(case: Case) -> Finding | None:
    """Each of the order's two currencies, over the whole account."""
    for currency in case.order.symbol.split("_"):
        over = _over_nav(
            case,
            Reason.CURRENCY_EXPOSURE,
            of_currency(case.view, case.after, currency),
            case.limits.max_currency_exposure,
            currency,
        )
        if over:
            return over
    return None


def margin_after_fill(case: Case) -> Finding | None:
    """The margin of the whole account as part of NAV."""
    return _over_nav(case, Reason.MARGIN, margin(case.view, case.after, case.order), case.limits.max_margin)


def _over(reason: Reason, found: Decimal, limit: Decimal, unit: str) -> Finding | None:
    return Finding(reason, found, limit, unit) if found > limit else None


def _over_nav(case: Case, reason: Reason, value: Decimal, multiple: Decimal, currency: str = "") -> Finding | None:
    nav = case.view.nav
    if value <= multiple * nav:
        return None
    what = f"{currency} " if currency else ""
    if nav <= 0:
        return Finding(reason, detail=f"{what}{value:.2f} at a NAV of {nav:.2f}")
    return Finding(reason, value / nav, multiple, "times NAV", detail=f"{what}{value:.2f} at a NAV of {nav:.2f}")
