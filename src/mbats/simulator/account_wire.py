"""OANDA's JSON for an account: its sums, its trades and its positions, at the prices of a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mbats.market import Instrument
from mbats.simulator.core.account import Account
from mbats.simulator.core.numbers import money_text, price_text, units_text
from mbats.simulator.core.valuation import PositionValue, TradeValue, Valuation
from mbats.simulator.core.values import DEPENDENT_KEYS, ZERO, Position, SideSums, Trade
from mbats.simulator.order_wire import order_body

NOTHING = "0.0000"
NO_TRADE = TradeValue(ZERO, ZERO)
NO_POSITION = PositionValue(ZERO, ZERO, ZERO)

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """An account at a moment: what it holds, what that is worth, and how its pairs are quoted."""

    account: Account
    worth: Valuation
    instruments: Mapping[str, Instrument]


def summary_body(standing: Standing) -> Body:
    """The account without the lists of its trades, positions and orders."""
    account = standing.account
    config = account.config
    body = {
        "id": config.id,
        "alias": account.alias,
        "currency": config.currency,
        "balance": money_text(account.balance),
        "createdByUserID": config.user,
        "createdTime": account.created,
        "guaranteedStopLossOrderMode": "DISABLED",
        "pl": money_text(account.pl),
        "resettablePL": money_text(account.resettable_pl),
        "resettablePLTime": account.resettable_since,
        "financing": money_text(account.financing),
        "commission": money_text(account.commission),
        "dividendAdjustment": NOTHING,
        "guaranteedExecutionFees": NOTHING,
        "openTradeCount": len(account.open),
        "openPositionCount": len({trade.instrument for trade in account.open.values()}),
        "pendingOrderCount": len(account.pending),
        "hedgingEnabled": config.hedging,
    }
    if account.margin_rate is not None:
        body["marginRate"] = f"{account.margin_rate:f}"
    if account.margin_call_since is not None:
        body |= {"marginCallEnterTime": account.margin_call_since, "marginCallExtensionCount": 0}
    if account.last_fill is not None:
        body["lastOrderFillTimestamp"] = account.last_fill
    return body | sums_body(standing.worth) | {"lastTransactionID": str(account.last_id)}


def account_body(standing: Standing) -> Body:
    """The account with its open trades, every position it ever had, and its pending orders."""
    account = standing.account
    return summary_body(standing) | {
        "trades": [trade_summary(standing, trade) for trade in account.open.values()],
        "positions": [position_body(standing, position) for position in account.positions.values()],
        "orders": [order_body(order, standing.instruments[order.instrument]) for order in account.pending.values()],
    }


def sums_body(worth: Valuation) -> Body:
    """What depends on the prices of the moment."""
    return {
        "unrealizedPL": money_text(worth.unrealized_pl),
        "NAV": money_text(worth.nav),
        "marginUsed": money_text(worth.margin_used),
        "marginAvailable": money_text(worth.margin_available),
        "positionValue": money_text(worth.position_value),
        "marginCloseoutUnrealizedPL": money_text(worth.closeout_unrealized_pl),
        "marginCloseoutNAV": money_text(worth.closeout_nav),
        "marginCloseoutMarginUsed": money_text(worth.closeout_margin_used),
        "marginCloseoutPercent": f"{worth.closeout_percent:.5f}",
        "marginCloseoutPositionValue": money_text(worth.closeout_position_value),
        "withdrawalLimit": money_text(worth.withdrawal_limit),
        "marginCallMarginUsed": money_text(worth.call_margin_used),
        "marginCallPercent": f"{worth.call_percent:.5f}",
    }


# --- Trades ------------------------------------------------------------------------------------------------------------


def trade_summary(standing: Standing, trade: Trade) -> Body:
    """A trade with the numbers of its orders."""
    return _trade(standing, trade) | {
        f"{key}OrderID": str(trade.orders[kind]) for key, kind in DEPENDENT_KEYS.items() if kind in trade.orders
    }


def trade_body(standing: Standing, trade: Trade) -> Body:
    """A trade with its orders in full."""
    orders, instrument = standing.account.orders, standing.instruments[trade.instrument]
    return _trade(standing, trade) | {
        f"{key}Order": order_body(orders[trade.orders[kind]], instrument)
        for key, kind in DEPENDENT_KEYS.items()
        if kind in trade.orders
    }


def _trade(standing: Standing, trade: Trade) -> Body:
    instrument = standing.instruments[trade.instrument]
    body: Body = {
        "id": str(trade.id),
        "instrument": trade.instrument,
        "price": price_text(trade.price, instrument),
        "openTime": trade.opened,
        "initialUnits": units_text(trade.initial_units),
        "initialMarginRequired": money_text(trade.initial_margin),
        "state": "OPEN" if trade.closed is None else "CLOSED",
        "currentUnits": units_text(trade.units),
        "realizedPL": money_text(trade.realized_pl),
        "financing": money_text(trade.financing),
        "dividendAdjustment": NOTHING,
    }
    if trade.closed_units:
        body["averageClosePrice"] = price_text(trade.closed_value / trade.closed_units, instrument)
        body["closingTransactionIDs"] = [str(number) for number in trade.closing]
    if trade.extensions:
        body["clientExtensions"] = dict(trade.extensions)
    if trade.closed is not None:
        return body | {"closeTime": trade.closed}
    worth = standing.worth.trades.get(trade.id, NO_TRADE)
    return body | {"unrealizedPL": money_text(worth.unrealized_pl), "marginUsed": money_text(worth.margin_used)}


# --- Positions ---------------------------------------------------------------------------------------------------------


def position_body(standing: Standing, position: Position) -> Body:
    """What was ever traded in one pair, and what of it is open."""
    worth = standing.worth.positions.get(position.instrument)
    value = worth or NO_POSITION
    both = (position.long, position.short)
    trades = standing.account.open_in(position.instrument)
    instrument = standing.instruments[position.instrument]
    body = {
        "instrument": position.instrument,
        "pl": _sum(side.pl for side in both),
        "unrealizedPL": money_text(value.net_pl),
        "resettablePL": _sum(side.resettable_pl for side in both),
        "financing": _sum(side.financing for side in both),
        "commission": NOTHING,
        "dividendAdjustment": NOTHING,
        "guaranteedExecutionFees": NOTHING,
        "long": _side(position.long, [trade for trade in trades if trade.units > 0], value.long_pl, instrument),
        "short": _side(position.short, [trade for trade in trades if trade.units < 0], value.short_pl, instrument),
    }
    return body | ({"marginUsed": money_text(value.margin_used)} if worth else {})


def _side(sums: SideSums, trades: list[Trade], unrealized: Decimal, instrument: Instrument) -> Body:
    units = sum((trade.units for trade in trades), ZERO)
    body: Body = {"units": units_text(units)}
    if trades:
        paid = sum((trade.units * trade.price for trade in trades), ZERO)
        body |= {"averagePrice": price_text(paid / units, instrument), "tradeIDs": [str(trade.id) for trade in trades]}
    return body | {
        "pl": money_text(sums.pl),
        "unrealizedPL": money_text(unrealized),
        "resettablePL": money_text(sums.resettable_pl),
        "financing": money_text(sums.financing),
        "dividendAdjustment": NOTHING,
        "guaranteedExecutionFees": NOTHING,
    }


def _sum(amounts: Iterable[Decimal]) -> str:
    return money_text(sum(amounts, ZERO))
