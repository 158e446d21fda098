"""Books as text and back, exactly, and books of an account of which nothing is known yet. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from mbats.errors import DataError
from mbats.live.books.entries import Placed
from mbats.live.books.parts import Held, Lot, Pending
from mbats.live.books.protecting import attach, lot_named, owner_of, require
from mbats.live.books.reading import read_standing
from mbats.oanda.account import Details
from mbats.oanda.parse import read_part

if TYPE_CHECKING:
    from mbats.live.books.account import Books

VERSION = 1


@dataclass(frozen=True, slots=True)
class Average:
    """The average price at which an owner holds a symbol."""

    owner: str
    symbol: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Record:
    """All that books hold, under the names that they have there."""

    version: int
    account: str
    currency: str
    last_id: int
    seen: datetime
    start: Decimal
    balance: Decimal
    lots: list[Lot]
    averages: list[Average]
    trades: list[Held]
    made: dict[int, str]
    orders: list[Placed]
    realised: dict[str, Decimal]
    financing: dict[str, Decimal]
    costs: dict[str, Decimal]
    transferred: Decimal
    unexplained: Decimal
    doubts: tuple[str, ...]


RECORD = TypeAdapter(Record)


def pending(order: Placed) -> Pending:
    """An order that is not a trade's own, as it waits at the broker."""
    return Pending(order.id, order.type, order.symbol, order.units, order.price, order.client_id, order.reduce_only)


def write(books: Books) -> str:
    """One line of JSON, with a sum over it that shows damage."""
    record = Record(
        version=VERSION,
        account=books.account,
        currency=books.currency,
        last_id=books.last_id,
        seen=books.seen,
        start=books.start,
        balance=books.balance,
        lots=books.lots,
        averages=[Average(*key, price) for key, price in books.averages.items()],
        trades=list(books.trades.values()),
        made=books.made,
        orders=list(books.orders.values()),
        realised=books.realised,
        financing=books.financing,
        costs=books.costs,
        transferred=books.transferred,
        unexplained=books.unexplained,
        doubts=books.doubts,
    )
    text = RECORD.dump_json(record).decode()
    return f'{{"sum":"{_sum(text)}","books":{text}}}'


def read(text: str, kind: type[Books]) -> Books:
    """The reverse of `write`. Raises DataError when the text is damaged, or another version's."""
    try:
        outer = json.loads(text)
        inner = text[text.index('"books":') + len('"books":') : -1]
        if outer["sum"] != _sum(inner):
            raise _damaged("its sum is not that of its text")
        record = RECORD.validate_json(inner)
    except ValidationError as error:
        found = error.errors()[0]
        raise _damaged(f"{'.'.join(map(str, found['loc']))}: {found['msg']}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"it is no JSON of ours ({type(error).__name__})") from None
    if record.version != VERSION:
        raise _damaged(f"it is of version {record.version}, expected {VERSION}")
    books = kind(record.account, record.currency, last_id=record.last_id, balance=record.balance)
    books.seen, books.start = record.seen, record.start
    books.lots, books.made = record.lots, record.made
    books.averages = {(each.owner, each.symbol): each.price for each in record.averages}
    books.trades = {trade.id: trade for trade in record.trades}
    books.orders = {order.id: order for order in record.orders}
    books.pending = {order.id: pending(order) for order in record.orders if not order.of_trade}
    books.realised, books.financing, books.costs = record.realised, record.financing, record.costs
    books.transferred, books.unexplained, books.doubts = record.transferred, record.unexplained, record.doubts
    return books


def adopt(details: Details, currency: str, kind: type[Books]) -> Books:
    """Books that begin with an account as it stands. Raises OandaUnavailable for an order that cannot be read."""
    books = kind(details.summary.id, currency, last_id=details.summary.last_id, balance=details.summary.balance)
    for trade in sorted(details.trades, key=lambda each: each.id):
        owner = owner_of(trade.client_id)
        name = trade.client_id if owner and trade.client_id and books.find_lot(trade.client_id) is None else f"trade:{trade.id}"
        books.trades[trade.id] = Held(trade.id, trade.instrument, trade.units, trade.price, trade.opened, trade.client_id)
        books.deal(Lot(name, owner, trade.instrument, trade.units, trade.price, trade.opened))
        books.made[trade.id] = name
        books.seen = max(books.seen, trade.opened)
    for order in sorted(details.orders, key=lambda each: each.id):
        held = books.trades.get(order.trade_id or 0)
        symbol = order.instrument or (held.symbol if held else "")
        placed = read_part(f"order {order.id}", lambda order=order, symbol=symbol: read_standing(order, symbol))  # type: ignore[misc]
        books.orders[placed.id] = placed
        if not placed.of_trade:
            books.pending[placed.id] = pending(placed)
        elif held is not None:
            books.trades[held.id] = attach(held, placed)
            lot = books.find_lot(lot_named(placed.client_id)) or books.lot_of(held.id)
            if lot is not None:
                books.put_lot(require(lot, placed))
    return books


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _damaged(what: str) -> DataError:
    return DataError(
        f"The books of the account cannot be read: {what}. Nothing may be traded on them; they can be made anew from the "
        "broker's account."
    )
