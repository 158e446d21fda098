"""Random clients in random markets: what holds of every account after every step, whichever way the same script is run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from simulated import SECOND, TUESDAY

from mbats.simulator.core import fills, matching, placing
from mbats.simulator.core.account import Account
from mbats.simulator.core.batch import Batch
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.execution import Desk, Execution
from mbats.simulator.core.scan import Scan
from mbats.simulator.core.times import write_time
from mbats.simulator.core.valuation import value
from mbats.simulator.core.values import AccountConfig, Order, OrderState, OrderType, Transaction
from mbats.simulator.errors import Refusal
from mbats.simulator.instruments import terms
from mbats.simulator.market import Market
from mbats.simulator.quotes import Quote
from mbats.simulator.scripted import ScriptedSource

D = Decimal
NAMES = ("EUR_USD", "USD_JPY", "GBP_USD", "EUR_GBP")
MIDDLES = {"EUR_USD": 110_000, "USD_JPY": 150_000, "GBP_USD": 127_000, "EUR_GBP": 86_600}
NETTING = AccountConfig(id="101-001-1-001", balance=D(20_000))
HEDGING = AccountConfig(id="101-001-1-002", balance=D(20_000), currency="EUR", hedging=True)
US = AccountConfig(id="101-001-1-003", balance=D(20_000), fifo=True, financing="NO_FINANCING")
CONFIGS = (NETTING, HEDGING, replace(HEDGING, id="101-001-1-004", currency="GBP", aggregation="ABSOLUTE_SUM"), US)
IDS = tuple(config.id for config in CONFIGS)
GAP = 10_000  # microseconds between two scripted prices
MICROSECOND = np.timedelta64(1, "us")

Step = Callable[["Player"], Any]


class EveryTick(Scan):
    """Skips nothing."""

    def __init__(self, batch: Any, *rest: Any) -> None:
        super().__init__(batch, *rest)
        self.size = len(batch)

    def next(self, at: int) -> int | None:
        return at if at < self.size else None


class Player:
    """One exchange that plays the script: in one go, in small steps, tick by tick, or with a restart after each step."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.market = Market(ScriptedSource({name: terms(name) for name in NAMES}))
        self.engine = Engine(self.market, CONFIGS)
        self.engine.start(TUESDAY)

    def play(self, step: Step) -> Any:
        """The answer to a step, and the transactions that it brought about."""
        try:
            answer = step(self)
        except Refusal as refusal:
            answer = refusal.status, refusal.message
        taken = self.engine.take()
        if self.way == "restarts":
            self.restart()
        return answer, taken

    def change(self, change: str, **more: Any) -> None:
        self.market.apply({"change": change, "time": write_time(self.engine.now), **more})
        self.engine.forget_prices()

    def advance(self, until: np.datetime64) -> None:
        if self.way == "small steps":
            while self.engine.now < until:
                left = int((until - self.engine.now) // MICROSECOND)
                self.engine.advance(self.engine.now + min(left, max(GAP // 3, left // 7)) * MICROSECOND)
        with patch.object(matching, "Scan", EveryTick if self.way == "every tick" else Scan):
            self.engine.advance(until)

    def restart(self) -> None:
        """Go on with another engine that knows only the log and the state."""
        accounts, state = self.engine.accounts.values(), orjson.loads(orjson.dumps(self.engine.state()))
        log = orjson.loads(orjson.dumps([each for account in accounts for each in account.transactions]))
        self.engine = Engine(self.market, CONFIGS)
        self.engine.restore(log, state)
        self.engine.start(self.engine.now)
        assert self.engine.take() == []


UNITS = st.sampled_from([1, 1000, 7000, 40_000, 400_000, -1, -1000, -7000, -40_000, -400_000])
POINTS = st.integers(-120, 120)
NAMED = st.none() | st.sampled_from(["a", "b", "c"])
ACCOUNT = st.sampled_from(IDS)
PAIR = st.sampled_from(NAMES)
TRIGGER = st.sampled_from(["DEFAULT", "DEFAULT", "DEFAULT", "INVERSE", "BID", "ASK", "MID"])
PICK = st.integers(0, 10)
PRICES = st.lists(
    st.tuples(PAIR, POINTS | st.sampled_from([-2500, 2500]), st.integers(0, 25), st.integers(0, 3)), min_size=1, max_size=20
)
FILLS = st.sampled_from(["DEFAULT", "DEFAULT", "REDUCE_FIRST", "REDUCE_ONLY", "OPEN_ONLY"])
IN_FORCE = st.sampled_from(["GTC", "GFD", "GTD", "FOK", "IOC"])


class Clients(RuleBasedStateMachine):
    """Four players get the same script, and have to answer the same and to write the same."""

    def __init__(self) -> None:
        super().__init__()
        self.guards = ExitStack()
        for module in (placing, matching):
            self.guards.enter_context(patch.object(module, "book", book_within_margin))

    @initialize()
    def open(self) -> None:
        self.players = [Player(way) for way in ("one go", "small steps", "every tick", "restarts")]
        self.engine = self.players[0].engine
        self.script: list[Step] = []
        self.mids = dict(MIDDLES)
        self.prices([(name, 0, 10, 1) for name in NAMES])
        for account in IDS:
            for name, units in (("EUR_USD", 7000), ("USD_JPY", -3000)):
                body = {"type": "MARKET", "instrument": name, "units": str(units)} | self.brackets(name, units, 90)
                self.do(lambda player, account=account, body=body: player.engine.create_order(account, {"order": body}))

    def do(self, step: Step) -> Any:
        self.script.append(step)
        first, *others = [player.play(step) for player in self.players]
        for player, other in zip(self.players[1:], others, strict=True):
            assert other == first, player.way
            assert player.engine.state() == self.engine.state(), player.way
        return first[0]

    def price(self, name: str, points: int) -> str:
        """A price so many points away from where the market is."""
        digits = terms(name).display_precision
        return f"{D(self.mids[name] + points).scaleb(-digits):.{digits}f}"

    # --- The market ----------------------------------------------------------------------------------------------------------

    @rule(moves=PRICES)
    def prices(self, moves: list[tuple[str, int, int, int]]) -> None:
        moment, ticks = self.engine.now, []
        for name, move, spread, gap in moves:
            moment += gap * GAP * MICROSECOND
            self.mids[name] = max(MIDDLES[name] // 2, min(MIDDLES[name] * 2, self.mids[name] + move))
            sides = {"bid": self.price(name, 0), "ask": self.price(name, spread)}
            ticks.append({"instrument": name, "time": write_time(moment), **sides})

        def step(player: Player) -> None:
            for tick in ticks:
                player.change("tick", **tick)
            player.advance(moment + GAP * MICROSECOND)

        self.do(step)

    @rule(minutes=st.sampled_from([1, 70, 400, 1500, 4500]))
    def wait(self, minutes: int) -> None:
        until = self.engine.now + np.timedelta64(minutes, "m")
        self.do(lambda player: player.advance(until))

    @rule(
        name=st.none() | PAIR,
        change=st.sampled_from(
            [
                {"change": "halt"},
                {"change": "resume"},
                {"change": "resume"},
                {"change": "spread", "factor": 4},
                {"change": "spread", "factor": 1},
                {"change": "liquidity", "levels": [[0, "500"], [4, "3000"]]},
                {"change": "liquidity", "levels": []},
                {"change": "liquidity", "levels": [[0, "10000000"]]},
                {"change": "margin_rate", "rate": "0.02"},
                {"change": "margin_rate", "rate": "0.2"},
            ]
        ),
    )
    def interfere(self, name: str | None, change: dict[str, Any]) -> None:
        self.do(lambda player: player.change(**change, instrument=name))

    # --- Clients -------------------------------------------------------------------------------------------------------------

    @rule(account=ACCOUNT, name=PAIR, units=UNITS, fill=FILLS, ioc=st.booleans(), named=NAMED, data=st.data())
    def buy_or_sell(
        self, account: str, name: str, units: int, fill: str, ioc: bool, named: str | None, data: st.DataObject
    ) -> None:
        body: dict[str, Any] = {"type": "MARKET", "instrument": name, "units": str(units), "positionFill": fill}
        body |= {"timeInForce": "IOC"} if ioc else {}
        body |= {"tradeClientExtensions": {"id": named}} if named else {}
        body |= self.on_fill(name, units, data) if data.draw(st.booleans()) else {}
        self.do(lambda player: player.engine.create_order(account, {"order": body}))

    @rule(account=ACCOUNT, name=PAIR, units=UNITS, fill=FILLS, named=NAMED, data=st.data())
    def place(self, account: str, name: str, units: int, fill: str, named: str | None, data: st.DataObject) -> None:
        body = self.entry(data) | {"instrument": name, "units": str(units), "positionFill": fill}
        body |= {"price": self.price(name, data.draw(POINTS))}
        body |= {"priceBound": self.price(name, data.draw(POINTS))} if data.draw(st.booleans()) else {}
        body |= {"clientExtensions": {"id": named}} if named else {}
        body |= self.on_fill(name, units, data) if data.draw(st.booleans()) else {}
        self.do(lambda player: player.engine.create_order(account, {"order": body}))

    @rule(account=ACCOUNT, pick=PICK, points=POINTS, what=st.sampled_from(["replace", "cancel", "extend"]))
    def change_an_order(self, account: str, pick: int, points: int, what: str) -> None:
        pending = list(self.engine.accounts[account].pending.values())
        if not pending:
            return
        order = pending[pick % len(pending)]
        if what == "cancel":
            self.do(lambda player: player.engine.cancel_order(account, str(order.id)))
        elif what == "extend":
            body = {"clientExtensions": {"tag": str(points)}, "tradeClientExtensions": {"id": "d"}}
            self.do(lambda player: player.engine.set_order_extensions(account, str(order.id), body))
        elif order.type is OrderType.TRAILING_STOP_LOSS:
            distance = D(100 + abs(points)).scaleb(-terms(order.instrument).display_precision)
            again = {"type": order.type, "tradeID": str(order.trade_id), "distance": str(distance)}
            self.do(lambda player: player.engine.replace_order(account, str(order.id), {"order": again}))
        else:
            new = {"type": order.type, "price": self.price(order.instrument, points)}
            new |= (
                {"tradeID": str(order.trade_id)}
                if order.trade_id
                else {"instrument": order.instrument, "units": str(order.units)}
            )
            self.do(lambda player: player.engine.replace_order(account, str(order.id), {"order": new}))

    @rule(account=ACCOUNT, pick=PICK, points=POINTS, what=st.sampled_from(["close", "part", "orders", "drop", "extend"]))
    def change_a_trade(self, account: str, pick: int, points: int, what: str) -> None:
        open_trades = list(self.engine.accounts[account].open.values())
        if not open_trades:
            return
        trade = open_trades[pick % len(open_trades)]
        number, sign = str(trade.id), 1 if trade.units > 0 else -1
        if what in ("close", "part"):
            body = {"units": "ALL" if what == "close" else str(max(1, abs(trade.units) // 3))}
            self.do(lambda player: player.engine.close_trade(account, number, body))
        elif what == "extend":
            self.do(lambda player: player.engine.set_trade_extensions(account, number, {"clientExtensions": {"id": "a"}}))
        else:
            set_, stop = (
                {"price": self.price(trade.instrument, sign * abs(points))},
                self.price(trade.instrument, -sign * abs(points)),
            )
            trail = {"distance": str(D(50 + abs(points)).scaleb(-terms(trade.instrument).display_precision))}
            orders = {"takeProfit": set_, "stopLoss": {"price": stop}, "trailingStopLoss": trail}
            asked = dict.fromkeys(orders) if what == "drop" else orders
            self.do(lambda player: player.engine.set_trade_orders(account, number, asked))

    @rule(account=ACCOUNT, pick=PICK, units=st.sampled_from(["ALL", "ALL", "500"]), wrong=st.booleans())
    def close_a_position(self, account: str, pick: int, units: str, wrong: bool) -> None:
        trades = list(self.engine.accounts[account].open.values())
        if trades:
            trade = trades[pick % len(trades)]
            body = {"longUnits" if (trade.units > 0) != wrong else "shortUnits": units}
            self.do(lambda player: player.engine.close_position(account, trade.instrument, body))

    @rule(account=ACCOUNT, rate=st.sampled_from(["0.01", "0.05", "0.3"]))
    def configure(self, account: str, rate: str) -> None:
        self.do(lambda player: player.engine.configure(account, {"marginRate": rate}))

    @rule(account=ACCOUNT, what=st.sampled_from([D(1000), D(-1000), D("-19000"), "reset", "closeout"]))
    def administer(self, account: str, what: Any) -> None:
        acts: dict[Any, Step] = {
            "reset": lambda player: player.engine.reset_pl(account),
            "closeout": lambda player: player.engine.force_closeout(account),
        }
        self.do(acts.get(what, lambda player: player.engine.transfer(account, what)))

    def entry(self, data: st.DataObject) -> dict[str, Any]:
        kind = data.draw(st.sampled_from(["LIMIT", "STOP", "MARKET_IF_TOUCHED"]))
        until = write_time(self.engine.now + data.draw(st.sampled_from([1, 5000])) * SECOND)
        return {"type": kind, "timeInForce": data.draw(IN_FORCE), "gtdTime": until, "triggerCondition": data.draw(TRIGGER)}

    def on_fill(self, name: str, units: int, data: st.DataObject) -> dict[str, Any]:
        every = self.brackets(name, units, data.draw(st.integers(-20, 200)))
        return {key: every[key] for key in data.draw(st.sets(st.sampled_from(sorted(every))))}

    def brackets(self, name: str, units: int, points: int) -> dict[str, Any]:
        sign = 1 if units > 0 else -1
        distance = str(D(55 + points // 4).scaleb(-terms(name).display_precision))  # nearer than the stop loss, mostly
        return {
            "takeProfitOnFill": {"price": self.price(name, sign * 2 * points)},
            "stopLossOnFill": {"price": self.price(name, -sign * 2 * points)},
            "trailingStopLossOnFill": {"distance": distance, "timeInForce": "GFD"},
        }

    # --- What holds always ---------------------------------------------------------------------------------------------------

    @invariant()
    def books_are_right(self) -> None:
        for account in self.engine.accounts.values():
            check_money(account)
            check_trades(account)
            check_orders(account, self.engine.now)
            worth = self.engine.valuation(account.config.id)
            assert worth.nav == account.balance + worth.unrealized_pl
            assert worth.margin_available >= 0
            assert public(account) == public(Account.replay(account.config, account.transactions))

    def teardown(self) -> None:
        with self.guards:
            again = Player("one go")
            for step in self.script:
                again.play(step)
            assert log_of(again.engine) == log_of(self.engine)


def book_within_margin(batch: Batch, order: Order, execution: Execution, quote: Quote, desk: Desk) -> Transaction:
    """Book a fill, and see that it left no account short of margin: it would have had to be cancelled."""
    before = value(batch.account, desk.instruments, desk.quote)
    fill = fills.book(batch, order, execution, quote, desk)
    after = value(batch.account, desk.instruments, desk.quote)
    if execution.opens and after.margin_used > before.margin_used:
        # What is realised is converted at bid and ask, what is not at mid.
        converted = abs(before.closeout_unrealized_pl) / 1000 + D("0.0001")
        assert after.closeout_nav + converted >= after.margin_used
    return fill


def log_of(engine: Engine) -> bytes:
    return orjson.dumps([account.transactions for account in engine.accounts.values()])


def public(account: Account) -> dict[str, Any]:
    """All that an account is, but for what no transaction says: where stops trail, and from where touches are awaited."""
    state = dict(vars(account))
    for orders in ("orders", "pending"):
        state[orders] = {number: replace(order, trail=None, initial_price=None) for number, order in state[orders].items()}
    return state


def total(transactions: list[Transaction], kind: str, key: str) -> Decimal:
    return sum((D(each[key]) for each in transactions if each["type"] == kind), D(0))


def check_money(account: Account) -> None:
    log = account.transactions
    assert [each["id"] for each in log] == [str(number) for number in range(1, len(log) + 1)]
    assert all(each["accountID"] == account.config.id and int(each["batchID"]) <= int(each["id"]) for each in log)
    assert [each["time"] for each in log] == sorted(each["time"] for each in log)
    deposits, pl = total(log, "TRANSFER_FUNDS", "amount"), total(log, "ORDER_FILL", "pl")
    paid, commission = total(log, "DAILY_FINANCING", "financing"), total(log, "ORDER_FILL", "commission")
    assert account.balance == deposits + pl + paid - commission
    assert (account.pl, account.financing, account.commission) == (pl, paid, commission)
    positions = account.positions.values()
    assert pl == sum(position.long.pl + position.short.pl for position in positions)
    assert pl == sum(trade.realized_pl for trade in account.trades.values())
    assert paid == sum(trade.financing for trade in account.trades.values())


def check_trades(account: Account) -> None:
    for name in NAMES:
        filled = [
            D(each["units"]) for each in account.transactions if each["type"] == "ORDER_FILL" and each["instrument"] == name
        ]
        assert sum(account.units(name)) == sum(filled)
        assert account.config.hedging or not all(account.units(name))  # a netting account has one side
    for trade in account.trades.values():
        assert (trade.id in account.open) == (trade.closed is None) == bool(trade.units)
        assert abs(trade.initial_units) == abs(trade.units) + trade.closed_units
        assert account.transactions[trade.id - 1]["tradeOpened"]["tradeID"] == str(trade.id)
        assert set(trade.orders.values()) <= set(account.pending)
        assert all(account.pending[number].trade_id == trade.id for number in trade.orders.values())
    names = [trade.extensions["id"] for trade in account.open.values() if "id" in trade.extensions]
    assert len(set(names)) == len(names)


def check_orders(account: Account, now: np.datetime64) -> None:
    for number, order in account.orders.items():
        assert (number in account.pending) == (order.state is OrderState.PENDING) == (order.ended is None)
    for order in account.pending.values():
        assert order.type is not OrderType.MARKET
        assert order.time_in_force not in ("FOK", "IOC")
        assert order.valid_until is None or order.valid_until > now
        assert order.trade_id is None or account.open[order.trade_id].orders[order.type] == order.id
    names = [order.extensions["id"] for order in account.pending.values() if "id" in order.extensions]
    assert len(set(names)) == len(names)


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=25, stateful_step_count=30)
