"""What trading costs, each model with a name: slippage, financing and margin. Pure arithmetic, no Backtrader.

The spread is not a model: fills are on the side of the book that the broker would use, so bars bring it with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from mbats.errors import UsageError
from mbats.market import Instrument, rollovers

DAYS_IN_YEAR = 365  # OANDA's financing formula, which ignores leap years
CLOSEOUT_FACTOR = 0.5  # OANDA closes an account out when half the margin used reaches the NAV


@dataclass(frozen=True, slots=True)
class Slippage:
    """How much worse than the quoted price a market or stop order fills. Limit orders never slip.

    `none` fills at the quote. `pips` adds a fixed number of pips. `spread` adds that fraction of the spread of the
    moment, `range` that fraction of the bar's high-low range, so that both grow when the market is wild.
    """

    model: str = "none"
    amount: float = 0.0

    MODELS = ("none", "pips", "spread", "range")

    @classmethod
    def parse(cls, text: str) -> Slippage:
        """Read `none` or `MODEL:AMOUNT`, such as `pips:0.2`. Raises UsageError that shows the forms."""
        model, _, amount = text.partition(":")
        try:
            value = float(amount) if amount else 0.0
        except ValueError:
            value = -1.0
        wants_amount = model != "none"
        if model not in cls.MODELS or value < 0 or wants_amount != bool(amount):
            raise UsageError(
                f"Slippage '{text}' cannot be read. Known: none, pips:0.2 (pips), spread:0.5 (of the spread), "
                "range:0.05 (of the bar's range); the amount is zero or more."
            )
        return cls(model, value)

    def __str__(self) -> str:
        return self.model if self.model == "none" else f"{self.model}:{self.amount:g}"

    def distance(self, *, pip: float, spread: float, bar_range: float) -> float:
        """The worsening in price units, zero or more."""
        unit = {"none": 0.0, "pips": pip, "spread": spread, "range": bar_range}[self.model]
        return self.amount * unit


def financing_amount(instrument: Instrument, units: float, price: float, days: int) -> float:
    """Financing of a position over one 17:00 New York, in the quote currency; negative is paid.

    OANDA's formula: units × price × annual rate × days / 365, at the rate of the position's own side.
    """
    rate = instrument.long_rate if units > 0 else instrument.short_rate
    return abs(units) * price * float(rate) * days / DAYS_IN_YEAR


def margin_used(instrument: Instrument, units: float, mid: float, conversion: float) -> float:
    """Margin of a position in the account's currency: margin rate × units × mid, converted from the quote currency."""
    return float(instrument.margin_rate) * abs(units) * mid * conversion


class RolloverClock:
    """Says which 17:00 New York moments lie between one bar and the next."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self._moments: Sequence[tuple[datetime, int]] = rollovers(start, end)
        self._next = 0

    def passed(self, now: datetime) -> list[tuple[datetime, int]]:
        """The rollovers since the last call up to and including `now`, with the New York weekday (Monday is 0)."""
        first = self._next
        while self._next < len(self._moments) and self._moments[self._next][0] <= now:
            self._next += 1
        return list(self._moments[first : self._next])


def exact(value: float) -> Decimal:
    """A float as the decimal a person would write for it: prices here have at most ten decimals, units mostly none."""
    return Decimal(int(value)) if float(value).is_integer() else Decimal(repr(round(float(value), 10)))


def money(value: float | Decimal) -> Decimal:
    """An amount as OANDA books it: four decimals."""
    return Decimal(value).quantize(Decimal("0.0001")) + 0  # adding 0 turns -0.0000 into 0.0000
