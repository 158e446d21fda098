"""Keeps series up to date by the clock: what is due now, one download after another, and in the end what failed.

A scheduler calls `plan_downloads`, then `download_series` for each request of the plan, each in a process of its own if it
likes, and at last `report_downloads`. What it hands from one to the next is plain JSON. What is due is read off the calendar
and the stored bars, not off the hour of the call: a call that was missed or has failed is made good by the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mbats.database import Database
from mbats.errors import MbatsError, UnknownGranularity, UsageError
from mbats.ingest.plan import WEEK, BarRequest
from mbats.ingest.sources import open_source
from mbats.ingest.tickers import Problem
from mbats.ingest.update import update_bars
from mbats.ingest.wanted import read_workbook, wanted
from mbats.market import Granularity, bar_ends, bar_starts, parse_utc, to_datetime, to_us
from mbats.secmaster.record import asked_from, asked_until, finish_ingest_run, last_download, start_ingest_run
from mbats.secmaster.series import StoredSeries, stored_series
from mbats.settings import Settings, get_settings

SOURCE = "oanda"
PATIENCE = timedelta(hours=1)  # a due bar that the vendor does not have by then is asked for once in so long
MOMENT = timedelta(microseconds=1)


class DownloadFailed(MbatsError):
    """The download of one series failed; `passing` when it may go well a little later."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class DownloadsFailed(MbatsError):
    """Some of the planned downloads failed, or the workbook has rows that cannot be used; the others went on."""


