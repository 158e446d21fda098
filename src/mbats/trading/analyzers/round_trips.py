"""The best and the worst that each trade was while it was open (MFE and MAE)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from mbats.market import Bars, Floats
from mbats.riskdb.records import Trade
from mbats.trading.costs import money
from mbats.trading.ledger import RoundTrip

ZERO = Decimal(0)


def with_excursions(trip: RoundTrip, bars: Bars, conversion: Floats) -> Trade:
    """The trade with `mfe` and `mae` from the extremes of the side on which it would have closed.

    Only prices that certainly came while it was open count: the bar of an entry inside it and the bar of the exit are
    left out but for the fill itself, since the bar does not say which of its prices came first.
    """
    best, worst = max(ZERO, trip.final_pnl), min(ZERO, trip.final_pnl)
    ends = [segment.first_bar for segment in trip.segments[1:]] + [trip.last_bar]
    if trip.trade.closed_at is None:
        ends[-1] += 1  # still open: its last bar was lived through
    for segment, end in zip(trip.segments, ends, strict=True):
        span = slice(segment.first_bar, end)
        if segment.first_bar >= end:
            continue
        high, low = (bars.bid_high, bars.bid_low) if segment.units > 0 else (bars.ask_low, bars.ask_high)
        units, price = float(segment.units), float(segment.price)
        best = max(best, segment.realised + money(float((units * (high[span] - price) * conversion[span]).max())))
        worst = min(worst, segment.realised + money(float((units * (low[span] - price) * conversion[span]).min())))
    return replace(trip.trade, mfe=best, mae=worst)
