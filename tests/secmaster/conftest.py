"""A securities master that knows two symbols."""

from __future__ import annotations

import pytest
from samples import sample_instrument

from mbats.database import Database
from mbats.secmaster.symbols import upsert_instruments


@pytest.fixture
def db(secmaster_db: Database) -> Database:
    upsert_instruments(secmaster_db, [sample_instrument("EUR_USD"), sample_instrument("USD_JPY")])
    return secmaster_db
