"""What a user sees of a download that goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from mbats.cli import ingest_progress
from mbats.cli.ingest_progress import show_progress
from mbats.ingest import BarRequest, UpdateOutcome
from mbats.market import Granularity, parse_utc
from mbats.secmaster.bars import UpsertCount

START, END = parse_utc("2024-01-01"), parse_utc("2024-01-11")
REQUESTS = [BarRequest(symbol, Granularity.M1, START, END) for symbol in ("EUR_USD", "USD_JPY", "GBP_USD")]


def follow(request: BarRequest, progress) -> None:
    """A request of ten pages, the oldest of which comes last."""
    for day in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0):
        progress.stored(request, UpsertCount(1_000, 100, 34), START + timedelta(days=day))
    failed = request.symbol == "GBP_USD"
    progress.finished(UpdateOutcome(request, "failed" if failed else "ok", inserted=10_000, message="no" if failed else None))


@pytest.mark.parametrize("terminal", [True, False])
def test_series_that_go_on_at_once_are_each_shown(terminal):
    output = StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)

    with show_progress(console) as progress, ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda request: follow(request, progress), REQUESTS))

    shown = output.getvalue()
    assert all(f"{request.symbol} M1" in shown for request in REQUESTS)
    assert "failed" in shown
    assert ("11,340 bars" in shown) == terminal


def test_without_a_terminal_a_long_series_says_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(ingest_progress, "LINE_EVERY", 0.0)
    output = StringIO()

    with show_progress(Console(file=output, width=120)) as progress:
        follow(REQUESTS[0], progress)

    lines = output.getvalue().splitlines()
    assert lines[0] == "EUR_USD M1: 1,134 bars, to 2024-01-02 00:00"
    assert lines[-1] == "EUR_USD M1: 10,000 new, 0 revised, 0.0 s"
    assert len(lines) == 11


def test_a_series_that_is_skipped_says_why():
    output = StringIO()

    with show_progress(Console(file=output, width=120)) as progress:
        progress.finished(UpdateOutcome(REQUESTS[0], "skipped", message="It is being downloaded already."))

    assert output.getvalue() == "EUR_USD M1: skipped: It is being downloaded already.\n"
