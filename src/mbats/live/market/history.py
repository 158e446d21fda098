"""The bars before the present, for the indicators of a deployment that starts: what is stored, and the rest from the API."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from adbc_driver_manager import Error as AdbcError

from mbats.database import Database
from mbats.errors import MbatsError, NoBars, OandaRejected
from mbats.live.market.assembly import find_link
from mbats.market import Bars, Floats, Granularity, Instrument, to_datetime
from mbats.oanda.client import OandaClient
from mbats.secmaster.bars import load_bars
from mbats.secmaster.series import stored_series
from mbats.trading.feeds import conversion_columns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class History:
    """Complete bars of one symbol up to the present, and what converts its quote currency at each bar's open and close."""

    bars: Bars
    conversion_open: Floats
    conversion_close: Floats


def read_history(
    symbol: str, granularity: Granularity, since: datetime, secmaster: Database | None, client: OandaClient, *, vendor: str
) -> Bars:
    """The complete bars that start at `since` (UTC) or later, up to the broker's newest; none doubled, missing or out of order.

    Stored bars are taken if they are of `vendor` (`simulator` or `oanda`) and the broker says the same of the last of them; a
    database that is away costs only more requests. Raises OandaError when the broker cannot be read.
    """
    stored = _stored(symbol, granularity, since, secmaster, vendor)
    if not len(stored):
        return _asked(client, symbol, granularity, since)
    last = to_datetime(stored.time[-1])
    try:
        newer = _asked(client, symbol, granularity, last)
    except OandaRejected as error:
        log.warning("Stored %s bars of %s are left out: the broker refused to show its own: %s", granularity, symbol, error)
        return _asked(client, symbol, granularity, since)
    if not len(newer) or newer[:1].fingerprint() != stored[-1:].fingerprint():
        # One bar that differs may be a revision, or another market altogether: what the broker says now is what will go on.
        log.warning("Stored %s bars of %s are left out: the broker has other values at %s.", granularity, symbol, last)
        return _asked(client, symbol, granularity, since)
    older = _asked(client, symbol, granularity, since, to_datetime(stored.time[0]))
    return Bars.concatenate([older, stored[:-1], newer])


def read_with_conversions(
    instruments: Sequence[Instrument],
    granularity: Granularity,
    since: datetime,
    secmaster: Database | None,
    client: OandaClient,
    *,
    vendor: str,
    currency: str,
    offered: Collection[str],
) -> dict[str, History]:
    """`read_history` of several symbols, with the conversions into `currency` that a backtest over these bars would use.

    `offered` are the names of all that the account may trade: a pair that converts is one of them. Raises NoBars when there is
    none, or when a symbol has no bar.
    """
    bars = {each.name: read_history(each.name, granularity, since, secmaster, client, vendor=vendor) for each in instruments}
    empty = [name for name, found in bars.items() if not len(found)]
    if empty:
        raise NoBars(f"The broker has no {granularity} bars of {', '.join(empty)} since {since:%Y-%m-%d %H:%M} UTC.")
    links = {}
    for name in _links(bars, currency, offered):
        first = min(to_datetime(found.time[0]) for found in bars.values())
        # The bar before the first may be days older: the converting pair had its last price on the other side of a weekend.
        before = client.candles_before(name, granularity, first, 1)
        after = bars[name] if name in bars else read_history(name, granularity, first, secmaster, client, vendor=vendor)
        links[name] = Bars.concatenate([before, after[after.time > before.time[-1]] if len(before) else after])
    found = {}
    for instrument in instruments:
        own = bars[instrument.name]
        at_open, at_close = conversion_columns(instrument, own, currency, {**bars, **links})
        found[instrument.name] = History(own, at_open, at_close)
    return found


def _links(symbols: Collection[str], currency: str, offered: Collection[str]) -> list[str]:
    try:
        found = {symbol: find_link(symbol, currency, offered) for symbol in symbols}
    except LookupError as error:
        raise NoBars(f"{error.args[0]}, so nothing converts it into {currency}. Nothing was read.") from None
    return sorted({link.symbol for symbol, link in found.items() if link is not None and link.symbol != symbol})


def _stored(symbol: str, granularity: Granularity, since: datetime, secmaster: Database | None, vendor: str) -> Bars:
    """The stored bars of this vendor from `since` on; none when the database cannot say."""
    if secmaster is None:
        return Bars.empty()
    try:
        series = stored_series(secmaster, symbol, granularity)
        if series is None or series.vendor != vendor or series.last < since:
            return Bars.empty()
        return load_bars(secmaster, symbol, granularity, start=since, end=series.last + granularity.length)
    except (MbatsError, sa.exc.SQLAlchemyError, AdbcError) as error:
        log.warning("Stored bars of %s cannot be read, so all are asked of the broker: %s", symbol, error)
        return Bars.empty()


def _asked(client: OandaClient, symbol: str, granularity: Granularity, start: datetime, end: datetime | None = None) -> Bars:
    return Bars.concatenate(list(client.candles(symbol, granularity, start=start, end=end)))
