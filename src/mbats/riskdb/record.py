"""Runs into the risk database, whole or not at all, and out of it again, equal to what went in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa

from mbats.database import Database
from mbats.errors import DataError, UnknownRun
from mbats.riskdb import tables
from mbats.riskdb.copy import copy_rows, copy_series, read_series
from mbats.riskdb.model_records import ModelDecision
from mbats.riskdb.records import Equity, Fill, Performance, PositionChange, RunResult, RunSpec, Trade

Row = TypeVar("Row", Fill, Trade, PositionChange)

EQUITY_COLUMNS = ("balance", "nav", "margin_used")
DECISION_COLUMNS = tuple(field.name for field in fields(ModelDecision))
# Names of RunSpec and RunResult that are columns of `run` under the same name.
_SPEC_COLUMNS = ("strategy", "source", "parameters", "granularity", "account_currency", "starting_cash", "costs", "fills", "seed")
_RESULT_COLUMNS = (
    *("code_version", "versions", "data_source", "data_fingerprint", "data_as_of"),
    *("started_at", "finished_at", "model_version", "in_sample", "models"),
)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs. `start` and `end` are the period that was traded; fractions, not percent."""

    run_id: int
    recorded_at: datetime
    mode: str
    strategy: str
    symbols: tuple[str, ...]
    granularity: str
    start: datetime
    end: datetime
    parameters: dict[str, Any]
    data_source: str
    trades: int
    account_currency: str
    net_pnl: Decimal
    total_return: float
    sharpe: float | None
    max_drawdown: float
    in_sample: bool | None
    model_version: str | None


def record_run(db: Database, result: RunResult) -> int:
    """Store a finished backtest in one transaction; returns its number. Raises DataError when its books do not add up."""
    try:
        with db.begin() as connection:
            return _insert_run(connection, result)
    except sa.exc.IntegrityError as error:
        fault = " ".join(str(error.orig).split())
        raise DataError(f"The run of '{result.spec.strategy}' contradicts itself and was not recorded: {fault}") from error


def _insert_run(connection: sa.Connection, result: RunResult) -> int:
    run_id = int(connection.execute(sa.insert(tables.run).values(_run_row(result)).returning(tables.run.c.id)).scalar_one())
    _copy_records(connection, tables.fill, run_id, Fill, result.fills)
    _copy_records(connection, tables.trade, run_id, Trade, result.trades)
    _copy_positions(connection, run_id, result.positions)
    columns = [getattr(result.equity, name) for name in EQUITY_COLUMNS]
    copy_series(connection, tables.equity, run_id, EQUITY_COLUMNS, result.equity.time, columns)
    _copy_decisions(connection, run_id, result.decisions)
    connection.execute(sa.insert(tables.performance).values(run_id=run_id, **_figures(result.performance)))
    return run_id


def _run_row(result: RunResult) -> dict[str, Any]:
    spec = result.spec
    return {
        **{name: getattr(spec, name) for name in _SPEC_COLUMNS},
        **{name: getattr(result, name) for name in _RESULT_COLUMNS},
        "symbols": list(spec.symbols),
        "period_start": spec.start,
        "period_end": spec.end,
        "warnings": list(result.warnings),
    }


def _copy_records(
    connection: sa.Connection,
    table: sa.Table,
    run_id: int,
    kind: type[Fill] | type[Trade],
    records: Sequence[Fill] | Sequence[Trade],
) -> None:
    names = [field.name for field in fields(kind)]
    rows = ((run_id, *(getattr(record, name) for name in names)) for record in records)
    copy_rows(connection, table, ["run_id", *names], rows)


def _copy_positions(connection: sa.Connection, run_id: int, changes: Sequence[PositionChange]) -> None:
    # A change of position carries no number of its own; its place among the others is the number.
    rows = ((run_id, seq, change.time, change.symbol, change.units, change.price) for seq, change in enumerate(changes))
    copy_rows(connection, tables.position, ["run_id", "seq", "time", "symbol", "units", "price"], rows)


def _copy_decisions(connection: sa.Connection, run_id: int, decisions: Sequence[ModelDecision]) -> None:
    rows = ((run_id, *_decision_values(decision)) for decision in decisions)
    copy_rows(connection, tables.model_decision, ["run_id", *DECISION_COLUMNS], rows)


