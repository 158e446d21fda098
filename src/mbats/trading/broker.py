"""OANDA's way of dealing, for Backtrader: its own matching, on the side of the book and at the moment OANDA would use.

What differs from the stock broker, and why:

- Buys deal on ask and sells on bid, triggers included; slippage worsens market and stop fills, never limits.
- An order is tried only when its symbol has a new bar. Stock tries it again on the old bar while another symbol moves.
- `fills="broker"` (the default): a bracket's stop and target work from the moment of the fill, as OANDA's on-fill orders
  do; prices and units are cut to the instrument's precision; a stop or target that is already through cancels the entry;
  going flat cancels what was tied to the trade; a stop or target never opens a position nor ends with its entry's validity.
  A stop or limit alone that stands against the position when it is placed, and is no larger, only reduces.
  `fills="backtrader"`: stock rules, where children wait for the next bar. With no spread the two engines trade the same.
- Margin is looked at when an order fills, and the account is closed out when OANDA would.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import Any

from backtrader import Order
from backtrader.order import BuyOrder, SellOrder

from mbats.trading.account import MarginAccount
from mbats.trading.costs import CLOSEOUT_FACTOR, exact
from mbats.trading.entry_bar import EntryBar, child_fill
from mbats.trading.feeds import BarFeed
from mbats.trading.ledger import Execution
from mbats.trading.orders import STOPS, fit


class FxBroker(MarginAccount):
    """See the module. `refusals` counts what was refused, by OANDA's name for the reason.

    `ordered` holds for each symbol the bars, from 0, at which the strategy sent an order.
    """

    def init(self) -> None:
        super().init()
        self._like_oanda = self.rules.fills == "broker"
        self.refusals: Counter[str] = Counter()
        self.ordered: defaultdict[str, set[int]] = defaultdict(set)
        self._dealing: BarFeed | None = None
        self._reference: float | None = None
        self._at_close = False
        self._entries: dict[int, EntryBar] = {}
        self._order_numbers: dict[int, int] = {}
        self._reducing: set[int] = set()

    # --- orders in ------------------------------------------------------------------------------------------------

    def submit(self, order: Any, check: bool = True) -> Any:
        self.ordered[order.data.p.name].add(order.data.position_in_bars)
        reason = fit(order, order.data.instrument) if self._like_oanda else None
        if reason is None:
            if self._like_oanda and self._only_reduces(order):
                self._reducing.add(order.ref)
            return super().submit(order, check)
        order.reject()
        self._note_refusal(order, reason)
        self.notify(order)
        return order

    def _only_reduces(self, order: Any) -> bool:
        """Whether it goes to the broker as REDUCE_ONLY, as in live trading: alone, and against a position at least as large."""
        alone = order.parent is None and order.transmit
        held = self.positions[order.data].size
        return bool(alone and order.exectype != Order.Market and held * order.size < 0 and abs(order.size) <= abs(held))

    def _note_refusal(self, order: Any, reason: str) -> None:
        order.addinfo(reason=reason)
        self.refusals[reason] += 1

    def check_submitted(self) -> None:
        """Accept what was sent: OANDA looks at margin when an order fills, not when it is placed."""
        while self.submitted:
            order = self.submitted.popleft()
            if self._take_children(order) is not None:
                self.submit_accept(order)
        if self._like_oanda:
            # A market order deals at the open, before anything that waits for a price inside the bar.
            self.pending: deque[Any] = deque(sorted(self.pending, key=lambda order: order.exectype != Order.Market))

    # --- one bar --------------------------------------------------------------------------------------------------

    def next(self) -> None:
        self._begin_bar()
        super().next()
        if self._fresh:
            self._close_out()
            self._record()

    def _close_out(self) -> None:
        """Close everything at the bar's close when half the margin used has reached the NAV, as OANDA does."""
        if not self.rules.margin or not self._margin or self._margin * CLOSEOUT_FACTOR < self._value:
            return
        for feed in self._feeds:
            position = self.positions.get(feed)
            if not position:
                continue
            for waiting in [o for o in self.pending if o.data is feed]:
                self.cancel(waiting)
            kind = SellOrder if position.size > 0 else BuyOrder
            order = kind(
                owner=self.cerebro.runningstrats[0], data=feed, size=abs(position.size), exectype=Order.Market, simulated=False
            )
            order.addinfo(reason="MARGIN_CLOSEOUT")
            self._ocoize(order, None)
            order.submit(self)
            order.accept(self)
            feed.show_side("ask" if order.isbuy() else "bid")
            self._reference, self._at_close = feed.tick_close, True
            self._execute(order, ago=0, price=feed.tick_close)
            self._at_close = False
        self._get_value()

    # --- matching -------------------------------------------------------------------------------------------------

    def _try_exec(self, order: Any) -> None:
        feed: BarFeed = order.data
        if id(feed) not in self._fresh or feed.lines.datetime[0] <= order.created.dt:
            return  # no price has come since the order was placed
        self._dealing, self._reference = feed, None
        feed.show_side("ask" if order.isbuy() else "bid")
        entry = self._entries.get(order.ref)
        if entry is not None and entry.bar == len(feed) and not entry.at_open:
            self._try_exec_after_entry(order, feed, entry)
        else:
            super()._try_exec(order)

    def _try_exec_after_entry(self, order: Any, feed: BarFeed, entry: EntryBar) -> None:
        price = child_fill(
            rising=entry.rising,
            up=feed.lines.close[0] >= feed.lines.open[0],
            stop=order.exectype in STOPS,
            buy=order.isbuy(),
            price=order.created.price,
            high=feed.tick_high,
            low=feed.tick_low,
            close=feed.tick_close,
        )
        if price is not None:
            self._reference = price
            limit = order.exectype == Order.Limit
            self._execute(order, ago=0, price=price if limit else self._slipped(price, buy=order.isbuy()))

    def _slipped(self, price: float, *, buy: bool) -> float:
        feed = self._dealing
        assert feed is not None
        distance = self.rules.slippage.distance(
            pip=float(feed.instrument.pip),
            spread=feed.lines.ask_open[0] - feed.lines.bid_open[0],
            bar_range=feed.lines.high[0] - feed.lines.low[0],
        )
        return round(price + (distance if buy else -distance), feed.instrument.display_precision) if distance else price

    def _slip_up(self, pmax: float, price: float, doslip: bool = True, lim: bool = False) -> float:
        self._reference = price
        return price if lim else self._slipped(price, buy=True)

    def _slip_down(self, pmin: float, price: float, doslip: bool = True, lim: bool = False) -> float:
        self._reference = price
        return price if lim else self._slipped(price, buy=False)

    # --- fills ----------------------------------------------------------------------------------------------------

    def _execute(
        self, order: Any, ago: Any = None, price: Any = None, cash: Any = None, position: Any = None, dtcoc: Any = None
    ) -> None:
        """Fill an order whole at `price`, or cancel it for the reason OANDA would name. Stock calls this to deal."""
        feed: BarFeed = order.data
        reference = price if self._reference is None else self._reference
        held = self.positions[feed]
        size = order.executed.remsize
        reducing = order.ref in self._reducing
        if reducing or (self._like_oanda and order.parent is not None):
            size = _no_more_than_held(size, held.size)
            if not size:
                self._cancel_unfilled(order, "POSITION_CLOSEOUT_FAILED" if reducing else "TRADE_CLOSED")
                return
            order.executed.remsize = size
        psize, pprice, opened, closed = held.pseudoupdate(size, price)
        mid = self._mid_at(order, feed, reference)
        refusal = self._refusal(order, feed, reference, mid, psize) if opened else None
        if refusal is not None:
            self._cancel_unfilled(order, refusal)
            return

        at_open = not self._at_close and reference == feed.tick_open
        self._book(order, feed, size, price, reference, mid, opened, closed, at_open)
        comminfo = self.getcommissioninfo(feed)
        pnl = comminfo.profitandloss(-closed, held.price, price)
        held.update(size, price, feed.datetime.datetime())
        values = [comminfo.getvaluesize(units, price) for units in (closed, opened)]
        order.execute(
            feed.lines.datetime[0],
            size,
            price,
            closed,
            values[0],
            0.0,
            opened,
            values[1],
            0.0,
            comminfo.margin,
            pnl,
            psize,
            pprice,
        )
        order.addcomminfo(comminfo)
        self.notify(order)
        self._ococheck(order)
        self.cash = float(self.ledger.balance)
        if self._like_oanda:
            self._bind_children(order, feed, at_open)
            if closed and (opened or not psize):
                self._cancel_children_of(feed, order)

    def _book(
        self,
        order: Any,
        feed: BarFeed,
        size: float,
        price: float,
        reference: float,
        mid: float,
        opened: float,
        closed: float,
        at_open: bool,
    ) -> None:
        assert self._now is not None
        self.ledger.book(
            Execution(
                time=self._now,
                bar=feed.position_in_bars,
                whole_bar=at_open,
                symbol=feed._name,
                units=exact(size),
                price=exact(price),
                reference=exact(reference),
                mid=exact(mid),
                conversion=exact(feed.conversion_at(mid, self.rules.currency)),
                order_ref=self._order_numbers.setdefault(order.ref, len(self._order_numbers) + 1),
                order_type=Order.ExecTypes[order.exectype],
                purpose=_purpose(order, opened, closed),
            )
        )

    def _mid_at(self, order: Any, feed: BarFeed, reference: float) -> float:
        """Mid when a quote was `reference`: half of the spread away that the bar shows at its open, high, low or close."""
        lines = feed.lines
        if self._at_close:
            return float(lines.close[0])
        if reference == feed.tick_open:
            return float(lines.open[0])
        near_high = order.isbuy() == (order.exectype in STOPS)
        spread = lines.ask_high[0] - lines.bid_high[0] if near_high else lines.ask_low[0] - lines.bid_low[0]
        half = max(0.0, spread) / 2
        return reference - half if order.isbuy() else reference + half

    def _refusal(self, order: Any, feed: BarFeed, reference: float, mid: float, psize: float) -> str | None:
        if self._like_oanda:
            closing = round(2 * mid - reference, 10)  # the other side of the book
            for child in self._children_of(order):
                waits_above = child.isbuy() == (child.exectype in STOPS)
                through = child.created.price <= closing if waits_above else child.created.price >= closing
                if through:
                    return f"{'STOP_LOSS' if child.exectype in STOPS else 'TAKE_PROFIT'}_ON_FILL_LOSS"
        if self.rules.margin and not self._affords(feed, psize, mid):
            return "INSUFFICIENT_MARGIN"
        return None

    def _cancel_unfilled(self, order: Any, reason: str) -> None:
        if reason == "INSUFFICIENT_MARGIN":
            order.margin()
        else:
            order.cancel()
        if reason != "TRADE_CLOSED":
            self._note_refusal(order, reason)
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)

    # --- what is tied to a trade ----------------------------------------------------------------------------------

    def _children_of(self, order: Any) -> list[Any]:
        return [o for o in self._pchildren.get(order.ref, ()) if o.ref != order.ref]

    def _bind_children(self, order: Any, feed: BarFeed, at_open: bool) -> None:
        rising = order.isbuy() == (order.exectype in STOPS)
        for child in self._children_of(order):
            self._entries[child.ref] = EntryBar(len(feed), at_open, rising)
            if child.valid == order.valid:
                child.valid = None  # buy_bracket hands the entry's end on; OANDA's on-fill orders are good till cancelled

    def _bracketize(self, order: Any, cancel: bool = False) -> None:
        super()._bracketize(order, cancel)
        while self._like_oanda and self._toactivate:
            self._toactivate.popleft().activate()  # stop and target work from the fill on, not from the next bar

    def _cancel_children_of(self, feed: BarFeed, filled: Any) -> None:
        for order in [o for o in self.pending if o is not None and o.data is feed]:
            if order.parent is not None and order.active() and order.parent.ref != filled.ref:
                self.cancel(order, bracket=True)


def _no_more_than_held(size: float, held: float) -> float:
    """A stop or target closes what is there and opens nothing."""
    if size * held >= 0:
        return 0.0
    return size if abs(size) <= abs(held) else -held


def _purpose(order: Any, opened: float, closed: float) -> str:
    if order.info.get("reason") == "MARGIN_CLOSEOUT":
        return "margin_closeout"
    if opened:
        return "entry"
    if order.exectype in STOPS:
        return "stop"
    return "take_profit" if order.exectype == Order.Limit else "exit"
