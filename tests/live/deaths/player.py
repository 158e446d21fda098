"""A strategy without a process of its own: it wants what the script says, hears what became of it, and counts for itself."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from live.deaths.script import PAIRS, Wish

from mbats.live.gate import Quote
from mbats.live.owner import Owner
from mbats.live.wire import Adopt, Exit, Form, OrderEvent, Status, Submit, ToStrategy, Withdraw

ENDS = (Status.COMPLETED, Status.CANCELED, Status.EXPIRED, Status.MARGIN, Status.REJECTED)


@dataclass
class Player:
    """One deployment's strategy in one life of the trader. `complaints` is what it was told that cannot be true."""

    name: str
    session: str
    owner: Owner
    held: dict[str, Decimal] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)  # entries that stand
    exits: list[int] = field(default_factory=list)  # stops and targets that stand
    ended: set[int] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    ref: int = 0
    adopted: bool = False
    early: deque[ToStrategy] = field(default_factory=deque)

    def begin(self, adopt: Adopt) -> None:
        """What there is; whatever was heard before it follows now."""
        self.held = {each.symbol: each.units for each in adopt.holdings}
        self.waiting = [each.ref for each in adopt.orders if each.role == "entry"]
        self.exits = [each.ref for each in adopt.orders if each.role != "entry"]
        self.adopted = True
        while self.early:
            self.hear(self.early.popleft())

    def hear(self, message: ToStrategy) -> None:
        """News, in the owner's thread."""
        if not self.adopted:
            self.early.append(message)
        elif isinstance(message, OrderEvent):
            self._hear(message)

    def _hear(self, event: OrderEvent) -> None:
        if event.ref is not None:
            if event.ref in self.ended:
                self.complaints.append(f"{self.name}: order {event.ref} had ended and is {event.status}: {event}")
            if event.status in ENDS:
                self.ended.add(event.ref)
                self.waiting = [each for each in self.waiting if each != event.ref]
                self.exits = [each for each in self.exits if each != event.ref]
        if event.units is not None and event.position is not None:
            held = self.held.get(event.symbol, Decimal(0)) + event.units
            if held != event.position:
                self.complaints.append(f"{self.name} holds {held} {event.symbol} and is told {event.position}: {event}")
            self.held[event.symbol] = event.position

    def want(self, wish: Wish, bar: datetime) -> None:
        """Say what the script wants, if it can be said now."""
        message = self._message(wish, bar)
        if message is not None:
            self.owner.request(self.name, self.session, message)

    def _message(self, wish: Wish, bar: datetime) -> Submit | Withdraw | None:
        if wish.do in ("cancel", "release"):
            found = self.waiting if wish.do == "cancel" else self.exits
            return Withdraw(found[int(wish.pick * len(found))]) if found else None
        quote, held = self.owner.quotes.quote(wish.symbol), self.held.get(wish.symbol, Decimal(0))
        if quote is None:
            return None
        match wish.do:
            case "enter":
                return self._order(wish, bar, Decimal(wish.side * wish.units), quote)
            case "exit" if held:
                return self._order(wish, bar, -held, quote, bare=True)
            case "halve" if held:
                return self._order(wish, bar, -(held // 2 or held), quote, bare=True)
            case "flip" if held:
                return self._order(wish, bar, -held - (1 if held > 0 else -1) * wish.units, quote)
            case "limit" | "stop":
                return self._order(wish, bar, Decimal(wish.side * wish.units), quote, form=Form(wish.do))
        return None

    def _order(
        self, wish: Wish, bar: datetime, units: Decimal, quote: Quote, *, bare: bool = False, form: Form = Form.MARKET
    ) -> Submit:
        _, pip, digits, _ = PAIRS[wish.symbol]
        side = 1 if units > 0 else -1

        def level(base: Decimal, pips: float) -> Decimal:
            return round(base + Decimal(repr(pips)) * Decimal(repr(pip)), digits)

        base, price = (quote.ask if side > 0 else quote.bid), None
        if form is not Form.MARKET:
            base = price = level(base, side * (wish.away if form is Form.STOP else -wish.away))
        ref = self.ref = self.ref + 3
        stop = target = None
        if not bare and wish.stop is not None:
            trail = Decimal(repr(pip)) * wish.stop if wish.trails else None
            stop = Exit(ref + 1, None if wish.trails else level(base, -side * wish.stop), trail)
        if not bare and wish.target is not None:
            target = Exit(ref + 2, level(base, side * wish.target))
        if form is not Form.MARKET:
            self.waiting.append(ref)
        self.exits += [each.ref for each in (stop, target) if each is not None]
        return Submit(ref, wish.symbol, units, form, bar, price, stop=stop, target=target)
