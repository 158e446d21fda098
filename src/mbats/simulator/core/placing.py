"""How an order comes into the market, and how the answer to its request is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbats.simulator.core.account import Account
from mbats.simulator.core.batch import Batch
from mbats.simulator.core.execution import AT_ONCE, Execution, plan, stop_price
from mbats.simulator.core.fills import book, cancel, start_trailing
from mbats.simulator.core.matching import Matching
from mbats.simulator.core.numbers import price_text
from mbats.simulator.core.reasons import sentence
from mbats.simulator.core.triggers import is_buy, is_triggered, trigger_price
from mbats.simulator.core.values import Order, OrderType, Transaction
from mbats.simulator.quotes import Quote

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with its HTTP status. Times in it are RFC 3339."""

    status: int
    body: Body


class Placing(Matching):
    """What the requests of clients have in common."""

    def _priced(self, account: Account, fields: Transaction, reason: str | None) -> tuple[Transaction, str | None]:
        """Give a stop loss that was asked for as a distance its price: below the ask for a long trade, else above the bid."""
        if reason is not None or fields["type"] != "STOP_LOSS_ORDER" or "price" in fields:
            return fields, reason
        trade = account.trades[int(fields["tradeID"])]
        quote = self.quote(trade.instrument)
        if quote is None:
            reason = "INSTRUMENT_PRICE_UNKNOWN"
            return {**fields, "type": "STOP_LOSS_ORDER_REJECT", "rejectReason": reason}, reason
        price = stop_price(fields, trade.units, quote.ask if trade.units > 0 else quote.bid)
        return {**fields, "price": price_text(price, quote.instrument)}, None

    def _place(self, batch: Batch, fields: Transaction, prefix: str) -> Body:
        """Create the order and, where the market lets it, fill it at once."""
        created = batch.add(fields)
        order = batch.account.orders[int(created["id"])]
        said = {f"{prefix}CreateTransaction": created}
        outcome = self._arrival(batch.account, order)
        if isinstance(outcome, Execution):
            quote = self._met(order)
            assert quote is not None
            said[f"{prefix}FillTransaction"] = book(batch, order, outcome, quote, self._desk)
        elif outcome is not None:
            said[f"{prefix}CancelTransaction"] = cancel(batch, order, outcome)
        return said

    def _replace(self, batch: Batch, old: Order, fields: Transaction, prefix: str, *, cancels: str) -> Body:
        successor = str(int(batch.next_id) + 1)
        cancelled = cancel(batch, old, "CLIENT_REQUEST_REPLACED", replacedByOrderID=successor)
        said = self._place(batch, {**fields, "replacesOrderID": str(old.id), "cancellingTransactionID": cancelled["id"]}, prefix)
        if f"{prefix}CancelTransaction" in said:
            said[cancels] = said.pop(f"{prefix}CancelTransaction")
        return {f"{prefix}CancelTransaction": cancelled, **said}

    def _arrival(self, account: Account, order: Order) -> Execution | str | None:
        """What becomes of an order as it comes: a fill, the reason of its cancellation, or None when it waits."""
        quote = self._met(order)
        if quote is not None:
            self._prepare(account, order, quote)
        if quote is None or not quote.tradeable:
            at_once = order.type is OrderType.MARKET or order.time_in_force in AT_ONCE
            return "MARKET_HALTED" if at_once else None
        if order.type is not OrderType.MARKET and not is_triggered(account, order, quote):
            return "TIME_IN_FORCE_EXPIRED" if order.time_in_force in AT_ONCE else None
        return plan(account, order, quote, self._desk, arrives=True)

    def _met(self, order: Order) -> Quote | None:
        """The quote that a new order meets: that of the moment or, with a latency, the one a little later."""
        if order.type is not OrderType.MARKET or not self.options.latency:
            return self.quote(order.instrument)
        return self.market.quote(order.instrument, self.now + self.options.latency)

    def _prepare(self, account: Account, order: Order, quote: Quote) -> None:
        if order.type is OrderType.MARKET_IF_TOUCHED:
            order.initial_price = trigger_price(is_buy(account, order), order.trigger, quote)
        elif order.type is OrderType.TRAILING_STOP_LOSS and order.trade_id is not None:
            start_trailing(order, account.trades[order.trade_id], quote)

    # --- Answers ------------------------------------------------------------------------------------------------------------

    def _done(self, status: int, batch: Batch, said: Body) -> Reply:
        self._publish(batch)
        self._relieve(batch.account)
        return Reply(status, said | _closing(batch))

    def _rejected(self, batch: Batch, rejects: dict[str, Transaction], reason: str, *, status: int = 400) -> Reply:
        said: Body = {name: batch.add(fields) for name, fields in rejects.items()}
        self._publish(batch)
        return Reply(status, said | _closing(batch) | {"errorMessage": sentence(reason), "errorCode": reason})


def _closing(batch: Batch) -> Body:
    return {
        "relatedTransactionIDs": [transaction["id"] for transaction in batch.transactions],
        "lastTransactionID": str(batch.account.last_id),
    }
