"""What the books take from a transaction of each kind, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

ZERO = Decimal(0)

STOPS = ("STOP_LOSS", "GUARANTEED_STOP_LOSS")
TARGET = "TAKE_PROFIT"
TRAILING = "TRAILING_STOP_LOSS"
OF_TRADES = (*STOPS, TARGET, TRAILING)
FOR_TRADES = ("TRADE_CLOSE", "DELAYED_TRADE_CLOSE", "POSITION_CLOSEOUT", "MARGIN_CLOSEOUT")  # market orders that only end trades


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that is not over. `type` is OANDA's order type; `trade_id` is the trade that it ends.

    `stop`, `stop_distance`, `trail` and `target` are what it attaches to the trade that it opens.
    """

    id: int
    type: str
    symbol: str
    units: Decimal
    price: Decimal | None
    distance: Decimal | None
    client_id: str | None
    trade_id: int | None
    reduce_only: bool
    replaces: int | None
    stop: Decimal | None
    stop_distance: Decimal | None
    trail: Decimal | None
    target: Decimal | None

    @property
    def of_trade(self) -> bool:
        """Whether it is a stop or target that stands on a trade."""
        return self.type in OF_TRADES


@dataclass(frozen=True, slots=True)
class Part:
    """What a fill did to one trade; the units have the sign of the order."""

    trade_id: int
    units: Decimal
    price: Decimal
    pl: Decimal
    financing: Decimal


@dataclass(frozen=True, slots=True)
class Opening:
    """The trade that a fill opened."""

    trade_id: int
    units: Decimal
    price: Decimal
    client_id: str | None


@dataclass(frozen=True, slots=True)
class Fill:
    """An ORDER_FILL. `type` and `why` are the order's (`why` of a market order that a client did not ask for as such), told from
    the fill's reason; money is in the account's currency.

    `costs` are commissions and fees, zero or more. `gain` and `loss` convert from the quote currency; None where nothing says
    by how much.
    """

    order_id: int
    client_id: str | None
    type: str
    why: str
    symbol: str
    units: Decimal
    pl: Decimal
    financing: Decimal
    costs: Decimal
    balance: Decimal | None
    gain: Decimal | None
    loss: Decimal | None
    reduced: tuple[Part, ...]
    opened: Opening | None

    @property
    def dealt(self) -> Decimal:
        """The units by what became of trades: what the broker's position changed by, whatever `units` says."""
        return sum((part.units for part in self.reduced), self.opened.units if self.opened else ZERO)


@dataclass(frozen=True, slots=True)
class Ending:
    """An ORDER_CANCEL."""

    order_id: int
    client_id: str | None
    reason: str
    replaced_by: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A transaction that says that nothing was done."""

    client_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that comes or goes without an order: `amount` None where only the new balance is said. `parts` are by trade."""

    amount: Decimal | None
    balance: Decimal | None
    parts: tuple[tuple[int, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class Renaming:
    """New client ids of an order or of a trade; `changed` is False where only tags and comments are new."""

    order_id: int | None
    trade_id: int | None
    client_id: str | None
    changed: bool
