"""When a pending order ends: Backtrader's `valid`, counted in bars as a backtest counts it, as a moment of the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import backtrader as bt
import numpy as np

from mbats.market import Granularity, bar_ends, bar_start, to_datetime, to_us


def ending(order: Any, granularity: Granularity) -> tuple[datetime | None, bool]:
    """Until when an order stands (UTC), and whether it ends with the trading day instead.

    A backtest tries an order on every bar that starts at `valid` or before; so it stands until the last of them is over. A
    number is a date as Backtrader counts them, as its manual says; 0 is the day.
    """
    wanted = order.p.valid
    if wanted is None or order.exectype == bt.Order.Market:
        return None, False
    if wanted == 0 or wanted == timedelta():
        return None, True
    days = order.valid if isinstance(wanted, date | timedelta) else float(wanted)
    moment = to_us(bt.num2date(days).replace(tzinfo=UTC))  # whole seconds survive Backtrader's float days
    return to_datetime(bar_ends(granularity, bar_start(granularity, np.array([moment])))[0]), False
