"""Transactions: all that ever happened to an account, numbered without a gap. Pure: no clock, no network.

The broker writes the numbers as text; here they are integers, because as text "1000" comes before "999".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mbats.errors import OandaUnavailable
from mbats.oanda.parse import WRONG_KIND, parse_list, parse_time, unreadable


@dataclass(frozen=True, slots=True)
class Transaction:
    """One entry of an account's log. `type` may be one that did not exist when this was written; `body` holds all that was sent.

    `time` is UTC, in microseconds of the nanoseconds that `body` has; None if it is absent or unreadable, since an entry that
    cannot be dated still happened.
    """

    id: int
    type: str
    time: datetime | None
    body: dict[str, Any] = field(repr=False, hash=False)


def parse_id(value: Any) -> int:
    """The number of a transaction, an order or a trade. Raises ValueError for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    raise ValueError(f"found {value!r}, expected a number as text")


def parse_transaction(payload: Any) -> Transaction:
    """One transaction, of a known type or not. Raises OandaUnavailable only if it has no number."""
    try:
        number = parse_id(payload["id"])
    except WRONG_KIND as error:
        raise unreadable("transaction", error) from error
    try:
        time = parse_time(payload["time"])
    except WRONG_KIND:
        time = None
    return Transaction(number, str(payload.get("type", "")), time, payload)


def parse_transactions(payload: Any, first: int) -> list[Transaction]:
    """The `transactions` of an answer, which must begin with `first` and leave none out; oldest first.

    Raises OandaUnavailable if it cannot be read, or has a gap.
    """
    return in_order(parse_list(payload, "transactions", parse_transaction), first)


def parse_since(payload: Any, since: int) -> tuple[list[Transaction], int]:
    """The transactions after number `since`, and the number of the account's last one, which may be further on.

    Raises OandaUnavailable if the answer has a gap, has nothing though more has happened, or knows less than `since`.
    """
    found = parse_transactions(payload, since + 1)
    last = parse_last_id(payload)
    if last < since:
        raise OandaUnavailable(f"The broker's last transaction is {last}, though {since} is known: its answer is out of date.")
    if last > since and not found:
        raise gap(since, last)
    return found, last


def gap(known: int, last: int) -> OandaUnavailable:
    """The error that says that nothing came after `known`, though the account has had transactions up to `last`."""
    return OandaUnavailable(f"Transactions {known + 1} to {last} are missing from the answer.")


def parse_last_id(payload: Any) -> int:
    """The `lastTransactionID` of an answer: which of the account's transactions it already takes into account."""
    try:
        return parse_id(payload["lastTransactionID"])
    except WRONG_KIND as error:
        raise unreadable("lastTransactionID", error) from error


def in_order(transactions: Iterable[Transaction], first: int) -> list[Transaction]:
    """Sorted by number, each once. Raises OandaUnavailable naming the first gap, counted from `first` on."""
    found = sorted({transaction.id: transaction for transaction in transactions}.items())
    for expected, (number, _) in enumerate(found, first):
        if number != expected:
            what = f"Transaction {expected} is missing" if number > expected else f"Transaction {number} was not asked for"
            raise OandaUnavailable(f"{what}: expected {first} and all that follow, found {_numbers(found)}.")
    return [transaction for _, transaction in found]


def _numbers(found: Sequence[tuple[int, Transaction]]) -> str:
    numbers = [str(number) for number, _ in found]
    return ", ".join(numbers if len(numbers) <= 10 else [*numbers[:5], "…", *numbers[-4:]])
