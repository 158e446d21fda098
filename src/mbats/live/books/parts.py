"""What an account holds, by who owns it: lots, and the broker's trades and orders. Frozen values; units are signed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Lot:
    """What one opening order made for one owner, as far as it is still there.

    `id` is the client id of that order, or "trade:ID" where it had none. `deployment` is "" for what is not ours. `price` is
    what it was opened at and `opened` when, UTC. `stop`, `trail` (a distance in price units) and `target` are what it must
    have, whether the broker has orders for them or not; a lot of nobody's must have none.
    """

    id: str
    deployment: str
    symbol: str
    units: Decimal
    price: Decimal
    opened: datetime
    stop: Decimal | None = None
    trail: Decimal | None = None
    target: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Protector:
    """A stop, target or trailing stop that stands at the broker on a trade.

    `price` is None for a trailing stop, `distance` for others.
    """

    order_id: int
    price: Decimal | None
    distance: Decimal | None
    client_id: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A trade that is open at the broker; `units` are what is left of it, `opened` is UTC."""

    id: int
    symbol: str
    units: Decimal
    price: Decimal
    opened: datetime
    client_id: str | None
    stop: Protector | None = None
    target: Protector | None = None
    trailing: Protector | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """An order that waits at the broker and is not bound to a trade. `reduce_only` is that it cannot open a position."""

    id: int
    type: str
    symbol: str
    units: Decimal
    price: Decimal | None
    client_id: str | None
    reduce_only: bool
