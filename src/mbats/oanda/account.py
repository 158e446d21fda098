"""What an account holds: money, trades, pending orders, positions. Pure: no clock, no network.

Each carries `body`, all that was sent, for what is not among its fields. Amounts of money are in the account's currency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from mbats.oanda.parse import parse_decimal, parse_list, parse_time, read_part
from mbats.oanda.transactions import Transaction, gap, parse_id, parse_last_id, parse_transactions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """An account's money. It is margin-called at a `margin_closeout_percent` of 1; that is None where the broker does not say."""

    id: str
    currency: str
    balance: Decimal
    nav: Decimal
    unrealized_pl: Decimal
    margin_used: Decimal
    margin_available: Decimal
    margin_closeout_percent: Decimal | None
    hedging: bool
    last_id: int
    body: dict[str, Any] = field(repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Trade:
    """An open trade; `units` are what is left of it, negative when it is short. `opened` is UTC."""

    id: int
    instrument: str
    units: Decimal
    price: Decimal
    opened: datetime
    client_id: str | None
    client_tag: str | None
    take_profit_id: int | None
    stop_loss_id: int | None
    trailing_stop_id: int | None
    body: dict[str, Any] = field(repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Order:
    """A pending order. One that protects a trade has a `trade_id` in the place of instrument and units."""

    id: int
    type: str
    instrument: str | None
    units: Decimal | None
    price: Decimal | None
    distance: Decimal | None
    trade_id: int | None
    client_id: str | None
    client_tag: str | None
    body: dict[str, Any] = field(repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Position:
    """What all trades in one pair come to. `short_units` are negative or zero; an average price is None without units."""

    instrument: str
    long_units: Decimal
    long_price: Decimal | None
    short_units: Decimal
    short_price: Decimal | None
    body: dict[str, Any] = field(repr=False, hash=False)

    @property
    def net_units(self) -> Decimal:
        return self.long_units + self.short_units


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """Entries as they were just after transaction `last_id`; what happened since is in none of them."""

    entries: tuple[T, ...]
    last_id: int


@dataclass(frozen=True, slots=True)
class Details:
    """All of an account at one moment, just after transaction `summary.last_id`."""

    summary: Summary
    trades: tuple[Trade, ...]
    orders: tuple[Order, ...]
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since a transaction: every one of them in order, and the broker's own digest of them in `body`."""

    transactions: tuple[Transaction, ...]
    last_id: int
    body: dict[str, Any] = field(repr=False, hash=False)


def parse_listing(payload: Any, key: str, parse: Callable[[Any], T]) -> Listing[T]:
    """The list under `key`, and the transaction that it takes into account."""
    return Listing(tuple(parse_list(payload, key, parse)), parse_last_id(payload))


def parse_summary(payload: Any) -> Summary:
    """The account of `GET /accounts/{id}/summary`."""
    last_id = parse_last_id(payload)
    return read_part("account", lambda: _summary(payload["account"], last_id))


def parse_details(payload: Any) -> Details:
    """The account of `GET /accounts/{id}` with all that is in it."""
    summary = parse_summary(payload)
    account = payload["account"]
    return Details(
        summary,
        trades=tuple(parse_list(account, "trades", parse_trade)),
        orders=tuple(parse_list(account, "orders", parse_order)),
        positions=tuple(parse_list(account, "positions", parse_position)),
    )


def parse_changes(payload: Any, since: int) -> Changes:
    """The answer of `GET /accounts/{id}/changes`. Raises OandaUnavailable if a transaction is missing."""
    last_id = parse_last_id(payload)
    found = parse_transactions(read_part("changes", lambda: payload["changes"]), since + 1)
    if since + len(found) < last_id:
        raise gap(since + len(found), last_id)
    return Changes(tuple(found), last_id, payload)


def parse_trade(payload: Any) -> Trade:
    """One trade, as it stands in a list of trades or in an account."""
    return read_part(f"trade {_name(payload)}", lambda: _trade(payload))


def parse_order(payload: Any) -> Order:
    """One pending order of any type."""
    return read_part(f"order {_name(payload)}", lambda: _order(payload))


def parse_position(payload: Any) -> Position:
    """The position in one pair."""
    return read_part(f"position {_name(payload, 'instrument')}", lambda: _position(payload))


def _summary(account: Any, last_id: int) -> Summary:
    return Summary(
        id=str(account["id"]),
        currency=str(account["currency"]),
        balance=parse_decimal(account["balance"]),
        nav=parse_decimal(account["NAV"]),
        unrealized_pl=parse_decimal(account["unrealizedPL"]),
        margin_used=parse_decimal(account["marginUsed"]),
        margin_available=parse_decimal(account["marginAvailable"]),
        margin_closeout_percent=_optional(account, "marginCloseoutPercent", parse_decimal),
        hedging=account.get("hedgingEnabled") is True,
        last_id=last_id,
        body=account,
    )


def _trade(trade: Any) -> Trade:
    client = trade.get("clientExtensions") or {}
    return Trade(
        id=parse_id(trade["id"]),
        instrument=str(trade["instrument"]),
        units=parse_decimal(trade["currentUnits"]),
        price=parse_decimal(trade["price"]),
        opened=parse_time(trade["openTime"]),
        client_id=client.get("id"),
        client_tag=client.get("tag"),
        take_profit_id=_dependent(trade, "takeProfitOrder"),
        stop_loss_id=_dependent(trade, "stopLossOrder"),
        trailing_stop_id=_dependent(trade, "trailingStopLossOrder"),
        body=trade,
    )


def _order(order: Any) -> Order:
    client = order.get("clientExtensions") or {}
    return Order(
        id=parse_id(order["id"]),
        type=str(order["type"]),
        instrument=_optional(order, "instrument", str),
        units=_optional(order, "units", parse_decimal),
        price=_optional(order, "price", parse_decimal),
        distance=_optional(order, "distance", parse_decimal),
        trade_id=_optional(order, "tradeID", parse_id),
        client_id=client.get("id"),
        client_tag=client.get("tag"),
        body=order,
    )


def _position(position: Any) -> Position:
    long, short = position["long"], position["short"]
    return Position(
        instrument=str(position["instrument"]),
        long_units=parse_decimal(long["units"]),
        long_price=_optional(long, "averagePrice", parse_decimal),
        short_units=parse_decimal(short["units"]),
        short_price=_optional(short, "averagePrice", parse_decimal),
        body=position,
    )


def _dependent(trade: Any, key: str) -> int | None:
    """The number of an order that protects a trade: an account's trades give it alone, a list of trades the whole order."""
    whole = trade.get(key)
    return parse_id(whole["id"]) if whole else _optional(trade, f"{key}ID", parse_id)


def _optional(body: Any, key: str, parse: Callable[[Any], T]) -> T | None:
    return parse(body[key]) if body.get(key) is not None else None


def _name(payload: Any, key: str = "id") -> str:
    return str(payload.get(key, "?")) if isinstance(payload, dict) else "?"
