"""Symbols: what the broker says of each, stored once and kept up to date."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa
from samples import sample_instrument

from mbats.database import Database
from mbats.errors import UnknownSymbol
from mbats.secmaster.symbols import load_instruments, upsert_instruments
from mbats.secmaster.tables import symbol


def updates(db: Database) -> dict[str, object]:
    with db.begin() as connection:
        return {row.name: row.updated_at for row in connection.execute(sa.select(symbol))}


def test_an_instrument_comes_back_as_it_went_in(secmaster_db: Database) -> None:
    odd = replace(
        sample_instrument("USD_JPY"), units_precision=2, minimum_units=Decimal("0.01"), financing_days=(0, 1, 1, 3, 1, 1, 0)
    )

    upsert_instruments(secmaster_db, iter([sample_instrument("EUR_USD"), odd]))

    assert load_instruments(secmaster_db) == {"EUR_USD": sample_instrument("EUR_USD"), "USD_JPY": odd}


def test_instruments_come_in_the_order_they_are_asked_for(db: Database) -> None:
    assert list(load_instruments(db, ["USD_JPY", "EUR_USD"])) == ["USD_JPY", "EUR_USD"]
    assert list(load_instruments(db, iter([]))) == []


def test_only_what_has_changed_is_updated(db: Database) -> None:
    before = updates(db)
    dearer = replace(sample_instrument("EUR_USD"), margin_rate=Decimal("0.05"))

    upsert_instruments(db, [dearer, sample_instrument("USD_JPY")])

    after = updates(db)
    assert after["EUR_USD"] != before["EUR_USD"]
    assert after["USD_JPY"] == before["USD_JPY"]
    assert load_instruments(db)["EUR_USD"] == dearer


def test_an_unknown_symbol_is_named_with_the_nearest_and_all_that_are_known(db: Database) -> None:
    with pytest.raises(
        UnknownSymbol, match=r"No symbol 'EURUSD' in the securities master. Did you mean 'EUR_USD'\? Known: EUR_USD, USD_JPY"
    ):
        load_instruments(db, ["USD_JPY", "EURUSD"])


def test_storing_no_instruments_is_no_error(secmaster_db: Database) -> None:
    upsert_instruments(secmaster_db, [])

    assert load_instruments(secmaster_db) == {}
