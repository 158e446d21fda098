"""Keeps what the risk gate needs to know from one question to the next, in the journal: states, latches, losses, throttles.

Whatever is in doubt here is a refusal: a state that cannot be read halts everything, and a rule that raises lets nothing pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from mbats.errors import DataError
from mbats.live.gate import (
    Allowed,
    Cancel,
    Command,
    CommandKind,
    GateState,
    Latch,
    Limits,
    Losses,
    NavMark,
    Order,
    Reason,
    Refused,
    Throttle,
    TradeClosed,
    Transfer,
    View,
    apply,
    count,
    fold,
    judge,
    latch,
    read_json,
    to_json,
)
from mbats.live.gate.losses import Event
from mbats.live.journal import Journal

log = logging.getLogger(__name__)

STATE = "gate"
Latched = Callable[[str, tuple[Latch, ...]], None]


@dataclass(slots=True)
class Conduct:
    """What one deployment may do and what it has done."""

    limits: Limits
    losses: Losses | None
    throttle: Throttle


class Gatekeeper:
    """One account's gate. Used by the owner's thread alone. `latched` is told of every lock that is set."""

    def __init__(self, journal: Journal, latched: Latched) -> None:
        self._journal = journal
        self._latched = latched
        self._conduct: dict[str, Conduct] = {}
        self.state = self._load_state()

    def _load_state(self) -> GateState:
        text = self._journal.load(STATE)
        if text is None:
            return GateState()
        try:
            return read_json(GateState, text)
        except DataError as error:
            # A state that cannot be read is never taken for ACTIVE.
            log.error("%s", error)
            from datetime import UTC  # only here: no other clock is read in this module

            return apply(
                GateState(), Command(CommandKind.HALT, "mbats", datetime.now(UTC), f"the gate's state is damaged: {error}")
            )

    def admit(self, name: str, limits: Limits, now: datetime) -> None:
        """Make a deployment known, with the figures that it had before."""
        losses = self._read(Losses, f"losses:{name}")
        throttle = self._read(Throttle, f"throttle:{name}")
        self._conduct[name] = Conduct(limits, losses, throttle or Throttle.full(limits, now))

    def knows(self, name: str) -> bool:
        return name in self._conduct

    def limits(self, name: str) -> Limits:
        return self._conduct[name].limits

    def throttle(self, name: str) -> Throttle:
        return self._conduct[name].throttle

    def losses(self, name: str, nav: Decimal, now: datetime) -> Losses:
        """The figures of losses; those of an account that begins now, if there are none yet."""
        conduct = self._conduct[name]
        if conduct.losses is None:
            conduct.losses = Losses.begin(nav, now)
        return conduct.losses

    def judge(self, order: Order, view: View, now: datetime) -> Allowed | Refused:
        """The gate's answer; its latches are set. A rule that raises is a refusal, since nobody knows what it would have said."""
        try:
            answer = judge(order, view, self._conduct[order.deployment].limits, self.state, now)
        except Exception as error:
            log.exception("The gate broke off over %s", order)
            return Refused(
                order, Reason.MALFORMED, f"{order.deployment}: the gate could not judge this order: {error!r}. It was not sent."
            )
        if isinstance(answer, Refused) and answer.latches:
            self._latch(order.deployment, answer.latches)
        return answer

    def sent(self, name: str, message: Order | Cancel, now: datetime) -> None:
        """A message goes out: call it within the journal's write that records it."""
        conduct = self._conduct.get(name)
        if conduct is not None:
            conduct.throttle = count(conduct.throttle, conduct.limits, now, message)
            self._journal.save(f"throttle:{name}", to_json(conduct.throttle))

    def tell(self, command: Command) -> GateState:
        """Obey a person, or the trader itself; durable when this returns."""
        self._put(apply(self.state, command))
        return self.state

    def put_state(self, state: GateState) -> None:
        """A state that something else than a command has led to, such as the end of a flatten."""
        self._put(state)

    def mark_nav(self, nav: Decimal, now: datetime, names: Iterable[str] | None = None) -> None:
        """Fold the account's NAV into everybody's losses."""
        for name in list(names if names is not None else self._conduct):
            self._fold(name, NavMark(now, nav), nav)

    def trade_closed(self, name: str, pnl: Decimal, nav: Decimal, now: datetime) -> None:
        """A deployment's round trip is over."""
        if name in self._conduct:
            self._fold(name, TradeClosed(now, pnl), nav)

    def transferred(self, amount: Decimal, nav: Decimal, now: datetime) -> None:
        """Money came or went: neither profit nor loss."""
        for name in self._conduct:
            self._fold(name, Transfer(now, amount), nav)

    def save_losses(self) -> None:
        """Keep the figures; they change with every price, so this is done now and then."""
        for name, conduct in self._conduct.items():
            if conduct.losses is not None:
                self._journal.save(f"losses:{name}", to_json(conduct.losses))

    def _fold(self, name: str, event: Event, nav: Decimal) -> None:
        conduct = self._conduct[name]
        before = self.losses(name, nav, event.time)
        conduct.losses, latches = fold(before, event, conduct.limits)
        if latches:
            with self._journal.write():
                self._journal.save(f"losses:{name}", to_json(conduct.losses))
                self._latch(name, latches)

    def _latch(self, name: str, latches: tuple[Latch, ...]) -> None:
        self._put(latch(self.state, name, latches))
        self._latched(name, latches)

    def _put(self, state: GateState) -> None:
        if state != self.state:
            with self._journal.write():
                self._journal.save(STATE, to_json(state))
            self.state = state

    def _read(self, kind: type, key: str):  # type: ignore[no-untyped-def]
        text = self._journal.load(key)
        if text is None:
            return None
        try:
            return read_json(kind, text)
        except DataError as error:
            why = f"the figures '{key}' are damaged: {error}"
            self._put(apply(self.state, Command(CommandKind.HALT, "mbats", self._now(), why)))
            return None

    @staticmethod
    def _now() -> datetime:
        from datetime import UTC

        return datetime.now(UTC)
