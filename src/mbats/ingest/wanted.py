"""Which bars are asked for: those that the workbook names, or some symbols, and for a period if one is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from mbats.errors import UsageError
from mbats.ingest.plan import BarRequest
from mbats.ingest.tickers import WORKBOOK, Problem, default_start, parse_tickers
from mbats.market import Granularity
from mbats.objectstore import ObjectStore
from mbats.settings import Settings


def read_workbook(settings: Settings, now: datetime) -> tuple[list[BarRequest], list[Problem]]:
    """What the workbook in the S3 store asks for, and what in it cannot be used."""
    content = ObjectStore(settings).get(settings.s3_bucket_marketdata, WORKBOOK)
    return parse_tickers(content, today=now.date())


def wanted(
    settings: Settings,
    *,
    symbols: Iterable[str] | None = None,
    granularity: Granularity | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> tuple[list[BarRequest], list[Problem]]:
    """What these choices ask for, and what in the workbook cannot be used.

    Without `symbols` it is all that the workbook says, or what in it has the granularity; with them it is daily bars unless the
    granularity says otherwise. `start` and `end` hold for each. Raises UsageError when nothing is asked for, or no bar can be in
    the period.
    """
    now = datetime.now(UTC)
    problems: list[Problem] = []
    if symbols is None:
        listed, problems = read_workbook(settings, now)
        requests = [request for request in listed if granularity in (None, request.granularity)]
    else:
        requests = _of_symbols(symbols, granularity or Granularity.D, now)
    if not requests:
        found = "; ".join(["Nothing to download: no symbol is asked for", *(str(problem).rstrip(".") for problem in problems)])
        raise UsageError(f"{found}. Name some in {WORKBOOK}, or ask for some by name, such as EUR_USD.")
    requests = [replace(request, start=start or request.start, end=end) for request in requests]
    for request in requests:
        if request.start >= min(end or now, now):
            raise UsageError(
                f"No bars can start in {request.start:%F %R} to {end or now:%F %R}. "
                "The start must be before the end and before now."
            )
    return requests, problems


def _of_symbols(symbols: Iterable[str], granularity: Granularity, now: datetime) -> list[BarRequest]:
    names = [name.strip().upper().replace("/", "_") for name in symbols if name.strip()]
    return [BarRequest(name, granularity, default_start(granularity, now.date())) for name in names]


__all__ = ["read_workbook", "wanted"]
