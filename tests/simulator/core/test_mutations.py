"""The rules of the exchange, broken one by one on purpose: each time, the check of that rule has to notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from simulated import ACCOUNT, SECOND, Simulated, types

from mbats.simulator.core import account, execution, fills, matching, order_parts, placing, requests, triggers, valuation
from mbats.simulator.core.batch import Batch
from mbats.simulator.core.form import Form
from mbats.simulator.core.matching import Matching
from mbats.simulator.core.scan import Scan
from mbats.simulator.core.values import ZERO, Order, OrderType
from mbats.simulator.market import Market
from mbats.simulator.quotes import ONE, Conversion, Level, Quote

D = Decimal
Break = Callable[[pytest.MonkeyPatch], None]


def opened(start: str = "2024-03-05T12:00", **config: Any) -> Simulated:
    exchange = Simulated(np.datetime64(start, "us"), **config)
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.price("USD_JPY", "150.000", "150.010")
    return exchange


def filled(exchange: Simulated, units: int, **more: Any) -> dict[str, Any]:
    fill: dict[str, Any] = exchange.order(units, **more).body["orderFillTransaction"]
    return fill


def cancelled(exchange: Simulated, units: int, **more: Any) -> str:
    return str(exchange.order(units, **more).body["orderCancelTransaction"]["reason"])


# --- The battery -------------------------------------------------------------------------------------------------------------


def buys_pay_the_ask_and_sells_get_the_bid() -> None:
    exchange = opened()
    assert filled(exchange, 1)["price"] == "1.10010"
    assert filled(exchange, -2)["price"] == "1.10000"


def the_oldest_trade_is_closed_first() -> None:
    exchange = opened()
    first, second = (filled(exchange, 100)["id"] for _ in range(2))
    fill = filled(exchange, -150)
    assert [part["tradeID"] for part in fill["tradesClosed"]] == [first]
    assert fill["tradeReduced"]["tradeID"] == second


def a_trade_has_the_id_of_the_fill_that_opened_it() -> None:
    exchange = opened()
    fill = filled(exchange, 100)
    assert fill["tradeOpened"]["tradeID"] == fill["id"]
    assert list(exchange.account.open) == [int(fill["id"])]


def a_fill_turns_a_position_over() -> None:
    exchange = opened()
    filled(exchange, 100)
    fill = filled(exchange, -300)
    assert fill["tradesClosed"][0]["units"] == "-100"
    assert fill["tradeOpened"]["units"] == "-200"
    assert exchange.account.units("EUR_USD") == (0, -200)


def a_stop_that_is_jumped_over_fills_at_the_first_price() -> None:
    exchange = opened()
    filled(exchange, 100, stopLossOnFill={"price": "1.09900"})
    assert exchange.price("EUR_USD", "1.09000", "1.09010")[0]["price"] == "1.09000"


def a_stop_is_set_off_by_the_side_that_ends_the_trade() -> None:
    exchange = opened()
    filled(exchange, 100, stopLossOnFill={"price": "1.09995"})
    assert types(exchange.price("EUR_USD", "1.09990", "1.10090")) == ["ORDER_FILL STOP_LOSS_ORDER"]


def what_ends_a_trade_comes_before_what_opens_one() -> None:
    exchange = opened()
    exchange.order(-100, type="STOP", price="1.09900")
    filled(exchange, 100, stopLossOnFill={"price": "1.09900"})
    brought = exchange.price("EUR_USD", "1.09800", "1.09810")
    assert types(brought) == ["ORDER_FILL STOP_LOSS_ORDER", "ORDER_FILL STOP_ORDER"]


def the_orders_of_a_closed_trade_are_cancelled() -> None:
    exchange = opened()
    trade = filled(exchange, 100, takeProfitOnFill={"price": "1.20000"}, stopLossOnFill={"price": "1.00000"})["id"]
    exchange.engine.close_trade(ACCOUNT, trade, {})
    assert types(exchange.account.transactions[-2:]) == ["ORDER_CANCEL LINKED_TRADE_CLOSED"] * 2
    assert not exchange.account.pending


def a_trailing_stop_follows_the_best_price() -> None:
    exchange = opened()
    filled(exchange, 100, trailingStopLossOnFill={"distance": "0.00500"})
    exchange.price("EUR_USD", "1.12000", "1.12010")
    assert types(exchange.price("EUR_USD", "1.11500", "1.11510")) == ["ORDER_FILL TRAILING_STOP_LOSS_ORDER"]


def a_trailing_stop_never_goes_back() -> None:
    exchange = opened()
    filled(exchange, 100, trailingStopLossOnFill={"distance": "0.00500"})
    exchange.price("EUR_USD", "1.12000", "1.12010")
    exchange.price("EUR_USD", "1.11600", "1.11610")
    assert exchange.price("EUR_USD", "1.11501", "1.11511") == []
    assert types(exchange.price("EUR_USD", "1.11499", "1.11509")) == ["ORDER_FILL TRAILING_STOP_LOSS_ORDER"]


def a_pending_order_waits_for_its_price_and_fills() -> None:
    exchange = opened()
    exchange.order(100, type="STOP", price="1.10500")
    assert exchange.price("EUR_USD", "1.10480", "1.10490") == []
    assert types(exchange.price("EUR_USD", "1.10490", "1.10500")) == ["ORDER_FILL STOP_ORDER"]


def large_orders_pay_the_average_down_the_book() -> None:
    exchange = opened()
    exchange.change("liquidity", levels=[[0, "1000"], [10, "1000"]])
    assert filled(exchange, 2000)["price"] == "1.10015"


def an_order_larger_than_the_book_is_cancelled() -> None:
    exchange = opened()
    exchange.change("liquidity", levels=[[0, "1000"]])
    assert cancelled(exchange, 1001) == "INSUFFICIENT_LIQUIDITY"


def a_bound_that_is_passed_cancels() -> None:
    assert cancelled(opened(), 100, priceBound="1.10009") == "BOUNDS_VIOLATION"


def a_halted_market_cancels() -> None:
    exchange = opened()
    exchange.change("halt", instrument="EUR_USD")
    assert cancelled(exchange, 100) == "MARKET_HALTED"


def margin_is_rate_times_units_times_mid() -> None:
    exchange = opened()
    filled(exchange, 1000)
    worth = exchange.engine.valuation(ACCOUNT)
    assert worth.margin_used == 1000 * D("1.10005") * D("0.02")
    assert worth.closeout_percent == worth.margin_used / worth.closeout_nav / 2


def more_than_the_margin_allows_is_cancelled() -> None:
    exchange = opened(balance=D(1000))
    assert cancelled(exchange, 100_000) == "INSUFFICIENT_MARGIN"
    assert filled(exchange, 40_000)["units"] == "40000"


def the_closeout_comes_when_half_of_the_margin_is_not_covered_and_not_before() -> None:
    exchange = opened(balance=D(10_000))
    filled(exchange, 400_000)  # needs 8,800
    assert types(exchange.price("EUR_USD", "1.08620", "1.08620")) == ["MARGIN_CALL_ENTER"]
    assert "ORDER_FILL MARKET_ORDER_MARGIN_CLOSEOUT" in types(exchange.price("EUR_USD", "1.08590", "1.08590"))


def profit_in_another_currency_is_converted() -> None:
    exchange = opened()
    filled(exchange, 1000, instrument="USD_JPY")
    exchange.price("USD_JPY", "151.000", "151.010")
    assert D(filled(exchange, -1000, instrument="USD_JPY")["pl"]) == (D(990) / D("151.010")).quantize(D("0.0001"))


def wednesday_is_charged_for_three_days() -> None:
    exchange = opened("2024-03-06T12:00")
    filled(exchange, 100_000)
    charged = D(exchange.until("2024-03-06T22:00")[0]["financing"])
    rate = exchange.market.instruments["EUR_USD"].long_rate
    assert charged == (100_000 * D("1.10005") * rate * 3 / 365).quantize(D("0.0001"))


def an_order_good_for_the_day_ends_at_17_new_york() -> None:
    exchange = opened()
    exchange.order(100, type="LIMIT", price="1.05000", timeInForce="GFD")
    assert exchange.until("2024-03-05T21:59:59") == []
    ended = exchange.until("2024-03-05T22:00")
    assert types(ended) == ["ORDER_CANCEL TIME_IN_FORCE_EXPIRED"]
    assert ended[0]["time"] == "2024-03-05T22:00:00.000000000Z"


def an_order_good_till_a_date_ends_then() -> None:
    exchange = opened()
    exchange.order(100, type="LIMIT", price="1.05000", timeInForce="GTD", gtdTime="2024-03-05T13:00:00Z")
    assert types(exchange.until("2024-03-05T13:00")) == ["ORDER_CANCEL TIME_IN_FORCE_EXPIRED"]


def client_ids_are_unique_among_pending_orders() -> None:
    exchange = opened()
    same = {"type": "LIMIT", "price": "1.05000", "clientExtensions": {"id": "mine"}}
    assert [exchange.order(100, **same).status for _ in range(2)] == [201, 400]


def a_trade_s_client_id_is_unique_among_open_trades() -> None:
    exchange = opened()
    same = {"tradeClientExtensions": {"id": "mine"}}
    filled(exchange, 100, **same)
    assert cancelled(exchange, 100, **same) == "CLIENT_TRADE_ID_ALREADY_EXISTS"


def a_stop_loss_that_is_already_passed_cancels_the_order() -> None:
    assert cancelled(opened(), 100, stopLossOnFill={"price": "1.10005"}) == "STOP_LOSS_ON_FILL_LOSS"


def prices_with_too_many_digits_are_rejected() -> None:
    assert opened().order(100, type="LIMIT", price="1.050001").body["errorCode"] == "PRICE_PRECISION_EXCEEDED"


def a_hedging_account_holds_both_sides() -> None:
    exchange = opened(hedging=True)
    filled(exchange, 100)
    filled(exchange, -50)
    assert exchange.account.units("EUR_USD") == (100, -50)


def the_transactions_of_a_request_are_one_batch() -> None:
    exchange = opened()
    filled(exchange, 100, takeProfitOnFill={"price": "1.20000"})
    assert {each["batchID"] for each in exchange.account.transactions[2:]} == {"3"}


# --- The broken rules --------------------------------------------------------------------------------------------------------


def setting(target: Any, name: str, value: Any) -> Break:
    return lambda patch: patch.setattr(target, name, value)


def wrapping(target: Any, name: str, change: Callable[..., Any]) -> Break:
    """Put `change(original, *arguments)` in the place of a function."""
    original = getattr(target, name)
    return setting(target, name, lambda *arguments, **named: change(original, *arguments, **named))


def together(*breaks: Break) -> Break:
    def apply(patch: pytest.MonkeyPatch) -> None:
        for each in breaks:
            each(patch)

    return apply


def nothing(*_: Any, **__: Any) -> None:
    return None


def from_the_other_book(original: Any, who: Any, order: Order, quote: Quote, desk: Any, **more: Any) -> Any:
    return original(who, order, replace(quote, bids=quote.asks, asks=quote.bids), desk, **more)


def at_the_trigger(original: Any, who: Any, order: Order, quote: Quote, desk: Any, **more: Any) -> Any:
    found = original(who, order, quote, desk, **more)
    return replace(found, price=order.price) if order.type is OrderType.STOP_LOSS else found


def top_of_book(original: Any, levels: Any, units: Decimal) -> Any:
    return levels[0].price, original(levels, units)[1]


def endless_book(original: Any, levels: Any, units: Decimal) -> Any:
    return original([*levels, Level(levels[-1].price, units)], units)


def following_both_ways(original: Any, exchange: Matching, scan: Scan, start: int, stop: int) -> None:
    for each in exchange.accounts.values():
        for order in each.pending.values():
            order.trail = order.trail and ZERO  # a long trade's: whatever comes is better
    original(exchange, scan, start, stop)


def without_bounds(original: Any, transaction: Any, key: str) -> Any:
    return None if key == "priceBound" else original(transaction, key)


def with_twins(original: Any, *arguments: Any) -> Any:
    reason = original(*arguments)
    return None if reason == "CLIENT_TRADE_ID_ALREADY_EXISTS" else reason


def only_closing(original: Any, *arguments: Any) -> Any:
    closes, opens = original(*arguments)
    return closes, ZERO if closes else opens


def always_netting(original: Any, who: Any, order: Order, sign: int) -> Any:
    order.position_fill = "REDUCE_FIRST"
    return original(who, order, sign)


def in_batches_of_one(original: Any, batch: Batch, fields: Any) -> Any:
    batch._stamp["batchID"] = batch.next_id
    return original(batch, fields)


BROKEN: dict[str, tuple[Break, Callable[[], None]]] = {
    "orders fill at the other side of the book": (
        together(*(wrapping(module, "plan", from_the_other_book) for module in (placing, matching))),
        buys_pay_the_ask_and_sells_get_the_bid,
    ),
    "the newest trade is closed first": (
        wrapping(account.Account, "open_in", lambda original, *which: original(*which)[::-1]),
        the_oldest_trade_is_closed_first,
    ),
    "a trade has another id": (
        setting(Batch, "next_id", property(lambda batch: str(batch.account.last_id + 2))),
        a_trade_has_the_id_of_the_fill_that_opened_it,
    ),
    "what is left after closing opens nothing": (wrapping(execution, "_split", only_closing), a_fill_turns_a_position_over),
    "stops fill at their own price": (
        wrapping(matching, "plan", at_the_trigger),
        a_stop_that_is_jumped_over_fills_at_the_first_price,
    ),
    "orders look at the other side": (
        wrapping(triggers, "trigger_price", lambda original, buys, *rest: original(not buys, *rest)),
        a_stop_is_set_off_by_the_side_that_ends_the_trade,
    ),
    "stop orders come before stop losses": (
        lambda patch: patch.setitem(triggers.RANK, OrderType.STOP, -1),
        what_ends_a_trade_comes_before_what_opens_one,
    ),
    "linked orders stay": (
        setting(fills, "_cancel_orders_of_closed_trades", nothing),
        the_orders_of_a_closed_trade_are_cancelled,
    ),
    "trailing stops stand still": (setting(Matching, "_trail", nothing), a_trailing_stop_follows_the_best_price),
    "trailing stops go back": (wrapping(Matching, "_trail", following_both_ways), a_trailing_stop_never_goes_back),
    "all ticks are skipped": (setting(Scan, "next", nothing), a_pending_order_waits_for_its_price_and_fills),
    "one tick too many is skipped": (
        wrapping(Scan, "next", lambda original, scan, at: original(scan, at + 1)),
        a_pending_order_waits_for_its_price_and_fills,
    ),
    "the top of the book is the price of all": (
        wrapping(execution, "vwap", top_of_book),
        large_orders_pay_the_average_down_the_book,
    ),
    "the book has no end": (wrapping(execution, "vwap", endless_book), an_order_larger_than_the_book_is_cancelled),
    "bounds are not looked at": (wrapping(account, "_decimal", without_bounds), a_bound_that_is_passed_cancels),
    "halts are not looked at": (setting(Market, "_trades", lambda *_: True), a_halted_market_cancels),
    "twice the margin is asked": (
        wrapping(valuation, "margin_units", lambda original, *units: 2 * original(*units)),
        margin_is_rate_times_units_times_mid,
    ),
    "margin is at the bid": (setting(Quote, "mid", property(lambda quote: quote.bid)), margin_is_rate_times_units_times_mid),
    "margin is not looked at": (setting(execution, "_has_margin", lambda *_: True), more_than_the_margin_allows_is_cancelled),
    "the closeout comes at a quarter": (
        setting(valuation, "CLOSEOUT_FACTOR", D("0.25")),
        the_closeout_comes_when_half_of_the_margin_is_not_covered_and_not_before,
    ),
    "profit is not converted": (
        setting(fills, "conversions", lambda *_: (Conversion("", ONE, ONE, ONE),) * 2),
        profit_in_another_currency_is_converted,
    ),
    "every day is a Monday": (setting(matching, "day_end_weekday", lambda _: 0), wednesday_is_charged_for_three_days),
    "the day ends an hour later": (
        wrapping(account, "day_end", lambda original, moment: original(moment) + 3600 * SECOND),
        an_order_good_for_the_day_ends_at_17_new_york,
    ),
    "orders last for ever": (setting(Matching, "_fire", nothing), an_order_good_till_a_date_ends_then),
    "client ids may come twice": (
        together(*(setting(module, "is_taken", lambda *_: False) for module in (order_parts, requests))),
        client_ids_are_unique_among_pending_orders,
    ),
    "client ids of trades may come twice": (
        wrapping(execution, "_obstacle", with_twins),
        a_trade_s_client_id_is_unique_among_open_trades,
    ),
    "stop losses may be passed from the start": (
        setting(execution, "_obstacle_on_fill", nothing),
        a_stop_loss_that_is_already_passed_cancels_the_order,
    ),
    "digits are not counted": (setting(Form, "_digits", lambda *_: 0), prices_with_too_many_digits_are_rejected),
    "hedging accounts net": (wrapping(execution, "_split", always_netting), a_hedging_account_holds_both_sides),
    "each transaction is a batch": (wrapping(Batch, "add", in_batches_of_one), the_transactions_of_a_request_are_one_batch),
}
BATTERY = tuple(dict.fromkeys(check for _, check in BROKEN.values()))


@pytest.mark.parametrize("check", BATTERY, ids=lambda check: check.__name__)
def test_the_rules_hold_as_they_are(check):
    check()


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_noticed(rule, monkeypatch):
    breaks, check = BROKEN[rule]
    breaks(monkeypatch)

    with pytest.raises((AssertionError, LookupError)):
        check()
