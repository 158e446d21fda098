"""The bodies of the broker's transactions as typed values: all that is read is read before anything is changed. Pure.

What is absent or of the wrong kind raises one of `mbats.oanda.parse.WRONG_KIND`. Client ids that are no text count as none.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mbats.live.books.entries import ZERO, Ending, Fill, Opening, Part, Payment, Placed, Refusal, Renaming
from mbats.oanda.account import Order
from mbats.oanda.parse import parse_decimal
from mbats.oanda.transactions import Transaction, parse_id

LARGEST = Decimal(10) ** 15  # no account holds more of anything; beyond it arithmetic would lose digits
FINEST = -15


def read_placed(transaction: Transaction) -> Placed:
    """Any transaction that creates an order; its symbol is "" where only the trade is named."""
    body = transaction.body
    closing = body.get("tradeClose") or body.get("delayedTradeClose") or {}
    stop = body.get("stopLossOnFill") or body.get("guaranteedStopLossOnFill") or {}
    trade = body.get("tradeID", closing.get("tradeID"))
    return Placed(
        id=transaction.id,
        type=transaction.type.removesuffix("_ORDER"),
        symbol=_word(body, "instrument"),
        units=_optional(body, "units") or ZERO,
        price=_optional(body, "price"),
        distance=_optional(body, "distance"),
        client_id=_name(body.get("clientExtensions")),
        trade_id=None if trade is None else parse_id(trade),
        reduce_only=body.get("positionFill") == "REDUCE_ONLY" or trade is not None,
        replaces=_number(body, "replacesOrderID"),
        stop=_optional(stop, "price"),
        stop_distance=_optional(stop, "distance"),
        trail=_optional(body.get("trailingStopLossOnFill") or {}, "distance"),
        target=_optional(body.get("takeProfitOnFill") or {}, "price"),
    )


def read_standing(order: Order, symbol: str) -> Placed:
    """An order that is pending in an account's details, as if its transaction had been seen. It has that one's keys."""
    return read_placed(Transaction(order.id, f"{order.type}_ORDER", None, {**order.body, "instrument": symbol}))


def read_fill(transaction: Transaction) -> Fill:
    """An ORDER_FILL."""
    body = transaction.body
    closed = list(body.get("tradesClosed") or ())
    if body.get("tradeReduced"):
        closed.append(body["tradeReduced"])
    reduced = tuple(_part(part, body) for part in closed)
    reason = _word(body, "reason", required=True)
    kind, why = ("MARKET", reason.removeprefix("MARKET_ORDER_")) if reason.startswith("MARKET_ORDER_") else (reason, "")
    gain, loss = _conversions(body)
    pl = _optional(body, "pl")
    return Fill(
        order_id=parse_id(body["orderID"]),
        client_id=_text(body.get("clientOrderID")),
        type=kind.removesuffix("_ORDER"),
        why=why,
        symbol=_word(body, "instrument", required=True),
        units=_decimal(body["units"]),
        pl=sum((part.pl for part in reduced), ZERO) if pl is None else pl,
        financing=_optional(body, "financing") or ZERO,
        costs=(_optional(body, "commission") or ZERO) + (_optional(body, "guaranteedExecutionFee") or ZERO),
        balance=_optional(body, "accountBalance"),
        gain=gain,
        loss=loss,
        reduced=reduced,
        opened=_opening(body["tradeOpened"], body) if body.get("tradeOpened") else None,
    )


def read_ending(transaction: Transaction) -> Ending:
    """An ORDER_CANCEL."""
    body = transaction.body
    return Ending(
        order_id=parse_id(body["orderID"]),
        client_id=_text(body.get("clientOrderID")),
        reason=_word(body, "reason"),
        replaced_by=_number(body, "replacedByOrderID"),
    )


def read_refusal(transaction: Transaction) -> Refusal:
    """Any transaction whose type ends in _REJECT."""
    body = transaction.body
    return Refusal(_name(body.get("clientExtensions")) or _text(body.get("clientOrderID")), _word(body, "rejectReason"))


def read_transfer(transaction: Transaction) -> Payment:
    """A TRANSFER_FUNDS."""
    return Payment(_decimal(transaction.body["amount"]), _optional(transaction.body, "accountBalance"))


def read_financing(transaction: Transaction) -> Payment:
    """A DAILY_FINANCING, with what it says of single trades."""
    body = transaction.body
    trades = [
        of_trade for position in body.get("positionFinancings") or () for of_trade in position.get("openTradeFinancings") or ()
    ]
    parts = tuple((parse_id(of_trade["tradeID"]), _decimal(of_trade["financing"])) for of_trade in trades)
    return Payment(_decimal(body["financing"]), _optional(body, "accountBalance"), parts)


def read_other(transaction: Transaction) -> Payment:
    """Anything else: all that can matter is a new balance."""
    return Payment(None, _optional(transaction.body, "accountBalance"))


def read_renaming(transaction: Transaction) -> Renaming:
    """An ORDER_ or TRADE_CLIENT_EXTENSIONS_MODIFY."""
    body, of_order = transaction.body, transaction.type.startswith("ORDER")
    new = body.get("clientExtensionsModify" if of_order else "tradeClientExtensionsModify") or {}
    return Renaming(
        order_id=parse_id(body["orderID"]) if of_order else None,
        trade_id=None if of_order else parse_id(body["tradeID"]),
        client_id=_text(new.get("id")),
        changed="id" in new,
    )


def _part(part: Any, body: dict[str, Any]) -> Part:
    return Part(
        trade_id=parse_id(part["tradeID"]),
        units=_decimal(part["units"]),
        price=_price(part, body),
        pl=_optional(part, "realizedPL") or ZERO,
        financing=_optional(part, "financing") or ZERO,
    )


def _opening(opened: Any, body: dict[str, Any]) -> Opening:
    units = _decimal(opened["units"])
    if not units:
        raise ValueError("found a trade that was opened with no units")
    return Opening(
        trade_id=parse_id(opened["tradeID"]),
        units=units,
        price=_price(opened, body),
        client_id=_name(opened.get("clientExtensions")),
    )


def _price(part: Any, body: dict[str, Any]) -> Decimal:
    """The price of a part of a fill; old entries have that of the whole alone."""
    own = _optional(part, "price")
    return _decimal(body["price"]) if own is None else own


def _conversions(body: dict[str, Any]) -> tuple[Decimal | None, Decimal | None]:
    factors = body.get("homeConversionFactors") or {}
    gain, loss = factors.get("gainQuoteHome") or {}, factors.get("lossQuoteHome") or {}
    old_gain, old_loss = _optional(body, "gainQuoteHomeConversionFactor"), _optional(body, "lossQuoteHomeConversionFactor")
    return (
        _optional(gain, "factor") if old_gain is None else old_gain,
        _optional(loss, "factor") if old_loss is None else old_loss,
    )


def _decimal(value: Any) -> Decimal:
    number = parse_decimal(value)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(number) >= LARGEST or exponent < FINEST:
        raise ValueError(f"found {value!r}, expected a number that can be booked")
    return number


def _optional(body: Any, key: str) -> Decimal | None:
    return None if body.get(key) is None else _decimal(body[key])


def _number(body: dict[str, Any], key: str) -> int | None:
    return None if body.get(key) is None else parse_id(body[key])


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _name(extensions: Any) -> str | None:
    return _text(extensions.get("id")) if isinstance(extensions, dict) else None


def _word(body: dict[str, Any], key: str, *, required: bool = False) -> str:
    value = body.get(key)
    if required and not _text(value):
        raise ValueError(f"found {value!r} as {key}, expected a name")
    return value if isinstance(value, str) else ""
