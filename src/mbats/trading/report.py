"""One run as one HTML file with pictures that opens anywhere: no server, no network, nothing beside it.

`render_report` is pure: the same run and bars give the same page. Here are the numbers; wording, definitions, looks and
the drawing of the charts stand in `report.html.j2`. Long series are thinned for display only: every figure comes from
the full run.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from mbats.market import Bars, Floats, Granularity, Instrument, Times, bar_ends, bar_start, to_datetime, to_us, trading_days
from mbats.riskdb.records import RunResult, Trade
from mbats.trading.analyzers.performance import drawdown

TEMPLATE = "report.html.j2"
MAX_CANDLES = 2_000  # per symbol: more cannot be told apart on a screen, and each is a shape the browser draws
MAX_DRAWN = 2_000  # trades in the charts
MAX_ROWS = 500  # trades in the table
EQUITY_SLICES = 600
PRICE_DIGITS = 5  # of a symbol whose instrument the run does not name
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
CENT = Decimal("0.01")
BOOKED = Decimal("1e-9")  # finer than any amount that is booked
COMPONENTS = ("gross_pnl", "spread_cost", "slippage_cost", "financing")


def render_report(result: RunResult, run_id: int, bars: Mapping[str, Bars]) -> str:
    """The whole page. `bars` are the run's own bars by symbol; one that is missing or empty has no price chart."""
    times, columns = equity_curve(result)
    kept = extremes(columns, EQUITY_SLICES)
    drawn = most_telling(result.trades)
    charts = [
        price_chart(result, symbol, bars.get(symbol, Bars.empty()), drawn, f"price-{number}")
        for number, symbol in enumerate(result.spec.symbols, start=1)
    ]
    split = cost_split(result)
    page: str = _template().render(
        run=result,
        run_id=run_id,
        spec=result.spec,
        perf=result.performance,
        currency=result.spec.account_currency,
        instruments=instruments_charged(result),
        first=to_datetime(times[0]),
        last=to_datetime(times[-1]),
        points=len(times),
        points_shown=len(kept),
        closed=sum(trade.closed_at is not None for trade in result.trades),
        years=monthly_returns(result),
        split=split,
        net={row.name: row.shown[-1] for row in split},
        charts=charts,
        digits={chart.symbol: chart.digits for chart in charts},
        drawn=len(drawn),
        trades=result.trades[:MAX_ROWS],
        closed_by=closed_by(result),
        data=chart_data(result, times[kept], [column[kept] for column in columns], split[-1], drawn, charts),
        plotly=Markup(get_plotlyjs()),
    )
    return page


# --- Thinning: fewer points, the same picture ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candles:
    """Mid prices for display, columns of one length. `step` says what one candle is, in words: `H4`, `2 × D`."""

    time: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    step: str


def thin_candles(bars: Bars, granularity: Granularity, limit: int = MAX_CANDLES) -> Candles:
    """Mid candles of the shortest OANDA granularity, up to a day, that needs at most `limit`; then of several days each."""
    first, step = np.arange(len(bars)), str(granularity)
    for coarser in (g for g in Granularity if granularity.length < g.length <= Granularity.D.length):
        if len(first) <= limit:
            break
        if len(bars) * (granularity.length / coarser.length) > limit and coarser is not Granularity.D:
            continue  # even full candles would be too many
        starts = bar_start(coarser, bars.time)
        first, step = np.flatnonzero(np.r_[True, starts[1:] != starts[:-1]]), str(coarser)
    if len(first) > limit:
        several = math.ceil(len(first) / limit)
        first, step = first[::several], f"{several} \N{MULTIPLICATION SIGN} {step}"
    if not len(first):
        return Candles(bars.time, bars.mid_open, bars.mid_high, bars.mid_low, bars.mid_close, step)
    last = np.r_[first[1:], len(bars)] - 1
    high, low = np.maximum.reduceat(bars.mid_high, first), np.minimum.reduceat(bars.mid_low, first)
    return Candles(bars.time[first], bars.mid_open[first], high, low, bars.mid_close[last], step)


def extremes(columns: Sequence[Floats], slices: int) -> NDArray[np.intp]:
    """Positions to keep, ascending: of each slice its first point and every column's lowest and highest; and the last of all.

    So the highest peak, the lowest valley and the deepest drawdown of the whole stay, wherever they are.
    """
    count = len(columns[0])
    if count <= slices:
        return np.arange(count)
    edges = np.linspace(0, count, slices + 1).astype(np.intp)
    kept = {0, count - 1}
    for start, end in pairwise(edges):
        kept.add(int(start))
        for column in columns:
            part = column[start:end]
            kept |= {int(start + part.argmin()), int(start + part.argmax())}
    return np.array(sorted(kept), np.intp)


# --- Series and tables from the records -----------------------------------------------------------------------------


