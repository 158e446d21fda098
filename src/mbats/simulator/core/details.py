"""What the orders that end a trade have in common, wherever a client writes them: as an order, on fill, or on a trade."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from mbats.market import Instrument
from mbats.simulator.core.form import Form
from mbats.simulator.core.values import DEPENDENT_KEYS, OrderType

TIMES_IN_FORCE = ("GTC", "GTD", "GFD", "FOK", "IOC")
LASTING = ("GTC", "GTD", "GFD")  # what may wait in the book
TRIGGERS = ("DEFAULT", "INVERSE", "BID", "ASK", "MID")
MINIMUM_TRAILING_POINTS, MAXIMUM_TRAILING_POINTS = 50, 100_000


def read_terms(form: Form, kind: OrderType, instrument: Instrument | None, now: np.datetime64, prefix: str = "") -> None:
    """Read price or distance, time in force and client extensions of an order that ends a trade.

    `prefix` begins the reject reasons of an order on fill, for instance TAKE_PROFIT_ON_FILL_. Without an instrument, which is a
    mistake of its own, digits are not checked.
    """
    if kind is OrderType.TAKE_PROFIT:
        _read_price(form, prefix, instrument)
    elif kind is OrderType.STOP_LOSS:
        _read_stop(form, prefix, instrument)
    else:
        _read_trail(form, prefix, instrument)
    read_time_in_force(form, now, LASTING, prefix=prefix)
    if not prefix:
        form.word("triggerCondition", TRIGGERS, "DEFAULT")


def read_on_fill(form: Form, instrument: Instrument | None, now: np.datetime64) -> None:
    """Read the orders that are to be attached to the trade that an order opens."""
    names: list[str] = []
    for key, kind in DEPENDENT_KEYS.items():
        if form.has(f"{key}OnFill"):
            part = form.part(f"{key}OnFill")
            read_terms(part, kind, instrument, now, f"{kind}_ON_FILL_")
            part.extensions("clientExtensions", f"{kind}_ON_FILL_CLIENT_ORDER")
            form.fields[f"{key}OnFill"] = part.fields
            names += [part.fields["clientExtensions"]["id"]] if part.fields.get("clientExtensions", {}).get("id") else []
            if part.reason:
                form.reject(part.reason)
    if form.has("guaranteedStopLossOnFill"):  # to leave it out without a word would leave the trade without its stop
        form.reject("STOP_LOSS_ON_FILL_GUARANTEED_NOT_ALLOWED")
    if len(set(names)) < len(names):
        form.reject("ORDERS_ON_FILL_DUPLICATE_CLIENT_ORDER_IDS")


def read_time_in_force(
    form: Form, now: np.datetime64, allowed: tuple[str, ...], *, default: str = "GTC", prefix: str = ""
) -> None:
    """Read how long the order is good; one that is good till a date needs one ahead of `now`."""
    word = form.word("timeInForce", TIMES_IN_FORCE, default)
    if word not in allowed:
        form.reject(f"{prefix}TIME_IN_FORCE_INVALID")
    if word != "GTD":
        return
    gtd = f"{prefix or 'TIME_IN_FORCE_'}GTD_TIMESTAMP"
    until = form.moment("gtdTime")
    if until is None:
        form.reject(f"{gtd}_MISSING")
    elif until <= now:
        form.reject(f"{gtd}_IN_PAST")


def _read_price(form: Form, prefix: str, instrument: Instrument | None) -> None:
    form.price("price", f"{prefix}PRICE", _digits(instrument))
    if not form.has("price"):
        form.reject(f"{prefix}PRICE_MISSING")


def _read_stop(form: Form, prefix: str, instrument: Instrument | None) -> None:
    """A stop loss, by price or by distance. Its distance has the maximum of a trailing one, and no minimum."""
    of_stop = prefix or "STOP_LOSS_ORDER_"
    form.price("price", f"{prefix}PRICE", _digits(instrument))
    distance = form.price("distance", f"{prefix}DISTANCE" if prefix else "PRICE_DISTANCE", _digits(instrument))
    if form.has("price") == form.has("distance"):
        form.reject(f"{of_stop}PRICE_AND_DISTANCE_BOTH_{'SPECIFIED' if form.has('price') else 'MISSING'}")
    if instrument and distance and distance > MAXIMUM_TRAILING_POINTS * _point(instrument):
        form.reject(f"{prefix}PRICE_DISTANCE_MAXIMUM_EXCEEDED")
    if form.has("guaranteed"):
        if not isinstance(form.body["guaranteed"], bool):
            raise form.invalid("guaranteed")
        if form.body["guaranteed"]:
            form.reject(f"{of_stop}GUARANTEED_NOT_ALLOWED")


def _read_trail(form: Form, prefix: str, instrument: Instrument | None) -> None:
    reasons = f"{prefix}PRICE_DISTANCE"
    distance = form.price("distance", reasons, _digits(instrument))
    if not form.has("distance"):
        form.reject(f"{reasons}_MISSING")
    if instrument and distance and distance > MAXIMUM_TRAILING_POINTS * _point(instrument):
        form.reject(f"{reasons}_MAXIMUM_EXCEEDED")
    if instrument and distance and distance < MINIMUM_TRAILING_POINTS * _point(instrument):
        form.reject(f"{reasons}_MINIMUM_NOT_MET")


def _digits(instrument: Instrument | None) -> int | None:
    return instrument.display_precision if instrument else None


def _point(instrument: Instrument) -> Decimal:
    return Decimal(1).scaleb(-instrument.display_precision)
