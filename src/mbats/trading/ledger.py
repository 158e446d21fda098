"""The books of an account: fills in, positions, round trips and balance out. Exact, and without Backtrader.

Every amount is booked to four decimals when it happens, so that the sums agree to the last digit however they are
formed: balance = start + Σ pnl of fills + Σ financing, and for each trade net = gross − spread − slippage + financing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from mbats.riskdb.records import Fill, PositionChange, Trade
from mbats.trading.costs import money

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Execution:
    """What the broker did, before it is booked. `reference` is the quote of the side dealt on, before slippage.

    `bar` counts the symbol's own bars from 0; `whole_bar` says that the fill was at the bar's open, so that all of the
    bar came after it.
    """

    time: datetime
    bar: int
    whole_bar: bool
    symbol: str
    units: Decimal
    price: Decimal
    reference: Decimal
    mid: Decimal
    conversion: Decimal
    order_ref: int
    order_type: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of bars over which an open trade did not change. `realised` is what earlier parts of it have made."""

    first_bar: int
    units: Decimal
    price: Decimal
    realised: Decimal


@dataclass(slots=True)
class OpenTrade:
    """A round trip in the making. `average` is the price of what is open, against which a reduction realises."""

    symbol: str
    opened_at: datetime
    opened_bar: int
    side: int
    average: Decimal = ZERO
    opened: Decimal = ZERO
    opened_value: Decimal = ZERO
    closed: Decimal = ZERO
    closed_value: Decimal = ZERO
    pnl: Decimal = ZERO
    spread_cost: Decimal = ZERO
    slippage_cost: Decimal = ZERO
    financing: Decimal = ZERO
    segments: list[Segment] = field(default_factory=list)

    @property
    def units(self) -> Decimal:
        """What is open of it, signed."""
        return self.side * (self.opened - self.closed)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A trade together with the bars over which it ran, for those who look up its extremes."""

    trade: Trade
    segments: tuple[Segment, ...]
    last_bar: int
    final_pnl: Decimal


@dataclass(frozen=True, slots=True)
class Mark:
    """The last quote of a symbol: the price at which a long or a short would close, and the conversion."""

    time: datetime
    bar: int
    bid: Decimal
    ask: Decimal
    conversion: Decimal


class Ledger:
    """Books executions and financing of one account. Units and prices are exact; money is in the account's currency."""

    def __init__(self, cash: Decimal) -> None:
        self.starting_cash = cash
        self.balance = cash
        self.fills: list[Fill] = []
        self.positions: list[PositionChange] = []
        self.closed: list[tuple[OpenTrade, datetime, int]] = []
        self.open: dict[str, OpenTrade] = {}

    def units(self, symbol: str) -> Decimal:
        """The open position of a symbol, signed."""
        trade = self.open.get(symbol)
        return trade.units if trade else ZERO

    def book(self, execution: Execution) -> Fill:
        """Book one execution: closes what it closes, opens the rest, and returns the fill."""
        side = 1 if execution.units > 0 else -1
        before = self.units(execution.symbol)
        size = abs(execution.units)
        closing = min(size, abs(before)) if before * side < 0 else ZERO
        scale = execution.conversion
        spread = money(size * side * (execution.reference - execution.mid) * scale)
        slippage = money(size * side * (execution.price - execution.reference) * scale)
        closing_spread = spread if closing == size else money(spread * closing / size)
        closing_slippage = slippage if closing == size else money(slippage * closing / size)

        pnl = ZERO
        if closing:
            pnl = self._close(execution, closing, closing_spread, closing_slippage)
        if size > closing:
            self._open(execution, side, size - closing, spread - closing_spread, slippage - closing_slippage)
        self.balance += pnl

        after = self.units(execution.symbol)
        average = self.open[execution.symbol].average if after else ZERO
        self.positions.append(PositionChange(execution.time, execution.symbol, after, average))
        fill = Fill(
            seq=len(self.fills) + 1,
            time=execution.time,
            symbol=execution.symbol,
            units=execution.units,
            price=execution.price,
            mid=execution.mid,
            order_ref=execution.order_ref,
            order_type=execution.order_type,
            purpose=execution.purpose,
            conversion=execution.conversion,
            pnl=pnl,
            spread_cost=spread,
            slippage_cost=slippage,
            position_after=after,
        )
        self.fills.append(fill)
        return fill

    def _close(self, execution: Execution, closing: Decimal, spread: Decimal, slippage: Decimal) -> Decimal:
        trade = self.open[execution.symbol]
        pnl = money(trade.side * closing * (execution.price - trade.average) * execution.conversion)
        trade.closed += closing
        trade.closed_value += closing * execution.price
        trade.pnl += pnl
        trade.spread_cost += spread
        trade.slippage_cost += slippage
        if trade.units:
            trade.segments.append(Segment(execution.bar, trade.units, trade.average, trade.pnl))
        else:
            self.closed.append((trade, execution.time, execution.bar))
            del self.open[execution.symbol]
        return pnl

    def _open(self, execution: Execution, side: int, opening: Decimal, spread: Decimal, slippage: Decimal) -> None:
        trade = self.open.get(execution.symbol)
        if trade is None:
            trade = OpenTrade(execution.symbol, execution.time, execution.bar, side)
            self.open[execution.symbol] = trade
        left = abs(trade.units)
        trade.average = (trade.average * left + execution.price * opening) / (left + opening)
        trade.opened += opening
        trade.opened_value += opening * execution.price
        trade.spread_cost += spread
        trade.slippage_cost += slippage
        first = execution.bar if execution.whole_bar else execution.bar + 1
        trade.segments.append(Segment(first, trade.units, trade.average, trade.pnl))

    def charge_financing(self, symbol: str, amount: float) -> Decimal:
        """Book financing of an open trade (negative is paid) and return what was booked."""
        booked = money(amount)
        self.open[symbol].financing += booked
        self.balance += booked
        return booked

    def unrealised(self, symbol: str, mark: Mark) -> Decimal:
        """What closing the open position at the mark would realise."""
        trade = self.open[symbol]
        quote = mark.bid if trade.side > 0 else mark.ask
        return money(trade.units * (quote - trade.average) * mark.conversion)

    def round_trips(self, marks: dict[str, Mark]) -> list[RoundTrip]:
        """Every trade in the order in which it was opened; the open ones valued at their symbol's mark."""
        ended: list[tuple[OpenTrade, datetime | None, int, Decimal]] = [(t, time, bar, ZERO) for t, time, bar in self.closed]
        ended += [(trade, None, marks[s].bar, self.unrealised(s, marks[s])) for s, trade in self.open.items()]
        ended.sort(key=lambda item: (item[0].opened_at, item[0].opened_bar, item[0].symbol))
        return [
            self._round_trip(seq, trade, closed_at, bar, open_pnl, marks.get(trade.symbol))
            for seq, (trade, closed_at, bar, open_pnl) in enumerate(ended, start=1)
        ]

    @staticmethod
    def _round_trip(
        seq: int, trade: OpenTrade, closed_at: datetime | None, bar: int, open_pnl: Decimal, mark: Mark | None
    ) -> RoundTrip:
        if closed_at is None:
            assert mark is not None
            last = mark.bid if trade.side > 0 else mark.ask
            close_price = (trade.closed_value + abs(trade.units) * last) / trade.opened
        else:
            close_price = trade.closed_value / trade.closed
        pnl = trade.pnl + open_pnl
        record = Trade(
            seq=seq,
            symbol=trade.symbol,
            units=trade.side * trade.opened,
            opened_at=trade.opened_at,
            closed_at=closed_at,
            open_price=trade.opened_value / trade.opened,
            close_price=close_price,
            bars=bar - trade.opened_bar,
            gross_pnl=pnl + trade.spread_cost + trade.slippage_cost,
            spread_cost=trade.spread_cost,
            slippage_cost=trade.slippage_cost,
            financing=trade.financing,
            net_pnl=pnl + trade.financing,
            mfe=ZERO,
            mae=ZERO,
        )
        return RoundTrip(record, tuple(trade.segments), bar, pnl)