def _decision_values(decision: ModelDecision) -> tuple[Any, ...]:
    features = ",".join(repr(float(value)) for value in decision.features)
    values = {name: getattr(decision, name) for name in DECISION_COLUMNS} | {"features": f"{{{features}}}"}
    return tuple(values.values())


def _decisions(connection: sa.Connection, run_id: int) -> tuple[ModelDecision, ...]:
    column = tables.model_decision.c
    query = sa.select(*(column[name] for name in DECISION_COLUMNS)).where(column.run_id == run_id)
    rows = connection.execute(query.order_by(column.time, column.symbol, column.role, column.model)).mappings()
    return tuple(ModelDecision(**{**row, "features": tuple(row["features"])}) for row in rows)


def _figures(performance: Performance) -> dict[str, Any]:
    # Figures that numpy computed come as its own scalars, which psycopg2 does not write.
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in asdict(performance).items()}


def load_run(db: Database, run_id: int) -> RunResult:
    """The run of this number, equal to the one that was recorded. Raises UnknownRun."""
    with db.begin() as connection:
        row = connection.execute(sa.select(tables.run).where(tables.run.c.id == run_id)).one_or_none()
        if row is None:
            newest = connection.scalar(sa.select(sa.func.max(tables.run.c.id)))
            known = f"The newest is {newest}" if newest else "None is recorded yet"
            raise UnknownRun(f"No run {run_id} in the risk database. {known}; `mbats runs` lists them.")
        if row.mode != "backtest":
            raise UnknownRun(
                f"Run {run_id} is deployment '{row.deployment}' on a {row.mode} account and no backtest: what it did is in the "
                "dashboards, and there is nothing to load or repeat."
            )
        figures = connection.execute(sa.select(tables.performance).where(tables.performance.c.run_id == run_id)).one()
        return RunResult(
            spec=_spec(row),
            **{name: getattr(row, name) for name in _RESULT_COLUMNS},
            warnings=tuple(row.warnings),
            fills=_records(connection, tables.fill, run_id, Fill),
            trades=_records(connection, tables.trade, run_id, Trade),
            positions=_records(connection, tables.position, run_id, PositionChange),
            equity=_equity(connection, run_id),
            decisions=_decisions(connection, run_id),
            performance=Performance(**{field.name: getattr(figures, field.name) for field in fields(Performance)}),
        )


def _spec(row: sa.Row[Any]) -> RunSpec:
    same = {name: getattr(row, name) for name in _SPEC_COLUMNS}
    return RunSpec(**same, symbols=tuple(row.symbols), start=row.period_start, end=row.period_end)


def _records(connection: sa.Connection, table: sa.Table, run_id: int, kind: type[Row]) -> tuple[Row, ...]:
    columns = [table.c[field.name] for field in fields(kind)]
    rows = connection.execute(sa.select(*columns).where(table.c.run_id == run_id).order_by(table.c.seq))
    return tuple(kind(*row) for row in rows)


def _equity(connection: sa.Connection, run_id: int) -> Equity:
    query = f"SELECT time, {', '.join(EQUITY_COLUMNS)} FROM equity WHERE run_id = {int(run_id)} ORDER BY time"
    times, columns = read_series(connection, query, EQUITY_COLUMNS)
    return Equity(times, *columns)


def list_runs(db: Database, *, limit: int, strategy: str | None = None) -> list[RunSummary]:
    """The newest runs, newest first; of one strategy when it is named."""
    run, figures = tables.run.c, tables.performance.c
    columns = (
        *(run.id.label("run_id"), run.recorded_at, run.mode, run.strategy, run.symbols, run.granularity),
        *(run.period_start.label("start"), run.period_end.label("end"), run.parameters, run.in_sample),
        run.model_version,
        *(run.data_source, run.account_currency),
        *(figures.trades, figures.net_pnl, figures.total_return, figures.sharpe, figures.max_drawdown),
    )
    query = sa.select(*columns).join_from(tables.run, tables.performance, figures.run_id == run.id)
    if strategy is not None:
        query = query.where(run.strategy == strategy)
    with db.begin() as connection:
        rows = connection.execute(query.order_by(run.recorded_at.desc(), run.id.desc()).limit(limit)).mappings().all()
    return [RunSummary(**{**row, "symbols": tuple(row["symbols"])}) for row in rows]
