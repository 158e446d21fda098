"""What the gate is told of the world: one frozen snapshot, made by the thread that owns the account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from mbats.live.gate.losses import Losses
from mbats.live.gate.orders import Intent, Working
from mbats.live.gate.throttle import Throttle
from mbats.market import Instrument


@dataclass(frozen=True, slots=True)
class Quote:
    """The last price of a symbol at the top of the book; `time` is the broker's, UTC.

    `reference` is an earlier mid that this price is judged by (the close of the last complete bar, or the middle of the last
    minute's prices), `usual_spread` the median spread lately, in price units. None where nothing is known yet.
    """

    time: datetime
    bid: Decimal
    ask: Decimal
    tradeable: bool
    reference: Decimal | None = None
    usual_spread: Decimal | None = None

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2

    @property
    def spread(self) -> Decimal:
        return self.ask - self.bid

    @property
    def sound(self) -> bool:
        """Whether the price does not contradict itself."""
        return 0 < self.bid <= self.ask


@dataclass(frozen=True, slots=True)
class View:
    """The account as it is known, for one deployment that asks. Money is in the account's currency.

    `positions` holds signed units by (owner, symbol) for the whole account: a deployment's name, or "" for what MBATS does not
    own. `open_trades` counts the deployment's own. `home` is the worth of one unit of each currency, at mid. `intents` are those
    that the journal knows of this deployment, the refused ones not among them. `known` is False while positions or working
    orders are in doubt (R16); they then hold what was last known.
    """

    nav: Decimal
    margin_used: Decimal
    positions: Mapping[tuple[str, str], Decimal]
    open_trades: int
    working: tuple[Working, ...]
    quotes: Mapping[str, Quote]
    home: Mapping[str, Decimal]
    instruments: Mapping[str, Instrument]
    intents: frozenset[Intent]
    throttle: Throttle
    losses: Losses
    known: bool = True
