"""How a download goes on: bars that move on a terminal, lines anywhere else."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from mbats.ingest.plan import BarRequest
    from mbats.ingest.update import UpdateOutcome
    from mbats.secmaster.bars import UpsertCount

LINE_EVERY = 5.0  # seconds between two lines of one series


def show_progress(console: Console) -> AbstractContextManager[LiveProgress | LineProgress]:
    """The progress that suits where the output goes."""
    return LiveProgress(console) if console.is_terminal else nullcontext(LineProgress(console))


class LineProgress:
    """A line every few seconds for each series, and one at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._bars: dict[BarRequest, int] = {}
        self._next_line: dict[BarRequest, float] = {}

    def stored(self, request: BarRequest, count: UpsertCount, until: datetime) -> None:
        now = time.monotonic()
        with self._lock:
            bars = self._bars[request] = self._bars.get(request, 0) + count.inserted + count.revised + count.unchanged
            due = now >= self._next_line.setdefault(request, now + LINE_EVERY)
            if due:
                self._next_line[request] = now + LINE_EVERY
        if due:
            self._say(f"{request.symbol} {request.granularity}: {bars:,} bars, to {until:%F %R}")

    def finished(self, outcome: UpdateOutcome) -> None:
        what = f"{outcome.inserted:,} new, {outcome.revised:,} revised, {outcome.seconds:.1f} s"
        result = {"ok": what, "failed": f"failed after {what}", "skipped": f"skipped: {outcome.message}"}[outcome.status]
        self._say(f"{outcome.request.symbol} {outcome.request.granularity}: {result}")

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)


class LiveProgress:
    """One moving bar for each series: how far it has come in time, how many bars, and how fast they come."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[bars]:>9,} bars"),
            TextColumn("{task.fields[rate]:>7,}/s"),
            TextColumn("{task.fields[result]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._lock = threading.Lock()
        self._rows: dict[BarRequest, _Row] = {}

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def stored(self, request: BarRequest, count: UpsertCount, until: datetime) -> None:
        with self._lock:
            row = self._row(request)
            row.bars += count.inserted + count.revised + count.unchanged
            # Older bars may come after newer ones, and the bar must not go back.
            row.way = max(row.way, (until - request.start).total_seconds())
            rate = int(row.bars / max(time.monotonic() - row.began, 0.1))
            self._progress.update(row.task, completed=row.way, bars=row.bars, rate=rate)

    def finished(self, outcome: UpdateOutcome) -> None:
        with self._lock:
            row = self._row(outcome.request)
            completed = _length(outcome.request) if outcome.status == "ok" else row.way
            self._progress.update(row.task, completed=completed, result=outcome.status)
            self._progress.stop_task(row.task)

    def _row(self, request: BarRequest) -> _Row:
        if request not in self._rows:
            name = f"{request.symbol} {request.granularity}"
            task = self._progress.add_task(name, total=_length(request), bars=0, rate=0, result="")
            self._rows[request] = _Row(task, time.monotonic())
        return self._rows[request]


@dataclass
class _Row:
    """One moving bar: since when, and how many bars and seconds of the period it has behind it."""

    task: TaskID
    began: float
    bars: int = 0
    way: float = 0.0


def _length(request: BarRequest) -> float:
    return ((request.end or datetime.now(UTC)) - request.start).total_seconds()
