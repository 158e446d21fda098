"""Runs with a model on a real PostgreSQL: recorded with the version that was used, and repeated with that and no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from runs import instrument
from samples import random_bars

from mbats.cli.backtest import print_result
from mbats.cli.runs import runs
from mbats.database import Database
from mbats.errors import ConfigError
from mbats.market import Floats, Granularity, Times, bar_starts
from mbats.riskdb.record import load_run
from mbats.riskdb.records import RunResult
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import PROJECT_ROOT, Settings
from mbats.trading.backtest import Costs, backtest, reproduce, specify
from mbats.trading.model import Floats2D, ModelInfo, ModelSet
from mbats.trading.strategies import load_strategy

STRATEGIES = PROJECT_ROOT / "strategies"
SYMBOLS = ["EUR_USD", "USD_JPY"]
INFO = ModelInfo(
    name="rsi_stochastic",
    version=3,
    run_id="a1",
    digest="3" * 64,
    features=("rsi", "percK", "percD", "atr"),
    kind="regressor",
    strategy="rsi_stochastic",
    symbols=tuple(SYMBOLS),
    granularity="D",
    trained_from=datetime(2010, 1, 1, tzinfo=UTC),
    trained_to=datetime(2018, 1, 1, tzinfo=UTC),
)


class Reverting:
    """For what has fallen, against what has risen; never for a stochastic under `floor`."""

    def __init__(self, floor: float = 0.0) -> None:
        self.floor = floor

    def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
        return np.where(features[:, 1] < self.floor, np.nan, 50.0 - features[:, 0])


@pytest.fixture
def reader(secmaster_db: Database, settings: Settings) -> Iterator[Database]:
    """A securities master of two pairs, as the login that backtests."""
    times = bar_starts(Granularity.D, datetime(2018, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))[:900]
    upsert_instruments(secmaster_db, [instrument(name) for name in SYMBOLS])
    for seed, name in enumerate(SYMBOLS):
        upsert_bars(secmaster_db, name, Granularity.D, random_bars(times, seed), vendor="test")
    with closing(Database(settings, "secmaster", "trading")) as database:
        yield database


@pytest.fixture
def record(reader: Database, risk_db: Database) -> Callable[..., tuple[int, RunResult]]:
    """Run `rsi_stochastic` with what `rsi_stochastic@champion` is now, and record it."""

    def made(info: ModelInfo | None = INFO, model: Any = None) -> tuple[int, RunResult]:
        loaded = load_strategy("rsi_stochastic", STRATEGIES)
        spec = specify(
            reader,
            loaded,
            symbols=SYMBOLS,
            granularity=Granularity.D,
            start=None,
            end=None,
            cash=Decimal(100_000),
            currency="USD",
            parameters=loaded.parameters({"model": "rsi_stochastic@champion", "edge": "25"}),
            costs=Costs(),
            seed=7,
        )
        models = ModelSet({"rsi_stochastic@champion": (info, model or Reverting())})
        return backtest(reader, risk_db, loaded, spec, models=models)

    return made


class Shelf:
    """The versions that there are; remembers which were asked for."""

    def __init__(self, **versions: tuple[ModelInfo, Any]) -> None:
        self.versions = {info.reference: (info, model) for info, model in versions.values()}
        self.asked: list[str] = []

    def open(self, references: Sequence[str]) -> ModelSet:
        self.asked += references
        return ModelSet({reference: self.versions[reference] for reference in references})


def test_a_run_with_a_model_is_recorded_with_its_version_and_what_it_said(record: Any, risk_db: Database) -> None:
    number, result = record()

    found = load_run(risk_db, number)

    assert len(found.fills) > 10
    assert found.decisions == result.decisions
    assert len(found.decisions) > 10
    assert (found.model_version, found.in_sample) == ("rsi_stochastic/3", False)
    assert found.models == {"rsi_stochastic@champion": INFO.to_json()}
    assert min(abs(decision.prediction) for decision in found.decisions) > 25


def test_it_is_repeated_with_the_version_that_it_used_though_another_is_champion_now(
    record: Any, reader: Database, risk_db: Database
) -> None:
    number, _ = record()
    newer = replace(INFO, version=4, digest="4" * 64)
    shelf = Shelf(old=(INFO, Reverting()), new=(newer, Reverting(floor=20.0)))

    again = reproduce(reader, risk_db, number, STRATEGIES, open_models=shelf.open)

    assert again.differences == ()
    assert shelf.asked == ["rsi_stochastic/3"]


def test_a_model_whose_files_or_answers_are_others_shows_as_a_difference(
    record: Any, reader: Database, risk_db: Database
) -> None:
    number, _ = record()
    shelf = Shelf(other=(replace(INFO, digest="5" * 64), Reverting(floor=5.0)))

    differences = reproduce(reader, risk_db, number, STRATEGIES, open_models=shelf.open).differences

    assert differences[0] == "model rsi_stochastic/3 has other files: SHA-256 555555555555 now, 333333333333 recorded"
    assert differences[1].startswith("decision ")


def test_a_run_without_a_model_asks_nobody_for_one(reader: Database, risk_db: Database) -> None:
    loaded = load_strategy("sma_cross", STRATEGIES)
    asked = {"granularity": Granularity.D, "start": None, "end": None, "cash": Decimal(100_000), "currency": "USD", "seed": 7}
    spec = specify(reader, loaded, symbols=SYMBOLS, parameters=loaded.defaults(), costs=Costs(), **asked)
    number, _ = backtest(reader, risk_db, loaded, spec)
    shelf = Shelf()

    assert reproduce(reader, risk_db, number, STRATEGIES, open_models=shelf.open).differences == ()
    assert shelf.asked == []


@pytest.mark.parametrize("info", [INFO, None])
def test_a_model_that_cannot_be_opened_is_named(record: Any, reader: Database, risk_db: Database, info: ModelInfo | None) -> None:
    number, _ = record(info)

    with pytest.raises(ConfigError, match=rf"Run {number} used the model rsi_stochastic[/@]\w+, which cannot be opened here"):
        reproduce(reader, risk_db, number, STRATEGIES, open_models=Shelf().open if info is None else None)


# --- What a person sees ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "said", "warned"),
    [
        (INFO, "rsi_stochastic/3, had not seen this period", False),
        (
            replace(INFO, trained_to=datetime(2019, 1, 1, tzinfo=UTC)),
            "rsi_stochastic/3, IN SAMPLE: it had seen this period",
            True,
        ),
        (None, "rsi_stochastic@champion, unknown what it had seen", False),
    ],
)
def test_the_printed_table_says_what_the_model_had_seen(
    record: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    info: ModelInfo | None,
    said: str,
    warned: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    number, result = record(info)

    print_result(number, result, as_json=False)

    words = " ".join(capsys.readouterr().out.split())
    assert said in words
    assert ("Note: In sample: rsi_stochastic/3 was trained on 2010-01-01 to 2019-01-01" in words) is warned


def test_the_printed_object_says_it_too(record: Any, capsys: pytest.CaptureFixture[str]) -> None:
    number, result = record()

    print_result(number, result, as_json=True)

    printed = json.loads(capsys.readouterr().out)
    assert (printed["model"], printed["in_sample"]) == ("rsi_stochastic/3", False)


def test_the_list_of_runs_marks_those_in_sample(record: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    record()
    record(replace(INFO, trained_to=datetime(2019, 1, 1, tzinfo=UTC)))
    monkeypatch.setattr("mbats.settings.get_settings", lambda: settings)

    listed = CliRunner().invoke(runs, ["--json"], catch_exceptions=False)
    table = CliRunner().invoke(runs, [], catch_exceptions=False)

    assert [(run["model_version"], run["in_sample"]) for run in json.loads(listed.output)] == [
        ("rsi_stochastic/3", True),
        ("rsi_stochastic/3", False),
    ]
    words = " ".join(table.output.split())
    assert words.count("rsi_stochastic/3") == 2
    assert words.count("(in sample)") == 1
