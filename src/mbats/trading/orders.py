"""What OANDA accepts of an order: prices and units cut to the instrument's precision, or the reason for a refusal."""

from __future__ import annotations

import math
from decimal import ROUND_DOWN, Decimal
from typing import Any

from backtrader import Order

from mbats.market import Instrument

STOPS = (Order.Stop, Order.StopTrail, Order.StopLimit, Order.StopTrailLimit)


def fit(order: Any, instrument: Instrument) -> str | None:
    """Cut an order's prices and units to what the broker accepts, or name the reason for which it would refuse."""
    if order.exectype == Order.Close:
        return "CLOSE_ORDER_UNKNOWN"  # OANDA has no order at the close; a market order does it
    if not math.isfinite(order.created.size):
        return "UNITS_INVALID"
    if order.exectype != Order.Market and not math.isfinite(order.created.price + order.created.pricelimit):
        return "PRICE_INVALID"
    step = Decimal(1).scaleb(-instrument.units_precision)
    units = Decimal(repr(abs(float(order.created.size)))).quantize(step, rounding=ROUND_DOWN)
    if units < instrument.minimum_units:
        return "UNITS_MINIMUM_NOT_MET"
    if units > instrument.maximum_units:
        return "UNITS_LIMIT_EXCEEDED"
    signed = float(units) if order.isbuy() else -float(units)
    order.size = order.created.size = order.created.remsize = order.executed.remsize = signed
    if order.exectype != Order.Market:
        order.created.price = round(order.created.price, instrument.display_precision)
        order.created.pricelimit = round(order.created.pricelimit, instrument.display_precision)
    return None
