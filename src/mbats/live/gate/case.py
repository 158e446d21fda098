"""One question to the rules, and what a rule that is broken finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from mbats.live.gate.exposure import Reaches
from mbats.live.gate.limits import Limits
from mbats.live.gate.orders import Order
from mbats.live.gate.reasons import Reason
from mbats.live.gate.state import GateState, Latch
from mbats.live.gate.view import Quote, View


@dataclass(frozen=True, slots=True)
class Case:
    """An order, and everything by which it is judged. `after` is how far positions could reach with it, for orders that add."""

    order: Order
    view: View
    limits: Limits
    state: GateState
    now: datetime
    after: Reaches = field(default_factory=dict)

    @property
    def quote(self) -> Quote | None:
        return self.view.quotes.get(self.order.symbol)


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule: the figure found against its limit in `unit`, more in words, and when (UTC) it may be otherwise.

    `latches` are locks that the finding sets: the caller puts them into the state with `state.latch`.
    """

    reason: Reason
    found: Decimal | None = None
    limit: Decimal | None = None
    unit: str = ""
    detail: str = ""
    until: datetime | None = None
    latches: tuple[Latch, ...] = ()

    def in_words(self) -> str:
        """The rule, the figures, and from when on it may pass."""
        parts = [self.reason.sentence]
        if self.found is not None and self.limit is not None:
            parts.append(f"Found {_figure(self.found)}, limit {_figure(self.limit)}{f' {self.unit}' if self.unit else ''}.")
        if self.detail:
            parts.append(f"{self.detail.rstrip('.')}.")
        if self.until is not None:
            parts.append(f"Not before {self.until:%Y-%m-%d %H:%M:%S} UTC.")
        return " ".join(parts)


Rule = Callable[[Case], Finding | None]


def _figure(value: Decimal) -> str:
    """Six digits that count, without an exponent; what is whole stays whole."""
    if value == value.to_integral_value():
        return f"{value.quantize(Decimal(1)):f}"
    places = max(0, 5 - value.adjusted())
    return f"{round(value, places):f}".rstrip("0").rstrip(".")
