"""An account as a fold over its transactions: `apply` is the only thing that changes one.

What a transaction does not say, an account does not know. So replaying the log gives the same account, and what an account was
one transaction ago is a shorter replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Self

import numpy as np

from mbats.simulator.core.times import day_end, parse_time
from mbats.simulator.core.values import (
    DEPENDENT,
    ZERO,
    AccountConfig,
    Order,
    OrderState,
    OrderType,
    Position,
    Trade,
    Transaction,
)

CREATES_ORDER = {f"{kind}_ORDER": kind for kind in OrderType}


class Account:
    """Where one account stands after its transactions. Amounts are in its currency.

    `transactions[n - 1]` has the id n. `orders` and `trades` hold all that ever were, `pending` and `open` those that are still,
    oldest first.
    """

    def __init__(self, config: AccountConfig) -> None:
        self.config = config
        self.alias = config.alias
        self.margin_rate: Decimal | None = config.margin_rate
        self.balance = self.pl = self.resettable_pl = self.financing = self.commission = ZERO
        self.created = self.resettable_since = ""
        self.transactions: list[Transaction] = []
        self.orders: dict[int, Order] = {}
        self.pending: dict[int, Order] = {}
        self.trades: dict[int, Trade] = {}
        self.open: dict[int, Trade] = {}
        self.positions: dict[str, Position] = {}
        self.margin_call_since: str | None = None
        self.last_fill: str | None = None

    @classmethod
    def replay(cls, config: AccountConfig, transactions: Iterable[Transaction]) -> Self:
        """The account after these transactions, which begin with its first."""
        account = cls(config)
        for transaction in transactions:
            account.apply(transaction)
        return account

    @property
    def last_id(self) -> int:
        """The id of the last transaction."""
        return len(self.transactions)

    def apply(self, transaction: Transaction) -> None:
        """Take in the next transaction. Raises ValueError when its id is not the next."""
        if transaction["id"] != str(self.last_id + 1):
            raise ValueError(
                f"Transaction {transaction['id']} of account {self.config.id} cannot follow {self.last_id}; it was not applied."
            )
        self.transactions.append(transaction)
        kind = transaction["type"]
        if kind in CREATES_ORDER:
            self._create_order(OrderType(CREATES_ORDER[kind]), transaction)
        elif change := CHANGES.get(kind):
            change(self, transaction)

    # --- Look-ups --------------------------------------------------------------------------------------------------------

    def units(self, instrument: str) -> tuple[Decimal, Decimal]:
        """Open units bought, and open units sold as a negative number."""
        units = [trade.units for trade in self.open.values() if trade.instrument == instrument]
        return sum((each for each in units if each > 0), ZERO), sum((each for each in units if each < 0), ZERO)

    def open_in(self, instrument: str) -> list[Trade]:
        """The open trades of one pair, oldest first."""
        return [trade for trade in self.open.values() if trade.instrument == instrument]

    def order_by(self, specifier: str) -> Order | None:
        """The order with this number, or, after an @, with the client's id: a pending one first, then the newest."""
        if not specifier.startswith("@"):
            return self.orders.get(_number(specifier))
        named = [order for order in self.orders.values() if order.extensions.get("id") == specifier[1:]]
        return next((order for order in named if order.state is OrderState.PENDING), named[-1] if named else None)

    def trade_by(self, specifier: str) -> Trade | None:
        """The trade with this number, or, after an @, with the client's id: an open one first, then the newest."""
        if not specifier.startswith("@"):
            return self.trades.get(_number(specifier))
        named = [trade for trade in self.trades.values() if trade.extensions.get("id") == specifier[1:]]
        return next((trade for trade in named if trade.closed is None), named[-1] if named else None)

    # --- What each transaction does ------------------------------------------------------------------------------------

    def _create(self, tx: Transaction) -> None:
        self.created = self.resettable_since = tx["time"]

    def _configure(self, tx: Transaction) -> None:
        self.alias = tx.get("alias", self.alias)
        self.margin_rate = Decimal(tx["marginRate"]) if "marginRate" in tx else self.margin_rate

    def _fund(self, tx: Transaction) -> None:
        self.balance = Decimal(tx["accountBalance"])

    def _create_order(self, kind: OrderType, tx: Transaction) -> None:
        trade = self.trades[int(tx["tradeID"])] if kind in DEPENDENT else None
        order = Order(
            id=int(tx["id"]),
            type=kind,
            instrument=trade.instrument if trade else tx["instrument"],
            created=tx,
            units=ZERO if trade else Decimal(tx["units"]),
            price=_decimal(tx, "price"),
            bound=_decimal(tx, "priceBound"),
            trigger=tx.get("triggerCondition", "DEFAULT"),
            time_in_force=tx["timeInForce"],
            position_fill=tx.get("positionFill", "DEFAULT"),
            valid_until=_valid_until(tx),
            trade_id=trade.id if trade else None,
            extensions=dict(tx.get("clientExtensions", {})),
            trade_extensions=dict(tx.get("tradeClientExtensions", {})),
            distance=_decimal(tx, "distance"),
        )
        self.orders[order.id] = self.pending[order.id] = order
        if trade:
            trade.orders[kind] = order.id

    def _cancel(self, tx: Transaction) -> None:
        order = self._end(tx, OrderState.CANCELLED)
        if "replacedByOrderID" in tx:
            order.replaced_by = int(tx["replacedByOrderID"])

    def _end(self, tx: Transaction, state: OrderState) -> Order:
        order = self.pending.pop(int(tx["orderID"]))
        order.state, order.ended = state, tx
        trade = self.trades.get(order.trade_id or 0)
        if trade and trade.orders.get(order.type) == order.id:
            del trade.orders[order.type]
        return order

    def _fill(self, tx: Transaction) -> None:
        self._end(tx, OrderState.FILLED)
        self.last_fill = tx["time"]
        pl = Decimal(tx["pl"])
        self.pl += pl
        self.resettable_pl += pl
        self.commission += Decimal(tx["commission"])
        self.balance = Decimal(tx["accountBalance"])
        position = self.positions.setdefault(tx["instrument"], Position(tx["instrument"]))
        for part in [*tx.get("tradesClosed", ()), *([tx["tradeReduced"]] if "tradeReduced" in tx else ())]:
            self._reduce(position, part, tx)
        if opened := tx.get("tradeOpened"):
            self._open(opened, tx)

    def _reduce(self, position: Position, part: Transaction, tx: Transaction) -> None:
        trade = self.open[int(part["tradeID"])]
        units, pl = Decimal(part["units"]), Decimal(part["realizedPL"])  # the units have the sign of the order
        side = position.side(trade.units)
        side.pl += pl
        side.resettable_pl += pl
        trade.realized_pl += pl
        trade.units += units
        trade.closed_units += abs(units)
        trade.closed_value += abs(units) * Decimal(part["price"])
        trade.closing.append(int(tx["id"]))
        if not trade.units:
            trade.closed = tx["time"]
            del self.open[trade.id]

    def _open(self, opened: Transaction, tx: Transaction) -> None:
        trade = Trade(
            id=int(opened["tradeID"]),
            instrument=tx["instrument"],
            price=Decimal(opened["price"]),
            opened=tx["time"],
            initial_units=Decimal(opened["units"]),
            initial_margin=Decimal(opened["initialMarginRequired"]),
            units=Decimal(opened["units"]),
            extensions=dict(opened.get("clientExtensions", {})),
        )
        self.trades[trade.id] = self.open[trade.id] = trade

    def _finance(self, tx: Transaction) -> None:
        self.financing += Decimal(tx["financing"])
        self.balance = Decimal(tx["accountBalance"])
        for of_position in tx["positionFinancings"]:
            position = self.positions[of_position["instrument"]]
            for of_trade in of_position["openTradeFinancings"]:
                trade, amount = self.trades[int(of_trade["tradeID"])], Decimal(of_trade["financing"])
                trade.financing += amount
                position.side(trade.initial_units).financing += amount

    def _extend_order(self, tx: Transaction) -> None:
        order = self.orders[int(tx["orderID"])]
        order.extensions |= tx.get("clientExtensionsModify", {})
        order.trade_extensions |= tx.get("tradeClientExtensionsModify", {})

    def _extend_trade(self, tx: Transaction) -> None:
        self.trades[int(tx["tradeID"])].extensions |= tx["tradeClientExtensionsModify"]

    def _enter_margin_call(self, tx: Transaction) -> None:
        self.margin_call_since = tx["time"]

    def _exit_margin_call(self, tx: Transaction) -> None:
        self.margin_call_since = None

    def _reset_pl(self, tx: Transaction) -> None:
        self.resettable_pl, self.resettable_since = ZERO, tx["time"]
        for position in self.positions.values():
            position.long.resettable_pl = position.short.resettable_pl = ZERO


CHANGES: dict[str, Callable[[Account, Transaction], None]] = {
    "CREATE": Account._create,
    "CLIENT_CONFIGURE": Account._configure,
    "TRANSFER_FUNDS": Account._fund,
    "ORDER_CANCEL": Account._cancel,
    "ORDER_FILL": Account._fill,
    "ORDER_CLIENT_EXTENSIONS_MODIFY": Account._extend_order,
    "TRADE_CLIENT_EXTENSIONS_MODIFY": Account._extend_trade,
    "DAILY_FINANCING": Account._finance,
    "MARGIN_CALL_ENTER": Account._enter_margin_call,
    "MARGIN_CALL_EXIT": Account._exit_margin_call,
    "RESET_RESETTABLE_PL": Account._reset_pl,
}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _decimal(tx: dict[str, Any], key: str) -> Decimal | None:
    return Decimal(tx[key]) if key in tx else None


def _valid_until(tx: Transaction) -> np.datetime64 | None:
    if tx["timeInForce"] == "GTD":
        return parse_time(tx["gtdTime"])
    return day_end(parse_time(tx["time"])) if tx["timeInForce"] == "GFD" else None
