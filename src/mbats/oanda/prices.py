"""Prices as the broker sends them, asked for or streamed. Pure: no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from mbats.oanda.parse import parse_decimal, parse_time, read_part


@dataclass(frozen=True, slots=True)
class Price:
    """The best prices of one pair; `time` is UTC. A side without an offer is None, as it is in a market without liquidity.

    `body` holds the rest: what lies deeper in the book, closeout prices, and whatever OANDA has added since.
    """

    instrument: str
    time: datetime
    bid: Decimal | None
    ask: Decimal | None
    tradeable: bool
    body: dict[str, Any] = field(repr=False, hash=False)

    @property
    def mid(self) -> Decimal | None:
        """Halfway between the two, if there are two."""
        return None if self.bid is None or self.ask is None else (self.bid + self.ask) / 2


def parse_price(payload: Any) -> Price:
    """One price. Raises OandaUnavailable if it cannot be read."""
    name = payload.get("instrument", "?") if isinstance(payload, dict) else "?"
    return read_part(f"price of {name}", lambda: _price(payload))


def _price(payload: Any) -> Price:
    # The boolean is the newer of the two; old answers have only the word.
    tradeable = payload["tradeable"] if "tradeable" in payload else payload.get("status") == "tradeable"
    return Price(
        instrument=str(payload["instrument"]),
        time=parse_time(payload["time"]),
        bid=_best(payload.get("bids")),
        ask=_best(payload.get("asks")),
        tradeable=tradeable is True,
        body=payload,
    )


def _best(book: Any) -> Decimal | None:
    return parse_decimal(book[0]["price"]) if book else None
