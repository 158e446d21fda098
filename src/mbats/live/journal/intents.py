"""What was decided to be sent, and what is known of it. Plain values: no file, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from mbats.riskdb.live_records import IntentRecord


class IntentState(StrEnum):
    """Where an intent stands. The first five are open: something may still become of it."""

    HELD = "held"  # the trader holds it back: an armed order, or one that waits for another
    DECIDED = "decided"  # it may be sent; nothing was
    SENT = "sent"  # a request is under way
    UNKNOWN = "unknown"  # it was sent, and whether the broker has it is not known
    WORKING = "working"  # the broker has it
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # the broker refused it
    REFUSED = "refused"  # the gate refused it
    ABSENT = "absent"  # it is proven that the broker never got it

    @property
    def open(self) -> bool:
        """Whether something may still become of it."""
        return self in _OPEN


_OPEN = frozenset(
    {IntentState.HELD, IntentState.DECIDED, IntentState.SENT, IntentState.UNKNOWN, IntentState.WORKING},
)


@dataclass(frozen=True, slots=True)
class IntentRow:
    """One request to the broker that was decided on, under the name that it goes by there.

    `bar` is the start of the bar decided on; all times have a zone. `action` is `order`, `close_trade`, `replace` or `cancel`,
    and `target_id` the trade or order that the last three are about. `form` is that of `wire.Form`. `session` and `ref` are the
    life of the strategy's process and its number of the order in it. `body` is what is sent. `why` says who decided, `reason` and
    `detail` what became of it.
    """

    client_id: str
    deployment: str
    symbol: str
    bar: datetime
    purpose: str
    units: Decimal
    form: str
    price: Decimal | None
    stop: Decimal | None
    target: Decimal | None
    trail: Decimal | None
    reduce_only: bool
    session: str
    ref: int
    why: str
    code_version: str
    state: IntentState
    decided_at: datetime
    updated_at: datetime
    reason: str = ""
    detail: str = ""
    order_id: int | None = None
    attempts: int = 0
    sent_at: datetime | None = None
    valid_until: datetime | None = None
    body: dict[str, Any] = field(default_factory=dict)
    action: str = "order"
    target_id: str | None = None

    def record(self) -> IntentRecord:
        """The same for the risk database."""
        return IntentRecord(**{column.name: getattr(self, column.name) for column in fields(IntentRecord)})
