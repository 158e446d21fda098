"""Promotions, drift and decisions of models, into the risk database and out of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime

import sqlalchemy as sa

from mbats.database import Database
from mbats.errors import DataError
from mbats.riskdb import tables
from mbats.riskdb.model_records import Drift, Promotion, RecordedDecision


def record_promotion(db: Database, promotion: Promotion) -> int:
    """Add it, at the database's time; returns its number. Raises DataError when it says what cannot be, such as no reason."""
    values = {name: value for name, value in asdict(promotion).items() if name not in ("id", "at")}
    try:
        with db.begin() as connection:
            statement = sa.insert(tables.model_promotion).values(**values).returning(tables.model_promotion.c.id)
            return int(connection.execute(statement).scalar_one())
    except sa.exc.IntegrityError as error:
        fault = " ".join(str(error.orig).split())
        raise DataError(f"The {promotion.action} of {promotion.name}/{promotion.version} was not recorded: {fault}") from error


def promotions(db: Database, name: str) -> list[Promotion]:
    """All that made a version of this model the champion, newest first."""
    table = tables.model_promotion
    columns = [table.c[field.name] for field in fields(Promotion)]
    with db.begin() as connection:
        rows = connection.execute(sa.select(*columns).where(table.c.name == name).order_by(table.c.id.desc())).mappings().all()
    return [Promotion(**row) for row in rows]


def record_drift(db: Database, rows: Iterable[Drift]) -> None:
    """Add them all or none. Raises DataError when one is there already or says what cannot be."""
    values = [asdict(row) for row in rows]
    if not values:
        return
    try:
        with db.begin() as connection:
            connection.execute(sa.insert(tables.model_drift), values)
    except sa.exc.IntegrityError as error:
        fault = " ".join(str(error.orig).split())
        raise DataError(f"The drift of {values[0]['name']}/{values[0]['version']} was not recorded: {fault}") from error


def drift(db: Database, name: str, *, limit: int = 1000) -> list[Drift]:
    """What was found of a model's drift, newest first."""
    table = tables.model_drift
    query = sa.select(*(table.c[field.name] for field in fields(Drift))).where(table.c.name == name)
    with db.begin() as connection:
        rows = connection.execute(query.order_by(table.c.at.desc(), table.c.version.desc(), table.c.what).limit(limit)).all()
    return [Drift(*row) for row in rows]


def decisions(
    db: Database, name: str, since: datetime, until: datetime, *, modes: tuple[str, ...] = ("paper", "live")
) -> list[RecordedDecision]:
    """What any version of a model said at the bars that start in [since, until), oldest first.

    Of deployments unless `modes` names `backtest`: what is repeated over the past says nothing about the present.
    """
    decision, run = tables.model_decision.c, tables.run.c
    columns = [
        run[field.name] if field.name in ("mode", "deployment") else decision[field.name] for field in fields(RecordedDecision)
    ]
    query = (
        sa.select(*columns)
        .join_from(tables.model_decision, tables.run, run.id == decision.run_id)
        .where(sa.func.starts_with(decision.model, f"{name}/"), decision.time >= since, decision.time < until)
        .where(run.mode.in_(modes))
        .order_by(decision.time, decision.symbol, decision.role, decision.model, decision.run_id)
    )
    with db.begin() as connection:
        rows = connection.execute(query).mappings().all()
    return [RecordedDecision(**{**row, "features": tuple(row["features"])}) for row in rows]
