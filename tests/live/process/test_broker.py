"""What a strategy asks for, what it is told, and what it holds, whatever the trader says and in whatever order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import backtrader as bt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live.process.trader import CASH, START, InProcess, adopt, begin, live_bar, minutes, money, news, one_bar, past

from mbats.errors import DataError
from mbats.live.process.ending import ending
from mbats.live.wire import Exit, Form, Holding, Moment, OrderEvent, Standing, Status, Submit, Withdraw
from mbats.market import Granularity

D = Decimal
SCRIPTED = """
import datetime
import backtrader as bt
from backtrader import Order


class Scripted(bt.Strategy):
    \"\"\"Does on each live bar what the script says.\"\"\"

    params = dict(script={}, early="")

    def __init__(self):
        self.log, self.trades, self.stored, self.live, self.o, self.adopted = [], [], [], 0, None, None
        self.values = []

    def run(self, code):
        exec(code, {"self": self, "bt": bt, "Order": Order, "datetime": datetime})

    def prenext(self):
        self.run(self.p.early)

    def next(self):
        self.live += 1
        self.values.append((self.broker.getvalue(), self.broker.getcash()))
        self.run(self.p.script.get(str(self.live), ""))

    def notify_order(self, order):
        self.log.append((order.ref, order.getstatusname(), order.info.get("reason"), self.getposition(order.data).size))
        self.run(self.p.script.get(f"{order.getstatusname()} {len(self.log)}", ""))

    def notify_trade(self, trade):
        self.log.append(("trade", trade.size, round(trade.pnl, 6), trade.isclosed))

    def notify_store(self, message, *args, **kwargs):
        self.log.append((message, kwargs["units"]))

    def notify_data(self, data, status, *args, **kwargs):
        self.stored.append((data._name, data._getstatusname(status)))