def equity_curve(result: RunResult) -> tuple[Times, tuple[Floats, Floats, Floats]]:
    """When each bar closed, and then NAV, balance, and drawdown (a fraction ≤ 0); the first point is the starting cash."""
    cash = float(result.spec.starting_cash)
    ends = bar_ends(Granularity(result.spec.granularity), result.equity.time)
    begin = result.equity.time[:1] if len(ends) else np.array([to_us(result.spec.start)])
    nav = np.r_[cash, result.equity.nav]
    balance = np.r_[cash, result.equity.balance]
    return np.r_[begin, ends], (nav, balance, -drawdown(nav))


@dataclass(frozen=True, slots=True)
class YearOfReturns:
    """Returns of January to December as fractions, None where the run has no bar, and of the year as a whole."""

    year: int
    months: tuple[float | None, ...]
    total: float


def monthly_returns(result: RunResult) -> list[YearOfReturns]:
    """NAV at the end of each month against the end of the month before. A bar belongs to the trading day in which it ends."""
    if not len(result.equity.time):
        return []
    ends = bar_ends(Granularity(result.spec.granularity), result.equity.time)
    months = trading_days(ends - np.timedelta64(1, "us")).astype("datetime64[M]").astype(int)
    last = np.flatnonzero(np.r_[months[1:] != months[:-1], True])
    nav = np.r_[float(result.spec.starting_cash), result.equity.nav[last]]
    before = dict(zip(months[last].tolist(), nav[:-1].tolist(), strict=True))
    after = dict(zip(months[last].tolist(), nav[1:].tolist(), strict=True))
    years = []
    for year in sorted({month // 12 for month in after}):
        held = [month for month in range(year * 12, year * 12 + 12) if month in after]
        row = tuple(_change(before[m], after[m]) if m in after else None for m in range(year * 12, year * 12 + 12))
        years.append(YearOfReturns(1970 + year, row, _change(before[held[0]], after[held[-1]])))
    return years


def _change(before: float, after: float) -> float:
    # An account that lost everything stays at −100 % instead of dividing by nothing.
    return after / before - 1 if before > 0 else 0.0


@dataclass(frozen=True, slots=True)
class CostRow:
    """Profit of one symbol taken apart, as signed money: the first four of `shown` (and of `exact`) add up to the fifth."""

    name: str
    shown: tuple[Decimal, ...]
    exact: tuple[Decimal, ...]


def cost_split(result: RunResult) -> list[CostRow]:
    """Gross P&L, spread, slippage, financing and net P&L for each symbol, the total last; costs are negative.

    Cents are shared out by largest remainder, so that what is shown adds up in rows and in columns. What the run booked
    outside its trades, if anything, is a row of its own: the total is always the run's.
    """
    total = _components(result.performance)
    parts = {symbol: _sum(_components(t) for t in result.trades if t.symbol == symbol) for symbol in result.spec.symbols}
    parts["outside trades"] = tuple(t - p for t, p in zip(total, _sum(parts.values()), strict=True))
    shown_total = share_out(total, sum(total, Decimal(0)).quantize(CENT, ROUND_HALF_EVEN))
    columns = [share_out([part[i] for part in parts.values()], shown_total[i]) for i in range(len(COMPONENTS))]
    rows = [_cost_row(name, [column[i] for column in columns], parts[name]) for i, name in enumerate(parts)]
    if not any(rows[-1].shown):
        rows.pop()
    return [*rows, _cost_row("Total", shown_total, total)]


def _components(part: Any) -> tuple[Decimal, ...]:
    signs = (1, -1, -1, 1)
    return tuple((sign * getattr(part, name)).quantize(BOOKED) for sign, name in zip(signs, COMPONENTS, strict=True))


def _sum(parts: Any) -> tuple[Decimal, ...]:
    return tuple(sum(column, Decimal(0)) for column in zip((Decimal(0),) * len(COMPONENTS), *parts, strict=True))


def _cost_row(name: str, shown: Sequence[Decimal], exact: Sequence[Decimal]) -> CostRow:
    return CostRow(name, (*shown, sum(shown, Decimal(0))), (*exact, sum(exact, Decimal(0))))


def share_out(values: Sequence[Decimal], total: Decimal) -> list[Decimal]:
    """The values in whole cents that add up to `total`, each less than a cent off; `total` is their sum to a cent."""
    floors = [value.quantize(CENT, ROUND_FLOOR) for value in values]
    missing = int((total - sum(floors)) / CENT)
    largest_first = sorted(range(len(values)), key=lambda i: floors[i] - values[i])
    for i in largest_first[:missing]:
        floors[i] += CENT
    return floors


def instruments_charged(result: RunResult) -> dict[str, Instrument]:
    """The instruments as they were when the run was specified, by symbol; those that the run names."""
    return {name: Instrument.from_json(figures) for name, figures in result.spec.costs.get("instruments", {}).items()}


def closed_by(result: RunResult) -> dict[int, str]:
    """What closed each closed trade, by its number: the purpose of the fill that did it."""
    purposes = {(fill.symbol, fill.time): fill.purpose for fill in result.fills if fill.purpose != "entry"}
    return {t.seq: purposes.get((t.symbol, t.closed_at), "exit") for t in result.trades if t.closed_at}


# --- What the charts draw ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PriceChart:
    """What the page says of one symbol: its bars and how they were thinned, its trades and how many are drawn."""

    symbol: str
    chart: str
    digits: int
    bars: int
    candles: Candles
    trades: int
    drawn: int


def price_chart(result: RunResult, symbol: str, bars: Bars, drawn: Sequence[Trade], chart: str) -> PriceChart:
    """The chart of one symbol; `chart` is its name in the page, `drawn` are the trades of the run that are shown."""
    instrument = instruments_charged(result).get(symbol)
    return PriceChart(
        symbol=symbol,
        chart=chart,
        digits=instrument.display_precision if instrument else PRICE_DIGITS,
        bars=len(bars),
        candles=thin_candles(bars, Granularity(result.spec.granularity)),
        trades=sum(trade.symbol == symbol for trade in result.trades),
        drawn=sum(trade.symbol == symbol for trade in drawn),
    )


def most_telling(trades: Sequence[Trade], limit: int = MAX_DRAWN) -> list[Trade]:
    """The trades that won or lost most, in their order, when all of them are too many to draw."""
    largest = sorted(range(len(trades)), key=lambda i: -abs(trades[i].net_pnl))[:limit]
    return [trades[i] for i in sorted(largest)]


def chart_data(
    result: RunResult,
    times: Times,
    equity: Sequence[Floats],
    total: CostRow,
    drawn: Sequence[Trade],
    charts: Sequence[PriceChart],
) -> dict[str, Any]:
    """All that the page's charts are drawn from. Times are milliseconds since 1970, which plotly shows in UTC."""
    nav, balance, below_peak = (_packed(column) for column in equity)
    return {
        "currency": result.spec.account_currency,
        "equity": {"time": _packed(_milliseconds(times)), "nav": nav, "balance": balance, "drawdown": below_peak},
        "costs": [float(amount) for amount in total.shown],
        "trades": [_drawn(trade, times[-1]) for trade in drawn],
        "prices": {
            chart.chart: {
                "symbol": chart.symbol,
                "digits": chart.digits,
                "step": chart.candles.step,
                "time": _packed(_milliseconds(chart.candles.time)),
                **{name: _packed(getattr(chart.candles, name)) for name in ("open", "high", "low", "close")},
            }
            for chart in charts
            if chart.bars
        },
    }


def _drawn(trade: Trade, end: np.datetime64) -> dict[str, Any]:
    # An open trade is drawn to the end of the run.
    opened, closed = (_milliseconds(t) for t in (to_us(trade.opened_at), to_us(trade.closed_at) if trade.closed_at else end))
    floats = {name: float(getattr(trade, name)) for name in ("units", "open_price", "close_price", "net_pnl", "mfe", "mae")}
    exact = {"seq": trade.seq, "symbol": trade.symbol, "bars": trade.bars, "open": trade.closed_at is None}
    return exact | floats | {"opened": int(opened), "closed": int(closed)}


def _milliseconds(times: Any) -> NDArray[np.int64]:
    return np.asarray(times.astype("datetime64[ms]").astype(np.int64))


def _packed(values: Any) -> dict[str, str]:
    """A column as plotly's typed array: exact, and smaller than its digits."""
    return {"dtype": "f8", "bdata": base64.b64encode(np.asarray(values, "<f8").tobytes()).decode()}


# --- Numbers as text --------------------------------------------------------------------------------------------------


def money(amount: Decimal | float) -> str:
    """Two decimals and thousands separators: −1,234.50."""
    return f"{Decimal(amount).quantize(CENT, ROUND_HALF_EVEN) + 0:,.2f}".replace("-", MINUS)


def signed(amount: Decimal | float) -> str:
    """Money with its sign, also when it is positive."""
    text = money(amount)
    return text if text.startswith(MINUS) or text == "0.00" else f"+{text}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction in percent, or a dash when there is none."""
    if fraction is None or not math.isfinite(fraction):
        return MISSING
    return f"{round(fraction * 100, digits) + 0:,.{digits}f}%".replace("-", MINUS)


def ratio(value: float | None) -> str:
    """Two decimals, or a dash when there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{round(value, 2) + 0:,.2f}".replace("-", MINUS)


def units(amount: Decimal) -> str:
    """Units with thousands separators and no more decimals than they have."""
    return f"{amount.normalize():,f}".replace("-", MINUS)


def when(moment: datetime) -> str:
    """A moment in UTC, to the minute; the page says once that all times are UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def plain(value: Any) -> str:
    """A setting of the run as a person would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "none"
    return str(value)


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in (money, signed, percent, ratio, units, when, plain)}
    return environment.get_template(TEMPLATE)


__all__ = ["render_report"]
