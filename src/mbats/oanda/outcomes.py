"""What became of a request that changes something at the broker. Pure: no clock, no network.

    Outcome
    ├── Accepted    the broker did it, or took it into its books and cancelled it at once
    ├── Refused     it was understood and not done
    ├── Throttled   it was not even looked at
    └── Unknown     it may have been done or not: only the account's transactions can tell

Unknown is no error to recover from by sending again. Whoever gets it reads the transactions since the last one known, looks for
the client id that the request carried, and only then decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from mbats.errors import OandaUnavailable
from mbats.oanda.parse import WRONG_KIND, parse_refusal
from mbats.oanda.transactions import Transaction, parse_id, parse_transaction


class Why(StrEnum):
    """The kinds of refusal."""

    RULE = "rule"  # 400: the request breaks a rule, and would break it again
    CREDENTIALS = "credentials"  # 401: stop, every further call would be refused
    FORBIDDEN = "forbidden"  # 403: the account is not this token's
    NOT_FOUND = "not found"  # 404: no such order, trade, position or account


KINDS = {400: Why.RULE, 401: Why.CREDENTIALS, 403: Why.FORBIDDEN, 404: Why.NOT_FOUND}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker did as asked. `transactions` are those in the answer, oldest first; on-fill orders are only in `related_ids`."""

    status: int
    body: dict[str, Any] = field(repr=False)
    transactions: tuple[Transaction, ...]
    related_ids: tuple[int, ...]
    last_id: int | None

    @property
    def created(self) -> tuple[Transaction, ...]:
        """The orders that came into being; the number of an order is that of its transaction."""
        return tuple(each for each in self.transactions if each.type.endswith("_ORDER"))

    @property
    def fills(self) -> tuple[Transaction, ...]:
        """What was bought or sold within the call."""
        return tuple(each for each in self.transactions if each.type == "ORDER_FILL")

    @property
    def cancelled(self) -> tuple[Transaction, ...]:
        """Cancellations of orders that this very request made: it was valid, and came to nothing."""
        made = {str(each.id) for each in self.created}
        return tuple(each for each in self.transactions if each.type == "ORDER_CANCEL" and each.body.get("orderID") in made)

    @property
    def cancel_reason(self) -> str | None:
        """Why, in the broker's word, such as INSUFFICIENT_MARGIN or MARKET_HALTED; None if nothing was cancelled."""
        return str(self.cancelled[0].body.get("reason", "")) if self.cancelled else None


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done. `error_code` is the broker's, or the reject reason of the transaction that it wrote about it."""

    status: int
    reason: str
    error_code: str | None
    body: dict[str, Any] = field(repr=False)
    transactions: tuple[Transaction, ...] = ()

    @property
    def kind(self) -> Why:
        return KINDS[self.status]


@dataclass(frozen=True, slots=True)
class Throttled:
    """HTTP 429: too many requests; this one was certainly not carried out."""

    reason: str
    status: int = 429


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer that can be trusted; `status` is its HTTP status if one came."""

    why: str
    status: int | None = None


Outcome = Accepted | Refused | Throttled | Unknown


def of_success(status: int, payload: Any) -> Accepted | Unknown:
    """What an answer of HTTP 2xx means. One that names no transaction could be anybody's, so it proves nothing."""
    if not isinstance(payload, dict):
        return Unknown(f"HTTP {status}, but the answer is a {type(payload).__name__}, not an object", status)
    try:
        transactions = _transactions_of(payload)
        last_id = parse_id(payload["lastTransactionID"]) if "lastTransactionID" in payload else None
        related = tuple(sorted(parse_id(number) for number in payload.get("relatedTransactionIDs", ())))
    except (OandaUnavailable, *WRONG_KIND) as error:
        return Unknown(f"HTTP {status}, but the answer cannot be read: {error}", status)
    if not transactions and last_id is None:
        return Unknown(f"HTTP {status}, but the answer names no transaction", status)
    return Accepted(status, payload, transactions, related, last_id)


def of_refusal(status: int, body: str) -> Refused | Throttled | Unknown:
    """What an answer of HTTP 400 or more means."""
    reason, code = parse_refusal(body)
    if status == 429:
        return Throttled(reason)
    payload = _object_in(body)
    if status in (401, 403):
        return Refused(status, reason, code, payload or {})
    # A page of somebody between us and the broker says nothing about what the broker did.
    if status not in KINDS or payload is None:
        return Unknown(f"HTTP {status}: {reason}", status)
    try:
        transactions = _transactions_of(payload)
    except OandaUnavailable as error:
        return Unknown(f"HTTP {status}, but the answer cannot be read: {error}", status)
    rejected = [str(each.body["rejectReason"]) for each in transactions if "rejectReason" in each.body]
    if code is None and not rejected and "errorMessage" not in payload:
        return Unknown(f"HTTP {status}, but the answer gives no reason", status)
    return Refused(status, reason, code or (rejected[0] if rejected else None), payload, transactions)


def _transactions_of(payload: dict[str, Any]) -> tuple[Transaction, ...]:
    found = [parse_transaction(value) for key, value in payload.items() if key.endswith("Transaction") and value is not None]
    return tuple(sorted(found, key=lambda each: each.id))


def _object_in(body: str) -> dict[str, Any] | None:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None
