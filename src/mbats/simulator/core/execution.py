"""What an order would do at a quote: how much, at which price, which trades it would end, and what stands against it.

Nothing is changed here. A plan is either an `Execution` or the reason why the order is cancelled instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal

import numpy as np

from mbats.market import Instrument
from mbats.simulator.core.account import Account
from mbats.simulator.core.numbers import to_point
from mbats.simulator.core.times import parse_time
from mbats.simulator.core.triggers import LIMITS, is_buy
from mbats.simulator.core.valuation import conversions, margin_of, value
from mbats.simulator.core.values import DEPENDENT_KEYS, ZERO, Order, OrderType, Trade, Transaction
from mbats.simulator.quotes import Level, Quote, vwap

AT_ONCE = ("FOK", "IOC")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What OANDA does not document, or lets differ from account to account.

    `strict_precision` refuses zeros beyond the digits that are quoted. `slippage_points` worsens every fill but those of limit
    orders; `latency` is how much later than the request a market order meets the market.
    """

    open_trades: int = 1000
    pending_orders: int = 1000
    strict_precision: bool = True
    slippage_points: int = 0
    latency: np.timedelta64 = field(default_factory=lambda: np.timedelta64(0, "us"))


@dataclass(slots=True)
class Desk:
    """What an execution looks at besides the account: what is listed, the last quotes, and the options."""

    instruments: Mapping[str, Instrument]
    quote: Callable[[str], Quote | None]
    options: EngineOptions
    strip_on_fill: bool = False


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill that could be booked. Units have the sign of the order; `closes` says how many units of which trades end."""

    price: Decimal
    closes: tuple[tuple[Trade, Decimal], ...]
    opens: Decimal

    @property
    def units(self) -> Decimal:
        return sum((units for _, units in self.closes), self.opens)


def plan(account: Account, order: Order, quote: Quote, desk: Desk, *, arrives: bool = False) -> Execution | str | None:
    """What `order` would do at `quote`; a text is the OrderCancelReason, None means that it has to wait for a better price.

    `arrives` says that the order comes with this request: then a take profit that the market has passed must not lose.
    """
    if not _can_be_booked(account, quote, desk):
        return "MARKET_HALTED" if order.type is OrderType.MARKET or order.time_in_force in AT_ONCE else None
    buys = is_buy(account, order)
    sign = 1 if buys else -1
    closes, opens = _split(account, order, sign)
    if not closes and not opens:
        return "POSITION_CLOSEOUT_FAILED" if order.position_fill == "REDUCE_ONLY" else "FIFO_VIOLATION"
    if order.trade_id is None and _skips_an_older_trade(account, order, closes):
        return "FIFO_VIOLATION"
    wanted = abs(sum((units for _, units in closes), opens))
    levels = _slipped(quote.asks if buys else quote.bids, order, quote, sign, desk.options)
    limit = order.price if order.type in LIMITS else order.bound
    if order.time_in_force == "IOC" and limit is not None:
        levels = tuple(level for level in levels if sign * (level.price - limit) <= 0)
    price, found = vwap(levels, wanted)
    if order.time_in_force == "IOC" and found:
        closes, opens = _cut(closes, opens, _whole(found, quote.instrument))
        if not closes and not opens:
            return "INSUFFICIENT_LIQUIDITY"
    elif found < wanted:
        return _unfilled(order, "INSUFFICIENT_LIQUIDITY")
    price = to_point(price, quote.instrument)
    if limit is not None and sign * (price - limit) > 0:
        return _unfilled(order, "BOUNDS_VIOLATION")
    execution = Execution(price, closes, opens)
    if arrives and order.type is OrderType.TAKE_PROFIT and _loses(execution):
        return "LOSING_TAKE_PROFIT"
    return _obstacle(account, order, execution, quote, desk) or execution


def _can_be_booked(account: Account, quote: Quote, desk: Desk) -> bool:
    """Whether there are prices yet by which the pair's currencies can be converted into the account's."""
    try:
        conversions(account, quote.instrument, desk.quote)
    except LookupError:
        return False
    return True


def _split(account: Account, order: Order, sign: int) -> tuple[tuple[tuple[Trade, Decimal], ...], Decimal]:
    """Which trades the order ends, oldest first, and how many units are left to open."""
    if order.trade_id is not None:
        trade = account.trades[order.trade_id]
        return ((trade, -trade.units),), ZERO
    if "tradeClose" in order.created:
        trade = account.trades[int(order.created["tradeClose"]["tradeID"])]
        return ((trade, order.units),), ZERO
    mode = order.position_fill
    if mode == "DEFAULT":
        mode = "OPEN_ONLY" if account.config.hedging else "REDUCE_FIRST"
    left, closes = order.units, []
    opposite = [trade for trade in account.open_in(order.instrument) if trade.units * sign < 0]
    if mode == "OPEN_ONLY":
        return (), ZERO if opposite and not account.config.hedging else left
    for trade in opposite:
        if left:
            part = sign * min(abs(left), abs(trade.units))
            closes.append((trade, part))
            left -= part
    return tuple(closes), ZERO if mode == "REDUCE_ONLY" else left


def _skips_an_older_trade(account: Account, order: Order, closes: tuple[tuple[Trade, Decimal], ...]) -> bool:
    """Whether a close of one trade, chosen by the client, breaks the rule that the oldest goes first."""
    if not account.config.fifo or "tradeClose" not in order.created:
        return False
    return account.open_in(order.instrument)[0] is not closes[0][0]


def _slipped(levels: tuple[Level, ...], order: Order, quote: Quote, sign: int, options: EngineOptions) -> tuple[Level, ...]:
    if not options.slippage_points or order.type in LIMITS:
        return levels
    worse = sign * options.slippage_points * Decimal(1).scaleb(-quote.instrument.display_precision)
    return tuple(Level(level.price + worse, level.liquidity) for level in levels)


def _whole(units: Decimal, instrument: Instrument) -> Decimal:
    return units.quantize(Decimal(1).scaleb(-instrument.units_precision), ROUND_FLOOR)


def _cut(
    closes: tuple[tuple[Trade, Decimal], ...], opens: Decimal, units: Decimal
) -> tuple[tuple[tuple[Trade, Decimal], ...], Decimal]:
    """As much of an execution as `units` (without sign) allow."""
    kept = []
    for trade, part in closes:
        part = part if abs(part) <= units else units.copy_sign(part)
        units -= abs(part)
        if part:
            kept.append((trade, part))
    return tuple(kept), opens if abs(opens) <= units else units.copy_sign(opens)


def _unfilled(order: Order, reason: str) -> str | None:
    """What becomes of an order whose price or size is not there: limits and orders of trades wait, others end."""
    if order.time_in_force in AT_ONCE:
        return "TIME_IN_FORCE_EXPIRED" if order.type is OrderType.LIMIT and reason == "BOUNDS_VIOLATION" else reason
    return None if order.type is OrderType.LIMIT or order.trade_id is not None else reason


# --- What stands against it --------------------------------------------------------------------------------------------


def _obstacle(account: Account, order: Order, execution: Execution, quote: Quote, desk: Desk) -> str | None:
    if not execution.opens:
        return None
    name = order.trade_extensions.get("id")
    if name is not None and any(trade.extensions.get("id") == name for trade in account.open.values()):
        return "CLIENT_TRADE_ID_ALREADY_EXISTS"
    if len(account.open) - _ended(execution) >= desk.options.open_trades:
        return "OPEN_TRADES_ALLOWED_EXCEEDED"
    if reason := None if desk.strip_on_fill else _obstacle_on_fill(account, order, execution, quote, desk):
        return reason
    if account.config.fifo and _has_a_twin(account, order, execution):
        return "FIFO_VIOLATION_SAFEGUARD_VIOLATION"
    return None if _has_margin(account, execution, quote, desk) else "INSUFFICIENT_MARGIN"


def _loses(execution: Execution) -> bool:
    trade, units = execution.closes[0]
    return (execution.price - trade.price) * -units < 0


def _ended(execution: Execution) -> int:
    return sum(trade.units == -units for trade, units in execution.closes)


def _obstacle_on_fill(account: Account, order: Order, execution: Execution, quote: Quote, desk: Desk) -> str | None:
    wanted = on_fill(order)
    if wanted and len(account.pending) + len(wanted) > desk.options.pending_orders + 1:  # the order itself is one of them
        return "PENDING_ORDERS_ALLOWED_EXCEEDED"
    names = {each.extensions.get("id") for each in account.pending.values() if each is not order} - {None}
    sells = execution.opens > 0  # what ends the new trade
    closing = quote.bid if sells else quote.ask
    for kind, details in wanted.items():
        if "gtdTime" in details and parse_time(details["gtdTime"]) <= quote.time:
            return f"{kind}_ON_FILL_GTD_TIMESTAMP_IN_PAST"
        if details.get("clientExtensions", {}).get("id") in names:
            return f"{kind}_ON_FILL_CLIENT_ORDER_ID_ALREADY_EXISTS"
        if kind is OrderType.TRAILING_STOP_LOSS:
            continue
        price = stop_price(details, execution.opens, execution.price)
        reached = closing <= price if sells == (kind is OrderType.STOP_LOSS) else closing >= price
        if reached:
            return f"{kind}_ON_FILL_LOSS"
    return None


def on_fill(order: Order) -> dict[OrderType, Transaction]:
    """What the order wants to be attached to the trade that it opens."""
    wanted = {kind: order.created.get(f"{key}OnFill") for key, kind in DEPENDENT_KEYS.items()}
    return {kind: details for kind, details in wanted.items() if details}


def stop_price(details: Transaction, units: Decimal, price: Decimal) -> Decimal:
    """The price of a take profit or a stop loss; a stop may be given as its distance from the price of the trade."""
    if "price" in details:
        return Decimal(details["price"])
    distance = Decimal(details["distance"])
    return price - distance if units > 0 else price + distance


def _has_a_twin(account: Account, order: Order, execution: Execution) -> bool:
    """Whether another trade of the pair is as large as the new one and either has orders: nobody could say whose they are."""
    same = [
        trade
        for trade in account.open_in(order.instrument)
        if trade.units == execution.opens and trade not in [closed for closed, _ in execution.closes]
    ]
    return any(on_fill(order) or trade.orders for trade in same)


def _has_margin(account: Account, execution: Execution, quote: Quote, desk: Desk) -> bool:
    """Whether what is left after the fill carries the position: a fill that does not need more margin is never refused."""
    instrument = quote.instrument
    now = value(account, desk.instruments, desk.quote)
    base, counter = conversions(account, instrument, desk.quote)
    long, short = account.units(instrument.name)
    before = margin_of(account, instrument, long, short, base)
    for trade, units in execution.closes:
        long, short = (long + units, short) if trade.units > 0 else (long, short + units)
    long, short = (long + execution.opens, short) if execution.opens > 0 else (long, short + execution.opens)
    after = margin_of(account, instrument, long, short, base)
    if after <= before:
        return True
    paid = execution.units * (quote.mid - execution.price) * counter.loss
    return now.closeout_margin_used - before + after <= now.closeout_nav + min(paid, ZERO)
