"""Transactions that OANDA might write some day, or never should: the books go on, and say what they did not understand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live.books.watched import only, our_id, transaction
from oandapyV20.endpoints.responses import trades

from mbats.live.books import Alarm, Books, Cancelled, Created, Filled, Financed, Held, Lot, Noted, Rejected, Transferred
from mbats.oanda.transactions import parse_transaction

D = Decimal
ORDERS = ("MARKET", "FIXED_PRICE", "LIMIT", "STOP", "MARKET_IF_TOUCHED", "TAKE_PROFIT", "STOP_LOSS", "TRAILING_STOP_LOSS")
TYPES = (  # all 35 of OANDA's schema
    *(f"{kind}_ORDER" for kind in ORDERS),
    *(f"{kind}_ORDER_REJECT" for kind in ORDERS if kind != "FIXED_PRICE"),
    *("CREATE", "CLOSE", "REOPEN", "CLIENT_CONFIGURE", "CLIENT_CONFIGURE_REJECT", "TRANSFER_FUNDS", "TRANSFER_FUNDS_REJECT"),
    *("ORDER_FILL", "ORDER_CANCEL", "ORDER_CANCEL_REJECT"),
    *("ORDER_CLIENT_EXTENSIONS_MODIFY", "ORDER_CLIENT_EXTENSIONS_MODIFY_REJECT"),
    *("TRADE_CLIENT_EXTENSIONS_MODIFY", "TRADE_CLIENT_EXTENSIONS_MODIFY_REJECT"),
    *("MARGIN_CALL_ENTER", "MARGIN_CALL_EXTEND", "MARGIN_CALL_EXIT", "DELAYED_TRADE_CLOSURE"),
    *("DAILY_FINANCING", "RESET_RESETTABLE_PL"),
)


def books(last_id: int = 0, balance: str = "1000.0000") -> Books:
    return Books("001", "USD", last_id=last_id, balance=D(balance))


FILL: dict[str, Any] = {
    "orderID": "1",
    "instrument": "EUR_USD",
    "units": "100",
    "reason": "MARKET_ORDER",
    "price": "1.10000",
    "pl": "0.0000",
    "financing": "0.0000",
    "commission": "0.0000",
    "gainQuoteHomeConversionFactor": "1",
    "lossQuoteHomeConversionFactor": "1",
    "accountBalance": "1000.0000",
    "tradeOpened": {"tradeID": "1", "units": "100", "price": "1.10000"},
}


def closing(**more: Any) -> dict[str, Any]:
    part = {"tradeID": "1", "units": "-100", "price": "1.11000", "realizedPL": "1.0000", "financing": "0.0000"}
    body = {**FILL, "orderID": "2", "units": "-100", "price": "1.11000", "pl": "1.0000", "accountBalance": "1001.0000"}
    del body["tradeOpened"]
    return {**body, "tradesClosed": [part], **more}


def with_trade() -> Books:
    found = books()
    found.apply(transaction(1, "ORDER_FILL", **FILL))
    return found


@pytest.mark.parametrize("number", [0, 1, 3, 20])
def test_only_the_next_transaction_is_taken(number: int) -> None:
    found = with_trade()
    before = found.to_json()

    with pytest.raises(ValueError, match=f"Transaction {number} of account 001 cannot follow 1"):
        found.apply(transaction(number, "CREATE"))

    assert found.to_json() == before


@pytest.mark.parametrize("kind", ["CREATE", "REOPEN", "CLIENT_CONFIGURE", "RESET_RESETTABLE_PL", "BANANA", ""])
def test_what_concerns_nobody_is_noted(kind: str) -> None:
    found = books()

    assert [type(event) for event in found.apply(transaction(1, kind, units="x", marginRate=0.02))] == [Noted]
    assert (found.last_id, found.check()) == (1, [])


@pytest.mark.parametrize(
    "kind", ["MARGIN_CALL_ENTER", "MARGIN_CALL_EXTEND", "MARGIN_CALL_EXIT", "DELAYED_TRADE_CLOSURE", "CLOSE"]
)
def test_what_a_person_should_hear_of_is_an_alarm(kind: str) -> None:
    assert only(books().apply(transaction(1, kind)), Alarm).text.endswith(".")


@pytest.mark.proves("R33")
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_that_there_is_has_its_event(kind: str) -> None:
    body: dict[str, Any] = {"instrument": "EUR_USD", "units": "1", "price": "1.1", "amount": "5", "financing": "1"}
    events = books().apply(transaction(1, kind, **body, orderID="1", tradeID="1", rejectReason="WHY", reason="R"))

    expected: type[Any] = Noted
    if kind.endswith("_REJECT"):
        expected = Rejected
    elif kind.endswith("_ORDER"):
        expected = Created
    elif kind.startswith(("MARGIN", "DELAYED")) or kind == "CLOSE":
        expected = Alarm
    expected = {
        "ORDER_FILL": Alarm,  # 1 unit, and of no trade
        "ORDER_CANCEL": Cancelled,
        "TRANSFER_FUNDS": Transferred,
        "DAILY_FINANCING": Financed,
    }.get(kind, expected)
    assert type(events[0]) is expected


@pytest.mark.proves("R33")
def test_a_type_that_nobody_knows_yet_may_change_the_balance_but_not_in_silence() -> None:
    found = books()
    body = {"dividendAdjustment": "3.2000", "accountBalance": "1003.2000"}

    assert (
        "DIVIDEND_ADJUSTMENT changed the balance by 3.2000 USD"
        in only(found.apply(transaction(1, "DIVIDEND_ADJUSTMENT", **body)), Alarm).text
    )
    assert (found.balance, found.transferred, found.check()) == (D("1003.2"), D("3.2"), [])


@pytest.mark.parametrize(
    "broken",
    [
        {"units": None},
        {"units": "many"},
        {"units": 100},
        {"units": "NaN"},
        {"units": "1E+30"},
        {"instrument": None},
        {"orderID": None},
        {"reason": None},
        {"tradesClosed": {"tradeID": "1"}},
        {"tradesClosed": [{"tradeID": "1"}]},
        {"tradeReduced": "1"},
        {"tradeOpened": {"tradeID": "1", "units": "0", "price": "1"}},
        {"accountBalance": "about 1000"},
    ],
)
def test_a_fill_that_cannot_be_read_is_counted_remembered_and_an_alarm(broken: dict[str, Any]) -> None:
    found = with_trade()

    alarm = only(found.apply(transaction(2, "ORDER_FILL", **closing(**broken))), Alarm)

    assert "Transaction 2 (ORDER_FILL) cannot be read" in alarm.text
    assert (found.last_id, found.position("", "EUR_USD"), found.check()) == (2, 100, [alarm.text])
    again = Books.from_json(found.to_json())
    assert again.check() == [alarm.text]


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"units": "-90"}, "says -90 units, and its trades -100"),
        ({"tradesClosed": [{"tradeID": "7", "units": "-100", "price": "1.11"}]}, "ends trade 7, which is not known"),
        ({"tradesClosed": [{"tradeID": "1", "units": "-120", "price": "1.11"}], "units": "-120"}, "which holds 100 EUR_USD"),
        ({"tradesClosed": [{"tradeID": "1", "units": "100", "price": "1.11"}], "units": "100"}, "which holds 100 EUR_USD"),
        ({"instrument": "USD_JPY"}, "which holds 100 EUR_USD"),
    ],
)
def test_a_fill_that_does_not_fit_is_booked_as_far_as_it_goes_and_doubted(odd: dict[str, Any], said: str) -> None:
    found = with_trade()

    events = found.apply(transaction(2, "ORDER_FILL", **closing(**odd)))

    assert any(isinstance(event, Filled) for event in events)
    assert any(said in event.text for event in events if isinstance(event, Alarm))
    assert any(said in sentence for sentence in found.check())


def test_a_fill_without_conversions_is_booked_and_doubted_unless_none_is_needed() -> None:
    bare = {"gainQuoteHomeConversionFactor": None, "lossQuoteHomeConversionFactor": None}
    found = with_trade()
    assert only(found.apply(transaction(2, "ORDER_FILL", **closing(**bare))), Filled).pnl == 1
    assert found.check() == []

    foreign = Books("001", "CHF")
    foreign.apply(transaction(1, "ORDER_FILL", **{**FILL, "accountBalance": "0.0000"}))
    foreign.apply(transaction(2, "ORDER_FILL", **closing(**bare, accountBalance="1.0000")))
    assert (foreign.realised[""], foreign.positions()) == (1, {})
    assert "does not say what EUR_USD is worth in CHF" in foreign.check()[0]


def test_conversions_are_read_in_their_newer_form() -> None:
    newer = {"gainQuoteHome": {"factor": "2"}, "lossQuoteHome": {"factor": "3"}}
    found = with_trade()
    bare = {"gainQuoteHomeConversionFactor": None, "lossQuoteHomeConversionFactor": None}

    assert only(found.apply(transaction(2, "ORDER_FILL", **closing(**bare, homeConversionFactors=newer))), Filled).pnl == 2


def test_a_balance_that_nothing_explains_is_an_alarm_once_and_a_fault_until_it_is_explained() -> None:
    found = with_trade()

    events = found.apply(transaction(2, "ORDER_FILL", **closing(accountBalance="1001.0200")))

    assert "leaves a balance of 1001.0200; expected 1001.0000" in only(events, Alarm).text
    assert found.balance == D("1001.02")
    transfer = {"amount": "1.0000", "accountBalance": "1002.0200"}
    assert [type(event) for event in found.apply(transaction(3, "TRANSFER_FUNDS", **transfer))] == [Transferred]
    assert found.check() == ["The broker's balance holds 0.0200 USD that none of its transactions explains."]


def test_a_difference_below_a_cent_is_the_brokers_rounding() -> None:
    found = with_trade()
    found.apply(transaction(2, "ORDER_FILL", **closing(accountBalance="1001.0001")))

    assert (found.check(), found.balance, found.realised[""]) == ([], D("1001.0001"), D("1.0001"))


def test_costs_and_interest_of_a_fill_are_its_owners() -> None:
    found = books()
    name = our_id("alpha")
    found.apply(transaction(1, "MARKET_ORDER", instrument="EUR_USD", units="100", clientExtensions={"id": name}))
    body = {**FILL, "clientOrderID": name, "commission": "0.5000", "accountBalance": "999.5000"}
    found.apply(transaction(2, "ORDER_FILL", **body))
    part = {"tradeID": "1", "units": "-100", "price": "1.11", "realizedPL": "1", "financing": "-0.2"}
    end = closing(tradesClosed=[part], financing="-0.2", guaranteedExecutionFee="0.1", accountBalance="1000.2")

    filled, financed = found.apply(transaction(3, "ORDER_FILL", **{**end, "reason": "MARKET_ORDER_TRADE_CLOSE"}))

    assert isinstance(filled, Filled) and isinstance(financed, Financed)
    assert (filled.owner, filled.pnl, financed.amounts) == ("alpha", 1, {"alpha": D("-0.2")})
    assert (found.costs, found.financing, found.check()) == ({"alpha": D("-0.6")}, {"alpha": D("-0.2")}, [])


def test_interest_that_names_no_trade_is_nobodys() -> None:
    found = with_trade()
    body = {"financing": "-0.5000", "accountBalance": "999.5000", "positionFinancings": None}

    assert only(found.apply(transaction(2, "DAILY_FINANCING", **body)), Financed).amounts == {"": D("-0.5")}


def test_a_guaranteed_stop_is_a_stop() -> None:
    found = books()
    name = our_id("alpha")
    order = {"instrument": "EUR_USD", "units": "100", "clientExtensions": {"id": name}}
    found.apply(transaction(1, "MARKET_ORDER", **order, guaranteedStopLossOnFill={"price": "1.05"}))
    opened = {"tradeID": "2", "units": "100", "price": "1.10000"}
    found.apply(transaction(2, "ORDER_FILL", **{**FILL, "clientOrderID": name, "tradeOpened": opened}))
    found.apply(transaction(3, "GUARANTEED_STOP_LOSS_ORDER", tradeID="2", price="1.05"))

    assert found.trades[2].stop is not None
    end = closing(orderID="3", reason="GUARANTEED_STOP_LOSS_ORDER")
    end["tradesClosed"][0]["tradeID"] = "2"
    filled = only(found.apply(transaction(4, "ORDER_FILL", **end)), Filled)
    assert (filled.owner, filled.role, filled.lot_id) == ("alpha", "stop", name)


def test_a_close_as_it_was_recorded_in_2016_is_booked_though_it_says_no_conversion() -> None:
    recorded = trades.responses["_v3_account_accountID_trades_close"]["response"]["orderFillTransaction"]
    found = Books("101-004-1435156-001", "EUR", last_id=2316, balance=D("33848.2663"))
    moment = datetime(2016, 10, 28, tzinfo=UTC)
    found.trades[2313] = Held(2313, "EUR_USD", D(100), D("1.09448"), moment, None)
    found.deal(Lot(our_id("alpha"), "alpha", "EUR_USD", D(100), D("1.09448"), moment))
    found.made[2313] = our_id("alpha")

    event = only(found.apply(parse_transaction(recorded)), Filled)

    assert (event.owner, event.role, event.units, event.price) == ("alpha", "exit", -100, D("1.09289"))
    assert (found.balance, found.realised[""]) == (D("33848.1208"), D("-0.1455"))
    assert found.check() == ["Transaction 2317 (ORDER_FILL) does not say what EUR_USD is worth in EUR."]


SCALARS = (
    st.none() | st.booleans() | st.sampled_from(["", "1", "2", "-100", "1.1", "1E+14", "-1E-14", "x", "EUR_USD", our_id("alpha")])
)
KEYS = sorted({*FILL, *closing(), "clientOrderID", "clientExtensions", "tradeID", "tradeReduced", "amount", "positionFinancings"})
VALUES = st.recursive(
    SCALARS | st.just({"id": our_id("alpha")}),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["tradeID", "units", "price", "realizedPL", "financing", "id", "openTradeFinancings"]), inner
        )
    ),
    max_leaves=6,
)
BODIES = st.tuples(
    st.sampled_from([*TYPES, "NEW_ORDER", "NEW"]),
    st.sampled_from([{}, FILL, closing(), closing(reason="STOP_LOSS_ORDER"), closing(units="-40")]),
    st.dictionaries(st.sampled_from(KEYS), VALUES),
)


@given(st.lists(BODIES, max_size=8))
def test_no_body_stops_the_books_or_leaves_them_unreadable(bodies: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    found = books()
    for number, (kind, body, odd) in enumerate(bodies, 1):
        events = found.apply(transaction(number, kind, **{**body, **odd, "id": str(number), "type": kind}))
        assert events
        assert found.last_id == number
        text = found.to_json()
        assert Books.from_json(text).to_json() == text


def test_an_undated_transaction_counts_as_of_the_last_one_that_had_a_time() -> None:
    found = books()
    found.apply(transaction(1, "CREATE"))
    found.apply(parse_transaction({"id": "2", "type": "ORDER_FILL", **FILL}))

    assert [lot.opened for lot in found.lots] == [datetime(2024, 3, 5, 12, tzinfo=UTC)]
    assert found.trades[1].opened == found.lots[0].opened


def test_an_order_that_closes_a_trade_cannot_open_a_position() -> None:
    found = with_trade()
    order = {"instrument": "EUR_USD", "units": "-100", "tradeClose": {"tradeID": "1", "units": "ALL"}, "reason": "TRADE_CLOSE"}

    assert only(found.apply(transaction(2, "MARKET_ORDER", **order)), Created).trade_id == 1
    assert found.pending[2].reduce_only


def test_a_client_id_that_a_lot_of_another_symbol_has_is_not_given_twice() -> None:
    found = books()
    name = our_id("alpha")
    for number, symbol in ((1, "EUR_USD"), (2, "GBP_USD"), (3, "GBP_USD")):
        opened = {"tradeID": str(number), "units": "100", "price": f"1.{number}"}
        body = {**FILL, "orderID": "9", "clientOrderID": name, "instrument": symbol, "tradeOpened": opened}
        found.apply(transaction(number, "ORDER_FILL", **body))

    assert [(lot.id, lot.symbol, lot.units, lot.price) for lot in found.lots] == [
        (name, "EUR_USD", 100, D("1.1")),
        ("trade:2", "GBP_USD", 100, D("1.2")),
        ("trade:3", "GBP_USD", 100, D("1.3")),
    ]


def test_an_order_that_deals_twice_makes_one_lot() -> None:
    found = books()
    for number, price in ((1, "1.1"), (2, "1.3")):
        opened = {"tradeID": str(number), "units": "100", "price": price}
        found.apply(transaction(number, "ORDER_FILL", **{**FILL, "clientOrderID": our_id("alpha"), "tradeOpened": opened}))

    (lot,) = found.lots
    assert (lot.id, lot.units, lot.price) == (our_id("alpha"), 200, D("1.2"))


def test_books_that_were_tampered_with_say_so() -> None:
    missing, richer, hedged = with_trade(), with_trade(), with_trade()
    missing.trades.clear()
    richer.balance += 1
    hedged.trades[2] = replace(hedged.trades[1], id=2, units=D(-5))
    hedged.deal(Lot("trade:2", "", "EUR_USD", D(-5), D("1.1"), hedged.seen))

    assert missing.check() == ["EUR_USD: the owners hold 100 units together, the broker 0."]
    assert richer.check() == ["The balance is 1001.0000 USD, its parts come to 1000.0000."]
    assert hedged.check() == ["EUR_USD: the broker holds long and short trades at once, as a hedging account does."]
