"""What a deployment may do at most: the section `limits` of its description, typed, with defaults that are safe.

Multiples of NAV keep their meaning on small and large accounts; the limits in units stand beside them, for the day on which
the NAV itself is read wrongly.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mbats.errors import ConfigError


class Limits(BaseModel):
    """The limits of one deployment. Fractions and multiples are of NAV unless said otherwise: 0.02 is two per cent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # One order: units, and worth as a multiple of NAV
    max_order_units: Decimal = Field(Decimal(200_000), gt=0)
    max_order_notional: Decimal = Field(Decimal(2), gt=0, le=50)
    # The deployment's position in one symbol, with all its working orders filled
    max_position_units: Decimal = Field(Decimal(300_000), gt=0)
    max_position_notional: Decimal = Field(Decimal(3), gt=0, le=50)
    max_open_trades: int = Field(10, ge=1, le=1000)
    # The whole account, with everybody's working orders filled
    max_gross_exposure: Decimal = Field(Decimal(5), gt=0, le=50)
    max_currency_exposure: Decimal = Field(Decimal(4), gt=0, le=50)
    # Margin after the fill. The broker refuses orders at 1 and closes the account out at 2 (half the margin is the NAV).
    max_margin: Decimal = Field(Decimal("0.3"), gt=0, le=Decimal("0.9"))

    # Prices, as fractions of the price
    price_collar: Decimal = Field(Decimal("0.01"), gt=0, le=Decimal("0.2"))  # a quote from the prices before it
    pending_collar: Decimal = Field(Decimal("0.05"), gt=0, le=Decimal("0.5"))  # a pending order's price from the quote
    entry_bound: Decimal = Field(Decimal("0.002"), gt=0, le=Decimal("0.05"))  # how much worse than the quote an entry may fill
    exit_bound: Decimal = Field(Decimal("0.02"), gt=0, le=Decimal("0.2"))  # the same for what reduces
    max_spread_multiple: Decimal = Field(Decimal(5), gt=1, le=100)  # of the usual spread
    # Quiet pairs go without a new price for a minute; OANDA's recorded S5 candles of AUD_USD have gaps of two.
    max_price_age_seconds: Decimal = Field(Decimal(60), gt=0, le=600)

    # How often. OANDA allows 120 requests a second; a strategy that comes near it is broken.
    orders_per_second: Decimal = Field(Decimal(2), gt=0, le=20)
    order_burst: int = Field(10, ge=1, le=40)
    max_repeats: int = Field(10, ge=1, le=1000)  # orders in one symbol within the window; the next one latches
    repeat_window_seconds: Decimal = Field(Decimal(60), gt=0, le=86_400)

    # Losses, and for how long they lock: whole trading days of New York, and hours; the later of the two counts
    max_daily_loss: Decimal = Field(Decimal("0.02"), gt=0, le=Decimal("0.5"))  # of the NAV at 17:00 New York
    max_drawdown: Decimal = Field(Decimal("0.10"), gt=0, le=Decimal("0.9"))  # of the peak
    max_loss_streak: int = Field(5, ge=1, le=1000)
    cooldown_days: int = Field(1, ge=0, le=366)
    cooldown_hours: Decimal = Field(Decimal(0), ge=0, le=8784)

    @property
    def max_price_age(self) -> timedelta:
        return _seconds(self.max_price_age_seconds)

    @property
    def repeat_window(self) -> timedelta:
        return _seconds(self.repeat_window_seconds)

    @property
    def cooldown(self) -> timedelta:
        return _seconds(self.cooldown_hours * 3600)


def read_limits(values: Mapping[str, Any], *, where: str = "the deployment") -> Limits:
    """The limits that a deployment asks for; what it leaves out keeps its default.

    Raises ConfigError that names each wrong or unknown limit in `where`, what was found and what was expected.
    """
    try:
        return Limits(**values)
    except ValidationError as error:
        lines = [_in_words(".".join(map(str, found["loc"])), found["msg"], found["input"]) for found in error.errors()]
        raise ConfigError(
            f"The limits in {where} cannot be used. {' '.join(lines)} Nothing is traded until they are corrected."
        ) from None


def _in_words(name: str, message: str, found: Any) -> str:
    if name in Limits.model_fields:
        return f"{name}: {message[0].lower()}{message[1:]} (found {found!r})."
    near = difflib.get_close_matches(name, Limits.model_fields, n=1)
    return f"{name}: there is no such limit.{f' Did you mean {near[0]}?' if near else ''}"


def _seconds(count: Decimal) -> timedelta:
    return timedelta(microseconds=int(count * 1_000_000))