"""
Step = OrderEvent | Moment | Callable[[list[Submit]], Any]


def play(
    script: dict[int | str, str],
    steps: Iterable[Step] = (),
    *,
    history: int = 3,
    symbols: Any = ("EUR_USD",),
    taken: Any = None,
    **more: Any,
) -> tuple[Any, InProcess]:
    """Run the script over bars, one before each of its lines that has none; a step may be made from what was submitted."""
    live = InProcess()
    code = {str(key): text for key, text in script.items()}

    def conversation() -> Iterator[Any]:
        for step in steps:
            yield step(live.submitted) if callable(step) else step

    pasts = [past(symbol, minutes(0, history)) for symbol in symbols]
    first = begin(SCRIPTED, symbols, script=code, **more)
    return live.play(first, pasts, taken or adopt(), conversation()), live


def statuses(strategy: Any, ref: int) -> list[str]:
    return [entry[1] for entry in strategy.log if entry[0] == ref]


def filled(n: int = 0, status: Status = Status.COMPLETED, units: Any = None, price: str = "1.1003", **more: Any) -> Step:
    """A fill of the nth order submitted, whole unless said."""
    return lambda said: news(said[n].ref, status, said[n].units if units is None else units, price, **more)


def said_of(n: int, status: Status, **more: Any) -> Step:
    return lambda said: news(said[n].ref, status, **more)


def bars(*numbers: int) -> list[Moment]:
    return [one_bar(n) for n in numbers]


# --- what is asked for -----------------------------------------------------------------------------------------------------

T = "bt.Order."
LAST = START + timedelta(minutes=3)  # of the bar decided on


def asked(code: str, **more: Any) -> Submit:
    _, live = play({1: code}, bars(3), **more)
    (submit,) = live.submitted
    return submit


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("self.buy(size=1000.9)", {"units": D(1000), "form": Form.MARKET}),
        ("self.sell(size=500)", {"units": D(-500), "form": Form.MARKET}),
        ("self.buy(size=1, exectype=Order.Limit, price=1.0951449)", {"form": Form.LIMIT, "price": D("1.09514")}),
        ("self.sell(size=1, exectype=Order.Stop, price=1.09)", {"form": Form.STOP, "price": D("1.09")}),
        (
            "self.buy(size=1, exectype=Order.StopLimit, price=1.12, plimit=1.1301)",
            {"form": Form.STOP_LIMIT, "price": D("1.12"), "limit": D("1.1301")},
        ),
        (
            "self.sell(size=1, exectype=Order.StopTrail, trailamount=0.0050004)",
            {"form": Form.STOP_TRAIL, "price": D("1.0953"), "trail": D("0.005")},
        ),
        (
            "self.sell(size=1, exectype=Order.StopTrail, trailpercent=0.01)",
            {"form": Form.STOP_TRAIL, "price": D("1.0893"), "trail": D("0.011")},
        ),
        (
            "self.buy(size=1, exectype=Order.StopTrailLimit, price=1.1, plimit=1.099, trailamount=0.01)",
            {"form": Form.STOP_TRAIL_LIMIT, "price": D("1.11"), "limit": D("1.109"), "trail": D("0.01")},
        ),
    ],
)
def test_every_form_of_order_reaches_the_trader_in_exact_numbers(code: str, expected: dict[str, Any]):
    submit = asked(code)

    nothing = {"price": None, "limit": None, "trail": None, "oco": submit.ref, "stop": None, "target": None, "valid_until": None}
    known = {"symbol": "EUR_USD", "units": D(1), "bar": LAST, "day": False} | nothing | expected
    if code.startswith("self.sell") and "units" not in expected:
        known["units"] = D(-1)
    assert {name: getattr(submit, name) for name in known} == known


def at(hour: int, minute: int, day: int = 5) -> datetime:
    return datetime(2024, 3, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("valid", "granularity", "until", "day"),
    [
        ("None", "M1", None, False),
        ("0", "M1", None, True),
        ("datetime.timedelta()", "M1", None, True),
        ("datetime.timedelta(minutes=5)", "M1", at(12, 9), False),  # the bar of 12:08 is the last on which it is tried
        ("datetime.datetime(2024, 3, 5, 12, 30)", "M1", at(12, 31), False),
        ("datetime.datetime(2024, 3, 5, 14, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))", "M1", at(12, 31), False),
        ("datetime.date(2024, 3, 6)", "M1", at(0, 1, 6), False),
        ("bt.date2num(datetime.datetime(2024, 3, 5, 12, 30))", "M1", at(12, 31), False),
        ("datetime.timedelta(minutes=5)", "H1", at(13, 0), False),
        ("datetime.timedelta(days=1)", "D", at(22, 0, 6), False),
        ("datetime.datetime(2024, 3, 5, 12, 30, 30)", "M1", at(12, 31), False),
    ],
)
def test_an_order_stands_until_the_last_bar_is_over_on_which_a_backtest_tries_it(
    valid: str, granularity: str, until: datetime | None, day: bool
):
    submit = asked(f"self.buy(size=1, exectype=Order.Limit, price=1.0, valid={valid})", granularity=granularity)

    assert (submit.valid_until, submit.day) == (until, day)


@given(st.integers(0, 10 * 365 * 86400))
def test_no_bar_is_lost_to_the_rounding_of_days_as_floats(seconds: int):
    moment = (START + timedelta(seconds=seconds)).replace(tzinfo=None)
    order = SimpleNamespace(p=SimpleNamespace(valid=moment), valid=bt.date2num(moment), exectype=bt.Order.Limit)

    until, _ = ending(order, Granularity.S5)

    assert until == (moment - timedelta(seconds=moment.second % 5 - 5)).replace(tzinfo=UTC)


def test_a_market_order_has_no_end():
    assert asked("self.buy(size=1, valid=datetime.timedelta(minutes=1))").valid_until is None


def test_a_bracket_is_one_order_with_its_stop_and_target():
    submit = asked("self.buy_bracket(size=10, exectype=Order.Market, stopprice=1.0949999, limitprice=1.12)")

    assert (submit.form, submit.units) == (Form.MARKET, D(10))
    assert submit.stop == Exit(submit.ref + 1, price=D("1.095"))
    assert submit.target == Exit(submit.ref + 2, price=D("1.12"))


def test_a_bracket_may_have_a_trailing_stop_and_no_target():
    submit = asked(
        "self.sell_bracket(size=10, price=1.2, stopexec=Order.StopTrail, stopargs=dict(trailamount=0.004), limitexec=None)"
    )

    assert (submit.form, submit.units, submit.price) == (Form.LIMIT, D(-10), D("1.2"))
    assert submit.stop == Exit(submit.ref + 1, trail=D("0.004"))
    assert submit.target is None


def test_orders_that_cancel_each_other_name_the_first_of_them():
    code = "a = self.buy(size=1, exectype=Order.Limit, price=1.0); b = self.buy(size=1, exectype=Order.Stop, price=1.2, oco=a)"
    _, live = play({1: f"{code}; self.sell(size=1, exectype=Order.Stop, price=1.0, oco=b)"}, bars(3))

    first, second, third = live.submitted
    assert (first.oco, second.oco, third.oco) == (first.ref, first.ref, first.ref)


BRACKET = "self.buy_bracket(size=10, exectype=Order.Market, stopprice=1.09, limitprice=1.12"


@pytest.mark.parametrize(
    ("code", "reason", "count"),
    [
        ("self.buy(size=0.4)", "UNITS_MINIMUM_NOT_MET", 1),
        ("self.buy(size=1e9)", "UNITS_LIMIT_EXCEEDED", 1),
        ("self.buy(size=float('nan'))", "UNITS_INVALID", 1),
        ("self.buy(size=float('inf'))", "UNITS_INVALID", 1),
        ("self.buy(size=1, exectype=Order.Limit, price=float('nan'))", "PRICE_INVALID", 1),
        ("self.buy(size=1, exectype=Order.Close)", "CLOSE_ORDER_UNKNOWN", 1),
        ("self.sell(size=1, exectype=Order.StopTrail)", "TRAIL_INVALID", 1),
        ("self.sell(size=1, exectype=Order.StopTrail, trailamount=0.000001)", "TRAIL_INVALID", 1),
        (f"{BRACKET}, limitexec=Order.StopLimit)", "BRACKET_UNKNOWN", 3),
        (f"{BRACKET}, stopexec=Order.Limit)", "BRACKET_UNKNOWN", 3),
        (f"{BRACKET}, stopexec=Order.StopTrail)", "TRAIL_INVALID", 3),
        (f"{BRACKET}, stopargs=dict(valid=datetime.timedelta(1)))", "BRACKET_UNKNOWN", 3),
        (
            "o = self.buy(size=10, transmit=False); self.sell(size=4, exectype=Order.Stop, price=1.0, parent=o)",
            "BRACKET_UNKNOWN",
            2,
        ),
        (
            "o = self.buy(size=10, transmit=False); self.buy(size=10, exectype=Order.Stop, price=1.2, parent=o)",
            "BRACKET_UNKNOWN",
            2,
        ),
    ],
)
def test_what_cannot_be_had_is_rejected_with_its_reason_and_never_sent(code: str, reason: str, count: int):
    strategy, live = play({1: code}, bars(3, 4))

    assert live.submitted == []
    assert [entry[1:3] for entry in strategy.log] == [("Rejected", reason)] * count


def test_stop_and_target_of_a_refused_entry_are_refused_with_it():
    strategy, live = play({1: BRACKET.replace("size=10", "size=0.1") + ")"}, bars(3))

    assert live.submitted == []
    # A size of zero is none for Backtrader, which then makes no stop and no target.
    assert strategy.log[0][1:3] == ("Rejected", "UNITS_MINIMUM_NOT_MET")
    assert {entry[1] for entry in strategy.log} == {"Rejected"}


def test_an_order_that_joins_a_bracket_already_sent_is_refused():
    code = {
        1: BRACKET.replace("self.", "self.o = self.") + ")",
        2: "self.sell(size=10, exectype=Order.Stop, price=1.0, parent=self.o[0])",
    }
    strategy, live = play(code, bars(3, 4))

    assert len(live.submitted) == 1
    assert strategy.log[-1][1:3] == ("Rejected", "PARENT_GONE")


def test_orders_on_bars_of_the_past_are_refused_and_those_of_the_first_live_bar_taken():
    live = InProcess()
    first = begin(SCRIPTED, script={"1": "self.buy(size=1)"}, early="self.buy(size=2)")

    strategy = live.play(first, [past("EUR_USD", minutes(0, 3))], adopt(), bars(3))

    assert [submit.units for submit in live.submitted] == [D(1)]
    assert [entry[1:3] for entry in strategy.log] == [("Rejected", "HISTORY")] * 3 + [("Submitted", None)]


def test_a_bar_that_came_late_is_decided_on_under_the_newest():
    late, newer = one_bar(3, symbol="GBP_USD"), one_bar(5)
    _, live = play({1: "", 2: "self.buy(data=self.datas[1], size=1)"}, [newer, late], symbols=("EUR_USD", "GBP_USD"))

    assert [submit.bar for submit in live.submitted] == [START + timedelta(minutes=5)]


# --- cancelling ------------------------------------------------------------------------------------------------------------


def test_a_cancelled_order_stays_alive_until_the_trader_says_that_it_ended():
    code = {
        1: "self.o = self.buy(size=5, exectype=Order.Limit, price=1.0)",
        2: "self.cancel(self.o)",
        3: "self.seen = self.o.alive()",
    }
    strategy, live = play(code, [*bars(3, 4, 5), said_of(0, Status.CANCELED, reason="CLIENT_REQUEST")])

    ref = live.submitted[0].ref
    assert [message for message in live.said if isinstance(message, Withdraw)] == [Withdraw(ref)]
    assert strategy.seen is True
    assert statuses(strategy, ref) == ["Submitted", "Accepted", "Canceled"]
    assert strategy.log[-1][2] == "CLIENT_REQUEST"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_bracket_that_waits_is_cancelled_whole_by_its_entry(which: int):
    code = {1: "self.o = self.buy_bracket(size=5, price=1.0, stopprice=0.9, limitprice=1.2)", 2: f"self.cancel(self.o[{which}])"}
    strategy, live = play(code, [*bars(3, 4), said_of(0, Status.CANCELED)])

    ref = live.submitted[0].ref
    assert [message for message in live.said if isinstance(message, Withdraw)] == [Withdraw(ref)]
    assert [entry[0] for entry in strategy.log if entry[1] == "Canceled"] == [ref, ref + 1, ref + 2]


def test_to_cancel_the_stop_of_an_open_trade_is_to_cancel_its_target_too_and_each_is_asked_once():
    code = {1: f"self.o = {BRACKET})", 2: "self.cancel(self.o[1]); self.cancel(self.o[2]); self.cancel(self.o[0])"}
    _, live = play(code, [*bars(3), filled(), *bars(4)])

    ref = live.submitted[0].ref
    assert [message for message in live.said if isinstance(message, Withdraw)] == [Withdraw(ref + 1), Withdraw(ref + 2)]


def test_a_cancellation_that_nothing_came_of_can_be_asked_for_again_on_the_next_bar():
    order, cancel = "self.o = self.buy(size=5, exectype=Order.Limit, price=1.0)", "self.cancel(self.o)"
    _, live = play({1: order, 2: f"{cancel}; {cancel}", 3: cancel}, bars(3, 4, 5))

    assert [message for message in live.said if isinstance(message, Withdraw)] == [Withdraw(live.submitted[0].ref)] * 2


def test_an_order_that_was_never_sent_is_cancelled_without_the_trader():
    code = {1: "self.o = self.buy(size=5, transmit=False)", 2: "self.cancel(self.o)", 3: "self.cancel(self.o)"}
    strategy, live = play(code, bars(3, 4, 5))

    assert not any(isinstance(message, Submit | Withdraw) for message in live.said)
    assert [entry[1:3] for entry in strategy.log] == [("Rejected", "WITHDRAWN")]


def test_open_orders_are_those_that_may_still_fill():
    code = {
        1: "self.o = self.buy(size=5, exectype=Order.Limit, price=1.0); self.buy(size=6)",
        2: "self.open = [o.ref for o in self.broker.get_orders_open()]",
    }
    strategy, live = play(code, [*bars(3), filled(1), *bars(4)])

    assert strategy.open == [live.submitted[0].ref]


# --- news ------------------------------------------------------------------------------------------------------------------


def test_news_comes_between_bars_and_may_be_answered_at_once():
    code = {1: "self.buy(size=1000)", "Completed 3": "self.sell(size=1000, exectype=Order.Stop, price=1.09)"}
    strategy, live = play(code, [*bars(3), filled(position=D(1000)), filled(1, units=-1000, price="1.09", pnl=D("-10.3"))])

    assert [submit.units for submit in live.submitted] == [D(1000), D(-1000)]
    assert live.submitted[1].bar == LAST
    assert [entry[1:] for entry in strategy.log] == [
        ("Submitted", None, 0),
        ("Accepted", None, 1000.0),
        ("Completed", None, 1000.0),
        (1000.0, 0.0, False),
        ("Submitted", None, 1000.0),
        ("Accepted", None, 0.0),
        ("Completed", None, 0.0),
        (0.0, -10.3, True),
    ]


def test_late_and_doubled_news_changes_nothing():
    steps = [filled(position=D(5)), said_of(0, Status.SUBMITTED), said_of(0, Status.ACCEPTED), said_of(0, Status.COMPLETED)]
    late = [said_of(0, Status.CANCELED), said_of(0, Status.EXPIRED), said_of(0, Status.REJECTED), said_of(0, Status.MARGIN)]
    strategy, live = play({1: "self.buy(size=5)"}, [*bars(3), *steps, *late])

    assert statuses(strategy, live.submitted[0].ref) == ["Submitted", "Accepted", "Completed"]
    assert strategy.getposition().size == 5


@pytest.mark.parametrize(
    ("status", "name"),
    [(Status.REJECTED, "Rejected"), (Status.MARGIN, "Margin"), (Status.EXPIRED, "Expired"), (Status.CANCELED, "Canceled")],
)
def test_an_entry_that_ends_without_a_fill_takes_its_stop_and_target_with_it(status: Status, name: str):
    ends = said_of(0, status, reason="A_WORD", detail="a sentence")
    strategy, live = play({1: f"self.o = {BRACKET})"}, [*bars(3), ends])

    ref = live.submitted[0].ref
    known = ["Submitted"] if status is Status.REJECTED else ["Submitted", "Accepted"]
    assert statuses(strategy, ref) == [*known, name]
    assert statuses(strategy, ref + 1) == statuses(strategy, ref + 2) == [*known, "Canceled"]
    assert (strategy.o[0].info.reason, strategy.o[0].info.detail) == ("A_WORD", "a sentence")
    assert not any(order.alive() for order in strategy.o)


def test_a_stop_that_fills_ends_the_target_at_once_and_the_trade():
    strategy, live = play(
        {1: f"self.o = {BRACKET})"}, [*bars(3), filled(), lambda said: news(said[0].stop.ref, Status.COMPLETED, -10, "1.09")]
    )

    ref = live.submitted[0].ref
    assert [entry[:2] for entry in strategy.log[-3:]] == [(ref + 1, "Completed"), ("trade", 0.0), (ref + 2, "Canceled")]


def test_a_close_by_hand_ends_the_stop_and_target_but_not_those_of_another_symbol_or_a_waiting_entry():
    waiting = "self.w = self.buy_bracket(size=5, price=1.0, stopprice=0.9, limitprice=1.2)"
    other = BRACKET.replace("(size", "(data=self.datas[1], size")
    code = {1: f"self.o = {BRACKET}); {waiting}; self.q = {other})", 2: "self.close()"}
    steps = [*bars(3), filled(), filled(2, symbol="GBP_USD"), *bars(4), filled(3, units=-10)]
    strategy, _ = play(code, steps, symbols=("EUR_USD", "GBP_USD"))

    assert [order.getstatusname() for order in strategy.o] == ["Completed", "Canceled", "Canceled"]
    assert [order.alive() for order in strategy.w] == [True, True, True]
    assert [order.alive() for order in strategy.q] == [False, True, True]


def test_what_is_left_of_a_trade_is_what_its_stop_closes():
    steps = [*bars(3), filled(), *bars(4), filled(1, units=-4), lambda said: news(said[0].stop.ref, Status.COMPLETED, -6, "1.09")]
    strategy, _ = play({1: f"self.o = {BRACKET})", 2: "self.sell(size=4)"}, steps)

    assert strategy.o[1].status == strategy.o[1].Completed
    assert (strategy.o[1].executed.size, strategy.o[1].executed.remsize) == (-6, 0)
    assert strategy.getposition().size == 0


def test_a_part_that_fills_leaves_the_order_open_until_the_rest_is_cancelled():
    part = filled(status=Status.PARTIAL, units=3, position=D(3))
    strategy, live = play({1: "self.o = self.buy(size=10)"}, [*bars(3), part, said_of(0, Status.CANCELED)])

    assert statuses(strategy, live.submitted[0].ref) == ["Submitted", "Accepted", "Partial", "Canceled"]
    assert (strategy.o.executed.size, strategy.o.executed.remsize, strategy.getposition().size) == (3, 7, 3)


def test_an_entry_that_filled_in_part_keeps_its_stop_and_target_when_the_rest_is_cancelled():
    part = filled(status=Status.PARTIAL, units=3)
    strategy, _ = play({1: f"self.o = {BRACKET})"}, [*bars(3), part, said_of(0, Status.CANCELED)])

    assert [order.alive() for order in strategy.o] == [False, True, True]


def test_a_fill_that_ends_an_order_short_is_a_part_and_then_the_end():
    strategy, live = play({1: "self.o = self.buy(size=10)"}, [*bars(3), filled(status=Status.CANCELED, units=3)])

    assert statuses(strategy, live.submitted[0].ref) == ["Submitted", "Accepted", "Partial", "Canceled"]


def test_a_fill_counts_even_after_the_order_was_said_to_be_over():
    strategy, live = play({1: "self.o = self.buy(size=10)"}, [*bars(3), said_of(0, Status.CANCELED), filled(position=D(10))])

    assert statuses(strategy, live.submitted[0].ref) == ["Submitted", "Accepted", "Canceled", "Completed"]
    assert strategy.getposition().size == 10


def test_an_order_through_the_position_closes_it_and_opens_the_rest():
    code = {1: f"self.o = {BRACKET})", 2: "self.n = self.sell(size=25)"}
    strategy, _ = play(code, [*bars(3), filled(price="1.1"), *bars(4), filled(1, price="1.2", pnl=D(1))])

    position = strategy.getposition()
    assert (position.size, position.price) == (-15, 1.2)
    assert [order.alive() for order in strategy.o] == [False, False, False]
    closed, opened = [entry for entry in strategy.log if entry[0] == "trade"][-2:]
    assert (closed[1:], opened[1]) == ((0, 1.0, True), -15)
    assert strategy.n.executed.pnl == 1.0


def test_a_position_that_was_changed_from_outside_is_told_as_a_fill_of_its_own():
    outside = news(None, Status.COMPLETED, -10, "1.2", position=D(0), reason="MARKET_ORDER_POSITION_CLOSEOUT")
    strategy, _ = play({1: f"self.o = {BRACKET})"}, [*bars(3), filled(), outside])

    assert strategy.getposition().size == 0
    assert [order.alive() for order in strategy.o] == [False, False, False]
    completed = next(entry for entry in strategy.log if entry[1] == "Completed" and entry[2])
    assert completed[2] == "MARKET_ORDER_POSITION_CLOSEOUT"
    assert strategy.log[-1] == ("position changed outside", D(-10))
    assert ("trade", 0.0, 0.997, True) in strategy.log


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (filled(position=D(11)), "the trader holds 11 units for this deployment, and its process 10"),
        (news(987654321, Status.ACCEPTED), "News of order 987654321 of EUR_USD, which this process never sent"),
        (news(None, Status.COMPLETED, 1, "1.1", symbol="USD_JPY"), "this deployment does not trade"),
        (lambda said: news(said[0].ref, Status.COMPLETED, 10), "the message names no price"),
        (one_bar(3), "bars come in order, each once"),
        (one_bar(4, symbol="USD_JPY"), "A bar of USD_JPY"),
    ],
)
def test_what_does_not_agree_with_what_is_known_ends_the_run(event: Step, message: str):
    with pytest.raises(DataError, match=message):
        play({1: "self.buy(size=10)"}, [*bars(3), event])


# --- what is there at the start --------------------------------------------------------------------------------------------

HELD = Holding("EUR_USD", D(-10), D("1.2"))
STANDING = (
    Standing(-1, "EUR_USD", D(10), Form.STOP_TRAIL, "stop", START, price=D("1.21"), trail=D("0.01")),
    Standing(-2, "EUR_USD", D(10), Form.LIMIT, "target", START, price=D("1.05")),
    Standing(-3, "EUR_USD", D(7), Form.LIMIT, "entry", START, price=D("1.01")),
)


@pytest.mark.parametrize("history", [0, 3])
def test_a_position_and_orders_from_before_are_taken_over(history: int):
    steps = [*bars(3), news(-1, Status.COMPLETED, 10, "1.211", position=D(0), pnl=D("-0.11"))]
    strategy, live = play({}, steps, taken=adopt([HELD], STANDING), history=history)

    assert strategy.getposition().size == 0
    accepted = [entry for entry in strategy.log if entry[1] == "Accepted"]
    assert [entry[1:] for entry in strategy.log[:3]] == [("Accepted", None, -10.0)] * 3
    assert [entry[0] for entry in strategy.log if entry[1] == "Canceled"] == [accepted[1][0]]  # the target; the entry stands
    assert next(entry for entry in strategy.log if entry[0] == "trade") == ("trade", 0.0, -0.11, True)
    assert live.submitted == []


def test_orders_from_before_are_handed_to_a_strategy_that_wants_them_and_can_be_cancelled():
    source = SCRIPTED + "\n    def adopt(self, orders):\n        self.o = orders\n"
    live = InProcess()
    code = {"1": "[self.cancel(order) for order in self.o]"}

    strategy = live.play(begin(source, script=code), [past("EUR_USD", minutes(0, 3))], adopt([HELD], STANDING), bars(3))

    stop, target, entry = strategy.o
    assert [order.info.role for order in strategy.o] == ["stop", "target", "entry"]
    assert (stop.created.price, stop.trailamount, stop.created.size, stop.alive()) == (1.21, 0.01, 10, True)
    assert (target.exectype, target.isbuy(), entry.created.price) == (target.Limit, True, 1.01)
    assert [message for message in live.said if isinstance(message, Withdraw)] == [Withdraw(-1), Withdraw(-2), Withdraw(-3)]


def test_orders_placed_while_taking_over_come_after_the_process_is_ready():
    source = SCRIPTED + "\n    def adopt(self, orders):\n        self.buy(size=10, exectype=Order.Stop, price=1.25)\n"
    live = InProcess()

    live.play(begin(source), [past("EUR_USD", minutes(0, 3))], adopt([HELD]), [])

    assert [message.type for message in live.said] == ["ready", "submit"]
    assert live.submitted[0].bar == START + timedelta(minutes=2)


def test_a_fill_of_an_order_from_before_that_was_not_named_is_a_fill_from_outside():
    taken = adopt([HELD], STANDING[:1])
    strategy, _ = play({}, [news(-9, Status.ACCEPTED), news(-9, Status.COMPLETED, 4, "1.1", position=D(-6))], taken=taken)

    assert strategy.getposition().size == -6


def test_a_position_in_a_symbol_that_is_not_traded_ends_the_run():
    with pytest.raises(DataError, match="USD_JPY, which this deployment does not trade; it trades EUR_USD"):
        play({}, [], taken=adopt([Holding("USD_JPY", D(1), D(150))]))


def test_every_feed_says_that_it_is_live_when_history_is_over():
    strategy, _ = play({}, bars(3), symbols=("EUR_USD", "GBP_USD"))

    assert strategy.stored == [("EUR_USD", "LIVE"), ("GBP_USD", "LIVE")]


# --- the account -----------------------------------------------------------------------------------------------------------


def test_the_account_is_worth_its_balance_with_what_is_open_at_the_prices_at_which_it_would_close():
    account = money(1000, nav=D(1234), margin_used=D(300), elsewhere=D(-50))
    steps = [one_bar(3, account=account), one_bar(4, account=money(1000, margin_used=D(3000)))]
    strategy, _ = play({}, steps, taken=adopt([Holding("EUR_USD", D(10_000), D("1.0"))]))

    bid = [1.1 + 0.0001 * n - 0.00005 for n in (3, 4)]
    assert strategy.values[0] == pytest.approx((1000 + 10_000 * (bid[0] - 1) - 50, 1000 + 10_000 * (bid[0] - 1) - 350))
    assert strategy.values[1] == pytest.approx((1000 + 10_000 * (bid[1] - 1), 0))


def test_before_there_is_a_bar_the_account_is_worth_what_the_trader_says():
    source = SCRIPTED + "\n    def start(self):\n        self.values.append(self.broker.getvalue())\n"
    source += "\n    def adopt(self, orders):\n        self.values.append(self.broker.getvalue())\n"
    taken = adopt([Holding("EUR_USD", D(10), D("1.0"))], account=money(1000, nav=D(1234)))

    strategy = InProcess().play(begin(source), [past("EUR_USD", minutes(0, 0))], taken, [])

    assert strategy.values == [1234.0, 1234.0]


def test_a_trade_in_a_cross_is_worth_what_the_last_bar_says_of_its_currency():
    bar = live_bar(minutes(3, 1), 0, conversion=1.25)
    fills = [news(None, Status.COMPLETED, units, price, symbol="EUR_GBP") for units, price in ((1000, "0.8"), (-1000, "0.9"))]
    steps = [Moment(bar.time + timedelta(minutes=1), {"EUR_GBP": bar}, money()), *fills]
    strategy, _ = play({}, steps, symbols=("EUR_GBP",))

    assert strategy.log[-2] == ("trade", 0.0, 125.0, True)


def test_a_position_is_the_exact_sum_of_its_fills():
    tenths = [news(None, Status.COMPLETED, units, "1.1") for units in ("0.1", "0.2", "-0.3")]
    strategy, _ = play({}, [*bars(3), *tenths])

    assert strategy.getposition().size == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-9, 9).filter(bool), st.integers(90, 110)), max_size=12))
def test_position_price_and_trades_follow_any_fills_as_a_plain_sum_would(fills: list[tuple[int, int]]):
    units, paid = 0, 0.0
    for size, cents in fills:
        price, before = cents / 100, units
        units += size
        if before * size >= 0:
            paid = (paid * before + price * size) / units
        elif units * before <= 0:
            paid = price if units else 0.0

    steps = [news(None, Status.COMPLETED, size, str(D(cents) / 100)) for size, cents in fills]
    strategy, _ = play({}, [*bars(3), *steps])

    position = strategy.getposition()
    assert (position.size, position.price) == (units, pytest.approx(paid))
    trades = [trade for each in strategy._trades[strategy.data].values() for trade in each]
    assert sum(trade.size for trade in trades) == units
    assert strategy.broker.getvalue() == float(CASH) or fills
