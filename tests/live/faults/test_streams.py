"""Streams that end, fall silent or cannot be had: they come back, what was missed is read, and until then nothing is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from live.trading import FAST, Trader
from simulator.running import ACCOUNT

from mbats.live.wire import LiveBar, Moment, OrderEvent, Status
from mbats.oanda.streams import SILENCE

STREAMS = {"transactions": "*/transactions/stream", "pricing": "*/pricing/stream"}
MINUTE = timedelta(minutes=1)  # earlier: another decision than that of the position
DETAILS = f"*/accounts/{ACCOUNT}"


def downs(trader: Trader) -> dict[str, int]:
    found: dict[str, int] = trader.owner._link.downs
    return dict(found)


def held(trader: Trader) -> int:
    """A position with a stop, and the number of the order that opened it."""
    trader.deploy()
    ref = trader.bracket(1000, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    trader.settle()
    return ref


@pytest.mark.proves("R10")
@pytest.mark.parametrize("how", ["end", "close", "reset", "cut"])
def test_a_stream_that_ends_in_the_place_of_a_fill_is_down_and_the_fill_is_read_after_it(trader: Trader, how: str) -> None:
    ref = held(trader)
    ended = trader.simulator.fault(how, message="ORDER_FILL", path=STREAMS["transactions"], times=1)
    trader.price("1.07990", "1.08002")
    trader.ended(ref + 1, Status.COMPLETED)
    trader.settle()
    assert trader.simulator.hits(ended) == 1
    assert downs(trader) == {"transactions": 1, "pricing": 0}
    assert trader.owner._link.ups["transactions"] == 2
    assert trader.words(ref + 1).count("completed") == 1
    assert trader.owner._account.books.positions().get(("alpha", "EUR_USD"), Decimal(0)) == 0


@pytest.mark.proves("R10")
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_ends_cleanly_after_some_messages_is_down_and_comes_back(trader: Trader, stream: str) -> None:
    trader.deploy()
    ended = trader.simulator.fault({"do": "end", "when": "after"}, message="HEARTBEAT", path=STREAMS[stream], nth=3)
    trader.wait_for(lambda: trader.owner._link.ups[stream] == 2)
    trader.settle()
    assert trader.simulator.hits(ended) == 1
    assert downs(trader) == {name: int(name == stream) for name in STREAMS}
    trader.ended(trader.submit(1000), Status.COMPLETED)


@pytest.mark.proves("R11")
@pytest.mark.parametrize("stream", STREAMS)
def test_of_two_streams_the_one_that_is_silent_is_opened_anew_and_the_other_stays(trader: Trader, stream: str) -> None:
    ref = held(trader)
    silent = trader.simulator.fault("silence", message="*", path=STREAMS[stream], times=1)
    trader.wait_for(lambda: trader.simulator.hits(silent))
    if stream == "transactions":
        trader.price("1.07990", "1.08002")  # its fill is lost in the silence
    trader.wait_for(lambda: downs(trader)[stream] == 1)
    trader.settle()
    trader.wait_for(lambda: trader.owner._link.ups[stream] == 2)
    assert downs(trader) == {name: int(name == stream) for name in STREAMS}
    if stream == "transactions":
        trader.ended(ref + 1, Status.COMPLETED)


@pytest.mark.proves("R11")
def test_while_prices_are_silent_an_order_waits_and_goes_when_they_are_back(trader: Trader) -> None:
    trader.deploy()
    silent = trader.simulator.fault("silence", message="*", path=STREAMS["pricing"], times=1)
    trader.wait_for(lambda: downs(trader)["pricing"] == 1)
    assert trader.simulator.hits(silent) == 1
    away = trader.simulator.fault({"do": "answer", "status": 503}, path=STREAMS["pricing"])
    ref = trader.submit(1000)
    trader.wait_for(lambda: trader.simulator.hits(away) >= 1 or trader.owner._link.prices_up)
    if trader.simulator.hits(away):
        assert trader.words(ref) == ["submitted"]
    trader.simulator.admin("DELETE", f"/faults/{away}")
    trader.ended(ref, Status.COMPLETED)


@pytest.mark.proves("R11")
def test_a_trader_takes_ten_seconds_without_a_line_for_silence() -> None:
    assert SILENCE == 10.0


@pytest.mark.proves("R12")
def test_a_broker_that_refuses_connections_is_tried_now_and_then_until_it_is_back(trader: Trader) -> None:
    ref = held(trader)
    trader.simulator.deed("outage", seconds=4)
    trader.wait_for(lambda: downs(trader)["transactions"] >= 2 and downs(trader)["pricing"] >= 2)
    trader.ended(trader.submit(500, bar=trader.bar() - MINUTE), Status.COMPLETED, timeout=40)
    # 0.25 to 0.5 seconds, then twice as long each time: five attempts take more than the four seconds
    assert all(2 <= count <= 6 for count in downs(trader).values())
    assert trader.words(ref) == ["submitted", "accepted", "completed"]


def a_bar(trader: Trader) -> Moment:
    side = (1.08, 1.08, 1.08, 1.08)
    return Moment(trader.bar(), {"EUR_USD": LiveBar(trader.bar(), side, side, 1, 1.0)}, trader.owner.money("alpha"))  # type: ignore[arg-type]


@pytest.mark.proves("R13")
def test_after_an_outage_what_was_missed_is_read_then_all_is_compared_and_only_then_is_anything_decided(
    start_trader: Callable[..., Trader],
) -> None:
    trader = start_trader(options=replace(FAST, reconcile_every=60.0, poll_while_down=60.0))
    stop = held(trader) + 1
    exchange = trader.simulator
    unread = exchange.fault({"do": "answer", "status": 503}, method="GET", path="*/transactions/sinceid")
    unknown = exchange.fault({"do": "answer", "status": 503}, method="GET", path=DETAILS)
    trader.wait_for(lambda: trader.owner._calls.in_flight == 0)
    exchange.deed("outage", seconds=1)
    trader.wait_for(lambda: downs(trader) == {"transactions": 1, "pricing": 1})
    exchange.admin("DELETE", "/journal")
    trader.simulator.price("1.07990", "1.08002")  # through the stop, and nobody hears of it
    trader.simulator.step(1)
    bar = a_bar(trader)
    ref = trader.submit(2000, bar=bar.time - MINUTE)
    trader.owner.bars("alpha", bar.time, bar.bars)

    trader.wait_for(lambda: exchange.hits(unread) >= 2)
    undecided(trader, ref, stop)
    exchange.admin("DELETE", f"/faults/{unread}")
    trader.owner._ask(trader.owner._link.fetch, 5.0)
    trader.wait_for(lambda: exchange.hits(unknown) >= 2)
    trader.wait_for(lambda: "completed" in trader.words(stop))
    undecided(trader, ref, stop)
    exchange.admin("DELETE", f"/faults/{unknown}")
    trader.owner._ask(trader.owner._link.ask_for_snapshot, 5.0)

    trader.ended(ref, Status.COMPLETED)
    trader.wait_for(lambda: any(isinstance(each, Moment) for each in trader.heard))
    asked = [each for each in exchange.journal() if each["kind"] == "request"]
    good = [(each["method"], each["path"].rpartition(ACCOUNT)[2]) for each in asked if (each.get("status") or 0) in (200, 201)]
    order = [good.index(step) for step in (("GET", "/transactions/sinceid"), ("GET", ""), ("POST", "/orders"))]
    assert order == sorted(order)
    told = [each for each in trader.heard if isinstance(each, Moment) or (isinstance(each, OrderEvent) and each.units)]
    assert isinstance(told[1], OrderEvent) and told[1].ref == stop  # before the bar, and before its own order


def undecided(trader: Trader, ref: int, stop: int) -> None:
    assert trader.words(ref) == ["submitted"]
    assert not trader.orders_sent()
    assert not any(isinstance(each, Moment) for each in trader.heard)
    assert not trader.owner._account.live


@pytest.mark.proves("R13")
@pytest.mark.parametrize("stream", STREAMS)
def test_no_order_leaves_while_a_stream_is_down(trader: Trader, stream: str) -> None:
    held(trader)
    sent = len(trader.orders_sent())
    away = trader.simulator.fault({"do": "answer", "status": 503}, path=STREAMS[stream])
    trader.simulator.fault("end", message="HEARTBEAT", path=STREAMS[stream], times=1)
    trader.wait_for(lambda: trader.simulator.hits(away) >= 1)  # the stream is down, for whichever reason, and stays so
    ref = trader.submit(500, bar=trader.bar() - MINUTE)
    trader.wait_for(lambda: trader.simulator.hits(away) >= 3)
    assert (trader.words(ref), len(trader.orders_sent())) == (["submitted"], sent)
    trader.simulator.admin("DELETE", f"/faults/{away}")
    trader.ended(ref, Status.COMPLETED)
