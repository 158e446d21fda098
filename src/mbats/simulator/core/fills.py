"""Books an execution: the fill, the orders that end with the trades it closes, and those that come with the one it opens.

The order within a batch is the recorded one: the fill, then LINKED_TRADE_CLOSED cancellations by ascending id, then take profit,
stop loss and trailing stop of the new trade.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mbats.simulator.core.batch import Batch
from mbats.simulator.core.execution import Desk, Execution, on_fill, stop_price
from mbats.simulator.core.numbers import factor_text, money_text, price_text, to_money, units_text
from mbats.simulator.core.times import write_time
from mbats.simulator.core.triggers import trigger_price
from mbats.simulator.core.valuation import conversions, margin_of
from mbats.simulator.core.values import DEPENDENT_KEYS, ZERO, Order, OrderType, Trade, Transaction
from mbats.simulator.quotes import Conversion, Quote

NOTHING = "0.0000"


def book(batch: Batch, order: Order, execution: Execution, quote: Quote, desk: Desk) -> Transaction:
    """Write the fill and what follows from it; returns the ORDER_FILL."""
    account = batch.account
    base, counter = conversions(account, quote.instrument, desk.quote)
    parts = [_part(trade, units, execution.price, quote, counter) for trade, units in execution.closes]
    pl = sum((Decimal(part["realizedPL"]) for part in parts), ZERO)
    closed = [part for part, (trade, units) in zip(parts, execution.closes, strict=True) if trade.units == -units]
    reduced = [part for part in parts if part not in closed]
    fields: Transaction = {
        "type": "ORDER_FILL",
        "orderID": str(order.id),
        "clientOrderID": order.extensions.get("id"),
        "instrument": order.instrument,
        "units": units_text(execution.units),
        "gainQuoteHomeConversionFactor": factor_text(counter.gain),
        "lossQuoteHomeConversionFactor": factor_text(counter.loss),
        "price": price_text(execution.price, quote.instrument),
        "fullVWAP": price_text(execution.price, quote.instrument),
        "fullPrice": _full_price(quote),
        "reason": _reason(order),
        "pl": money_text(pl),
        "financing": NOTHING,
        "commission": NOTHING,
        "guaranteedExecutionFee": NOTHING,
        "accountBalance": money_text(account.balance + to_money(pl)),
        "tradeOpened": _opened(batch, order, execution, quote, base, counter) if execution.opens else None,
        "tradesClosed": closed or None,
        "tradeReduced": reduced[0] if reduced else None,
        "halfSpreadCost": _half_spread(execution.units, quote, counter),
    }
    fill = batch.add({key: part for key, part in fields.items() if part is not None})
    _cancel_orders_of_closed_trades(batch, fill)
    if execution.opens and not desk.strip_on_fill:
        _attach_orders(batch, order, fill, quote)
    return fill


def cancel(batch: Batch, order: Order, reason: str, **more: str) -> Transaction:
    """Write the cancellation of a pending order."""
    fields: Transaction = {"type": "ORDER_CANCEL", "orderID": str(order.id)}
    if "id" in order.extensions:
        fields["clientOrderID"] = order.extensions["id"]
    return batch.add({**fields, "reason": reason, **more})


def start_trailing(order: Order, trade: Trade, quote: Quote) -> None:
    """Put the stop of a new trailing stop at its distance from the price of the moment."""
    assert order.distance is not None
    price = trigger_price(trade.units < 0, order.trigger, quote)
    order.trail = price - order.distance if trade.units > 0 else price + order.distance


def _part(trade: Trade, units: Decimal, price: Decimal, quote: Quote, counter: Conversion) -> dict[str, str]:
    gain = (price - trade.price) * -units  # the units have the sign of the order, against the trade's
    return {
        "tradeID": str(trade.id),
        "units": units_text(units),
        "price": price_text(price, quote.instrument),
        "realizedPL": money_text(gain * (counter.gain if gain > 0 else counter.loss)),
        "financing": NOTHING,
        "guaranteedExecutionFee": NOTHING,
        "halfSpreadCost": _half_spread(units, quote, counter),
    }


def _opened(
    batch: Batch, order: Order, execution: Execution, quote: Quote, base: Conversion, counter: Conversion
) -> dict[str, Any]:
    units = execution.opens
    margin = margin_of(batch.account, quote.instrument, max(units, ZERO), min(units, ZERO), base)
    opened: dict[str, Any] = {
        "tradeID": batch.next_id,
        "units": units_text(units),
        "price": price_text(execution.price, quote.instrument),
        "guaranteedExecutionFee": NOTHING,
        "halfSpreadCost": _half_spread(units, quote, counter),
        "initialMarginRequired": money_text(margin),
    }
    return opened | ({"clientExtensions": dict(order.trade_extensions)} if order.trade_extensions else {})


def _half_spread(units: Decimal, quote: Quote, counter: Conversion) -> str:
    return money_text(abs(units) * (quote.ask - quote.bid) / 2 * counter.loss)


def _full_price(quote: Quote) -> dict[str, Any]:
    """The book at the fill. Here, as recorded fills show, liquidity is a text and the time is called a timestamp."""

    def ladder(side: str) -> list[dict[str, str]]:
        levels = quote.bids if side == "bids" else quote.asks
        return [
            {"price": price_text(level.price, quote.instrument), "liquidity": units_text(level.liquidity)} for level in levels
        ]

    return {
        "closeoutBid": price_text(quote.bid, quote.instrument),
        "closeoutAsk": price_text(quote.ask, quote.instrument),
        "timestamp": write_time(quote.time),
        "bids": ladder("bids"),
        "asks": ladder("asks"),
    }


def _reason(order: Order) -> str:
    reason = order.created.get("reason")
    if order.type is OrderType.MARKET and reason != "CLIENT_ORDER":
        return f"MARKET_ORDER_{reason}"
    return f"{order.type}_ORDER"


def _cancel_orders_of_closed_trades(batch: Batch, fill: Transaction) -> None:
    for part in fill.get("tradesClosed", ()):
        trade = batch.account.trades[int(part["tradeID"])]
        for number in sorted(trade.orders.values()):
            order = batch.account.orders[number]
            linked = {"closedTradeID": str(trade.id), "tradeCloseTransactionID": fill["id"]}
            cancel(batch, order, "LINKED_TRADE_CLOSED", **linked)


def _attach_orders(batch: Batch, parent: Order, fill: Transaction, quote: Quote) -> None:
    trade = batch.account.trades[int(fill["tradeOpened"]["tradeID"])]
    wanted = on_fill(parent)
    for kind in DEPENDENT_KEYS.values():
        if details := wanted.get(kind):
            created = batch.add(_attached(kind, details, trade, fill, quote))
            order = batch.account.orders[int(created["id"])]
            if kind is OrderType.TRAILING_STOP_LOSS:
                start_trailing(order, trade, quote)


def _attached(kind: OrderType, details: Transaction, trade: Trade, fill: Transaction, quote: Quote) -> Transaction:
    fields: Transaction = {"type": f"{kind}_ORDER", "tradeID": str(trade.id)}
    if "id" in trade.extensions:
        fields["clientTradeID"] = trade.extensions["id"]
    if kind is not OrderType.TRAILING_STOP_LOSS:
        fields["price"] = price_text(stop_price(details, trade.units, trade.price), quote.instrument)
    rest: Transaction = {
        key: details[key] for key in ("distance", "timeInForce", "gtdTime", "clientExtensions") if key in details
    }
    rest["triggerCondition"] = details.get("triggerCondition", "DEFAULT")
    if kind is OrderType.STOP_LOSS:
        rest["guaranteed"] = False
    return {**fields, **rest, "reason": "ON_FILL", "orderFillTransactionID": fill["id"]}
