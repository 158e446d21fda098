"""The workbook that a new platform starts with: the seven majors by the day, and two of them by the minute."""

from __future__ import annotations

from datetime import date
from io import BytesIO

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.worksheet.worksheet import Worksheet

from mbats.ingest.tickers import TABS, default_start
from mbats.market import MAJORS, Granularity

TITLES = ("symbol", "start", "granularity")
MINUTE_SYMBOLS = ("EUR_USD", "USD_JPY")
README = (
    "What MBATS follows",
    "Every row of the tabs 'daily' and 'minute' is one symbol whose bars `mbats ingest` downloads and keeps up to date.",
    "symbol: the name of the pair at OANDA, for example EUR_USD.",
    "start: the first day to download. An earlier day than before brings the older bars as well. "
    "Empty: ten years ago, or one year ago for bars shorter than an hour.",
    "granularity: the length of a bar, one of " + ", ".join(Granularity) + ". Empty: D on 'daily', M1 on 'minute'.",
    "A row that cannot be used is named by `mbats ingest` with its tab and number; the others go on. Other tabs are not read.",
)
HEADER = PatternFill("solid", fgColor="1F3A5F")


def sample_workbook(today: date) -> bytes:
    """The sample as the content of an .xlsx file, with starts counted back from `today`."""
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for tab, symbols in zip(TABS, (MAJORS, MINUTE_SYMBOLS), strict=True):
        granularity = TABS[tab]
        _fill(workbook.create_sheet(tab), symbols, granularity, default_start(granularity, today).date())
    _explain(workbook.create_sheet("read me"))
    content = BytesIO()
    workbook.save(content)
    return content.getvalue()


def _fill(sheet: Worksheet, symbols: tuple[str, ...], granularity: Granularity, start: date) -> None:
    sheet.append(TITLES)
    for symbol in symbols:
        sheet.append((symbol, start, granularity.value))
    for cell in sheet[1]:
        cell.font = Font(bold=True, color="FFFFFF")
        cell.fill = HEADER
    for column, width in zip("ABC", (14, 14, 14), strict=True):
        sheet.column_dimensions[column].width = width
    for row in sheet.iter_rows(min_row=2, min_col=2, max_col=2):
        row[0].number_format = "yyyy-mm-dd"
    sheet.freeze_panes = "A2"


def _explain(sheet: Worksheet) -> None:
    sheet.column_dimensions["A"].width = 100
    for line in README:
        sheet.append((line,))
    for (cell,) in sheet.iter_rows():
        cell.alignment = Alignment(wrap_text=True, vertical="top")
    sheet["A1"].font = Font(bold=True, size=14)
