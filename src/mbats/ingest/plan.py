"""Which bars to ask for, given what is stored. Pure but for the source that it asks.

What is stored of a series is always one unbroken stretch of what the vendor has, however often a download was killed:
it grows page by page, forward from its last bar and backward from its first one. So its two ends are all that the next download
needs to know. A request that lies apart from the stretch also brings what lies between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mbats.ingest.sources import DataSource
from mbats.market import Bars, Granularity, bar_starts, to_datetime

REREAD = 100  # bars before the end of the stretch, which the vendor may have revised since
CHUNK = 20_000  # bar lengths that a step backward covers; it is stored whole or not at all
WEEK = timedelta(days=7)  # the market is never closed for so long


@dataclass(frozen=True, slots=True)
class BarRequest:
    """The wish to hold the bars of one symbol that start in [start, end), UTC; no `end` means up to now."""

    symbol: str
    granularity: Granularity
    start: datetime
    end: datetime | None = None


def pages(source: DataSource, request: BarRequest, stretch: tuple[datetime, datetime] | None, *, reread: bool) -> Iterator[Bars]:
    """Yield the bars to store, in an order that keeps the stretch (start of its first and last bar) unbroken after each page.

    With `reread` the stretch is asked for again as well, as far as the request goes.
    """
    if stretch is None:
        yield from _forward(source, request, request.start)
        return
    first, last = stretch
    resume = last - REREAD * request.granularity.length
    if reread:
        resume = min(resume, max(request.start, first))
    yield from _forward(source, request, max(resume, first))
    if request.start < first and _any_due(request, first):
        yield from _backward(source, request, first)


def _any_due(request: BarRequest, first: datetime) -> bool:
    """Whether the calendar has bars soon after the request's start; a start at a weekend must not cost a request each time."""
    soon = request.start + request.granularity.length + WEEK
    return len(bar_starts(request.granularity, request.start, min(first, soon))) > 0


def _forward(source: DataSource, request: BarRequest, start: datetime) -> Iterator[Bars]:
    return source.bars(request.symbol, request.granularity, start=start, end=request.end)


def _backward(source: DataSource, request: BarRequest, first: datetime) -> Iterator[Bars]:
    """Yield what lies between the request's start and the first stored bar in chunks, the newest chunk first."""
    symbol, granularity = request.symbol, request.granularity
    opening = next(source.bars(symbol, granularity, start=request.start, end=first), None)
    if opening is None:  # the vendor's history begins with the first stored bar
        return
    begin = to_datetime(opening.time[0])
    upper = first
    while upper > begin:
        lower = max(begin, upper - CHUNK * granularity.length)
        chunk = Bars.concatenate(list(source.bars(symbol, granularity, start=lower, end=upper)))
        if len(chunk):
            yield chunk
        upper = lower
