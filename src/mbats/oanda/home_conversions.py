"""What the currencies of some pairs are worth in an account's, as the broker says itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from oandapyV20.endpoints.pricing import PricingInfo

from mbats.oanda.parse import parse_decimal, parse_list, parse_time, read_part
from mbats.oanda.prices import Price, parse_price
from mbats.oanda.reads import Reads


@dataclass(frozen=True, slots=True)
class HomeConversions:
    """The worth of one unit of each currency at mid, the newest price of each pair, and the broker's time (UTC) of both."""

    time: datetime
    worth: dict[str, Decimal]
    prices: list[Price]


def read_home_conversions(reads: Reads, account: str, instruments: Collection[str]) -> HomeConversions:
    """Ask for the base and the quote currency of these pairs. Raises OandaUnavailable or OandaRejected."""
    params = {"instruments": ",".join(sorted(instruments)), "includeHomeConversions": "true", "includeUnitsAvailable": "false"}
    return reads.read(PricingInfo(quote(account, safe=""), params), _parse)


def _parse(payload: Any) -> HomeConversions:
    return HomeConversions(
        time=read_part("time of prices", lambda: parse_time(payload["time"])),
        worth=dict(parse_list(payload, "homeConversions", _worth)),
        prices=parse_list(payload, "prices", parse_price),
    )


def _worth(payload: Any) -> tuple[str, Decimal]:
    return read_part("home conversion", lambda: (str(payload["currency"]), parse_decimal(payload["positionValue"])))
