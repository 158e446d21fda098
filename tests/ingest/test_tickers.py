"""The workbook of what to follow: what is read from it, and how a mistake in it is named."""

from __future__ import annotations

from datetime import UTC, date, datetime
from io import BytesIO
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from mbats.errors import ConfigError
from mbats.ingest.plan import BarRequest
from mbats.ingest.sample import sample_workbook
from mbats.ingest.tickers import default_start, parse_tickers
from mbats.market import MAJORS, Granularity

TODAY = date(2026, 11, 23)
D, M1, H4 = Granularity.D, Granularity.M1, Granularity.H4
TEN_YEARS_AGO, ONE_YEAR_AGO = datetime(2016, 11, 23, tzinfo=UTC), datetime(2025, 11, 23, tzinfo=UTC)


def workbook(**tabs: list[tuple[Any, ...]]) -> bytes:
    """An .xlsx file with these tabs, each a list of rows; `daily` and `minute` are there even when not named."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for tab, rows in ({"daily": [("symbol",)], "minute": [("symbol",)]} | tabs).items():
        sheet = book.create_sheet(tab)
        for row in rows:
            sheet.append(row)
    content = BytesIO()
    book.save(content)
    return content.getvalue()


def read(**tabs: list[tuple[Any, ...]]) -> tuple[list[BarRequest], list[str]]:
    requests, problems = parse_tickers(workbook(**tabs), today=TODAY)
    return requests, [str(problem) for problem in problems]


def test_both_tabs_are_read_with_their_own_granularity_and_start():
    requests, problems = read(daily=[("symbol",), ("EUR_USD",)], minute=[("symbol",), ("USD_JPY",)])

    assert requests == [BarRequest("EUR_USD", D, TEN_YEARS_AGO), BarRequest("USD_JPY", M1, ONE_YEAR_AGO)]
    assert problems == []


def test_the_workbook_of_2020_is_read_as_it_is():
    requests, problems = read(daily=[("Tickers",), ("EUR_USD",), ("USD_JPY",)], minute=[("Tickers",), ("EUR_USD",)])

    assert [(request.symbol, request.granularity) for request in requests] == [("EUR_USD", D), ("USD_JPY", D), ("EUR_USD", M1)]
    assert problems == []


@pytest.mark.parametrize("start", [date(2020, 2, 29), datetime(2020, 2, 29), "2020-02-29", " 2020-02-29 "])  # noqa: DTZ001
def test_a_start_may_be_a_date_or_text(start):
    requests, problems = read(daily=[("symbol", "start"), ("EUR_USD", start)])

    assert (requests[0].start, problems) == (datetime(2020, 2, 29, tzinfo=UTC), [])


def test_columns_may_stand_in_any_order_among_others_and_empty_rows_are_passed_over():
    rows = [
        ("note", " Granularity ", "START", "Ticker"),
        ("mine", "h4", None, "eur/usd"),
        (None,) * 4,
        ("", "", "", ""),
        (None, None, None, "gbp_usd"),
    ]

    requests, problems = read(daily=rows)

    assert requests == [BarRequest("EUR_USD", H4, TEN_YEARS_AGO), BarRequest("GBP_USD", D, TEN_YEARS_AGO)]
    assert problems == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("EURUSD",), "found 'EURUSD' as symbol, expected a pair like EUR_USD"),
        ((17,), "found 17 as symbol, expected a pair"),
        ((None, None, "D"), "found None as symbol"),
        (("EUR_USD", "soon"), "found 'soon' as start, expected a date like 2016-01-31"),
        (("EUR_USD", 42370), "found 42370 as start, expected a date"),
        (("EUR_USD", date(2027, 1, 1)), "found 2027-01-01 as start, expected a day that has come"),
        (("EUR_USD", None, "M3"), "found 'M3' as granularity, expected one of S5, S10"),
        (("GBP_USD",), "GBP_USD D stands above already."),
    ],
)
def test_a_bad_row_is_named_with_its_tab_and_number_and_the_others_go_on(row, reason):
    titles = ("symbol", "start", "granularity")

    requests, problems = read(daily=[titles, ("GBP_USD",), row, ("USD_JPY",)], minute=[titles, ("EUR_USD",)])

    assert [request.symbol for request in requests] == ["GBP_USD", "USD_JPY", "EUR_USD"]
    assert len(problems) == 1
    assert problems[0].startswith(f"interested_tickers.xlsx, tab 'daily', row 3: {reason}")


def test_a_missing_tab_is_named_with_the_tabs_that_are_there():
    book = load_workbook(BytesIO(workbook(daily=[("symbol",), ("EUR_USD",)])))
    book["minute"].title = "minutes"
    content = BytesIO()
    book.save(content)

    requests, problems = parse_tickers(content.getvalue(), today=TODAY)

    assert [request.symbol for request in requests] == ["EUR_USD"]
    assert [str(problem) for problem in problems] == [
        "interested_tickers.xlsx, tab 'minute': is not there; found daily, minutes. Its symbols are left out."
    ]


@pytest.mark.parametrize(("rows", "found"), [([], "nothing"), ([("pair", "from")], "pair, from"), ([("EUR_USD",)], "eur_usd")])
def test_a_tab_without_a_column_of_symbols_is_named(rows, found):
    requests, problems = read(daily=rows, minute=[("symbol",), ("EUR_USD",)])

    assert [request.granularity for request in requests] == [M1]
    assert problems == [
        f"interested_tickers.xlsx, tab 'daily', row 1: found {found} as titles, expected a column 'symbol'. The tab is left out."
    ]


def test_a_tab_without_symbols_is_no_problem():
    assert read() == ([], [])


@pytest.mark.parametrize("content", [b"", b"symbol,start\nEUR_USD,\n", b"PK\x03\x04 broken"])
def test_what_is_no_workbook_is_refused(content):
    with pytest.raises(
        ConfigError, match=r"interested_tickers.xlsx cannot be read as an Excel workbook: .*Nothing was downloaded"
    ):
        parse_tickers(content, today=TODAY)


def test_ten_years_before_a_leap_day_is_a_day():
    assert default_start(D, date(2024, 2, 29)) == datetime(2014, 2, 28, tzinfo=UTC)
    assert default_start(M1, date(2024, 2, 29)) == datetime(2023, 2, 28, tzinfo=UTC)


def test_the_sample_asks_for_the_majors_by_day_and_two_of_them_by_minute():
    requests, problems = parse_tickers(sample_workbook(TODAY), today=TODAY)

    assert problems == []
    assert requests == [BarRequest(symbol, D, TEN_YEARS_AGO) for symbol in MAJORS] + [
        BarRequest(symbol, M1, ONE_YEAR_AGO) for symbol in ("EUR_USD", "USD_JPY")
    ]


def test_the_sample_opens_on_its_daily_tab_and_explains_itself():
    book = load_workbook(BytesIO(sample_workbook(TODAY)))

    assert book.sheetnames == ["daily", "minute", "read me"]
    assert book.active.title == "daily"
    assert book["daily"].freeze_panes == "A2"
    assert book["daily"]["A1"].font.bold
    assert book["daily"]["B2"].is_date
    assert "mbats ingest" in book["read me"]["A2"].value
