"""What the dashboards read, on a real PostgreSQL as the login that they read with: each chart's SQL, and nothing beyond it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import yaml
from runs import run, strategy

from mbats.database import Database
from mbats.market import Bars, Granularity, bar_starts
from mbats.riskdb.record import record_run
from mbats.riskdb.records import RunResult
from mbats.settings import PROJECT_ROOT, Settings
from mbats.trading.analyzers.performance import drawdown

ASSETS = PROJECT_ROOT / "superset" / "assets"
POINTS = 250  # that a curve has at most

TRADES = """
import backtrader as bt

class Trades(bt.Strategy):
    params = dict(every=20)

    def next(self):
        if len(self) % self.p.every == 0:
            self.order_target_size(self.data, target=1_000 if self.position.size <= 0 else -1_000)
"""
Read = Callable[..., list[Any]]


def content(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


CHARTS = {file.stem: content(file) for file in sorted((ASSETS / "charts").glob("*.yaml"))}
DATASETS = {found["uuid"]: found for found in (content(file) for file in sorted((ASSETS / "datasets").rglob("*.yaml")))}
DASHBOARDS = {file.stem: content(file) for file in sorted((ASSETS / "dashboards").glob("*.yaml"))}


def a_run(bars: int, *, seed: int = 1, symbols: tuple[str, ...] = ("EUR_USD",)) -> RunResult:
    times = bar_starts(Granularity.H1, np.datetime64("2020-01-05", "us").item(), np.datetime64("2030-01-05", "us").item())[:bars]
    walk = np.random.default_rng(seed)

    def prices() -> Bars:
        close = np.round(1.1 * np.exp(np.cumsum(walk.normal(0, 0.002, len(times)))), 5)
        return Bars.from_mid(times, close, close + 0.001, close - 0.001, close, np.ones(len(times)), spread=0.0002)

    return run(strategy(TRADES, "trades"), {name: prices() for name in symbols}, granularity="H1", cash="1000")


@pytest.fixture
def recorded(risk_db: Database) -> dict[int, RunResult]:
    """Runs by their number: a long one, one on two symbols, and one of two bars."""
    runs = [a_run(2_000), a_run(300, seed=2, symbols=("EUR_USD", "GBP_USD")), a_run(2, seed=3)]
    return {record_run(risk_db, result): result for result in runs}


@pytest.fixture
def read(settings: Settings, recorded: dict[int, RunResult]) -> Iterator[Read]:
    """Reads the risk database as the dashboards do."""
    with closing(Database(settings, "risk", "dashboard")) as database:

        def ask(statement: str, **values: Any) -> list[Any]:
            with database.begin() as connection:
                return list(connection.execute(sa.text(statement), values))

        yield ask


# --- The charts --------------------------------------------------------------------------------------------------------


def sql_of(query: dict[str, Any], dataset: dict[str, Any]) -> str:
    """The statement that Superset makes of one query of a chart, without what its series are limited to."""
    expressions = {metric["metric_name"]: metric["expression"] for metric in dataset["metrics"]}
    columns = [
        f"DATE_TRUNC('day', {column['sqlExpression']})" if isinstance(column, dict) else column for column in query["columns"]
    ]
    metrics = [expressions[name] for name in query.get("metrics", [])]
    order = [f"{expressions.get(name, name)} {'ASC' if rising else 'DESC'}" for name, rising in query["orderby"]]
    statement = f"SELECT {', '.join(columns + metrics)} FROM {dataset['schema']}.{dataset['table_name']}"
    if metrics and columns:
        statement += f" GROUP BY {', '.join(columns)}"
    if order:
        statement += f" ORDER BY {', '.join(order)}"
    return f"{statement} LIMIT {query['row_limit']}"


@pytest.mark.parametrize("name", CHARTS)
def test_the_query_of_each_chart_answers(read: Read, name: str) -> None:
    chart = CHARTS[name]
    context = json.loads(chart["query_context"])

    for query in context["queries"]:
        rows = read(sql_of(query, DATASETS[chart["dataset_uuid"]]))

        assert rows, name
        assert all(len(row) == len(query["columns"]) + len(query.get("metrics", [])) for row in rows)


@pytest.mark.parametrize("name", CHARTS)
def test_what_a_chart_draws_is_what_its_query_asks_for(name: str) -> None:
    chart = CHARTS[name]
    drawn, [asked] = chart["params"], json.loads(chart["query_context"])["queries"]

    assert drawn["viz_type"] == chart["viz_type"]
    assert asked.get("metrics", []) == drawn.get("metrics", [drawn["metric"]] if "metric" in drawn else [])
    if "all_columns" in drawn:
        assert asked["columns"] == drawn["all_columns"]


@pytest.mark.parametrize("uuid", DATASETS, ids=[found["table_name"] for found in DATASETS.values()])
def test_a_dataset_lists_every_column_of_its_view_and_no_other(read: Read, uuid: str) -> None:
    dataset = DATASETS[uuid]
    query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = :view ORDER BY ordinal_position"
    found = {name: kind for name, kind in read(query, view=dataset["table_name"])}

    listed = {column["column_name"]: column for column in dataset["columns"]}
    assert list(listed) == list(found)
    for name, column in listed.items():
        assert column["type"].lower() == found[name], name
        assert column["is_dttm"] == found[name].startswith("timestamp"), name


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_shows_charts_that_are_there_each_under_a_number_of_its_own(name: str) -> None:
    items = [item for item in DASHBOARDS[name]["position"].values() if isinstance(item, dict)]
    charts = [item["meta"] for item in items if item["type"] == "CHART"]

    known = {chart["uuid"]: chart["slice_name"] for chart in CHARTS.values()}
    assert {chart["uuid"]: chart["sliceName"] for chart in charts} == known
    assert len({chart["chartId"] for chart in charts}) == len(charts)  # Superset leaves out a dashboard in which it is missing


# --- The views -----------------------------------------------------------------------------------------------------------


def test_a_line_of_dash_runs_says_what_the_run_recorded(read: Read, recorded: dict[int, RunResult]) -> None:
    for number, result in recorded.items():
        [row] = read("SELECT * FROM dash_runs WHERE run_id = :number", number=number)
        figures = result.performance
        assert row.run == f"#{number} trades H1"
        assert row.symbols == ", ".join(result.spec.symbols)
        assert row.parameters == "every=20"
        assert row.period == f"{result.spec.start:%Y-%m-%d} to {result.spec.end:%Y-%m-%d}"
        assert row.sample == "no model"
        assert (row.trades, row.sharpe, row.max_drawdown) == (figures.trades, figures.sharpe, figures.max_drawdown)
        assert row.net_pnl == pytest.approx(float(figures.net_pnl))
        assert row.costs == pytest.approx(float(figures.spread_cost + figures.slippage_cost - figures.financing))


def test_a_curve_is_short_and_keeps_its_end_and_its_deepest_fall(read: Read, recorded: dict[int, RunResult]) -> None:
    for number, result in recorded.items():
        rows = read("SELECT * FROM dash_equity WHERE run_id = :number ORDER BY time", number=number)
        nav = result.equity.nav
        assert len(rows) == min(POINTS, len(nav))
        assert np.datetime64(rows[-1].time.replace(tzinfo=None)) == result.equity.time[-1]
        assert rows[-1].nav == nav[-1]
        assert rows[-1].growth == pytest.approx(result.performance.total_return)
        assert max(row.drawdown for row in rows) == pytest.approx(result.performance.max_drawdown)


def test_a_short_curve_is_kept_point_by_point(read: Read, risk_db: Database) -> None:
    result = a_run(POINTS, seed=9)
    number = record_run(risk_db, result)

    rows = read("SELECT nav, drawdown FROM dash_equity WHERE run_id = :number ORDER BY time", number=number)

    assert [row.nav for row in rows] == list(result.equity.nav)
    falls = drawdown(np.concatenate([[float(result.spec.starting_cash)], result.equity.nav]))[1:]
    assert [row.drawdown for row in rows] == pytest.approx(list(falls))


# --- Who may read what ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["risk", "secmaster"])
def test_dashboards_read_the_views_made_for_them_and_nothing_else(
    settings: Settings, secmaster_db: Database, recorded: dict[int, RunResult], name: Any
) -> None:
    kinds = "relkind IN ('r', 'p', 'v', 'm')"
    query = sa.text(f"SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND {kinds}")
    with closing(Database(settings, name, "owner")) as owner, owner.begin() as connection:
        relations = set(connection.scalars(query))

    readable = set()
    with closing(Database(settings, name, "dashboard")) as dashboard:
        for relation in relations:
            try:
                with dashboard.begin() as connection:
                    connection.execute(sa.text(f"SELECT * FROM {relation} LIMIT 1"))
                readable.add(relation)
            except sa.exc.ProgrammingError as refusal:
                assert "permission denied" in str(refusal)
        for statement in ("CREATE TABLE mine (x int)", "CREATE TEMP TABLE mine (x int)", "SELECT thinned_equity(1)"):
            with (
                pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|does not exist"),
                dashboard.begin() as connection,
            ):
                connection.execute(sa.text(statement))

    assert readable == {relation for relation in relations if relation.startswith("dash_")}
    assert readable or name == "secmaster"
