"""A fill in the books: whose it is, which lots and trades it changes, and what its owners realised by it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING

from mbats.live.books.entries import FOR_TRADES, OF_TRADES, TARGET, ZERO, Fill, Part, Placed
from mbats.live.books.events import BookEvent, Filled, Financed, Role
from mbats.live.books.holdings import Share, share_out
from mbats.live.books.parts import Held, Lot
from mbats.live.books.protecting import lot_named, owner_of, role_named, stop_on_fill
from mbats.oanda.transactions import Transaction

if TYPE_CHECKING:
    from mbats.live.books.account import Books

PLACES = Decimal("0.0001")  # money as OANDA books it
DIGITS = Context(prec=60)  # enough to round whatever was read


@dataclass(slots=True)
class Tally:
    """What one owner dealt in one fill, as it adds up; `value` is size × price. `profit` is in the quote currency."""

    units: Decimal = ZERO
    size: Decimal = ZERO
    value: Decimal = ZERO
    profit: Decimal = ZERO
    opened: str | None = None
    reduced: list[str] = field(default_factory=list)


def deal_fill(books: Books, transaction: Transaction, fill: Fill) -> list[BookEvent]:
    """Book a fill but for the account's balance; one Filled for each owner that it touched.

    An order of a deployment's own is that deployment's. What ends a trade (its stop, its target, a close of it, the broker's
    close-outs) is theirs for whom the trade stands, so that it never opens a position for anybody.
    """
    events: list[BookEvent] = _misfits(books, transaction, fill)
    events += _interest(books, transaction, fill)
    order = books.forget(fill.order_id)
    client_id = fill.client_id or (order.client_id if order else None)
    owner = owner_of(client_id)
    new = Lot(_lot_id(books, fill, client_id, owner), owner, fill.symbol, ZERO, ZERO, transaction.time or books.seen)
    tallies: dict[str, Tally] = {}
    rest = fill.dealt
    ends_trades = fill.type in OF_TRADES or fill.why in FOR_TRADES
    for part in fill.reduced:
        if ends_trades:
            rest -= part.units
            for share in _shares(books, part, client_id, owner):
                units = share.units.copy_sign(part.units)
                _deal(books, tallies, replace(new, deployment=share.owner, units=units, price=part.price), share.lot_id)
        _reduce(books, part)
    if rest:
        lot = replace(new, units=rest, price=_price(fill))
        _deal(books, tallies, _protected(lot, order) if order and owner else lot, lot_named(client_id))
    _open(books, transaction, fill, tallies.get(owner))
    return [*_filled(books, transaction, fill, client_id, tallies), *events]


def pay_out(books: Books, parts: Iterable[tuple[int, Decimal]], amount: Decimal) -> dict[str, Decimal]:
    """Book interest: what is said of a trade goes to those for whom it stands, by units; all else to nobody."""
    amounts: dict[str, Decimal] = {}
    for trade_id, paid in parts:
        trade = books.trades.get(trade_id)
        shares = share_out(books.lots, books.trades, books.made, trade, trade.units) if trade else [Share("", None, Decimal(1))]
        left, units = paid, sum((share.units for share in shares), ZERO)
        for share in shares[:-1]:
            part = (paid * share.units / units).quantize(PLACES, ROUND_HALF_UP, DIGITS)
            amounts[share.owner] = amounts.get(share.owner, ZERO) + part
            left -= part
        amounts[shares[-1].owner] = amounts.get(shares[-1].owner, ZERO) + left
    amounts[""] = amounts.get("", ZERO) + amount - sum(amounts.values(), ZERO)
    amounts = {owner: paid for owner, paid in amounts.items() if paid}
    for owner, paid in amounts.items():
        books.financing[owner] = books.financing.get(owner, ZERO) + paid
    return amounts


def _misfits(books: Books, transaction: Transaction, fill: Fill) -> list[BookEvent]:
    """What contradicts the books before the fill; it is booked as far as it goes."""
    wrong = []
    if fill.units != fill.dealt:
        wrong.append(f"says {fill.units} units, and its trades {fill.dealt}")
    for part in fill.reduced:
        trade = books.trades.get(part.trade_id)
        if trade is None:
            wrong.append(f"ends trade {part.trade_id}, which is not known")
        elif trade.units * part.units >= 0 or abs(part.units) > abs(trade.units) or trade.symbol != fill.symbol:
            wrong.append(
                f"ends {part.units} units of {fill.symbol} of trade {trade.id}, which holds {trade.units} {trade.symbol}"
            )
    if fill.reduced and _rates(books, fill) is None:
        wrong.append(f"does not say what {fill.symbol} is worth in {books.currency}")
    return [books.doubt(transaction, what) for what in wrong]


def _interest(books: Books, transaction: Transaction, fill: Fill) -> list[BookEvent]:
    if not fill.financing:
        return []
    parts = [(part.trade_id, part.financing) for part in fill.reduced]
    return [Financed(transaction, pay_out(books, parts, fill.financing))]


def _shares(books: Books, part: Part, client_id: str | None, owner: str) -> list[Share]:
    trade = books.trades.get(part.trade_id)
    if trade is None:
        return [Share(owner, lot_named(client_id), abs(part.units))]
    return share_out(books.lots, books.trades, books.made, trade, part.units, lot_id=lot_named(client_id), owner=owner or None)


def _deal(books: Books, tallies: dict[str, Tally], lot: Lot, first: str | None) -> None:
    dealt = books.deal(lot, first=(first,) if first else ())
    tally = tallies.setdefault(lot.deployment, Tally())
    tally.units += lot.units
    tally.size += abs(lot.units)
    tally.value += abs(lot.units) * lot.price
    tally.profit += dealt.profit
    tally.opened = dealt.opened or tally.opened
    tally.reduced += dealt.reduced


def _reduce(books: Books, part: Part) -> None:
    trade = books.trades.get(part.trade_id)
    if trade is None:
        return
    units = trade.units + part.units
    if units * trade.units > 0:
        books.trades[trade.id] = replace(trade, units=units)
    else:
        del books.trades[trade.id]
        books.made.pop(trade.id, None)


def _open(books: Books, transaction: Transaction, fill: Fill, tally: Tally | None) -> None:
    opened = fill.opened
    if opened is None:
        return
    time = transaction.time or books.seen
    books.trades[opened.trade_id] = Held(opened.trade_id, fill.symbol, opened.units, opened.price, time, opened.client_id)
    if tally is not None and tally.opened is not None:
        books.made[opened.trade_id] = tally.opened


def _lot_id(books: Books, fill: Fill, client_id: str | None, owner: str) -> str:
    """The id of a lot that this fill may open; a client id that another lot has already cannot be it."""
    taken = books.find_lot(client_id)
    if owner and client_id and (taken is None or (taken.deployment, taken.symbol) == (owner, fill.symbol)):
        return client_id
    return f"trade:{fill.opened.trade_id}" if fill.opened else f"order:{fill.order_id}"


def _protected(lot: Lot, order: Placed) -> Lot:
    return replace(lot, stop=stop_on_fill(order, lot.units, lot.price), trail=order.trail, target=order.target)


def _price(fill: Fill) -> Decimal:
    """What all units dealt at: parts of one fill may have prices of their own."""
    parts = [(part.units, part.price) for part in fill.reduced] + (
        [(fill.opened.units, fill.opened.price)] if fill.opened else []
    )
    prices = {price for _, price in parts}
    return prices.pop() if len(prices) == 1 else sum((units * price for units, price in parts), ZERO) / fill.dealt


def _rates(books: Books, fill: Fill) -> tuple[Decimal, Decimal] | None:
    """What a gain and a loss of one unit of the quote currency are in the account's; None where nothing says it."""
    if fill.gain is not None and fill.loss is not None:
        return fill.gain, fill.loss
    return (Decimal(1), Decimal(1)) if fill.symbol.endswith(f"_{books.currency}") else None


