"""A platform of the test's own, with something in it that is worth a backup, and its command line."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from runs import run
from samples import random_bars, sample_instrument
from stores import running_store

from mbats.database import Database, admin_connection
from mbats.market import Granularity, bar_starts, parse_utc
from mbats.objectstore import ObjectStore
from mbats.platform import weed
from mbats.platform.dumps import _command, _environment, require_tools
from mbats.platform.restore import drop_replaced
from mbats.riskdb.record import record_run
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings, load_settings
from mbats.trading.strategies import load_strategy

D = Granularity.D
SERVICES = "postgres,s3,mlflow"


@dataclass(frozen=True)
class Platform:
    """The platform of one test: a server, a store, and what a user types."""

    settings: Settings
    secmaster: Database
    risk: Database

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(self.settings, "backup")

    def add_bars(self, symbol: str, start: str, end: str) -> None:
        """Store daily bars of these days."""
        upsert_instruments(self.secmaster, [sample_instrument(symbol)])
        bars = random_bars(bar_starts(D, parse_utc(start), parse_utc(end)))
        upsert_bars(self.secmaster, symbol, D, bars, vendor="simulator")
        self.close()

    def add_run(self) -> None:
        """Record a backtest."""
        bars = random_bars(bar_starts(D, parse_utc("2020-01-01"), parse_utc("2021-01-01")))
        record_run(self.risk, run(load_strategy("sma_cross", self.settings.strategies_dir), {"EUR_USD": bars}))
        self.close()

    def close(self) -> None:
        """Let go of the databases, as a program does that has ended."""
        self.secmaster.close()
        self.risk.close()

    def sql(self, database: str, statement: str) -> list[Any]:
        """Run one statement as the admin."""
        with closing(admin_connection(self.settings, database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def contents(self, database: str) -> list[str]:
        """Everything in the database and who may do what with it, as text."""
        version = self.sql("postgres", "SHOW server_version")[0][0]
        program = require_tools(self.settings, version) / "pg_dump"
        done = subprocess.run(
            _command(self.settings, program, "admin", database),
            env=_environment(self.settings, "admin"),
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
        owner = f"SELECT pg_get_userbyid(datdba), datacl::text FROM pg_database WHERE datname = '{database}'"
        return [str(self.sql("postgres", owner)), *lines]

    def mbats(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(**self.how(*arguments, **environment), capture_output=True, text=True, timeout=120)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin one command, in a process group of its own."""
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        return subprocess.Popen(**self.how(*arguments), **output)

    def how(self, *arguments: str, **environment: str) -> dict[str, Any]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MBATS_")}
        own = {"MBATS_HOME": str(self.settings.home), "COLUMNS": "160"}
        argv = [sys.executable, "-m", "mbats.cli", *arguments]
        return {"args": argv, "env": clean | own | environment, "stdin": subprocess.DEVNULL}


@pytest.fixture
def platform(settings: Settings, secmaster_db: Database, risk_db: Database) -> Iterator[Platform]:
    """Bars, a run and the sample workbook, on a platform that has MLflow beside its own two databases."""
    home = settings.home
    for name in ("s3_backup_access_key", "s3_backup_secret_key"):
        file = home / "secrets" / f"mbats_{name}"
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(10))
    with running_store(load_settings(home=home)) as chosen:
        with (home / "platform.env").open("a") as file:
            file.writelines(f"MBATS_{need.setting.upper()}={getattr(chosen, need.setting)}\n" for need in weed.PORTS)
            file.write(f"MBATS_SERVICES={SERVICES}\n")
        platform = Platform(load_settings(home=home), secmaster_db, risk_db)
        platform.add_bars("EUR_USD", "2020-01-01", "2021-01-01")
        platform.add_run()
        yield platform
        drop_replaced(platform.settings)
