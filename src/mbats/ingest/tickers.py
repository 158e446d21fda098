"""The workbook that says what to follow: `interested_tickers.xlsx`, one tab for daily bars and one for minute bars.

Each tab has a row of titles and then one symbol a row: `symbol`, and if wanted `start` (a date) and `granularity`. The
workbook of 2020, whose one column is called `Tickers`, is read as it is. A row that cannot be used is named with its tab and
number and left out; the others go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

from openpyxl import load_workbook

from mbats.errors import ConfigError
from mbats.ingest.plan import BarRequest
from mbats.market import Granularity

WORKBOOK = "interested_tickers.xlsx"
TABS = {"daily": Granularity.D, "minute": Granularity.M1}
SYMBOL_TITLES = ("symbol", "symbols", "ticker", "tickers")
PAIR = re.compile(r"[A-Z0-9]+_[A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing in the workbook that cannot be used; `row` is the spreadsheet's own number, None for a whole tab."""

    tab: str
    row: int | None
    message: str

    def __str__(self) -> str:
        place = f"tab '{self.tab}'" if self.row is None else f"tab '{self.tab}', row {self.row}"
        return f"{WORKBOOK}, {place}: {self.message}"


class _BadCell(Exception):
    """What was found in a cell against what was expected."""


def parse_tickers(content: bytes, *, today: date) -> tuple[list[BarRequest], list[Problem]]:
    """What the workbook asks for, in its order, and what in it cannot be used. Raises ConfigError when it is no workbook."""
    try:
        workbook = load_workbook(BytesIO(content), data_only=True)
    except (BadZipFile, KeyError, ValueError, OSError, SyntaxError) as error:  # a broken XML part is a SyntaxError
        raise ConfigError(
            f"{WORKBOOK} cannot be read as an Excel workbook: {error}. Nothing was downloaded. Save it as .xlsx again."
        ) from error
    sheets = {sheet.title.strip().lower(): sheet for sheet in workbook.worksheets}
    requests: dict[tuple[str, Granularity], BarRequest] = {}
    problems: list[Problem] = []
    for tab, granularity in TABS.items():
        if tab not in sheets:
            problems.append(
                Problem(tab, None, f"is not there; found {', '.join(workbook.sheetnames)}. Its symbols are left out.")
            )
            continue
        for found in _parse_tab(tab, list(sheets[tab].iter_rows(values_only=True)), granularity, today):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                row, request = found
                if (request.symbol, request.granularity) in requests:
                    problems.append(Problem(tab, row, f"{request.symbol} {request.granularity} stands above already."))
                requests.setdefault((request.symbol, request.granularity), request)
    return list(requests.values()), problems


def _parse_tab(
    tab: str, rows: list[tuple[Any, ...]], granularity: Granularity, today: date
) -> Iterator[tuple[int, BarRequest] | Problem]:
    titles = [str(cell).strip().lower() if cell is not None else "" for cell in rows[0]] if rows else []
    column = next((titles.index(title) for title in SYMBOL_TITLES if title in titles), None)
    if column is None:
        shown = ", ".join(filter(None, titles)) or "nothing"
        yield Problem(tab, 1, f"found {shown} as titles, expected a column 'symbol'. The tab is left out.")
        return
    for number, row in enumerate(rows[1:], 2):
        cells = dict(zip(titles, row, strict=False)) | {"symbol": row[column]}
        if all(cell is None or cell == "" for cell in row):
            continue
        try:
            length = _granularity(cells.get("granularity"), granularity)
            start = _start(cells.get("start"), length, today)
            yield number, BarRequest(_symbol(cells["symbol"]), length, start)
        except _BadCell as error:
            yield Problem(tab, number, f"{error}. The row is left out.")


def _symbol(cell: Any) -> str:
    text = str(cell or "").strip().upper().replace("/", "_")
    if not PAIR.fullmatch(text):
        raise _BadCell(f"found {cell!r} as symbol, expected a pair like EUR_USD")
    return text


def _granularity(cell: Any, default: Granularity) -> Granularity:
    text = str(cell or "").strip().upper()
    if not text:
        return default
    if text not in Granularity.__members__:
        raise _BadCell(f"found {cell!r} as granularity, expected one of {', '.join(Granularity)}")
    return Granularity(text)


def _start(cell: Any, granularity: Granularity, today: date) -> datetime:
    if cell is None or cell == "":
        return default_start(granularity, today)
    try:
        day = cell.date() if isinstance(cell, datetime) else date.fromisoformat(str(cell).strip())
    except ValueError:
        raise _BadCell(f"found {cell!r} as start, expected a date like 2016-01-31") from None
    if day > today:
        raise _BadCell(f"found {day} as start, expected a day that has come")
    return datetime.combine(day, time(), UTC)


def default_start(granularity: Granularity, today: date) -> datetime:
    """Where a series begins when nothing is said: ten years ago for bars of an hour or longer, else one year ago."""
    return datetime.combine(years_before(today, 10 if granularity.length >= Granularity.H1.length else 1), time(), UTC)


def years_before(day: date, years: int) -> date:
    """The same date so many years earlier; 28 February for a 29th that is not there."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)
