"""What the streams deliver, one type for each thing that can come. Pure: no clock, no network.

Message
├── Price, PriceHeartbeat                        of the pricing stream
├── TransactionMessage, TransactionHeartbeat     of the transaction stream
├── UnknownMessage                               of either: a kind that did not exist when this was written
└── StreamUp, StreamDown                         of the supervisor, about the stream itself
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mbats.oanda.parse import parse_time, read_part, unreadable
from mbats.oanda.prices import Price, parse_price
from mbats.oanda.transactions import Transaction, parse_last_id, parse_transaction


@dataclass(frozen=True, slots=True)
class PriceHeartbeat:
    """No price has changed; `time` is the broker's, UTC."""

    time: datetime


@dataclass(frozen=True, slots=True)
class TransactionMessage:
    """Something happened to the account."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class TransactionHeartbeat:
    """The account's last transaction is `last_id`: whoever knows less has missed some. `time` is the broker's, UTC."""

    last_id: int
    time: datetime


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A line that is sound JSON of a kind we do not know."""

    stream: str
    body: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class StreamUp:
    """A new connection has brought its first line, which follows. What happened before it is not replayed: read it."""

    stream: str
    connection: int


@dataclass(frozen=True, slots=True)
class StreamDown:
    """Nothing more comes from this connection, or none could be made. If `final`, none is tried again either."""

    stream: str
    why: str
    final: bool = False


StreamMessage = Price | PriceHeartbeat | TransactionMessage | TransactionHeartbeat | UnknownMessage
Message = StreamMessage | StreamUp | StreamDown

PRICING = "pricing"
TRANSACTIONS = "transactions"


def parse_price_line(payload: Any) -> Price | PriceHeartbeat | UnknownMessage:
    """One line of the pricing stream. Raises OandaUnavailable for one of a known type that cannot be read."""
    kind = _kind(payload)
    if kind == "PRICE":
        return parse_price(payload)
    if kind == "HEARTBEAT":
        return PriceHeartbeat(_time(payload))
    return UnknownMessage(PRICING, payload)


def parse_transaction_line(payload: Any) -> TransactionMessage | TransactionHeartbeat | UnknownMessage:
    """One line of the transaction stream; whatever has a number is a transaction, of a known type or not."""
    if _kind(payload) == "HEARTBEAT":
        return TransactionHeartbeat(parse_last_id(payload), _time(payload))
    if "id" in payload:
        return TransactionMessage(parse_transaction(payload))
    return UnknownMessage(TRANSACTIONS, payload)


def _kind(payload: Any) -> Any:
    if not isinstance(payload, dict):
        raise unreadable("line of a stream", TypeError(f"found {payload!r}, expected an object"))
    return payload.get("type")


def _time(payload: Any) -> datetime:
    return read_part("heartbeat", lambda: parse_time(payload["time"]))
