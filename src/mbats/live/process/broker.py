"""The account as a strategy sees it live: what it asks for goes to the trader, and what the trader says of it comes back.

Nothing is decided here. Positions are the sum of the fills that were told; an order changes when there is news of it, so that
one that was cancelled stays alive until the broker has said so. What follows from a fill is said at once, in the words and the
order of a backtest: stop and target end with their trade, and with an entry that never filled.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import backtrader as bt
from backtrader import Order
from backtrader.order import BuyOrder, SellOrder

from mbats.errors import DataError
from mbats.live.process.submission import FORMS, Impossible, submission
from mbats.live.wire import Adopt, FromStrategy, Holding, Money, OrderEvent, Standing, Status, Withdraw
from mbats.trading.account import MarginAccount
from mbats.trading.feeds import BarFeed
from mbats.trading.orders import fit

ZERO = Decimal(0)
ENDS: dict[Status, Callable[[Any], Any]] = {
    Status.CANCELED: Order.cancel,
    Status.EXPIRED: lambda order: setattr(order, "status", Order.Expired),
    Status.MARGIN: Order.margin,
    Status.REJECTED: Order.reject,
}
KINDS = {form: exectype for exectype, form in FORMS.items()}


class LiveBroker(MarginAccount):
    """See the module. `send` takes what is for the trader; `adopted` is what the deployment has from before."""

    params: Any = (("send", None), ("adopted", None), ("granularity", None))

    def __init__(self, **_: Any) -> None:
        self._send: Callable[[FromStrategy], None] = self.p.send
        self._adopted: Adopt = self.p.adopted
        super().__init__()

    def init(self) -> None:
        super().init()
        self._bar: datetime | None = None  # start of the bar that is decided on; none while history is read
        self._known: dict[int, Any] = {}  # orders by the number under which the trader knows them
        self._numbers: dict[int, int] = {}  # the reverse, by Backtrader's number
        self._exits: dict[int, list[Any]] = {}  # stop and target of an entry, by its Backtrader number
        self._of_positions: set[int] = set()  # stops and targets from before
        self._withdrawn: set[int] = set()  # asked for since the last bar
        self._units: dict[str, Decimal] = {}
        self._by_name: dict[str, BarFeed] = {feed._name: feed for feed in self._feeds}
        self._take(self._adopted.money)
        self.startingcash = self._value = float(self._adopted.money.nav)

    def start(self) -> None:
        """Called when the feeds are known, before the strategy is made: it finds its positions there."""
        super().start()
        for holding in self._adopted.holdings:
            self.positions[self._feed(holding.symbol)] = bt.Position(float(holding.units), float(holding.price))
            self._units[holding.symbol] = holding.units

    # --- the account ----------------------------------------------------------------------------------------------

    def next(self) -> None:
        """Nothing: what happens is told, not computed."""

    def begin_bar(self, bar: datetime, money: Money) -> None:
        """The bars that start at `bar` are there, and the account as it was when they ended. A late bar is decided on now."""
        self._bar = bar if self._bar is None else max(bar, self._bar)
        self._withdrawn.clear()
        self._take(money)
        self._get_value()

    def _take(self, money: Money) -> None:
        self._money = money
        self.ledger.balance = money.balance
        self.cash = float(money.balance)

    def _get_value(self, datas: Any = None, lever: bool = False) -> float:
        """As in a backtest, with the open profit that lies elsewhere, and the margin that the broker says is used."""
        if datas is not None:
            return float(super()._get_value(datas, lever))
        if any(position and not len(feed) for feed, position in self.positions.items()):
            self._value = float(self._money.nav)  # no bar yet that would value the position
        else:
            self._value = super()._get_value() + float(self._money.elsewhere)
        self._valuelever = self._fundval = self._value
        self._margin = float(self._money.margin_used)
        return self._value

    def get_orders_open(self, safe: bool = False) -> list[Any]:
        """The orders that may still fill."""
        return [order.clone() if safe else order for order in self._known.values() if order.alive()]

    # --- what is there at the start -------------------------------------------------------------------------------

    def adopt(self, strategy: Any, bar: datetime | None) -> list[Any]:
        """Take over what the deployment has from before, as orders that stand; from now on orders are taken."""
        self._bar = bar
        for holding in self._adopted.holdings:
            self._adopt_trade(strategy, holding)
        return [self._adopt_order(strategy, standing) for standing in self._adopted.orders]

    def _adopt_trade(self, strategy: Any, holding: Holding) -> None:
        """An open trade, so that the fill that ends it is told as the end of a trade."""
        feed, units, price = self._feed(holding.symbol), float(holding.units), float(holding.price)
        order = self._new_order(strategy, feed, units, exectype=Order.Market, price=price)
        trade = bt.Trade(data=feed, historyon=strategy._tradehistoryon)
        trade.update(order, units, price, 0.0, 0.0, 0.0, self.getcommissioninfo(feed))
        strategy._trades[feed][0].append(trade)

    def _adopt_order(self, strategy: Any, standing: Standing) -> Any:
        feed = self._feed(standing.symbol)
        price = None if standing.price is None else float(standing.price)
        trail = None if standing.trail is None else float(standing.trail)
        order = self._new_order(
            strategy, feed, float(standing.units), exectype=KINDS[standing.form], price=price or 0.0, trailamount=trail
        )
        if price is not None:
            order.created.price = price  # where it has trailed to by now
        order.addinfo(adopted=True, role=standing.role)
        self._ocoize(order, None)
        self._register(order, standing.ref)
        if standing.role != "entry":
            self._of_positions.add(order.ref)
        order.submit(self)
        order.accept(self)
        self.notify(order)
        return order

    def _new_order(self, strategy: Any, feed: BarFeed, units: float, **more: Any) -> Any:
        kind = BuyOrder if units > 0 else SellOrder
        # A simulated order is one that looks at no bar; Backtrader cannot make another where there is none.
        return kind(owner=strategy, data=feed, size=abs(units), simulated=not len(feed), **more)

    def _register(self, order: Any, number: int) -> None:
        self._known[number] = order
        self._numbers[order.ref] = number

    def _feed(self, symbol: str) -> BarFeed:
        if symbol not in self._by_name:
            raise DataError(f"News of {symbol}, which this deployment does not trade; it trades {', '.join(self._by_name)}.")
        return self._by_name[symbol]

    # --- orders out -----------------------------------------------------------------------------------------------

    def submit(self, order: Any, check: bool = True) -> Any:
        """Send an order when its bracket is complete. What cannot be had is rejected, with `info.reason` and `.detail`."""
        if self._bar is None:
            return self._reject(
                [order], Impossible("HISTORY", "the bar is of the past; orders are taken from the first live bar on")
            )
        reason = fit(order, order.data.instrument)
        if reason is not None:
            return self._reject([order], Impossible(reason, "the broker would refuse it"))
        entry = order.parent or order
        waiting = (
            self._pchildren.setdefault(entry.ref, type(self.pending)()) if entry is order else self._pchildren.get(entry.ref)
        )
        if waiting is None:
            return self._reject([order], Impossible("PARENT_GONE", "its entry was refused, or has been sent without it"))
        waiting.append(order)
        if order.transmit:
            self._transmit(list(self._pchildren.pop(entry.ref)))
        return order

    def _transmit(self, bracket: list[Any]) -> None:
        assert self._bar is not None
        entry, *exits = bracket
        leader = self._ocos[entry.ref]  # itself, for one that is alone
        asked = submission(
            entry,
            exits,
            bar=self._bar,
            granularity=self.p.granularity,
            instrument=entry.data.instrument,
            oco=self._numbers.get(leader, leader),
        )
        if isinstance(asked, Impossible):
            self._reject(bracket, asked)
            return
        self._exits[entry.ref] = exits
        for order in bracket:
            self._register(order, order.ref)
            order.submit(self)
            self.notify(order)
        self._send(asked)

    def _reject(self, orders: list[Any], why: Impossible) -> Any:
        for order in orders:
            order.addinfo(reason=why.reason, detail=why.detail)
            order.reject(self)
            self.notify(order)
        return orders[0]

    def cancel(self, order: Any, bracket: bool = False) -> bool:
        """Ask the trader to cancel an order, and with it the others of its bracket. True when there was something to cancel."""
        for waiting in self._pchildren.values():
            if any(each.ref == order.ref for each in waiting):
                self._reject(list(waiting), Impossible("WITHDRAWN", "cancelled before its bracket was complete"))
                del self._pchildren[waiting[0].ref]
                return True
        number = self._numbers.get(order.ref)
        if number is None or not self._known[number].alive():
            return False
        for each in self._to_withdraw(self._known[number]):
            if each.ref not in self._withdrawn:
                self._withdrawn.add(each.ref)
                self._send(Withdraw(self._numbers[each.ref]))
        return True

    def _to_withdraw(self, order: Any) -> list[Any]:
        """As in a backtest, a bracket is cancelled whole: by its entry as long as that waits, then by its stop and target."""
        entry = order.parent or order
        if entry.alive():
            return [entry]
        return [order, *(each for each in self._exits.get(entry.ref, ()) if each.alive() and each.ref != order.ref)]

    # --- news in --------------------------------------------------------------------------------------------------

    def hear(self, event: OrderEvent, strategy: Any) -> None:
        """Apply what the trader says of an order. Raises DataError when it does not agree with what is known here."""
        order = self._known.get(event.ref) if event.ref is not None else None
        if order is None:
            self._hear_of_another(event, strategy)
        else:
            self._hear_of(order, event)
        held = self._units.get(event.symbol, ZERO)
        if event.position is not None and event.position != held:
            raise DataError(
                f"{event.symbol}: after order {event.ref} {event.status} the trader holds {event.position} units for this "
                f"deployment, and its process {held}. The process ends; it starts again from what the trader holds."
            )

    def _hear_of(self, order: Any, event: OrderEvent) -> None:
        if event.reason or event.detail:
            order.addinfo(reason=event.reason, detail=event.detail)
        if event.status not in (Status.SUBMITTED, Status.REJECTED):
            self._accept(order)
        if event.units:
            self._fill(order, event, whole=event.status is Status.COMPLETED)
        elif event.status is Status.COMPLETED and order.alive():
            order.completed()
            self.notify(order)
            self._after_fill(order, whole=True, over=False)
        if event.status in ENDS:
            self._end(order, event.status)

    def _accept(self, order: Any) -> None:
        """Once, and before all else that the broker does; a bracket is accepted whole."""
        for each in (order, *self._exits.get(order.ref, ())):
            if each.status in (Order.Created, Order.Submitted):
                each.accept(self)
                self.notify(each)

    def _end(self, order: Any, status: Status) -> None:
        if not order.alive():
            return  # it has ended already; what was said first stands
        ENDS[status](order)
        self.notify(order)
        if not order.executed.size:
            for each in self._exits.get(order.ref, ()):
                self._end(each, Status.CANCELED)

    def _hear_of_another(self, event: OrderEvent, strategy: Any) -> None:
        """A fill by an order that this process never made is told as one of an order that fills at once."""
        if event.ref is not None and event.ref > 0:
            raise DataError(f"News of order {event.ref} of {event.symbol}, which this process never sent: {event.status}.")
        if not event.units:
            return
        order = self._new_order(
            strategy, self._feed(event.symbol), float(event.units), exectype=Order.Market, price=float(event.price or 0)
        )
        order.addinfo(reason=event.reason, detail=event.detail, outside=True)
        order.submit(self)
        order.accept(self)
        self._fill(order, event, whole=True)

    # --- fills ----------------------------------------------------------------------------------------------------

    def _fill(self, order: Any, event: OrderEvent, *, whole: bool) -> None:
        assert event.units is not None
        if event.price is None:
            raise DataError(f"Order {event.ref} of {event.symbol} filled {event.units} units, and the message names no price.")
        feed: BarFeed = order.data
        size, price = float(event.units), float(event.price)
        before = self._units.get(event.symbol, ZERO)
        after = self._units[event.symbol] = before + event.units
        closed = ZERO if before * event.units >= 0 else event.units if abs(event.units) <= abs(before) else -before
        opened = event.units - closed
        held = self.positions[feed]
        paid = held.price
        held.update(size, price, event.at.replace(tzinfo=None))
        held.size = float(after)  # exact where sums of floats are not
        held.price = held.price if after else 0.0
        comminfo = self.getcommissioninfo(feed)
        pnl = comminfo.profitandloss(-float(closed), paid, price) if event.pnl is None else float(event.pnl)
        if whole:
            order.executed.remsize = size  # a stop closes what is left of its trade, whatever it was placed for
        order.execute(
            bt.date2num(event.at),
            size,
            price,
            float(closed),
            comminfo.getvaluesize(float(closed), price),
            0.0,
            float(opened),
            comminfo.getvaluesize(float(opened), price),
            0.0,
            comminfo.margin,
            pnl,
            held.size,
            held.price,
        )
        order.status = Order.Completed if whole else Order.Partial
        order.addcomminfo(comminfo)
        self.notify(order)
        self._after_fill(order, whole=whole, over=bool(closed and (opened or not after)))

    def _after_fill(self, order: Any, *, whole: bool, over: bool) -> None:
        """The stop and target of an entry work from its fill on; with one of them the other ends, with a trade both."""
        for each in self._exits.get(order.ref, ()):
            each.activate()
        if over:
            for each in list(self._known.values()):
                bound = each.ref in self._of_positions or (
                    each.parent is not None and each.active() and each.parent.ref != order.ref
                )
                if bound and each.data is order.data and each.ref != order.ref:
                    self._end(each, Status.CANCELED)
        if whole and order.parent is not None:
            for each in self._exits.get(order.parent.ref, ()):
                self._end(each, Status.CANCELED)
