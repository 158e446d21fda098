"""The records of live trading into the risk database. Written twice, they are there once; what happened is never overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from mbats.errors import DataError
from mbats.riskdb import tables
from mbats.riskdb.live_records import (
    AccountEquityRecord,
    DeploymentRecord,
    EquityRecord,
    FillRecord,
    HeartbeatRecord,
    IntentRecord,
    LiveRecord,
    ModelDecisionRecord,
    OrderEventRecord,
    PositionRecord,
    ReconciliationRecord,
    RiskEventRecord,
    RunRecord,
    TradeRecord,
    TransactionRecord,
)

Key = tuple[Any, ...]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Home:
    """The table of a kind of record, its key, and the columns that a later record changes: none for what happened."""

    table: sa.Table
    key: tuple[str, ...]
    changing: tuple[str, ...] = ()


def _states(table: sa.Table) -> Home:
    key = tuple(column.name for column in table.primary_key)
    return Home(table, key, tuple(column.name for column in table.columns if column.name not in key))


HOMES: dict[type[LiveRecord], Home] = {
    DeploymentRecord: _states(tables.deployment),
    RunRecord: Home(tables.run, ("deployment", "session"), ("period_end", "finished_at")),
    IntentRecord: _states(tables.order_intent),
    OrderEventRecord: Home(tables.order_event, ("account_id", "key")),
    FillRecord: Home(tables.fill, ("run_id", "seq")),
    PositionRecord: Home(tables.position, ("run_id", "seq")),
    TradeRecord: Home(tables.trade, ("run_id", "seq")),
    EquityRecord: Home(tables.equity, ("run_id", "time")),
    AccountEquityRecord: Home(tables.account_equity, ("account_id", "time")),
    RiskEventRecord: Home(tables.risk_event, ("account_id", "key")),
    HeartbeatRecord: _states(tables.heartbeat),
    TransactionRecord: Home(tables.broker_transaction, ("account_id", "id")),
    ReconciliationRecord: Home(tables.reconciliation, ("account_id", "day", "at")),
    ModelDecisionRecord: Home(tables.model_decision, ("run_id", "symbol", "time", "role", "model")),
}
OF_A_RUN = (FillRecord, PositionRecord, TradeRecord, EquityRecord, ModelDecisionRecord)


def write_records(connection: sa.Connection, records: Iterable[LiveRecord]) -> None:
    """Write records in their order, in the transaction of the connection.

    Raises DataError when a run is named that is not recorded, or when something that happened is there already with other
    figures; sqlalchemy.exc.DBAPIError when a constraint refuses a row.
    """
    for kind, group in groupby(records, type):
        home = HOMES[kind]
        rows = _rows_by_key(home, _rows(connection, kind, list(group)))
        if home.changing:
            _bring_up_to_date(connection, home, rows)
        else:
            _add(connection, home, rows)


def _rows(connection: sa.Connection, kind: type[LiveRecord], records: Sequence[Any]) -> list[Row]:
    rows = [{field.name: getattr(record, field.name) for field in fields(record)} for record in records]
    if kind in OF_A_RUN:
        rows = _with_run_ids(connection, rows)
    if kind is RunRecord:
        # A backtest says here what it took for these; a deployment has the broker's.
        rows = [
            {**row, "costs": {"spread": "broker", "financing": "broker", "margin": "broker"}, "fills": "broker"} for row in rows
        ]
    columns = HOMES[kind].table.columns
    return [{name: _value(columns[name], value) for name, value in row.items()} for row in rows]


def _value(column: sa.Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, JSONB):
        return json.loads(json.dumps(value, default=str))  # as it will come out again
    if isinstance(column.type, sa.ARRAY):
        return list(value)
    # Of the floats, a deployment's equity, whose record is exact, and what a model said.
    return float(value) if isinstance(column.type, sa.Double) else value


def _with_run_ids(connection: sa.Connection, rows: Sequence[Row]) -> list[Row]:
    run = tables.run.c
    wanted = {(row["deployment"], row["session"]) for row in rows}
    query = sa.select(run.deployment, run.session, run.id).where(sa.tuple_(run.deployment, run.session).in_(wanted))
    numbers = {(deployment, session): number for deployment, session, number in connection.execute(query)}
    unknown = sorted(wanted - numbers.keys())
    if unknown:
        raise DataError(f"No run of deployment '{unknown[0][0]}', session '{unknown[0][1]}', is in the risk database.")
    placed = []
    for row in rows:
        number = numbers[row.pop("deployment"), row.pop("session")]
        if "transaction_id" in row:
            row["seq"] = row.pop("transaction_id")
        placed.append({"run_id": number, **row})
    return placed


def _rows_by_key(home: Home, rows: Iterable[Row]) -> dict[Key, Row]:
    found: dict[Key, Row] = {}
    for row in rows:
        key = tuple(row[name] for name in home.key)
        if not home.changing and found.get(key, row) != row:
            raise _contradiction(home, key, found[key], row)
        found[key] = row
    return found


def _bring_up_to_date(connection: sa.Connection, home: Home, rows: dict[Key, Row]) -> None:
    statement = insert(home.table)
    changes = {name: statement.excluded[name] for name in home.changing}
    connection.execute(statement.on_conflict_do_update(index_elements=home.key, set_=changes), list(rows.values()))


def _add(connection: sa.Connection, home: Home, rows: dict[Key, Row]) -> None:
    columns = [home.table.c[name] for name in home.key]
    statement = insert(home.table).on_conflict_do_nothing(index_elements=home.key).returning(*columns)
    added = {tuple(row) for row in connection.execute(statement, list(rows.values()))}
    there = rows.keys() - added
    if not there:
        return
    names = list(next(iter(rows.values())))
    query = sa.select(*(home.table.c[name] for name in names)).where(sa.tuple_(*columns).in_(there))
    for found in connection.execute(query).mappings():
        key = tuple(found[name] for name in home.key)
        if dict(found) != rows[key]:
            raise _contradiction(home, key, dict(found), rows[key])


def _contradiction(home: Home, key: Key, before: Row, after: Row) -> DataError:
    differing = next(name for name in after if before[name] != after[name])
    named = ", ".join(f"{name} {value}" for name, value in zip(home.key, key, strict=True))
    return DataError(
        f"A row of '{home.table.name}' ({named}) is there already and says otherwise: its {differing} is "
        f"{_short(before[differing])}, this one's {_short(after[differing])}. It was not changed."
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
