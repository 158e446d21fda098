"""What becomes of orders: filled at once, waiting, set off by a price, cancelled with a reason, refused."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from simulated import ACCOUNT, SECOND, Simulated, types

from mbats.simulator.core.execution import EngineOptions

D = Decimal


@pytest.fixture
def exchange() -> Simulated:
    exchange = Simulated()
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.price("USD_JPY", "150.000", "150.010")
    return exchange


def test_a_market_order_fills_inside_its_request_at_the_last_price(exchange):
    reply = exchange.order(1000)

    assert reply.status == 201
    assert types(exchange.account.transactions[2:]) == ["MARKET_ORDER", "ORDER_FILL MARKET_ORDER"]
    fill = reply.body["orderFillTransaction"]
    assert (fill["price"], fill["units"], fill["tradeOpened"]["tradeID"]) == ("1.10010", "1000", fill["id"])
    assert reply.body["relatedTransactionIDs"] == ["3", "4"]
    assert fill["fullPrice"]["timestamp"] < fill["time"]


def test_sells_fill_at_the_bid(exchange):
    assert exchange.order(-1000).body["orderFillTransaction"]["price"] == "1.10000"


def test_a_bracket_and_its_end_come_in_the_recorded_order(exchange):
    on_fill = {"takeProfitOnFill": {"price": "1.10200"}, "stopLossOnFill": {"price": "1.09900"}}
    opened = exchange.order(1000, **on_fill)

    batch = exchange.account.transactions[2:]
    assert types(batch) == ["MARKET_ORDER", "ORDER_FILL MARKET_ORDER", "TAKE_PROFIT_ORDER", "STOP_LOSS_ORDER"]
    assert {each["batchID"] for each in batch} == {"3"}
    assert [each.get("reason") for each in batch[2:]] == ["ON_FILL", "ON_FILL"]
    assert set(opened.body) == {"orderCreateTransaction", "orderFillTransaction", "relatedTransactionIDs", "lastTransactionID"}

    exchange.engine.close_trade(ACCOUNT, "4", {"units": "ALL"})

    closing = exchange.account.transactions[6:]
    linked = "ORDER_CANCEL LINKED_TRADE_CLOSED"
    assert types(closing) == ["MARKET_ORDER", "ORDER_FILL MARKET_ORDER_TRADE_CLOSE", linked, linked]
    assert [each["orderID"] for each in closing[2:]] == ["5", "6"]
    assert closing[2]["closedTradeID"] == "4"
    assert closing[2]["tradeCloseTransactionID"] == closing[1]["id"]
    assert not exchange.account.pending


def test_a_take_profit_cancels_its_stop_loss_and_books_the_gain(exchange):
    exchange.order(1000, takeProfitOnFill={"price": "1.10200"}, stopLossOnFill={"price": "1.09900"})

    quiet = exchange.price("EUR_USD", "1.10190", "1.10210")
    brought = exchange.price("EUR_USD", "1.10200", "1.10210")

    assert quiet == []
    assert types(brought) == ["ORDER_FILL TAKE_PROFIT_ORDER", "ORDER_CANCEL LINKED_TRADE_CLOSED"]
    assert brought[0]["pl"] == "1.9000"
    assert exchange.balance == D("100001.9000")


def test_a_stop_loss_that_the_market_jumps_over_fills_at_the_first_price(exchange):
    exchange.order(1000, stopLossOnFill={"price": "1.09900"})

    brought = exchange.price("EUR_USD", "1.09500", "1.09510")

    assert types(brought) == ["ORDER_FILL STOP_LOSS_ORDER"]
    assert brought[0]["price"] == "1.09500"


def test_on_one_tick_the_stop_comes_before_the_take_profit_when_both_are_met(exchange):
    exchange.order(1000, takeProfitOnFill={"price": "1.10200"})
    exchange.engine.set_trade_orders(ACCOUNT, "4", {"stopLoss": {"price": "1.10300", "triggerCondition": "MID"}})

    # The client's stop was met as it came: mid is below it.
    assert types(exchange.account.transactions[5:])[:2] == ["STOP_LOSS_ORDER", "ORDER_FILL STOP_LOSS_ORDER"]


def test_a_marketable_limit_fills_at_once_and_never_worse_than_its_price(exchange):
    reply = exchange.order(1000, type="LIMIT", price="1.10500")

    assert reply.body["orderFillTransaction"]["price"] == "1.10010"


def test_a_limit_waits_for_its_price_and_fills_at_what_the_book_gives(exchange):
    reply = exchange.order(1000, type="LIMIT", price="1.09900")
    brought = exchange.price("EUR_USD", "1.09800", "1.09850")

    assert "orderFillTransaction" not in reply.body
    assert brought[0]["price"] == "1.09850"


def test_a_stop_order_buys_when_the_ask_gets_there(exchange):
    exchange.order(1000, type="STOP", price="1.10100")

    quiet = exchange.price("EUR_USD", "1.10095", "1.10099")
    brought = exchange.price("EUR_USD", "1.10120", "1.10130")

    assert quiet == []
    assert (brought[0]["reason"], brought[0]["price"]) == ("STOP_ORDER", "1.10130")


@pytest.mark.parametrize(("price", "quiet", "touching"), [("1.09900", "1.09950", "1.09900"), ("1.10200", "1.10150", "1.10200")])
def test_market_if_touched_waits_on_either_side_of_the_price(exchange, price, quiet, touching):
    exchange.order(1000, type="MARKET_IF_TOUCHED", price=price)

    assert exchange.price("EUR_USD", str(D(quiet) - D("0.00010")), quiet) == []
    brought = exchange.price("EUR_USD", str(D(touching) - D("0.00010")), touching)
    assert types(brought) == ["ORDER_FILL MARKET_IF_TOUCHED_ORDER"]


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back(exchange):
    exchange.order(1000, trailingStopLossOnFill={"distance": "0.00100"})
    order = next(iter(exchange.account.pending.values()))
    trails = [order.trail]
    for bid in ("1.10100", "1.10050", "1.10300", "1.10250"):
        assert exchange.price("EUR_USD", bid, str(D(bid) + D("0.00010"))) == []
        trails.append(order.trail)

    brought = exchange.price("EUR_USD", "1.10190", "1.10200")

    assert trails == [D("1.09900"), D("1.10000"), D("1.10000"), D("1.10200"), D("1.10200")]
    assert (types(brought), brought[0]["price"]) == (["ORDER_FILL TRAILING_STOP_LOSS_ORDER"], "1.10190")


@pytest.mark.parametrize(
    ("condition", "bid", "ask", "fills"),
    [
        ("DEFAULT", "1.10090", "1.10100", True),
        ("INVERSE", "1.10090", "1.10100", False),
        ("INVERSE", "1.10100", "1.10110", True),
        ("BID", "1.10090", "1.10110", False),
        ("ASK", "1.10090", "1.10100", True),
        ("MID", "1.10090", "1.10100", False),
        ("MID", "1.10095", "1.10105", True),
    ],
)
def test_the_trigger_side_can_be_chosen_and_fills_are_on_the_natural_one(exchange, condition, bid, ask, fills):
    exchange.order(1000, type="STOP", price="1.10100", triggerCondition=condition)

    brought = exchange.price("EUR_USD", bid, ask)

    assert [each["price"] for each in brought] == ([ask] if fills else [])


def test_a_flip_closes_and_reduces_oldest_first_and_opens_the_rest(exchange):
    exchange.order(1000)
    exchange.order(500)
    reply = exchange.order(-1200)
    flip = exchange.order(-700)

    fill = reply.body["orderFillTransaction"]
    assert [part["tradeID"] for part in fill["tradesClosed"]] == ["4"]
    assert (fill["tradeReduced"]["tradeID"], fill["tradeReduced"]["units"]) == ("6", "-200")
    opened = flip.body["orderFillTransaction"]
    assert [part["units"] for part in opened["tradesClosed"]] == ["-300"]
    assert opened["tradeOpened"]["units"] == "-400"
    assert exchange.account.units("EUR_USD") == (0, -400)


def test_a_hedging_account_keeps_both_sides_and_closes_either(exchange):
    exchange = Simulated(hedging=True)
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.order(1000)
    exchange.order(-400)

    assert exchange.account.units("EUR_USD") == (1000, -400)
    reply = exchange.engine.close_position(ACCOUNT, "EUR_USD", {"longUnits": "ALL", "shortUnits": "NONE"})
    assert reply.body["longOrderFillTransaction"]["reason"] == "MARKET_ORDER_POSITION_CLOSEOUT"
    assert exchange.account.units("EUR_USD") == (0, -400)


def test_a_fifo_account_closes_its_oldest_trade_first():
    exchange = Simulated(fifo=True)
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.order(1000)
    exchange.order(500)

    second = exchange.engine.close_trade(ACCOUNT, "6", {"units": "ALL"})

    assert second.body["orderCancelTransaction"]["reason"] == "FIFO_VIOLATION"


def test_a_fifo_account_needs_trades_with_orders_of_their_own_to_differ_in_size():
    exchange = Simulated(fifo=True)
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.order(1000, stopLossOnFill={"price": "1.09000"})

    twin, other = exchange.order(1000), exchange.order(1001, stopLossOnFill={"price": "1.09000"})

    assert twin.status == 201
    assert twin.body["orderCancelTransaction"]["reason"] == "FIFO_VIOLATION_SAFEGUARD_VIOLATION"
    assert "orderFillTransaction" in other.body


@pytest.mark.parametrize(
    ("reason", "units", "more"),
    [
        ("BOUNDS_VIOLATION", 1000, {"priceBound": "1.10000"}),
        ("INSUFFICIENT_LIQUIDITY", 20_000_000, {}),
        ("INSUFFICIENT_MARGIN", 9_000_000, {}),
        ("STOP_LOSS_ON_FILL_LOSS", 1000, {"stopLossOnFill": {"price": "1.10500"}}),
        ("TAKE_PROFIT_ON_FILL_LOSS", 1000, {"takeProfitOnFill": {"price": "1.09500"}}),
        ("POSITION_CLOSEOUT_FAILED", 1000, {"positionFill": "REDUCE_ONLY"}),
        ("TIME_IN_FORCE_EXPIRED", 1000, {"type": "LIMIT", "price": "1.05000", "timeInForce": "FOK"}),
        ("CLIENT_TRADE_ID_ALREADY_EXISTS", 1000, {"tradeClientExtensions": {"id": "mine"}}),
        (
            "STOP_LOSS_ON_FILL_CLIENT_ORDER_ID_ALREADY_EXISTS",
            1000,
            {"stopLossOnFill": {"price": "1.0", "clientExtensions": {"id": "s"}}},
        ),
    ],
)
def test_a_201_is_not_a_fill(exchange, reason, units, more):
    stop = {"price": "1.05000", "clientExtensions": {"id": "s"}}
    exchange.order(10, tradeClientExtensions={"id": "mine"}, stopLossOnFill=stop)
    held = exchange.account.units("EUR_USD")

    reply = exchange.order(units, **({"positionFill": "DEFAULT"} | more if reason != "POSITION_CLOSEOUT_FAILED" else more))

    assert reply.status == 201
    assert reply.body["orderCancelTransaction"]["reason"] == reason
    assert exchange.account.units("EUR_USD") == held


def test_a_halted_market_cancels_market_orders_and_takes_pending_ones(exchange):
    exchange.change("halt", instrument="EUR_USD")

    market = exchange.order(1000)
    limit = exchange.order(1000, type="LIMIT", price="1.20000")

    assert market.body["orderCancelTransaction"]["reason"] == "MARKET_HALTED"
    assert "orderFillTransaction" not in limit.body
    exchange.change("resume", instrument="EUR_USD")
    assert types(exchange.price("EUR_USD", "1.10000", "1.10010")) == ["ORDER_FILL LIMIT_ORDER"]


def test_nothing_is_dealt_before_there_is_a_price_to_convert_it_by():
    exchange = Simulated(currency="EUR")
    exchange.price("GBP_USD", "1.27000", "1.27010")

    market = exchange.order(1000, instrument="GBP_USD")
    limit = exchange.order(1000, instrument="GBP_USD", type="LIMIT", price="1.30000")
    quiet = exchange.price("GBP_USD", "1.27000", "1.27010")
    exchange.price("EUR_USD", "1.10000", "1.10010")

    assert market.body["orderCancelTransaction"]["reason"] == "MARKET_HALTED"
    assert "orderFillTransaction" not in limit.body
    assert quiet == []
    assert types(exchange.price("GBP_USD", "1.27000", "1.27010")) == ["ORDER_FILL LIMIT_ORDER"]


def test_immediate_or_cancel_takes_what_the_book_has_within_the_bound():
    exchange = Simulated(balance=D(100_000_000))
    exchange.price("EUR_USD", "1.10000", "1.10010")
    exchange.change("liquidity", instrument="EUR_USD", levels=[[0, 1000], [5, 2000], [50, 10000]])
    exchange.price("EUR_USD", "1.10000", "1.10010")

    partly = exchange.order(10_000, timeInForce="IOC", priceBound="1.10020").body["orderFillTransaction"]
    all_or_none = exchange.order(20_000).body["orderCancelTransaction"]

    assert (partly["units"], partly["price"]) == ("3000", "1.10013")
    assert all_or_none["reason"] == "INSUFFICIENT_LIQUIDITY"


def test_a_replacement_cancels_the_old_order_and_names_its_successor(exchange):
    old = exchange.order(1000, type="LIMIT", price="1.05000").body["orderCreateTransaction"]

    body = {"order": {"type": "LIMIT", "instrument": "EUR_USD", "units": "2000", "price": "1.06000"}}
    reply = exchange.engine.replace_order(ACCOUNT, old["id"], body)

    assert reply.status == 201
    cancelled, created = reply.body["orderCancelTransaction"], reply.body["orderCreateTransaction"]
    assert (cancelled["reason"], cancelled["replacedByOrderID"]) == ("CLIENT_REQUEST_REPLACED", created["id"])
    assert (created["reason"], created["replacesOrderID"], created["cancellingTransactionID"]) == (
        "REPLACEMENT",
        old["id"],
        cancelled["id"],
    )
    assert list(exchange.account.pending) == [int(created["id"])]


def test_cancelling_twice_is_a_404_with_its_own_transaction(exchange):
    order = exchange.order(1000, type="LIMIT", price="1.05000").body["orderCreateTransaction"]["id"]

    first, second = exchange.engine.cancel_order(ACCOUNT, order), exchange.engine.cancel_order(ACCOUNT, order)

    assert (first.status, first.body["orderCancelTransaction"]["reason"]) == (200, "CLIENT_REQUEST")
    assert (second.status, second.body["errorCode"]) == (404, "ORDER_DOESNT_EXIST")
    assert second.body["orderCancelRejectTransaction"]["orderID"] == order


def test_a_refused_order_leaves_its_reject_transaction_and_nothing_else(exchange):
    reply = exchange.order(1000, type="LIMIT", price="1.123456")

    assert reply.status == 400
    assert reply.body["errorCode"] == "PRICE_PRECISION_EXCEEDED"
    assert reply.body["orderRejectTransaction"]["type"] == "LIMIT_ORDER_REJECT"
    assert reply.body["lastTransactionID"] == str(exchange.account.last_id) == "3"
    assert not exchange.account.orders


def test_a_client_order_id_is_taken_only_as_long_as_its_order_is_pending(exchange):
    named = {"type": "LIMIT", "price": "1.05000", "clientExtensions": {"id": "mine"}}
    exchange.order(1000, **named)

    assert exchange.order(1000, **named).body["errorCode"] == "CLIENT_ORDER_ID_ALREADY_EXISTS"
    exchange.engine.cancel_order(ACCOUNT, "@mine")
    assert exchange.order(1000, **named).status == 201


def test_market_orders_with_the_same_client_id_are_both_filled(exchange):
    replies = [exchange.order(1000, clientExtensions={"id": "mine"}) for _ in range(2)]

    assert all("orderFillTransaction" in reply.body for reply in replies)


def test_good_till_date_and_good_for_day_end_in_time(exchange):
    exchange.order(1000, type="LIMIT", price="1.05000", timeInForce="GTD", gtdTime="2024-03-05T13:00:00.000000000Z")
    exchange.order(1000, type="LIMIT", price="1.05000", timeInForce="GFD")

    first, second = exchange.until("2024-03-05T13:00:00"), exchange.until("2024-03-05T22:00:00")

    assert types(first) == types(second) == ["ORDER_CANCEL TIME_IN_FORCE_EXPIRED"]
    assert [each["time"] for each in first + second] == ["2024-03-05T13:00:00.000000000Z", "2024-03-05T22:00:00.000000000Z"]


def test_a_trades_orders_are_set_replaced_kept_and_cancelled_in_one_request(exchange):
    exchange.order(1000)
    first = exchange.engine.set_trade_orders(ACCOUNT, "4", {"takeProfit": {"price": "1.12000"}, "stopLoss": {"price": "1.08000"}})
    second = exchange.engine.set_trade_orders(
        ACCOUNT, "4", {"takeProfit": {"price": "1.13000"}, "trailingStopLoss": {"distance": "0.01"}}
    )
    third = exchange.engine.set_trade_orders(ACCOUNT, "4", {"takeProfit": None})

    common = {"relatedTransactionIDs", "lastTransactionID"}
    assert set(first.body) - common == {"takeProfitOrderTransaction", "stopLossOrderTransaction"}
    assert set(second.body) - common == {
        "takeProfitOrderCancelTransaction",
        "takeProfitOrderTransaction",
        "trailingStopLossOrderTransaction",
    }
    assert set(third.body) - common == {"takeProfitOrderCancelTransaction"}
    assert {order.type.value for order in exchange.account.pending.values()} == {"STOP_LOSS", "TRAILING_STOP_LOSS"}


def test_latency_and_slippage_make_a_fill_worse_where_they_are_asked_for():
    later = Simulated(options=EngineOptions(latency=2 * SECOND))
    later.price("EUR_USD", "1.10000", "1.10010")
    later.market.apply(
        {"change": "tick", "time": "2024-03-05T12:00:02.000000000Z", "instrument": "EUR_USD", "bid": "1.10100", "ask": "1.10110"}
    )
    worse = Simulated(options=EngineOptions(slippage_points=3))
    worse.price("EUR_USD", "1.10000", "1.10010")

    assert later.order(1000).body["orderFillTransaction"]["price"] == "1.10110"
    assert worse.order(1000).body["orderFillTransaction"]["price"] == "1.10013"
    assert worse.order(-1000).body["orderFillTransaction"]["price"] == "1.09997"


def test_profit_in_another_currency_is_converted_by_the_side_that_it_costs(exchange):
    exchange.order(10_000, instrument="USD_JPY")
    gain = exchange.price("USD_JPY", "151.000", "151.010") or exchange.order(-10_000, instrument="USD_JPY")

    fill = gain.body["orderFillTransaction"]
    assert D(fill["pl"]) == (D(10_000) * (D("151.000") - D("150.010")) / D("151.010")).quantize(D("0.0001"))


def test_time_goes_on_when_nothing_happens_and_never_goes_back(exchange):
    before = exchange.engine.now
    exchange.engine.advance(before + np.timedelta64(30, "D"))
    exchange.engine.advance(before)

    assert exchange.engine.now == before + np.timedelta64(30, "D")
    assert exchange.account.last_id == 2
