"""Changing something at the broker: orders, trades, positions. Each request is sent once and has an outcome, never an error.

    trading = TradingClient(client.sessions, "101-004-1435156-001")
    outcome = trading.submit_order({"type": "MARKET", "instrument": "EUR_USD", "units": Decimal(1000), ...})

oandapyV20 turns every trouble into some exception; to one who has just sent an order they all mean the same: it may have been
filled. So nothing here is ever sent again, and whatever is not certain is `Unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from urllib.parse import quote

import requests
from oandapyV20 import V20Error
from oandapyV20.endpoints.apirequest import APIRequest
from oandapyV20.endpoints.orders import OrderCancel, OrderCreate, OrderReplace
from oandapyV20.endpoints.positions import PositionClose
from oandapyV20.endpoints.trades import TradeClose, TradeCRCDO

from mbats.oanda.outcomes import Outcome, Unknown, of_refusal, of_success
from mbats.oanda.precision import plain_body
from mbats.oanda.sessions import Sessions

Body = Mapping[str, Any]


class Keep(Enum):
    """Leave an order of a trade as it is, where None would cancel it."""

    AS_IT_IS = "as it is"


KEEP = Keep.AS_IT_IS


class TradingClient:
    """Writes to one account. Safe to share between threads; each has its own connection.

    Bodies are what the v20 documentation shows, with numbers as Decimal, quantised by the caller. A float raises TypeError before
    anything is sent. `order` and `trade` are numbers as the broker gave them, or `@` and a client id.
    """

    def __init__(self, sessions: Sessions, account: str) -> None:
        self.account = account
        self._sessions = sessions
        self._path = quote(account, safe="")

    def submit_order(self, order: Body) -> Outcome:
        """Ask for an order. An Accepted may say `cancelled`: no margin, a halted market, a bound that was passed."""
        return self._send(OrderCreate(self._path, plain_body({"order": order})))

    def replace_order(self, order_id: int | str, order: Body) -> Outcome:
        """Put a pending order in the place of another, which is cancelled; both are of the same type."""
        return self._send(OrderReplace(self._path, _spec(order_id), plain_body({"order": order})))

    def cancel_order(self, order_id: int | str) -> Outcome:
        """Cancel a pending order. Refused as not found may mean that it was filled meanwhile."""
        return self._send(OrderCancel(self._path, _spec(order_id)))

    def close_trade(self, trade_id: int | str, units: Decimal | Literal["ALL"] = "ALL") -> Outcome:
        """Close a trade, whole or by so many units, which are counted without a sign."""
        return self._send(TradeClose(self._path, _spec(trade_id), plain_body({"units": units})))

    def set_trade_orders(
        self,
        trade_id: int | str,
        *,
        take_profit: Body | Keep | None = KEEP,
        stop_loss: Body | Keep | None = KEEP,
        trailing_stop: Body | Keep | None = KEEP,
    ) -> Outcome:
        """Set, replace or, with None, cancel the orders that depend on a trade. What is not named stays as it is."""
        wanted = {"takeProfit": take_profit, "stopLoss": stop_loss, "trailingStopLoss": trailing_stop}
        body = {key: value for key, value in wanted.items() if value is not KEEP}
        if not body:
            raise ValueError(f"set_trade_orders({trade_id}) was asked to change nothing; nothing was sent.")
        return self._send(TradeCRCDO(self._path, _spec(trade_id), plain_body(body)))

    def close_position(
        self,
        instrument: str,
        *,
        long_units: Decimal | Literal["ALL", "NONE"] = "NONE",
        short_units: Decimal | Literal["ALL", "NONE"] = "NONE",
    ) -> Outcome:
        """Close one side of a position or both, whole or in part. To close a side that does not exist is refused."""
        body = plain_body({"longUnits": long_units, "shortUnits": short_units})
        return self._send(PositionClose(self._path, quote(instrument, safe=""), body))

    def _send(self, request: APIRequest) -> Outcome:
        """Send once. Whatever goes wrong after this point, the broker may have done it."""
        what = f"{request.method} {request} at {self._sessions.url}"
        try:
            payload = self._sessions.ask(request, lane="orders")
        except V20Error as error:
            return of_refusal(error.code, self._sessions.without_token(error.msg))
        except requests.RequestException as error:
            return Unknown(f"{what}: no answer ({type(error).__name__}: {error})")
        except ValueError as error:  # not JSON, not UTF-8, or another success than that of this request
            return Unknown(f"{what}: the answer cannot be read: {error}")
        except Exception as error:  # a library that breaks while it reads an answer leaves an order just as open
            return Unknown(f"{what}: {type(error).__name__}: {error}")
        return of_success(request.expected_status, payload)


def _spec(number_or_client_id: int | str) -> str:
    return quote(str(number_or_client_id), safe="@")
