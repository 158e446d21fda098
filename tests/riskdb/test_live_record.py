"""Live and paper trading in the risk database: each record once, exact, and what happened is never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from live_samples import (
    ACCOUNT,
    DEPLOYMENT,
    EQUITY,
    FILL,
    INTENT,
    NOW,
    POSITION,
    RECONCILIATION,
    RECORDS,
    RISK_EVENT,
    RUN,
    TRADE,
    intent,
)

from mbats.database import Database
from mbats.errors import DataError, UnknownRun
from mbats.live.gate import Mode
from mbats.live.journal import IntentState
from mbats.riskdb.live_record import HOMES, write_records
from mbats.riskdb.live_records import PURPOSES, HeartbeatRecord, LiveRecord, PositionRecord, RiskEventRecord, TransactionRecord
from mbats.riskdb.record import list_runs, load_run, record_run
from mbats.riskdb.records import RunResult
from mbats.riskdb.tables import metadata
from mbats.settings import Settings

MakeRun = Callable[..., RunResult]
IDS = [type(record).__name__ for record in RECORDS]
HAPPENED = [record for record in RECORDS if not HOMES[type(record)].changing]


def write(db: Database, *records: LiveRecord) -> None:
    with db.begin() as connection:
        write_records(connection, records)


def read(db: Database, statement: str, **values: Any) -> Sequence[Any]:
    with db.begin() as connection:
        return connection.execute(sa.text(statement), values).mappings().all()


def kept(db: Database) -> dict[str, list[dict[str, Any]]]:
    with db.begin() as connection:
        return {
            name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for name, table in metadata.tables.items()
        }


def row_of(db: Database, record: LiveRecord) -> dict[str, Any]:
    [row] = kept(db)[HOMES[type(record)].table.name]
    return row


@pytest.fixture
def dashboard(settings: Settings, risk_db: Database) -> Iterator[Database]:
    with closing(Database(settings, "risk", "dashboard")) as database:
        yield database


# --- Each record once -----------------------------------------------------------------------------------------------------


def test_every_kind_of_record_has_a_home_and_a_sample() -> None:
    assert HOMES.keys() == set(get_args(LiveRecord)) == {type(record) for record in RECORDS}


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_a_record_is_kept_to_the_last_digit(risk_db: Database, record: LiveRecord) -> None:
    write(risk_db, *RECORDS)

    row = row_of(risk_db, record)
    number = row_of(risk_db, RUN)["id"]
    names = {"transaction_id": "seq"} if "seq" in row else {}
    in_a_run = "run_id" in row
    for field in fields(record):
        expected = getattr(record, field.name)
        if in_a_run and field.name in ("deployment", "session"):
            assert row["run_id"] == number
            continue
        found = row[names.get(field.name, field.name)]
        if isinstance(found, float):
            expected = float(expected)
        assert found == (list(expected) if isinstance(expected, tuple) else expected), field.name
        if isinstance(found, Decimal):
            assert str(found) == str(expected), field.name


def test_records_written_again_are_there_once(risk_db: Database) -> None:
    write(risk_db, *RECORDS)
    once = kept(risk_db)

    write(risk_db, *RECORDS)
    write(risk_db, *RECORDS, *RECORDS)
    for record in RECORDS:
        write(risk_db, record)

    assert kept(risk_db) == once
    assert {len(once[HOMES[type(record)].table.name]) for record in RECORDS} == {1}


@pytest.mark.parametrize("record", HAPPENED, ids=[type(record).__name__ for record in HAPPENED])
def test_what_happened_is_refused_when_it_comes_again_with_other_figures(risk_db: Database, record: Any) -> None:
    write(risk_db, *RECORDS)
    before = kept(risk_db)
    changes: dict[str, Any] = {
        "FillRecord": {"pnl": Decimal("-1.2346")},
        "PositionRecord": {"units": Decimal(-1000)},
        "TradeRecord": {"bars": 13},
        "EquityRecord": {"nav": Decimal("99999.2")},
        "AccountEquityRecord": {"balance": Decimal(1)},
        "OrderEventRecord": {"price": Decimal(1)},
        "RiskEventRecord": {"until": NOW},
        "TransactionRecord": {"body": {"id": "1234", "pl": "1.1"}},
        "ReconciliationRecord": {"findings": ("One cent is missing.",)},
        "ModelDecisionRecord": {"prediction": 0.0004},
    }
    other = replace(record, **changes[type(record).__name__])
    [named] = changes[type(record).__name__]

    with pytest.raises(DataError, match=rf"is there already and says otherwise: its {named} is .* It was not changed"):
        write(risk_db, other)
    with pytest.raises(DataError, match="says otherwise"):
        write(risk_db, record, other)

    assert kept(risk_db) == before


def test_two_records_that_contradict_each_other_are_both_refused(risk_db: Database) -> None:
    write(risk_db, RUN)

    with pytest.raises(DataError, match=r"its pnl is -1\.2345, this one's 7"):
        write(risk_db, FILL, replace(FILL, pnl=Decimal(7)))

    assert kept(risk_db)["fill"] == []


def test_what_is_now_follows_its_last_record(risk_db: Database) -> None:
    write(risk_db, *RECORDS)
    filled = replace(INTENT, state=IntentState.FILLED, order_id=12, attempts=1, updated_at=NOW + timedelta(seconds=3))
    sent = replace(filled, state=IntentState.SENT)
    stopped = replace(DEPLOYMENT, desired="stopped", state="stopped", source="new")
    beat = HeartbeatRecord("trader", NOW + timedelta(seconds=9), "ill")

    write(risk_db, sent.record(), filled.record(), stopped, beat)

    assert (row_of(risk_db, INTENT.record())["state"], row_of(risk_db, INTENT.record())["order_id"]) == ("filled", 12)
    assert (row_of(risk_db, stopped)["desired"], row_of(risk_db, stopped)["source"]) == ("stopped", "new")
    assert (row_of(risk_db, beat)["at"], row_of(risk_db, beat)["state"]) == (beat.at, "ill")


def test_many_records_at_once_keep_apart(risk_db: Database) -> None:
    rows = [intent(number, units=Decimal(number)) for number in range(1500)]

    write(risk_db, *(row.record() for row in rows))
    write(risk_db, *(replace(row, state=IntentState.ABSENT).record() for row in rows[:700]))

    [(count, units)] = [tuple(row.values()) for row in read(risk_db, "SELECT count(*), sum(units) FROM order_intent")]
    assert (count, units) == (1500, sum(range(1500)))
    assert read(risk_db, "SELECT count(*) FROM order_intent WHERE state = 'absent'")[0]["count"] == 700


# --- Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_has_no_end_until_it_gets_one(risk_db: Database) -> None:
    write(risk_db, RUN)
    begun = row_of(risk_db, RUN)
    assert (begun["finished_at"], begun["period_end"], begun["data_fingerprint"]) == (None, None, None)

    end = NOW + timedelta(hours=1)
    write(risk_db, replace(RUN, finished_at=end, period_end=end, source="changed later"))

    assert row_of(risk_db, RUN) == begun | {"finished_at": end, "period_end": end}


def test_what_happened_belongs_to_the_run_of_its_deployment_and_session(risk_db: Database) -> None:
    runs = [RUN, replace(RUN, session="second"), replace(RUN, deployment="other")]
    fills = [replace(FILL, deployment=run.deployment, session=run.session, units=Decimal(n + 1)) for n, run in enumerate(runs)]

    write(risk_db, *runs, *fills)

    query = "SELECT run.deployment, run.session, fill.units FROM fill JOIN run ON run.id = run_id ORDER BY units"
    assert [tuple(row.values()) for row in read(risk_db, query)] == [
        (fill.deployment, fill.session, fill.units) for fill in fills
    ]


def test_a_fill_of_an_unknown_run_is_refused(risk_db: Database) -> None:
    write(risk_db, RUN)

    with pytest.raises(DataError, match="No run of deployment 'rsi-eurusd', session 'third'"):
        write(risk_db, FILL, replace(FILL, session="third"))

    assert kept(risk_db)["fill"] == []


def test_a_run_of_a_deployment_is_no_backtest_to_load_or_list(risk_db: Database, make_run: MakeRun) -> None:
    number = record_run(risk_db, make_run(1))
    write(risk_db, *RECORDS)
    [live] = read(risk_db, "SELECT id FROM run WHERE mode = 'paper'")

    with pytest.raises(UnknownRun, match="is deployment 'rsi-eurusd' on a paper account"):
        load_run(risk_db, live["id"])

    assert [run.run_id for run in list_runs(risk_db, limit=10)] == [number]


def test_a_backtest_is_never_changed_and_always_whole(settings: Settings, risk_db: Database, make_run: MakeRun) -> None:
    record_run(risk_db, make_run(1))
    before = kept(risk_db)

    with pytest.raises(sa.exc.IntegrityError, match="is a backtest: its row never changes"):
        read(risk_db, "UPDATE run SET finished_at = now() RETURNING 1")
    with closing(Database(settings, "risk", "owner")) as owner:
        for column in ("period_end", "finished_at", "data_fingerprint", "data_as_of"):
            with pytest.raises(sa.exc.IntegrityError, match="run_of_the_past_is_whole"):
                copy = f"INSERT INTO run ({COPIED}) SELECT {COPIED.replace(column, 'NULL')} FROM run"
                read(owner, f"{copy} RETURNING 1")
        with pytest.raises(sa.exc.IntegrityError, match="run_of_a_deployment_names_it"):
            read(owner, f"INSERT INTO run ({COPIED}, session) SELECT {COPIED}, 'x' FROM run RETURNING 1")

    assert kept(risk_db) == before


COPIED = (
    "strategy, source, parameters, symbols, granularity, period_start, period_end, account_currency, starting_cash, costs, "
    "fills, seed, code_version, versions, data_source, data_fingerprint, data_as_of, started_at, finished_at, warnings"
)


# --- What the database refuses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        replace(RUN, session="new", mode="backtest"),
        replace(RUN, session="new", mode="play"),
        replace(RUN, session="new", symbols=()),
        replace(RUN, session="new", period_end=NOW - timedelta(seconds=1)),
        replace(RUN, session="new", finished_at=NOW - timedelta(seconds=1)),
        replace(DEPLOYMENT, mode="backtest"),
        replace(DEPLOYMENT, desired="perhaps"),
        replace(INTENT.record(), state="lost"),
        replace(INTENT.record(), action="hope"),
        replace(FILL, purpose="target"),
        replace(FILL, units=Decimal(0)),
        replace(POSITION, price=Decimal(0)),
        replace(TRADE, net_pnl=Decimal("10.5001")),
        replace(RISK_EVENT, level="bad"),
        replace(RECONCILIATION, broker_balance=Decimal("111.01")),
        replace(RECONCILIATION, pl=Decimal("1.51")),
        replace(INTENT.record(), client_id="a\x00b"),
        TransactionRecord(ACCOUNT, 1, NOW, "X", {"comment": "\x00"}),
    ],
)
def test_a_record_that_cannot_be_is_refused(risk_db: Database, record: LiveRecord) -> None:
    write(risk_db, RUN)
    before = kept(risk_db)

    with pytest.raises((sa.exc.DBAPIError, ValueError)):
        write(risk_db, record)

    assert kept(risk_db) == before


def test_a_reconciliation_that_names_its_differences_is_kept(risk_db: Database) -> None:
    write(risk_db, replace(RECONCILIATION, broker_balance=Decimal("111.01"), findings=("One cent too much.",)))

    assert row_of(risk_db, RECONCILIATION)["findings"] == ["One cent too much."]


def test_the_database_knows_every_state_purpose_and_mode(risk_db: Database) -> None:
    write(risk_db, *(intent(n, state=state).record() for n, state in enumerate(IntentState)))
    write(risk_db, *(replace(RUN, deployment=mode, mode=mode) for mode in Mode), RUN)
    write(risk_db, *(replace(FILL, transaction_id=n, purpose=purpose) for n, purpose in enumerate(PURPOSES.values())))

    assert len(kept(risk_db)["order_intent"]) == len(IntentState)
    assert len(kept(risk_db)["fill"]) == len(PURPOSES)


# --- Who may do what ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["deployment", "order_intent", "heartbeat", "lease"])
def test_the_reader_does_not_change_what_the_trader_does(settings: Settings, risk_db: Database, table: str) -> None:
    with closing(Database(settings, "risk", "reader")) as reader:
        for statement in (
            f"UPDATE {table} SET {metadata.tables[table].primary_key.columns.keys()[0]} = ''",
            f"DELETE FROM {table}",
        ):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                read(reader, statement)


@pytest.mark.parametrize("column", ["starting_cash", "source", "mode", "deployment"])
def test_of_a_run_the_trader_changes_its_end_alone(risk_db: Database, column: str) -> None:
    write(risk_db, RUN)

    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        read(risk_db, f"UPDATE run SET {column} = {column}")


# --- What dashboards read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [False, True])
def test_each_view_shows_what_was_recorded_and_how_fresh_it_is(risk_db: Database, dashboard: Database, fresh: bool) -> None:
    write(risk_db, *RECORDS)
    if fresh:
        write(
            risk_db,
            HeartbeatRecord(f"mirror:{ACCOUNT}", NOW, "level"),
            HeartbeatRecord("mirror:other", NOW + timedelta(1), "level"),
        )

    shown = {
        "dash_deployments": {"deployment": "rsi-eurusd", "symbols": "EUR_USD, USD_JPY", "parameters": "period=14, risk=0.01"},
        "dash_live_orders": {"client_id": INTENT.client_id, "state": "decided", "open": True, "account": "paper", "stop": 1.08},
        "dash_live_positions": {"symbol": "EUR_USD", "units": -1000.5, "average_price": 1.08123, "mode": "paper"},
        "dash_live_equity": {"nav": 99999.1, "growth": pytest.approx(99999.1 / 100000.0001 - 1), "account_currency": "USD"},
        "dash_risk_events": {"sentence": RISK_EVENT.sentence, "found": 0.0009, "deployment": "rsi-eurusd"},
    }
    for view, expected in shown.items():
        [row] = read(dashboard, f"SELECT * FROM {view}")
        assert {name: row[name] for name in expected} == expected, view
        assert row["fresh_at"] == (NOW if fresh else None), view


def test_the_position_shown_is_the_last_of_each_symbol_over_all_runs_and_none_when_flat(
    risk_db: Database, dashboard: Database
) -> None:
    second = replace(RUN, session="second")

    def position(session: str, number: int, symbol: str, units: int) -> PositionRecord:
        return PositionRecord(
            "rsi-eurusd", session, number, NOW + timedelta(seconds=number), symbol, Decimal(units), Decimal(1 if units else 0)
        )

    write(
        risk_db,
        *(DEPLOYMENT, RUN, second),
        *(position(RUN.session, 5, "EUR_USD", 1), position(RUN.session, 6, "USD_JPY", 2), position(RUN.session, 7, "GBP_USD", 3)),
        *(position("second", 8, "EUR_USD", 4), position("second", 9, "GBP_USD", 5), position("second", 10, "GBP_USD", 0)),
    )

    rows = read(dashboard, "SELECT symbol, units FROM dash_live_positions ORDER BY symbol")
    assert [tuple(row.values()) for row in rows] == [("EUR_USD", 4.0), ("USD_JPY", 2.0)]


def test_an_event_of_no_account_and_an_order_of_no_deployment_are_shown_too(risk_db: Database, dashboard: Database) -> None:
    write(risk_db, INTENT.record(), RiskEventRecord("", "command 1", NOW, "command", "info", "halt", "Halted.", by="ann"))
    write(risk_db, HeartbeatRecord(f"mirror:{ACCOUNT}", NOW, "level"))

    assert [row["account"] for row in read(dashboard, "SELECT * FROM dash_live_orders")] == [None]
    assert [(row["by"], row["fresh_at"]) for row in read(dashboard, "SELECT * FROM dash_risk_events")] == [("ann", NOW)]


def test_equity_of_a_backtest_is_not_shown_as_live(risk_db: Database, dashboard: Database, make_run: MakeRun) -> None:
    record_run(risk_db, make_run(1))
    write(risk_db, RUN, EQUITY)

    assert [row["deployment"] for row in read(dashboard, "SELECT * FROM dash_live_equity")] == ["rsi-eurusd"]
