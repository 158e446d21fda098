"""A risk database that already holds backtests gets the tables of live trading, and its runs stay what they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from live_samples import RECORDS
from psycopg2 import sql

from mbats.database import Database, admin_connection, migrate
from mbats.logins import VISITORS, create_database
from mbats.riskdb.live_record import write_records
from mbats.riskdb.record import load_run, record_run
from mbats.riskdb.records import RunResult
from mbats.settings import Settings

TABLES = ("run", "fill", "trade", "position", "equity", "performance")  # a run before what refers to it


def rows(db: Database, table: str) -> list[Any]:
    with db.begin() as connection:
        return list(connection.scalars(sa.text(f"SELECT to_jsonb({table})::text FROM {table}")))


@pytest.fixture
def older(settings: Settings) -> Iterator[Settings]:
    """A risk database as it was before live trading."""
    chosen = settings.model_copy(update={"postgres_risk_database": f"{settings.postgres_risk_database}_older"})
    name = chosen.postgres_risk_database
    with closing(admin_connection(chosen)) as admin, admin.cursor() as cursor:
        create_database(cursor, chosen, name, visitors=VISITORS["risk"])
        config = Config()
        config.set_main_option("script_location", str(chosen.root / "db" / "risk"))
        with closing(Database(chosen, "risk", "owner")) as owner, owner.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0002")
        yield chosen
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_runs_of_before_are_equal_after(risk_db: Database, older: Settings, make_run: Callable[..., RunResult]) -> None:
    result = replace(make_run(1, bars=40), models={}, decisions=())  # there were none
    number = record_run(risk_db, result)
    with closing(Database(older, "risk", "owner")) as owner, owner.begin() as connection:
        for table in TABLES:
            row = f"jsonb_populate_record(NULL::public.{table}, CAST(:row AS jsonb))"
            statement = sa.text(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT ({row}).*")
            connection.execute(statement, [{"row": found} for found in rows(risk_db, table)])
        connection.execute(sa.text("SELECT setval(pg_get_serial_sequence('run', 'id'), max(id)) FROM run"))

    assert migrate(older, "risk") is True

    with closing(Database(older, "risk", "trading")) as trading:
        found = load_run(trading, number)
        for field in fields(RunResult):
            if field.name != "equity":
                assert getattr(found, field.name) == getattr(result, field.name), field.name
        np.testing.assert_array_equal(found.equity.nav, result.equity.nav)
        for table in (*TABLES, "equity_curve"):
            assert sorted(map(json.loads, rows(trading, table)), key=str) == sorted(
                map(json.loads, rows(risk_db, table)), key=str
            )
        with trading.begin() as connection:
            write_records(connection, RECORDS)
