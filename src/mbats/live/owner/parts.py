"""From an order of Backtrader's to what is asked of the broker: close what is there, open what is not, wait, or watch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from mbats.live.gate import Kind, Order, View, split_flip
from mbats.live.gate.exposure import closable
from mbats.live.wire import Form, Submit

PENDING = {Form.LIMIT: Kind.LIMIT, Form.STOP: Kind.STOP}


class Way(StrEnum):
    """How a part of an order is carried out."""

    OPEN = "open"  # an order that may open a trade
    CLOSE = "close"  # own trades are closed by their number, which can open nothing
    REST = "rest"  # an order that waits at the broker
    WATCH = "watch"  # a form that OANDA does not have: the trader watches the price, and acts when it comes


@dataclass(frozen=True, slots=True)
class Part:
    """One question to the gate, and how its answer is carried out."""

    order: Order
    way: Way


def parts_of(submit: Submit, deployment: str, view: View) -> tuple[Part, ...]:
    """A market order that turns a position round is a close and an opening; everything else is one part.

    The purpose names the effect and not the side, so that a close and a new entry in the same bar are two intents, and the same
    one said twice is one (R24).
    """
    order = Order(deployment, submit.symbol, submit.units, submit.bar, "")
    if submit.form is Form.MARKET:
        return tuple(
            Part(replace(part, purpose=_purpose(part)), Way.CLOSE if part.reduce_only else Way.OPEN)
            for part in split_flip(order, view)
        )
    held = closable(view, order)
    only_reduces = held * submit.units < 0 and abs(submit.units) <= abs(held) and submit.stop is None and submit.target is None
    order = replace(order, reduce_only=only_reduces)
    if submit.form in PENDING:
        order = replace(order, kind=PENDING[submit.form], price=submit.price)
        way = Way.REST
    else:
        way = Way.WATCH
    price = submit.price if submit.price is not None else submit.trail
    return (Part(replace(order, purpose=f"{_purpose(order)}-{submit.form}@{price:f}"), way),)


def _purpose(order: Order) -> str:
    if order.reduce_only:
        return "close-short" if order.buys else "close-long"
    return "open-long" if order.buys else "open-short"
