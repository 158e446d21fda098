"""A broker for tests: it fills on the next bar what the process asks for, and tells it as the trader would.

It knows what the examples use and a little more: one market, limit or stop entry a symbol with its stop and target, and lone
market orders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mbats.live.wire import Form, LiveBar, Money, OrderEvent, Status, Submit, Withdraw
from mbats.trading.costs import exact
from mbats.trading.entry_bar import child_fill
from mbats.trading.ledger import Execution, Ledger


@dataclass
class Exchange:
    """`hear` takes what the process says; `pass_bar` gives the events of a moment's bars."""

    cash: Decimal
    ledger: Ledger = field(init=False)
    entries: list[Submit] = field(default_factory=list)
    brackets: dict[str, Submit] = field(default_factory=dict)  # whose entry has filled, by symbol
    fills: list[tuple[Any, ...]] = field(default_factory=list)
    withdrawn: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.cash)

    def money(self) -> Money:
        return Money(self.ledger.balance, self.ledger.balance, Decimal(0))

    def hear(self, said: list[Any]) -> None:
        for message in said:
            if isinstance(message, Submit):
                self.entries.append(message)
            elif isinstance(message, Withdraw):
                self.withdrawn.append(message.ref)

    def accept(self, bar: LiveBar) -> list[OrderEvent]:
        return [self.event(entry.ref, entry, Status.ACCEPTED, bar) for entry in self.entries]

    def pass_bar(self, symbol: str, bar: LiveBar) -> list[OrderEvent]:
        events: list[OrderEvent] = []
        for ref in self.withdrawn:
            events += [self.event(entry.ref, entry, Status.CANCELED, bar) for entry in self.entries if entry.ref == ref]
            self.entries = [entry for entry in self.entries if entry.ref != ref]
        self.withdrawn.clear()
        before = self.brackets.get(symbol)
        mine = [entry for entry in self.entries if entry.symbol == symbol]
        for entry in mine:
            if entry.form is Form.MARKET:
                events += self.enter(entry, bar)
        if before is not None and self.brackets.get(symbol) is before:
            events += self.exits(symbol, bar)
        for entry in mine:
            if entry.form is not Form.MARKET:
                events += self.enter(entry, bar)
        return events

    def enter(self, entry: Submit, bar: LiveBar) -> list[OrderEvent]:
        if entry.valid_until is not None and bar.time >= entry.valid_until:
            self.entries.remove(entry)
            return [self.event(entry.ref, entry, Status.EXPIRED, bar)]
        buys = entry.units > 0
        price = self.price_of(entry.form, entry.price, buys, bar)
        if price is None:
            return []
        self.entries.remove(entry)
        spread = bar.ask[0] - bar.bid[0]
        closing = round(price - spread if buys else price + spread, 10)
        for what, child in (("STOP_LOSS", entry.stop), ("TAKE_PROFIT", entry.target)):
            if child is not None and child.price is not None:
                below = (what == "STOP_LOSS") == buys
                if float(child.price) >= closing if below else float(child.price) <= closing:
                    reason = f"{what}_ON_FILL_LOSS"
                    return [self.event(entry.ref, entry, Status.CANCELED, bar, reason=reason)]
        before = self.ledger.units(entry.symbol)
        events = [self.fill(entry.ref, entry.form, entry, entry.units, price, bar)]
        if before * self.ledger.units(entry.symbol) <= 0:
            events += self.end_bracket(entry.symbol, bar)
        if entry.stop or entry.target:
            self.brackets[entry.symbol] = entry
            at_open = price == (bar.ask if buys else bar.bid)[0]
            events += self.exits(entry.symbol, bar, None if at_open else buys == (entry.form is Form.STOP))
        return events

    def exits(self, symbol: str, bar: LiveBar, rising: bool | None = None) -> list[OrderEvent]:
        """Stop, then target, over the whole bar, or what is left of it after an entry on a `rising` or falling leg."""
        entry = self.brackets[symbol]
        for form, child in ((Form.STOP, entry.stop), (Form.LIMIT, entry.target)):
            price = None if child is None else self.exit_price(form, child.price, entry.units < 0, bar, rising)
            if price is not None:
                del self.brackets[symbol]
                other = entry.target if form is Form.STOP else entry.stop
                filled = self.fill(child.ref, form, entry, -self.ledger.units(symbol), price, bar)
                return [filled, *([self.event(other.ref, entry, Status.CANCELED, bar)] if other else [])]
        return []

    def end_bracket(self, symbol: str, bar: LiveBar) -> list[OrderEvent]:
        entry = self.brackets.pop(symbol, None)
        ended = [child for child in (entry.stop, entry.target) if child] if entry else []
        return [self.event(child.ref, entry, Status.CANCELED, bar, reason="LINKED_TRADE_CLOSED") for child in ended]

    def exit_price(self, form: Form, price: Decimal | None, buys: bool, bar: LiveBar, rising: bool | None) -> float | None:
        if rising is None:
            return self.price_of(form, price, buys, bar)
        _, high, low, close = bar.ask if buys else bar.bid
        return child_fill(
            rising=rising,
            up=bar.bid[3] + bar.ask[3] >= bar.bid[0] + bar.ask[0],
            stop=form is Form.STOP,
            buy=buys,
            price=float(price or 0),
            high=high,
            low=low,
            close=close,
        )

    @staticmethod
    def price_of(form: Form, price: Decimal | None, buys: bool, bar: LiveBar) -> float | None:
        open_, high, low, _ = bar.ask if buys else bar.bid
        if form is Form.MARKET:
            return open_
        wanted = float(price or 0)
        if buys == (form is Form.STOP):
            return open_ if open_ >= wanted else wanted if high >= wanted else None
        return open_ if open_ <= wanted else wanted if low <= wanted else None

    def fill(self, ref: int, form: Form, order: Submit, units: Decimal, price: float, bar: LiveBar) -> OrderEvent:
        mid = self.mid_of(units > 0, form, price, bar)
        conversion = 1 / mid if order.symbol.startswith("USD_") else 1.0
        booked = self.ledger.book(
            Execution(
                time=bar.time,
                bar=0,
                whole_bar=True,
                symbol=order.symbol,
                units=units,
                price=exact(price),
                reference=exact(price),
                mid=exact(mid),
                conversion=exact(conversion),
                order_ref=ref,
                order_type="",
                purpose="",
            )
        )
        self.fills.append((order.symbol, bar.time, units, exact(price), booked.pnl, booked.position_after))
        return self.event(
            ref, order, Status.COMPLETED, bar, units=units, price=exact(price), position=booked.position_after, pnl=booked.pnl
        )

    @staticmethod
    def mid_of(buys: bool, form: Form, price: float, bar: LiveBar) -> float:
        """Mid when it filled: at the open, or half the spread of the extreme that the order waited for away."""
        if price == (bar.ask if buys else bar.bid)[0]:
            return (bar.bid[0] + bar.ask[0]) / 2
        extreme = 1 if buys == (form is Form.STOP) else 2
        half = (bar.ask[extreme] - bar.bid[extreme]) / 2
        return price - half if buys else price + half

    @staticmethod
    def event(ref: int, order: Submit, status: Status, bar: LiveBar, **more: Any) -> OrderEvent:
        return OrderEvent(ref, order.symbol, status, bar.time, **more)
