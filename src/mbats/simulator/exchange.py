"""The exchange itself: what it answers to each request, at a time that it is told. No HTTP, no clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from mbats.market import Instrument
from mbats.simulator import queries, wire
from mbats.simulator.accounts import Account, AccountConfig
from mbats.simulator.candles import CandleBook
from mbats.simulator.errors import forbidden, invalid
from mbats.simulator.instruments import listing
from mbats.simulator.prices import PriceSource
from mbats.simulator.queries import CandleQuery, Query
from mbats.simulator.quotes import Conversion, Quote, conversion, last_quote
from mbats.simulator.wire import TimeFormat

ACCOUNT_ID = re.compile(r"\d+-\d+-\d+-\d+")

Body = dict[str, Any]


class Exchange:
    """One exchange with its accounts and its market. Answers are OANDA's JSON bodies; a wrong request raises Refusal.

    Methods that read prices may take a while and may be called from any thread.
    """

    def __init__(self, source: PriceSource, accounts: Iterable[AccountConfig] = (AccountConfig(),)) -> None:
        self.source = source
        self.instruments: dict[str, Instrument] = {name: listing()[name] for name in source.instruments}
        self._accounts = {config.id: Account.opened(config) for config in accounts}
        self._book = CandleBook(source)

    def accounts_body(self) -> Body:
        return {"accounts": [{"id": account, "tags": []} for account in self._accounts]}

    def account_body(self, account_id: str, times: TimeFormat) -> Body:
        """The account with its trades, positions and orders in full."""
        body = self.summary_body(account_id, times)
        body["account"] |= {"trades": [], "positions": [], "orders": []}
        return body

    def summary_body(self, account_id: str, times: TimeFormat) -> Body:
        account = self.account(account_id)
        return {"account": wire.account_body(account, times), "lastTransactionID": str(account.last_transaction)}

    def instruments_body(self, account_id: str, query: Query) -> Body:
        account = self.account(account_id)
        names = queries.read_instruments(query, tuple(self.instruments), required=False)
        bodies = [wire.instrument_body(self.instruments[name]) for name in names]
        return {"instruments": bodies, "lastTransactionID": str(account.last_transaction)}

    def candles_body(self, instrument: str, query: Query, times: TimeFormat, now: np.datetime64) -> Body:
        listed = self._instrument(instrument, "instrument")
        queries.check_units(query)
        asked = queries.read_candle_query(instrument, query, now)
        candles, complete = self._book.select(asked, now)
        return wire.candles_body(listed, asked.granularity, asked.sides, candles, complete, times)

    def latest_body(self, query: Query, times: TimeFormat, now: np.datetime64) -> Body:
        """The candles that form and the ones completed last, for each of `candleSpecifications`."""
        queries.check_units(query)
        alignment, smooth = queries.read_alignment(query), queries.read_bool(query, "smooth", default=False)
        bodies = []
        for item in queries.read_specifications(query):
            listed = self._instrument(item.instrument, "candleSpecifications")
            asked = CandleQuery(item.instrument, item.granularity, item.sides, None, None, None, alignment, smooth, True)
            candles, complete = self._book.latest(asked, now)
            bodies.append(wire.candles_body(listed, item.granularity, item.sides, candles, complete, times))
        return {"latestCandles": bodies}

    def prices_body(self, account_id: str, query: Query, times: TimeFormat, now: np.datetime64) -> Body:
        """The last price of each instrument asked for, and what their currencies are worth in the account's."""
        account = self.account(account_id)
        names = queries.read_instruments(query, tuple(self.instruments), required=True)
        since = queries.read_time(query, "since")
        with_units = queries.read_bool(query, "includeUnitsAvailable", default=True)
        with_home = queries.read_bool(query, "includeHomeConversions", default=False)
        quotes = self._quotes(now)
        found = [quotes[name] for name in names if name in quotes]
        worth = self._worth(found, account, quotes)
        prices = []
        for quote in found:
            if since is None or quote.time > since:
                price = wire.price_body(quote, account, worth[quote.instrument.base], worth[quote.instrument.quote], times)
                prices.append(price if with_units else {key: value for key, value in price.items() if key != "unitsAvailable"})
        body: Body = {"prices": prices, "time": times.write_one(now)}
        if with_home:
            body["homeConversions"] = [wire.conversion_body(each) for each in worth.values()]
        return body

    def account(self, account_id: str) -> Account:
        """The account of this id. Raises Refusal when it is none, or not this token's."""
        if account_id in self._accounts:
            return self._accounts[account_id]
        raise forbidden() if ACCOUNT_ID.fullmatch(account_id) else invalid("accountID")

    def _instrument(self, name: str, parameter: str) -> Instrument:
        if name not in self.instruments:
            raise invalid(parameter)
        return self.instruments[name]

    def _quotes(self, now: np.datetime64) -> dict[str, Quote]:
        found = {name: last_quote(self.source, instrument, now) for name, instrument in self.instruments.items()}
        return {name: quote for name, quote in found.items() if quote}

    def _worth(self, found: list[Quote], account: Account, quotes: dict[str, Quote]) -> dict[str, Conversion]:
        """What each currency of these pairs is worth in the account's."""
        currencies = dict.fromkeys(currency for quote in found for currency in (quote.instrument.base, quote.instrument.quote))
        return {currency: conversion(currency, account.config.currency, quotes) for currency in currencies}
