"""The worth of currencies, as the broker says it itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from simulator.running import ACCOUNT

from mbats.errors import OandaUnavailable
from mbats.live.market.home import HomeRates
from mbats.live.market.quotes import QuoteBoard


@pytest.fixture
def market(start_scripted: Any) -> Any:
    floor = start_scripted()
    floor.simulator.price("1.24990", "1.25010")
    floor.simulator.price("159.990", "160.010", "USD_JPY")
    floor.advance(1)
    return floor


def test_a_refresh_gives_the_worth_of_both_currencies_of_each_pair_and_its_newest_price(market):
    board = QuoteBoard("USD")

    HomeRates(market.sessions, ACCOUNT, board, lambda: ["EUR_USD", "USD_JPY"]).refresh()

    assert board.home() == {"USD": Decimal(1), "EUR": Decimal("1.25"), "JPY": pytest.approx(Decimal("0.00625"))}
    assert board.quote("USD_JPY").ask == Decimal("160.010")


def test_nothing_is_asked_for_no_symbols(market):
    market.simulator.admin("DELETE", "/journal")

    HomeRates(market.sessions, ACCOUNT, QuoteBoard("USD"), lambda: []).refresh()

    assert market.simulator.journal() == []


def test_a_broker_that_does_not_answer_is_an_error_here_and_asked_again_by_the_thread(market):
    board = QuoteBoard("USD")
    rates = HomeRates(market.sessions, ACCOUNT, board, lambda: ["EUR_USD"], every=0.05)
    rule = market.simulator.fault({"do": "answer", "status": 503}, path="*/pricing", times=3)
    with pytest.raises(OandaUnavailable):
        rates.refresh()

    rates.start()
    while rates.refreshed_at is None:
        market.clock.wait_until(None, 0.02)

    assert rates.stop()
    assert market.simulator.hits(rule) == 3
    assert (rates.failures, rates.crashes) == (2, 0)
    assert board.home()["EUR"] == Decimal("1.25")
    assert not rates.is_alive


def test_an_error_that_nobody_foresaw_does_not_end_the_thread(market):
    board = QuoteBoard("USD")
    answers = iter([ZeroDivisionError("in who was asked for symbols"), ["EUR_USD"]])

    def symbols() -> list[str]:
        answer = next(answers, ["EUR_USD"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    rates = HomeRates(market.sessions, ACCOUNT, board, symbols, every=0.05)
    rates.start()
    while rates.refreshed_at is None:
        market.clock.wait_until(None, 0.02)

    assert rates.stop()
    assert rates.crashes == 1
