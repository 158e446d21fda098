"""What the gate is asked about: orders before they are sent, cancels, and the orders that are already out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Kind(StrEnum):
    """The order types of OANDA v20 that can open a position."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    MARKET_IF_TOUCHED = "MARKET_IF_TOUCHED"


@dataclass(frozen=True, slots=True)
class Intent:
    """What makes two orders the same: a deployment decides on a purpose once for each symbol and bar (R24).

    `bar` is the start of the bar decided on, UTC. `purpose` holds no counter, or the guard would guard nothing; only an order
    that is proven not to have reached the broker is tried again, and then under the same intent taken off the list.
    """

    deployment: str
    symbol: str
    bar: datetime
    purpose: str


@dataclass(frozen=True, slots=True)
class Order:
    """One order as the strategy wants it. `units` are signed: a buy is more than zero. Prices are in the quote currency.

    `price` is that of a pending order. `reduce_only` promises that the broker is asked in a form that cannot open a position:
    bound to a trade, a close of a trade, or `positionFill=REDUCE_ONLY`. `replaces` is the id of a working order that the broker
    takes away in the same request. `flatten` marks the orders of the flatten command; a strategy cannot set it.
    """

    deployment: str
    symbol: str
    units: Decimal
    bar: datetime
    purpose: str
    kind: Kind = Kind.MARKET
    price: Decimal | None = None
    price_bound: Decimal | None = None
    reduce_only: bool = False
    replaces: str | None = None
    flatten: bool = False

    @property
    def intent(self) -> Intent:
        return Intent(self.deployment, self.symbol, self.bar, self.purpose)

    @property
    def buys(self) -> bool:
        return self.units > 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """The wish to take back a working order, by our id of it."""

    deployment: str
    order_id: str


@dataclass(frozen=True, slots=True)
class Working:
    """An order that was sent and is not known to be over: in flight, pending, or of unknown outcome. `units` are what is left.

    `owner` is the deployment, or "" for what MBATS did not send. Stops and targets that are bound to a trade are `reduce_only`.
    """

    id: str
    owner: str
    symbol: str
    units: Decimal
    kind: Kind = Kind.MARKET
    reduce_only: bool = False
