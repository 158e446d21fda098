"""What has changed in an account since one of its transactions, read off the transactions after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mbats.simulator.account_wire import Standing, position_body, sums_body, trade_summary
from mbats.simulator.core.account import CREATES_ORDER, Account
from mbats.simulator.core.numbers import money_text, price_text
from mbats.simulator.core.triggers import trigger_price
from mbats.simulator.core.values import Order, OrderType, Transaction
from mbats.simulator.order_wire import order_body
from mbats.simulator.quotes import Quote

Body = dict[str, Any]


def changes_body(standing: Standing, since: int) -> Body:
    """Everything that came to be, ended or changed after the transaction `since`, as it stands now."""
    account = standing.account
    news = account.transactions[since:]
    fills = [tx for tx in news if tx["type"] == "ORDER_FILL"]
    cancels = [tx for tx in news if tx["type"] == "ORDER_CANCEL"]
    closed = [part["tradeID"] for fill in fills for part in fill.get("tradesClosed", ())]
    return {
        "ordersCreated": _orders(standing, (tx["id"] for tx in news if tx["type"] in CREATES_ORDER)),
        "ordersCancelled": _orders(standing, (tx["orderID"] for tx in cancels)),
        "ordersFilled": _orders(standing, (tx["orderID"] for tx in fills)),
        "ordersTriggered": [],  # no order of today's waits in this state
        "tradesOpened": _trades(standing, (fill["tradeOpened"]["tradeID"] for fill in fills if "tradeOpened" in fill)),
        "tradesReduced": _trades(standing, (fill["tradeReduced"]["tradeID"] for fill in fills if "tradeReduced" in fill)),
        "tradesClosed": _trades(standing, closed),
        "positions": [position_body(standing, account.positions[name]) for name in _positions(news)],
        "transactions": news,
    }


def state_body(standing: Standing, quote: Callable[[str], Quote | None]) -> Body:
    """What depends on prices: sums, trailing stops, open trades and positions."""
    account, worth = standing.account, standing.worth
    trailing = [order for order in account.pending.values() if order.type is OrderType.TRAILING_STOP_LOSS]
    return sums_body(worth) | {
        "orders": [_trailing(account, order, quote(order.instrument)) for order in trailing],
        "trades": [
            {
                "id": str(number),
                "unrealizedPL": money_text(each.unrealized_pl),
                "marginUsed": money_text(each.margin_used),
            }
            for number, each in worth.trades.items()
        ],
        "positions": [
            {
                "instrument": name,
                "netUnrealizedPL": money_text(each.net_pl),
                "longUnrealizedPL": money_text(each.long_pl),
                "shortUnrealizedPL": money_text(each.short_pl),
                "marginUsed": money_text(each.margin_used),
            }
            for name, each in worth.positions.items()
        ],
    }


def _trailing(account: Account, order: Order, quote: Quote | None) -> Body:
    body: Body = {"id": str(order.id)}
    if order.trail is None or quote is None or order.trade_id is None:
        return body
    price = trigger_price(account.trades[order.trade_id].units < 0, order.trigger, quote)
    return body | {
        "trailingStopValue": price_text(order.trail, quote.instrument),
        "triggerDistance": price_text(abs(price - order.trail), quote.instrument),
        "isTriggerDistanceExact": True,
    }


def _orders(standing: Standing, numbers: Iterable[str]) -> list[Body]:
    orders = [standing.account.orders[int(number)] for number in numbers]
    return [order_body(order, standing.instruments[order.instrument]) for order in orders]


def _trades(standing: Standing, numbers: Iterable[str]) -> list[Body]:
    trades = [standing.account.trades[int(number)] for number in dict.fromkeys(numbers)]
    return [trade_summary(standing, trade) for trade in trades]


def _positions(news: list[Transaction]) -> list[str]:
    """The pairs whose position was traded or charged for, each once."""
    names = [tx["instrument"] for tx in news if tx["type"] == "ORDER_FILL"]
    names += [part["instrument"] for tx in news if tx["type"] == "DAILY_FINANCING" for part in tx["positionFinancings"]]
    return list(dict.fromkeys(names))
