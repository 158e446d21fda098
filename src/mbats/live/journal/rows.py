"""The journal's values as SQLite keeps them, and back: decimals as their digits, times as UTC text, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mbats.live.journal.intents import IntentRow, IntentState
from mbats.oanda.transactions import Transaction

Stored = str | int | None

INTENT_COLUMNS = tuple(column.name for column in fields(IntentRow))
_TIMES = frozenset({"bar", "decided_at", "updated_at", "sent_at", "valid_until"})
_DECIMALS = frozenset({"units", "price", "stop", "target", "trail"})


def store_intent(values: Mapping[str, Any]) -> dict[str, Stored]:
    """Fields of an intent as columns. Raises ValueError for a time without a zone."""
    return {name: _stored(name, value) for name, value in values.items()}


def _stored(name: str, value: Any) -> Stored:
    if name == "body":
        return json.dumps(value)
    if value is None:
        return None
    if name in _TIMES:
        return time_text(value)
    if name in _DECIMALS:
        return str(value)
    return int(value) if name == "reduce_only" else whole_text(value) if isinstance(value, str) else value


def read_intent(row: Iterable[Any]) -> IntentRow:
    """The intent of a row with `INTENT_COLUMNS`."""
    return IntentRow(**{name: _read(name, value) for name, value in zip(INTENT_COLUMNS, row, strict=True)})


def _read(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _TIMES:
        return datetime.fromisoformat(value)
    if name in _DECIMALS:
        return Decimal(value)
    if name == "body":
        return json.loads(value)
    return IntentState(value) if name == "state" else bool(value) if name == "reduce_only" else value


def store_transaction(transaction: Transaction) -> tuple[int, str | None, str, str]:
    """The columns of a transaction; the body's JSON is ASCII, so that it comes back as it was whatever it holds."""
    time = time_text(transaction.time) if transaction.time else None
    return transaction.id, time, whole_text(transaction.type), json.dumps(transaction.body)


def read_transaction(number: int, time: str | None, kind: str, body: str) -> Transaction:
    """The reverse of `store_transaction`."""
    return Transaction(number, kind, datetime.fromisoformat(time) if time else None, json.loads(body))


def whole_text(text: str) -> str:
    """The text without what UTF-8 cannot hold: a broker's JSON may have half a character in it."""
    return text.encode(errors="replace").decode()


def time_text(time: datetime) -> str:
    """A time as text that sorts like time. Raises ValueError when it has no zone."""
    if time.tzinfo is None:
        raise ValueError(f"The time {time} has no zone; the journal keeps moments.")
    return time.astimezone(UTC).isoformat(timespec="microseconds")
