"""A simulated account whose trader does what the plans say, one request after the other, and looks at what each changes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from live.books.watched import Watched
from samples import sample_instrument
from simulated import ACCOUNT

from mbats.live.books import Books, Lot
from mbats.live.gate import Quote
from mbats.live.protection import (
    Action,
    Attach,
    CancelOrder,
    Levels,
    MoveStop,
    PlaceStop,
    Plan,
    follow,
    net_stop_name,
    plan,
    protector_name,
)
from mbats.market import to_datetime
from mbats.oanda.trading import KEEP

D = Decimal
SYMBOL = "EUR_USD"
EURUSD = sample_instrument(SYMBOL)
ENDINGS = {"stop": "sl", "trail": "ts", "target": "tp"}
KEYS = {"stop": "stopLoss", "trail": "trailingStopLoss", "target": "takeProfit"}


class Guarded(Watched):
    """The exchange, its books, and a trader that protects lots; prices have no spread unless it is said."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.levels = Levels()
        self.count = 0

    def plan(self) -> Plan:
        return plan(self.books, SYMBOL, EURUSD, self.levels)

    def see(self, bid: str, ask: str | None = None) -> None:
        """A price comes to the trader and to the exchange."""
        self.at(bid, ask)
        quote = Quote(to_datetime(self.engine.now), D(bid), D(ask or bid), True)
        self.levels = follow(self.levels, self.books, SYMBOL, quote)

    def protect(self, most: int | None = None) -> Plan:
        """Carry out the plan, or the first of its requests, up to one that deals at once. None leaves a lot less protected."""
        found = self.plan()
        before = {lot.id: min(covered(self.books, lot), abs(lot.units)) for lot in ours(self.books)}
        for action in found.actions[:most]:
            held = self.books.positions()
            self.do(action)
            if self.books.positions() != held:
                break  # the price has passed this stop: what is left of the plan was made for other positions
            for lot in must_have_stops(self.books):
                assert covered(self.books, lot) >= min(before.get(lot.id, D(0)), abs(lot.units)), (action, lot)
        return found

    def do(self, action: Action) -> None:
        """One request, as the trader sends it."""
        match action:
            case Attach():
                self.attach(action.trade_id, **self._orders(action))
            case PlaceStop():
                assert self.order(str(action.units), type="STOP", **self._stop(action)).status == 201
                self.catch_up()
            case MoveStop():
                body = {"type": "STOP", "instrument": SYMBOL, "units": str(action.units), **self._stop(action)}
                assert self.engine.replace_order(ACCOUNT, str(action.order_id), {"order": body}).status == 201
                self.catch_up()
            case CancelOrder():
                assert self.engine.cancel_order(ACCOUNT, str(action.order_id)).status == 200
                self.catch_up()

    def _orders(self, action: Attach) -> dict[str, Any]:
        own = self.books.trades[action.trade_id].client_id == action.lot_id
        orders: dict[str, Any] = {}
        for name, ending in ENDINGS.items():
            value = getattr(action, name)
            if value is None:
                orders[KEYS[name]] = None
            elif value is not KEEP:
                assert action.lot_id is not None
                ours = {"clientExtensions": {"id": protector_name(action.lot_id, ending, action.trade_id, own=own)}}
                orders[KEYS[name]] = {"distance" if name == "trail" else "price": str(value)} | ours
        return orders

    def _stop(self, action: PlaceStop | MoveStop) -> dict[str, Any]:
        self.count += 1
        ours = {"id": net_stop_name(action.lot_id, self.count)}
        return {"price": str(action.price), "clientExtensions": ours, "tradeClientExtensions": ours}

    def cancel_by_hand(self, trade: int, key: str) -> None:
        """A person takes a stop or target away from a trade."""
        self.attach(trade, **{key: None})

    def own_trade(self, lot_id: str) -> int:
        (found,) = [trade.id for trade in self.books.trades.values() if trade.client_id == lot_id]
        return found

    def lot(self, lot_id: str) -> Lot:
        found = self.books.find_lot(lot_id)
        assert found is not None
        return found


def ours(books: Books) -> list[Lot]:
    return [lot for lot in books.lots if lot.deployment]


def must_have_stops(books: Books) -> list[Lot]:
    return [lot for lot in ours(books) if lot.stop is not None or lot.trail is not None]


def covered(books: Books, lot: Lot) -> Decimal:
    """The units, without sign, that stops at the broker would close for a lot, told by names alone."""
    units = D(0)
    for trade in books.trades.values():
        stop = trade.stop or trade.trailing
        if stop is not None and (stop.client_id or f"{trade.client_id}.sl").rsplit(".", 1)[0] == lot.id:
            units += abs(trade.units)
    for order in books.pending.values():
        if order.client_id is not None and order.client_id.startswith(f"{lot.id}.net"):
            units += abs(order.units)
    return units


def positions(books: Books) -> dict[str, Decimal]:
    """What each deployment holds."""
    return {owner: units for (owner, _), units in books.positions().items() if owner}
