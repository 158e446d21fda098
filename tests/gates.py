"""A quiet market at round prices and an account of 100,000 USD without a position, to put one thing wrong at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from samples import sample_instrument

from mbats.live.gate import GateState, Kind, Limits, Losses, Order, Quote, Throttle, View, Working

NOW = datetime(2024, 6, 12, 14, 0, 30, tzinfo=UTC)  # a Wednesday
BAR = datetime(2024, 6, 12, 13, tzinfo=UTC)
SYMBOLS = ("EUR_USD", "GBP_USD", "USD_JPY", "EUR_GBP")
HOME = {"EUR": Decimal(1), "GBP": Decimal(1), "USD": Decimal(1), "JPY": Decimal("0.01")}
NAV = Decimal(100_000)
MARGIN_RATE = Decimal("0.02")

# Limits so wide that only the one under test can be met.
WIDE = Limits(
    max_order_units=Decimal(10) ** 9,
    max_order_notional=Decimal(50),
    max_position_units=Decimal(10) ** 9,
    max_position_notional=Decimal(50),
    max_open_trades=1000,
    max_gross_exposure=Decimal(50),
    max_currency_exposure=Decimal(50),
    max_margin=Decimal("0.9"),
)


def limits(**changes: Any) -> Limits:
    """The wide limits with some of them narrow."""
    return Limits(**(WIDE.model_dump() | changes))


def quote(symbol: str = "EUR_USD", **changes: Any) -> Quote:
    """A fresh, tradeable price with the usual spread of one pip."""
    scale = Decimal(100) if symbol.endswith("JPY") else Decimal(1)
    values: dict[str, Any] = {
        "time": NOW,
        "bid": scale * Decimal("0.99995"),
        "ask": scale * Decimal("1.00005"),
        "tradeable": True,
        "reference": scale,
        "usual_spread": scale * Decimal("0.0001"),
    }
    return Quote(**(values | changes))


def view(**changes: Any) -> View:
    """The account and the market as they should be."""
    values: dict[str, Any] = {
        "nav": NAV,
        "margin_used": Decimal(0),
        "positions": {},
        "open_trades": 0,
        "working": (),
        "quotes": {symbol: quote(symbol) for symbol in SYMBOLS},
        "home": HOME,
        "instruments": {symbol: replace(sample_instrument(symbol), margin_rate=MARGIN_RATE) for symbol in SYMBOLS},
        "intents": frozenset(),
        "throttle": Throttle(Decimal(10), NOW),
        "losses": Losses.begin(NAV, NOW),
    }
    return View(**(values | changes))


def holding(units: int, symbol: str = "EUR_USD", owner: str = "alpha") -> dict[tuple[str, str], Decimal]:
    """One position."""
    return {(owner, symbol): Decimal(units)}


def order(units: int | str = 1000, symbol: str = "EUR_USD", **changes: Any) -> Order:
    """A market order of the deployment alpha."""
    values: dict[str, Any] = {"deployment": "alpha", "bar": BAR, "purpose": "entry"}
    return Order(symbol=symbol, units=Decimal(units), **(values | changes))


def working(units: int, symbol: str = "EUR_USD", owner: str = "alpha", **changes: Any) -> Working:
    """An order that is out; a market order unless said otherwise."""
    values: dict[str, Any] = {"id": f"{owner}-{symbol}-{units}", "kind": Kind.MARKET}
    return Working(owner=owner, symbol=symbol, units=Decimal(units), **(values | changes))


ACTIVE = GateState()
