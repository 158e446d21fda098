"""When a price sets off an order. The side that is looked at may be chosen; the side it fills at may not."""

from __future__ import annotations

from decimal import Decimal

from mbats.simulator.core.account import Account
from mbats.simulator.core.values import Order, OrderType
from mbats.simulator.quotes import Quote

# On one tick, what protects comes before what profits, and what ends trades before what opens them.
RANK = {
    OrderType.STOP_LOSS: 0,
    OrderType.TRAILING_STOP_LOSS: 1,
    OrderType.TAKE_PROFIT: 2,
    OrderType.STOP: 3,
    OrderType.MARKET_IF_TOUCHED: 4,
    OrderType.LIMIT: 5,
}
STOPS = (OrderType.STOP, OrderType.STOP_LOSS, OrderType.TRAILING_STOP_LOSS)
LIMITS = (OrderType.LIMIT, OrderType.TAKE_PROFIT)


def is_buy(account: Account, order: Order) -> bool:
    """Whether the order buys. One that belongs to a trade does what ends the trade."""
    if order.trade_id is not None:
        return account.trades[order.trade_id].units < 0
    return order.units > 0


def trigger_price(buys: bool, condition: str, quote: Quote) -> Decimal:
    """The price that an order of this side looks at under this trigger condition."""
    if condition == "MID":
        return quote.mid
    if condition in ("BID", "ASK"):
        return quote.ask if condition == "ASK" else quote.bid
    return quote.ask if buys == (condition == "DEFAULT") else quote.bid


def is_triggered(account: Account, order: Order, quote: Quote) -> bool:
    """Whether this price sets the order off: top of book against limit, stop or touch."""
    buys = is_buy(account, order)
    if not (quote.asks if buys else quote.bids):
        return False
    price, wanted = trigger_price(buys, order.trigger, quote), stop_of(order)
    if wanted is None:
        return False
    if order.type is OrderType.MARKET_IF_TOUCHED:
        rising = order.initial_price is not None and order.initial_price < wanted
        return price >= wanted if rising else price <= wanted
    upwards = buys if order.type in STOPS else not buys
    return price >= wanted if upwards else price <= wanted


def stop_of(order: Order) -> Decimal | None:
    """The price at which the order is set off."""
    return order.trail if order.type is OrderType.TRAILING_STOP_LOSS else order.price
