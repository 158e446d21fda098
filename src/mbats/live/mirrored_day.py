"""Whether the risk database has a trading day as the journal has it: each entry of the broker's log, and what fills come to."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa

from mbats.live.journal import Journal
from mbats.riskdb import tables
from mbats.riskdb.live_records import ReconciliationRecord


def differences_of_day(connection: sa.Connection, journal: Journal, record: ReconciliationRecord) -> list[str]:
    """What differs, in sentences; none when the copy is sound."""
    return [*_log(connection, journal, record), *_fills(connection, record)]


def _log(connection: sa.Connection, journal: Journal, record: ReconciliationRecord) -> list[str]:
    table = tables.broker_transaction
    query = sa.select(table.c.id, table.c.type, table.c.body).where(
        table.c.account_id == record.account_id, table.c.id.between(record.first_transaction, record.last_transaction)
    )
    copied = {row.id: (row.type, row.body) for row in connection.execute(query)}
    kept = {each.id: (each.type, each.body) for each in journal.transactions(since=record.first_transaction - 1)}
    ours = {number: each for number, each in kept.items() if number <= record.last_transaction}
    found = []
    for number in sorted(ours.keys() | copied.keys()):
        if number not in copied:
            found.append(f"Transaction {number} is not there.")
        elif ours.get(number) != copied[number]:
            found.append(f"Transaction {number} is another one there.")
    return found


def _fills(connection: sa.Connection, record: ReconciliationRecord) -> list[str]:
    fill, run = tables.fill, tables.run
    query = (
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(fill.c.units), 0), sa.func.coalesce(sa.func.sum(fill.c.pnl), 0))
        .select_from(fill.join(run, run.c.id == fill.c.run_id))
        .where(run.c.account_id == record.account_id, fill.c.seq.between(record.first_transaction, record.last_transaction))
    )
    there = tuple(connection.execute(query).one())
    ours = tuple(Decimal(str(record.detail.get(name, "0"))) for name in ("fills", "fill_units", "fill_pnl"))
    names = ("number of fills", "sum of their units", "sum of their profits")
    return [
        f"The {name} of the day is {found} there, and should be {wanted}."
        for name, found, wanted in zip(names, there, ours, strict=True)
        if found != wanted
    ]
