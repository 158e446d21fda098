"""Each way in which an order can come to nothing has a status of Backtrader's and a reason of its own, up to `notify_order`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from live.process.trader import InProcess, adopt, begin, minutes, one_bar, past
from live.trading import FAST, Trader

from mbats.live.gate import CommandKind
from mbats.live.wire import Form, OrderEvent, Status

STRATEGY = """
import backtrader as bt


class Once(bt.Strategy):
    def __init__(self):
        self.told, self.order = [], None

    def next(self):
        self.order = self.order or self.buy(size=1000)

    def notify_order(self, order):
        self.told.append((order.getstatusname(), order.info.get("reason")))
"""


def told_by_backtrader(event: OrderEvent) -> list[tuple[str, str | None]]:
    """What `notify_order` of a strategy sees of an order that ends like this one."""
    live = InProcess()

    def script() -> Iterator[Any]:
        yield one_bar(3)
        yield OrderEvent(live.submitted[0].ref, "EUR_USD", Status.SUBMITTED, event.at)
        yield replace(event, ref=live.submitted[0].ref)

    strategy = live.play(begin(STRATEGY), [past("EUR_USD", minutes(0, 3))], adopt(), script())
    told: list[tuple[str, str | None]] = strategy.told
    return told


def error(code: str) -> dict[str, str]:
    return {"errorMessage": "as the test wants it", "errorCode": code}


def answers(status: int, body: Any, times: int = 1) -> Callable[[Trader], None]:
    def prepare(trader: Trader) -> None:
        action = {"do": "answer", "when": "before", "status": status, "body": body}
        trader.faults.append(trader.simulator.fault(action, method="POST", path="*/orders", times=times))

    return prepare


def unseen(**change: Any) -> Callable[[Trader], None]:
    """The market changes, and no price on the stream says so."""

    def prepare(trader: Trader) -> None:
        trader.simulator.fault("drop", message="PRICE")
        trader.simulator.admin("POST", "/market", change)
        trader.simulator.step(1)

    return prepare


def jumped(trader: Trader) -> None:
    trader.simulator.fault("drop", message="PRICE")
    trader.simulator.price("1.09500", "1.09512")


def finer(**digits: Any) -> Callable[[Trader], None]:
    """What we know of the instrument is not what the broker will take."""

    def prepare(trader: Trader) -> None:
        account = trader.owner._account
        changed = replace(account.instruments["EUR_USD"], **digits)
        account.instruments = {**account.instruments, "EUR_USD": changed}

    return prepare


def wide(trader: Trader) -> None:
    trader.show("1.08400", "1.08700")


def nothing(trader: Trader) -> None:
    pass


def traded_by_another(trader: Trader) -> None:
    trader.simulator.buy(-300)
    trader.wait_for(lambda: trader.owner._account.foreign_units("EUR_USD") == -300)


def commanded(kind: CommandKind) -> Callable[[Trader], None]:
    return lambda trader: trader.command(kind) and None


def closed_elsewhere(trader: Trader) -> None:
    """We hold a trade that is gone by now, and do not know it."""
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.simulator.fault("drop", message="*_ORDER")
    trader.simulator.fault("drop", message="ORDER_FILL")
    (trade,) = trader.trades()
    trader.simulator.account("PUT", f"/trades/{trade['id']}/close", {"units": "ALL"})
    trader.simulator.step(60)
    trader.simulator.price("1.08500", "1.08512")


@dataclass(frozen=True)
class Case:
    prepare: Callable[[Trader], Any]
    status: Status
    reason: str
    order: dict[str, Any]
    bracket: tuple[str, str] | None = None


def case(
    prepare: Callable[[Trader], Any], status: Status, reason: str, bracket: tuple[str, str] | None = None, **order: Any
) -> Any:
    return pytest.param(Case(prepare, status, reason, order, bracket), id=f"{reason} is {status}")


CASES = [
    # booked, and cancelled at once
    case(unseen(change="halt"), Status.CANCELED, "MARKET_HALTED"),
    case(unseen(change="margin_rate", rate="1"), Status.MARGIN, "INSUFFICIENT_MARGIN", units=150_000),
    case(unseen(change="liquidity", levels=[]), Status.CANCELED, "INSUFFICIENT_LIQUIDITY"),
    case(jumped, Status.CANCELED, "BOUNDS_VIOLATION"),
    case(nothing, Status.CANCELED, "STOP_LOSS_ON_FILL_LOSS", ("1.08900", "1.09000")),
    case(nothing, Status.CANCELED, "TAKE_PROFIT_ON_FILL_LOSS", ("1.08000", "1.08100")),
    # refused with HTTP 400
    case(finer(display_precision=6), Status.REJECTED, "PRICE_PRECISION_EXCEEDED", form=Form.LIMIT, price=Decimal("1.080001")),
    case(finer(units_precision=1), Status.REJECTED, "UNITS_PRECISION_EXCEEDED", units="1000.5"),
    case(answers(400, error("INVALID_REQUEST")), Status.REJECTED, "INVALID_REQUEST"),
    # refused, or not looked at, with another status
    case(answers(401, error("INSUFFICIENT_AUTHORIZATION")), Status.REJECTED, "UNAUTHORIZED"),
    case(answers(403, error("FORBIDDEN")), Status.REJECTED, "FORBIDDEN"),
    case(answers(404, error("NO_SUCH_ACCOUNT")), Status.REJECTED, "NO_SUCH_ACCOUNT"),
    case(answers(429, error("RATE")), Status.COMPLETED, ""),
    case(answers(429, error("RATE"), times=3), Status.REJECTED, "THROTTLED"),
    case(answers(503, error("DOWN"), times=3), Status.CANCELED, "NOT_AT_BROKER"),
    case(closed_elsewhere, Status.CANCELED, "NO_SUCH_TRADE", units=-1000),
    # not sent: the gate's reasons
    case(commanded(CommandKind.HALT), Status.REJECTED, "halted"),
    case(commanded(CommandKind.REDUCE), Status.REJECTED, "reducing"),
    case(wide, Status.REJECTED, "spread"),
    case(nothing, Status.REJECTED, "order_units", units=250_000),
    case(nothing, Status.REJECTED, "malformed", units="0.4"),
    case(nothing, Status.REJECTED, "order_price", form=Form.LIMIT, price=Decimal("0.10800")),
    case(traded_by_another, Status.REJECTED, "foreign_position"),
]


@pytest.mark.proves("R5")
@pytest.mark.parametrize("case", CASES)
def test_an_order_that_comes_to_nothing_says_how_and_why_as_far_as_the_strategy(
    start_trader: Callable[..., Trader], case: Case
) -> None:
    trader = start_trader(options=replace(FAST, catch_up_after=5.0, reconcile_every=30.0))
    trader.deploy(max_margin="0.9", max_spread_multiple=5)
    case.prepare(trader)
    trader.settle()
    order = {"units": 1000} | case.order
    ref = trader.bracket(order["units"], *case.bracket) if case.bracket else trader.submit(**order)
    over = trader.ended(ref, case.status)
    assert (over.status, over.reason) == (case.status, case.reason)
    assert trader.words(ref)[0] == "submitted"
    assert trader.words(ref)[-1] == str(case.status)
    if over.status is Status.COMPLETED:
        return
    assert told_by_backtrader(over)[-1] == (str(case.status).capitalize(), case.reason)
    states = {row.state for row in trader.journal.intents()} - {"filled"}
    assert len(states) <= 1 and not any(state.open for state in states)
    assert all(trader.simulator.hits(fault) for fault in trader.faults)


@pytest.mark.proves("R5")
def test_the_reasons_of_the_table_are_twenty_or_more_and_all_different() -> None:
    assert len({each.values[0].reason for each in CASES}) == len(CASES) >= 20


@pytest.mark.proves("R5")
def test_an_order_whose_time_runs_out_has_expired_and_one_that_is_withdrawn_is_cancelled(trader: Trader) -> None:
    trader.deploy()
    until = trader.owner._clock.now() + timedelta(seconds=30)
    ends, stays = (
        trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000") + n, **more)
        for n, more in ((Decimal(0), {"valid_until": until}), (Decimal("0.001"), {}))
    )
    for ref in (ends, stays):
        trader.wait_for(lambda ref=ref: "accepted" in trader.words(ref))
    trader.minute()
    expired = trader.ended(ends, Status.EXPIRED)
    trader.withdraw(stays)
    cancelled = trader.ended(stays, Status.CANCELED)
    assert (expired.reason, cancelled.reason) == ("TIME_IN_FORCE_EXPIRED", "CLIENT_REQUEST")
    assert told_by_backtrader(expired)[-1] == ("Expired", "TIME_IN_FORCE_EXPIRED")
    assert told_by_backtrader(cancelled)[-1] == ("Canceled", "CLIENT_REQUEST")
