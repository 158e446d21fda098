"""What the trader and the process of a deployment say to each other: one JSON object a message, over a pipe.

The process holds a strategy and knows no broker. It gets bars, and what became of its orders; it says what it wants. Everything
that is money, identity or state stays with the trader, so that the process may be killed at any line.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

# --- From the strategy's process to the trader ------------------------------------------------------------------------------


class Form(StrEnum):
    """Backtrader's order types, those that can be had."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    STOP_TRAIL = "stop_trail"
    STOP_TRAIL_LIMIT = "stop_trail_limit"


@dataclass(frozen=True, slots=True)
class Exit:
    """A stop or a target that goes with an entry: a `price`, or for a trailing stop the distance `trail` in price units."""

    ref: int
    price: Decimal | None = None
    trail: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """An order that the strategy wants. `ref` is its number in the process's life, above zero; `units` are signed, never zero.

    `price` is that of a limit or stop, and of a trailing one where it stands at first. `limit` is the price of the limit order
    which a stop-limit becomes; that of a trailing one keeps its distance from the stop. `trail` is a distance in price units.
    `bar` is the start of the bar decided on (UTC). `valid_until` ends a pending order, `day` does at 17:00 New York. Orders with
    the same `oco` cancel each other: it is the `ref` of the first of them, its own too. `stop` and `target` make it a bracket.
    """

    ref: int
    symbol: str
    units: Decimal
    form: Form
    bar: datetime
    price: Decimal | None = None
    limit: Decimal | None = None
    trail: Decimal | None = None
    valid_until: datetime | None = None
    day: bool = False
    oco: int | None = None
    stop: Exit | None = None
    target: Exit | None = None
    type: Literal["submit"] = "submit"


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The strategy cancels an order, a bracket that waits by its entry's number, then its stop and target by their own.

    The order stands for the strategy until an `OrderEvent` says that it ended.
    """

    ref: int
    type: Literal["withdraw"] = "withdraw"


@dataclass(frozen=True, slots=True)
class Ready:
    """History is read and indicators stand; bars may come. `bars` were read."""

    bars: int
    type: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class Done:
    """Everything that the strategy decided on the moment `time` has been said before this message."""

    time: datetime
    type: Literal["done"] = "done"


@dataclass(frozen=True, slots=True)
class Broken:
    """The strategy raised, or the process met what it cannot handle; then it ends. `where` is a line of the strategy's file."""

    message: str
    where: str = ""
    type: Literal["broken"] = "broken"


@dataclass(frozen=True, slots=True)
class Decided:
    """A model was asked about a bar: what it was given, all of it finite, and what it said, or why nothing (`error`).

    `time` is the start of the bar (UTC), `model` is `name/version`. What a `shadow` said is recorded and goes no further.
    """

    symbol: str
    time: datetime
    model: str
    features: tuple[float, ...]
    prediction: float | None
    latency_s: float
    error: str | None = None
    role: Literal["model", "shadow"] = "model"
    type: Literal["decided"] = "decided"


# --- From the trader to the strategy's process ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message. `deployment` is `deployment.Deployment` as JSON, `instruments` those of `Instrument.to_json` by name."""

    deployment: dict[str, Any]
    instruments: dict[str, Any]
    currency: str
    type: Literal["begin"] = "begin"


@dataclass(frozen=True, slots=True)
class History:
    """Bars of one symbol before the present, oldest first; `count` of them follow in one binary frame, with their conversions."""

    symbol: str
    count: int
    type: Literal["history"] = "history"


@dataclass(frozen=True, slots=True)
class Holding:
    """A position that the deployment has from before: signed units at an average price."""

    symbol: str
    units: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Standing:
    """An order of the deployment that stands from before. `ref` is less than zero: the trader's number for it.

    `role` says what it is: `entry`, or the `stop` or `target` of a position.
    """

    ref: int
    symbol: str
    units: Decimal
    form: Form
    role: Literal["entry", "stop", "target"]
    bar: datetime
    price: Decimal | None = None
    trail: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """The account. NAV = balance + open profit of all; `elsewhere` is that of what the strategy's own bars do not value."""

    balance: Decimal
    nav: Decimal
    margin_used: Decimal
    elsewhere: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Adopt:
    """What is there at the start, after history. Then come moments."""

    holdings: tuple[Holding, ...]
    orders: tuple[Standing, ...]
    money: Money
    type: Literal["adopt"] = "adopt"


@dataclass(frozen=True, slots=True)
class LiveBar:
    """One complete bar as the broker gave it: bid and ask, each open, high, low, close; the conversion is that at its close."""

    time: datetime
    bid: tuple[float, float, float, float]
    ask: tuple[float, float, float, float]
    volume: int
    conversion: float


@dataclass(frozen=True, slots=True)
class Moment:
    """The bars that completed at `time` (UTC), by symbol, none of them sent before, and the account as it was then."""

    time: datetime
    bars: dict[str, LiveBar]
    money: Money
    type: Literal["moment"] = "moment"


class Status(StrEnum):
    """What became of an order; Backtrader's words."""

    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIAL = "partial"
    COMPLETED = "completed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    MARGIN = "margin"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """News of one order. A fill has signed `units` and a `price`; `position` is what the deployment holds of the symbol after it.

    `reason` is the broker's word or the gate's, `detail` a sentence for people. `ref` None is a fill that no order of this
    process made: somebody closed the position, or the broker did. A `ref` below zero that was not adopted counts as None.
    """

    ref: int | None
    symbol: str
    status: Status
    at: datetime
    units: Decimal | None = None
    price: Decimal | None = None
    position: Decimal | None = None
    pnl: Decimal | None = None
    reason: str = ""
    detail: str = ""
    type: Literal["order"] = "order"


@dataclass(frozen=True, slots=True)
class NewShadow:
    """The shadow's alias means another version now: `pin` is what `models.Pin` keeps of it."""

    reference: str
    pin: dict[str, Any]
    type: Literal["new_shadow"] = "new_shadow"


@dataclass(frozen=True, slots=True)
class Quit:
    """End, without taking further decisions."""

    why: str = ""
    type: Literal["quit"] = "quit"


FromStrategy = Submit | Withdraw | Ready | Done | Decided | Broken
ToStrategy = Begin | History | Adopt | Moment | OrderEvent | NewShadow | Quit


@cache
def _reader(kinds: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kinds)


@cache
def _writer(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def encode(message: FromStrategy | ToStrategy) -> bytes:
    """A message as bytes: decimals are texts, times have their zone."""
    kind: Any = type(message)
    return _writer(kind).dump_json(message)


def read_from_strategy(data: bytes) -> FromStrategy:
    """The reverse of `encode` on the trader's side. Raises pydantic.ValidationError for what is no message."""
    message: FromStrategy = _reader(FromStrategy).validate_json(data)
    return message


def read_to_strategy(data: bytes) -> ToStrategy:
    """The reverse of `encode` on the strategy's side. Raises pydantic.ValidationError for what is no message."""
    message: ToStrategy = _reader(ToStrategy).validate_json(data)
    return message
