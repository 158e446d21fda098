"""Market data: candles and prices. Candles are made in worker threads, so that orders need not wait for a history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from aiohttp import web

from mbats.market import Instrument
from mbats.simulator import queries
from mbats.simulator.account_wire import Standing
from mbats.simulator.alignment import candle_ends
from mbats.simulator.available import units_available
from mbats.simulator.candles import Flags
from mbats.simulator.core.times import write_time
from mbats.simulator.errors import invalid
from mbats.simulator.prices import Candles
from mbats.simulator.queries import CandleQuery
from mbats.simulator.quotes import Conversion, Quote, conversion
from mbats.simulator.rest.respond import answer, time_format, written
from mbats.simulator.rest.view import RUNTIME, View, account_id, view
from mbats.simulator.wire import (
    TimeFormat,
    candles_body,
    conversion_body,
    encode,
    home_factors_body,
    price_body,
    units_available_body,
)

WORKERS = 2
LATEST = 3  # the last complete candle, one that is over but not yet complete, and the one that forms

POOL = web.AppKey("pool", ThreadPoolExecutor)


async def workers(app: web.Application) -> AsyncIterator[None]:
    """The threads in which candles are made, for as long as the application runs."""
    app[POOL] = ThreadPoolExecutor(WORKERS, thread_name_prefix="candles")
    yield
    app[POOL].shutdown(wait=True, cancel_futures=True)


# --- Candles -----------------------------------------------------------------------------------------------------------


async def list_candles(request: web.Request) -> web.Response:
    """GET /v3/instruments/{instrument}/candles, and the same of an account."""
    if "account" in request.match_info:
        account_id(request)
    runtime, times = request.app[RUNTIME], time_format(request)
    now, options = runtime.settle(), runtime.config.options
    name = request.match_info["instrument"]
    listed, book = _instrument(request, name, "instrument"), runtime.market.candles
    queries.check_units(request.query)
    asked = queries.read_candle_query(name, request.query, now, clamp=options.future_to == "clamp")

    def make() -> dict[str, Any]:
        found, _ = book.select(asked, now)
        return _body(listed, asked, found, _complete(asked, found, now, options.candle_lag_seconds), times)

    return await _work(request, make)


async def latest_candles(request: web.Request) -> web.Response:
    """GET …/candles/latest: for each of `candleSpecifications` the last complete candle and what came after it."""
    account_id(request)
    runtime, times = request.app[RUNTIME], time_format(request)
    now, lag, book = runtime.settle(), runtime.config.options.candle_lag_seconds, runtime.market.candles
    queries.check_units(request.query)
    alignment, smooth = queries.read_alignment(request.query), queries.read_bool(request.query, "smooth", default=False)
    wanted = [
        (
            _instrument(request, each.instrument, "candleSpecifications"),
            CandleQuery(each.instrument, each.granularity, each.sides, None, None, LATEST, alignment, smooth, True),
        )
        for each in queries.read_specifications(request.query)
    ]

    def latest(listed: Instrument, asked: CandleQuery) -> dict[str, Any]:
        found, _ = book.select(asked, now)
        complete = _complete(asked, found, now, lag)
        first = max(int(complete.sum()) - 1, 0)
        return _body(listed, asked, found[first:], complete[first:], times)

    return await _work(request, lambda: {"latestCandles": [latest(listed, asked) for listed, asked in wanted]})


def _complete(asked: CandleQuery, found: Candles, now: np.datetime64, lag: float) -> Flags:
    """Which candles are over, and have been for the time that the exchange takes to say so."""
    late = np.timedelta64(round(lag * 1_000_000), "us")
    return np.asarray(candle_ends(asked.granularity, found.time, asked.alignment) + late <= now)


def _body(listed: Instrument, asked: CandleQuery, found: Candles, complete: Flags, times: TimeFormat) -> dict[str, Any]:
    return candles_body(listed, asked.granularity, asked.sides, found, complete, times)


def _instrument(request: web.Request, name: str, parameter: str) -> Instrument:
    instruments = request.app[RUNTIME].market.instruments
    if name not in instruments:
        raise invalid(parameter)
    return instruments[name]


async def _work(request: web.Request, make: Callable[[], dict[str, Any]]) -> web.Response:
    """Make and encode the body in a worker thread. Prices before `now` never change, so nobody has to wait for it."""
    loop = asyncio.get_running_loop()
    return written(await loop.run_in_executor(request.app[POOL], lambda: encode(make())))


# --- Prices ------------------------------------------------------------------------------------------------------------


async def list_prices(request: web.Request) -> web.Response:
    """GET …/pricing: the last price of each instrument, what can be traded of it, and what its currencies are worth."""
    seen, query = view(request), request.query
    names = queries.read_instruments(query, tuple(seen.instruments), required=True)
    since = queries.read_time(query, "since")
    with_units = queries.read_bool(query, "includeUnitsAvailable", default=True)
    with_home = queries.read_bool(query, "includeHomeConversions", default=False)
    quotes = [quote for name in names if (quote := seen.quote(name)) is not None]
    worth = _worth(seen, quotes)
    new = [quote for quote in quotes if since is None or quote.time > since]
    standing = seen.standing if with_units else None
    found: dict[str, Any] = {"prices": [_price(quote, worth, standing) for quote in new]}
    if with_home:
        found["homeConversions"] = [conversion_body(each) for each in worth.values()]
    return answer(request, found | {"time": write_time(seen.now)})


def _price(quote: Quote, worth: dict[str, Conversion], standing: Standing | None) -> dict[str, Any]:
    """One price; with the account's standing, also how much of it the account could trade."""
    body = price_body(quote)
    base, counter = worth.get(quote.instrument.base), worth.get(quote.instrument.quote)
    if counter is not None:
        body["quoteHomeConversionFactors"] = home_factors_body(counter)
    if standing is not None and base is not None and counter is not None:
        units = units_available(standing.account, standing.worth, quote, base, counter)
        body["unitsAvailable"] = units_available_body(standing.account.config.hedging, units)
    return body


def _worth(seen: View, quotes: list[Quote]) -> dict[str, Conversion]:
    """What each currency of these pairs is worth in the account's; none before the pairs between them have had a price."""
    found = {}
    for currency in dict.fromkeys(part for quote in quotes for part in (quote.instrument.base, quote.instrument.quote)):
        try:
            found[currency] = conversion(currency, seen.account.config.currency, seen.quote)
        except LookupError:
            continue
    return found