def _filled(
    books: Books, transaction: Transaction, fill: Fill, client_id: str | None, tallies: dict[str, Tally]
) -> list[BookEvent]:
    """The events, after what they realised was booked; what they did not, of the broker's own sum, is booked on nobody."""
    gain, loss = _rates(books, fill) or (ZERO, ZERO)
    events: list[BookEvent] = []
    booked = ZERO
    for owner, tally in tallies.items():
        pnl = (tally.profit * (gain if tally.profit > 0 else loss)).quantize(PLACES, ROUND_HALF_UP, DIGITS)
        books.realised[owner] = books.realised.get(owner, ZERO) + pnl
        booked += pnl
        events.append(
            Filled(
                transaction=transaction,
                order_id=fill.order_id,
                client_id=client_id,
                owner=owner,
                role=_role(fill, owner, client_id, tally),
                symbol=fill.symbol,
                units=tally.units,
                price=tally.value / tally.size,
                pnl=pnl,
                position=books.position(owner, fill.symbol),
                lot_id=tally.opened or next(iter(tally.reduced), None),
                opened_trade_id=fill.opened.trade_id if fill.opened else None,
            )
        )
    if fill.pl != booked:
        books.realised[""] = books.realised.get("", ZERO) + fill.pl - booked
    if fill.costs:
        payer = next(iter(tallies), "")
        books.costs[payer] = books.costs.get(payer, ZERO) - fill.costs
    return events


def _role(fill: Fill, owner: str, client_id: str | None, tally: Tally) -> Role:
    if not owner or fill.why == "POSITION_CLOSEOUT":
        return "external"
    if fill.type in OF_TRADES:
        return "target" if fill.type == TARGET else "stop"
    if fill.why in ("MARGIN_CLOSEOUT", "DELAYED_TRADE_CLOSE"):
        return "closeout"
    if tally.opened is None:
        return role_named(client_id) or "exit"
    return "entry"
