"""No order is sent on a price that cannot be right, is old or cannot be traded on, nor while FX is closed (R22, R23)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from live.faults.records import risk_events, until
from live.trading import Trader

from mbats.live.wire import Form, Status


@pytest.mark.proves("R22")
@pytest.mark.parametrize(
    ("bid", "ask", "reason"),
    [
        ("1.19350", "1.19363", "price_jump"),
        ("0.97650", "0.97662", "price_jump"),
        ("1.08386", "1.08626", "spread"),
        ("1.08600", "1.08500", "price_broken"),
    ],
    ids=["a tenth up", "a tenth down", "twenty times the spread", "crossed"],
)
def test_a_crazy_tick_is_not_traded_on_and_the_next_sound_one_is(trader: Trader, bid: str, ask: str, reason: str) -> None:
    trader.deploy()
    if reason == "price_broken":  # the exchange makes none, so it is sent on the stream by hand
        price = {"type": "PRICE", "time": "2024-05-14T10:00:02.000000000Z", "instrument": "EUR_USD", "tradeable": True}
        sides = {"bids": [{"price": bid, "liquidity": 1}], "asks": [{"price": ask, "liquidity": 1}]}
        body = price | sides | {"closeoutBid": bid, "closeoutAsk": ask, "status": "tradeable"}
        crazy = trader.simulator.fault({"do": "send", "body": body}, message="HEARTBEAT", path="*/pricing/stream", times=1)
        trader.wait_for(lambda: (quote := trader.owner.quotes.quote("EUR_USD")) and str(quote.bid) == bid)
        assert trader.simulator.hits(crazy) == 1
        trader.simulator.step(5)  # else what comes next would be older
    else:
        trader.show(bid, ask)

    refused = [trader.submit(1000), trader.submit(-1000), trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"))]
    assert [trader.ended(each, Status.REJECTED).reason for each in refused] == [reason] * 3

    assert trader.orders_sent() == []
    assert {event.code for event in risk_events(trader, "refusal")} == {reason}
    trader.show("1.08502", "1.08514")
    trader.ended(trader.submit(1000), Status.COMPLETED)


@pytest.mark.proves("R22")
def test_every_market_order_says_the_worst_price_at_which_it_may_fill(trader: Trader) -> None:
    trader.deploy()
    trader.deploy("beta", session="s2")
    trader.ended(trader.bracket(3000, "1.08000", "1.09000"), Status.COMPLETED)
    trader.settle()
    trader.ended(trader.submit(-2000, "beta", "s2"), Status.COMPLETED)  # netted at the broker
    trader.settle()
    trader.minute()
    trader.ended(trader.submit(-4000), Status.COMPLETED)  # a close in part, a market order for the netted rest, an entry
    trader.settle()

    bodies = [entry["request"]["order"] for entry in trader.orders_sent()]
    market = [each for each in bodies if each["type"] == "MARKET"]
    assert len(market) >= 4
    for each in market:
        bound, buys = Decimal(each["priceBound"]), Decimal(each["units"]) > 0
        share = Decimal("0.002") if "open" in each["clientExtensions"]["id"] else Decimal("0.02")
        quote = Decimal("1.08512") if buys else Decimal("1.08500")
        assert Decimal(0) < (bound - quote) * (1 if buys else -1) <= quote * share


@pytest.mark.proves("R22")
def test_an_order_that_meets_a_worse_price_than_its_bound_is_cancelled_by_the_broker(trader: Trader) -> None:
    trader.deploy()
    late = trader.simulator.fault({"do": "delay", "when": "before", "seconds": 1.0}, method="POST", path="*/orders", times=1)
    ref = trader.submit(1000)
    trader.wait_for(lambda: trader.simulator.hits(late))

    trader.price("1.09500", "1.09512")

    assert trader.ended(ref, Status.CANCELED).reason == "BOUNDS_VIOLATION"
    assert trader.trades() == []


@pytest.mark.proves("R22")
@pytest.mark.parametrize(("form", "price"), [(Form.LIMIT, "0.10850"), (Form.STOP, "10.85000")])
def test_a_comma_in_the_wrong_place_of_an_orders_own_price_is_not_sent(trader: Trader, form: Form, price: str) -> None:
    trader.deploy()

    assert trader.ended(trader.submit(1000, form=form, price=Decimal(price)), Status.REJECTED).reason == "order_price"

    assert trader.orders_sent() == []


@pytest.mark.proves("R23")
def test_while_prices_are_frozen_and_heartbeats_go_on_nothing_new_is_opened_but_what_is_held_can_go(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)

    until(trader, "2024-05-14T10:02:30Z")
    trader.settle()  # which takes both streams
    assert trader.ended(trader.submit(1000), Status.REJECTED).reason == "price_stale"
    waits = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"))
    assert trader.ended(waits, Status.REJECTED).reason == "price_stale"
    assert len(trader.orders_sent()) == 1
    trader.ended(trader.submit(-1000), Status.COMPLETED)

    assert trader.trades() == []
    trader.show("1.08500", "1.08513")
    trader.minute()
    trader.ended(trader.submit(1000), Status.COMPLETED)


@pytest.mark.proves("R23")
def test_while_an_instrument_is_halted_nothing_is_sent_for_it_and_others_trade_on(trader: Trader) -> None:
    trader.deploy(symbols=("EUR_USD", "GBP_USD"))

    trader.simulator.admin("POST", "/halt", {"instrument": "EUR_USD"})
    trader.simulator.step(1)
    trader.wait_for(lambda: (quote := trader.owner.quotes.quote("EUR_USD")) is not None and not quote.tradeable)
    assert trader.ended(trader.submit(1000), Status.REJECTED).reason == "not_tradeable"
    trader.ended(trader.submit(1000, symbol="GBP_USD"), Status.COMPLETED)

    assert [entry["request"]["order"]["instrument"] for entry in trader.orders_sent()] == ["GBP_USD"]
    trader.simulator.admin("POST", "/resume", {"instrument": "EUR_USD"})
    trader.simulator.step(1)
    trader.show("1.08501", "1.08513")
    trader.minute()
    trader.ended(trader.submit(1000), Status.COMPLETED)


# FX closes at 16:58 and opens at 17:03 New York: what that is in UTC changes with its daylight saving, and not with ours.
BREAKS = {
    "the break of a Tuesday": ("2024-05-14T20:58:00Z", "2024-05-14T21:03:00Z"),
    "a weekend in summer": ("2024-05-17T20:58:00Z", "2024-05-19T21:03:00Z"),
    "the weekend on which summer ends": ("2024-11-01T20:58:00Z", "2024-11-03T22:03:00Z"),
    "the weekend on which summer begins": ("2025-03-07T21:58:00Z", "2025-03-09T21:03:00Z"),
    "a weekend in winter": ("2025-01-17T21:58:00Z", "2025-01-19T22:03:00Z"),
}


@pytest.mark.proves("R23")
@pytest.mark.parametrize("which", BREAKS)
def test_a_decision_that_falls_into_a_break_is_kept_until_fx_is_open_and_sent_once(trader: Trader, which: str) -> None:
    closes, opens = BREAKS[which]
    trader.deploy()
    until(trader, closes)
    trader.show("1.08502", "1.08514")  # a second after the close, whatever the exchange says of it

    held = trader.submit(1000)
    pending = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"))
    assert trader.ended(pending, Status.REJECTED).reason == "market_closed"
    trader.wait_for(lambda: trader.owner.state()["waiting_for_market"] == 1)
    before = opens.replace("03:00Z", "02:57Z")
    until(trader, before)
    trader.show("1.08503", "1.08515")
    trader.settle()
    assert (trader.orders_sent(), trader.words(held)) == ([], ["submitted"])

    until(trader, opens)  # the exchange trades a minute later
    trader.simulator.step(240)
    trader.show("1.08504", "1.08516")
    trader.ended(held, Status.COMPLETED)
    assert len(trader.orders_sent()) == 1


@pytest.mark.proves("R23")
def test_a_minute_before_the_break_orders_still_pass(trader: Trader) -> None:
    trader.deploy()
    until(trader, "2024-05-14T20:57:57Z")
    trader.show("1.08502", "1.08514")

    trader.ended(trader.submit(1000), Status.COMPLETED)
