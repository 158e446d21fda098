"""Deployments, people and the broker do whatever they like with one account: what holds after every transaction."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from live.books.watched import Watched
from simulated import ACCOUNT

from mbats.live.books import BookEvent, Books, Filled, Financed, Transferred
from mbats.live.ids import read_client_id
from mbats.oanda.transactions import parse_transaction
from mbats.simulator.instruments import terms

D = Decimal
NAMES = ("EUR_USD", "USD_JPY")
MIDDLES = {"EUR_USD": 110_000, "USD_JPY": 150_000}
OWNERS = ("alpha", "beta", "gamma")
HOUR = np.timedelta64(1, "h")

PAIR = st.sampled_from(NAMES)
OWNER = st.sampled_from(OWNERS)
UNITS = st.sampled_from([1, 100, 700, 4000, 70_000, -1, -100, -700, -4000, -70_000])
POINTS = st.integers(20, 200)
PICK = st.integers(0, 10)
MOVE = st.integers(-60, 60) | st.sampled_from([-900, 900])


class Average:
    """What one owner holds of a symbol, by exact sums of what it cost: a second way to come to its profit."""

    def __init__(self) -> None:
        self.units = self.cost = D(0)

    def deal(self, units: Decimal, price: Decimal) -> Decimal:
        """The profit in the quote currency."""
        closing, profit = D(0), D(0)
        if self.units * units < 0:
            closing = min(abs(units), abs(self.units)).copy_sign(units)
            average = self.cost / self.units
            profit = -closing * (price - average)
            self.units += closing
            self.cost = average * self.units
        rest = units - closing
        self.units += rest
        self.cost += rest * price
        return profit


class Deployments(RuleBasedStateMachine):
    """Everything that can happen to an account of ours."""

    currency = "USD"

    @initialize()
    def open(self) -> None:
        self.desk = Watched(instruments=NAMES, currency=self.currency, balance=D(20_000))
        self.mids = dict(MIDDLES)
        self.counter = 0
        self.owned: dict[tuple[str, str], Average] = {}
        for name in NAMES:
            self.move(name, 0, 10)

    # --- The market --------------------------------------------------------------------------------------------------------

    @rule(name=PAIR, points=MOVE, spread=st.integers(0, 25))
    def move(self, name: str, points: int, spread: int) -> None:
        self.mids[name] = max(MIDDLES[name] // 2, min(MIDDLES[name] * 2, self.mids[name] + points))
        self.check(self.desk.at(self.price(name), self.price(name, spread), name))

    @rule(hours=st.sampled_from([1, 10, 24, 60]))
    def wait(self, hours: int) -> None:
        self.desk.wait(hours * HOUR)
        self.check(self.desk.catch_up())

    @rule(
        name=PAIR,
        change=st.sampled_from(
            [
                {"change": "halt"},
                {"change": "resume"},
                {"change": "resume"},
                {"change": "liquidity", "levels": [[0, "500"], [4, "3000"]]},
                {"change": "liquidity", "levels": [[0, "10000000"]]},
                {"change": "margin_rate", "rate": "0.02"},
                {"change": "margin_rate", "rate": "0.4"},
            ]
        ),
    )
    def interfere(self, name: str, change: dict[str, Any]) -> None:
        self.desk.change(**change, instrument=name)
        self.check(self.desk.catch_up())

    # --- Deployments -------------------------------------------------------------------------------------------------------

    @rule(
        owner=OWNER,
        name=PAIR,
        units=UNITS,
        points=POINTS,
        keys=st.sets(st.sampled_from(["sl", "distance", "tp", "ts"])),
        kind=st.sampled_from(["MARKET", "MARKET", "IOC", "LIMIT", "STOP"]),
        strip=st.booleans(),
    )
    def enter(self, owner: str, name: str, units: int, points: int, keys: set[str], kind: str, strip: bool) -> None:
        client_id = self.name(owner, name, "open")
        body: dict[str, Any] = {"clientExtensions": {"id": client_id}, "tradeClientExtensions": {"id": client_id}}
        sign = 1 if units > 0 else -1
        if kind == "IOC":
            body["timeInForce"] = "IOC"
        elif kind != "MARKET":
            body |= {"type": kind, "price": self.price(name, points * sign * (-1 if kind == "LIMIT" else 1))}
        if "sl" in keys:
            body["stopLossOnFill"] = {
                "price": self.price(name, -2 * sign * points),
                "clientExtensions": {"id": f"{client_id}.sl"},
            }
        elif "distance" in keys:
            body["stopLossOnFill"] = {"distance": self.distance(name, points)}
        if "tp" in keys:
            body["takeProfitOnFill"] = {"price": self.price(name, 2 * sign * points)}
        if "ts" in keys:
            body["trailingStopLossOnFill"] = {"distance": self.distance(name, points)}
        self.desk.engine.strip_on_fill = strip and not points % 3
        self.desk.order(units, name, **body)
        self.check(self.desk.catch_up())

    @rule(owner=OWNER, name=PAIR, share=st.sampled_from([1, 2, 3]))
    def leave(self, owner: str, name: str, share: int) -> None:
        units = self.desk.books.position(owner, name)
        part = units if share == 1 else units // share
        if part:
            self.desk.order(str(-part), name, clientExtensions={"id": self.name(owner, name, "close")})
            self.check(self.desk.catch_up())

    @rule(pick=PICK, points=POINTS)
    def cover_a_lot(self, pick: int, points: int) -> None:
        """A standalone stop for a lot, whether the broker nets it or not."""
        own = [lot for lot in self.desk.books.lots if lot.deployment]
        if own:
            lot = own[pick % len(own)]
            self.counter += 1
            sign = 1 if lot.units > 0 else -1
            stop = {"type": "STOP", "price": self.price(lot.symbol, -sign * points)}
            names = {"clientExtensions": {"id": f"{lot.id}.net.{self.counter}"}}
            self.desk.order(str(-lot.units), lot.symbol, **stop, **names)
            self.check(self.desk.catch_up())

    @rule(pick=PICK, points=POINTS, what=st.sampled_from(["close", "part", "stop", "own stop", "all", "drop", "name"]))
    def change_a_trade(self, pick: int, points: int, what: str) -> None:
        trades = list(self.desk.books.trades.values())
        if not trades:
            return
        trade = trades[pick % len(trades)]
        sign = 1 if trade.units > 0 else -1
        if what in ("close", "part"):
            units = "ALL" if what == "close" else str(max(1, abs(trade.units) // 3))
            self.desk.engine.close_trade(ACCOUNT, str(trade.id), {"units": units})
        elif what == "name":
            self.counter += 1
            self.desk.engine.set_trade_extensions(ACCOUNT, str(trade.id), {"clientExtensions": {"id": f"hand {self.counter}"}})
        else:
            stop: dict[str, Any] = {"price": self.price(trade.symbol, -sign * points)}
            lots = [lot for lot in self.desk.books.lots if lot.deployment and lot.symbol == trade.symbol]
            if what == "own stop" and lots:
                self.counter += 1
                stop["clientExtensions"] = {"id": f"{lots[pick % len(lots)].id}.sl.{self.counter}"}
            orders: dict[str, Any] = {"stopLoss": stop}
            if what in ("all", "drop"):
                orders |= {"takeProfit": {"price": self.price(trade.symbol, sign * points)}}
                orders |= {"trailingStopLoss": {"distance": self.distance(trade.symbol, points)}}
            asked = dict.fromkeys(orders) if what == "drop" else orders
            self.desk.engine.set_trade_orders(ACCOUNT, str(trade.id), asked)
        self.check(self.desk.catch_up())

    @rule(pick=PICK, points=POINTS, what=st.sampled_from(["cancel", "replace", "name"]))
    def change_an_order(self, pick: int, points: int, what: str) -> None:
        waiting = list(self.desk.account.pending.values())
        if not waiting:
            return
        order = waiting[pick % len(waiting)]
        if what == "cancel":
            self.desk.engine.cancel_order(ACCOUNT, str(order.id))
        elif what == "name":
            self.counter += 1
            self.desk.engine.set_order_extensions(ACCOUNT, str(order.id), {"clientExtensions": {"id": f"hand {self.counter}"}})
        elif order.price is not None:
            body = {"type": order.type, "price": self.price(order.instrument, points)}
            rest = {"instrument": order.instrument, "units": str(order.units)}
            body |= {"tradeID": str(order.trade_id)} if order.trade_id else rest
            self.desk.engine.replace_order(ACCOUNT, str(order.id), {"order": body})
        self.check(self.desk.catch_up())

    @rule(pick=PICK, points=st.none() | POINTS)
    def change_a_mind(self, pick: int, points: int | None) -> None:
        lots = self.desk.books.lots
        if lots:
            price = None if points is None else D(points)
            self.desk.books.set_protection(lots[pick % len(lots)].id, stop=price, trail=price, target=None)

    # --- People and the broker ---------------------------------------------------------------------------------------------

    @rule(name=PAIR, units=UNITS, only=st.booleans(), points=POINTS, bracket=st.booleans())
    def trade_by_hand(self, name: str, units: int, only: bool, points: int, bracket: bool) -> None:
        sign = 1 if units > 0 else -1
        body: dict[str, Any] = {"positionFill": "REDUCE_ONLY"} if only else {}
        body |= {"stopLossOnFill": {"price": self.price(name, -sign * points)}} if bracket else {}
        self.desk.order(units, name, **body)
        self.check(self.desk.catch_up())

    @rule(name=PAIR, units=st.sampled_from(["ALL", "ALL", "50"]), named=st.booleans())
    def close_a_position(self, name: str, units: str, named: bool) -> None:
        held = self.desk.books.broker_position(name)
        if held:
            side = "long" if held > 0 else "short"
            body: dict[str, Any] = {f"{side}Units": units}
            body |= {f"{side}ClientExtensions": {"id": self.name("alpha", name, "flatten")}} if named else {}
            self.desk.engine.close_position(ACCOUNT, name, body)
            self.check(self.desk.catch_up())

    @rule(what=st.sampled_from([D("1000.5"), D(-300), "closeout"]))
    def administer(self, what: Any) -> None:
        if what == "closeout":
            self.desk.engine.force_closeout(ACCOUNT)
        else:
            self.desk.engine.transfer(ACCOUNT, what)
        self.check(self.desk.catch_up())

    # --- What holds always -------------------------------------------------------------------------------------------------

    def check(self, events: list[BookEvent]) -> None:
        self.desk.events.clear()
        for event in events:
            if isinstance(event, Filled):
                self.check_fill(event)
        assert not self.desk.books.unexplained

    def check_fill(self, event: Filled) -> None:
        body = event.transaction.body
        intent = read_client_id(event.client_id)
        of_trade = body["reason"].endswith(("STOP_LOSS_ORDER", "TAKE_PROFIT_ORDER", "_CLOSE", "_CLOSEOUT"))
        if of_trade:  # what ends a trade never opens a position, for whomever
            assert event.units * event.position <= 0
            assert event.lot_id is not None
            assert all(lot.id != event.lot_id or lot.units * event.units < 0 for lot in self.desk.books.lots)
        else:
            assert event.owner == (intent.deployment if intent else "")
            assert event.units == D(body["units"])
        assert (event.role == "external") == (not event.owner or body["reason"] == "MARKET_ORDER_POSITION_CLOSEOUT")
        profit = self.owned.setdefault((event.owner, event.symbol), Average()).deal(event.units, event.price)
        factor = D(body[f"{'gain' if profit > 0 else 'loss'}QuoteHomeConversionFactor"])
        assert abs(event.pnl - (profit * factor).quantize(D("0.0001"), ROUND_HALF_UP)) <= D("0.0001")

    def teardown(self) -> None:
        """The same log makes the same books, from the start or from any point on; money adds up over all of it."""
        if not hasattr(self, "desk"):
            return
        log = self.desk.account.transactions
        whole = Books(ACCOUNT, self.currency)
        kept = {0: whole.to_json()}
        sums = {"pnl": D(0), "other": D(0)}
        for body in log:
            for event in whole.apply(parse_transaction(body)):
                if isinstance(event, Filled):
                    sums["pnl"] += event.pnl
                elif isinstance(event, Financed):
                    sums["other"] += sum(event.amounts.values(), D(0))
                elif isinstance(event, Transferred):
                    sums["other"] += event.amount
            kept[whole.last_id] = whole.to_json()
        for start in {0, len(log) // 3, len(log) // 2, len(log) - 1}:
            again = Books.from_json(kept[start])
            for body in log[start:]:
                again.apply(parse_transaction(body))
            assert again.to_json() == kept[len(log)]
        assert sum(sum(of.values(), D(0)) for of in (whole.realised, whole.financing)) + whole.transferred == whole.balance
        assert sum(units for owner, units in whole.realised.items() if owner) + sums["other"] + whole.realised.get("", D(0)) == (
            whole.balance
        )
        if not any(whole.broker_position(name) for name in NAMES) and not whole.positions():
            assert abs(sums["pnl"] + sums["other"] - whole.balance) < D("0.01") * (
                1 + len(log)
            )  # all is realised, by whichever way

    # --- Words --------------------------------------------------------------------------------------------------------------

    def name(self, owner: str, symbol: str, purpose: str) -> str:
        self.counter += 1
        return f"mbats:{owner}:{symbol}:20240305T120000Z:{purpose}-{self.counter}"

    def price(self, name: str, points: int = 0) -> str:
        digits = terms(name).display_precision
        return f"{D(self.mids[name] + points).scaleb(-digits):.{digits}f}"

    def distance(self, name: str, points: int) -> str:
        return f"{D(60 + points).scaleb(-terms(name).display_precision)}"


class DeploymentsInEuro(Deployments):
    """The same where every profit is converted."""

    currency = "EUR"


TestDeployments = Deployments.TestCase
TestDeployments.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestDeploymentsInEuro = DeploymentsInEuro.TestCase
TestDeploymentsInEuro.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
