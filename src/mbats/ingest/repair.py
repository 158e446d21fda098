"""Asks the vendor once more for bars that are missing in the middle of a series: a download asks for what lies at its ends only.

A scheduler calls `plan_repairs`, then `repair_series` for each entry, and at last `report_repairs`; what it hands from one to the
next is plain JSON. A gap that the vendor was asked about in the last days and had nothing for is left alone: it is one of the
vendor's own, and to ask for it every night would bring nothing but load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from mbats.database import Database
from mbats.errors import MbatsError
from mbats.ingest.plan import BarRequest
from mbats.ingest.schedule import SOURCE, DownloadFailed, DownloadsFailed
from mbats.ingest.sources import open_source
from mbats.ingest.update import update_bars
from mbats.market import Granularity, parse_utc
from mbats.secmaster.bars import load_times
from mbats.secmaster.coverage import coverage, find_gaps
from mbats.secmaster.record import asked_for
from mbats.secmaster.series import stored_series
from mbats.settings import Settings, get_settings

AGAIN = timedelta(days=7)  # after which a gap that the vendor had nothing for is asked about once more
MOST = 200  # gaps of one series in one night, the newest; the others have their turn in the next


def plan_repairs(*, settings: Settings | None = None, now: datetime | None = None) -> list[dict[str, Any]]:
    """Each series with gaps to ask about: its `name`, `symbol`, `granularity`, and `gaps` as [start, end] in UTC, oldest first.

    Series of another vendor than the one that would be asked are left out. Raises MbatsError when the database or the settings
    of the source cannot be used.
    """
    settings, since = settings or get_settings(), (now or datetime.now(UTC)) - AGAIN
    plan = []
    with closing(open_source(SOURCE, settings)) as source, closing(Database(settings, "secmaster", "ingest")) as db:
        for series in coverage(db):
            stored = stored_series(db, series.symbol, series.granularity)
            if not series.gaps or stored is None or stored.vendor != source.vendor:
                continue
            of: dict[str, Any] = {"source": source.vendor, "symbol": series.symbol, "granularity": series.granularity}
            due = [gap for gap in series.gaps if not asked_for(db, **of, start=gap.start, end=gap.end, since=since)]
            if due:
                gaps = [[gap.start.isoformat(), gap.end.isoformat()] for gap in due[-MOST:]]
                name = f"{series.symbol} {series.granularity}"
                plan.append({"name": name, "symbol": series.symbol, "granularity": str(series.granularity), "gaps": gaps})
    return plan


def repair_series(planned: Mapping[str, Any], *, settings: Settings | None = None) -> dict[str, Any]:
    """Ask about the gaps of one series; returns its `name`, how many gaps were `asked` about, are `closed` now, and the `bars`.

    A gap of which only a part came is not closed. Raises DownloadFailed with the reason; what was stored until then stays.
    """
    settings, name = settings or get_settings(), str(planned["name"])
    symbol, granularity = planned["symbol"], Granularity(planned["granularity"])
    gaps = [(parse_utc(start), parse_utc(end)) for start, end in planned["gaps"]]
    with closing(Database(settings, "secmaster", "ingest")) as db, closing(open_source(SOURCE, settings)) as source:
        wishes = [BarRequest(symbol, granularity, *gap) for gap in gaps]
        try:
            outcomes = update_bars(db, source, wishes, workers=1, reread=True, wait=True)
        except MbatsError as error:
            raise DownloadFailed(f"{name}: {error}", passing=error.passing) from error
        failed = next((outcome for outcome in outcomes if outcome.status == "failed"), None)
        if failed is not None:
            raise DownloadFailed(f"{name}: {failed.message}", passing=failed.passing)
        open_still = sum(
            bool(find_gaps(granularity, load_times(db, symbol, granularity, start=start, end=end), start, end))
            for start, end in gaps
        )
    bars = sum(outcome.inserted for outcome in outcomes)
    return {"name": name, "asked": len(gaps), "closed": len(gaps) - open_still, "bars": bars}


def report_repairs(planned: Sequence[Mapping[str, Any]] | None, outcomes: Iterable[Mapping[str, Any]]) -> str:
    """What the night has brought, in one sentence. `outcomes` are those of the series that went well.

    Raises DownloadsFailed, which names the series that did not.
    """
    if planned is None:
        raise DownloadsFailed("No gap was asked about, since none could be looked for: the log of the plan says why.")
    done = list(outcomes)
    asked, closed, bars = (sum(outcome[figure] for outcome in done) for figure in ("asked", "closed", "bars"))
    went = f"{asked} gaps of {len(done)} series were asked about: {closed} are closed by {bars:,} bars, {asked - closed} stay."
    failed = [each["name"] for each in planned if each["name"] not in {outcome["name"] for outcome in done}]
    if failed:
        raise DownloadsFailed(f"{', '.join(failed)} could not be asked about; the logs of the tasks say why. {went}")
    return went if planned else "There is no gap to ask about."


__all__ = ["plan_repairs", "repair_series", "report_repairs"]
