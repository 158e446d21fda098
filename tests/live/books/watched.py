"""A simulated account whose books are compared with the exchange's own after every single transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from simulated import ACCOUNT, Simulated

from mbats.live.books import BookEvent, Books, Filled, Protector
from mbats.live.gate import Intent
from mbats.live.ids import client_id
from mbats.oanda.transactions import Transaction, parse_transaction
from mbats.simulator.core.account import Account
from mbats.simulator.core.placing import Reply
from mbats.simulator.core.values import Order, OrderType

E = TypeVar("E")

BAR = datetime(2024, 3, 5, 12, tzinfo=UTC)


def our_id(deployment: str, purpose: str = "open-long", symbol: str = "EUR_USD", bar: datetime = BAR) -> str:
    return client_id(Intent(deployment, symbol, bar, purpose))


class Watched(Simulated):
    """An exchange with one account, its books, and every event that they gave."""

    def __init__(self, *, books: Books | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.books = books or Books(ACCOUNT, self.account.config.currency)
        self.shadow = Account(self.account.config)  # the exchange's own account as it was after each transaction
        self.events: list[BookEvent] = []
        self.positions: dict[tuple[str, str], Decimal] = {}
        self.catch_up()

    def catch_up(self) -> list[BookEvent]:
        """Give the books what has happened since; compares after each."""
        fresh: list[BookEvent] = []
        for body in self.account.transactions[self.books.last_id :]:
            self.shadow.apply(body)
            events = self.books.apply(parse_transaction(body))
            self._follow(body, events)
            compare(self.books, self.shadow)
            fresh += events
        self.events += fresh
        return fresh

    def _follow(self, body: dict[str, Any], events: Iterable[BookEvent]) -> None:
        """Positions summed from nothing but what was said of fills."""
        fills = found(events, Filled)
        assert sum((fill.units for fill in fills), Decimal(0)) == (Decimal(body["units"]) if body["type"] == "ORDER_FILL" else 0)
        for fill in fills:
            key = fill.owner, fill.symbol
            self.positions[key] = self.positions.get(key, Decimal(0)) + fill.units
            assert fill.position == self.positions[key] == self.books.position(*key)
        assert self.books.positions() == {key: units for key, units in self.positions.items() if units}

    # --- What deployments and people do ------------------------------------------------------------------------------------

    def enter(self, deployment: str, units: int, instrument: str = "EUR_USD", *, purpose: str = "", **more: Any) -> str:
        """An entry as the trader sends it; its client id, under which the lot is known."""
        name = our_id(deployment, purpose or ("open-long" if units > 0 else "open-short"), instrument)
        for key, end in (("stopLossOnFill", "sl"), ("takeProfitOnFill", "tp"), ("trailingStopLossOnFill", "ts")):
            if key in more:
                more[key] = {**more[key], "clientExtensions": {"id": f"{name}.{end}"}}
        names = {"clientExtensions": {"id": name}, "tradeClientExtensions": {"id": name}}
        assert self.order(units, instrument, **names, **more).status == 201
        self.catch_up()
        return name

    def leave(self, deployment: str, units: int, instrument: str = "EUR_USD", *, purpose: str = "close") -> list[BookEvent]:
        """An exit by a market order of its own, which may net against others' trades."""
        assert self.order(units, instrument, clientExtensions={"id": our_id(deployment, purpose, instrument)}).status == 201
        return self.catch_up()

    def close(self, trade: int, units: str = "ALL") -> list[BookEvent]:
        self.engine.close_trade(ACCOUNT, str(trade), {"units": units})
        return self.catch_up()

    def attach(self, trade: int, **orders: Any) -> list[BookEvent]:
        reply = self.engine.set_trade_orders(ACCOUNT, str(trade), orders)
        assert reply.status == 200, reply.body
        return self.catch_up()

    def at(self, bid: str, ask: str | None = None, instrument: str = "EUR_USD") -> list[BookEvent]:
        """The price goes to `bid`, and what it sets off happens."""
        self.price(instrument, bid, ask or bid)
        return self.catch_up()

    def foreign(self, units: int, instrument: str = "EUR_USD", **more: Any) -> Reply:
        reply = self.order(units, instrument, **more)
        self.catch_up()
        return reply


def found(events: Iterable[BookEvent], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def only(events: Iterable[BookEvent], kind: type[E]) -> E:
    (event,) = found(events, kind)
    return event


def compare(books: Books, account: Account) -> None:
    """The books are sound, equal to the exchange's account, and the same after a round trip through text."""
    assert books.check() == []
    assert books.balance == account.balance
    for name in {trade.instrument for trade in account.trades.values()}:
        assert books.broker_position(name) == sum(account.units(name))
        assert sum(units for (_, symbol), units in books.positions().items() if symbol == name) == sum(account.units(name))
    trades = {
        trade.id: (trade.instrument, trade.units, trade.price, trade.opened[:19], trade.extensions.get("id"))
        for trade in account.open.values()
    }
    assert trades == {
        trade.id: (trade.symbol, trade.units, trade.price, f"{trade.opened:%Y-%m-%dT%H:%M:%S}", trade.client_id)
        for trade in books.trades.values()
    }
    for trade in books.trades.values():
        orders = {kind: account.orders[number] for kind, number in account.open[trade.id].orders.items()}
        assert trade.stop == protector(orders.get(OrderType.STOP_LOSS))
        assert trade.target == protector(orders.get(OrderType.TAKE_PROFIT))
        assert trade.trailing == protector(orders.get(OrderType.TRAILING_STOP_LOSS))
    pending = [order for order in account.pending.values() if not order.type.of_trade]
    assert {order.id: (order.type, order.instrument, order.units, order.price) for order in pending} == {
        order.id: (order.type, order.symbol, order.units, order.price) for order in books.pending.values()
    }
    assert [order.extensions.get("id") for order in pending] == [order.client_id for order in books.pending.values()]
    assert [order.position_fill == "REDUCE_ONLY" for order in pending] == [each.reduce_only for each in books.pending.values()]
    assert set(books.averages) == set(books.positions())
    assert set(books.made) <= set(books.trades)
    text = books.to_json()
    assert Books.from_json(text).to_json() == text


def protector(order: Order | None) -> Protector | None:
    if order is None:
        return None
    return Protector(
        order.id, order.price, order.distance if order.type is OrderType.TRAILING_STOP_LOSS else None, order.extensions.get("id")
    )


def transaction(number: int, kind: str, **body: Any) -> Transaction:
    """One as the broker would write it."""
    return parse_transaction({"id": str(number), "type": kind, "time": "2024-03-05T12:00:00.000000000Z", **body})
