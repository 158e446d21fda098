"""The symbols of the securities master, with what the broker says of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from mbats.database import Database
from mbats.errors import UnknownSymbol
from mbats.market import Instrument
from mbats.secmaster.tables import exchange, symbol


def upsert_instruments(db: Database, instruments: Iterable[Instrument]) -> None:
    """Store these instruments, or what has changed of them; `updated_at` of one that has not changed stays."""
    rows = [asdict(instrument) for instrument in instruments]
    if not rows:
        return
    fx = sa.select(exchange.c.id).where(exchange.c.abbrev == "FX").scalar_subquery()
    statement = insert(symbol).values([{**row, "financing_days": list(row["financing_days"]), "exchange_id": fx} for row in rows])
    facts = [name for name in rows[0] if name != "name"]
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={**{name: statement.excluded[name] for name in facts}, "updated_at": sa.func.now()},
        where=sa.or_(*(symbol.c[name].is_distinct_from(statement.excluded[name]) for name in facts)),
    )
    with db.begin() as connection:
        connection.execute(statement)


def load_instruments(db: Database, names: Iterable[str] | None = None) -> dict[str, Instrument]:
    """The instruments of these names in their order, or all by name. Raises UnknownSymbol, which lists what there is."""
    with db.begin() as connection:
        stored = {row.name: _instrument(row) for row in connection.execute(sa.select(symbol).order_by(symbol.c.name))}
    if names is None:
        return stored
    found = {}
    for name in names:
        if name not in stored:
            raise UnknownSymbol(name, stored)
        found[name] = stored[name]
    return found


def _instrument(row: sa.Row[Any]) -> Instrument:
    return Instrument(
        name=row.name,
        display_name=row.display_name,
        type=row.type,
        pip_location=row.pip_location,
        display_precision=row.display_precision,
        units_precision=row.units_precision,
        minimum_units=row.minimum_units,
        maximum_units=row.maximum_units,
        margin_rate=row.margin_rate,
        long_rate=row.long_rate,
        short_rate=row.short_rate,
        financing_days=tuple(row.financing_days),
    )


def symbol_id(connection: sa.Connection, name: str) -> int:
    """The number by which `bar` knows this symbol. Raises UnknownSymbol."""
    found = connection.scalar(sa.select(symbol.c.id).where(symbol.c.name == name))
    if found is None:
        raise UnknownSymbol(name, connection.scalars(sa.select(symbol.c.name)))
    return int(found)
