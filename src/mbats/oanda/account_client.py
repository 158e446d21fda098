"""Reading one account: what it holds, what happened to it, what it would pay now. Asked again until an answer can be trusted.

account = AccountClient(client.sessions, "101-004-1435156-001")
for transaction in account.transactions_since(last_known):
    ...
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import quote

from oandapyV20.endpoints.accounts import AccountChanges, AccountDetails, AccountSummary
from oandapyV20.endpoints.orders import OrderDetails, OrdersPending
from oandapyV20.endpoints.positions import OpenPositions
from oandapyV20.endpoints.pricing import PricingInfo
from oandapyV20.endpoints.trades import OpenTrades
from oandapyV20.endpoints.transactions import TransactionIDRange, TransactionsSinceID

from mbats.oanda.account import (
    Changes,
    Details,
    Listing,
    Order,
    Position,
    Summary,
    Trade,
    parse_changes,
    parse_details,
    parse_listing,
    parse_order,
    parse_position,
    parse_summary,
    parse_trade,
)
from mbats.oanda.parse import parse_list, parse_time, read_part
from mbats.oanda.prices import Price, parse_price
from mbats.oanda.reads import Reads
from mbats.oanda.sessions import Sessions
from mbats.oanda.transactions import Transaction, gap, parse_since, parse_transactions

RANGE = 1000  # transactions; the pages that OANDA itself names are no longer


class AccountClient:
    """Reads of one account. Safe to share between threads; each has its own connection.

    Every method raises OandaUnavailable when no answer can be trusted after all attempts, which says nothing about the account:
    positions that could not be read are not flat. OandaRejected means that asking again would not help.
    """

    def __init__(self, sessions: Sessions, account: str, *, reads: Reads | None = None) -> None:
        self.account = account
        self._clock = sessions.clock
        self._reads = reads or Reads(sessions)
        self._path = quote(account, safe="")

    def summary(self) -> Summary:
        """The account's money."""
        return self._reads.read(AccountSummary(self._path), parse_summary)

    def details(self) -> Details:
        """The account with its trades, orders and positions, all of one moment."""
        return self._reads.read(AccountDetails(self._path), parse_details)

    def changes(self, since: int) -> Changes:
        """What happened after transaction `since`, none left out."""
        request = AccountChanges(self._path, {"sinceTransactionID": str(since)})
        return self._reads.read(request, partial(parse_changes, since=since))

    def open_trades(self) -> Listing[Trade]:
        """Trades that are open, each with its dependent orders."""
        return self._reads.read(OpenTrades(self._path), partial(parse_listing, key="trades", parse=parse_trade))

    def pending_orders(self) -> Listing[Order]:
        """Orders that wait."""
        return self._reads.read(OrdersPending(self._path), partial(parse_listing, key="orders", parse=parse_order))

    def order(self, order_id: int | str) -> Order:
        """One order, by its number or `@` and a client id, which the broker may know only while the order waits.

        Raises OandaRejected with status 404 when there is none.
        """
        request = OrderDetails(self._path, quote(str(order_id), safe="@"))
        return self._reads.read(request, lambda payload: parse_order(read_part("order", lambda: payload["order"])))

    def open_positions(self) -> Listing[Position]:
        """Pairs in which there are open trades."""
        return self._reads.read(OpenPositions(self._path), partial(parse_listing, key="positions", parse=parse_position))

    def prices(self, instruments: Iterable[str]) -> list[Price]:
        """The newest price of each; in a closed market that is an old one, and not tradeable."""
        wanted = ",".join(sorted(instruments))
        return self._reads.read(PricingInfo(self._path, {"instruments": wanted}), self._parse_prices) if wanted else []

    def transactions_since(self, since: int) -> list[Transaction]:
        """All that happened after transaction `since`, oldest first, none left out: up to the broker's last one or later."""
        found: list[Transaction] = []
        while True:
            known = since + len(found)
            request = TransactionsSinceID(self._path, {"id": str(known)})
            page, last = self._reads.read(request, partial(parse_since, since=known))
            found += page
            if since + len(found) >= last:
                return found

    def transaction_range(self, first: int, last: int) -> list[Transaction]:
        """Transactions `first` to `last`, both included, oldest first, none left out."""
        found: list[Transaction] = []
        for begin in range(first, last + 1, RANGE):
            end = min(begin + RANGE - 1, last)
            request = TransactionIDRange(self._path, {"from": str(begin), "to": str(end)})
            found += self._reads.read(request, partial(_whole, first=begin, last=end))
        return found

    def _parse_prices(self, payload: Any) -> list[Price]:
        prices = parse_list(payload, "prices", parse_price)
        if isinstance(payload.get("time"), str):
            self._clock.observe_time(read_part("time of prices", lambda: parse_time(payload["time"])))
        return prices


def _whole(payload: Any, first: int, last: int) -> list[Transaction]:
    found = parse_transactions(payload, first)
    if len(found) < last - first + 1:
        raise gap(first + len(found) - 1, last)
    return found[: last - first + 1]