# --- What is due -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a series: what is stored of it, and what of the source was asked before.

    `asked_until` is up to when bars were last asked for; `asked_before`, whether those older than the first one were.
    """

    stored: StoredSeries | None = None
    asked_until: datetime | None = None
    asked_before: bool = False


def is_due(request: BarRequest, known: Known, *, vendor: str, now: datetime) -> bool:
    """Whether the vendor should have bars that are not stored: newer ones by the calendar, or older ones never asked for."""
    stored = known.stored if known.stored is not None and known.stored.vendor == vendor else None
    end = newest_end(request.granularity, request.start if stored is None else stored.last + MOMENT, now)
    if end is not None and not _asked_in_vain(known, end, now):
        return True
    return stored is not None and request.start < stored.first and not known.asked_before


def newest_end(granularity: Granularity, start: datetime, now: datetime) -> datetime | None:
    """The end of the newest bar that starts at `start` or later and is over; None when no such bar can be."""
    starts = bar_starts(granularity, max(start, now - 2 * granularity.length - WEEK), now)
    ends = bar_ends(granularity, starts)
    over = ends[ends <= to_us(now)]
    return to_datetime(over[-1]) if len(over) else None


def _asked_in_vain(known: Known, end: datetime, now: datetime) -> bool:
    """Whether this bar has been over for long, and the vendor, asked not long ago, did not have it: a holiday of its own."""
    asked = known.asked_until
    return asked is not None and asked >= end + PATIENCE and timedelta(0) <= now - asked < PATIENCE


# --- The three steps ---------------------------------------------------------------------------------------------


def plan_downloads(
    *,
    symbols: Sequence[str] | None = None,
    granularity: str | None = None,
    start: str | None = None,
    end: str | None = None,
    settings: Settings | None = None,
) -> dict[str, list[Any]]:
    """The `requests` for downloads, and the `problems` of the workbook in words.

    With no choice made it is what is due of the workbook; with any, it is all that the choices ask for, due or not. Dates
    without a zone are UTC. Raises MbatsError when a choice cannot be used, or the workbook or the database is away.
    """
    settings = settings or get_settings()
    chosen = (symbols or None, granularity, start, end)
    problems: list[Problem]
    if any(chosen):
        requests, problems = wanted(
            settings,
            symbols=symbols or None,
            granularity=_granularity(granularity) if granularity else None,
            start=_moment("start", start),
            end=_moment("end", end),
        )
    else:
        now = datetime.now(UTC)
        listed, problems = read_workbook(settings, now)
        requests = due_requests(settings, listed, now)
    return {"requests": [_plain(request) for request in requests], "problems": [str(problem) for problem in problems]}


def due_requests(settings: Settings, requests: Iterable[BarRequest], now: datetime) -> list[BarRequest]:
    """Those of the requests that are due."""
    with closing(open_source(SOURCE, settings)) as source, closing(Database(settings, "secmaster", "ingest")) as db:
        vendor = source.vendor
        return [request for request in requests if is_due(request, _known(db, vendor, request), vendor=vendor, now=now)]


def _known(db: Database, vendor: str, request: BarRequest) -> Known:
    series = _series(vendor, request)
    return Known(
        stored_series(db, request.symbol, request.granularity),
        asked_until(db, **series),
        asked_from(db, **series, start=request.start),
    )


def _series(vendor: str, request: BarRequest) -> dict[str, Any]:
    return {"source": vendor, "symbol": request.symbol, "granularity": request.granularity}


def download_series(request: Mapping[str, Any], *, settings: Settings | None = None) -> dict[str, Any]:
    """Fulfil one request of a plan; returns what became of it. Raises DownloadFailed with the reason."""
    settings = settings or get_settings()
    wish, name = _request(request), str(request["name"])
    with closing(Database(settings, "secmaster", "ingest")) as db, closing(open_source(SOURCE, settings)) as source:
        try:
            (outcome,) = update_bars(db, source, [wish], workers=1)
        except MbatsError as error:  # before the download of the series began, so that nothing of it is recorded yet
            _record_failure(db, source.vendor, wish, error)
            raise DownloadFailed(f"{name}: {error}", passing=error.passing) from error
    if outcome.status == "failed":
        raise DownloadFailed(f"{name}: {outcome.message}", passing=outcome.passing)
    figures = {"inserted": outcome.inserted, "revised": outcome.revised, "message": outcome.message}
    return {"name": name, "status": outcome.status, **figures}


def _record_failure(db: Database, vendor: str, request: BarRequest, error: MbatsError) -> None:
    with suppress(MbatsError):  # with the database away as well, the first reason is still the one to tell
        run = start_ingest_run(db, **_series(vendor, request), start=request.start, end=request.end or datetime.now(UTC))
        finish_ingest_run(db, run, status="failed", inserted=0, revised=0, unchanged=0, error=str(error))


def report_downloads(
    requests: Sequence[Mapping[str, Any]] | None,
    outcomes: Iterable[Mapping[str, Any]],
    *,
    problems: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> str:
    """What the downloads of a plan have brought, in one sentence. `outcomes` are those of the downloads that went well.

    Raises DownloadsFailed, whose one sentence names each series that failed with its reason, and each problem of the workbook.
    """
    if requests is None:
        raise DownloadsFailed("Nothing was downloaded, since it could not be planned what: the log of the plan says why.")
    done = list(outcomes)
    well = {outcome["name"] for outcome in done}
    failed = [request for request in requests if request["name"] not in well]
    wrong = [*_reasons(settings or get_settings(), failed), *(problems or [])]
    if wrong:
        went = (
            f"{len(failed)} of {len(requests)} series failed and the others went on"
            if failed
            else f"{len(done)} series went well"
        )
        raise DownloadsFailed(f"{went}; to be put right: {'; '.join(text.rstrip('.') for text in wrong)}.")
    return f"Up to date: {len(done)} series, {sum(outcome['inserted'] for outcome in done):,} new bars."


def _reasons(settings: Settings, failed: Sequence[Mapping[str, Any]]) -> list[str]:
    if not failed:
        return []
    with closing(Database(settings, "secmaster", "ingest")) as db, closing(open_source(SOURCE, settings)) as source:
        try:
            return [f"{request['name']}: {_reason(db, source.vendor, _request(request))}" for request in failed]
        except MbatsError as error:  # still, each is named
            return [f"{', '.join(request['name'] for request in failed)}: {error}"]


def _reason(db: Database, vendor: str, request: BarRequest) -> str:
    last = last_download(db, **_series(vendor, request))
    if last is not None and last.status == "failed":
        return last.error or "It gave no reason"
    if last is not None and last.status == "running":
        return "It was ended in the middle; what it stored stays"
    return "It ended before it was begun; the log of its task says more"


# --- In and out of JSON ------------------------------------------------------------------------------------------


def _plain(request: BarRequest) -> dict[str, str | None]:
    return {
        "name": f"{request.symbol} {request.granularity}",
        "symbol": request.symbol,
        "granularity": str(request.granularity),
        "start": request.start.isoformat(),
        "end": request.end.isoformat() if request.end else None,
    }


def _request(plain: Mapping[str, Any]) -> BarRequest:
    end = parse_utc(plain["end"]) if plain["end"] else None
    return BarRequest(plain["symbol"], Granularity(plain["granularity"]), parse_utc(plain["start"]), end)


def _granularity(text: str) -> Granularity:
    if text not in Granularity.__members__:
        raise UnknownGranularity(text, Granularity)
    return Granularity(text)


def _moment(name: str, text: str | None) -> datetime | None:
    try:
        return parse_utc(text) if text else None
    except ValueError:
        raise UsageError(f"The {name} '{text}' is no date; write 2016-01-31 or 2016-01-31T13:00 (UTC).") from None


__all__ = [
    "DownloadFailed",
    "DownloadsFailed",
    "Known",
    "download_series",
    "due_requests",
    "is_due",
    "newest_end",
    "plan_downloads",
    "report_downloads",
]
