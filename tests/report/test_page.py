"""What stands on the page: the run's own figures, sums that add up, and plain words where there is no number."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbats.riskdb.records import Equity
from mbats.trading.report import cost_split, monthly_returns, render_report, share_out

VOID = {"meta", "link", "br", "hr", "img", "input"}
NO_NUMBER = re.compile(r"\b(nan|NaN|None|inf|Infinity|undefined|null)\b")  # what programs print for a number that is none


@dataclass
class Node:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag: str | None = None, *, cls: str | None = None) -> list[Node]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if tag in (None, child.tag) and (cls is None or cls in child.attributes.get("class", "").split()):
                    found.append(child)
                found += child.all(tag, cls=cls)
        return found

    def text(self) -> str:
        """What a reader sees, but for the strategy's own file."""
        parts = [c if isinstance(c, str) else c.text() for c in self.children if isinstance(c, str) or c.tag not in HIDDEN]
        return " ".join(" ".join(parts).split())


HIDDEN = ("script", "style", "pre", "title")


class Reader(HTMLParser):
    """Reads a page into a tree, and insists that every tag is closed by its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack = [Node("page")]
        self.feed(page)
        self.close()
        assert len(self.stack) == 1, f"not closed: {self.stack[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.stack[-1].children.append(node)
        if tag not in VOID:
            self.stack.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.stack[-1].children.append(data)


def read(page: str) -> Node:
    return Reader(page).stack[0]


def tiles(page: Node) -> dict[str, str]:
    return {tile.all(cls="label")[0].text(): tile.all(cls="value")[0].text() for tile in page.all(cls="tile")}


def table(page: Node, cls: str) -> list[list[str]]:
    """The rows of a table of that class, heads included."""
    found = page.all("table", cls=cls) or [box.all("table")[0] for box in page.all(cls=cls)]
    return [[cell.text() for cell in row.children if isinstance(cell, Node)] for row in found[0].all("tr")]


def amount(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("\N{MINUS SIGN}", "-").removesuffix("%"))


def chart_data(page: Node) -> dict:
    return json.loads(next(s for s in page.all("script") if s.attributes.get("id") == "chart-data").children[0])


def column(packed: dict[str, str]):
    return np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])


def test_the_key_figures_are_those_of_the_run(make_run):
    result, bars = make_run(bars=900)
    figures = result.performance

    shown = tiles(read(render_report(result, 3, bars)))

    assert amount(shown["Net P&L"]) == round(figures.net_pnl, 2)
    assert amount(shown["Total return"]) == Decimal(f"{figures.total_return:.2%}".removesuffix("%"))
    assert amount(shown["Sharpe ratio"]) == Decimal(f"{figures.sharpe:.2f}")
    assert amount(shown["Max drawdown"]) == -Decimal(f"{figures.max_drawdown:.2%}".removesuffix("%"))
    assert amount(shown["Trades"]) == figures.trades == len(result.trades)
    assert amount(shown["Win rate"]) == Decimal(f"{figures.won / (figures.trades - figures.open_trades):.1%}".removesuffix("%"))
    assert amount(shown["Profit factor"]) == Decimal(f"{figures.profit_factor:.2f}")
    assert amount(shown["Expectancy"]) == round(figures.expectancy, 2)
    assert amount(shown["Trading costs"]) == round(figures.net_pnl - figures.gross_pnl, 2)
    assert amount(shown["Refused orders"]) == figures.refused_orders


def test_every_key_figure_says_what_it_means(make_run):
    page = read(render_report(*with_id(make_run())))

    meanings = {tile.all(cls="label")[0].text(): tile.attributes["title"] for tile in page.all(cls="tile")}

    assert len(meanings) == 14
    assert all(len(meaning) > 30 and meaning.endswith(".") for meaning in meanings.values())


def with_id(made):
    result, bars = made
    return result, 7, bars


def test_costs_per_symbol_add_up_to_the_run_in_rows_and_in_columns(make_run):
    result, bars = make_run(("EUR_USD", "GBP_USD", "AUD_USD"), bars=700)

    head, *rows = table(read(render_report(result, 1, bars)), "costs")

    shown = {row[0]: [amount(cell) for cell in row[1:]] for row in rows}
    total = shown.pop("Total")
    assert head == ["Symbol", "Gross P&L", "Spread", "Slippage", "Financing", "Net P&L"]
    assert list(shown) == ["EUR_USD", "GBP_USD", "AUD_USD"]
    assert all(sum(row[:4]) == row[4] for row in [*shown.values(), total])
    assert [sum(column) for column in zip(*shown.values(), strict=True)] == total
    assert total[4] == round(result.performance.net_pnl, 2)


fine = st.decimals(min_value=-10_000, max_value=10_000, places=4, allow_nan=False)


@given(parts=st.lists(st.tuples(fine, fine, fine, fine), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_costs_add_up_to_the_cent_whatever_they_are(parts, made):
    result, _ = made
    trade = result.trades[0]
    names = ("gross_pnl", "spread_cost", "slippage_cost", "financing")
    symbols = tuple(f"S{i}_USD" for i in range(len(parts)))
    trades = [replace(trade, symbol=s, **dict(zip(names, part, strict=True))) for s, part in zip(symbols, parts, strict=True)]
    sums = {name: sum(getattr(t, name) for t in trades) for name in names}
    books = replace(result.performance, **sums)

    *rows, total = cost_split(
        replace(result, trades=tuple(trades), performance=books, spec=replace(result.spec, symbols=symbols))
    )

    assert [row.name for row in rows] == list(symbols)
    assert all(sum(row.shown[:4]) == row.shown[4] for row in [*rows, total])
    assert tuple(sum(column) for column in zip(*(row.shown for row in rows), strict=True)) == total.shown
    assert all(abs(s - e) < Decimal("0.01") for row in [*rows, total] for s, e in zip(row.shown[:4], row.exact[:4], strict=True))


@pytest.fixture(scope="module")
def made(make_run):
    return make_run()


@given(values=st.lists(fine, min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_cents_are_shared_out_so_that_they_add_up(values):
    total = round(sum(values), 2)

    shared = share_out(values, total)

    assert sum(shared) == total
    assert all(abs(share - value) < Decimal("0.01") for share, value in zip(shared, values, strict=True))


def test_money_that_no_trade_explains_has_a_row_of_its_own(made):
    result, bars = made
    books = replace(result.performance, financing=result.performance.financing - Decimal("12.34"))

    rows = table(read(render_report(replace(result, performance=books), 1, bars)), "costs")

    assert rows[-2] == ["outside trades", "0.00", "0.00", "0.00", "−12.34", "−12.34"]  # noqa: RUF001


def test_months_multiply_up_to_the_return_of_the_run(make_run):
    result, bars = make_run(granularity="D", bars=600)

    years = monthly_returns(result)
    page = read(render_report(result, 1, bars))

    growth = np.prod([1 + value for year in years for value in year.months if value is not None])
    assert growth - 1 == pytest.approx(result.performance.total_return)
    assert [year.year for year in years] == [2021, 2022, 2023]
    assert years[0].total == pytest.approx(np.prod([1 + value for value in years[0].months]) - 1)
    assert [row[0] for row in table(page, "months")] == ["Year", "2021", "2022", "2023"]


def test_a_daily_bar_that_opens_on_the_last_evening_of_a_month_belongs_to_the_next(make_run):
    result, _ = make_run(("EUR_USD",), granularity="D", bars=20, odds=0)
    assert str(result.equity.time[-1]) == "2021-01-31T22:00:00.000000"

    (year,) = monthly_returns(result)

    assert year.months[0] == 0
    assert year.months[1] == 0
    assert year.months[2] is None


def test_an_account_that_lost_everything_has_months_all_the_same(make_run):
    result, bars = make_run(("EUR_USD",), granularity="D", bars=60, odds=0)
    nav = np.r_[np.linspace(90_000, -5_000, 30), np.full(30, -5_000.0)]
    lost = replace(result, equity=Equity(result.equity.time, nav, nav, np.zeros(60)))

    (year,) = monthly_returns(lost)

    assert year.total == pytest.approx(-1.05)
    assert year.months[2] == 0
    assert not NO_NUMBER.search(read(render_report(lost, 1, bars)).text())


@pytest.mark.parametrize(
    "shape",
    [
        {"symbols": ("EUR_USD",), "bars": 300, "odds": 0},
        {"symbols": ("EUR_USD",), "bars": 1},
        {"symbols": ("EUR_USD",), "bars": 60, "most": 1},
        {"symbols": ("EUR_USD", "USD_JPY"), "bars": 50, "granularity": "M1", "odds": 0},
        {"symbols": tuple(f"S{i:02d}_USD" for i in range(20)), "bars": 120, "granularity": "D"},
        {"symbols": ("EUR_USD",), "bars": 30, "granularity": "W"},
    ],
    ids=["no trades", "one bar", "one open trade", "two bars of a minute", "twenty symbols", "weeks"],
)
def test_a_run_of_any_size_reads_well(make_run, shape):
    result, bars = make_run(**shape)

    page = read(render_report(result, 1, bars))

    words = page.text()
    assert not NO_NUMBER.search(words), NO_NUMBER.search(words)
    assert ("No trades in this run" in words) == (not result.trades)
    assert (tiles(page)["Trades"] == "no trades") == (not result.trades)
    assert len(page.all("details", cls="symbol")) == len(result.spec.symbols)


def test_a_ratio_that_cannot_be_formed_is_a_dash_with_a_reason(make_run):
    result, bars = make_run(("EUR_USD",), bars=1)

    page = read(render_report(result, 1, bars))

    sharpe = next(tile for tile in page.all(cls="tile") if tile.all(cls="label")[0].text() == "Sharpe ratio")
    assert sharpe.all(cls="value")[0].text() == "\N{EN DASH}"
    assert sharpe.all(cls="note")[0].text() == "not defined here"


def test_what_the_run_warns_of_stands_before_the_figures(made):
    result, bars = made
    run = replace(result, warnings=("12 orders refused: margin", "EUR_USD has a hole"), in_sample=True, model_version="rsi/3")

    words = read(render_report(run, 1, bars)).text()

    for warning in ("In sample", "12 orders refused: margin", "EUR_USD has a hole"):
        assert -1 < words.index(warning) < words.index("Net P&L")
    assert "rsi/3: had seen this period" in words


@pytest.mark.parametrize(
    ("model", "in_sample", "words"),
    [
        (None, None, "Model none was used"),
        ("rsi/3", False, "Model rsi/3: had not seen this period"),
        ("rsi/3", None, "Model rsi/3: not known whether it had seen this period"),
    ],
)
def test_the_page_says_whether_a_model_had_seen_the_period(made, model, in_sample, words):
    result, bars = made

    assert words in read(render_report(replace(result, model_version=model, in_sample=in_sample), 1, bars)).text()


def test_the_page_says_which_version_a_reference_meant_and_on_what_it_was_trained(made):
    result, bars = made
    pinned = {
        "name": "rsi",
        "version": 3,
        "digest": "d" * 64,
        "trained_from": "2015-01-01T00:00:00+00:00",
        "trained_to": "2019-01-01T00:00:00+00:00",
        "features": ["percK", "<atr>"],
    }

    words = read(render_report(replace(result, model_version="rsi/3", models={"rsi@champion": pinned}), 1, bars)).text()

    assert "rsi@champion rsi/3 2015-01-01 to 2019-01-01, end excluded percK, <atr>" in words
    assert "as pinned for this run" not in read(render_report(result, 1, bars)).text()


def test_costs_rule_of_fills_and_source_of_the_bars_stand_at_the_top(made):
    result, bars = made

    top = read(render_report(replace(result, data_source="simulator"), 1, bars)).all("header")[0].text()

    assert "spread: the bars' own bid and ask; slippage: pips:0.2; financing: charged at 17:00 New York" in top
    assert "stops and targets work from the moment of the fill" in top
    assert "ECB rates with simulated intraday" in top
    assert result.data_fingerprint[:12] in top
    assert "All times are UTC; all money is in USD." in top
    assert "from oanda;" in read(render_report(replace(result, data_source="oanda"), 1, bars)).all("header")[0].text()


def test_a_backtest_without_costs_says_so_at_the_top(made):
    result, bars = made
    costs = {**result.spec.costs, "spread": "none", "slippage": "none", "financing": False, "margin": False}

    top = read(render_report(replace(result, spec=replace(result.spec, costs=costs)), 1, bars)).all("header")[0].text()

    assert "spread: none, dealt at mid prices; slippage: none; financing: not charged; margin: not checked" in top


def test_names_texts_and_parameters_are_text_and_never_markup(made):
    result, bars = made
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    spec = replace(
        result.spec,
        strategy=evil,
        source=f'"""{evil}</pre></script>"""',
        parameters={evil: evil},
        symbols=(*result.spec.symbols, evil),
        account_currency=evil,
    )

    page = read(
        render_report(
            replace(result, spec=spec, warnings=(evil,), code_version=evil, model_version=evil, data_source=evil), 1, bars
        )
    )
    plain = read(render_report(result, 1, bars))

    assert page.all("img") == []
    assert len(page.all("script")) == len(plain.all("script")) == 3
    assert evil in page.all("h1")[0].text()
    assert evil in "".join(page.all("pre", cls="source")[0].children)


def test_the_file_needs_nothing_but_itself(made):
    result, bars = made

    text = render_report(result, 1, bars)
    page = read(text)

    links = [node.attributes.get(name, "") for node in page.all() for name in ("src", "href", "action", "srcset")]
    assert all(link == "" or link.startswith(("#", "data:")) for link in links)
    assert "@import" not in text.split("<style>")[1].split("</style>")[0]
    assert any("default-src 'none'" in meta.attributes.get("content", "") for meta in page.all("meta"))
    assert text.count("* plotly.js v") == 1


def test_the_same_run_gives_the_same_page(made):
    result, bars = made

    assert render_report(result, 1, bars) == render_report(result, 1, bars)


def test_the_table_holds_the_first_500_trades_and_says_how_many_there_are(make_run):
    result, bars = make_run(granularity="M1", bars=1_500, odds=0.9)
    assert len(result.trades) > 600

    page = read(render_report(result, 1, bars))

    rows = table(page, "trades")
    assert len(rows) == 1 + 500
    assert f"The first 500 of {len(result.trades):,} trades" in page.text()
    first = result.trades[0]
    assert rows[1][:3] == ["1", first.symbol, "long" if first.units > 0 else "short"]
    assert amount(rows[1][rows[0].index("Net")]) == round(first.net_pnl, 2)


def test_a_trade_that_is_open_at_the_end_is_called_open(make_run):
    result, bars = make_run(("EUR_USD",), bars=60, most=1)

    page = read(render_report(result, 1, bars))

    head, row = table(page, "trades")
    assert row[head.index("Closed")] == "open"
    assert tiles(page)["Win rate"] == "none closed"
    assert chart_data(page)["trades"][0]["open"] is True


def test_the_drawdown_that_is_drawn_is_the_drawdown_that_is_reported(make_run):
    result, bars = make_run(granularity="M15", bars=3_000)

    page = read(render_report(result, 1, bars))

    drawn = chart_data(page)["equity"]
    assert len(column(drawn["nav"])) < 3_001
    assert column(drawn["drawdown"]).min() == pytest.approx(-result.performance.max_drawdown)
    assert column(drawn["nav"])[0] == result.spec.starting_cash
    assert column(drawn["nav"])[-1] == pytest.approx(float(result.performance.ending_nav), abs=0.01)
    assert "of 3,001 points" in page.text()


def test_the_page_says_what_the_candles_were_thinned_to(make_run):
    result, bars = make_run(("EUR_USD",), granularity="M1", bars=5_000, odds=0.01)

    page = read(render_report(result, 1, bars))

    candles = chart_data(page)["prices"]["price-1"]
    assert f"5,000 M1 bars are drawn as {len(column(candles['time'])):,} candles of {candles['step']}" in page.text()
    assert candles["step"] == "M4"


def test_a_symbol_whose_bars_are_gone_says_so(made):
    result, bars = made

    page = read(render_report(result, 1, {"EUR_USD": bars["EUR_USD"]}))

    assert "No bars of GBP_USD are stored for this period." in page.text()
    assert list(chart_data(page)["prices"]) == ["price-1"]


def test_the_page_says_how_to_repeat_the_run(made):
    result, bars = made

    page = read(render_report(result, 41, bars))

    assert "mbats reproduce 41" in page.all("pre", cls="repeat")[0].children
    assert result.spec.source.strip() in "".join(page.all("pre", cls="source")[0].children)
    for fact in (result.code_version, result.data_fingerprint, result.versions["backtrader"]):
        assert fact in page.text()
