"""The exchange as its clients see it: what each request does to an account, and the answer that it gets.

A request that breaks a rule of form is answered 400 and leaves a reject transaction. One that is well formed is answered 201
(orders created and replaced) or 200, and may still end as a cancellation: a halted market, too little margin, a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from mbats.simulator.core import requests
from mbats.simulator.core.account import Account
from mbats.simulator.core.batch import Batch
from mbats.simulator.core.fills import cancel
from mbats.simulator.core.numbers import money_text
from mbats.simulator.core.placing import Body, Placing, Reply
from mbats.simulator.core.valuation import value
from mbats.simulator.core.values import Order, OrderState, OrderType, Trade, Transaction
from mbats.simulator.errors import forbidden, invalid, no_such

PREFIX = {
    OrderType.TAKE_PROFIT: "takeProfit",
    OrderType.STOP_LOSS: "stopLoss",
    OrderType.TRAILING_STOP_LOSS: "trailingStopLoss",
}


class Engine(Placing):
    """Accounts, a market, and what clients ask of them. A request happens at `now`; Refusal is raised where it leaves nothing."""

    @property
    def strip_on_fill(self) -> bool:
        """Whether orders on fill are dropped without a word: a fault that can be set."""
        return self._desk.strip_on_fill

    @strip_on_fill.setter
    def strip_on_fill(self, on: bool) -> None:
        self._desk.strip_on_fill = on

    # --- Orders ------------------------------------------------------------------------------------------------------------

    def create_order(self, account_id: str, body: Mapping[str, Any]) -> Reply:
        """POST orders: 201 with what became of the order, or 400 with the reject transaction."""
        account = self.account(account_id)
        fields, reason = self._priced(account, *self._read_order(account, body))
        batch = Batch(account, self.now, requested=True)
        if reason is not None:
            return self._rejected(batch, {"orderRejectTransaction": fields}, reason)
        return self._done(201, batch, self._place(batch, fields, "order"))

    def replace_order(
        self, account_id: str, specifier: str, body: Mapping[str, Any], client_request_id: str | None = None
    ) -> Reply:
        """PUT orders/{specifier}: the old one is cancelled and the new one takes its place, or neither happens."""
        account = self.account(account_id)
        old = self._pending(account, specifier)
        if old is None:
            return self._no_order(account, specifier)
        fields, reason = self._priced(account, *self._read_order(account, body, replaces=old))
        batch = Batch(account, self.now, requested=True)
        if reason is not None:
            return self._rejected(batch, {"orderRejectTransaction": fields}, reason)
        return self._done(201, batch, self._replace(batch, old, fields, "order", cancels="replacingOrderCancelTransaction"))

    def cancel_order(self, account_id: str, specifier: str, client_request_id: str | None = None) -> Reply:
        """PUT orders/{specifier}/cancel: 200, or 404 with the reject transaction."""
        account = self.account(account_id)
        order = self._pending(account, specifier)
        if order is None:
            return self._no_order(account, specifier)
        batch = Batch(account, self.now, requested=True)
        return self._done(200, batch, {"orderCancelTransaction": cancel(batch, order, "CLIENT_REQUEST")})

    def set_order_extensions(self, account_id: str, specifier: str, body: Mapping[str, Any]) -> Reply:
        """PUT orders/{specifier}/clientExtensions of a pending order."""
        account = self.account(account_id)
        order = self._pending(account, specifier)
        fields, reason = requests.read_order_extensions(account, order, body)
        batch = Batch(account, self.now, requested=True)
        name = "orderClientExtensionsModify"
        if order is None:
            fields = {**_named_order(specifier), **fields}
            return self._rejected(batch, {f"{name}RejectTransaction": fields}, "ORDER_DOESNT_EXIST", status=404)
        if reason is not None:
            return self._rejected(batch, {f"{name}RejectTransaction": fields}, reason)
        return self._done(200, batch, {f"{name}Transaction": batch.add(fields)})

    # --- Trades and positions ---------------------------------------------------------------------------------------------

    def close_trade(self, account_id: str, specifier: str, body: Mapping[str, Any]) -> Reply:
        """PUT trades/{specifier}/close, all of it or a part."""
        account = self.account(account_id)
        trade = self._open_trade(account, specifier)
        fields, reason = requests.read_close_trade(
            account, trade, body, digits=self.market.instruments[trade.instrument].units_precision
        )
        batch = Batch(account, self.now, requested=True)
        if reason is not None:
            return self._rejected(batch, {"orderRejectTransaction": fields}, reason)
        return self._done(200, batch, self._place(batch, fields, "order"))

    def set_trade_extensions(self, account_id: str, specifier: str, body: Mapping[str, Any]) -> Reply:
        """PUT trades/{specifier}/clientExtensions of an open trade."""
        account = self.account(account_id)
        trade = self._open_trade(account, specifier)
        fields, reason = requests.read_trade_extensions(account, trade, body)
        batch = Batch(account, self.now, requested=True)
        name = "tradeClientExtensionsModify"
        if reason is not None:
            return self._rejected(batch, {f"{name}RejectTransaction": fields}, reason)
        return self._done(200, batch, {f"{name}Transaction": batch.add(fields)})

    def set_trade_orders(self, account_id: str, specifier: str, body: Mapping[str, Any]) -> Reply:
        """PUT trades/{specifier}/orders: each of the three is set, cancelled (null) or kept (absent); one mistake stops all."""
        account = self.account(account_id)
        trade = self._open_trade(account, specifier)
        strict = self.options.strict_precision
        read = requests.read_trade_orders(account, trade, self.market.instruments, body, self.now, strict=strict)
        asked = [
            (kind, action, *(self._priced(account, fields, reason) if fields else (None, reason)))
            for kind, action, fields, reason in read
        ]
        batch = Batch(account, self.now, requested=True)
        mistakes = {f"{PREFIX[kind]}OrderRejectTransaction": fields for kind, _, fields, reason in asked if fields and reason}
        if mistakes:
            return self._rejected(batch, mistakes, next(reason for *_, reason in asked if reason))
        said: Body = {}
        for kind, action, fields, _ in asked:
            old = account.orders.get(trade.orders.get(kind, 0))
            if action == "cancel" and old is not None:
                said[f"{PREFIX[kind]}OrderCancelTransaction"] = cancel(batch, old, "CLIENT_REQUEST")
            elif action == "set" and fields is not None and trade.closed is None:
                said |= self._set_trade_order(batch, old, fields, PREFIX[kind])
        return self._done(200, batch, said)

    def _set_trade_order(self, batch: Batch, old: Order | None, fields: Transaction, prefix: str) -> Body:
        names = {
            "orderCancelTransaction": f"{prefix}OrderCancelTransaction",
            "orderCreateTransaction": f"{prefix}OrderTransaction",
            "orderFillTransaction": f"{prefix}OrderFillTransaction",
            "created": f"{prefix}OrderCreatedCancelTransaction",
        }
        said = self._replace(batch, old, fields, "order", cancels="created") if old else self._place(batch, fields, "order")
        if old is None and "orderCancelTransaction" in said:
            said["created"] = said.pop("orderCancelTransaction")
        return {names[key]: transaction for key, transaction in said.items()}

    def close_position(self, account_id: str, instrument: str, body: Mapping[str, Any]) -> Reply:
        """PUT positions/{instrument}/close, the long side, the short one, or both."""
        account = self.account(account_id)
        if instrument not in self.market.instruments:
            raise invalid("instrument")
        digits = self.market.instruments[instrument].units_precision
        asked = requests.read_close_position(account, instrument, body, digits=digits)
        batch = Batch(account, self.now, requested=True)
        mistakes = {f"{side}OrderRejectTransaction": fields for side, (fields, reason) in asked.items() if reason}
        if mistakes:
            return self._rejected(batch, mistakes, next(reason for _, reason in asked.values() if reason))
        said: Body = {}
        for side, (fields, _) in asked.items():
            said |= self._place(batch, fields, f"{side}Order")
        return self._done(200, batch, said)

    # --- The account ------------------------------------------------------------------------------------------------------

    def configure(self, account_id: str, body: Mapping[str, Any]) -> Reply:
        """PATCH configuration: the alias, and the margin rate unless it would bring about a margin call."""
        account = self.account(account_id)
        fields, reason = requests.read_configuration(account, body)
        if reason is None and "marginRate" in fields:
            reason = self._margin_rate_trouble(account, Decimal(fields["marginRate"]))
            if reason is not None:
                fields |= {"type": "CLIENT_CONFIGURE_REJECT", "rejectReason": reason}
        batch = Batch(account, self.now, requested=True)
        if reason is not None:
            return self._rejected(batch, {"clientConfigureRejectTransaction": fields}, reason)
        return self._done(200, batch, {"clientConfigureTransaction": batch.add(fields)})

    def _margin_rate_trouble(self, account: Account, rate: Decimal) -> str | None:
        before, account.margin_rate = account.margin_rate, rate
        worth = value(account, self.market.instruments, self.quote)
        account.margin_rate = before
        if worth.closeout_percent >= 1:
            return "MARGIN_RATE_WOULD_TRIGGER_CLOSEOUT"
        return "MARGIN_RATE_WOULD_TRIGGER_MARGIN_CALL" if worth.call_percent >= 1 else None

    def transfer(self, account_id: str, amount: Decimal, comment: str = "") -> Reply:
        """Pay in, or out when negative: for the administrator. What margin needs cannot be paid out."""
        account = self.account(account_id)
        batch = Batch(account, self.now, requested=True)
        fields: Transaction = {"type": "TRANSFER_FUNDS", "amount": money_text(amount), "fundingReason": "CLIENT_FUNDING"}
        fields |= {"comment": comment} if comment else {}
        if amount < 0 and -amount > self.valuation(account_id).withdrawal_limit:
            fields |= {"type": "TRANSFER_FUNDS_REJECT", "rejectReason": "INSUFFICIENT_FUNDS"}
            return self._rejected(batch, {"transferFundsRejectTransaction": fields}, "INSUFFICIENT_FUNDS")
        fields["accountBalance"] = money_text(account.balance + amount)
        return self._done(200, batch, {"transferFundsTransaction": batch.add(fields)})

    def force_closeout(self, account_id: str) -> Reply:
        """Close the account out as if its margin were gone: a fault."""
        account = self.account(account_id)
        before = account.last_id
        self.close_out(account)
        return Reply(200, {"transactions": account.transactions[before:], "lastTransactionID": str(account.last_id)})

    def reset_pl(self, account_id: str) -> Reply:
        """Start the resettable profit and loss anew."""
        batch = Batch(self.account(account_id), self.now, requested=True)
        return self._done(200, batch, {"resetResettablePLTransaction": batch.add({"type": "RESET_RESETTABLE_PL"})})

    def account(self, account_id: str) -> Account:
        """The account of this id. Raises Refusal when there is none."""
        if account_id not in self.accounts:
            raise forbidden()
        return self.accounts[account_id]

    # --- Finding -------------------------------------------------------------------------------------------------------------

    def _read_order(self, account: Account, body: Mapping[str, Any], replaces: Order | None = None) -> requests.Read:
        return requests.read_order(
            account,
            self.market.instruments,
            body,
            self.now,
            replaces=replaces,
            strict=self.options.strict_precision,
            pending_orders=self.options.pending_orders,
        )

    def _pending(self, account: Account, specifier: str) -> Order | None:
        order = account.order_by(specifier)
        return order if order is not None and order.state is OrderState.PENDING else None

    def _open_trade(self, account: Account, specifier: str) -> Trade:
        trade = account.trade_by(specifier)
        if trade is None or trade.closed is not None:
            raise no_such("trade", account.last_id)
        return trade

    def _no_order(self, account: Account, specifier: str) -> Reply:
        fields: Transaction = {
            "type": "ORDER_CANCEL_REJECT",
            **_named_order(specifier),
            "rejectReason": "ORDER_DOESNT_EXIST",
        }
        batch = Batch(account, self.now, requested=True)
        return self._rejected(batch, {"orderCancelRejectTransaction": fields}, "ORDER_DOESNT_EXIST", status=404)


def _named_order(specifier: str) -> Transaction:
    return {"clientOrderID": specifier[1:]} if specifier.startswith("@") else {"orderID": specifier}
