"""Books that were written down are read again exactly, or not at all; and books begin with an account as it stands."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live.books.watched import Watched, compare, our_id
from simulated import ACCOUNT

from mbats.errors import DataError
from mbats.live.books import Books, Lot
from mbats.oanda.account import Details, parse_details
from mbats.simulator.account_wire import Standing, account_body

D = Decimal


def busy() -> Watched:
    """Two deployments with lots of every kind, orders that wait, and a person."""
    desk = Watched()
    desk.at("1.10000")
    desk.at("150.000", instrument="USD_JPY")
    desk.enter("alpha", 100, stopLossOnFill={"price": "1.09000"}, takeProfitOnFill={"price": "1.12000"})
    desk.enter("alpha", 40, purpose="open-again", trailingStopLossOnFill={"distance": "0.00500"})
    desk.enter("beta", -1000, "USD_JPY", stopLossOnFill={"price": "151.000"})
    desk.enter("beta", 500, "USD_JPY", type="LIMIT", price="149.000", stopLossOnFill={"price": "148.000"})
    desk.foreign(70, stopLossOnFill={"price": "1.08000"}, tradeClientExtensions={"id": "by hand"})
    desk.foreign(-30, type="STOP", price="1.05000", positionFill="REDUCE_ONLY")
    return desk


BUSY = busy()
TEXT = BUSY.books.to_json()


def details(desk: Watched) -> Details:
    """What `GET /accounts/{id}` would give now."""
    worth = desk.engine.valuation(ACCOUNT)
    standing = Standing(desk.account, worth, desk.market.instruments)
    return parse_details({"account": account_body(standing), "lastTransactionID": str(desk.account.last_id)})


def test_books_that_were_read_again_go_on_as_if_nothing_had_been() -> None:
    desk = busy()
    again = Books.from_json(desk.books.to_json())
    assert (again.pending, again.trades, again.lots) == (desk.books.pending, desk.books.trades, desk.books.lots)

    desk.books = again
    desk.at("1.04000")
    desk.at("152.000", instrument="USD_JPY")

    assert [owner for owner, _ in again.positions()] == []


@given(st.data())
def test_damaged_books_are_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(TEXT) - 1))
    how = data.draw(st.sampled_from(["cut", "drop", "change"]))
    if how == "change":
        other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda each: each != TEXT[at]))
        damaged = TEXT[:at] + other + TEXT[at + 1 :]
    else:
        damaged = TEXT[:at] if how == "cut" else TEXT[:at] + TEXT[at + 1 :]

    with pytest.raises(DataError, match=r"The books of the account cannot be read"):
        Books.from_json(damaged)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"sum":"","books":{}}', '"books":', TEXT * 2])
def test_what_are_no_books_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        Books.from_json(text)


def test_an_account_where_nothing_was_netted_is_adopted_as_it_was_known() -> None:
    desk = busy()

    adopted = Books.adopt(details(desk), "USD")

    known = desk.books
    assert (adopted.lots, adopted.trades, adopted.pending, adopted.averages) == (
        known.lots,
        known.trades,
        known.pending,
        known.averages,
    )
    assert (adopted.last_id, adopted.balance, adopted.made) == (known.last_id, known.balance, known.made)
    compare(adopted, desk.account)


def test_adopted_books_go_on_with_the_next_transaction() -> None:
    desk = busy()
    desk.books = Books.adopt(details(desk), "USD")
    desk.positions = dict(desk.books.positions())

    desk.at("1.04000")

    assert {symbol for _, symbol in desk.books.positions()} == {"USD_JPY"}
    assert {owner for owner, amount in desk.books.realised.items() if amount} == {"alpha", ""}


def test_an_adopted_bracket_that_waits_is_known_when_it_fills() -> None:
    desk = busy()
    desk.books = Books.adopt(details(desk), "USD")
    desk.positions = dict(desk.books.positions())
    desk.at("152.000", instrument="USD_JPY")

    desk.at("149.000", instrument="USD_JPY")

    (lot,) = [lot for lot in desk.books.lots if lot.symbol == "USD_JPY"]
    assert (lot.deployment, lot.units, lot.stop) == ("beta", 500, D("148"))


def test_what_is_not_ours_is_adopted_as_nobodys_and_needs_nothing() -> None:
    adopted = Books.adopt(details(BUSY), "USD")

    (lot,) = [lot for lot in adopted.lots if not lot.deployment]
    number = max(trade.id for trade in BUSY.account.open.values() if trade.extensions.get("id") == "by hand")
    assert (lot.id, lot.units, lot.stop, lot.trail, lot.target) == (f"trade:{number}", 70, None, None, None)
    assert adopted.trades[number].stop is not None


def test_what_netting_took_away_is_not_adopted() -> None:
    desk = Watched()
    desk.at("1.10000")
    long = desk.enter("alpha", 100, stopLossOnFill={"price": "1.09000"})
    desk.enter("beta", -60)

    adopted = Books.adopt(details(desk), "USD")

    (lot,) = adopted.lots
    (trade,) = desk.books.trades.values()
    assert lot == Lot(long, "alpha", "EUR_USD", D(40), D("1.1"), trade.opened, stop=D("1.09"))
    assert lot.id == our_id("alpha")
