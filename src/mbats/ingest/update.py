"""Bring series up to date: download what is missing, store it page by page, and say what became of each.

Each page is one transaction, and the next one is downloaded while it is stored. A process that is killed leaves an
unbroken stretch of bars, and the next update goes on from its ends (see `plan`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

import numpy as np

from mbats.database import Database
from mbats.errors import DataError, MbatsError, UnknownSymbol
from mbats.ingest.plan import BarRequest, pages
from mbats.ingest.sources import DataSource
from mbats.market import Bars, Granularity, Instrument, to_datetime, trading_days
from mbats.secmaster.bars import UpsertCount, upsert_bars
from mbats.secmaster.record import finish_ingest_run, start_ingest_run
from mbats.secmaster.series import StoredSeries, download_lock, retire_series, stored_series
from mbats.secmaster.symbols import upsert_instruments

WAIT = 0.5  # seconds between two looks at a series that another process is downloading
SIMULATED = "simulator"  # the vendor whose bars make room for any other's


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """What became of one request: bars stored by this update, and why it failed or was skipped.

    `passing` says of one that failed that it may go well a little later.
    """

    request: BarRequest
    status: Literal["ok", "failed", "skipped"] = "ok"
    inserted: int = 0
    revised: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    message: str | None = None
    passing: bool = False


class Progress(Protocol):
    """Is told how an update goes on, from several threads."""

    def stored(self, request: BarRequest, count: UpsertCount, until: datetime) -> None:
        """A page was committed; its last bar starts at `until`."""

    def finished(self, outcome: UpdateOutcome) -> None:
        """A request is done with, well or not."""


class Silent:
    """Progress that nobody follows."""

    def stored(self, request: BarRequest, count: UpsertCount, until: datetime) -> None: ...

    def finished(self, outcome: UpdateOutcome) -> None: ...


class Stopped(MbatsError):
    """The update was stopped in the middle; what was stored stays."""


def update_bars(
    db: Database,
    source: DataSource,
    requests: Iterable[BarRequest],
    *,
    workers: int = 4,
    progress: Progress | None = None,
    reread: bool = False,
    wait: bool = False,
) -> list[UpdateOutcome]:
    """Store the complete bars that the requests ask for and that are not there yet; returns the outcomes in their order.

    A request that fails does not stop the others, and what it stored before stays. The newest stored bars are asked for
    again, and those that the vendor has revised are replaced; with `reread`, all that are asked for. A series that another
    process is downloading is skipped; with `wait`, it is taken up where that one ends. Raises MbatsError only when none could
    go on: the source does not answer at the start, or the database is away.
    """
    wanted = list(dict.fromkeys(requests))
    names = sorted({request.symbol for request in wanted})
    with ThreadPoolExecutor(workers, "download") as downloads, ThreadPoolExecutor(workers, "store") as stores:
        # Asked for by a thread that downloads later: the connections of a client belong to threads.
        instruments = {found.name: found for found in downloads.submit(source.instruments, names).result()}
        offered = [] if len(instruments) == len(names) else downloads.submit(source.offered).result()
        update = _Update(db, source, instruments, offered, downloads, progress or Silent(), reread, wait)
        futures = [stores.submit(update.run, request) for request in wanted]
        try:
            return [future.result() for future in futures]
        except BaseException:
            update.stop.set()
            stores.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Update:
    """What the requests of one update share."""

    db: Database
    source: DataSource
    instruments: dict[str, Instrument]
    offered: list[str]
    downloads: ThreadPoolExecutor
    progress: Progress
    reread: bool
    wait: bool
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, request: BarRequest) -> UpdateOutcome:
        """Fulfil one request, alone on its series, and record how it went."""
        outcome = self._alone(request)
        while self.wait and outcome.status == "skipped":
            if self.stop.wait(WAIT):
                raise Stopped("The update was stopped while it waited for a download of the same series.")
            outcome = self._alone(request)
        self.progress.finished(outcome)
        return outcome

    def _alone(self, request: BarRequest) -> UpdateOutcome:
        with download_lock(self.db, request.symbol, request.granularity) as free:
            if free:
                return self._recorded(request)
        return UpdateOutcome(request, "skipped", message="It is being downloaded already.")

    def _recorded(self, request: BarRequest) -> UpdateOutcome:
        began = time.monotonic()
        run_id = start_ingest_run(
            self.db,
            source=self.source.vendor,
            symbol=request.symbol,
            granularity=request.granularity,
            start=request.start,
            end=request.end or datetime.now(UTC),
        )
        stored: list[UpsertCount] = []
        failure: Exception | None = None
        try:
            for count in self._stored_pages(request):
                stored.append(count)
        except Exception as error:
            failure = error
        status: Literal["ok", "failed"] = "ok" if failure is None else "failed"
        totals = {name: sum(getattr(count, name) for count in stored) for name in ("inserted", "revised", "unchanged")}
        message = None if failure is None else str(failure) or repr(failure)
        finish_ingest_run(self.db, run_id, status=status, error=message, **totals)
        if failure is not None and not isinstance(failure, MbatsError):
            raise failure
        passing = failure is not None and failure.passing
        return UpdateOutcome(request, status, **totals, seconds=time.monotonic() - began, message=message, passing=passing)

    def _stored_pages(self, request: BarRequest) -> Iterator[UpsertCount]:
        """Store page after page, while the next one is being downloaded; yields what became of each."""
        if request.symbol not in self.instruments:
            raise UnknownSymbol(request.symbol, self.offered, where=f"the instruments of '{self.source.vendor}'")
        present = stored_series(self.db, request.symbol, request.granularity)
        replaced = present is not None and self._gives_way(request, present)
        upsert_instruments(self.db, [self.instruments[request.symbol]])
        stretch = None if present is None or replaced else (present.first, present.last)
        coming = pages(self.source, request, stretch, reread=self.reread)
        download = self.downloads.submit(_next_page, coming)
        while (page := download.result()) is not None:
            if self.stop.is_set():
                raise Stopped("The update was stopped. What was stored stays; the next one goes on from there.")
            download = self.downloads.submit(_next_page, coming)
            if replaced:  # not before there is something to put in their place
                retire_series(self.db, request.symbol, request.granularity)
                replaced = False
            bars = without_weekend_stubs(request.granularity, page)
            count = upsert_bars(self.db, request.symbol, request.granularity, bars, vendor=self.source.vendor)
            self.progress.stored(request, count, to_datetime(page.time[-1]))
            yield count

    def _gives_way(self, request: BarRequest, present: StoredSeries) -> bool:
        """Whether the stored bars are simulated and make room for a broker's. Raises DataError when it would be the reverse."""
        if present.vendor == self.source.vendor:
            return False
        if present.vendor == SIMULATED:
            return True
        raise DataError(
            f"{request.symbol} {request.granularity} holds bars of '{present.vendor}'; bars of '{self.source.vendor}' are not "
            "put among them. Nothing was changed. Set MBATS_OANDA_ENVIRONMENT back, or keep these bars in a database of their "
            "own: set MBATS_POSTGRES_SECMASTER_DATABASE and run ./starter_script.sh."
        )


def _next_page(coming: Iterator[Bars]) -> Bars | None:
    return next(coming, None)


def without_weekend_stubs(granularity: Granularity, bars: Bars) -> Bars:
    """These bars without days of a Saturday or Sunday: a few stray prices of a closed market, no day of trading."""
    if granularity is not Granularity.D or not len(bars):
        return bars
    weekday = (trading_days(bars.time).astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    return bars[weekday < 5]
