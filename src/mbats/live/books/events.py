"""What a transaction of the broker's meant for the owners of an account: one frozen value for each thing that happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from mbats.oanda.transactions import Transaction

Role = Literal["entry", "exit", "stop", "target", "closeout", "external"]


@dataclass(frozen=True, slots=True)
class Created:
    """An order came into being. `trade_id` is the trade that it is bound to; `replaces` the order in whose place it stands."""

    transaction: Transaction = field(repr=False)
    order_id: int
    client_id: str | None
    type: str
    symbol: str
    trade_id: int | None
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """An order dealt; one of these for each owner that it touched, which is one but for the broker's own close-outs.

    `owner` is a deployment or "". `units` are signed and all that this owner dealt. `pnl` is what the owner realised by its
    own average price, in the account's currency; `position` what it holds of the symbol after it. `lot_id` is the lot that
    was opened or first reduced, `opened_trade_id` the trade that the broker opened. A close of a trade has the role `exit`,
    whoever asked for it.
    """

    transaction: Transaction = field(repr=False)
    order_id: int
    client_id: str | None
    owner: str
    role: Role
    symbol: str
    units: Decimal
    price: Decimal
    pnl: Decimal
    position: Decimal
    lot_id: str | None
    opened_trade_id: int | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """An order is over without a fill. `reason` is the broker's word; `replaced_by` the order that stands in its place."""

    transaction: Transaction = field(repr=False)
    order_id: int
    client_id: str | None
    reason: str
    symbol: str
    trade_id: int | None
    replaced_by: int | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The broker refused a request: no order came of it. `reason` is the broker's word."""

    transaction: Transaction = field(repr=False)
    client_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Financed:
    """Interest for holding overnight, by owner, in the account's currency; less than zero is paid."""

    transaction: Transaction = field(repr=False)
    amounts: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Transferred:
    """Money came to the account, or left it; in its currency."""

    transaction: Transaction = field(repr=False)
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Alarm:
    """A person should hear of this; `text` is one plain sentence."""

    transaction: Transaction = field(repr=False)
    text: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Anything else, of types that we know or not: it happened, and changed nothing here."""

    transaction: Transaction = field(repr=False)


BookEvent = Created | Filled | Cancelled | Rejected | Financed | Transferred | Alarm | Noted
