"""What the exchange speaks of: how accounts are opened, orders, trades, positions, and the words of OANDA for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

import numpy as np

Transaction = dict[str, Any]  # as OANDA writes it: ids and numbers as texts, times in RFC 3339 with nine digits

ZERO = Decimal(0)


class OrderType(StrEnum):
    """Every kind of order. The last three belong to a trade and end it."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    MARKET_IF_TOUCHED = "MARKET_IF_TOUCHED"
    TAKE_PROFIT = "TAKE_PROFIT"
    STOP_LOSS = "STOP_LOSS"
    TRAILING_STOP_LOSS = "TRAILING_STOP_LOSS"

    @property
    def of_trade(self) -> bool:
        return self in DEPENDENT


DEPENDENT = (OrderType.TAKE_PROFIT, OrderType.STOP_LOSS, OrderType.TRAILING_STOP_LOSS)
# The key of each in a trade's body, in a request for a trade's orders, and, with OnFill behind it, in an order's body.
DEPENDENT_KEYS = {
    "takeProfit": OrderType.TAKE_PROFIT,
    "stopLoss": OrderType.STOP_LOSS,
    "trailingStopLoss": OrderType.TRAILING_STOP_LOSS,
}


class OrderState(StrEnum):
    PENDING = "PENDING"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """How an account was opened. The id has OANDA's form, digits only: site, division, user and number.

    `margin_rate` is the client's own choice, which counts where it is above the instrument's. `fifo` is the rule of the US
    division: the oldest trade of a pair is closed first, and two trades with orders of their own must differ in size.
    """

    id: str = "101-004-1435156-001"
    alias: str = "Simulated"
    currency: str = "USD"
    balance: Decimal = Decimal(100_000)
    margin_rate: Decimal | None = None
    hedging: bool = False
    fifo: bool = False
    financing: Literal["NO_FINANCING", "DAILY"] = "DAILY"
    aggregation: Literal["ABSOLUTE_SUM", "MAXIMAL_SIDE", "NET_SUM"] = "MAXIMAL_SIDE"
    created: datetime = datetime(2005, 1, 3, tzinfo=UTC)

    @property
    def user(self) -> int:
        """The user's number, the third part of the id."""
        return int(self.id.split("-")[2])


@dataclass(slots=True)
class Order:
    """One order. `created` is the transaction that created it, and what it asks for is read from there.

    `units` is positive to buy; 0 for the orders of a trade, which close whatever the trade has then. `price` is the limit, the
    trigger, or the stop that a distance stood for when it was set; None for MARKET and for TRAILING_STOP_LOSS, whose stop is
    `trail`. `bound` is the worst price at which it may fill. `valid_until` is set for GTD and for GFD.
    """

    id: int
    type: OrderType
    instrument: str
    created: Transaction
    units: Decimal
    price: Decimal | None
    bound: Decimal | None
    trigger: str
    time_in_force: str
    position_fill: str
    valid_until: np.datetime64 | None
    trade_id: int | None
    extensions: dict[str, str]
    trade_extensions: dict[str, str]
    distance: Decimal | None = None
    trail: Decimal | None = None
    initial_price: Decimal | None = None  # of MARKET_IF_TOUCHED: the price when it came, which says from which side it is touched
    state: OrderState = OrderState.PENDING
    ended: Transaction | None = None  # the fill or the cancellation
    replaced_by: int | None = None


@dataclass(slots=True)
class Trade:
    """One trade; its id is that of the fill that opened it. `units` are what is open now, negative when sold."""

    id: int
    instrument: str
    price: Decimal
    opened: str
    initial_units: Decimal
    initial_margin: Decimal
    units: Decimal
    realized_pl: Decimal = ZERO
    financing: Decimal = ZERO
    extensions: dict[str, str] = field(default_factory=dict)
    closed_units: Decimal = ZERO  # without sign, and with the next for the average
    closed_value: Decimal = ZERO
    closing: list[int] = field(default_factory=list)
    closed: str | None = None
    orders: dict[OrderType, int] = field(default_factory=dict)  # the pending ones that belong to it


@dataclass(slots=True)
class SideSums:
    """What the long or the short side of a position has made since the account was opened."""

    pl: Decimal = ZERO
    resettable_pl: Decimal = ZERO
    financing: Decimal = ZERO


@dataclass(slots=True)
class Position:
    """Everything that was ever traded in one pair. Its open units are those of the account's open trades."""

    instrument: str
    long: SideSums = field(default_factory=SideSums)
    short: SideSums = field(default_factory=SideSums)

    def side(self, units: Decimal) -> SideSums:
        """The side on which a trade of these units is."""
        return self.long if units > 0 else self.short
