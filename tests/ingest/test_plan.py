"""What is stored of a series stays one unbroken stretch, whatever is asked for and wherever a download is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pytest
from fakes import fake_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.ingest import plan
from mbats.ingest.plan import BarRequest, pages
from mbats.market import Bars, Granularity, parse_utc, to_datetime, to_us

H1 = Granularity.H1
PAGE = 40
HISTORY = fake_bars(H1, "2024-01-03", 900, drop=0.05)


class History:
    """A source that holds `HISTORY` and gives it in small pages."""

    vendor = "oanda"

    def bars(self, symbol: str, granularity: Granularity, *, start: datetime, end: datetime | None) -> Iterator[Bars]:
        inside = (HISTORY.time >= to_us(start)) & ((HISTORY.time < to_us(end)) if end else True)
        rows = np.flatnonzero(inside)
        yield from (HISTORY[rows[i : i + PAGE]] for i in range(0, len(rows), PAGE))


def store(present: set[datetime], request: BarRequest, *, reread: bool = False, cut_after: int | None = None) -> None:
    """What an update does with the pages, cut off after so many of them."""
    stretch = (min(present), max(present)) if present else None
    for number, page in enumerate(pages(History(), request, stretch, reread=reread)):
        if number == cut_after:
            return
        present.update(to_datetime(moment) for moment in page.time)


def is_unbroken(present: set[datetime]) -> bool:
    times = np.array(sorted(to_us(moment) for moment in present), "datetime64[us]")
    first = int(np.searchsorted(HISTORY.time, times[0]))
    return times.tolist() == HISTORY.time[first : first + len(times)].tolist()


hours = st.integers(-100, 1_400).map(lambda hour: parse_utc("2024-01-03") + timedelta(hours=hour))
wishes = st.tuples(hours, st.none() | hours, st.integers(0, 12), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(wishes, min_size=1, max_size=6))
def test_any_requests_cut_off_anywhere_leave_one_stretch_and_the_last_one_is_fulfilled(asked):
    present: set[datetime] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "CHUNK", 60)

        for start, end, cut_after, reread in asked:
            store(present, BarRequest("EUR_USD", H1, start, end), reread=reread, cut_after=cut_after)
            assert not present or is_unbroken(present)
        start, end = asked[-1][:2]
        store(present, BarRequest("EUR_USD", H1, start, end))

    assert not present or is_unbroken(present)
    wanted = {to_datetime(moment) for page in History().bars("EUR_USD", H1, start=start, end=end) for moment in page.time}
    assert wanted <= present
