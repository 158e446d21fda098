"""Money over time: financing at 17:00 New York, margin calls and closeout, payments, and a restart from the log."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from simulated import ACCOUNT, SECOND, Simulated, types

from mbats.simulator.core.account import Account
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.values import AccountConfig

D = Decimal


def exchange_at(start: str, **config: object) -> Simulated:
    exchange = Simulated(np.datetime64(start, "us"), **config)
    exchange.price("EUR_USD", "1.10000", "1.10010")
    return exchange


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2024-03-05T12:00", "2024-03-05T22:00", 1),  # a Tuesday in winter
        ("2024-03-06T12:00", "2024-03-06T22:00", 3),  # Wednesday pays for the weekend
        ("2024-03-12T12:00", "2024-03-12T21:00", 1),  # in summer 17:00 New York is an hour earlier in UTC
        ("2024-10-29T12:00", "2024-10-29T21:00", 1),
        ("2024-11-05T12:00", "2024-11-05T22:00", 1),
    ],
)
def test_financing_is_booked_at_17_new_york_by_the_days_of_the_instrument(start, end, days):
    exchange = exchange_at(start)
    exchange.order(100_000)

    before = exchange.until(end)
    booked = before[0]

    rate = exchange.market.instruments["EUR_USD"].long_rate
    expected = (D(100_000) * D("1.10005") * rate * days / 365).quantize(D("0.0001"))
    assert types(before) == ["DAILY_FINANCING"]
    assert booked["time"].startswith(end)
    assert D(booked["financing"]) == expected
    assert exchange.balance == D(100_000) + expected
    assert booked["positionFinancings"][0]["openTradeFinancings"] == [{"tradeID": "4", "financing": str(expected)}]
    assert exchange.account.trades[4].financing == exchange.account.financing == expected


def test_nothing_is_booked_at_weekends_or_without_a_position():
    exchange = exchange_at("2024-03-08T12:00")
    nothing = exchange.until("2024-03-09T12:00")
    flat = exchange.account.last_id

    assert nothing == []
    assert flat == 2


def test_a_loss_brings_a_margin_call_then_its_end_and_at_half_the_margin_the_closeout():
    exchange = exchange_at("2024-03-05T12:00", balance=D(10_000))
    exchange.order(400_000)  # margin used is 8,800.40

    call = exchange.price("EUR_USD", "1.09500", "1.09510")
    relief = exchange.price("EUR_USD", "1.10000", "1.10010")
    out = exchange.price("EUR_USD", "1.08500", "1.08510")

    assert types(call) == ["MARGIN_CALL_ENTER"]
    assert types(relief) == ["MARGIN_CALL_EXIT"]
    assert types(out)[:2] == ["MARKET_ORDER", "ORDER_FILL MARKET_ORDER_MARGIN_CLOSEOUT"]
    assert not exchange.account.open
    assert exchange.balance == D(10_000) - D(400_000) * (D("1.10010") - D("1.08500"))


def test_a_margin_rate_that_would_bring_a_margin_call_is_refused_and_a_fair_one_is_kept():
    exchange = exchange_at("2024-03-05T12:00", balance=D(10_000))
    exchange.order(100_000)

    call = exchange.engine.configure(ACCOUNT, {"marginRate": "0.1"})
    closeout = exchange.engine.configure(ACCOUNT, {"marginRate": "0.2"})
    fair = exchange.engine.configure(ACCOUNT, {"marginRate": "0.05", "alias": "mine"})

    assert (call.status, call.body["errorCode"]) == (400, "MARGIN_RATE_WOULD_TRIGGER_MARGIN_CALL")
    assert closeout.body["errorCode"] == "MARGIN_RATE_WOULD_TRIGGER_CLOSEOUT"
    assert fair.status == 200
    assert (exchange.account.alias, exchange.account.margin_rate) == ("mine", D("0.05"))


def test_money_that_margin_needs_cannot_be_paid_out():
    exchange = exchange_at("2024-03-05T12:00")
    exchange.order(1_000_000)

    too_much = exchange.engine.transfer(ACCOUNT, D(-90_000))
    fine = exchange.engine.transfer(ACCOUNT, D(-50_000), "rent")

    assert (too_much.status, too_much.body["errorCode"]) == (400, "INSUFFICIENT_FUNDS")
    assert fine.body["transferFundsTransaction"]["accountBalance"] == "50000.0000" == str(exchange.balance)


def test_a_restart_from_the_log_goes_on_as_if_there_had_been_none():
    exchange = exchange_at("2024-03-05T12:00")
    exchange.order(1000, trailingStopLossOnFill={"distance": "0.00100"})
    exchange.order(1000, type="MARKET_IF_TOUCHED", price="1.09000")
    exchange.price("EUR_USD", "1.10300", "1.10310")
    log, state = list(exchange.account.transactions), exchange.engine.state()

    again = Engine(exchange.market, [AccountConfig(id=ACCOUNT)])
    again.restore(log, state)
    again.start(exchange.engine.now)
    exchange.change("tick", instrument="EUR_USD", bid="1.10150", ask="1.10160")
    later = again.now + SECOND
    for engine in (exchange.engine, again):
        engine.advance(later)

    assert again.accounts[ACCOUNT].transactions == exchange.account.transactions
    assert again.state() == exchange.engine.state()
    assert types(exchange.account.transactions)[-1] == "ORDER_FILL TRAILING_STOP_LOSS_ORDER"


def test_an_account_is_what_its_transactions_say():
    exchange = exchange_at("2024-03-05T12:00")
    exchange.order(1000, stopLossOnFill={"price": "1.09900"})
    exchange.order(-1500)
    exchange.until("2024-03-06T12:00")

    replayed = Account.replay(exchange.account.config, exchange.account.transactions)

    assert vars(replayed) == vars(exchange.account)


def test_a_transaction_out_of_turn_is_refused():
    account = Account(AccountConfig())
    with pytest.raises(ValueError, match="Transaction 2 of account 101-004-1435156-001 cannot follow 0"):
        account.apply({"id": "2", "type": "CREATE", "time": "2024-03-05T12:00:00.000000000Z"})
