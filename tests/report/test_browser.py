"""The page in a real browser that has no network: it asks for nothing, complains of nothing, and draws everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, chromium
from playwright.sync_api import Browser, Page

from mbats.riskdb.records import Equity
from mbats.trading.report import render_report

BUSY = 2  # other tests may have the cores

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")

# Not Playwright's own way of waiting: it evaluates text as code, which the page forbids to everyone.
ALL_DRAWN = """() => [...document.querySelectorAll(".chart")]
    .filter(chart => !chart.closest("details:not([open])"))
    .every(chart => chart.querySelector("svg.main-svg"))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Opened:
    """A page without network that notes what it asks for and what it complains of."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.page: Page = browser.new_context(offline=True, **options).new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())

    def wait_until(self, condition: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"{condition} did not come true; complaints: {self.complaints}"
            time.sleep(0.05)


Open = Callable[..., Opened]


@pytest.fixture
def open_report(browser: Browser, make_run, tmp_path: Path) -> Iterator[Open]:
    """Render a run and open it; everything on it must have been drawn, without a request and without a complaint."""
    opened: list[Opened] = []

    def open_it(made: Any, **options: Any) -> Opened:
        result, bars = made
        file = tmp_path / f"run-{len(opened)}.html"
        file.write_text(render_report(result, 5, bars), encoding="utf-8")
        opened.append(Opened(browser, file, **options))
        opened[-1].wait_until(ALL_DRAWN)
        return opened[-1]

    yield open_it
    for one in opened:
        assert len(one.requests) == 1, one.requests
        assert one.complaints == []
        one.page.context.close()


def column_of(opened: Opened, heading: str) -> list[str]:
    table = opened.page.locator("#trade-table")
    headings = table.locator("th").all_text_contents()
    return table.locator(f"tbody td:nth-child({headings.index(heading) + 1})").all_text_contents()


def number(text: str) -> float:
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


def test_every_chart_is_drawn_offline(open_report, make_run):
    opened = open_report(make_run(bars=900))

    page = opened.page
    drawn = {chart.get_attribute("id") for chart in page.locator(".chart:has(svg.main-svg)").all()}
    assert drawn == {"equity", "costs", "price-1", "price-2", "excursions"}
    assert page.locator("#equity .scatterlayer .trace").count() == 3
    assert page.locator("#price-1 .boxlayer .trace path, #price-1 .candlesticklayer path").count() > 500
    assert page.locator("#price-1 .scatterlayer .point").count() > 10
    assert page.locator("#costs .waterfalllayer .point").count() == 5


def test_a_run_without_trades_is_drawn_too(open_report, make_run):
    opened = open_report(make_run(("EUR_USD",), bars=1))

    assert opened.page.locator(".chart").count() == 2
    assert opened.page.get_by_text("No trades in this run.").is_visible()


def test_a_click_on_a_heading_sorts_the_trades(open_report, make_run):
    opened = open_report(make_run(bars=900))
    net = opened.page.get_by_role("button", name="Net", exact=True)
    before = [number(text) for text in column_of(opened, "Net")]

    net.click()
    rising = [number(text) for text in column_of(opened, "Net")]
    net.click()
    falling = [number(text) for text in column_of(opened, "Net")]
    opened.page.get_by_role("button", name="Symbol").click()

    assert before != sorted(before)
    assert rising == sorted(before)
    assert falling == sorted(before, reverse=True)
    assert column_of(opened, "Symbol") == sorted(column_of(opened, "Symbol"))
    assert opened.page.locator("#trade-table th[aria-sort]").all_text_contents() == ["Symbol"]


def test_charts_follow_the_scheme_of_the_reader(open_report, make_run):
    made = make_run(bars=200)
    background = "() => getComputedStyle(document.querySelector('#equity .main-svg')).backgroundColor"

    light = open_report(made, color_scheme="light")
    dark = open_report(made, color_scheme="dark")

    assert light.page.evaluate(background) == "rgb(255, 255, 255)"
    assert dark.page.evaluate(background) == "rgb(23, 28, 36)"
    light.page.emulate_media(color_scheme="dark")
    light.wait_until(f"() => ({background})() === 'rgb(23, 28, 36)'")


def test_the_page_fits_a_narrow_screen(open_report, make_run):
    opened = open_report(make_run(bars=300), viewport={"width": 400, "height": 800})

    assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= 400
    assert opened.page.evaluate("() => document.querySelector('#equity .main-svg').getBoundingClientRect().width") <= 400


def test_symbols_that_are_folded_away_are_drawn_when_opened_and_when_printed(open_report, make_run):
    opened = open_report(make_run(tuple(f"S{i:02d}_USD" for i in range(20)), granularity="D", bars=100))
    page = opened.page
    assert page.locator("details.symbol[open]").count() == 8

    page.locator("#prices-h ~ details.symbol").nth(10).locator("summary").click()
    opened.wait_until("() => document.querySelector('#price-11 svg.main-svg') !== null")
    page.pdf()
    opened.wait_until("() => document.querySelectorAll('.chart svg.main-svg').length >= 23")

    assert page.locator("details.symbol[open]").count() == 9


def test_no_button_offers_to_send_the_chart_anywhere(open_report, make_run):
    opened = open_report(make_run(bars=200))

    titles = opened.page.locator(".modebar-btn").evaluate_all("buttons => buttons.map(button => button.dataset.title)")

    assert "Download plot as a PNG" in titles
    assert not any(word in title for title in titles for word in ("Share", "Cloud", "Edit", "Produced"))


def test_a_year_of_minutes_opens_fast(open_report, make_run, year_of_minutes):
    result, _ = make_run(granularity="M1", bars=2_000, odds=0.5)
    times = year_of_minutes["EUR_USD"].time
    nav = 100_000 + np.cumsum(np.random.default_rng(1).normal(0, 8, len(times)))
    year = replace(result, equity=Equity(times, nav, nav, np.zeros(len(times))))

    opened = open_report((year, year_of_minutes))

    # What is in view is drawn before the page counts as loaded: 1.2 s on two idle cores.
    loaded = opened.page.evaluate("() => performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert len(times) > 365_000
    assert 0 < loaded < 3_000 * BUSY
