"""What an account and its parts are worth at the quotes of a moment. Pure; all money in the account's currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Protocol

from mbats.live.books import Books, Held
from mbats.live.gate import Quote
from mbats.market import Instrument

ZERO = Decimal(0)


class Quotes(Protocol):
    """Where prices come from: `market.quotes.QuoteBoard` in a trader."""

    def quote(self, symbol: str) -> Quote | None: ...

    def home(self) -> Mapping[str, Decimal]: ...


def open_profit(trades: Iterable[Held], quotes: Quotes) -> Decimal | None:
    """What closing all of these now would realise, at the closing side; None when a price is not known."""
    total, home = ZERO, quotes.home()
    for held in trades:
        quote, rate = quotes.quote(held.symbol), home.get(held.symbol.split("_")[1])
        if quote is None or rate is None:
            return None
        closing = quote.bid if held.units > 0 else quote.ask
        total += held.units * (closing - held.price) * rate
    return total


def nav(books: Books, quotes: Quotes) -> Decimal | None:
    """Balance and open profit of every trade at the broker."""
    profit = open_profit(books.trades.values(), quotes)
    return None if profit is None else books.balance + profit


def margin_used(books: Books, quotes: Quotes, instruments: Mapping[str, Instrument]) -> Decimal | None:
    """OANDA's margin of a netting account: rate × units × mid of each pair; None when something is not known."""
    total, home = ZERO, quotes.home()
    for symbol in {held.symbol for held in books.trades.values()}:
        rate, instrument = home.get(symbol.split("_")[0]), instruments.get(symbol)
        if rate is None or instrument is None:
            return None
        total += abs(books.broker_position(symbol)) * rate * instrument.margin_rate
    return total


def own_profit(books: Books, deployment: str, quotes: Quotes) -> Decimal | None:
    """The open profit of one deployment, by the average prices against which the books realise."""
    total, home = ZERO, quotes.home()
    for symbol in {lot.symbol for lot in books.lots if lot.deployment == deployment}:
        units, price = books.position(deployment, symbol), books.average_price(deployment, symbol)
        quote, rate = quotes.quote(symbol), home.get(symbol.split("_")[1])
        if price is None or quote is None or rate is None:
            return None
        total += units * ((quote.bid if units > 0 else quote.ask) - price) * rate
    return total


def made(books: Books, deployment: str) -> Decimal:
    """What a deployment has realised so far, after financing and charges."""
    return sum((each.get(deployment, ZERO) for each in (books.realised, books.financing, books.costs)), ZERO)
